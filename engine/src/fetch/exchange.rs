//! One scrape in flight: bytes of its responses -> windows for the sink, and what to do next.
//!
//! Knows no socket: it is given what arrived and says how it goes on.

use super::body::Body;
use super::content_type;
use super::error::{FetchError, Phase};
use super::pool::BodyPool;
use super::redirect::{self, Hop};
use super::request::FetchRequest;
use super::response::{Encoding, Framing, Head, ResponseError, ResponseReader, Step};
use super::{BodySink, FetchStats, Now};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// Most bytes read of a body that is not wanted, to keep its connection.
const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// What an exchange waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Resolving,
    Connecting,
    /// This many bytes of the request are sent.
    Sending(usize),
    Receiving,
}

/// How an exchange goes on after some bytes.
#[derive(Debug)]
pub(super) enum Flow {
    /// All bytes are used, more are to come.
    NeedMore,
    /// The turn's budget is used up; from here on the bytes are still to be worked on.
    Paused(usize),
    /// As `Paused`, with no bytes left: the response is there to its end, not all of it worked on.
    Finishing,
    /// The response has ended; whether the connection may be used again.
    Ended { keep_alive: bool },
}

/// Where the body of the present response goes.
#[derive(Debug)]
enum Destination {
    /// The head is not there yet.
    Unknown,
    Sink(Body),
    /// Read for the connection's sake, then this.
    Drain {
        left: usize,
        then: Verdict,
    },
}

/// What a response that is not wanted leads to.
#[derive(Debug)]
pub(super) enum Verdict {
    Fail(FetchError),
    Redirect(Hop),
}

/// One scrape in flight.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) request: Arc<FetchRequest>,
    pub(super) addresses: Arc<[SocketAddr]>,
    /// Index of the address tried first and how many were tried since.
    pub(super) first_address: usize,
    pub(super) tried: usize,
    /// Error of the first address.
    pub(super) connect_error: Option<FetchError>,
    pub(super) stage: Stage,
    /// The connection has served a request before.
    pub(super) reused: bool,
    /// A lost connection was already replaced.
    pub(super) retried: bool,
    /// The peer was seen to close its side.
    pub(super) peer_closed: bool,
    /// Whether it is one of the bounded number of responses being read.
    pub(super) has_slot: bool,
    pub(super) queued_for_slot: bool,
    /// Requests made, redirects included.
    pub(super) requests: u8,
    /// Received but not worked on yet.
    pub(super) pending: Vec<u8>,
    /// Part of the pool's count of pending bytes.
    pub(super) pending_counted: usize,
    /// The response is there to its end, not all of it worked on.
    pub(super) is_finishing: bool,
    started: Now,
    last_arrival_unix_ns: Option<i64>,
    /// Received for it, heads and redirects included.
    pub(super) wire_bytes: u64,
    reader: ResponseReader,
    keep_alive: bool,
    status: u16,
    destination: Destination,
}

impl Exchange {
    pub(super) fn new(
        request: Arc<FetchRequest>,
        addresses: Arc<[SocketAddr]>,
        started: Now,
    ) -> Exchange {
        Exchange {
            request,
            addresses,
            first_address: 0,
            tried: 0,
            connect_error: None,
            stage: Stage::Connecting,
            reused: false,
            retried: false,
            peer_closed: false,
            has_slot: false,
            queued_for_slot: false,
            requests: 1,
            pending: Vec::new(),
            pending_counted: 0,
            is_finishing: false,
            started,
            last_arrival_unix_ns: None,
            wire_bytes: 0,
            reader: ResponseReader::default(),
            keep_alive: false,
            status: 0,
            destination: Destination::Unknown,
        }
    }

