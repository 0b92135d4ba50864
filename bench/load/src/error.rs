//! What went wrong in a load run -> one sentence that names the object and the cause.

use std::io;

/// Any failure of the load tool. Each message names what was tried, on what, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call, a socket or a file failed; `action` is what follows "cannot".
    #[error("cannot {action}: {source}")]
    Io {
        /// Verb and object, e.g. `listen on 127.0.0.1:9100`.
        action: String,
        /// The cause as the system gives it.
        source: io::Error,
    },
    /// The arguments contradict each other or ask for more than this process may have.
    #[error("{0}")]
    Invalid(String),
    /// A child process did not do what the run needs.
    #[error("{0}")]
    Child(String),
    /// A peer over HTTP answered something else than asked for.
    #[error("cannot read {url}: {reason}")]
    Http {
        /// What was asked.
        url: String,
        /// What came instead.
        reason: String,
    },
}

impl Error {
    /// Makes a closure for `map_err` from a verb phrase such as `write /tmp/sd.json`.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let action = action.into();
        move |source| Error::Io { action, source }
    }
}
