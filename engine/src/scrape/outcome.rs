//! What a scrape comes to: a record for the log, what went wrong, and counts.

use ringscrape_wal::definition::{Layout, Run};
use ringscrape_wal::scrape::Sides;
use std::sync::Arc;

/// What the caller knows of a scrape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// The scrape's timestamp, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The wall clock: samples more than ten minutes ahead of it are dropped.
    pub now_ms: i64,
    /// How long the scrape took.
    pub duration_s: f64,
    /// How long it was allowed to take.
    pub timeout_s: f64,
    /// Bytes of the uncompressed body.
    pub body_bytes: u64,
}

/// Why there is no body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The body reached `body_size_limit`.
    #[error("body_size_limit of {limit_bytes} bytes reached")]
    BodySizeLimit {
        /// The limit, of uncompressed bytes.
        limit_bytes: u64,
    },
    /// Anything else: connection, status, timeout, Content-Type, target_limit.
    #[error("{0}")]
    Other(String),
}

/// Why a scrape failed: `up` is 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// The body does not follow its grammar.
    #[error("line {line}, column {column}: {reason}, near {near:?}")]
    Parse {
        /// From 1.
        line: u64,
        /// In bytes, from 1.
        column: u64,
        /// What was expected and what was found.
        reason: String,
        /// Up to 40 bytes of the body.
        near: String,
    },
    /// The body is no list of metric families.
    #[error("protobuf, from byte {offset} on: {reason}")]
    Protobuf {
        /// Where the family begins that is at fault.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A native histogram that contradicts itself.
    #[error("native histogram: {0}")]
    Histogram(String),
    /// `native_histogram_bucket_limit`.
    #[error("native_histogram_bucket_limit exceeded: the limit is {limit}")]
    BucketLimit {
        /// The limit.
        limit: u64,
    },
    /// Labels that are not valid, before or after relabelling.
    #[error("{0}")]
    Series(String),
    /// `label_limit`, `label_name_length_limit` or `label_value_length_limit`.
    #[error("{0}")]
    LabelLimit(String),
    /// `sample_limit`.
    #[error("sample_limit exceeded: {samples} samples after relabelling, the limit is {limit}")]
    SampleLimit {
        /// How many samples there were; those counted before the body went wrong, if it did.
        samples: u32,
        /// The limit.
        limit: u64,
    },
    /// `Walk::finish` came before the body's last window.
    #[error("the body was not read to its end")]
    Incomplete,
    /// There was no body.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Counts of one scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Sample lines: `scrape_samples_scraped`.
    pub samples_scraped: u32,
    /// Of them kept by relabelling: `scrape_samples_post_metric_relabeling`.
    pub samples_post_relabel: u32,
    /// Series that the scrape before did not have: `scrape_series_added`.
    pub series_added: u32,
    /// Samples dropped because the series had one already.
    pub duplicates: u32,
    /// Samples dropped because of an explicit timestamp not newer than the last one.
    pub out_of_order: u32,
    /// Samples dropped because of a timestamp more than ten minutes ahead.
    pub out_of_bounds: u32,
    /// Exemplars dropped: too long, or of a sample that was dropped.
    pub exemplars_dropped: u32,
    /// Sample lines found where they were expected.
    pub matched: u32,
    /// Sample lines that the parser had to read.
    pub parsed: u32,
    /// Staleness markers.
    pub stale_markers: u32,
}

/// One scrape, ready for the log: with target, route and these fields it is a
/// `ringscrape_wal::scrape::Scrape`.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// As in the report.
    pub timestamp_ms: i64,
    /// Series of the values. The automatic series are always the last run, except in the outcome
    /// of `end_of_run`, whose layout is empty.
    pub layout: Arc<Layout>,
    /// `values.len() == layout.len`.
    pub values: Vec<f64>,
    /// Series that end here.
    pub stale: Box<[Run]>,
    /// Timestamps, exemplars, and what is not to be sent.
    pub sides: Option<Box<Sides>>,
    /// Why the scrape failed, if it did.
    pub error: Option<ScrapeError>,
    /// Counts.
    pub stats: Stats,
}
