//! Flags -> a remote write receiver that verifies what it gets, and its report.

mod args;
pub mod decode;
mod labels;
pub mod protobuf;
mod protocol;
mod report;
mod serve;
mod sweep;
mod symbols;
mod table;
mod targets;
mod values;
pub mod verify;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use args::SinkArgs;
pub use protocol::Protocol;
pub use report::{
    Completeness, Defect, Findings, LostScrapes, ProtocolUse, SinkReport, SinkWindow,
};

use crate::error::Error;
use crate::fleet;
use crate::http::server::{Settings, serve};
use crate::{output, sys};

/// Largest request as on the wire.
const BODY_BYTES_MAX: usize = 64 << 20;

/// A running sink: one thread of this process. Dropping it stops it.
pub struct Sink {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    down: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<SinkReport, Error>>>,
}

impl Sink {
    /// Listens and starts to receive. `Ok`: requests are answered from now on.
    ///
    /// # Errors
    /// `Io` when the address is taken, `Invalid` when a flag makes no sense.
    pub fn start(args: &SinkArgs) -> Result<Sink, Error> {
        sys::raise_open_files();
        let down = Arc::new(AtomicBool::new(false));
        let mut handler = serve::Receiving::new(args, down.clone())?;
        let listener = fleet::bind(args.listen, 1024)?;
        let address = listener
            .local_addr()
            .map_err(Error::io("read the sink's address"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let settings = Settings {
            body_bytes_max: BODY_BYTES_MAX,
            coalesce: Duration::ZERO,
        };
        let thread = std::thread::Builder::new()
            .name("sink".into())
            .spawn(move || {
                serve(vec![listener], &mut handler, settings, &|| {
                    told.load(Ordering::Relaxed)
                })?;
                // Whoever stops the sink has stopped the sender first: all is settled.
                Ok(handler.report(Some(i64::MAX)))
            })
            .map_err(Error::io("start the sink's thread"))?;
        if let Some(path) = &args.ready_file {
            fleet::write_ready(path, &[address])?;
        }
        Ok(Sink {
            address,
            stop,
            down,
            thread: Some(thread),
        })
    }

    /// Where the sink listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL that a sender writes to.
    pub fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// What has arrived so far, with the findings that show on arrival; cheap.
    ///
    /// # Errors
    /// `Http` when the sink's thread is gone.
    pub fn stats(&self) -> Result<SinkReport, Error> {
        output::fetch(self.address, "/stats")
    }

    /// What has arrived so far, whole targets judged too; costs a pass over all series.
    ///
    /// # Errors
    /// `Http` when the sink's thread is gone.
    pub fn report(&self) -> Result<SinkReport, Error> {
        output::fetch(self.address, "/report")
    }

    /// What has arrived since the last call.
    ///
    /// # Errors
    /// `Http` when the sink's thread is gone.
    pub fn window(&self) -> Result<SinkWindow, Error> {
        output::fetch(self.address, "/window")
    }

    /// From now on every connection is closed unanswered, or requests are answered again.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// Stops receiving and gives the final report; stop the sender first.
    ///
    /// # Errors
    /// What ended the thread early, if something did.
    pub fn stop(mut self) -> Result<SinkReport, Error> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("BUG: only stop takes the thread");
        thread
            .join()
            .map_err(|_| Error::Child("the sink's thread panicked".into()))?
    }

    fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `ringscrape load sink`: receives until the duration is over or SIGINT or SIGTERM comes, then
/// prints
/// the report as JSON. Exit code 0 if everything was verified, else 1 with the reason on standard
/// error.
///
/// # Errors
/// As [`Sink::start`], and when the report cannot be written.
pub fn run(args: SinkArgs) -> Result<ExitCode, Error> {
    sys::catch_signals();
    let sink = Sink::start(&args)?;
    output::note(&format!(
        "sink: remote write to {}, http://{}/report shows what is verified; ends after {:?}",
        sink.url(),
        sink.address,
        args.duration
    ));
    let end = Instant::now() + args.duration;
    while !sys::signalled() && Instant::now() < end && !sink.ended() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let report = sink.stop()?;
    output::report(&report, args.report.as_deref())?;
    if report.verified {
        return Ok(ExitCode::SUCCESS);
    }
    output::note(&format!("not verified: {}", report.reason));
    Ok(ExitCode::FAILURE)
}
