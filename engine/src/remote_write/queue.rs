//! One endpoint's queue in one shard: records of the log -> requests, answers -> a cursor.
//!
//! A state machine without I/O, clock and waiting: the shard's loop calls `poll` with what it reads
//! from and how many requests it may start, hands the requests on, and gives answers back to
//! `on_result`. There is no queue of samples: what is not in a batch is still in the log.
//!
//! **Runs on**: shard. **Invariants**: see `window`; per target, samples are put in requests in
//! log order, and the next request with a target goes when the one before has ended.
//!
//! **When a batch goes**: at `samples_per_send_max` samples or 8 MiB uncompressed; else
//! `batch_send_deadline_ms` after its first sample, or already after 200 ms if it is worth a
//! request, 64 KiB uncompressed. Then it also needs a free request and no shared target;
//! until it has them it goes on filling.
//!
//! **Units**: a record is put in a batch as a whole, or in slices at fixed positions if it has more
//! than `samples_per_send_max` samples. The same slices come out after a restart, so each of them
//! has arrived as a whole or not at all.

use super::batch::OpenBatch;
use super::derive::Deriver;
use super::fill::{Filled, PENDING_MS};
use super::metadata::Metadata;
use super::offer::Offer;
use super::request::{Compression, Compressor, Form, Message};
use super::retry::Backoff;
use super::source::LogSource;
use super::stats::{DropCause, QueueStats};
use super::window::{RequestId, State, Window};
use crate::config::Endpoint;
use ahash::AHashMap;
use bytes::Bytes;
use ringscrape_wal::scrape::Position;
use std::sync::Arc;

/// The first metadata goes this long after the start, or after the interval if that is shorter.
const METADATA_FIRST_MS: u64 = 10_000;
/// A cursor is saved at most once a second, so after a crash more may have been sent than it says:
/// up to the end of its segment, and this many bytes of the next.
const SENT_AFTER_SAVE_BYTES: u32 = 32 << 20;
/// Requests a second, saved up, that the search for refused series may use at once.
pub(super) const ISOLATION_BURST: f64 = 5.0;
/// How long batches go soon after targets have moved: their last records may not be read yet.
const HURRY_MS: u64 = 2_000;
/// Notices kept until they are taken.
const NOTICES_MAX: usize = 32;

/// The two clocks of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Of a clock that never steps; deadlines and pauses are measured with it.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch; ages of samples are measured with it.
    pub unix_ms: i64,
}

/// Where a queue begins, and what it sends to.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// The endpoint's settings.
    pub endpoint: Arc<Endpoint>,
    /// The cursor: everything before is acknowledged. For a new endpoint the end of the log.
    pub low_water: Position,
    /// The cursor: end of the latest record ever put in a request.
    pub highest_sent: Position,
    /// Where the log of this run of the process begins: nothing after it was sent by a former run.
    pub run_start: Position,
    /// Requests a second that the search for refused series may use: 5 for an endpoint, divided by
    /// the number of shards.
    pub isolation_requests_per_s: f64,
}

/// A request to send.
#[derive(Debug, Clone)]
pub struct Request {
    /// To be given back with the answer.
    pub id: RequestId,
    /// The body: a message, compressed.
    pub body: Bytes,
    /// Which and how.
    pub form: Form,
    /// Attempts at the same body before this one: the `Retry-Attempt` header if not 0.
    pub attempt: u32,
    /// Samples in it; 0 for metadata.
    pub samples: u32,
}

/// What a `poll` left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Polled {
    /// There is more to read: poll again in this or the next tick.
    pub more: bool,
    /// The log was read to its end. With `is_drained` that means: everything is acknowledged.
    pub at_end: bool,
    /// Monotonic time at which something is due without any answer or new record.
    pub wake_at_ms: Option<u64>,
}

/// Something an operator should read, at most a few a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The receiver takes no request like ours; sending is tried again every 30 s.
    ConfigFault {
        /// Its status code.
        code: u16,
        /// What it said.
        reason: String,
    },
    /// The receiver does not answer, or says that it can't now; requests are repeated.
    Retrying {
        /// The latest answer: status and reason, or what went wrong.
        answer: String,
    },
    /// After `Retrying`: the receiver takes requests again.
    Recovered,
    /// The receiver does not take 2.0 messages: the request is sent again as 1.0, and so are those
    /// after it.
    FellBack {
        /// Status and reason.
        answer: String,
    },
    /// The receiver says that it has not written all of a request.
    NotWritten {
        /// How many samples it has not written.
        samples: u32,
        /// How many there were.
        of: u32,
        /// Status and reason.
        answer: String,
    },
    /// Samples were given up.
    Dropped {
        /// Why.
        cause: DropCause,
        /// How many.
        samples: u32,
        /// One of their series.
        series: String,
        /// The answer: status and reason.
        answer: String,
    },
}

