//! Records that nobody reads any more -> memory for the next ones.
//!
//! A record's values and its shared head are allocated once and used again, so that a scrape that
//! is like the one before allocates nothing.

use crate::definition::{Layout, Route, Target, next_id};
use crate::scrape::Scrape;
use ahash::AHashMap;
use std::cell::RefCell;
use std::sync::Arc;

/// What is kept at most (bytes).
const POOL_BYTES_MAX: usize = 8 << 20;
/// What `shrink` leaves (bytes).
const POOL_BYTES_MIN: usize = 256 << 10;
/// A head counts for this much (bytes).
const HEAD_BYTES: usize = 192;

/// Memory of former records. One shard's: the log puts in, whoever makes records takes out.
#[derive(Debug)]
pub struct ScrapePool {
    kept: RefCell<Kept>,
    /// What a head without a record refers to.
    nothing: Scrape,
}

#[derive(Debug, Default)]
struct Kept {
    /// By capacity.
    values: AHashMap<usize, Spare<Vec<f64>>>,
    /// Each the only reference to its record, which is `nothing`.
    heads: Spare<Arc<Scrape>>,
    bytes: usize,
}

/// What is kept of one size.
#[derive(Debug)]
struct Spare<T> {
    all: Vec<T>,
    /// The least that there were since the last `shrink`: so many were of no use.
    unused: usize,
}

impl ScrapePool {
    /// An empty pool.
    pub fn new() -> Self {
        let target = Target {
            id: next_id(),
            key: 0,
            labels: Box::default(),
        };
        let route = Route {
            id: next_id(),
            endpoints: Box::default(),
        };
        let layout = Layout {
            id: next_id(),
            runs: Box::default(),
            len: 0,
        };
        Self {
            kept: RefCell::default(),
            nothing: Scrape {
                target: Arc::new(target),
                route: Arc::new(route),
                timestamp_ms: 0,
                layout: Arc::new(layout),
                values: Vec::new(),
                stale: Box::default(),
                sides: None,
            },
        }
    }

    /// An empty vector with room for `len` values and at most an eighth more.
    pub fn values(&self, len: usize) -> Vec<f64> {
        let capacity = rounded(len);
        let mut kept = self.kept.borrow_mut();
        let spare = kept.values.get_mut(&capacity).and_then(Spare::take);
        match spare {
            Some(values) => {
                kept.bytes -= values_bytes(capacity);
                values
            }
            None => Vec::with_capacity(capacity),
        }
    }

    /// The record, shareable.
    pub fn share(&self, scrape: Scrape) -> Arc<Scrape> {
        let head = {
            let mut kept = self.kept.borrow_mut();
            let head = kept.heads.take();
            kept.bytes -= if head.is_some() { HEAD_BYTES } else { 0 };
            head
        };
        if let Some(mut head) = head
            && let Some(place) = Arc::get_mut(&mut head)
        {
            *place = scrape;
            return head;
        }
        Arc::new(scrape)
    }

    /// Keeps the memory of a record if this is the last reference to it.
    pub fn give(&self, mut scrape: Arc<Scrape>) {
        let Some(place) = Arc::get_mut(&mut scrape) else {
            return;
        };
        let values = std::mem::replace(place, self.nothing.clone()).values;
        let mut kept = self.kept.borrow_mut();
        if kept.bytes + HEAD_BYTES <= POOL_BYTES_MAX {
            kept.bytes += HEAD_BYTES;
            kept.heads.all.push(scrape);
        }
        let bytes = values_bytes(values.capacity());
        let is_a_size = bytes > 0 && rounded(values.capacity()) == values.capacity();
        if is_a_size && kept.bytes + bytes <= POOL_BYTES_MAX {
            let mut values = values;
            values.clear();
            kept.bytes += bytes;
            kept.values
                .entry(values.capacity())
                .or_default()
                .all
                .push(values);
        }
    }

    /// Frees half of what was not used since the last call: to be called every few seconds, so
    /// that what a burst needed goes, and what comes and goes with the scrapes stays. Returns the
    /// bytes that were freed.
    pub fn shrink(&self) -> usize {
        let mut kept = self.kept.borrow_mut();
        let of_values = kept.values.iter();
        let of_values = of_values.map(|(capacity, spare)| values_bytes(*capacity) * spare.unused);
        let unused = of_values.sum::<usize>() + HEAD_BYTES * kept.heads.unused;
        let share = (unused.saturating_sub(POOL_BYTES_MIN) / 2, unused.max(1));
        let mut freed = HEAD_BYTES * kept.heads.shrink(share);
        for (capacity, spare) in &mut kept.values {
            freed += values_bytes(*capacity) * spare.shrink(share);
        }
        kept.values.retain(|_, spare| !spare.all.is_empty());
        kept.bytes -= freed;
        freed
    }

