//! The border between the fetcher and the system's sockets: connections by token, bytes in and out,
//! and what is ready. Edge-triggered epoll is one driver (`poll.rs`); a ring may stand beside it.

use super::wake::LoopWaker;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Non-blocking TCP connections and a queue of what happened to them.
///
/// `io::ErrorKind::WouldBlock` means "not now, an event will come"; only [`Driver::wait`] waits.
pub trait Driver {
    /// A connection, open or being made. Given back through [`Driver::close`].
    type Connection;

    /// Begins to connect. Events carry `token`. The first [`Driver::send`] that answers anything
    /// but `WouldBlock` tells whether it succeeded.
    ///
    /// # Errors
    /// No socket could be had, or the system refused at once; nothing is left open.
    fn connect(&mut self, token: u64, address: SocketAddr) -> Result<Self::Connection, OpenError>;

    /// Sends a part of `bytes`, at least one byte, and says how many.
    ///
    /// # Errors
    /// `WouldBlock`; or the connection failed, or never came about.
    fn send(&mut self, connection: &mut Self::Connection, bytes: &[u8]) -> io::Result<usize>;

    /// What has arrived, lent until the next call.
    ///
    /// # Errors
    /// `WouldBlock`; or the connection failed.
    fn receive(&mut self, connection: &mut Self::Connection) -> io::Result<Received<'_>>;

    /// Whether an idle connection has neither data nor an end waiting, so that it can be used.
    fn is_quiet(&mut self, connection: &mut Self::Connection) -> bool;

    /// Closes. Events of its token may still be queued.
    fn close(&mut self, connection: Self::Connection);

    /// Appends what happened since the last call, at most [`EVENTS_MAX`]; never waits.
    ///
    /// # Errors
    /// The queue itself failed; the shard can't go on.
    fn events(&mut self, events: &mut Vec<Event>) -> io::Result<()>;

    /// Lets go what the calls so far only queued; [`Driver::events`] and [`Driver::wait`] do too.
    ///
    /// # Errors
    /// The queue itself failed; the shard can't go on.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Waits until woken by [`Driver::waker`], until `timeout` (`None`: for ever; to the
    /// nanosecond, as far as the kernel's timer slack goes) or, if `wake_on_readable`, until there
    /// are events. May end early.
    ///
    /// # Errors
    /// The system can't wait: no memory.
    fn wait(&mut self, timeout: Option<Duration>, wake_on_readable: bool) -> io::Result<()>;

    /// Ends the present or the next [`Driver::wait`], from any thread.
    fn waker(&self) -> Arc<LoopWaker>;

    /// Memory of its buffers, in bytes; connections have none of their own.
    fn memory_bytes(&self) -> usize;
}

/// Most events given by one call of [`Driver::events`].
pub const EVENTS_MAX: usize = 1024;

/// Something happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// As given to [`Driver::connect`].
    pub token: u64,
    /// The peer closed its side, or the connection failed: there is something to read, if only
    /// the end.
    pub closed: bool,
    /// There may be data.
    pub readable: bool,
}

/// Bytes that arrived: `buffer[start..end]`; what stands before them is free for use.
#[derive(Debug)]
pub struct Received<'a> {
    /// The driver's receive buffer.
    pub buffer: &'a mut [u8],
    /// Where the bytes begin.
    pub start: usize,
    /// Where they end; equal to `start`: the peer has closed its side.
    pub end: usize,
    /// When the last of them arrived, in ns since the Unix epoch, if the system said so.
    pub arrival_unix_ns: Option<i64>,
    /// Nothing more was there: an event tells of what comes later.
    pub drained: bool,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// No socket: `errno` of socket(2) or of its registration.
    Socket(i32),
    /// connect(2) failed at once: its `errno`.
    Connect(i32),
}