/// One endpoint's queue in one shard.
#[derive(Debug)]
pub struct ShardQueue {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) deriver: Deriver,
    pub(super) metadata: Metadata,
    pub(super) compressor: Compressor,
    pub(super) offer: Offer,
    /// Where reading goes on: a record's position, or the end of one.
    pub(super) read: Position,
    /// Positions of the record at `read` that are in batches already.
    pub(super) read_slice: u32,
    pub(super) highest_sent: Position,
    /// Records before it may have been sent by a former run.
    pub(super) resend_end: Position,
    pub(super) open: OpenBatch,
    pub(super) window: Window,
    next_request: u64,
    /// Samples in a full batch; lowered by 413.
    pub(super) samples_per_send: u32,
    /// Nothing is sent before this monotonic time.
    pub(super) paused_until_ms: u64,
    metadata_due_ms: Option<u64>,
    metadata_ready: Vec<(Bytes, u32)>,
    pub(super) metadata_in_flight: Option<(RequestId, u32)>,
    pub(super) flushing: bool,
    /// Until this monotonic time small batches do not wait for more.
    hurried_until_ms: u64,
    /// It is before that time.
    pub(super) is_hurried: bool,
    pub(super) isolation_tokens: f64,
    isolation_tokens_at_ms: u64,
    isolation_requests_per_s: f64,
    /// Hashes of label bytes that were refused lately, with the time they are forgotten.
    pub(super) suspects: AHashMap<u64, u64>,
    pub(super) notices: Vec<Notice>,
    /// `Retrying` was noticed and `Recovered` not yet: when it may be noticed again.
    pub(super) retrying_until_ms: Option<u64>,
    /// `FellBack` was noticed.
    pub(super) fell_back: bool,
    /// `NotWritten` is not noticed before this monotonic time.
    pub(super) unwritten_quiet_until_ms: u64,
    pub(super) stats: QueueStats,
}

impl ShardQueue {
    /// A queue that goes on at the cursor.
    pub fn new(options: QueueOptions, now: Now) -> Self {
        let endpoint = options.endpoint;
        let sent_end = Position {
            segment: options.highest_sent.segment + 1,
            offset: SENT_AFTER_SAVE_BYTES,
        };
        let interval_ms = endpoint.metadata_interval_ms.clamp(1, METADATA_FIRST_MS);
        let metadata_due_ms = endpoint
            .send_metadata
            .then_some(now.monotonic_ms + interval_ms);
        Self {
            deriver: Deriver::new(&endpoint),
            metadata: Metadata::default(),
            compressor: Compressor::new(),
            offer: Offer::new(&endpoint),
            read: options.low_water,
            read_slice: 0,
            highest_sent: options.highest_sent,
            resend_end: sent_end.min(options.run_start).max(options.highest_sent),
            open: OpenBatch::default(),
            window: Window::default(),
            next_request: 0,
            samples_per_send: endpoint.queue.samples_per_send_max.max(1),
            paused_until_ms: 0,
            metadata_due_ms,
            metadata_ready: Vec::new(),
            metadata_in_flight: None,
            flushing: false,
            hurried_until_ms: 0,
            is_hurried: false,
            isolation_tokens: ISOLATION_BURST,
            isolation_tokens_at_ms: now.monotonic_ms,
            isolation_requests_per_s: options.isolation_requests_per_s,
            suspects: AHashMap::new(),
            notices: Vec::new(),
            retrying_until_ms: None,
            fell_back: false,
            unwritten_quiet_until_ms: 0,
            stats: QueueStats::default(),
            endpoint,
        }
    }

