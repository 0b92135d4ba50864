//! A program and its arguments -> a child process whose use of the machine is read from `/proc`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sys;

/// A child process; dropping it kills it.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a process has used since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// CPU seconds in user mode.
    pub(crate) user_seconds: f64,
    /// CPU seconds in the kernel.
    pub(crate) system_seconds: f64,
    /// Resident memory now, in bytes.
    pub(crate) resident_bytes: u64,
    /// Bytes that it caused to be written to storage; 0 on a file system in memory.
    pub(crate) write_bytes: u64,
}

impl Usage {
    /// In user mode and in the kernel.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

impl Process {
    /// Starts `program`; its output goes to the file `log`.
    ///
    /// # Errors
    /// `Io` naming the program: not found, not executable.
    pub(crate) fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        log: PathBuf,
    ) -> Result<Process, Error> {
        Process::start_on(name, program, arguments, log, None)
    }

    /// The same on one core only, if `core` names one.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub(crate) fn start_on(
        name: &str,
        program: &Path,
        arguments: &[String],
        log: PathBuf,
        core: Option<usize>,
    ) -> Result<Process, Error> {
        let file =
            fs::File::create(&log).map_err(Error::io(format!("create {}", log.display())))?;
        let copy = file
            .try_clone()
            .map_err(Error::io(format!("share {}", log.display())))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy);
        if let Some(core) = core {
            sys::pin_child(&mut command, core);
        }
        let child = command
            .spawn()
            .map_err(Error::io(format!("start {} ({name})", program.display())))?;
        Ok(Process {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails if the process has ended, with the end of what it printed.
    ///
    /// # Errors
    /// `Child` with status and the last lines of the log.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(source) => Err(Error::Io {
                action: format!("watch {}", self.name),
                source,
            }),
        }
    }

    fn ended(&self, status: ExitStatus) -> Error {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n  ");
        Error::Child(format!(
            "{} ended by itself with {status}; its last lines:\n  {tail}",
            self.name
        ))
    }

    /// What it has used so far; zeros once it has ended.
    pub(crate) fn usage(&self) -> Usage {
        usage_of(&self.child.id().to_string())
    }

    /// Asks it to end with SIGTERM, kills it after `patience`, and says whether it ended cleanly.
    pub(crate) fn stop(&mut self, patience: Duration) -> Result<(), Error> {
        self.check()?;
        sys::send_signal(self.child.id(), libc::SIGTERM);
        let end = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.ended(status)),
                Ok(None) if Instant::now() >= end => break,
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(source) => {
                    return Err(Error::Io {
                        action: format!("wait for {}", self.name),
                        source,
                    });
                }
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        Err(Error::Child(format!(
            "{} did not end within {patience:?} of SIGTERM",
            self.name
        )))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What the process with this id (or `self`) has used so far; zeros if it is not there.
pub(crate) fn usage_of(id: &str) -> Usage {
    let read = |file: &str| fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
    usage(&read("stat"), &read("status"), &read("io"))
}

/// Reads the three files of `/proc/PID`. Source: proc_pid_stat(5), proc_pid_status(5),
/// proc_pid_io(5).
fn usage(stat: &str, status: &str, io: &str) -> Usage {
    // The command name may hold anything; fields count from behind its closing parenthesis.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let seconds = |index: usize| {
        let ticks: f64 = fields
            .get(index)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0);
        ticks / sys::ticks_per_second()
    };
    let named = |text: &str, name: &str| -> u64 {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    Usage {
        // utime and stime are fields 14 and 15 of the line; state, the first here, is field 3.
        user_seconds: seconds(11),
        system_seconds: seconds(12),
        resident_bytes: named(status, "VmRSS:") * 1024,
        write_bytes: named(io, "write_bytes:"),
    }
}

/// A port on 127.0.0.1 that is free now: `preferred` if it is.
///
/// # Errors
/// `Io` when none is free.
pub(crate) fn free_address(preferred: u16) -> Result<SocketAddr, Error> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = bind(preferred)
        .or_else(|_| bind(0))
        .map_err(Error::io("find a free port"))?;
    listener
        .local_addr()
        .map_err(Error::io("read the address of a free port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc() {
        let stat = "42 (a) b) c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 1 1 1";
        let read = usage(
            stat,
            "VmPeak:\t1 kB\nVmRSS:\t  2048 kB\n",
            "wchar: 9\nwrite_bytes: 4096\n",
        );
        let ticks = sys::ticks_per_second();
        assert_eq!(read.user_seconds, 250.0 / ticks);
        assert_eq!(read.system_seconds, 50.0 / ticks);
        assert_eq!((read.resident_bytes, read.write_bytes), (2 << 20, 4096));
        assert_eq!(usage("", "", ""), Usage::default());
    }

    #[test]
    fn a_child_that_fails_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = ["-c".to_owned(), "echo broken; exit 3".to_owned()];
        let log = dir.path().join("log");
        let mut child = Process::start("sh", Path::new("/bin/sh"), &arguments, log).unwrap();
        let error = loop {
            if let Err(error) = child.check() {
                break error.to_string();
            }
        };
        assert!(error.contains("broken") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_taken_port_is_replaced() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(free_address(port).unwrap().port(), port);
    }
}