    /// The address in use or to be tried next; `None`: all were tried.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let len = self.addresses.len();
        (self.tried < len).then(|| self.addresses[(self.first_address + self.tried) % len])
    }

    /// Whether a byte of the present response has come.
    pub(super) fn has_response(&self) -> bool {
        self.reader.has_started()
    }

    /// How far it has come, for errors.
    pub(super) fn phase(&self) -> Phase {
        match (self.stage, &self.destination) {
            (Stage::Resolving, _) => Phase::Resolve,
            (Stage::Connecting, _) => match self.address().or(self.addresses.last().copied()) {
                Some(address) => Phase::Connect(address),
                None => Phase::Resolve,
            },
            (Stage::Sending(_), _) => Phase::Send,
            _ if self.queued_for_slot => Phase::Queue,
            (_, Destination::Sink(body)) => Phase::Body {
                body_bytes: body.bytes_so_far(),
            },
            (_, Destination::Drain { .. }) => Phase::Body { body_bytes: 0 },
            _ if self.has_response() => Phase::Head,
            _ => Phase::Wait,
        }
    }

    /// Works on `buffer[received]`, which stands for the whole of what is received and not
    /// worked on. `arrival_unix_ns`: when its last byte arrived.
    pub(super) fn receive<S: BodySink>(
        &mut self,
        id: u32,
        buffer: &mut [u8],
        received: Range<usize>,
        pool: &mut BodyPool,
        head: &mut Head,
        sink: &mut S,
    ) -> Result<Flow, FetchError> {
        let (mut start, end) = (received.start, received.end);
        let mut rest = 0..0;
        loop {
            let step = match self.reader.step(&buffer[..end], &mut start, head) {
                Ok(step) => step,
                Err(error) => return Err(self.response_error(error)),
            };
            match step {
                Step::Head => self.begin_body(id, head, pool, sink)?,
                Step::Body(range) => match &mut self.destination {
                    Destination::Sink(body) => {
                        let (from, len) = (range.start, range.len());
                        let used = body.feed(id, buffer, range, &mut rest, pool, sink)?;
                        if used < len {
                            self.reader.unread(len - used);
                            body.keep(buffer, rest, pool)?;
                            return Ok(Flow::Paused(from + used));
                        }
                    }
                    Destination::Drain { left, .. } if *left < range.len() => {
                        return Ok(Flow::Ended { keep_alive: false });
                    }
                    Destination::Drain { left, .. } => *left -= range.len(),
                    Destination::Unknown => {}
                },
                Step::NeedMore => {
                    if let Destination::Sink(body) = &mut self.destination {
                        body.keep(buffer, rest, pool)?;
                    }
                    return Ok(Flow::NeedMore);
                }
                Step::End => {
                    // Bytes behind a response answer nothing that was asked.
                    self.keep_alive &= start == end;
                    return self.finish(id, buffer, rest, pool, sink);
                }
            }
        }
    }

    /// The peer closed its side after all that was received.
    pub(super) fn closed<S: BodySink>(
        &mut self,
        id: u32,
        pool: &mut BodyPool,
        sink: &mut S,
    ) -> Result<Flow, FetchError> {
        self.peer_closed = true;
        match self.reader.closed() {
            Ok(()) => {}
            // The status says enough; what its body lacks matters to nobody.
            Err(ResponseError::BodyTruncated)
                if matches!(self.destination, Destination::Drain { .. }) => {}
            Err(error) => return Err(self.response_error(error)),
        }
        self.finish(id, &[], 0..0, pool, sink)
    }

    /// The response is complete; `rest` of the buffer is the last of its body.
    fn finish<S: BodySink>(
        &mut self,
        id: u32,
        buffer: &[u8],
        rest: Range<usize>,
        pool: &mut BodyPool,
        sink: &mut S,
    ) -> Result<Flow, FetchError> {
        if let Destination::Sink(body) = &mut self.destination
            && !body.finish(id, buffer, rest, pool, sink)?
        {
            self.is_finishing = true;
            return Ok(Flow::Finishing);
        }
        let keep_alive = self.keep_alive && !self.peer_closed;
        Ok(Flow::Ended { keep_alive })
    }

    /// Notes bytes received.
    pub(super) fn note_received(&mut self, bytes: usize, arrival_unix_ns: Option<i64>) {
        self.wire_bytes += bytes as u64;
        self.last_arrival_unix_ns = arrival_unix_ns;
    }

    /// The outcome of an ended response; nothing: the sink has had its body.
    pub(super) fn take_verdict(&mut self) -> Option<Verdict> {
        match std::mem::replace(&mut self.destination, Destination::Unknown) {
            Destination::Drain { then, .. } => Some(then),
            kept => {
                self.destination = kept;
                None
            }
        }
    }

    /// Ready for the response to another request, or to the same one on another connection.
    pub(super) fn expect_response(&mut self, pool: &mut BodyPool) {
        self.release(pool);
        self.reader = ResponseReader::default();
        self.keep_alive = false;
        self.peer_closed = false;
        self.is_finishing = false;
    }

    /// Figures of a scrape that ends now.
    pub(super) fn stats(&self, now: Now) -> FetchStats {
        let elapsed = now.monotonic_ns.saturating_sub(self.started.monotonic_ns);
        // The kernel's time and ours come from one clock, but it may have been set meanwhile.
        let duration_ns = self
            .last_arrival_unix_ns
            .and_then(|arrival| u64::try_from(arrival - self.started.unix_ns).ok())
            .map_or(elapsed, |duration| duration.min(elapsed));
        FetchStats {
            status: self.status,
            wire_bytes: self.wire_bytes,
            body_bytes: match &self.destination {
                Destination::Sink(body) => body.body_bytes(),
                _ => 0,
            },
            duration_ns,
            connection_reused: self.reused,
        }
    }

    /// Gives back what it holds of the pool.
    pub(super) fn release(&mut self, pool: &mut BodyPool) {
        pool.give_buffer(std::mem::take(&mut self.pending));
        pool.count_pending(&mut self.pending_counted, 0);
        if let Destination::Sink(body) =
            std::mem::replace(&mut self.destination, Destination::Unknown)
        {
            body.release(pool);
        }
    }

    /// Decides from the head where the body goes.
    fn begin_body<S: BodySink>(
        &mut self,
        id: u32,
        head: &Head,
        pool: &mut BodyPool,
        sink: &mut S,
    ) -> Result<(), FetchError> {
        self.status = head.status;
        self.keep_alive = head.keep_alive;
        let settings = self.request.settings();
        let unwanted = if head.status == 200 {
            match head.encoding {
                Encoding::Unsupported(name) => Verdict::Fail(FetchError::ContentEncoding(name)),
                encoding => {
                    let dialect = content_type::dialect(
                        &head.content_type,
                        settings.fallback_scrape_protocol,
                    );
                    if let Ok(dialect) = dialect {
                        sink.head(id, dialect)?;
                    }
                    let received_bytes = match head.framing {
                        Framing::Length(bytes) => bytes,
                        _ => 0,
                    };
                    self.destination = Destination::Sink(Body::new(
                        dialect,
                        encoding == Encoding::Gzip,
                        received_bytes,
                        settings.body_size_limit_bytes,
                        pool,
                    ));
                    return Ok(());
                }
            }
        } else if settings.follow_redirects
            && redirect::is_redirect(head.status)
            && !head.location.is_empty()
        {
            match redirect::hop(&self.request, &head.location, self.requests) {
                Ok(hop) => Verdict::Redirect(hop),
                Err(error) => Verdict::Fail(error),
            }
        } else {
            Verdict::Fail(FetchError::Status {
                status: head.status,
                reason: head.reason.clone(),
            })
        };
        self.destination = Destination::Drain {
            left: DRAIN_BYTES_MAX,
            then: unwanted,
        };
        Ok(())
    }

    fn response_error(&self, error: ResponseError) -> FetchError {
        FetchError::Response {
            error,
            phase: self.phase(),
        }
    }
}
