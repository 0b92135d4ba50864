//! A configuration file -> one engine, or several that form a cluster, started, watched and ended.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::figures;
use crate::error::Error;
use crate::http::client;
use crate::process::{self, Process, Usage};
use crate::sys;

/// How long an engine may take to answer `/-/ready`, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The running engines, at least one.
pub(super) struct Engines(Vec<Engine>);

struct Engine {
    process: Process,
    listen: SocketAddr,
}

impl Engines {
    /// Starts `count` of them; with more than one each is a node of a cluster. Their data and logs
    /// go to folders in `dir`, those of a single one to `dir` itself.
    ///
    /// # Errors
    /// The program cannot be started, or there is no free port.
    pub(super) fn start(
        count: u16,
        program: &Path,
        config: &Path,
        dir: &Path,
        web_port: u16,
    ) -> Result<Engines, Error> {
        let gossip = free_addresses(count)?;
        let mut engines = Vec::new();
        for index in 0..count {
            let listen = process::free_address(web_port.saturating_add(index))?;
            let mut arguments = vec![
                "run".to_owned(),
                format!("--config.file={}", config.display()),
                format!("--web.listen-address={listen}"),
            ];
            let (name, dir) = if count == 1 {
                ("the engine".to_owned(), dir.to_owned())
            } else {
                let name = format!("node-{}", index + 1);
                let join: Vec<String> = gossip.iter().map(ToString::to_string).collect();
                arguments.extend([
                    "--cluster.enabled".to_owned(),
                    format!("--cluster.node-name={name}"),
                    format!("--cluster.listen-address={}", gossip[usize::from(index)]),
                    format!("--cluster.join-addresses={}", join.join(",")),
                    // On a busy machine one of them might take itself for alone.
                    format!("--cluster.wait-for-size={count}"),
                ]);
                let dir = dir.join(&name);
                (name, dir)
            };
            std::fs::create_dir_all(&dir)
                .map_err(Error::io(format!("create {}", dir.display())))?;
            arguments.push(format!("--storage.path={}", dir.join("data").display()));
            let process = Process::start(&name, program, &arguments, dir.join("engine.log"))?;
            engines.push(Engine { process, listen });
        }
        Ok(Engines(engines))
    }

    /// Waits until all are ready.
    ///
    /// # Errors
    /// One ended, or is not ready in time; or a signal came.
    pub(super) fn wait_ready(&mut self) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        for engine in &mut self.0 {
            while let Err(error) = client::get(engine.listen, "/-/ready") {
                engine.process.check()?;
                if sys::signalled() {
                    return Err(Error::Child("stopped before the engine was ready".into()));
                }
                if Instant::now() >= end {
                    return Err(Error::Child(format!(
                        "the engine was not ready within {PATIENCE:?}: {error}"
                    )));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// # Errors
    /// One has ended by itself, with the end of its log.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        let mut engines = self.0.iter_mut();
        engines.try_for_each(|engine| engine.process.check())
    }

    /// Where their APIs are.
    pub(super) fn urls(&self) -> Vec<String> {
        let url = |engine: &Engine| format!("http://{}", engine.listen);
        self.0.iter().map(url).collect()
    }

    /// What all of them have used.
    pub(super) fn usage(&self) -> Usage {
        let mut sum = Usage::default();
        for engine in &self.0 {
            let usage = engine.process.usage();
            sum.user_seconds += usage.user_seconds;
            sum.system_seconds += usage.system_seconds;
            sum.resident_bytes += usage.resident_bytes;
            sum.write_bytes += usage.write_bytes;
        }
        sum
    }

    /// The share of samples that took the fast path, 0 to 1.
    pub(super) fn matched(&self) -> Option<f64> {
        let mut text = String::new();
        for engine in &self.0 {
            let body = client::get(engine.listen, "/metrics").ok()?;
            text.push_str(&String::from_utf8_lossy(&body));
        }
        figures::matched_share(&text)
    }

    /// Ends them, one after another: those that stay take over what the others give.
    ///
    /// # Errors
    /// The first that did not end cleanly; the others are ended all the same.
    pub(super) fn stop(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for engine in &mut self.0 {
            result = result.and(engine.process.stop(PATIENCE));
        }
        result
    }
}

/// Addresses on loopback that are free and differ from each other.
fn free_addresses(count: u16) -> Result<Vec<SocketAddr>, Error> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    while addresses.len() < usize::from(count) {
        let address = process::free_address(0)?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Where the engine's program is, if not this one.
pub(super) fn program(given: Option<&PathBuf>) -> Result<PathBuf, Error> {
    match given {
        Some(path) => Ok(path.clone()),
        None => std::env::current_exe().map_err(Error::io("find this program")),
    }
}
