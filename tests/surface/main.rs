//! Bad input, faults and operator's actions -> a clear answer each, and a process that lives on.

mod configuration;
mod conformance;
mod faults;
mod histograms;
mod lifecycle;
mod receivers;
mod storage;
mod targets;
mod version2;
mod victoria;

use std::path::Path;
use std::time::Duration;

use ringscrape_tests::engine::Engine;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(30);

/// The engine under test, unless it cannot run here.
fn subject() -> Option<Engine> {
    let engine = Engine::subject();
    engine.is_there().then_some(engine)
}

/// The engine under test if it is ours: for what the reference does otherwise or not at all.
fn ringscrape() -> Option<Engine> {
    subject().filter(|engine| *engine == Engine::Ringscrape)
}

/// A configuration with one job that scrapes `target` each second and writes to `url`.
fn one_job(url: &str, target: &str) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\n\
         remote_write:\n- url: {url}\n  queue_config: {{batch_send_deadline: 100ms}}\n\
         scrape_configs:\n- job_name: one\n  static_configs: [{{targets: ['{target}']}}]\n"
    )
}

/// Resident memory of a process, bytes.
fn resident_bytes(id: u32) -> u64 {
    let text = std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("status"));
    text.unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .map_or(0, |kilobytes: u64| kilobytes * 1024)
}