    /// Frees everything.
    pub fn trim(&self) {
        self.kept.replace(Kept::default());
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.kept.borrow().bytes
    }
}

impl<T> Spare<T> {
    fn take(&mut self) -> Option<T> {
        let taken = self.all.pop()?;
        self.unused = self.unused.min(self.all.len());
        Some(taken)
    }

    /// Frees a share, as a fraction, of what was not used since the last call; says how many.
    fn shrink(&mut self, (part, whole): (usize, usize)) -> usize {
        let count = (self.unused * part).div_ceil(whole).min(self.unused);
        self.all.truncate(self.all.len() - count);
        self.all.shrink_to(2 * self.all.len());
        self.unused = self.all.len();
        count
    }
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            unused: 0,
        }
    }
}

impl Default for ScrapePool {
    fn default() -> Self {
        Self::new()
    }
}

fn values_bytes(capacity: usize) -> usize {
    capacity * size_of::<f64>()
}

/// The capacity for `len` values: few sizes, so that the memory of one target suits another.
fn rounded(len: usize) -> usize {
    let step = 1 << (len.max(64).ilog2() - 3);
    len.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Weak;

    fn scrape(pool: &ScrapePool, len: usize) -> Arc<Scrape> {
        let mut values = pool.values(len);
        values.resize(len, 1.0);
        pool.share(Scrape {
            values,
            ..pool.nothing.clone()
        })
    }

    #[test]
    fn capacities_are_near_and_stay() {
        for len in 0..10_000 {
            let capacity = rounded(len);
            assert!(capacity >= len && capacity <= len + len / 8 + 8, "{len}");
            assert_eq!(rounded(capacity), capacity);
        }
    }

    #[test]
    fn a_record_that_is_still_read_is_left_alone() {
        let pool = ScrapePool::new();
        let record = scrape(&pool, 100);
        let reader = record.clone();
        pool.give(record);
        assert_eq!(pool.bytes(), 0);
        assert_eq!(reader.values.len(), 100);
        pool.give(reader);
        let again = scrape(&pool, 98);
        assert_eq!(pool.bytes(), 0, "both were used again");
        assert_eq!((again.values.len(), again.values.capacity()), (98, 104));
    }

    #[test]
    fn what_is_kept_is_bounded_and_refers_to_nothing() {
        let pool = ScrapePool::new();
        let layout = Arc::new(Layout::clone(&pool.nothing.layout));
        let weak: Weak<Layout> = Arc::downgrade(&layout);
        let mut values = pool.values(1_000);
        values.resize(1_000, 0.0);
        pool.give(pool.share(Scrape {
            layout,
            values,
            ..pool.nothing.clone()
        }));
        assert!(weak.upgrade().is_none());
        let records: Vec<_> = (0..3_000).map(|_| scrape(&pool, 1_000)).collect();
        records.into_iter().for_each(|record| pool.give(record));
        assert!(pool.bytes() <= POOL_BYTES_MAX && pool.bytes() > POOL_BYTES_MAX / 2);
        pool.trim();
        assert_eq!(pool.bytes(), 0);
    }

    /// After a burst of records nine times as many as are used on.
    fn a_burst(len: usize, count: usize) {
        let pool = ScrapePool::new();
        let used = |count: usize| {
            let records: Vec<_> = (0..count).map(|_| scrape(&pool, len)).collect();
            records.into_iter().for_each(|record| pool.give(record));
        };
        used(9 * count);
        assert_eq!(pool.shrink(), 0, "all of it is new");
        for _ in 0..40 {
            used(count);
            pool.shrink();
        }
        let steady = pool.bytes();
        let needed = count * (rounded(len) * size_of::<f64>() + HEAD_BYTES);
        assert!(steady >= needed, "{steady} of {needed}");
        assert!(steady < needed + POOL_BYTES_MIN + needed / 4, "{steady}");
        used(count);
        assert_eq!(pool.bytes(), steady, "nothing was allocated");
    }

    #[test]
    fn what_a_burst_left_goes_and_what_is_used_stays() {
        a_burst(1_000, 100);
    }

    /// Their heads are more than their values, or as much.
    #[test]
    fn of_small_records_heads_go_as_well_as_values() {
        for len in [0, 1, 8, 24, 100] {
            a_burst(len, 2_000);
        }
    }
}
