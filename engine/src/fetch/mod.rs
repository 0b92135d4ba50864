//! Targets and their requests -> bodies in uncompressed windows: the scrape client of one shard.
//!
//! **Upstream** the shard's loop says when a target is due and when its time is up; **downstream**
//! a [`BodySink`] takes the bodies. **Runs on** a shard, in its loop: nothing here has a task or a
//! thread, or reads a clock; [`Fetcher::poll`] does what can be done now, and only
//! [`Fetcher::wait`] waits.
//!
//! **Invariants**
//! 1. Every started fetch ends in exactly one [`BodySink::done`], unless its id is forgotten.
//! 2. An idle connection costs a file descriptor and an entry of the slab, no buffer.
//! 3. What a hostile server can make it hold is bounded by [`FetcherLimits`].
//!
//! **Not here**: resolving names (a system call that waits), TLS, HTTP/2.

mod body;
mod chunked;
pub mod content_type;
mod driver;
mod error;
mod exchange;
mod fetcher;
pub mod fuzz;
mod head;
pub mod inflate;
mod limits;
mod poll;
mod pool;
mod redirect;
mod request;
pub mod response;
mod ring;
mod socket;
#[cfg(test)]
mod tests;
mod wake;
mod whole;

pub use driver::{Driver, EVENTS_MAX, Event, OpenError, Received};
pub use error::{FetchError, Phase};
pub use fetcher::Fetcher;
pub use limits::{FetcherLimits, MemoryUse};
pub use poll::Epoll;
pub use request::{FetchRequest, RequestError, RequestSettings, accept};
pub use ring::Uring;
pub use wake::LoopWaker;

use crate::parse::Dialect;

/// Who takes the bodies. All calls come from within the fetcher's methods, for ids that were
/// started: `head`, then `window` until `last`, then `done`; after an error only `done`.
pub trait BodySink {
    /// A body in `dialect` begins.
    ///
    /// # Errors
    /// The body is not wanted: the fetch ends with this error.
    fn head(&mut self, id: u32, dialect: Dialect) -> Result<(), FetchError>;

    /// The next bytes of the uncompressed body. Returns how many are done with; the others are
    /// given again in front of those that follow. Called only if at least one `\n` is new in
    /// `bytes`, or with `last`, which comes once, at the end, and maybe with no bytes; what is
    /// returned then does not matter.
    ///
    /// A body whose content is refused but whose end matters (its size, whether it is complete) is
    /// taken to the end by returning `bytes.len()`.
    ///
    /// # Errors
    /// The rest is not wanted: the connection is closed and the fetch ends with this error.
    fn window(&mut self, id: u32, bytes: &[u8], last: bool) -> Result<usize, FetchError>;

    /// The fetch has ended. `Ok`: status 200, and `window` was called with `last`.
    fn done(&mut self, id: u32, result: Result<FetchStats, FetchError>);

    /// A redirect leads to another host: its name must be resolved, off the shard, and the
    /// addresses given to [`Fetcher::resolved`].
    fn need_address(&mut self, id: u32, host: &str, port: u16);
}

/// Figures of one fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchStats {
    /// Status of the last response: 200.
    pub status: u16,
    /// Bytes received, heads and redirects included.
    pub wire_bytes: u64,
    /// Bytes of the uncompressed body.
    pub body_bytes: u64,
    /// From the start of the fetch to the arrival of its last byte in this machine's kernel.
    pub duration_ns: u64,
    /// Whether a kept connection served it.
    pub connection_reused: bool,
}

/// The clocks at one moment, read by the caller once for each turn of its loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// A clock that only rises.
    pub monotonic_ns: u64,
    /// ns since the Unix epoch; may be set.
    pub unix_ns: i64,
}
