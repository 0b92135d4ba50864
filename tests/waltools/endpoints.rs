//! Endpoints that come, go and change while the log is full -> each goes on where it stood.

use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::recorder::Recorder;
use ringscrape_tests::{http, net, wait};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(60);

/// An engine that scrapes a counter of its scrapes, five times a second.
struct Setup {
    exporter: Exporter,
    recorder: Recorder,
    /// An endpoint that is down.
    dead: String,
    dir: TempDir,
}

impl Setup {
    fn new() -> Self {
        Self {
            exporter: Exporter::start(|scrape| Page::text(format!("x {}\n", scrape.number))),
            recorder: Recorder::start(),
            dead: format!("http://{}/dead", net::free_address()),
            dir: TempDir::new().expect("cannot make a temporary directory"),
        }
    }

    fn config(&self, endpoints: &str) -> String {
        format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 190ms}}\n\
             remote_write:\n{endpoints}\
             scrape_configs:\n- job_name: one\n  static_configs: [{{targets: ['{}']}}]\n",
            self.exporter.address()
        )
    }

    fn start(&self, endpoints: &str) -> Running {
        let config = self.config(endpoints);
        let mut running = Running::start(Engine::Ringscrape, self.dir.path(), &config, &[]);
        running.wait_ready();
        running
    }

    fn reload(&self, running: &Running, endpoints: &str) {
        std::fs::write(&running.config, self.config(endpoints)).expect("written");
        let answer = http::post(running.address, "/-/reload").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn scrapes(&self) -> u64 {
        self.exporter
            .count(IpAddr::V4(Ipv4Addr::LOCALHOST), "/metrics")
    }

    /// Waits until so many more scrapes are written to the file.
    fn log_more(&self, running: &Running, count: f64) {
        let logged = || running.metric("ringscrape_wal_records_total", &[]);
        let wanted = logged() + count;
        wait::until("scrapes are logged", LIMIT, String::new, || {
            (logged() >= wanted).then_some(())
        });
        // Records reach the file a quarter of a second after they are due, cursors a second.
        std::thread::sleep(Duration::from_millis(1_500));
    }

    /// The numbers of the scrapes that arrived at `path`, in order, without repetitions.
    fn arrived(&self, path: &str) -> Vec<u64> {
        let mut numbers: Vec<u64> = self
            .recorder
            .samples(path)
            .iter()
            .filter(|sample| sample.name() == "x" && !sample.is_stale())
            .map(|sample| sample.value() as u64)
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Waits until all scrapes from `first` to one after this moment have arrived, but for those in
    /// `gaps`.
    fn wait_for_all(&self, path: &str, first: u64, gaps: &[RangeInclusive<u64>]) {
        let last = self.scrapes() + 3;
        let state = || {
            format!(
                "{:?} of {first} to {last} without {gaps:?}",
                self.arrived(path)
            )
        };
        wait::until("all have arrived", LIMIT, state, || {
            let arrived = self.arrived(path);
            let is_missing = |number: &u64| {
                !gaps.iter().any(|gap| gap.contains(number))
                    && arrived.binary_search(number).is_err()
            };
            (!(first..=last).any(|number| is_missing(&number))).then_some(())
        });
    }
}

/// Scrapes that may be missing after a kill: a record is in the file a quarter of a second later.
fn around(killed_at: u64) -> RangeInclusive<u64> {
    killed_at.saturating_sub(2)..=killed_at + 1
}

#[test]
fn a_new_endpoint_begins_now_or_at_the_oldest_also_after_a_kill() {
    let setup = Setup::new();
    let dead = format!("- {{url: '{}', name: dead}}\n", setup.dead);
    let mut running = setup.start(&dead);
    setup.log_more(&running, 10.0);
    let added_at = setup.scrapes();
    let both = format!(
        "{dead}- {{url: '{}', name: all, start_at: oldest}}\n- {{url: '{}', name: new}}\n",
        setup.recorder.url("all"),
        setup.recorder.url("new")
    );
    setup.reload(&running, &both);
    running.process.kill();
    let killed_at = setup.scrapes();
    let mut running = setup.start(&both);
    setup.wait_for_all("all", 1, &[around(killed_at)]);
    let first_new = setup.arrived("new").first().copied();
    assert!(
        first_new.is_none_or(|first| first + 1 >= added_at),
        "{first_new:?}, {added_at}"
    );
    // Another kill, when the backlog is through: nothing of it is sent again.
    std::thread::sleep(Duration::from_millis(1_500));
    running.process.kill();
    let killed_again_at = setup.scrapes();
    setup.recorder.clear();
    let mut running = setup.start(&both);
    setup.wait_for_all("all", killed_again_at + 2, &[]);
    let first = setup.arrived("all").first().copied();
    assert!(first > Some(added_at), "{first:?} after {added_at}");
    // It goes and comes back: it lacks what was scraped meanwhile, and nothing else.
    let gone_at = setup.scrapes();
    setup.reload(&running, &dead);
    setup.log_more(&running, 5.0);
    let back_at = setup.scrapes();
    setup.reload(&running, &both);
    setup.wait_for_all("all", killed_again_at + 2, &[gone_at..=back_at + 1]);
    let meanwhile = gone_at + 2..back_at;
    assert!(
        setup
            .arrived("all")
            .iter()
            .all(|number| !meanwhile.contains(number))
    );
    assert!(running.process.terminate(LIMIT).success());
    assert_eq!(setup.recorder.violations(), Vec::<String>::new());
}

#[test]
fn a_renamed_or_recredentialed_endpoint_goes_on_where_it_stood() {
    let setup = Setup::new();
    let address = setup.recorder.address();
    // While it is down: no name, and credentials in the URL.
    let port = net::free_address().port();
    let mut running = setup.start(&format!("- {{url: 'http://u:p@127.0.0.1:{port}/w'}}\n"));
    setup.log_more(&running, 10.0);
    // Other credentials and a name, by a reload; then a kill.
    let named = format!("- {{url: 'http://u:q@127.0.0.1:{port}/w', name: first}}\n");
    setup.reload(&running, &named);
    setup.log_more(&running, 5.0);
    running.process.kill();
    let killed_at = setup.scrapes();
    // Another name and another URL, where the receiver is.
    let renamed = format!("- {{url: 'http://{address}/w', name: second, former_names: [first]}}\n");
    let mut running = setup.start(&renamed);
    // The records of the very first time name the URL only, which nothing names any more.
    setup.wait_for_all("w", 1, &[around(killed_at)]);
    assert!(running.process.terminate(LIMIT).success());
    assert_eq!(setup.recorder.violations(), Vec::<String>::new());
}
