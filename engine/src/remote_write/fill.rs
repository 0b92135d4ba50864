//! Records of the log -> the open batch -> a request, when it is full or has waited long enough.
//!
//! The part of the queue that reads. Rules: see `queue`.

use super::batch::Added;
use super::construct::Template;
use super::encode::{Options, positions};
use super::queue::{Now, Request, ShardQueue};
use super::request::Message;
use super::retry::Backoff;
use super::source::{LogSource, Next};
use super::stats::DropCause;
use crate::config::ProtobufMessage;
use ringscrape_wal::scrape::{Position, Scrape};

/// Uncompressed bytes at which a batch is full.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Uncompressed bytes that are worth a request of their own.
const BATCH_BYTES_WORTH: usize = 64 << 10;
/// How long a batch of that size waits for more.
const WORTH_DEADLINE_MS: u64 = 200;
/// Samples that one `poll` reads, about: so that a shard is not held.
const POLL_SAMPLES_MAX: u32 = 10_000;
/// Reads of the log in one `poll`, those of other routes' records included.
const POLL_READS_MAX: u32 = 1_024;
/// Batches that are made while the receiver takes nothing: what is in the log costs no memory.
const BATCHES_IN_OUTAGE_MAX: usize = 4;
/// Pause after the log had something that it could not give yet.
pub(super) const PENDING_MS: u64 = 100;

/// What reading left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// All was read.
    AtEnd,
    /// There is no room: wait for an answer or a deadline.
    NoRoom,
    /// There is more, and room for it.
    More,
    /// There is more, which cannot be read yet.
    Pending,
}

impl ShardQueue {
    /// Reads records into the open batch and sends full ones.
    pub(super) fn fill<S: LogSource>(
        &mut self,
        source: &mut S,
        now: Now,
        free: &mut u32,
        out: &mut Vec<Request>,
    ) -> Filled {
        let mut samples_left = POLL_SAMPLES_MAX;
        for _ in 0..POLL_READS_MAX {
            if self.open.full && !self.close(now, free, out) {
                return Filled::NoRoom;
            }
            if samples_left == 0 {
                return Filled::More;
            }
            match source.next(self.read) {
                Next::End => return Filled::AtEnd,
                Next::Pending => return Filled::Pending,
                Next::Skip { next } => {
                    debug_assert!(next > self.read);
                    self.read = next;
                    self.read_slice = 0;
                }
                Next::Record(entry) => {
                    let samples = self.add(entry.position, entry.end, &entry.scrape, now);
                    // A record without samples costs about as much as ten samples.
                    samples_left = samples_left.saturating_sub(samples.max(10));
                }
            }
        }
        Filled::More
    }

    /// Adds the record, or the next slice of it, to the open batch, unless it does not fit.
    /// Returns the positions looked at.
    fn add(&mut self, position: Position, end: Position, scrape: &Scrape, now: Now) -> u32 {
        if self.endpoint.send_metadata {
            self.metadata.observe(&scrape.layout);
        }
        if position != self.read {
            self.read = position;
            self.read_slice = 0;
        }
        let total = positions(scrape);
        let from = self.read_slice.min(total);
        let slice_len = self.endpoint.queue.samples_per_send_max.max(1);
        let to = total.min(from.saturating_add(slice_len));
        let fits = |samples: u32| samples <= self.samples_per_send;
        let was_empty = self.open.is_empty();
        let target = self.deriver.target(&scrape.target);
        if !was_empty && !fits(self.open.samples + (to - from)) {
            // Write relabelling may leave less.
            let kept = self.deriver.kept(scrape, &target, from..to);
            if kept > 0 && !fits(self.open.samples + kept) {
                self.open.full = true;
                return 0;
            }
        }
        if was_empty {
            self.open.request.set_form(self.offer.form());
        }
        let options = Options {
            exemplars: self.endpoint.send_exemplars,
            without_histograms: self.endpoint.protobuf_message == ProtobufMessage::Version1
                && !self.endpoint.send_native_histograms,
            timestamp_ms_min: self.timestamp_ms_min(now),
            bytes_max: BATCH_BYTES_MAX,
        };
        let deriver = &mut self.deriver;
        let uses_edits = self.open.request.uses_edits();
        let second = self.open.request.form().message == Message::V2;
        let known = self.endpoint.send_metadata.then_some(&self.metadata);
        let counts = self
            .open
            .request
            .encode(scrape, &target.labels, from..to, options, |block| {
                if uses_edits {
                    return deriver.template(block, &target);
                }
                Template {
                    block: deriver.block(block, &target),
                    references: second
                        .then(|| deriver.references(block, &target, known))
                        .flatten(),
                    edits: None,
                }
            });
        if counts.samples > 0 {
            self.open.add(Added {
                target_key: scrape.target.key,
                position,
                end,
                samples: counts.samples,
                timestamp_ms: scrape.timestamp_ms,
                timestamp_ms_newest: counts.timestamp_ms_newest,
                now_ms: now.monotonic_ms,
            });
            self.open.full = self.open.samples >= self.samples_per_send
                || self.open.request.raw_len() >= BATCH_BYTES_MAX;
        }
        let stats = &mut self.stats;
        stats.histograms += u64::from(counts.histograms);
        stats.exemplars += u64::from(counts.exemplars);
        stats.drop_samples(DropCause::Relabelled, counts.relabel_dropped.into());
        stats.drop_samples(DropCause::TooOld, counts.too_old.into());
        stats.drop_samples(DropCause::Malformed, counts.malformed.into());
        if counts.end >= total {
            self.read = end;
            self.read_slice = 0;
        } else {
            self.read_slice = counts.end;
        }
        to - from
    }

    pub(super) fn open_deadline_ms(&self) -> u64 {
        let wait_ms = self.endpoint.queue.batch_send_deadline_ms;
        let worth = self.is_hurried || self.open.request.raw_len() >= BATCH_BYTES_WORTH;
        self.open.opened_ms
            + if worth {
                wait_ms.min(WORTH_DEADLINE_MS)
            } else {
                wait_ms
            }
    }

    pub(super) fn close_is_due(&self, now: Now) -> bool {
        !self.open.is_empty()
            && (self.open.full || self.flushing || self.open_deadline_ms() <= now.monotonic_ms)
    }

    /// Makes the open batch a request and sends it, if it may go now.
    pub(super) fn close(&mut self, now: Now, free: &mut u32, out: &mut Vec<Request>) -> bool {
        let mut batches_max = self.endpoint.queue.requests_in_flight_max.max(1) as usize;
        if self.retrying_until_ms.is_some() {
            batches_max = batches_max.min(BATCHES_IN_OUTAGE_MAX);
        }
        if *free == 0
            || self.window.active().len() >= batches_max
            || self.window.conflicts(&self.open)
        {
            return false;
        }
        self.stats.bytes_raw += self.open.request.raw_len() as u64;
        let pieces = self
            .open
            .take_pieces(self.samples_per_send, &mut self.compressor);
        self.highest_sent = self.highest_sent.max(self.open.end);
        let queue = &self.endpoint.queue;
        let backoff = Backoff::new(queue.backoff_min_ms, queue.backoff_max_ms);
        let sequence = self
            .window
            .push(&mut self.open, pieces, backoff, now.monotonic_ms);
        *free -= 1;
        self.start(sequence, out);
        true
    }
}
