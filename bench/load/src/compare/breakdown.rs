//! An agent under load, looked at often -> nanoseconds per sample by part of its work.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::agents;
use super::classes::{Class, classify, stacks};
use super::machine::Machine;
use super::measure::{Bench, Load};
use super::perf::{self, Walk};
use crate::error::Error;
use crate::fleet::{self, FleetArgs};
use crate::profile::Profile;
use crate::units::parse_duration;
use crate::{output, sys};

const BEGIN: &str = "<!-- breakdown: written by `ringscrape load breakdown` -->";
const END: &str = "<!-- /breakdown -->";

/// Show where the time of a sample goes. Needs `perf`.
#[derive(Args, Clone, Debug)]
pub struct BreakdownArgs {
    /// Which agent to look at; as in `load compare`. The classes are those of ringscrape.
    #[arg(long, value_name = "AGENT", default_value = "ringscrape")]
    pub agent: String,
    /// Number of targets.
    #[arg(long, default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub targets: u32,
    /// Series of each target.
    #[arg(long, default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(3..=1_000_000))]
    pub series: u32,
    /// Interval of the scrapes.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub scrape_interval: Duration,
    /// What the targets look like.
    #[arg(long, value_enum, default_value_t = Profile::Node)]
    pub profile: Profile,
    /// Give each target label values of its own.
    #[arg(long)]
    pub unlike: bool,
    /// Time between the delivery of every target and the measurement.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// CPU per sample is measured for this long, then the agent is looked at for as long again.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = parse_duration)]
    pub window: Duration,
    /// Replace the text between the markers in this file.
    #[arg(long, value_name = "PATH")]
    pub into: Option<PathBuf>,
}

/// `ringscrape load breakdown`: prints a Markdown table. Exit code 0.
///
/// # Errors
/// perf is not there or may not look, the agent ended by itself, `--into` has no markers.
pub fn run(args: BreakdownArgs) -> Result<ExitCode, Error> {
    sys::catch_signals();
    perf::demand()?;
    let mut agent = agents::select(std::slice::from_ref(&args.agent))?.remove(0);
    agent.identify(&[])?;
    let temporary = tempfile::tempdir().map_err(Error::io("create a temporary directory"))?;
    let dir = temporary.path();
    let load = Load {
        fleet: FleetArgs {
            targets: args.targets,
            series: args.series,
            scrape_interval: args.scrape_interval,
            profile: args.profile,
            unlike: args.unlike,
            ..FleetArgs::default()
        },
        ..Load::default()
    };
    let mut bench = Bench::start(&agent, &load, dir)?;
    bench.cold_start()?;
    bench.pause(args.warmup)?;
    let window = bench.window(args.window)?;
    let cpu_ns = (window.user_seconds + window.system_seconds) * 1e9 / window.samples.max(1) as f64;
    let text = perf::look(bench.process.id(), args.window, Walk::FramePointers, dir)?;
    bench.process.check()?;
    let classes: Vec<Class> = stacks(&text).iter().map(classify).collect();
    let mut counts = [0u64; Class::ALL.len()];
    for class in classes {
        counts[class as usize] += 1;
    }
    let table = format!(
        "{} {}, {} targets x {} series every {:?}{}: {cpu_ns:.0} ns of CPU per sample, {} looks \
         ({}).\n\n{}",
        agent.name,
        agent.version,
        args.targets,
        args.series,
        args.scrape_interval,
        if args.unlike { ", unlike" } else { "" },
        counts.iter().sum::<u64>(),
        Machine::here().cpu,
        markdown(&counts, cpu_ns)
    );
    output::say(&table)?;
    if let Some(path) = &args.into {
        replace(path, &table)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Each class with its share of the looks, as a share of the CPU time.
fn markdown(counts: &[u64; Class::ALL.len()], cpu_ns: f64) -> String {
    let total = counts.iter().sum::<u64>().max(1) as f64;
    let mut out = String::from("| Where | ns per sample | share |\n|---|---:|---:|\n");
    for (class, count) in Class::ALL.iter().zip(counts) {
        let share = *count as f64 / total;
        let (name, ns, percent) = (class.name(), share * cpu_ns, share * 100.0);
        let _infallible = writeln!(out, "| {name} | {ns:.1} | {percent:.1} % |");
    }
    out
}

fn replace(path: &Path, new: &str) -> Result<(), Error> {
    let read = std::fs::read_to_string(path);
    let text = read.map_err(Error::io(format!("read {}", path.display())))?;
    let replaced = between(&text, new).ok_or_else(|| {
        Error::Invalid(format!(
            "{} has no `{BEGIN}` with a `{END}` behind it",
            path.display()
        ))
    })?;
    fleet::write(path, &replaced)
}

/// `text` with what is between the markers replaced; `None` without the markers.
fn between(text: &str, new: &str) -> Option<String> {
    let start = text.find(BEGIN)? + BEGIN.len();
    let stop = start + text[start..].find(END)?;
    Some(format!(
        "{}\n\n{}\n\n{}",
        &text[..start],
        new.trim(),
        &text[stop..]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_cpu_time() {
        let mut counts = [0; Class::ALL.len()];
        (counts[0], counts[11]) = (30, 10);
        let text = markdown(&counts, 200.0);
        assert!(
            text.contains("| kernel: network | 150.0 | 75.0 % |"),
            "{text}"
        );
        assert!(text.contains("| other | 50.0 | 25.0 % |"), "{text}");
        assert_eq!(markdown(&[0; Class::ALL.len()], 1.0).lines().count(), 14);
    }

    #[test]
    fn markers() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb");
        let replaced = between(&text, "new\n").unwrap();
        assert_eq!(replaced, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb"));
        assert_eq!(between(&replaced, "new\n").unwrap(), replaced);
        assert_eq!(between("a", "new"), None);
    }
}
