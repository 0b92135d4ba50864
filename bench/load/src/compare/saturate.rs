//! An agent on one core, fleet and sink on another -> the highest rate of samples that it holds.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::agents::Agent;
use super::machine::{CoreTimes, Machine};
use super::measure::{Bench, Load};
use super::search::Search;
use super::setup::{self, Place};
use crate::error::Error;
use crate::fleet::FleetArgs;
use crate::sink::SinkReport;
use crate::units::parse_duration;
use crate::{output, process, sys};

/// A rate is held when at least this share arrives …
const COMPLETENESS_MIN: f64 = 0.99;
/// … and at most this share of the slots has no scrape.
const MISSED_MAX: f64 = 0.01;
/// A core that is busy for this share of the time is full.
const FULL: f64 = 0.95;
/// More than this of the two cores used by other programs makes a result worthless.
const OTHERS_MAX: f64 = 0.15;
/// How long all targets may take to be delivered once, beyond two intervals.
const PATIENCE: Duration = Duration::from_secs(20);

/// Find the highest rate of samples that each agent holds on one core.
///
/// The rate is doubled until the agent does not keep up, then the gap is halved.
#[derive(Args, Clone, Debug)]
pub struct SaturateArgs {
    /// Which agent to run; as in `load compare`.
    #[arg(long = "agent", value_name = "AGENT")]
    pub agents: Vec<String>,
    /// Version of an agent whose program does not tell it, as NAME=VERSION; may be repeated.
    #[arg(long = "agent-version", value_name = "NAME=VERSION")]
    pub agent_versions: Vec<String>,
    /// Number of targets; the rate is set by the interval.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub targets: u32,
    /// Series of each target.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(3..=100_000))]
    pub series: u32,
    /// First rate tried, in samples per second.
    #[arg(long, default_value_t = 250_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub start_rate: u64,
    /// Length of the window that judges a step.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = parse_duration)]
    pub step: Duration,
    /// Time between the delivery of every target and the window.
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Steps of one agent at most.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=30))]
    pub steps_max: u32,
    /// Core that the agent runs on.
    #[arg(long, default_value_t = 0)]
    pub agent_core: usize,
    /// Core that the fleet and the sink run on.
    #[arg(long, default_value_t = 1)]
    pub load_core: usize,
    /// Directory for the agents' data.
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// Write all figures here as JSON.
    #[arg(long, value_name = "PATH")]
    pub report: Option<PathBuf>,
}

impl Default for SaturateArgs {
    /// The values that the command line has without any flag.
    fn default() -> SaturateArgs {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            args: SaturateArgs,
        }
        <Defaults as clap::Parser>::parse_from(["saturate"]).args
    }
}

/// What one agent held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saturation {
    /// Name of the agent.
    pub name: String,
    /// What it says it is.
    pub version: String,
    /// Highest rate that it held, in samples per second; 0 for none.
    pub held_per_second: f64,
    /// What kept it from more.
    pub limit: String,
    /// Each rate tried, in order.
    pub steps: Vec<Step>,
}

/// One rate tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Samples per second that the targets expose per interval.
    pub offered_per_second: f64,
    /// The interval.
    pub interval_ms: u64,
    /// Whether the agent kept up.
    pub held: bool,
    /// Share of the samples due that were scraped and arrived without the delay growing.
    pub completeness: f64,
    /// Share of the slots without a scrape.
    pub missed: f64,
    /// Median delay from scrape to receipt at the end of the window.
    pub lag_p50_ms: f64,
    /// How busy the agent's core was, 0 to 1.
    pub agent_core_busy: f64,
    /// How busy the core of fleet and sink was.
    pub load_core_busy: f64,
    /// What of the two was neither the agent's nor fleet's and sink's.
    pub others_busy: f64,
    /// What ended the step early; empty for nothing.
    pub failure: String,
}

