//! A running engine -> the tools read its log beside it; what would change it is refused.

use crate::{json, printed, wal};
use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::recorder::{Answer, Recorder};
use ringscrape_tests::wait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(40);

#[test]
fn a_running_log_is_read_and_not_disturbed() {
    let exporter = Exporter::start(|scrape| {
        let mut page = String::new();
        for series in 0..300 {
            page.push_str(&format!(
                "x{{series=\"{series}\"}} {}\n",
                scrape.number * series
            ));
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
        "global: {{scrape_interval: 200ms, scrape_timeout: 190ms}}\n\
         remote_write:\n- url: {}\n  name: main\n  queue_config: {{max_backoff: 1s}}\n\
         scrape_configs:\n- job_name: live\n  static_configs: [{{targets: ['{}']}}]\n",
        recorder.url("w"),
        exporter.address()
    );
    let mut running = Running::start(Engine::Ringscrape, dir.path(), &config, &["--shards=1"]);
    running.wait_ready();
    let data = dir.path().join("data");
    let records = || running.metric("ringscrape_wal_records_total", &[]);
    wait::until("scrapes are logged", LIMIT, String::new, || {
        (records() >= 10.0).then_some(())
    });
    // Again and again while the file grows.
    let end = std::time::Instant::now() + Duration::from_secs(4);
    let mut seen = 0;
    while std::time::Instant::now() < end {
        let report = json(&["verify"], &data, 0);
        assert_eq!(report["in_use_by"], running.process.id(), "{report}");
        let stats = json(&["stats"], &data, 0);
        let records = stats["records"].as_u64().unwrap_or_default();
        assert!(records >= seen, "{records} after {seen}");
        seen = records;
    }
    assert!(seen > 10, "only {seen} records seen");
    let stats = json(&["stats"], &data, 0);
    let endpoint = &stats["endpoints"][0];
    assert_eq!(endpoint["endpoint"], "main");
    assert!(endpoint["unsent"]["samples"].as_u64() >= Some(seen * 300));
    assert_eq!(stats["targets"][0]["job"], "live");
    let dump = printed(
        &["dump", "--name=x", "--label=series=7", "--limit=3"],
        &data,
        0,
    );
    assert_eq!(dump.lines().count(), 3, "{dump}");

    let plan = json(&["cut", "--before=0s"], &data, 1);
    assert_eq!(plan["in_use_by"], running.process.id());
    let output = wal(&["cut", "--before=0s", "--yes"], &data);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains("in use, locked by another ringscrape"),
        "{text}"
    );

    // All that was logged arrives, in order, once the receiver takes it.
    is_up.store(true, Ordering::SeqCst);
    let id = running.process.id();
    assert!(running.process.is_alive(), "process {id} ended");
    wait::until("everything has arrived", LIMIT, String::new, || {
        let stats = json(&["stats"], &data, 0);
        let left = stats["endpoints"][0]["behind_seconds"].as_f64();
        left.is_some_and(|seconds| seconds < 3.0).then_some(())
    });
    assert!(running.process.terminate(LIMIT).success());
    assert_eq!(recorder.violations(), Vec::<String>::new());
    let stats = json(&["stats"], &data, 0);
    assert_eq!(
        stats["in_use_by"],
        serde_json::Value::Null,
        "the lock file stays, the lock not"
    );
    let arrived = recorder.with("w", |samples| {
        let mut times: Vec<i64> = samples
            .iter()
            .filter(|sample| sample.label("series") == Some("7") && !sample.is_stale())
            .map(|sample| sample.timestamp_ms)
            .collect();
        assert!(times.is_sorted(), "out of order: {times:?}");
        times.dedup();
        times.len()
    });
    assert!(
        arrived as u64 >= seen,
        "{arrived} of more than {seen} scrapes arrived"
    );
}
