//! kill -9 with Debian's `prometheus` as receiver -> PromQL finds every scrape.
//!
//! It refuses a whole request if one sample of it is older than what it has: so what is sent again
//! after a kill must not cost others their samples, nor many requests.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use ringscrape_tests::engine::{Engine, sum_of_metric};
use ringscrape_tests::exporter::Served;
use ringscrape_tests::process::Process;
use ringscrape_tests::{debian, http, net, wait};

use crate::{Blow, Dealt, LIMIT, Random, configuration, exporter, start, told_by_value};

const KILLS: usize = 10;
const TARGETS: usize = 30;
/// Requests that a start may cost beyond those that are taken.
const REFUSED_MAX: f64 = 100.0;

/// Debian's `prometheus` as a receiver, with a storage of its own.
struct Receiver {
    process: Process,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Receiver {
    fn start() -> Option<Self> {
        let program = debian::program("prometheus", "prometheus")?;
        let dir = tempfile::tempdir().expect("cannot make a temporary directory");
        let config = dir.path().join("prometheus.yml");
        std::fs::write(&config, "global: {}\n").expect("cannot write a configuration file");
        let address = net::free_address();
        let mut command = Command::new(program);
        command
            .arg("--web.enable-remote-write-receiver")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().display()))
            .arg(format!("--web.listen-address={address}"));
        let receiver = Self {
            process: Process::spawn("prometheus", &mut command),
            address,
            _dir: dir,
        };
        let is_ready = || http::get(address, "/-/ready").is_ok_and(|answer| answer.status == 200);
        let tail = || receiver.process.log_tail();
        wait::until("prometheus is ready", LIMIT, tail, || {
            is_ready().then_some(())
        });
        Some(receiver)
    }

    /// Requests that it refused so far.
    fn refused(&self) -> f64 {
        let page = http::get(self.address, "/metrics").map(|page| page.text());
        let page = page.unwrap_or_default();
        let all = |labels: &[&str]| sum_of_metric(&page, "prometheus_http_requests_total", labels);
        let writes = "handler=\"/api/v1/write\"";
        all(&[writes]) - all(&[writes, "code=\"200\""]) - all(&[writes, "code=\"204\""])
    }

    /// Target and number of all scrapes that PromQL finds, one series of each target.
    fn found(&self) -> BTreeSet<(u64, u64)> {
        // load{i="7"}[30m]
        let path = "/api/v1/query?query=load%7Bi%3D%227%22%7D%5B30m%5D";
        let Ok(answer) = http::get(self.address, path) else {
            return BTreeSet::new();
        };
        let answer = answer.json();
        let series = answer["data"]["result"].as_array().cloned();
        let samples = series.unwrap_or_default().into_iter().flat_map(|series| {
            let values = series["values"].as_array().cloned();
            values.unwrap_or_default()
        });
        let number = |sample: serde_json::Value| sample[1].as_str()?.parse().ok();
        samples.filter_map(number).map(told_by_value).collect()
    }
}

#[test]
fn promql_finds_every_scrape_after_kill_9() {
    let engine = Engine::subject();
    if !engine.is_there() {
        return;
    }
    let Some(receiver) = Receiver::start() else {
        return;
    };
    let mut random = Random::new();
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    let exporter = exporter();
    let path = dir.path().join("config.yml");
    let url = format!("http://{}/api/v1/write", receiver.address);
    std::fs::write(&path, configuration(&exporter, &url, TARGETS))
        .expect("cannot write a configuration file");

    let mut running = start(engine, dir.path(), &path, &exporter, &[]);
    let (mut blows, mut refused, mut extra) = (Vec::new(), 0.0, Vec::new());
    for _ in 0..KILLS {
        // The moment is random on purpose; nothing is expected of what happens until then.
        std::thread::sleep(Duration::from_millis(2500 + random.below(1000)));
        let now = receiver.refused();
        extra.push(now - refused);
        refused = now;
        let from = Instant::now();
        running.process.kill();
        blows.push(Dealt::new(Blow::Kill, from, &[]));
        running = start(engine, dir.path(), &path, &exporter, &[]);
    }
    let mut required = exporter.served();
    required.retain(|scrape| !blows.iter().any(|dealt| dealt.excuses(scrape.at)));
    let missing = || {
        let found = receiver.found();
        let wanted = required.iter().map(target_and_number);
        wanted
            .filter(|one| !found.contains(one))
            .collect::<Vec<_>>()
    };
    let arrived = wait::within(LIMIT, || {
        std::thread::sleep(Duration::from_millis(200));
        missing().is_empty().then_some(())
    });
    let missing = missing();
    extra.push(receiver.refused() - refused);
    eprintln!(
        "seed {}: {} scrapes required, {} not found; requests refused after each start: {extra:?}",
        random.seed,
        required.len(),
        missing.len(),
    );
    assert!(
        arrived.is_some(),
        "{} scrapes not found, such as {:?}",
        missing.len(),
        missing.iter().take(5).collect::<Vec<_>>()
    );
    assert!(
        extra.iter().all(|refused| *refused <= REFUSED_MAX),
        "{extra:?}"
    );
    assert!(running.process.terminate(LIMIT).success());
}

fn target_and_number(scrape: &Served) -> (u64, u64) {
    let path = scrape.target.1.trim_start_matches('/');
    (path.parse().unwrap_or(u64::MAX), scrape.number)
}
