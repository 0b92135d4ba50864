//! Remote write 2.0 -> a receiver that takes nothing else, and checks every sample.

use std::process::Command;
use std::time::Duration;

use ringscrape_tests::engine::{self, Running};
use ringscrape_tests::process::Process;
use ringscrape_tests::{http, net, wait};
use tempfile::TempDir;

use crate::{LIMIT, ringscrape};

/// Scrapes of each target that must arrive.
const SCRAPES: u64 = 5;

#[test]
fn every_sample_arrives_as_2_0() {
    let Some(engine) = ringscrape() else {
        return; // The receiver checks our own.
    };
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let load = |name: &str, args: &[&str]| {
        let mut command = Command::new(engine::ringscrape());
        command.arg("load").arg(name).args(args).current_dir(&dir);
        Process::spawn(name, &mut command)
    };
    let address = net::free_address();
    let listen = format!("--listen={address}");
    let mut sink = load(
        "sink",
        &[
            &listen,
            "--accept=snappy-2.0",
            "--expect-targets=20",
            "--expect-series=100",
            "--scrape-interval=1s",
        ],
    );
    let _fleet = load(
        "fleet",
        &[
            "--targets=20",
            "--series=100",
            "--churn-percent=10",
            "--scrape-interval=1s",
            "--file-sd=sd.json",
            "--ready-file=ready.json",
        ],
    );
    let is_ready = || {
        let ready = dir.path().join("ready.json").exists();
        (ready && http::get(address, "/-/ready").is_ok()).then_some(())
    };
    wait::until("fleet and sink are ready", LIMIT, String::new, is_ready);
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\n\
         remote_write:\n- url: http://{address}/w\n\
         \x20 protobuf_message: io.prometheus.write.v2.Request\n\
         \x20 queue_config: {{batch_send_deadline: 200ms, max_samples_per_send: 700}}\n\
         scrape_configs:\n- job_name: fleet\n  file_sd_configs: [{{files: ['{}']}}]\n",
        dir.path().join("sd.json").display()
    );
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    let report = || http::get(address, "/report").map(|report| report.json());
    let enough = || {
        let samples = report().ok()?["samples"].as_u64()?;
        (samples >= SCRAPES * 20 * 100).then_some(())
    };
    let state = || format!("{:?}", report());
    wait::until("scrapes arrive", Duration::from_secs(60), state, enough);
    assert!(running.process.terminate(LIMIT).success());
    let report = report().expect("the sink answers");
    assert_eq!(report["verified"], true, "{report}");
    assert_eq!(report["protocols"][0]["protocol"], "snappy 2.0", "{report}");
    // HELP and TYPE came with the series; `up` and the like have none.
    let (samples, automatic) = (&report["samples"], &report["samples_automatic"]);
    let exposed = samples
        .as_u64()
        .zip(automatic.as_u64())
        .map(|(all, own)| all - own);
    assert_eq!(report["metadata"].as_u64(), exposed, "{report}");
    assert!(sink.is_alive());
}
