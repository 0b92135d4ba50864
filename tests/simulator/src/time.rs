//! True time: what no node knows, and events in its order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// True time since the run began, in microseconds.
pub type Micros = u64;

/// One second.
pub const SECOND: Micros = 1_000_000;
/// One millisecond.
pub const MILLI: Micros = 1_000;
/// What a right clock says when the run begins, in ms since the Unix epoch.
pub const EPOCH_MS: i64 = 1_800_000_000_000;

/// A time for people: minutes, seconds, milliseconds.
pub fn text(at: Micros) -> String {
    let ms = at / MILLI;
    format!("{}:{:02}.{:03}", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
}

/// What happens when; of one time in the order of adding.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    added: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Micros,
    number: u64,
    event: E,
}

impl<E> Queue<E> {
    /// With nothing in it.
    pub fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            added: 0,
        }
    }

    /// Adds an event.
    pub fn add(&mut self, at: Micros, event: E) {
        self.added += 1;
        let number = self.added;
        self.heap.push(Reverse(Entry { at, number, event }));
    }

    /// Takes the first one.
    pub fn take(&mut self) -> Option<(Micros, E)> {
        let Reverse(entry) = self.heap.pop()?;
        Some((entry.at, entry.event))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_by_age() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b')] {
            queue.add(at, event);
        }
        let order: String = std::iter::from_fn(|| queue.take())
            .map(|(_, e)| e)
            .collect();
        assert_eq!(order, "abcd");
        assert_eq!(text(61_002_000), "1:01.002");
    }
}
