//! What a walk along a body fills; used again by the next one.

use super::resync::{Index, Used};
use super::text_block::Fresh;
use crate::parse::Exemplar;

/// Where consecutive entries of a body came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The expected layout, from this raw index on.
    Old(u32),
    /// The new entries, from this one on.
    New(u32),
}

/// Consecutive entries of a body. Segments follow one another without gaps from raw index 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Raw index of the first entry, in the body.
    pub(crate) at: u32,
    /// How many entries; not 0.
    pub(crate) len: u32,
    pub(crate) source: Source,
}

/// An exemplar as exposed; its labels stand in `Scratch::arena`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawExemplar {
    pub(crate) raw: u32,
    /// Start and end of the labels in the arena.
    pub(crate) labels: (usize, usize),
    pub(crate) value: f64,
    pub(crate) timestamp_ms: Option<i64>,
}

/// A native histogram of a sample line, or why the scrape fails if the line is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawHistogram {
    pub(crate) raw: u32,
    /// As it stands in the log.
    pub(crate) form: Result<Box<[u8]>, HistogramFault>,
}

/// Why a native histogram fails its scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HistogramFault {
    /// It contradicts itself.
    Invalid(String),
    /// It has more than `native_histogram_bucket_limit` buckets, however coarse.
    Buckets,
}

/// What a walk fills; kept and used again by the next one.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// One per sample line.
    pub(crate) values: Vec<f64>,
    /// Raw index and explicit timestamp, rising by index.
    pub(crate) stamps: Vec<(u32, i64)>,
    pub(crate) exemplars: Vec<RawExemplar>,
    pub(crate) arena: Vec<u8>,
    /// Rising by index; the values of these lines are unused.
    pub(crate) histograms: Vec<RawHistogram>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) fresh: Fresh,
    /// Empty, to be swapped with `fresh`.
    pub(super) fresh_spare: Fresh,
    pub(crate) tail: Vec<u8>,
    pub(super) used: Used,
    pub(super) index: Index,
}

impl Scratch {
    /// Removes everything and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.stamps.clear();
        self.exemplars.clear();
        self.arena.clear();
        self.histograms.clear();
        self.segments.clear();
        self.fresh.clear();
        self.tail.clear();
        self.used.clear();
        self.index.clear();
    }

    /// Bytes of memory that this holds.
    pub(super) fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<f64>()
            + self.stamps.capacity() * size_of::<(u32, i64)>()
            + self.exemplars.capacity() * size_of::<RawExemplar>()
            + self.segments.capacity() * size_of::<Segment>()
            + self.arena.capacity()
            + self.histograms.capacity() * size_of::<RawHistogram>()
            + self.tail.capacity()
            + self.fresh.memory_bytes()
            + self.fresh_spare.memory_bytes()
            + self.used.memory_bytes()
            + self.index.memory_bytes()
    }

    /// Notes what besides the value stands in a sample line, before its value is added.
    pub(super) fn note(&mut self, timestamp_ms: Option<i64>, exemplar: Option<Exemplar<'_>>) {
        let raw = self.values.len() as u32;
        if let Some(timestamp_ms) = timestamp_ms {
            self.stamps.push((raw, timestamp_ms));
        }
        if let Some(exemplar) = exemplar {
            let start = self.arena.len();
            self.arena.extend_from_slice(exemplar.labels);
            self.exemplars.push(RawExemplar {
                raw,
                labels: (start, self.arena.len()),
                value: exemplar.value,
                timestamp_ms: exemplar.timestamp_ms,
            });
        }
    }
}
