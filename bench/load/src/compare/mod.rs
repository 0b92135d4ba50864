//! Flags -> the same load for one agent after another, and a table of what each used.

mod agents;
pub mod breakdown;
mod classes;
pub mod drill;
mod figures;
mod log_cpu;
mod machine;
mod measure;
mod perf;
mod pprof;
pub mod saturate;
mod search;
mod setup;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::fleet::{self, FleetArgs};
use crate::profile::Profile;
use crate::sink::Protocol;
use crate::units::parse_duration;
use crate::{output, sys};
pub use figures::{ColdStart, Measured, Window};
pub use machine::Machine;

use agents::Agent;
use figures::Run;
use setup::Place;

/// Memory of a fleet whose targets share no bodies.
const CACHE_UNLIKE_MIB: u32 = 768;

/// A load whose size, shape and interval are fixed, so that runs can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// 1,000 targets x 1,000 series every 10 s.
    #[value(name = "1000x1000")]
    Wide,
    /// 5,000 targets x 100 series every 10 s.
    #[value(name = "5000x100")]
    Many,
    /// 10 targets x 100,000 object state series every 15 s.
    #[value(name = "ksm")]
    Ksm,
    /// 200 targets x 1,000 series every 10 s, 5 % of the series replaced per scrape.
    #[value(name = "churn")]
    Churn,
    /// 1,000 targets x 1,000 series every 10 s; no two targets share a label set.
    #[value(name = "unlike")]
    Unlike,
    /// As `unlike`, with long labels and values of full precision of which 95 % change.
    #[value(name = "busy")]
    Busy,
}

/// Run agents one after another on the same load and compare what each costs.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// The load; may be repeated.
    #[arg(long = "scenario", value_enum, default_values_t = [Scenario::Wide])]
    pub scenarios: Vec<Scenario>,
    /// Which agent to run, in this order; may be repeated. `ringscrape`, `prometheus`, `vmagent`;
    /// NAME=PROGRAM, the path of another build of one of these; or NAME=COMMAND with the
    /// placeholders {config} {scrape_config} {remote_write_url} {data_dir} {listen}.
    /// {scrape_config} is {config} without its remote_write section. [default: the three]
    #[arg(long = "agent", value_name = "AGENT")]
    pub agents: Vec<String>,
    /// Version of an agent whose program does not tell it, as NAME=VERSION; may be repeated.
    #[arg(long = "agent-version", value_name = "NAME=VERSION")]
    pub agent_versions: Vec<String>,
    /// Run all agents that often, one after the other and again, so that what changes on the
    /// machine over time hits all alike; the figures are medians over the windows of all rounds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Use another number of targets than the scenario's.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub targets: Option<u32>,
    /// Use another number of series per target than the scenario's.
    #[arg(long, value_parser = clap::value_parser!(u32).range(3..=1_000_000))]
    pub series: Option<u32>,
    /// Use another interval than the scenario's.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub scrape_interval: Option<Duration>,
    /// Give each target label values of its own.
    #[arg(long)]
    pub unlike: bool,
    /// Protocols that the sink takes, separated by commas; agents that can must fall back.
    #[arg(long, value_name = "PROTOCOL", value_enum, value_delimiter = ',')]
    #[arg(default_values_t = Protocol::ALL)]
    pub accept: Vec<Protocol>,
    /// Ask for remote write 2.0 in the agents' configuration (`protobuf_message`); vmagent has no
    /// such key.
    #[arg(long = "remote-write-2.0")]
    pub remote_write_v2: bool,
    /// Run this long after every target has been seen and before the first window.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Number of windows in each round.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub windows: u32,
    /// Length of a window, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub window_seconds: u32,
    /// Find out as well what share of an agent's CPU time its log has: one more window a round, in
    /// which `perf` looks at ringscrape, and Prometheus at itself. No other figure is of that
    /// window.
    #[arg(long)]
    pub log_cpu: bool,
    /// Directory for the agents' data; on a real disk, or no bytes written are counted.
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// Write all figures here as JSON.
    #[arg(long, value_name = "PATH")]
    pub report: Option<PathBuf>,
    /// Write the tables here too, as Markdown.
    #[arg(long, value_name = "PATH")]
    pub markdown: Option<PathBuf>,
}

/// All that a comparison found, as it is written to a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What it ran on.
    pub machine: Machine,
    /// One entry per load.
    pub scenarios: Vec<Measurements>,
}

/// The figures of all agents under one load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    /// Name of the load.
    pub scenario: String,
    /// Number of targets.
    pub targets: u32,
    /// Series of each.
    pub series: u32,
    /// Interval of the scrapes.
    pub interval_seconds: f64,
    /// Whether each target has label values of its own.
    pub unlike: bool,
    /// How often each agent ran.
    pub rounds: u32,
    /// Windows of each run.
    pub windows: u32,
    /// Length of a window.
    pub window_seconds: u32,
    /// In the order of the command line.
    pub agents: Vec<Measured>,
}

