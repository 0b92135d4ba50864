//! Flags -> an outage of one of two receivers for one agent after another, and a table of how each
//! came through.

mod phases;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::setup::{self, Place};
use crate::error::Error;
use crate::fleet::{self, FleetArgs};
use crate::units::parse_duration;
use crate::{output, sys};

/// Memory in the outage and after it, as a multiple of what it was before, that is fine.
const MEMORY_MAX: f64 = 1.2;
/// Rate of the catch-up, as a multiple of the live rate, that is fine.
const CATCH_UP_MIN: f64 = 5.0;
/// Lag of the receiver that never fails that is fine, in milliseconds.
const OTHER_LAG_MS_MAX: f64 = 1_000.0;

/// Take a receiver away while samples arrive, give it back, and see what becomes of them: for each
/// agent, with a second receiver that is well throughout.
#[derive(Args, Clone, Debug)]
pub struct DrillArgs {
    /// Which agent to run; as in `load compare`. [default: ringscrape, and prometheus and vmagent
    /// where they are installed]
    #[arg(long = "agent", value_name = "AGENT")]
    pub agents: Vec<String>,
    /// Version of an agent whose program does not tell it, as NAME=VERSION; may be repeated.
    #[arg(long = "agent-version", value_name = "NAME=VERSION")]
    pub agent_versions: Vec<String>,
    /// Samples that arrive while the receiver is down.
    #[arg(long, default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub samples: u64,
    /// Number of targets.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub targets: u32,
    /// Series of each target.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(3..=100_000))]
    pub series: u32,
    /// Interval of the scrapes.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub scrape_interval: Duration,
    /// How long the agent runs before the outage: the last half of it is the steady state.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub steady: Duration,
    /// Longest outage, should the samples not arrive.
    #[arg(long, value_name = "DURATION", default_value = "20m", value_parser = parse_duration)]
    pub outage_max: Duration,
    /// Longest wait for the receiver to have everything.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    pub catch_up_max: Duration,
    /// Directory for the agents' data; on a real disk, or the log costs memory.
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// Write all figures here as JSON.
    #[arg(long, value_name = "PATH")]
    pub report: Option<PathBuf>,
    /// Write the table here too, as Markdown.
    #[arg(long, value_name = "PATH")]
    pub markdown: Option<PathBuf>,
}

/// All that a drill found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DrillRecord {
    /// What it ran on.
    pub machine: Machine,
    /// Number of targets.
    pub targets: u32,
    /// Series of each.
    pub series: u32,
    /// Interval of the scrapes.
    pub interval_seconds: f64,
    /// In the order of the command line.
    pub agents: Vec<Drilled>,
}

/// How one agent came through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drilled {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Why it has no figures, or what it ended with; else empty.
    pub complaint: String,
    /// Samples a second before the outage.
    pub live_samples_per_second: f64,
    /// Length of the outage.
    pub outage_seconds: f64,
    /// Samples that the other receiver got in the outage.
    pub outage_samples: u64,
    /// Samples of the exporters that the receiver has in the end.
    pub delivered: u64,
    /// Samples of the exporters that the other receiver has in the end and this one has not.
    pub lost: u64,
    /// Samples that came after newer ones of their series; a receiver like Prometheus refuses them.
    pub out_of_order: u64,
    /// Samples that came again, unchanged.
    pub again: u64,
    /// What the receiver found wrong; `none` if nothing.
    pub findings: String,
    /// Most resident memory before the outage.
    pub memory_steady_bytes: u64,
    /// Most resident memory in the outage.
    pub memory_outage_bytes: u64,
    /// Most resident memory after it.
    pub memory_catch_up_bytes: u64,
    /// From the receiver's return until samples arrive as live; `None`: it was not seen.
    pub catch_up_seconds: Option<f64>,
    /// Samples a second in that time.
    pub catch_up_samples_per_second: f64,
    /// Median lag of what arrived in each 10 s after the return, in seconds.
    pub lag_seconds: Vec<f64>,
    /// Longest lag at the other receiver in any second since the beginning of the outage, without
    /// the slowest hundredth of the samples.
    pub other_lag_ms: f64,
    /// Longest lag there in a second before the outage, likewise.
    pub other_lag_steady_ms: f64,
    /// Slots of the exporters' grids without a scrape since the beginning of the outage.
    pub slots_missed: u64,
    /// Distance of scrapes from their grid since then, the slowest hundredth left out.
    pub jitter_ms: f64,
    /// CPU seconds of the agent for a million samples caught up with.
    pub catch_up_cpu_seconds_per_million: f64,
}

impl Drilled {
    /// Most memory in and after the outage, as a multiple of what it was before.
    pub fn memory_ratio(&self) -> f64 {
        let most = self.memory_outage_bytes.max(self.memory_catch_up_bytes);
        most as f64 / self.memory_steady_bytes.max(1) as f64
    }

    /// Rate of the catch-up as a multiple of the live rate.
    pub fn catch_up_ratio(&self) -> f64 {
        self.catch_up_samples_per_second / self.live_samples_per_second.max(1e-9)
    }

