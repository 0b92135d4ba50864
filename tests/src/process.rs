//! A command line -> a child process that cannot outlive its value, with its output kept.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::wait;

/// Lines of output shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// A running child. Dropping it kills it by its id; while panicking, its last output is printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`; `name` is what messages call it. Standard output and error are collected.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(collect(out, &log));
        }
        if let Some(err) = child.stderr.take() {
            readers.push(collect(err, &log));
        }
        Self {
            name: name.to_owned(),
            child,
            status: None,
            log,
            readers,
        }
    }

    /// Everything the process has written so far, both streams in order of arrival.
    pub fn log(&self) -> String {
        self.log.lock().map(|log| log.clone()).unwrap_or_default()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has not ended yet.
    pub fn is_alive(&mut self) -> bool {
        self.poll().is_none()
    }

    /// Sends a signal (a `libc::SIG*` number) to this process only.
    pub fn signal(&mut self, signal: i32) {
        if self.poll().is_some() {
            return;
        }
        let id = i32::try_from(self.child.id()).expect("BUG: a process id fits in i32");
        // SAFETY: plain system call; the child is not reaped yet, so the id is still its own.
        unsafe { libc::kill(id, signal) };
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let Some(status) = wait::within(limit, || self.poll()) else {
            panic!("{} did not end within {limit:?}", self.name)
        };
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        status
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait(limit)
    }

    /// SIGKILL, then waits for the end.
    ///
    /// # Panics
    /// If the process table does not let go of it within 10 s.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(libc::SIGKILL);
        self.wait(Duration::from_secs(10))
    }

    /// The last lines of output, for failure messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
        format!(
            "last output of {}:\n{}",
            self.name,
            lines[from..].join("\n")
        )
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.poll().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {}", self.log_tail());
        }
    }
}

fn collect(stream: impl Read + Send + 'static, log: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            if let Ok(mut log) = log.lock() {
                log.push_str(&String::from_utf8_lossy(&line));
            }
            line.clear();
        }
    })
}
