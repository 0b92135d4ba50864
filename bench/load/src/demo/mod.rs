//! Flags -> fleet, engines and sink in one run with a live display, and a verdict.

mod display;
mod engines;
mod figures;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::error::Error;
use crate::fleet::{self, Fleet, FleetArgs, FleetReport};
use crate::profile::Profile;
use crate::sink::{Sink, SinkArgs, SinkReport};
use crate::units::{parse_duration, parse_percent};
use crate::{output, sys};
use display::Display;
use engines::Engines;
use figures::Figures;

/// Run fake exporters, the engine and a verifying receiver together and show what happens.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Number of targets.
    #[arg(long, default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub targets: u32,
    /// Series per target.
    #[arg(long, default_value_t = 500)]
    #[arg(value_parser = clap::value_parser!(u32).range(3..=1_000_000))]
    pub series: u32,
    /// Interval between two scrapes of a target.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub scrape_interval: Duration,
    /// How long to run.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub duration: Duration,
    /// What the targets look like.
    #[arg(long, value_enum, default_value_t = Profile::Node)]
    pub profile: Profile,
    /// Share of the series that profile `churn` replaces per scrape.
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = parse_percent)]
    pub churn_percent: f64,
    /// Give each target label values of its own.
    #[arg(long)]
    pub unlike: bool,
    /// Engines to run; more than one form a cluster.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub nodes: u16,
    /// Port of the engine's API, of further ones those after it; others are taken if in use.
    #[arg(long, default_value_t = 9095)]
    pub web_port: u16,
    /// Keep the configuration, the log and the data of the engine in this directory.
    #[arg(long, value_name = "PATH")]
    pub keep: Option<PathBuf>,
    /// The engine to run instead of this program; called with `run`.
    #[arg(long, value_name = "PATH", hide = true)]
    pub engine: Option<PathBuf>,
}

impl Default for DemoArgs {
    /// The values that the command line has without any flag.
    fn default() -> DemoArgs {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            args: DemoArgs,
        }
        <Defaults as clap::Parser>::parse_from(["demo"]).args
    }
}

/// `ringscrape demo`: exit code 0 only if every sample was verified; ctrl-c ends it early, cleanly.
///
/// # Errors
/// The engine did not start or ended by itself, with the end of its log; a port or a file failed.
pub fn run(args: DemoArgs) -> Result<ExitCode, Error> {
    sys::catch_signals();
    let temporary = tempfile::tempdir().map_err(Error::io("create a temporary directory"))?;
    let dir = args
        .keep
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir).map_err(Error::io(format!("create {}", dir.display())))?;
    let file_sd = dir.join("targets.json");
    let fleet_args = FleetArgs {
        targets: args.targets,
        series: args.series,
        profile: args.profile,
        churn_percent: args.churn_percent,
        unlike: args.unlike,
        scrape_interval: args.scrape_interval,
        file_sd: Some(file_sd.clone()),
        ..FleetArgs::default()
    };
    let fleet = Fleet::start(&fleet_args)?;
    let sink = Sink::start(&SinkArgs {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        expect_targets: u64::from(args.targets),
        expect_series: u64::from(args.series),
        scrape_interval: args.scrape_interval,
        ..SinkArgs::default()
    })?;
    let config = dir.join("ringscrape.yml");
    fleet::write(
        &config,
        &fleet::config(&fleet_args, &file_sd, Some(&sink.url())),
    )?;
    let program = engines::program(args.engine.as_ref())?;
    let engines = Engines::start(args.nodes, &program, &config, &dir, args.web_port)?;
    let demo = Demo {
        args,
        fleet,
        sink,
        engines,
    };
    demo.run()
}

struct Demo {
    args: DemoArgs,
    fleet: Fleet,
    sink: Sink,
    engines: Engines,
}

impl Demo {
    fn run(mut self) -> Result<ExitCode, Error> {
        self.engines.wait_ready()?;
        let live = std::io::stdout().is_terminal();
        output::say(&format!(
            "{} targets x {} series every {:?}, verified at the receiver\n\
             {}: {} (try /targets and /metrics)\n",
            figures::thousands(u64::from(self.args.targets)),
            figures::thousands(u64::from(self.args.series)),
            self.args.scrape_interval,
            if self.args.nodes == 1 {
                "engine"
            } else {
                "nodes"
            },
            self.engines.urls().join(" ")
        ))?;
        let mut display = Display::new(live);
        let mut figures = Figures::default();
        let start = Instant::now();
        let pause = Duration::from_secs(if live { 1 } else { 5 });
        let mut next = start + pause;
        while start.elapsed() < self.args.duration && !sys::signalled() {
            self.engines.check()?;
            std::thread::sleep(Duration::from_millis(50));
            if Instant::now() >= next {
                next += pause;
                let sink = self.sink.stats()?;
                let fleet = self.fleet.report(None)?;
                figures.update(&sink, &fleet, self.engines.usage(), self.engines.matched());
                display.show(&figures, start.elapsed(), self.args.duration)?;
            }
        }
        let early = sys::signalled();
        figures.matched = self.engines.matched().or(figures.matched);
        let usage = self.engines.usage();
        let ended = self.engines.stop();
        // They are gone: what they had not delivered will not come any more.
        let sink = self.sink.stop()?;
        let fleet = self.fleet.stop()?;
        figures.update(&sink, &fleet, usage, figures.matched);
        let mut reasons = reasons(&sink, &fleet);
        if let Err(error) = ended {
            reasons.push(error.to_string());
        }
        display.show(&figures, start.elapsed(), self.args.duration)?;
        verdict(&sink, &fleet, &reasons, early)?;
        Ok(if reasons.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Why a run is not verified; empty if it is.
fn reasons(sink: &SinkReport, fleet: &FleetReport) -> Vec<String> {
    let mut reasons = Vec::new();
    if !sink.verified {
        reasons.push(sink.reason.clone());
    }
    if sink.inexact_values > 0 {
        reasons.push(format!(
            "{} values off in the last bits",
            sink.inexact_values
        ));
    }
    if fleet.slots_missed > 0 {
        reasons.push(format!("{} slots without a scrape", fleet.slots_missed));
    }
    if fleet.slots_doubled > 0 {
        reasons.push(format!(
            "{} scrapes too many in a slot",
            fleet.slots_doubled
        ));
    }
    reasons
}

fn verdict(
    sink: &SinkReport,
    fleet: &FleetReport,
    reasons: &[String],
    early: bool,
) -> Result<(), Error> {
    let undelivered = fleet.completed.saturating_sub(sink.completeness.slots_seen);
    let samples = figures::thousands(sink.samples);
    let mut text = if reasons.is_empty() {
        format!(
            "verified: {samples} samples, 0 gaps, 0 duplicates, 0 wrong values{}\n",
            if early { " (ended early)" } else { "" }
        )
    } else {
        let mut text = format!("NOT verified after {samples} samples:\n");
        for reason in reasons {
            text.push_str(&format!("  {reason}\n"));
        }
        for defect in sink.defects.iter().take(5) {
            text.push_str(&format!(
                "  {}: {} {}\n",
                defect.kind, defect.series, defect.detail
            ));
        }
        text
    };
    if undelivered > 0 {
        text.push_str(&format!(
            "{undelivered} scrapes were under way when the engine was stopped\n"
        ));
    }
    output::say(&text)
}
