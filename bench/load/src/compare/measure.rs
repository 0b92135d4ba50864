//! One agent and one load -> what it used in each window after a warm-up, and how it came up.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::CompareArgs;
use super::agents::{Agent, Places};
use super::figures::{ColdStart, Run, Window};
use super::log_cpu;
use crate::error::Error;
use crate::fleet::{self, Fleet, FleetArgs};
use crate::process::{self, Process, Usage};
use crate::sink::{Sink, SinkArgs, SinkWindow};
use crate::sys;

/// How long an agent may take to deliver its first sample and, after that, to have scraped every
/// target, both beyond two intervals.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between looks at what has arrived: the resolution of the cold start's figures.
const LOOK: Duration = Duration::from_millis(20);

/// What an agent is put under.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    pub(super) fleet: FleetArgs,
    pub(super) sink: SinkArgs,
    /// Ask for remote write 2.0 in the configuration.
    pub(super) remote_write_v2: bool,
    /// Have it write to a second sink as well, which takes everything at all times.
    pub(super) second_endpoint: bool,
    /// Core that the agent may use; `None` for all.
    pub(super) core: Option<usize>,
}

/// An agent under load, with both ends of it.
pub(super) struct Bench {
    pub(super) fleet: Fleet,
    pub(super) sink: Sink,
    /// The second one, if it was asked for.
    pub(super) second: Option<Sink>,
    pub(super) process: Process,
    /// Where the agent answers.
    listen: SocketAddr,
    started: Instant,
    targets: u64,
    /// How long each part of the cold start may take.
    pub(super) patience: Duration,
}

impl Bench {
    /// Starts fleet, sink and agent in `dir`, which is created and emptied of the agent's data
    /// before.
    pub(super) fn start(agent: &Agent, load: &Load, dir: &Path) -> Result<Bench, Error> {
        let data = dir.join("data");
        if data.exists() {
            std::fs::remove_dir_all(&data)
                .map_err(Error::io(format!("empty {}", data.display())))?;
        }
        std::fs::create_dir_all(&data).map_err(Error::io(format!("create {}", data.display())))?;
        let file_sd = dir.join("targets.json");
        let fleet_args = FleetArgs {
            file_sd: Some(file_sd.clone()),
            ..load.fleet.clone()
        };
        let fleet = Fleet::start(&fleet_args)?;
        let sink_args = SinkArgs {
            listen: ([127, 0, 0, 1], 0).into(),
            expect_targets: u64::from(fleet_args.targets),
            expect_series: u64::from(fleet_args.series),
            scrape_interval: fleet_args.scrape_interval,
            ..load.sink.clone()
        };
        let sink = Sink::start(&sink_args)?;
        let second = match load.second_endpoint {
            true => Some(Sink::start(&sink_args)?),
            false => None,
        };
        let (config, scrape_config) = (dir.join("config.yml"), dir.join("scrape.yml"));
        let mut text = fleet::config(&fleet_args, &file_sd, Some(&sink.url()));
        if let Some(second) = &second {
            text.push_str(&format!("  - url: {}\n", second.url()));
        }
        if load.remote_write_v2 {
            // The endpoint is the last thing in the text.
            text.push_str("    protobuf_message: io.prometheus.write.v2.Request\n");
        }
        fleet::write(&config, &text)?;
        fleet::write(&scrape_config, &fleet::config(&fleet_args, &file_sd, None))?;
        let listen = process::free_address(0)?;
        let places = Places {
            config: config.display().to_string(),
            scrape_config: scrape_config.display().to_string(),
            remote_write_url: sink.url(),
            data_dir: data.display().to_string(),
            listen: listen.to_string(),
        };
        let mut arguments = agent.arguments(&places);
        if let Some(second) = &second {
            // An agent that is told its receivers on the command line.
            let named = arguments.iter().filter(|word| word.contains(&sink.url()));
            let also: Vec<String> = named
                .map(|word| word.replace(&sink.url(), &second.url()))
                .collect();
            arguments.extend(also);
        }
        let started = Instant::now();
        let process = Process::start_on(
            &agent.name,
            agent.program(),
            &arguments,
            dir.join("agent.log"),
            load.core,
        )?;
        Ok(Bench {
            fleet,
            sink,
            second,
            process,
            listen,
            started,
            targets: u64::from(fleet_args.targets),
            patience: 2 * fleet_args.scrape_interval + PATIENCE,
        })
    }

