//! Records that endpoints have not read yet, in memory.

use crate::definition::{Block, Layout};
use crate::pool::ScrapePool;
use crate::scrape::{Position, Scrape};
use ahash::AHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// One record of the log with the place it has there, from memory or from disk.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where the record begins.
    pub position: Position,
    /// Where it ends: go on reading from here; a low-water mark here acknowledges it.
    pub end: Position,
    /// The record.
    pub scrape: Arc<Scrape>,
}

/// What the tail knows about a position.
#[derive(Debug)]
pub enum TailRead<'a> {
    /// The first record at or after it.
    Entry(&'a Entry),
    /// No record at or after it yet.
    Empty,
    /// The record is no longer in memory: read the disk, see `Segments::readable_from`.
    Behind,
}

/// The newest records, in order.
#[derive(Debug)]
pub(crate) struct Tail {
    entries: VecDeque<(Entry, u64)>,
    bytes: u64,
    /// All records at or after this point are in `entries`.
    start: Position,
    /// The layout each target had in its latest record, to see what a new one leaves behind.
    layouts: AHashMap<u64, Arc<Layout>>,
}

impl Tail {
    /// An empty tail; records come at or after `start`.
    pub(crate) fn new(start: Position) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            start,
            layouts: AHashMap::new(),
        }
    }

    pub(crate) fn start(&self) -> Position {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        let mut bytes = record_bytes(&entry.scrape);
        let layout = &entry.scrape.layout;
        match self.layouts.get_mut(&entry.scrape.target.id) {
            Some(before) if before.id == layout.id => {}
            Some(before) => {
                bytes += left_behind_bytes(before, layout);
                *before = layout.clone();
            }
            None => {
                self.layouts.insert(entry.scrape.target.id, layout.clone());
            }
        }
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
    }

    /// The first record at or after `from`, or at or after the tail's start.
    pub(crate) fn first_from(&self, from: Position) -> Option<&Entry> {
        let index = self
            .entries
            .partition_point(|(entry, _)| entry.position < from);
        self.entries.get(index).map(|(entry, _)| entry)
    }

    /// The oldest record.
    pub(crate) fn front(&self) -> Option<&Entry> {
        self.entries.front().map(|(entry, _)| entry)
    }

    /// The records at or after `from`, in order.
    pub(crate) fn iter_from(&self, from: Position) -> impl Iterator<Item = &Entry> {
        let index = self
            .entries
            .partition_point(|(entry, _)| entry.position < from);
        self.entries.range(index..).map(|(entry, _)| entry)
    }

    /// Takes out the records at or after `from`, in order.
    pub(crate) fn split_off(&mut self, from: Position) -> Vec<Entry> {
        let index = self
            .entries
            .partition_point(|(entry, _)| entry.position < from);
        let out = self.entries.split_off(index);
        self.bytes -= out.iter().map(|(_, bytes)| bytes).sum::<u64>();
        out.into_iter().map(|(entry, _)| entry).collect()
    }

    /// Bytes of the records at or after `from`.
    pub(crate) fn bytes_from(&self, from: Position) -> u64 {
        let newest = self.entries.iter().rev();
        let after = newest.take_while(|(entry, _)| entry.position >= from);
        after.map(|(_, bytes)| bytes).sum()
    }

    /// Drops the oldest record.
    pub(crate) fn pop_front(&mut self) -> Option<Entry> {
        let (entry, bytes) = self.entries.pop_front()?;
        self.bytes -= bytes;
        self.start = entry.end;
        Some(entry)
    }

    /// Drops the records that end at or before `position`.
    pub(crate) fn drop_before(&mut self, position: Position, pool: &ScrapePool) {
        while self.front().is_some_and(|entry| entry.end <= position) {
            if let Some(entry) = self.pop_front() {
                pool.give(entry.scrape);
            }
        }
        if self.entries.is_empty() {
            self.start = self.start.max(position);
        }
    }

    /// Forgets the latest layouts of all targets, so that those of vanished ones go.
    pub(crate) fn forget_layouts(&mut self) {
        self.layouts.clear();
    }

    /// Forgets a target's latest layout.
    pub(crate) fn forget_target(&mut self, target_id: u64) {
        self.layouts.remove(&target_id);
    }
}

/// What a record takes of memory by itself, about.
fn record_bytes(scrape: &Scrape) -> u64 {
    let mut bytes = 192 + 8 * scrape.values.capacity() + 24 * scrape.stale.len();
    if let Some(sides) = &scrape.sides {
        bytes += 120
            + 16 * (sides.timestamps.len() + sides.start_timestamps.len())
            + 4 * sides.skipped.len();
        for exemplar in &sides.exemplars {
            let text: usize = exemplar
                .labels
                .iter()
                .map(|(n, v)| n.len() + v.len() + 32)
                .sum();
            bytes += 48 + text;
        }
        for histogram in &sides.histograms {
            bytes += 24 + histogram.bytes.len();
        }
    }
    bytes as u64
}

/// What only unread records hold once a target goes from one layout to another, about: the old
/// layout and its blocks that the new one lacks. Charged though other targets may use them still.
fn left_behind_bytes(before: &Layout, after: &Layout) -> u64 {
    let mut kept: Vec<u64> = after.runs.iter().map(|run| run.block.id).collect();
    kept.sort_unstable();
    let mut gone: Vec<&Block> = before
        .runs
        .iter()
        .map(|run| &*run.block)
        .filter(|block| kept.binary_search(&block.id).is_err())
        .collect();
    gone.sort_unstable_by_key(|block| block.id);
    gone.dedup_by_key(|block| block.id);
    let blocks: usize = gone
        .iter()
        .map(|block| 128 + block.bytes.len() + 8 * (block.entries.len() + block.holes.len()))
        .sum();
    (blocks + 64 + 16 * before.runs.len()) as u64
}
