//! A receiver that is down and a cap on bytes -> a metric and a line in the log, before any loss.

use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::recorder::{Answer, Recorder};
use ringscrape_tests::wait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(90);
const CAP_BYTES: u64 = 1_500_000;

#[test]
fn a_cap_is_announced_at_80_percent_and_the_warning_ends() {
    let exporter = Exporter::start(|scrape| {
        let mut page = String::new();
        for series in 0..4_000 {
            let value = (scrape.number * 7_919 + series) as f64 / 7.0;
            page.push_str(&format!("x{{series=\"{series}\"}} {value}\n"));
        }
        Page::text(page)
    });
    let is_up = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&is_up);
    let recorder = Recorder::scripted(move |_| match script.load(Ordering::SeqCst) {
        true => Answer::status(204),
        false => Answer::status(503),
    });
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}\n\
         remote_write:\n- {{url: '{}', name: main, queue_config: {{max_backoff: 1s}}}}\n\
         scrape_configs:\n- job_name: one\n  static_configs: [{{targets: ['{}']}}]\n",
        recorder.url("w"),
        exporter.address()
    );
    let cap = format!("--storage.retention-bytes={CAP_BYTES}");
    let flags = ["--shards=1", &cap];
    let mut running = Running::start(Engine::Ringscrape, dir.path(), &config, &flags);
    running.wait_ready();
    let ratio = || {
        let labels = ["remote_name=\"main\"", "cause=\"retention_bytes\""];
        running.metric("ringscrape_wal_cap_ratio", &labels)
    };
    let lost = || running.metric("ringscrape_wal_lost_samples_total", &[]);
    let warned = "near the cap";
    let state = || format!("{} used", ratio());
    wait::until("half of the cap is used", LIMIT, state, || {
        (ratio() >= 0.5).then_some(())
    });
    assert!(
        ratio() >= 0.75 || !running.process.log().contains(warned),
        "warned too early"
    );
    wait::until("the log warns", LIMIT, state, || {
        running.process.log().contains(warned).then_some(())
    });
    assert!(ratio() >= 0.8, "{}", ratio());
    assert_eq!(lost(), 0.0, "deleted without a warning");
    let log = running.process.log();
    let line = log
        .lines()
        .find(|line| line.contains(warned))
        .unwrap_or_default();
    assert!(
        line.contains("main") && line.contains("--storage.retention-bytes"),
        "{line}"
    );

    is_up.store(true, Ordering::SeqCst);
    wait::until("the warning ends", LIMIT, state, || {
        let log = running.process.log();
        (ratio() < 0.7 && log.contains("below the cap again")).then_some(())
    });
    assert!(running.process.terminate(LIMIT).success());
}