/// `ringscrape load saturate`: prints a Markdown table as soon as an agent is done. Exit code 0.
///
/// # Errors
/// Both cores are the same or not there, an agent is not installed, a port or a file failed.
pub fn run(args: SaturateArgs) -> Result<ExitCode, Error> {
    sys::catch_signals();
    if args.agent_core == args.load_core {
        let text = "--agent-core and --load-core must differ: saturation needs two cores";
        return Err(Error::Invalid(text.into()));
    }
    let agents = setup::agents(&args.agents, &args.agent_versions, false)?;
    let pin = format!("run on core {}", args.load_core);
    sys::pin_thread(args.load_core).map_err(Error::io(pin))?;
    let place = Place::new(args.dir.as_deref())?;
    let machine = Machine::here();
    let mut all = Vec::new();
    for agent in &agents {
        let saturation = saturate(agent, &args, &place.of(&agent.name))?;
        output::say(&markdown(&saturation, &args))?;
        all.push(saturation);
    }
    if args.report.is_some() {
        let record = serde_json::json!({
            "machine": machine,
            "targets": args.targets,
            "series": args.series,
            "saturation": all,
        });
        output::report(&record, args.report.as_deref())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn saturate(agent: &Agent, args: &SaturateArgs, dir: &Path) -> Result<Saturation, Error> {
    let series = u64::from(args.targets) * u64::from(args.series);
    let mut search = Search::new(args.start_rate as f64, args.steps_max);
    let mut steps = Vec::new();
    while let Some(rate) = search.next() {
        let interval_ms = ((series * 1000) as f64 / rate).round().max(1.0) as u64;
        output::note(&format!("{}: {rate:.0} samples/s …", agent.name));
        let step = match step(agent, args, Duration::from_millis(interval_ms), dir) {
            Ok(step) => step,
            Err(Error::Child(reason)) if !sys::signalled() => Step {
                failure: reason.lines().next().unwrap_or_default().to_owned(),
                ..Step::default()
            },
            Err(error) => return Err(error),
        };
        let step = Step {
            offered_per_second: (series * 1000) as f64 / interval_ms as f64,
            interval_ms,
            ..step
        };
        search.tell(step.held);
        steps.push(step);
    }
    let held = steps.iter().filter(|step| step.held);
    let rate = held.map(|step| step.offered_per_second).fold(0.0, f64::max);
    Ok(Saturation {
        name: agent.name.clone(),
        version: agent.version.clone(),
        held_per_second: rate,
        limit: limit(&steps, rate),
        steps,
    })
}

fn step(agent: &Agent, args: &SaturateArgs, interval: Duration, dir: &Path) -> Result<Step, Error> {
    let load = Load {
        fleet: FleetArgs {
            targets: args.targets,
            series: args.series,
            scrape_interval: interval,
            prerender: true,
            ..FleetArgs::default()
        },
        core: Some(args.agent_core),
        ..Load::default()
    };
    let mut bench = Bench::start(agent, &load, dir)?;
    bench.patience = 2 * interval + PATIENCE;
    bench.cold_start()?;
    bench.pause(args.warmup)?;
    let third = args.step / 3;
    let (served, before) = (bench.fleet.report(None)?, bench.sink.stats()?);
    let used = |bench: &Bench| {
        bench.process.usage().cpu_seconds() + process::usage_of("self").cpu_seconds()
    };
    let used_before = used(&bench);
    let (agent_core, load_core) = (
        CoreTimes::of(args.agent_core),
        CoreTimes::of(args.load_core),
    );
    let first = bench.window(third)?;
    let middle = bench.window(third)?;
    let last = bench.window(third)?;
    let seconds = first.seconds + middle.seconds + last.seconds;
    let after = bench.sink.stats()?;
    let slots = bench.fleet.report(Some(Duration::from_secs_f64(seconds)))?;
    let due = f64::from(args.targets) * seconds / interval.as_secs_f64();
    let scraped = (slots.completed - served.completed) as f64 / due;
    // Half of the first and half of the last third lie outside of what the two medians span.
    let span_ms = (middle.seconds + (first.seconds + last.seconds) / 2.0) * 1e3;
    let growth = ((last.lag.p50_ms - first.lag.p50_ms) / span_ms).clamp(0.0, 1.0);
    let lost = (missing(&after, args.series) - missing(&before, args.series)) as f64;
    let completeness =
        (scraped.min(1.0) * (1.0 - growth) - lost / (due * f64::from(args.series))).clamp(0.0, 1.0);
    let missed = slots.slots_missed as f64 / due;
    let agent_core_busy = agent_core.busy_since(CoreTimes::of(args.agent_core));
    let load_core_busy = load_core.busy_since(CoreTimes::of(args.load_core));
    let ours = (used(&bench) - used_before) / seconds;
    Ok(Step {
        held: completeness >= COMPLETENESS_MIN && missed <= MISSED_MAX,
        completeness,
        missed,
        lag_p50_ms: last.lag.p50_ms,
        agent_core_busy,
        load_core_busy,
        others_busy: (agent_core_busy + load_core_busy - ours).max(0.0),
        ..Step::default()
    })
}

/// Samples that later ones have shown to be missing.
fn missing(report: &SinkReport, series: u32) -> u64 {
    report.findings.gaps + report.findings.lost_scrapes * u64::from(series)
}

/// What kept an agent that held `rate` from more: judged at the lowest rate that it did not hold.
fn limit(steps: &[Step], rate: f64) -> String {
    let above = steps.iter().filter(|step| step.offered_per_second > rate);
    let lowest = above.min_by(|a, b| a.offered_per_second.total_cmp(&b.offered_per_second));
    let text = match lowest {
        None => "at least: no higher rate was tried",
        Some(step) if step.others_busy > OTHERS_MAX => {
            "at least: other programs used the two cores"
        }
        Some(step) if step.load_core_busy >= FULL => {
            "at least: the core of fleet and sink was full"
        }
        Some(step) if step.agent_core_busy >= FULL => "the agent's core was full",
        Some(step) if !step.failure.is_empty() => return step.failure.clone(),
        Some(_) => "the agent fell behind with both cores not full",
    };
    text.to_owned()
}

fn markdown(saturation: &Saturation, args: &SaturateArgs) -> String {
    let mut out = format!(
        "\n{} {} holds {:.0} samples/s on one core ({} targets x {} series); limit: {}\n\n\
         | offered samples/s | interval, ms | held | complete | slots missed | lag p50, ms \
         | agent's core | fleet's and sink's core | others |\n\
         |---:|---:|---|---:|---:|---:|---:|---:|---:|\n",
        saturation.name,
        saturation.version,
        saturation.held_per_second,
        args.targets,
        args.series,
        saturation.limit
    );
    for step in &saturation.steps {
        let held = if step.held { "yes" } else { "no" };
        let _ = writeln!(
            out,
            "| {:.0} | {} | {held}{}{} | {:.2} % | {:.2} % | {:.0} | {:.0} % | {:.0} % | {:.0} % |",
            step.offered_per_second,
            step.interval_ms,
            if step.failure.is_empty() { "" } else { ": " },
            step.failure.replace('|', "/"),
            step.completeness * 100.0,
            step.missed * 100.0,
            step.lag_p50_ms,
            step.agent_core_busy * 100.0,
            step.load_core_busy * 100.0,
            step.others_busy * 100.0
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(rate: f64, held: bool, agent: f64, load: f64) -> Step {
        Step {
            offered_per_second: rate,
            held,
            agent_core_busy: agent,
            load_core_busy: load,
            ..Step::default()
        }
    }

    #[test]
    fn the_limit_is_that_of_the_lowest_rate_not_held() {
        let mut steps = vec![tried(1.0, true, 0.5, 0.5)];
        assert!(limit(&steps, 1.0).starts_with("at least"));
        steps.push(tried(4.0, false, 0.5, 1.0));
        assert!(limit(&steps, 1.0).starts_with("at least"));
        steps.push(tried(2.0, false, 1.0, 0.5));
        assert_eq!(limit(&steps, 1.0), "the agent's core was full");
        steps[2].others_busy = 0.5;
        assert!(limit(&steps, 1.0).starts_with("at least"));
        steps[2].others_busy = 0.0;
        steps[2].agent_core_busy = 0.5;
        steps[2].failure = "it died".into();
        assert_eq!(limit(&steps, 1.0), "it died");
        let saturation = Saturation {
            steps,
            ..Saturation::default()
        };
        let args = SaturateArgs::default();
        assert_eq!(markdown(&saturation, &args).matches("\n| ").count(), 4);
    }
}
