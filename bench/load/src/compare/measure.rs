//! One agent and one load -> its figures: medians over windows after a warm-up.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::CompareArgs;
use super::agents::{Agent, Places};
use crate::error::Error;
use crate::fleet::{self, Fleet, FleetArgs, Spread};
use crate::process::{self, Process, Usage};
use crate::sink::{Sink, SinkArgs, SinkReport, SinkWindow};
use crate::sys;

/// How long an agent may take to deliver its first sample and, after that, to have scraped every
/// target, both beyond two intervals.
const PATIENCE: Duration = Duration::from_secs(60);

/// The figures of one agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Name of the agent.
    pub name: String,
    /// Whether nothing was wrong or missing (values off in the last bits do not count).
    pub verified: bool,
    /// Why not, or `none`.
    pub reason: String,
    /// Samples per second at the receiver.
    pub samples_per_second: f64,
    /// CPU seconds in user mode per million samples.
    pub user_seconds_per_million: f64,
    /// CPU seconds in the kernel per million samples.
    pub system_seconds_per_million: f64,
    /// Resident memory.
    pub resident_mib: f64,
    /// The same per series of the load.
    pub resident_bytes_per_series: f64,
    /// Bytes of request bodies per sample.
    pub wire_bytes_per_sample: f64,
    /// Bytes written to storage per sample.
    pub disk_bytes_per_sample: f64,
    /// Distance of a scrape from its target's grid, over all windows.
    pub jitter: Spread,
    /// From a sample's timestamp to its receipt.
    pub lag: Spread,
    /// Slots without a scrape, over all windows.
    pub slots_missed: u64,
    /// Share of (target, slot) that arrived, 0 to 1.
    pub completeness: f64,
    /// Samples missing between others, lost scrapes included.
    pub gaps: u64,
    /// Wrong values.
    pub wrong_values: u64,
    /// Values off in the last bits.
    pub inexact_values: u64,
    /// From the start of the process to the receipt of the first sample.
    pub first_sample_seconds: f64,
    /// Each window.
    pub windows: Vec<Window>,
}

/// The figures of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Length in seconds.
    pub seconds: f64,
    /// Samples received.
    pub samples: u64,
    /// CPU seconds in user mode.
    pub user_seconds: f64,
    /// CPU seconds in the kernel.
    pub system_seconds: f64,
    /// Resident memory at its end, in bytes.
    pub resident_bytes: u64,
    /// Bytes written to storage.
    pub disk_bytes: u64,
    /// Bytes of request bodies.
    pub wire_bytes: u64,
    /// From a sample's timestamp to its receipt.
    pub lag: Spread,
}

/// Runs `agent` under the load in `dir`, which is created and emptied of the agent's data before.
///
/// # Errors
/// The agent is not installed, ends by itself or delivers nothing; a port or a file fails.
pub(super) fn run(
    agent: &Agent,
    fleet_args: &FleetArgs,
    args: &CompareArgs,
    dir: &Path,
) -> Result<Measured, Error> {
    let data = dir.join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data).map_err(Error::io(format!("empty {}", data.display())))?;
    }
    std::fs::create_dir_all(&data).map_err(Error::io(format!("create {}", data.display())))?;
    let file_sd = dir.join("targets.json");
    let fleet_args = FleetArgs {
        file_sd: Some(file_sd.clone()),
        ..fleet_args.clone()
    };
    let fleet = Fleet::start(&fleet_args)?;
    let sink = Sink::start(&SinkArgs {
        listen: ([127, 0, 0, 1], 0).into(),
        expect_targets: u64::from(fleet_args.targets),
        expect_series: u64::from(fleet_args.series),
        scrape_interval: fleet_args.scrape_interval,
        ..SinkArgs::default()
    })?;
    let (config, scrape_config) = (dir.join("config.yml"), dir.join("scrape.yml"));
    fleet::write(
        &config,
        &fleet::config(&fleet_args, &file_sd, Some(&sink.url())),
    )?;
    fleet::write(&scrape_config, &fleet::config(&fleet_args, &file_sd, None))?;
    let places = Places {
        config: config.display().to_string(),
        scrape_config: scrape_config.display().to_string(),
        remote_write_url: sink.url(),
        data_dir: data.display().to_string(),
        listen: process::free_address(0)?.to_string(),
    };
    let mut process = Process::start(
        &agent.name,
        agent.program(),
        &agent.arguments(&places),
        dir.join("agent.log"),
    )?;
    let interval = fleet_args.scrape_interval;
    let started_ms = crate::http::server::wall_ns() / 1_000_000;
    wait(
        &mut process,
        2 * interval + PATIENCE,
        "delivered nothing",
        || Ok(sink.stats()?.samples > 0),
    )?;
    let first_ms = sink.stats()?.first_sample_ms;
    wait(
        &mut process,
        2 * interval + PATIENCE,
        "did not scrape every target",
        || Ok(sink.stats()?.completeness.targets_seen >= u64::from(fleet_args.targets)),
    )?;
    pause(&mut process, args.warmup)?;
    let begin = Instant::now();
    let windows = windows(&mut process, &sink, args)?;
    let slots = fleet.report(Some(begin.elapsed()))?;
    // An agent that ends with an error has still delivered what the sink has verified.
    let ended = process.stop(PATIENCE);
    let report = sink.stop()?;
    fleet.stop()?;
    let mut measured = medians(&windows, &report);
    measured.name = agent.name.clone();
    if let Err(error) = ended {
        measured.verified = false;
        measured.reason = format!("{}; {error}", measured.reason);
    }
    let series = u64::from(fleet_args.targets) * u64::from(fleet_args.series);
    measured.resident_bytes_per_series = measured.resident_mib * f64::from(1 << 20) / series as f64;
    measured.first_sample_seconds = first_ms.saturating_sub(started_ms) as f64 / 1e3;
    measured.jitter = slots.jitter;
    measured.slots_missed = slots.slots_missed;
    measured.windows = windows;
    Ok(measured)
}

