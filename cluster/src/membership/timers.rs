//! Timers of the membership protocol -> which are due, on a clock that stands still with the node.

use super::Identity;
use foca::Timer;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// The timers, the next one first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    /// How many were ever added: equal ones stay in order.
    added: u64,
    /// How long this node stood still in all. Deadlines are on a clock that stood still with it, or
    /// it would find everybody silent whose answers still wait in its socket.
    stood_still_ms: u64,
}

#[derive(Debug)]
struct Entry {
    due_ms: u64,
    added: u64,
    timer: Timer<Identity>,
}

impl Timers {
    pub(super) fn add(&mut self, timer: Timer<Identity>, due_ms: u64) {
        self.added += 1;
        self.heap.push(Reverse(Entry {
            due_ms: due_ms.saturating_sub(self.stood_still_ms),
            added: self.added,
            timer,
        }));
    }

    /// When the next one is due, in monotonic ms.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let next = self.heap.peek()?;
        Some(next.0.due_ms.saturating_add(self.stood_still_ms))
    }

    /// Takes the next one if it is due.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<Timer<Identity>> {
        if self.next_due_ms()? > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.timer)
    }

    /// Puts all off: the node did not run for that long.
    pub(super) fn stood_still(&mut self, for_ms: u64) {
        self.stood_still_ms = self.stood_still_ms.saturating_add(for_ms);
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_time = self.due_ms.cmp(&other.due_ms);
        // The protocol says in which order it wants those that are due together.
        let by_kind = || self.timer.cmp(&other.timer);
        let by_age = || self.added.cmp(&other.added);
        by_time.then_with(by_kind).then_with(by_age)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