    /// Reads, encodes and gives requests to send: at most `requests_free`, appended to `out`.
    ///
    /// Work is bounded: about 10,000 samples are encoded and a batch or two compressed.
    pub fn poll<S: LogSource>(
        &mut self,
        source: &mut S,
        now: Now,
        requests_free: u32,
        out: &mut Vec<Request>,
    ) -> Polled {
        self.refill_isolation(now);
        self.is_hurried = now.monotonic_ms < self.hurried_until_ms;
        let mut free = requests_free;
        if now.monotonic_ms < self.paused_until_ms {
            free = 0;
        }
        let later_due = self.send_due(now, &mut free, out);
        self.send_metadata(now, &mut free, out);
        let filled = self.fill(source, now, &mut free, out);
        if self.close_is_due(now) {
            self.close(now, &mut free, out);
        }
        let mut wake_at_ms = later_due;
        let mut wake = |at_ms: Option<u64>| {
            wake_at_ms = match (wake_at_ms, at_ms) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        };
        wake(self.metadata_due_ms);
        // A deadline that has passed is no time to wake at: what keeps the batch from going
        // then, an answer or a pause, has its own.
        let deadline_ms = (!self.open.is_empty()).then(|| self.open_deadline_ms());
        wake(deadline_ms.filter(|at_ms| *at_ms > now.monotonic_ms));
        wake((self.paused_until_ms > now.monotonic_ms).then_some(self.paused_until_ms));
        wake((filled == Filled::Pending).then_some(now.monotonic_ms + PENDING_MS));
        Polled {
            more: filled == Filled::More,
            at_end: filled == Filled::AtEnd,
            wake_at_ms,
        }
    }

    /// Where the endpoint stands: `low_water` and `highest_sent` of its cursor.
    pub fn cursor(&self) -> (Position, Position) {
        let unread = if self.open.is_empty() {
            self.read
        } else {
            self.open.first
        };
        let low_water = self.window.oldest().unwrap_or(unread);
        (low_water, self.highest_sent)
    }

    /// Everything that was read is acknowledged: goes on in another log, at its cursor. Nothing
    /// after `run_start` was sent by a former run.
    pub fn go_on_in(&mut self, cursor: (Position, Position), run_start: Position) {
        let (low_water, highest_sent) = cursor;
        let sent_end = Position {
            segment: highest_sent.segment + 1,
            offset: SENT_AFTER_SAVE_BYTES,
        };
        self.read = low_water;
        self.read_slice = 0;
        self.highest_sent = highest_sent;
        self.resend_end = sent_end.min(run_start).max(highest_sent);
    }

    /// From now on a batch goes as soon as there is nothing to read: call before a stop, and go on
    /// polling until `is_drained` or the deadline. What is not acknowledged then stays in the log.
    pub fn flush(&mut self) {
        self.flushing = true;
    }

    /// For a while batches go soon, however small: targets move to another node, which is going to
    /// send their next samples.
    pub fn hurry(&mut self, now: Now) {
        self.hurried_until_ms = now.monotonic_ms + HURRY_MS;
    }

    /// Everything that was read is acknowledged.
    pub fn is_drained(&self) -> bool {
        self.open.is_empty() && self.window.active().is_empty()
    }

    /// New settings for the same identity. What is encoded already goes as it is, and at once:
    /// what it waited for may be what has changed.
    pub fn reconfigure(&mut self, endpoint: Arc<Endpoint>, now: Now) {
        let before = &self.endpoint;
        if before.external_labels != endpoint.external_labels
            || before.write_relabel_configs != endpoint.write_relabel_configs
        {
            self.deriver = Deriver::new(&endpoint);
        }
        self.samples_per_send = endpoint.queue.samples_per_send_max.max(1);
        self.paused_until_ms = 0;
        self.offer = Offer::new(&endpoint);
        self.fell_back = false;
        for sequence in self.window.active().to_vec() {
            let batch = self.window.get_mut(sequence);
            batch.backoff =
                Backoff::new(endpoint.queue.backoff_min_ms, endpoint.queue.backoff_max_ms);
            if let State::Due(due_ms) = &mut batch.state {
                *due_ms = now.monotonic_ms;
            }
        }
        let interval_ms = endpoint.metadata_interval_ms.clamp(1, METADATA_FIRST_MS);
        self.metadata_due_ms = endpoint
            .send_metadata
            .then(|| now.monotonic_ms + interval_ms);
        self.endpoint = endpoint;
    }

    /// Counters and gauges.
    pub fn stats(&self) -> QueueStats {
        let active = || self.window.active().iter().map(|at| self.window.get(*at));
        let mut stats = self.stats.clone();
        let pieces = active().flat_map(|batch| &batch.pieces);
        stats.samples_pending =
            pieces.map(|piece| u64::from(piece.series)).sum::<u64>() + u64::from(self.open.samples);
        stats.requests_in_flight = active()
            .filter(|batch| matches!(batch.state, State::InFlight(_)))
            .count() as u32
            + u32::from(self.metadata_in_flight.is_some());
        stats.batches_pending = self.window.active().len() as u32;
        stats.samples_per_send = self.samples_per_send;
        stats.form = self.offer.form();
        let open = (!self.open.is_empty()).then_some(self.open.timestamp_ms_oldest);
        stats.timestamp_ms_oldest_pending = active()
            .map(|batch| batch.timestamp_ms_oldest)
            .chain(open)
            .min();
        stats
    }