/// Waits until `done`, while the process lives.
fn wait(
    process: &mut Process,
    patience: Duration,
    failure: &str,
    mut done: impl FnMut() -> Result<bool, Error>,
) -> Result<(), Error> {
    let end = Instant::now() + patience;
    while !done()? {
        process.check()?;
        if Instant::now() >= end {
            return Err(Error::Child(format!(
                "the agent {failure} within {patience:?}"
            )));
        }
        stopped()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn pause(process: &mut Process, length: Duration) -> Result<(), Error> {
    let end = Instant::now() + length;
    while Instant::now() < end {
        process.check()?;
        stopped()?;
        let left = end.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
    Ok(())
}

fn stopped() -> Result<(), Error> {
    if sys::signalled() {
        Err(Error::Child("stopped by a signal".into()))
    } else {
        Ok(())
    }
}

fn windows(process: &mut Process, sink: &Sink, args: &CompareArgs) -> Result<Vec<Window>, Error> {
    let mut windows = Vec::new();
    sink.window()?;
    let (mut before, mut then) = (process.usage(), Instant::now());
    for _ in 0..args.windows {
        pause(process, Duration::from_secs(args.window_seconds.into()))?;
        let received = sink.window()?;
        let (now, at) = (process.usage(), Instant::now());
        windows.push(window(before, now, received, (at - then).as_secs_f64()));
        (before, then) = (now, at);
    }
    Ok(windows)
}

fn window(before: Usage, now: Usage, received: SinkWindow, seconds: f64) -> Window {
    Window {
        seconds,
        samples: received.samples,
        user_seconds: now.user_seconds - before.user_seconds,
        system_seconds: now.system_seconds - before.system_seconds,
        resident_bytes: now.resident_bytes,
        disk_bytes: now.write_bytes.saturating_sub(before.write_bytes),
        wire_bytes: received.wire_bytes,
        lag: received.lag,
    }
}

fn medians(windows: &[Window], report: &SinkReport) -> Measured {
    let of = |figure: &dyn Fn(&Window) -> f64| median(windows.iter().map(figure).collect());
    let per_sample = |figure: &dyn Fn(&Window) -> f64| {
        of(&|window| figure(window) / window.samples.max(1) as f64)
    };
    Measured {
        verified: report.verified,
        reason: report.reason.clone(),
        samples_per_second: of(&|window| window.samples as f64 / window.seconds),
        user_seconds_per_million: per_sample(&|window| window.user_seconds) * 1e6,
        system_seconds_per_million: per_sample(&|window| window.system_seconds) * 1e6,
        resident_mib: of(&|window| window.resident_bytes as f64) / f64::from(1 << 20),
        wire_bytes_per_sample: per_sample(&|window| window.wire_bytes as f64),
        disk_bytes_per_sample: per_sample(&|window| window.disk_bytes as f64),
        lag: Spread {
            p50_ms: of(&|window| window.lag.p50_ms),
            p99_ms: of(&|window| window.lag.p99_ms),
            max_ms: of(&|window| window.lag.max_ms),
        },
        completeness: report.completeness.share,
        gaps: report.findings.gaps + report.findings.lost_scrapes,
        wrong_values: report.findings.wrong_values,
        inexact_values: report.inexact_values,
        ..Measured::default()
    }
}

/// The middle value, or the mean of the two in the middle; 0 for none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count.is_multiple_of(2) => (values[count / 2 - 1] + values[count / 2]) / 2.0,
        count => values[count / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_windows() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert_eq!(median(vec![]), 0.0);
        let window = |samples, user_seconds| Window {
            seconds: 10.0,
            samples,
            user_seconds,
            ..Window::default()
        };
        let windows = [
            window(1_000_000, 1.0),
            window(2_000_000, 1.0),
            window(1_000_000, 4.0),
        ];
        let measured = medians(&windows, &SinkReport::default());
        assert_eq!(measured.user_seconds_per_million, 1.0);
        assert_eq!(measured.samples_per_second, 100_000.0);
    }
}