    /// Waits until samples of every target have arrived.
    pub(super) fn cold_start(&mut self) -> Result<ColdStart, Error> {
        let mut cold = ColdStart::default();
        let sink = &self.sink;
        wait(
            &mut self.process,
            self.patience,
            "delivered nothing",
            || Ok(sink.stats()?.samples > 0),
        )?;
        cold.first_sample_seconds = self.started.elapsed().as_secs_f64();
        cold.first_sample_cpu_seconds = self.process.usage().cpu_seconds();
        let targets = self.targets;
        wait(
            &mut self.process,
            self.patience,
            "did not scrape every target",
            || Ok(sink.stats()?.completeness.targets_seen >= targets),
        )?;
        cold.all_targets_seconds = self.started.elapsed().as_secs_f64();
        cold.all_targets_cpu_seconds = self.process.usage().cpu_seconds();
        Ok(cold)
    }

    /// Lets that much time pass while the agent lives.
    ///
    /// # Errors
    /// The agent ended by itself, or a signal came.
    pub(super) fn pause(&mut self, length: Duration) -> Result<(), Error> {
        let end = Instant::now() + length;
        while Instant::now() < end {
            self.process.check()?;
            stopped()?;
            let left = end.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }

    /// One window of that length.
    pub(super) fn window(&mut self, length: Duration) -> Result<Window, Error> {
        self.sink.window()?;
        let (before, then) = (self.process.usage(), Instant::now());
        self.pause(length)?;
        let received = self.sink.window()?;
        let seconds = then.elapsed().as_secs_f64();
        Ok(window(before, self.process.usage(), received, seconds))
    }
}

/// Runs `agent` once under the load, in `dir`.
///
/// # Errors
/// The agent is not installed, ends by itself or delivers nothing; a port or a file fails.
pub(super) fn run(
    agent: &Agent,
    fleet_args: &FleetArgs,
    args: &CompareArgs,
    dir: &Path,
) -> Result<Run, Error> {
    let load = Load {
        fleet: fleet_args.clone(),
        sink: SinkArgs {
            accept: args.accept.clone(),
            ..SinkArgs::default()
        },
        remote_write_v2: args.remote_write_v2,
        ..Load::default()
    };
    let mut bench = Bench::start(agent, &load, dir)?;
    let cold = bench.cold_start()?;
    bench.pause(args.warmup)?;
    let begin = Instant::now();
    let length = Duration::from_secs(args.window_seconds.into());
    let mut windows = Vec::new();
    for _ in 0..args.windows {
        windows.push(bench.window(length)?);
    }
    let slots = bench.fleet.report(Some(begin.elapsed()))?;
    let log_looks = match args.log_cpu {
        true => log_cpu::look(agent, bench.process.id(), bench.listen, length, dir)?,
        false => None,
    };
    bench.process.check()?;
    let Bench {
        fleet,
        sink,
        mut process,
        ..
    } = bench;
    // An agent that ends with an error has still delivered what the sink has verified.
    let complaint = process.stop(PATIENCE).err().map(|error| error.to_string());
    let received = sink.stop()?;
    let served = fleet.stop()?;
    Ok(Run {
        windows,
        cold,
        received,
        jitter: slots.jitter,
        slots_missed: slots.slots_missed,
        log_looks,
        fleet_cpu_us_per_scrape: served.cpu_us_per_scrape,
        complaint,
    })
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
        std::thread::sleep(LOOK);
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
