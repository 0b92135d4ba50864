//! What a fleet counted -> its report, as data and as JSON.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A distribution of times in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

impl Spread {
    /// Reads a histogram whose values are in units of `unit_ms`.
    pub(crate) fn of(histogram: &Histogram<u64>, unit_ms: f64) -> Spread {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 * unit_ms;
        Spread {
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: histogram.max() as f64 * unit_ms,
        }
    }
}

/// A target that was not scraped exactly once per slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OffGrid {
    /// Its `instance` label.
    pub instance: String,
    /// Slots without a scrape between its first and its last one.
    pub missed: u64,
    /// Scrapes in a slot that had one already.
    pub doubled: u64,
}

/// What a fleet saw of its scraper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetReport {
    /// Targets served.
    pub targets: u32,
    /// Series per target.
    pub series_per_target: u32,
    /// Seconds since the start.
    pub seconds: f64,
    /// The grid's interval in seconds, as told by `--scrape-interval`.
    pub scrape_interval_seconds: f64,
    /// Requests for metrics, faulty answers included.
    pub scrapes: u64,
    /// Responses that went out whole with status 200: what a scraper must deliver.
    pub completed: u64,
    /// Requests that a fault struck.
    pub faults: u64,
    /// Bytes of bodies sent, as on the wire.
    pub body_bytes: u64,
    /// Targets with at least one scrape.
    pub targets_scraped: u32,
    /// Slots without a scrape, over all targets.
    pub slots_missed: u64,
    /// Scrapes in a slot that had one already, over all targets.
    pub slots_doubled: u64,
    /// How much later than its target's earliest phase a scrape arrived.
    pub lateness: Spread,
    /// How far from its target's median phase a scrape arrived, either way.
    pub jitter: Spread,
    /// At most 100 targets with missed or doubled slots.
    pub off_grid: Vec<OffGrid>,
    /// CPU that the fleet's thread used, per scrape, in microseconds.
    pub cpu_us_per_scrape: f64,
}
