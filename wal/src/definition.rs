//! What a log record refers to instead of repeating it: targets, blocks of series, layouts, routes.
//!
//! All are immutable and shared by `Arc`: the engine builds them, the log writes each once per
//! segment at first use, the sender reads them back from memory or from disk.

use std::sync::Arc;

/// A scraped target as the log knows it: its final labels and its stable key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Unique in this process; never reused, not written to disk.
    pub id: u64,
    /// Stable hash of the target, the same on every node and after every restart.
    pub key: u64,
    /// Final target labels, sorted by name, names unique, no empty values. A hole in a series names
    /// a label by its index here.
    pub labels: Box<[(Box<str>, Box<str>)]>,
}

/// Up to about 1,000 series of one exposition, after relabelling, as templates.
///
/// A template is the series' sorted labels in the wire form of remote write 1.0
/// (`0x0a len { 0x0a len name 0x12 len value }` per label, see FORMAT.md), cut where a label of the
/// target belongs. So replicas of one program share their blocks, and a sender copies bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Unique in this process; never reused, not written to disk.
    pub id: u64,
    /// The constant label bytes of all entries, one entry after the other.
    pub bytes: Box<[u8]>,
    /// One per series. `entries[i].bytes_end <= bytes.len()`, rising.
    pub entries: Box<[BlockEntry]>,
    /// The holes of all entries, one entry after the other, in label order.
    pub holes: Box<[Hole]>,
    /// Metadata of the metric families that the block's text declared.
    pub families: Box<[Family]>,
}

/// Where one series of a block ends in the block's arrays; it begins where the one before ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEntry {
    /// End (exclusive) in `Block::bytes`.
    pub bytes_end: u32,
    /// End (exclusive) in `Block::holes`.
    pub holes_end: u32,
}

/// A place in a series' label bytes where one label of the target is inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Absolute offset in `Block::bytes`, on a label boundary: the label goes before this byte.
    pub offset: u32,
    /// Index into `Target::labels`.
    pub target_label: u16,
}

/// HELP, TYPE and UNIT of one metric family, as exposed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Family {
    /// Metric family name as in the comment, before relabelling.
    pub name: Box<str>,
    /// HELP text, unescaped; empty if none was given.
    pub help: Box<str>,
    /// Unit; empty if none was given.
    pub unit: Box<str>,
    /// TYPE.
    pub kind: FamilyKind,
}

/// TYPE of a metric family, numbered as `MetricMetadata.type` of remote write 1.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum FamilyKind {
    #[default]
    Unknown = 0,
    Counter = 1,
    Gauge = 2,
    Histogram = 3,
    GaugeHistogram = 4,
    Summary = 5,
    Info = 6,
    StateSet = 7,
}

/// Consecutive entries of one block.
#[derive(Debug, Clone)]
pub struct Run {
    /// The block.
    pub block: Arc<Block>,
    /// First entry (inclusive).
    pub from: u32,
    /// Last entry (exclusive); `from < to <= block.entries.len()`.
    pub to: u32,
}

/// The series of one scrape, in the order of its values: a list of runs.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Unique in this process; never reused, not written to disk.
    pub id: u64,
    /// In the order of the values. A block may occur in several runs; no entry occurs twice.
    pub runs: Box<[Run]>,
    /// Sum of the runs' lengths: the number of values of a scrape with this layout.
    pub len: u32,
}

/// The set of endpoints (their identities, sorted) that a record is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Unique in this process; never reused, not written to disk.
    pub id: u64,
    /// Endpoint identities (see the engine's configuration), sorted, unique.
    pub endpoints: Box<[Box<str>]>,
}

impl Block {
    /// Bytes and holes of entry `index`: the range in `bytes` and the slice of `holes`.
    pub fn entry(&self, index: u32) -> (std::ops::Range<usize>, &[Hole]) {
        let index = index as usize;
        let start = if index == 0 {
            BlockEntry {
                bytes_end: 0,
                holes_end: 0,
            }
        } else {
            self.entries[index - 1]
        };
        let end = self.entries[index];
        (
            start.bytes_end as usize..end.bytes_end as usize,
            &self.holes[start.holes_end as usize..end.holes_end as usize],
        )
    }
}

/// A number for a new `Target`, `Block`, `Layout` or `Route`: unique in this process.
pub fn next_id() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
