//! Batches that are read and not acknowledged: which targets they hold, and the low-water mark.
//!
//! **Invariants** (tests in `tests/queue.rs`): no two batches that may be on their way hold records
//! of one target, slices of one record excepted; the low-water mark never passes a record of a
//! batch that is not done.

use super::batch::{OpenBatch, Piece, Span};
use super::retry::Backoff;
use ahash::AHashMap;
use ringscrape_wal::scrape::Position;
use std::collections::VecDeque;

/// Number of a request, unique in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RequestId(pub u64);

/// What a batch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its first piece goes at this monotonic time.
    Due(u64),
    /// The answer to this request.
    InFlight(RequestId),
}

/// The search for what a receiver refuses in a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Isolation {
    /// Requests sent for it.
    pub(super) requests: u32,
    /// Monotonic time at which it is given up.
    pub(super) until_ms: u64,
    /// Series that were refused lately have been put aside.
    pub(super) suspects_tried: bool,
}

/// A batch that is not done.
#[derive(Debug)]
pub(super) struct Batch {
    /// What is left, in order; only the first is ever on its way.
    pub(super) pieces: VecDeque<Piece>,
    pub(super) state: State,
    /// Attempts at the first piece before this one.
    pub(super) attempt: u32,
    pub(super) backoff: Backoff,
    pub(super) isolation: Option<Isolation>,
    pub(super) timestamp_ms_oldest: i64,
    pub(super) timestamp_ms_newest: i64,
    targets: Vec<(u64, Span)>,
}

#[derive(Debug)]
struct Slot {
    first: Position,
    batch: Option<Batch>,
}

/// Batches in log order.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The front one is not done.
    slots: VecDeque<Slot>,
    /// Sequence number of the front slot.
    front: u64,
    /// Sequence numbers of batches that are not done, rising.
    active: Vec<u64>,
    /// Targets of active batches: how many batches, and which records.
    targets: AHashMap<u64, (u32, Span)>,
    /// The open batch was found to share a target, and nothing has ended since.
    blocked: bool,
}

impl Window {
    /// Sequence numbers of batches that are not done, oldest first.
    pub(super) fn active(&self) -> &[u64] {
        &self.active
    }

    pub(super) fn get(&self, sequence: u64) -> &Batch {
        let slot = &self.slots[(sequence - self.front) as usize];
        slot.batch.as_ref().expect("BUG: an active batch is done")
    }

    pub(super) fn get_mut(&mut self, sequence: u64) -> &mut Batch {
        let slot = &mut self.slots[(sequence - self.front) as usize];
        slot.batch.as_mut().expect("BUG: an active batch is done")
    }

    /// The batch that waits for this request's answer.
    pub(super) fn find(&self, id: RequestId) -> Option<u64> {
        let waits = |sequence: &u64| self.get(*sequence).state == State::InFlight(id);
        self.active.iter().copied().find(waits)
    }

    /// The first record of the oldest batch that is not done.
    pub(super) fn oldest(&self) -> Option<Position> {
        self.slots.front().map(|slot| slot.first)
    }

    /// Whether `open` must wait because a target of it is in a batch that is not done.
    pub(super) fn conflicts(&mut self, open: &OpenBatch) -> bool {
        self.blocked = self.blocked
            || open.targets.iter().any(|(key, span)| {
                let there = self.targets.get(key);
                there.is_some_and(|(_, there)| !there.may_overlap(*span))
            });
        self.blocked
    }

    /// Adds the batch that `open` has become; its targets are taken from `open`.
    pub(super) fn push(
        &mut self,
        open: &mut OpenBatch,
        pieces: VecDeque<Piece>,
        backoff: Backoff,
        now_ms: u64,
    ) -> u64 {
        let targets: Vec<(u64, Span)> = open.targets.drain().collect();
        for (key, span) in &targets {
            let entry = self.targets.entry(*key).or_insert((0, *span));
            debug_assert!(entry.0 == 0 || entry.1.may_overlap(*span));
            entry.0 += 1;
        }
        let sequence = self.front + self.slots.len() as u64;
        self.active.push(sequence);
        self.slots.push_back(Slot {
            first: open.first,
            batch: Some(Batch {
                pieces,
                state: State::Due(now_ms),
                attempt: 0,
                backoff,
                isolation: None,
                timestamp_ms_oldest: open.timestamp_ms_oldest,
                timestamp_ms_newest: open.timestamp_ms_newest,
                targets,
            }),
        });
        sequence
    }

    /// Nothing is left of the batch: the mark may move.
    pub(super) fn finish(&mut self, sequence: u64) {
        let slot = &mut self.slots[(sequence - self.front) as usize];
        let batch = slot.batch.take().expect("BUG: a batch is done twice");
        for (key, _) in batch.targets {
            if let Some(entry) = self.targets.get_mut(&key) {
                entry.0 -= 1;
                if entry.0 == 0 {
                    self.targets.remove(&key);
                }
            }
        }
        self.active.retain(|active| *active != sequence);
        self.blocked = false;
        while let Some(slot) = self.slots.front()
            && slot.batch.is_none()
        {
            self.slots.pop_front();
            self.front += 1;
        }
    }
}
