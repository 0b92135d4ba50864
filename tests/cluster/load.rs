//! Sizes -> a fleet of exporters that knows its slots, and a receiver that knows every sample.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ringscrape_tests::process::Process;
use ringscrape_tests::wait;
use serde_json::Value;

use crate::place::Place;

const LIMIT: Duration = Duration::from_secs(30);

/// What is scraped and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) targets: usize,
    pub(crate) series: usize,
    pub(crate) interval_s: u64,
}

/// `ringscrape load fleet`.
pub(crate) struct Fleet {
    process: Process,
    address: SocketAddr,
    place: Place,
    pub(crate) size: Size,
}

impl Fleet {
    /// Serves, and writes the targets to `dir/targets.json`.
    pub(crate) fn start(dir: &Path, size: Size, place: &Place) -> Self {
        Self::start_from(0, dir, size, place)
    }

    /// The same, with targets numbered from `first` on.
    pub(crate) fn start_from(first: usize, dir: &Path, size: Size, place: &Place) -> Self {
        let ready = dir.join("fleet-ready.json");
        let mut command = place.command();
        command.args(["load", "fleet"]);
        command.arg(format!("--listen-ip={}", place.ip()));
        command.arg(format!("--targets={}", size.targets));
        command.arg(format!("--series={}", size.series));
        command.arg(format!("--first-target={first}"));
        command.arg(format!("--scrape-interval={}s", size.interval_s));
        command.arg(format!("--file-sd={}", dir.join("targets.json").display()));
        command.arg(format!("--ready-file={}", ready.display()));
        command.arg(format!("--report={}", dir.join("fleet.json").display()));
        let process = Process::spawn("fleet", &mut command);
        let address = ready_address(&ready, &process);
        Self {
            process,
            address,
            place: place.clone(),
            size,
        }
    }

    /// What it saw since it started.
    pub(crate) fn report(&self) -> Value {
        let answer = self.place.get(self.address, "/report");
        answer
            .unwrap_or_else(|error| panic!("no report: {error}; {}", self.process.log_tail()))
            .json()
    }

    /// By `instance`: how long ago it was scraped, in ms, each time in the last span.
    pub(crate) fn arrivals_ago_ms(&self, span: Duration) -> HashMap<String, Vec<f64>> {
        let path = format!("/arrivals?since_ms={}", span.as_millis());
        let answer = self.place.get(self.address, &path);
        let answer = answer
            .unwrap_or_else(|error| panic!("no arrivals: {error}; {}", self.process.log_tail()));
        serde_json::from_slice(&answer.body).expect("arrivals are lists of numbers")
    }

    /// Waits until every target has been scraped.
    pub(crate) fn wait_all_scraped(&self) {
        let all = self.size.targets as u64;
        wait::until(
            "all targets are scraped",
            LIMIT,
            || format!("{}", self.report()["targets_scraped"]),
            || (self.report()["targets_scraped"].as_u64() == Some(all)).then_some(()),
        );
    }

    /// Waits until all targets have been scraped `rounds` more times, on average.
    pub(crate) fn wait_rounds(&self, rounds: u64) {
        let scrapes = || self.report()["scrapes"].as_u64().unwrap_or_default();
        let enough = scrapes() + rounds * self.size.targets as u64;
        let limit = Duration::from_secs((rounds + 1) * self.size.interval_s) + LIMIT;
        wait::until(
            "enough scrapes",
            limit,
            || format!("{} of {enough}", scrapes()),
            || (scrapes() >= enough).then_some(()),
        );
    }
}

/// `ringscrape load sink`.
pub(crate) struct Sink {
    process: Process,
    address: SocketAddr,
    place: Place,
}

impl Sink {
    /// Receives and verifies.
    pub(crate) fn start(dir: &Path, size: Size, place: &Place) -> Self {
        let ready = dir.join("sink-ready.json");
        let mut command = place.command();
        command.args(["load", "sink"]);
        command.arg(format!("--listen={}:0", place.ip()));
        command.arg(format!("--expect-targets={}", size.targets));
        command.arg(format!("--expect-series={}", size.series));
        command.arg(format!("--scrape-interval={}s", size.interval_s));
        command.arg(format!("--ready-file={}", ready.display()));
        command.arg(format!("--report={}", dir.join("sink.json").display()));
        let process = Process::spawn("sink", &mut command);
        let address = ready_address(&ready, &process);
        Self {
            process,
            address,
            place: place.clone(),
        }
    }

    /// Where to write to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// What has arrived so far.
    pub(crate) fn report(&self) -> Value {
        let answer = self.place.get(self.address, "/report");
        answer
            .unwrap_or_else(|error| panic!("no report: {error}; {}", self.process.log_tail()))
            .json()
    }
}

/// The first address in a ready file.
fn ready_address(file: &Path, process: &Process) -> SocketAddr {
    wait::until(
        "the ready file is there",
        LIMIT,
        || process.log_tail(),
        || {
            let text = std::fs::read_to_string(file).ok()?;
            let json: Value = serde_json::from_str(&text).ok()?;
            first_address(&json)
        },
    )
}

fn first_address(json: &Value) -> Option<SocketAddr> {
    match json {
        Value::String(text) => text.parse().ok(),
        Value::Array(list) => list.iter().find_map(first_address),
        Value::Object(map) => map.values().find_map(first_address),
        _ => None,
    }
}