    /// Whether the lag fell from each 10 s to the next.
    pub fn lag_falls(&self) -> bool {
        self.lag_seconds.windows(2).all(|pair| pair[1] <= pair[0])
    }

    /// What is not as it should be.
    pub fn shortcomings(&self) -> Vec<&'static str> {
        let checks = [
            (self.complaint.is_empty(), "it ended early"),
            (self.lost == 0, "samples were lost"),
            (self.findings == "none", "the receiver has findings"),
            (self.memory_ratio() <= MEMORY_MAX, "memory grew"),
            (self.slots_missed == 0, "scrapes were missed"),
            (
                self.catch_up_seconds.is_some(),
                "it did not catch up in time",
            ),
            (
                self.catch_up_ratio() >= CATCH_UP_MIN,
                "catching up was slow",
            ),
            (self.lag_falls(), "the lag did not fall all the time"),
            (
                self.other_lag_ms <= OTHER_LAG_MS_MAX.max(self.other_lag_steady_ms),
                "the other receiver's lag grew",
            ),
        ];
        let failed = checks.into_iter().filter(|(fine, _)| !fine);
        failed.map(|(_, text)| text).collect()
    }
}

impl DrillArgs {
    fn fleet(&self) -> FleetArgs {
        FleetArgs {
            targets: self.targets,
            series: self.series,
            scrape_interval: self.scrape_interval,
            ..FleetArgs::default()
        }
    }
}

/// `ringscrape load drill`: prints a Markdown table. Exit code 0 if the first agent came through
/// without a shortcoming, else 1.
///
/// # Errors
/// An agent that was asked for is not installed; a port or a file failed.
pub fn run(args: DrillArgs) -> Result<ExitCode, Error> {
    sys::catch_signals();
    let chosen = setup::agents(&args.agents, &args.agent_versions, true)?;
    let place = Place::new(args.dir.as_deref())?;
    let mut record = DrillRecord {
        machine: Machine::here(),
        targets: args.targets,
        series: args.series,
        interval_seconds: args.scrape_interval.as_secs_f64(),
        agents: Vec::new(),
    };
    for agent in &chosen {
        output::note(&format!(
            "{} {}: {} x {} every {:?}, a receiver down for {} samples …",
            agent.name,
            agent.version,
            args.targets,
            args.series,
            args.scrape_interval,
            args.samples
        ));
        let found = phases::run(agent, &args, &place.of(&agent.name));
        let drilled = setup::outcome(found, |complaint| Drilled {
            complaint,
            ..Drilled::default()
        })?;
        record.agents.push(Drilled {
            name: agent.name.clone(),
            version: agent.version.clone(),
            ..drilled
        });
        if args.report.is_some() {
            output::report(&record, args.report.as_deref())?;
        }
    }
    let table = table::markdown(&record);
    output::say(&table)?;
    if let Some(path) = &args.markdown {
        fleet::write(path, table.trim_start())?;
    }
    let first = record.agents.first().map(Drilled::shortcomings);
    Ok(match first.is_some_and(|found| found.is_empty()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Drilled {
        Drilled {
            live_samples_per_second: 100.0,
            findings: "none".into(),
            memory_steady_bytes: 100,
            memory_outage_bytes: 110,
            memory_catch_up_bytes: 120,
            catch_up_seconds: Some(9.0),
            catch_up_samples_per_second: 500.0,
            lag_seconds: vec![30.0, 20.0, 20.0, 1.0],
            other_lag_ms: 999.0,
            ..Drilled::default()
        }
    }

    /// Something to spoil, and the shortcoming that it makes.
    type Case = (fn(&mut Drilled), &'static str);

    #[test]
    fn each_shortcoming_is_named() {
        assert_eq!(fine().shortcomings(), Vec::<&str>::new());
        let cases: [Case; 9] = [
            (|it| it.complaint = "x".into(), "it ended early"),
            (|it| it.lost = 1, "samples were lost"),
            (
                |it| it.findings = "1 gaps".into(),
                "the receiver has findings",
            ),
            (|it| it.memory_outage_bytes = 121, "memory grew"),
            (|it| it.slots_missed = 1, "scrapes were missed"),
            (
                |it| it.catch_up_seconds = None,
                "it did not catch up in time",
            ),
            (
                |it| it.catch_up_samples_per_second = 499.0,
                "catching up was slow",
            ),
            (
                |it| it.lag_seconds.push(1.1),
                "the lag did not fall all the time",
            ),
            (
                |it| it.other_lag_ms = 1_001.0,
                "the other receiver's lag grew",
            ),
        ];
        for (spoil, text) in cases {
            let mut drilled = fine();
            spoil(&mut drilled);
            assert_eq!(drilled.shortcomings(), [text]);
        }
    }

    #[test]
    fn a_lag_that_was_there_before_is_no_shortcoming() {
        let slow = Drilled {
            other_lag_steady_ms: 5_100.0,
            other_lag_ms: 5_000.0,
            ..fine()
        };
        assert_eq!(slow.shortcomings(), Vec::<&str>::new());
    }
}
