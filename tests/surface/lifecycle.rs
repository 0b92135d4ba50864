//! Start, reload and stop, by signal and by HTTP -> what an operator expects of each.

use ringscrape_tests::engine::Running;
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::recorder::{Recorder, Sample};
use ringscrape_tests::{http, net, wait};
use tempfile::TempDir;

use crate::{LIMIT, one_job, ringscrape, subject};

struct Setup {
    running: Running,
    recorder: Recorder,
    exporter: Exporter,
    _dir: TempDir,
}

fn set_up(extra: &[&str]) -> Option<Setup> {
    let engine = subject()?;
    let exporter = Exporter::start(|scrape| Page::text(format!("x {}\n", scrape.number)));
    let recorder = Recorder::start();
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let config = one_job(&recorder.url("w"), &exporter.address().to_string());
    let mut running = Running::start(engine, dir.path(), &config, extra);
    running.wait_ready();
    Some(Setup {
        running,
        recorder,
        exporter,
        _dir: dir,
    })
}

impl Setup {
    fn count(&self, job: &str) -> usize {
        self.recorder.count("w", |sample: &Sample| {
            sample.name() == "x" && sample.label("job") == Some(job) && !sample.is_stale()
        })
    }

    fn wait_for(&mut self, job: &str, more: usize) {
        let wanted = self.count(job) + more;
        let found = wait::within(LIMIT, || {
            assert!(self.running.process.is_alive(), "the engine ended");
            (self.count(job) >= wanted).then_some(())
        });
        assert!(
            found.is_some(),
            "{} samples of {job}, not {wanted}",
            self.count(job)
        );
    }

    /// Replaces the configuration by one whose job has another name.
    fn write(&self, job: &str) {
        let config = one_job(
            &self.recorder.url("w"),
            &self.exporter.address().to_string(),
        );
        let config = config.replace("job_name: one", &format!("job_name: {job}"));
        std::fs::write(&self.running.config, config).expect("cannot write a configuration");
    }

    fn is_last_reload_good(&self) -> bool {
        let names = ["prometheus_agent", "prometheus", "ringscrape"];
        let good = |name: &&str| {
            let name = format!("{name}_config_last_reload_successful");
            self.running.metric(&name, &[]) == 1.0
        };
        names.iter().any(good)
    }
}

#[test]
fn ready_and_healthy() {
    let Some(setup) = set_up(&[]) else { return };
    for path in ["/-/ready", "/-/healthy"] {
        let answer = setup.running.get(path).expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let answer = setup.running.get("/nowhere").expect("an answer");
    assert_eq!(answer.status, 404);
    let page = setup.running.get("/metrics").expect("metrics");
    let kind = page.headers.iter().find(|(name, _)| name == "content-type");
    assert!(
        kind.is_some_and(|(_, value)| value.starts_with("text/plain")),
        "{kind:?}"
    );
}

#[test]
fn reload_by_signal_and_by_post() {
    let Some(mut setup) = set_up(&[]) else { return };
    setup.wait_for("one", 1);
    setup.write("two");
    setup.running.process.signal(libc::SIGHUP);
    setup.wait_for("two", 1);
    setup.write("three");
    let answer = http::post(setup.running.address, "/-/reload").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    setup.wait_for("three", 1);
    assert!(setup.is_last_reload_good());
    let before = setup.count("two");
    setup.wait_for("three", 2);
    assert_eq!(setup.count("two"), before, "the former job goes on");
}

#[test]
fn a_bad_file_keeps_the_old_configuration_running() {
    let Some(mut setup) = set_up(&[]) else { return };
    setup.wait_for("one", 1);
    std::fs::write(&setup.running.config, "global: {}\nscrape_confugs: []\n").expect("written");
    let answer = http::post(setup.running.address, "/-/reload").expect("an answer");
    assert!(answer.status >= 400, "{}", answer.status);
    assert!(
        answer.text().contains("scrape_confugs"),
        "{}",
        answer.text()
    );
    setup.wait_for("one", 2);
    assert!(!setup.is_last_reload_good());
    setup.running.process.signal(libc::SIGHUP);
    setup.wait_for("one", 2);
    assert!(setup.running.process.log().contains("scrape_confugs"));
    setup.write("two");
    setup.running.process.signal(libc::SIGHUP);
    setup.wait_for("two", 1);
    assert!(setup.is_last_reload_good());
}

#[test]
fn reload_over_http_is_closed_by_default() {
    let Some(engine) = subject() else { return };
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let file = dir.path().join("config.yml");
    std::fs::write(&file, "global: {}\n").expect("cannot write a configuration file");
    let mut running = Running::start_on(engine, dir.path(), &file, net::free_address(), &[]);
    running.wait_ready();
    let answer = http::post(running.address, "/-/reload").expect("an answer");
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(
        answer.text().to_lowercase().contains("lifecycle"),
        "{}",
        answer.text()
    );
}

#[test]
fn reload_refuses_a_foreign_origin_and_other_methods() {
    if ringscrape().is_none() {
        return;
    }
    let Some(setup) = set_up(&[]) else { return };
    let address = setup.running.address;
    let origin = [("Origin", "http://elsewhere.example")];
    let answer = http::request(address, "POST", "/-/reload", &origin).expect("an answer");
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(
        http::get(address, "/-/reload").expect("an answer").status,
        405
    );
}

#[test]
fn graceful_stop_by_either_signal_sends_all_and_ends_with_0() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let Some(mut setup) = set_up(&[]) else { return };
        setup.wait_for("one", 2);
        setup.running.process.signal(signal);
        let status = setup.running.process.wait(LIMIT);
        assert!(status.success(), "signal {signal}: {status}");
        // All scrapes but one that the stop may have interrupted.
        let served = setup.exporter.served().len();
        let arrived = setup.count("one");
        assert!(
            arrived + 1 >= served,
            "{arrived} of {served} scrapes arrived"
        );
    }
}

#[test]
fn graceful_stop_with_the_receiver_away_loses_nothing() {
    let Some(engine) = ringscrape() else { return };
    let exporter = Exporter::start(|scrape| Page::text(format!("x {}\n", scrape.number)));
    let address = net::free_address();
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let config = one_job(
        &format!("http://{address}/w"),
        &exporter.address().to_string(),
    );
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    let host = exporter.address().ip();
    let scraped = || (exporter.count(host, "/metrics") >= 3).then_some(());
    wait::until(
        "three scrapes were made",
        LIMIT,
        || running.process.log_tail(),
        scraped,
    );
    let status = running.process.terminate(LIMIT * 3);
    assert!(status.success(), "{status}");
    let recorder = Recorder::scripted_on(address.port(), |_| {
        ringscrape_tests::recorder::Answer::status(204)
    });
    let _running = Running::start(engine, dir.path(), &config, &[]);
    let first = |sample: &Sample| sample.name() == "x" && sample.value() == 1.0;
    let state = || format!("{} samples arrived", recorder.count("w", |_| true));
    wait::until(
        "the first scrape of the former run arrives",
        LIMIT,
        state,
        || (recorder.count("w", first) == 1).then_some(()),
    );
}

#[test]
fn logs_as_json() {
    if ringscrape().is_none() {
        return;
    }
    let Some(mut setup) = set_up(&["--log.format=json"]) else {
        return;
    };
    assert!(setup.running.process.terminate(LIMIT).success());
    let log = setup.running.process.log();
    assert!(!log.trim().is_empty(), "nothing is logged");
    for line in log.lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(
            parsed.is_ok_and(|value| value.is_object()),
            "not JSON: {line}"
        );
    }
}
