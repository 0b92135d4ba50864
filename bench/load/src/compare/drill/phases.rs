//! One agent -> steady state, outage, catch-up, and what its two receivers have in the end.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{DrillArgs, Drilled};
use crate::compare::agents::Agent;
use crate::compare::measure::{Bench, Load};
use crate::error::Error;
use crate::output;
use crate::process::Process;
use crate::sink::{Sink, SinkArgs, SinkReport, SinkWindow};

/// Pause between looks at memory and receivers.
const LOOK: Duration = Duration::from_secs(1);
/// The receiver has caught up when what arrives there is no older than at the other one and this.
const CAUGHT_UP_MS: f64 = 3_000.0;
/// Looks in a row that must say so.
const CAUGHT_UP_LOOKS: u32 = 3;
/// How long what is on its way may take, once nothing new is scraped.
const SETTLE_MAX: Duration = Duration::from_secs(240);
/// How long nothing may come before the rest is taken for lost: longer than the longest pause
/// before a retry of the agents, which is a minute.
const LOST_AFTER: Duration = Duration::from_secs(75);
/// How long an agent may take to end.
const STOP_MAX: Duration = Duration::from_secs(60);

/// What a phase saw.
#[derive(Default)]
struct Phase {
    seconds: f64,
    /// Most resident memory.
    memory_bytes: u64,
    /// Samples at the receiver that has the outage, and at the other one.
    samples: u64,
    other_samples: u64,
    other_lag_ms: f64,
}

/// A look at both receivers.
struct Look {
    first: SinkWindow,
    other: SinkWindow,
}

/// The agent with its two receivers.
struct Drill {
    bench: Bench,
    other: Sink,
}

impl Drill {
    /// Lets a second pass and adds what happened in it to `phase`.
    fn look(&mut self, phase: &mut Phase) -> Result<Look, Error> {
        let began = Instant::now();
        self.bench.pause(LOOK)?;
        phase.seconds += began.elapsed().as_secs_f64();
        let memory_bytes = self.bench.process.usage().resident_bytes;
        phase.memory_bytes = phase.memory_bytes.max(memory_bytes);
        let look = Look {
            first: self.bench.sink.window()?,
            other: self.other.window()?,
        };
        phase.samples += look.first.samples;
        phase.other_samples += look.other.samples;
        if look.other.samples > 0 {
            phase.other_lag_ms = phase.other_lag_ms.max(look.other.lag.p99_ms);
        }
        Ok(look)
    }

    fn steady(&mut self, length: Duration) -> Result<Phase, Error> {
        self.bench.pause(length / 2)?;
        self.bench.sink.window()?;
        self.other.window()?;
        let mut phase = Phase::default();
        let end = Instant::now() + length / 2;
        while Instant::now() < end {
            self.look(&mut phase)?;
        }
        Ok(phase)
    }

    fn outage(&mut self, samples: u64, longest: Duration) -> Result<Phase, Error> {
        self.bench.sink.set_down(true);
        let mut phase = Phase::default();
        let end = Instant::now() + longest;
        while phase.other_samples < samples && Instant::now() < end {
            self.look(&mut phase)?;
        }
        Ok(phase)
    }

    /// Until what arrives is live; the lag of each 10 s is put in `lag_seconds`.
    fn catch_up(
        &mut self,
        longest: Duration,
        lag_seconds: &mut Vec<f64>,
    ) -> Result<(Phase, bool), Error> {
        self.bench.sink.set_down(false);
        let mut phase = Phase::default();
        let mut lags: Vec<(f64, u64)> = Vec::new();
        let (end, mut live) = (Instant::now() + longest, 0);
        while Instant::now() < end && live < CAUGHT_UP_LOOKS {
            let look = self.look(&mut phase)?;
            let (lag, other) = (look.first.lag, look.other.lag);
            let is_live = look.first.samples > 0 && lag.p99_ms <= other.p99_ms + CAUGHT_UP_MS;
            live = if is_live { live + 1 } else { 0 };
            lags.push((lag.p50_ms / 1e3, look.first.samples));
        }
        let done = live >= CAUGHT_UP_LOOKS;
        if done {
            // Looking on until it is sure is not part of the catching up.
            let sure = lags.iter().rev().take(CAUGHT_UP_LOOKS as usize);
            phase.samples -= sure.map(|(_, samples)| samples).sum::<u64>();
            phase.seconds -= f64::from(CAUGHT_UP_LOOKS) * LOOK.as_secs_f64();
        }
        // Several seconds as one: their mean, by samples.
        lag_seconds.extend(lags.chunks(10).filter_map(|tenth| {
            let samples: u64 = tenth.iter().map(|(_, samples)| samples).sum();
            let sum: f64 = tenth.iter().map(|(lag, n)| lag * *n as f64).sum();
            (samples > 0).then(|| sum / samples as f64)
        }));
        Ok((phase, done))
    }
}

