//! A process and a time -> what `perf` saw it do, as the text of `perf script`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::Error;

/// Looks per second and core; odd, so that nothing periodic is in step with it.
const LOOKS_PER_SECOND: u32 = 999;

/// How the callers of a function are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// In the kernel, and in programs that were built with frame pointers.
    FramePointers,
    /// In any program with unwind tables; each look copies 8 KiB of stack.
    UnwindTables,
}

/// Says so if there is no `perf` to be started.
///
/// # Errors
/// There is none.
pub(super) fn demand() -> Result<(), Error> {
    let mut command = Command::new("perf");
    let output = command.arg("--version").stdin(Stdio::null()).output();
    match output.is_ok_and(|output| output.status.success()) {
        true => Ok(()),
        false => Err(Error::Child(
            "perf is not installed (Debian: apt-get install linux-perf)".into(),
        )),
    }
}

/// Looks at a process for a while; gives what perf says of each moment.
///
/// # Errors
/// perf is not there, or may not look.
pub(super) fn look(
    process: u32,
    length: Duration,
    walk: Walk,
    dir: &Path,
) -> Result<String, Error> {
    let file = dir.join("perf.data");
    let path = file.display().to_string();
    let (rate, seconds) = (
        LOOKS_PER_SECOND.to_string(),
        length.as_secs_f64().to_string(),
    );
    let process = process.to_string();
    let call_graph = match walk {
        Walk::FramePointers => "fp",
        Walk::UnwindTables => "dwarf",
    };
    perf(&[
        "record",
        "-F",
        &rate,
        "--call-graph",
        call_graph,
        "-p",
        &process,
        "-o",
        &path,
        "--",
        "sleep",
        &seconds,
    ])?;
    let fields = "comm,ip,sym";
    let text = perf(&["script", "--no-inline", "-i", &path, "-F", fields])?;
    // Some hundred megabytes.
    let _ = std::fs::remove_file(&file);
    Ok(text)
}

fn perf(arguments: &[&str]) -> Result<String, Error> {
    let mut command = Command::new("perf");
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(Error::io("start perf"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Child(format!(
            "perf {} failed (may this user look? see kernel.perf_event_paranoid): {}",
            arguments[0],
            text.trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
