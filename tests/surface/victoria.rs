//! Debian's `victoria-metrics` as receiver -> every scrape is stored, sent as zstd and as snappy.
//!
//! Versions before 1.88 do not take zstd, and refuse it as a body that they cannot read: then
//! `auto` must have gone over to snappy, and nothing must have been lost.

use std::net::SocketAddr;
use std::process::Command;

use ringscrape_tests::engine::Running;
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::process::Process;
use ringscrape_tests::{debian, http, net, wait};
use tempfile::TempDir;

use crate::{LIMIT, one_job, ringscrape};

const SCRAPES: u64 = 4;

/// The values of `x` that are stored, in order.
fn stored(address: SocketAddr) -> Vec<f64> {
    let Ok(answer) = http::get(address, "/api/v1/export?match%5B%5D=x") else {
        return Vec::new();
    };
    let text = answer.text();
    let lines = text.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["values"].as_array().cloned()
    });
    lines.flatten().filter_map(|value| value.as_f64()).collect()
}

/// Sends with this `compression` and expects one of these to be in use.
fn all_is_stored(configured: &str, used: &[&str]) {
    let Some(engine) = ringscrape() else { return };
    let Some(program) = debian::program("victoria-metrics", "victoria-metrics") else {
        return;
    };
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let address = net::free_address();
    let mut command = Command::new(program);
    command
        .arg(format!("-httpListenAddr={address}"))
        .arg(format!(
            "-storageDataPath={}",
            dir.path().join("stored").display()
        ));
    let receiver = Process::spawn("victoria-metrics", &mut command);
    let is_ready = || http::get(address, "/health").is_ok_and(|answer| answer.status == 200);
    let tail = || receiver.log_tail();
    wait::until("victoria-metrics is ready", LIMIT, tail, || {
        is_ready().then_some(())
    });
    let exporter = Exporter::start(|scrape| Page::text(format!("x {}\n", scrape.number)));
    let url = format!("http://{address}/api/v1/write");
    let with = format!("  compression: {configured}\n  queue_config");
    let config = one_job(&url, &exporter.address().to_string()).replace("  queue_config", &with);
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    let wanted: Vec<f64> = (1..=SCRAPES).map(|number| number as f64).collect();
    let state = || format!("stored: {:?}", stored(address));
    wait::until("every scrape is stored", LIMIT, state, || {
        assert!(running.process.is_alive(), "the engine ended");
        (stored(address).get(..wanted.len())? == wanted).then_some(())
    });
    let shards = |compression: &&&str| {
        let label = format!("compression=\"{compression}\"");
        running.metric("ringscrape_remote_storage_compression", &[&label]) > 0.0
    };
    let found: Vec<_> = ["zstd", "snappy"].iter().filter(shards).copied().collect();
    eprintln!("{configured} is sent as {found:?}");
    assert!(found.iter().any(|one| used.contains(one)), "{found:?}");
    let refused = running.metric("prometheus_remote_storage_samples_failed_total", &[]);
    assert_eq!(refused, 0.0);
    assert!(running.process.terminate(LIMIT).success());
}

#[test]
fn zstd_is_offered_and_everything_is_stored() {
    all_is_stored("auto", &["zstd", "snappy"]);
}

#[test]
fn snappy_is_taken_and_everything_is_stored() {
    all_is_stored("snappy", &["snappy"]);
}