/// Until both receivers have the same of the exporters, or nothing new has come for long.
fn settle(
    process: &mut Process,
    first: &Sink,
    other: &Sink,
    interval: Duration,
) -> Result<(), Error> {
    let (end, mut last, mut since) = (Instant::now() + SETTLE_MAX, (0, 0), Instant::now());
    loop {
        let quiet = match last.0 == last.1 {
            true => 2 * interval + LOOK,
            false => LOST_AFTER,
        };
        if Instant::now() >= end || since.elapsed() >= quiet {
            return Ok(());
        }
        process.check()?;
        std::thread::sleep(LOOK);
        let seen = |sink: &Sink| Ok::<_, Error>(arrived(&sink.stats()?));
        let now = (seen(first)?, seen(other)?);
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// Samples of the exporters that came, in order or not.
fn arrived(report: &SinkReport) -> u64 {
    report.completeness.samples_seen + report.findings.out_of_order
}

/// Drills `agent` in `dir`.
///
/// # Errors
/// The agent is not installed, ends by itself or delivers nothing; a port or a file fails.
pub(super) fn run(agent: &Agent, args: &DrillArgs, dir: &Path) -> Result<Drilled, Error> {
    let load = Load {
        fleet: args.fleet(),
        sink: SinkArgs::default(),
        second_endpoint: true,
        ..Load::default()
    };
    let mut bench = Bench::start(agent, &load, dir)?;
    let other = bench.second.take();
    let other = other.expect("BUG: a second endpoint was asked for");
    let mut drill = Drill { bench, other };
    drill.bench.cold_start()?;
    let steady = drill.steady(args.steady)?;
    output::note(&format!(
        "  steady: {:.0} samples/s; the receiver goes",
        steady.samples as f64 / steady.seconds.max(1e-9)
    ));
    let began = Instant::now();
    let outage = drill.outage(args.samples, args.outage_max)?;
    output::note(&format!(
        "  {} samples in {:.0} s; the receiver comes back",
        outage.other_samples, outage.seconds
    ));
    let mut lag_seconds = Vec::new();
    let before = drill.bench.process.usage();
    let (catch_up, done) = drill.catch_up(args.catch_up_max, &mut lag_seconds)?;
    let cpu_seconds = drill.bench.process.usage().cpu_seconds() - before.cpu_seconds();
    output::note(&format!(
        "  {} samples in {:.0} s",
        catch_up.samples, catch_up.seconds
    ));
    let seconds = catch_up.seconds.max(LOOK.as_secs_f64());

    let slots = drill.bench.fleet.report(Some(began.elapsed()))?;

    // No agent can be told to scrape no more; the exporters can.
    let Drill { bench, other } = drill;
    let Bench {
        fleet,
        sink,
        mut process,
        ..
    } = bench;
    fleet.stop()?;
    settle(&mut process, &sink, &other, args.scrape_interval)?;
    let complaint = process.stop(STOP_MAX).err();
    let (first, other) = (sink.stop()?, other.stop()?);
    let mut findings = first.findings;
    // Told apart.
    findings.duplicates_identical = 0;
    Ok(Drilled {
        complaint: complaint.map_or(String::new(), |error| error.to_string()),
        live_samples_per_second: steady.samples as f64 / steady.seconds.max(1e-9),
        outage_seconds: outage.seconds,
        outage_samples: outage.other_samples,
        delivered: arrived(&first),
        lost: arrived(&other).saturating_sub(arrived(&first)),
        out_of_order: first.findings.out_of_order,
        again: first.findings.duplicates_identical,
        findings: findings.summary(),
        memory_steady_bytes: steady.memory_bytes,
        memory_outage_bytes: outage.memory_bytes,
        memory_catch_up_bytes: catch_up.memory_bytes,
        catch_up_seconds: done.then_some(seconds),
        catch_up_samples_per_second: catch_up.samples as f64 / seconds,
        lag_seconds,
        other_lag_ms: outage.other_lag_ms.max(catch_up.other_lag_ms),
        other_lag_steady_ms: steady.other_lag_ms,
        slots_missed: slots.slots_missed,
        jitter_ms: slots.jitter.p99_ms,
        catch_up_cpu_seconds_per_million: cpu_seconds * 1e6 / catch_up.samples.max(1) as f64,
        ..Drilled::default()
    })
}
