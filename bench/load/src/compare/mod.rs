//! Flags -> the same load for one agent after another, and a table of what each used.

mod agents;
mod measure;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::error::Error;
use crate::fleet::FleetArgs;
use crate::profile::Profile;
use crate::units::parse_duration;
use crate::{output, sys};
pub use measure::Measured;

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
}

/// Run agents one after another on the same load and compare what each costs.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// The load; may be repeated.
    #[arg(long = "scenario", value_enum, default_values_t = [Scenario::Wide])]
    pub scenarios: Vec<Scenario>,
    /// Which agent to run, in this order; may be repeated. `ringscrape`, `prometheus`, `vmagent`,
    /// or
    /// NAME=COMMAND with the placeholders {config} {scrape_config} {remote_write_url} {data_dir}
    /// {listen}. {scrape_config} is {config} without its remote_write section. [default: the three]
    #[arg(long = "agent", value_name = "AGENT")]
    pub agents: Vec<String>,
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
    /// Run this long after every target has been seen and before the first window.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Number of windows; the figures are their medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub windows: u32,
    /// Length of a window, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub window_seconds: u32,
    /// Directory for the agents' data; on a real disk, or no bytes written are counted.
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// Write all figures here as JSON.
    #[arg(long, value_name = "PATH")]
    pub report: Option<PathBuf>,
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
            Scenario::Wide => (1000, 1000, 10, Profile::Node),
            Scenario::Many => (5000, 100, 10, Profile::Node),
            Scenario::Ksm => (10, 100_000, 15, Profile::Ksm),
            Scenario::Churn => (200, 1000, 10, Profile::Churn),
        };
        FleetArgs {
            targets: args.targets.unwrap_or(targets),
            series: args.series.unwrap_or(series),
            scrape_interval: args.scrape_interval.unwrap_or(Duration::from_secs(seconds)),
            profile,
            unlike: args.unlike,
            ..FleetArgs::default()
        }
    }
}

/// `ringscrape load compare`: prints a Markdown table per scenario as soon as it is measured. Exit
/// code 0 if every agent ran and delivered every value rightly (values off in the last bits are
/// told
/// apart and do not count), else 1.
///
/// # Errors
/// An agent is not installed or ended by itself, with the end of its log; a port or a file failed.
pub fn run(args: CompareArgs) -> Result<ExitCode, Error> {
    sys::catch_signals();
    let agents = agents::select(&args.agents)?;
    let temporary;
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => {
            temporary = tempfile::tempdir().map_err(Error::io("create a temporary directory"))?;
            temporary.path().to_owned()
        }
    };
    let mut all = Vec::new();
    for scenario in &args.scenarios {
        let fleet = scenario.fleet(&args);
        let mut measured = Vec::new();
        for agent in &agents {
            output::note(&format!(
                "{}: {} x {} every {:?}, some {} s …",
                agent.name,
                fleet.targets,
                fleet.series,
                fleet.scrape_interval,
                args.warmup.as_secs()
                    + u64::from(args.windows * args.window_seconds)
                    + fleet.scrape_interval.as_secs()
            ));
            let dir = dir.join(format!("{}-{}", scenario.name(), agent.name));
            measured.push(measure::run(agent, &fleet, &args, &dir)?);
            if sys::signalled() {
                return Err(Error::Child(
                    "stopped before all agents were measured".into(),
                ));
            }
        }
        output::say(&table::markdown(&scenario.name(), &fleet, &measured))?;
        all.push(serde_json::json!({ "scenario": scenario.name(), "agents": measured }));
    }
    if args.report.is_some() {
        output::report(&all, args.report.as_deref())?;
    }
    let right = |value: &serde_json::Value| {
        let agents = value["agents"].as_array();
        agents.is_some_and(|agents| agents.iter().all(|agent| agent["verified"] == true))
    };
    Ok(if all.iter().all(right) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