impl Default for CompareArgs {
    /// The values that the command line has without any flag.
    fn default() -> CompareArgs {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            args: CompareArgs,
        }
        <Defaults as clap::Parser>::parse_from(["compare"]).args
    }
}

impl Scenario {
    /// The name on the command line.
    fn name(self) -> String {
        self.to_possible_value()
            .expect("BUG: no scenario is skipped")
            .get_name()
            .to_owned()
    }

    fn fleet(self, args: &CompareArgs) -> FleetArgs {
        let (targets, series, seconds, profile) = match self {
            Scenario::Wide | Scenario::Unlike => (1000, 1000, 10, Profile::Node),
            Scenario::Busy => (1000, 1000, 10, Profile::Busy),
            Scenario::Many => (5000, 100, 10, Profile::Node),
            Scenario::Ksm => (10, 100_000, 15, Profile::Ksm),
            Scenario::Churn => (200, 1000, 10, Profile::Churn),
        };
        let unlike = args.unlike || matches!(self, Scenario::Unlike | Scenario::Busy);
        let defaults = FleetArgs::default();
        FleetArgs {
            targets: args.targets.unwrap_or(targets),
            series: args.series.unwrap_or(series),
            scrape_interval: args.scrape_interval.unwrap_or(Duration::from_secs(seconds)),
            profile,
            unlike,
            // Room for a cycle of bodies of every target, or each is rendered anew.
            cache_mib: if unlike {
                CACHE_UNLIKE_MIB
            } else {
                defaults.cache_mib
            },
            ..defaults
        }
    }
}

/// `ringscrape load compare`: prints a Markdown table per scenario as soon as it is measured. Exit
/// code 0 if every agent ran and delivered every value rightly (values off in the last bits are
/// told
/// apart and do not count), else 1.
///
/// An agent that ended by itself or delivered nothing has that as its finding.
///
/// # Errors
/// An agent is not installed; a port or a file failed.
pub fn run(args: CompareArgs) -> Result<ExitCode, Error> {
    sys::catch_signals();
    if args.log_cpu {
        perf::demand()?;
    }
    let agents = setup::agents(&args.agents, &args.agent_versions, false)?;
    let place = Place::new(args.dir.as_deref())?;
    let mut record = Record {
        machine: Machine::here(),
        scenarios: Vec::new(),
    };
    let mut tables = String::new();
    for scenario in &args.scenarios {
        let measurements = compare(*scenario, &agents, &args, &place)?;
        let fleet = scenario.fleet(&args);
        let table = table::markdown(&scenario.name(), &fleet, args.rounds, &measurements.agents);
        output::say(&table)?;
        tables.push_str(&table);
        record.scenarios.push(measurements);
        // After each, so that a later failure takes nothing away.
        if let Some(path) = &args.markdown {
            fleet::write(path, tables.trim_start())?;
        }
        if args.report.is_some() {
            output::report(&record, args.report.as_deref())?;
        }
    }
    let mut all = record.scenarios.iter().flat_map(|load| &load.agents);
    Ok(if all.all(|agent| agent.verified) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs all agents under one load, round after round.
fn compare(
    scenario: Scenario,
    agents: &[Agent],
    args: &CompareArgs,
    place: &Place,
) -> Result<Measurements, Error> {
    let fleet = scenario.fleet(args);
    let mut runs: Vec<Vec<Run>> = agents.iter().map(|_| Vec::new()).collect();
    for round in 1..=args.rounds {
        for (agent, runs) in agents.iter().zip(&mut runs) {
            output::note(&format!(
                "{} {}, round {round} of {}: {} x {} every {:?}, some {} s …",
                agent.name,
                agent.version,
                args.rounds,
                fleet.targets,
                fleet.series,
                fleet.scrape_interval,
                args.warmup.as_secs()
                    + u64::from((args.windows + u32::from(args.log_cpu)) * args.window_seconds)
                    + fleet.scrape_interval.as_secs()
            ));
            let dir = place.of(&format!("{}-{}", scenario.name(), agent.name));
            let run = measure::run(agent, &fleet, args, &dir);
            runs.push(setup::outcome(run, |complaint| Run::failed(&complaint))?);
        }
    }
    let series = u64::from(fleet.targets) * u64::from(fleet.series);
    let measured = agents.iter().zip(&runs).map(|(agent, runs)| Measured {
        version: agent.version.clone(),
        command: agent.command(),
        ..Measured::of(&agent.name, runs, series)
    });
    Ok(Measurements {
        scenario: scenario.name(),
        targets: fleet.targets,
        series: fleet.series,
        interval_seconds: fleet.scrape_interval.as_secs_f64(),
        unlike: fleet.unlike,
        rounds: args.rounds,
        windows: args.windows,
        window_seconds: args.window_seconds,
        agents: measured.collect(),
    })
}
