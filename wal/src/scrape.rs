//! One scrape on its way into the log, and as the sender reads it back.

use crate::definition::{Layout, Route, Run, Target};
use std::sync::Arc;

/// Bits of the NaN that marks a series as stale. Source: Prometheus model/value/value.go.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Where a record stands in one shard's log. Ordered by time of appending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Sequence number of the segment, from 1.
    pub segment: u64,
    /// Byte offset of the record's frame in its segment.
    pub offset: u32,
}

/// One scrape of one target, as given to the log and as read back from it.
///
/// A successful scrape holds the exposed series and the automatic ones (`up`, ...); a failed one
/// holds the automatic ones, and staleness markers for what vanished.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// The scraped target.
    pub target: Arc<Target>,
    /// Which endpoints get it.
    pub route: Arc<Route>,
    /// Milliseconds since the Unix epoch; of every sample that has no explicit timestamp, and of
    /// the staleness markers.
    pub timestamp_ms: i64,
    /// Series of `values`, in order.
    pub layout: Arc<Layout>,
    /// `values.len() == layout.len`.
    pub values: Vec<f64>,
    /// Series that end here: each gets a sample of `STALE_NAN_BITS` at `timestamp_ms`.
    pub stale: Box<[Run]>,
    /// What few scrapes have.
    pub sides: Option<Box<Sides>>,
}

/// Side columns of a scrape: each sorted by `index`, the position in `Scrape::values`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sides {
    /// Samples with a timestamp of their own.
    pub timestamps: Vec<SideTimestamp>,
    /// Start ("created") timestamps.
    pub start_timestamps: Vec<SideTimestamp>,
    /// Exemplars; several may have the same index.
    pub exemplars: Vec<Exemplar>,
    /// Native histograms, encoded as `Histogram` of remote write 1.0 without its timestamp; the
    /// value at this index is unused.
    pub histograms: Vec<SideBytes>,
    /// Samples that the values hold but that are not to be sent (rising positions): an explicit
    /// timestamp that is not newer than the last one, for example.
    pub skipped: Vec<u32>,
}

/// A timestamp for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideTimestamp {
    /// Position in `Scrape::values`.
    pub index: u32,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

/// An exemplar of one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Position in `Scrape::values`.
    pub index: u32,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The exemplar's value.
    pub value: f64,
    /// Label names and values, sorted by name.
    pub labels: Box<[(Box<str>, Box<str>)]>,
}

/// Opaque bytes for one sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideBytes {
    /// Position in `Scrape::values`.
    pub index: u32,
    /// The bytes.
    pub bytes: Box<[u8]>,
}
