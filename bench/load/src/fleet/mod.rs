//! Flags -> fake exporters on loopback, and a report of when and how often they were scraped.

mod args;
mod faults;
mod report;
mod sd;
mod serve;
mod slots;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use args::{ExpositionFormat, FleetArgs};
pub use faults::FaultArgs;
pub use report::{FleetReport, OffGrid, Spread};
#[cfg(test)]
pub(crate) use sd::instance;
pub(crate) use sd::{bind, config, read_instance, write, write_ready};

use crate::error::Error;
use crate::http::server::{Settings, serve};
use crate::{output, sys};

/// A running fleet: one thread of this process. Dropping it stops it.
pub struct Fleet {
    addresses: Vec<SocketAddr>,
    file_sd: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<FleetReport, Error>>>,
}

impl Fleet {
    /// Opens the listeners, writes the files that `args` ask for and starts to serve.
    ///
    /// `Ok`: every target answers from now on.
    ///
    /// # Errors
    /// `Invalid` when flags contradict each other or the limit of open files is too low; `Io` when
    /// a
    /// port is taken or a file cannot be written.
    pub fn start(args: &FleetArgs) -> Result<Fleet, Error> {
        args.check()?;
        sys::need_open_files(
            u64::from(args.targets) + u64::from(args.ports) + 64,
            &format!("a fleet of {} targets (one connection each)", args.targets),
        )?;
        let listeners = sd::listen(args)?;
        let addresses = listeners.addresses.clone();
        let file_sd = sd::file_sd(args, &listeners);
        sd::write_files(args, &file_sd)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut handler = serve::Serving::new(args, file_sd.clone(), &listeners);
        let settings = Settings {
            body_bytes_max: 0,
            coalesce: args.coalesce,
        };
        let told = stop.clone();
        let thread = std::thread::Builder::new()
            .name("fleet".into())
            .spawn(move || {
                let _closed = listeners.closed;
                serve(listeners.open, &mut handler, settings, &|| {
                    told.load(Ordering::Relaxed)
                })?;
                Ok(handler.report(None))
            })
            .map_err(Error::io("start the fleet's thread"))?;
        if let Some(path) = &args.ready_file {
            sd::write_ready(path, &addresses)?;
        }
        Ok(Fleet {
            addresses,
            file_sd,
            stop,
            thread: Some(thread),
        })
    }

    /// Where the fleet listens; the first one also answers `/report`, `/sd` and `/-/ready`.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// All targets as the JSON of `file_sd_configs` and `http_sd_configs`.
    pub fn file_sd(&self) -> &str {
        &self.file_sd
    }

    /// The report so far; with `since`, the slots count only what arrived in that last span.
    ///
    /// # Errors
    /// `Http` when the fleet's thread is gone.
    pub fn report(&self, since: Option<Duration>) -> Result<FleetReport, Error> {
        let since = since.map_or(String::new(), |since| {
            format!("?since_ms={}", since.as_millis())
        });
        output::fetch(self.addresses[0], &format!("/report{since}"))
    }

    /// Stops serving and gives the final report.
    ///
    /// # Errors
    /// What ended the thread early, if something did.
    pub fn stop(mut self) -> Result<FleetReport, Error> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("BUG: only stop takes the thread");
        thread
            .join()
            .map_err(|_| Error::Child("the fleet's thread panicked".into()))?
    }

    fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `ringscrape load fleet`: serves until the duration is over or SIGINT or SIGTERM comes, then
/// prints
/// the report as JSON. Exit code 0.
///
/// # Errors
/// As [`Fleet::start`], and when the report cannot be written.
pub fn run(args: FleetArgs) -> Result<ExitCode, Error> {
    sys::catch_signals();
    let fleet = Fleet::start(&args)?;
    output::note(&format!(
        "fleet: {} targets x {} series on {} port(s), http://{}/sd lists them, http://{}/report \
         shows the slots; ends after {:?}",
        args.targets,
        args.series,
        args.ports,
        fleet.addresses[0],
        fleet.addresses[0],
        args.duration
    ));
    let end = Instant::now() + args.duration;
    while !sys::signalled() && Instant::now() < end && !fleet.ended() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let report = fleet.stop()?;
    output::report(&report, args.report.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
