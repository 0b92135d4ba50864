//! Reports and notes -> standard output, standard error or a file; and a report back from a server.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::http::client;

/// Writes one line to standard error; a closed one is no reason to stop.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Writes text to standard output.
///
/// # Errors
/// `Io` when standard output is closed.
pub(crate) fn say(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::io("write to standard output"))
}

/// Writes a report as JSON to `path`, or to standard output without one.
///
/// # Errors
/// `Io` naming the file.
pub(crate) fn report(report: &impl Serialize, path: Option<&Path>) -> Result<(), Error> {
    let mut json = serde_json::to_string_pretty(report)
        .expect("BUG: a report has string keys and finite numbers");
    json.push('\n');
    match path {
        Some(path) => std::fs::write(path, json)
            .map_err(Error::io(format!("write the report to {}", path.display()))),
        None => say(&json),
    }
}

/// Fetches a report of a fleet or a sink.
///
/// # Errors
/// `Http` when it is not there or not what it should be.
pub(crate) fn fetch<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<T, Error> {
    let body = client::get(address, path)?;
    serde_json::from_slice(&body).map_err(|error| Error::Http {
        url: format!("http://{address}{path}"),
        reason: error.to_string(),
    })
}