    /// What an operator should read since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(notice);
        }
    }

    fn refill_isolation(&mut self, now: Now) {
        let elapsed_ms = now.monotonic_ms.saturating_sub(self.isolation_tokens_at_ms);
        self.isolation_tokens_at_ms = now.monotonic_ms;
        let refill = elapsed_ms as f64 / 1_000.0 * self.isolation_requests_per_s;
        self.isolation_tokens = (self.isolation_tokens + refill).min(ISOLATION_BURST);
    }

    /// Sends what waits for its time: retries and further pieces. Returns when the next is due.
    fn send_due(&mut self, now: Now, free: &mut u32, out: &mut Vec<Request>) -> Option<u64> {
        let mut next_due_ms: Option<u64> = None;
        let active = self.window.active().to_vec();
        for sequence in active {
            let State::Due(due_ms) = self.window.get(sequence).state else {
                continue;
            };
            if due_ms > now.monotonic_ms {
                next_due_ms = Some(next_due_ms.map_or(due_ms, |next| next.min(due_ms)));
            } else if self.is_too_old(sequence, now) {
                self.drop_batch(sequence, DropCause::TooOld);
            } else if *free > 0 {
                if let Some(later_ms) = self.isolation_wait(sequence, now) {
                    next_due_ms = Some(next_due_ms.map_or(later_ms, |next| next.min(later_ms)));
                    continue;
                }
                *free -= 1;
                self.start(sequence, out);
            }
        }
        next_due_ms
    }

    /// Puts the first piece of a batch on its way.
    pub(super) fn start(&mut self, sequence: u64, out: &mut Vec<Request>) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let batch = self.window.get_mut(sequence);
        let piece = batch
            .pieces
            .front_mut()
            .expect("BUG: an empty batch is active");
        // What is ready in a form that turned out not to be taken.
        let form = self.offer.form();
        if form.compression == Compression::Snappy || form.message == Message::V1 {
            piece.transform(form, &mut self.compressor);
        }
        self.stats.bytes_sent += piece.body.len() as u64;
        if batch.attempt > 0 {
            self.stats.samples_retried += u64::from(piece.series);
        }
        out.push(Request {
            id,
            body: piece.body.clone(),
            form: piece.form,
            attempt: batch.attempt,
            samples: piece.series,
        });
        batch.state = State::InFlight(id);
    }

    fn is_too_old(&self, sequence: u64, now: Now) -> bool {
        self.timestamp_ms_min(now)
            .is_some_and(|min| self.window.get(sequence).timestamp_ms_newest < min)
    }

    pub(super) fn timestamp_ms_min(&self, now: Now) -> Option<i64> {
        let limit_ms = self.endpoint.queue.sample_age_limit_ms;
        (limit_ms > 0).then(|| now.unix_ms.saturating_sub_unsigned(limit_ms))
    }

    fn send_metadata(&mut self, now: Now, free: &mut u32, out: &mut Vec<Request>) {
        if self
            .metadata_due_ms
            .is_some_and(|due| due <= now.monotonic_ms)
        {
            let interval_ms = match self.metadata.is_empty() {
                // What is scraped seldom has not come yet: soon after a start it is to be there.
                true => self
                    .endpoint
                    .metadata_interval_ms
                    .clamp(1, METADATA_FIRST_MS),
                false => self.endpoint.metadata_interval_ms.max(1),
            };
            self.metadata_due_ms = Some(now.monotonic_ms + interval_ms);
            // What the last round left unsent is superseded.
            self.metadata_ready.clear();
            self.metadata.end_round();
            // In 2.0 it goes with the series.
            let requests = match self.offer.form().message {
                Message::V1 => self.metadata.requests(),
                Message::V2 => Vec::new(),
            };
            for (raw, families) in requests {
                // Seldom and small: not worth an offer of its own.
                let body = self.compressor.compress(&raw, Compression::Snappy);
                self.metadata_ready.push((body, families));
            }
        }
        if *free == 0 || self.metadata_in_flight.is_some() {
            return;
        }
        if let Some((body, families)) = self.metadata_ready.pop() {
            *free -= 1;
            let id = RequestId(self.next_request);
            self.next_request += 1;
            self.metadata_in_flight = Some((id, families));
            self.stats.bytes_sent += body.len() as u64;
            out.push(Request {
                id,
                body,
                form: Form::v1(Compression::Snappy),
                attempt: 0,
                samples: 0,
            });
        }
    }
}
