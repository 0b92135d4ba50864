//! What one shard has counted; the sum over shards is what `/metrics` shows.

use super::Latency;
use crate::remote_write::QueueStats;
use crate::remote_write::progress::Left;
use ringscrape_wal::caps::CapUse;
use ringscrape_wal::stats::LogStats;
use std::collections::BTreeMap;

/// Counters and gauges of one shard. Counters only rise.
#[derive(Debug, Clone, Default)]
pub struct ShardFigures {
    /// Finished scrapes by result: `ok` or the cause of the failure.
    pub scrapes: BTreeMap<&'static str, u64>,
    /// Duration of scrapes that got a whole response.
    pub scrape_duration: Latency,
    /// Start of a scrape after its slot.
    pub slot_lateness: Latency,
    /// Slots in which the scrape before was still running.
    pub slots_missed_overrun: u64,
    /// Slots that passed while the process was busy or stopped.
    pub slots_missed_late: u64,
    /// Slots that passed while no scrape might begin, as the node did not know what is its own.
    pub slots_missed_held: u64,
    /// Slots that no node scraped between a crash and its takeover here.
    pub slots_missed_takeover: u64,
    /// From the last sign of life of a target's owner to the first scrape here.
    pub takeover: Latency,
    /// Targets whose series were handed over to another node.
    pub handovers_sent: u64,
    /// Targets whose series came from the node before, in time for the first scrape.
    pub handovers_used: u64,
    /// Targets whose series came after the first scrape.
    pub handovers_late: u64,
    /// Targets whose series came, and which were never scraped here.
    pub handovers_unused: u64,
    /// Samples logged, automatic series included.
    pub samples: u64,
    /// Staleness markers logged.
    pub stale_markers: u64,
    /// Sample lines whose text was known.
    pub matched: u64,
    /// Sample lines that were parsed.
    pub parsed: u64,
    /// Bytes of bodies as received.
    pub wire_bytes: u64,
    /// Bytes of bodies after decompression.
    pub body_bytes: u64,
    /// Connections opened.
    pub connections_opened: u64,
    /// Scrapes that failed for `sample_limit`.
    pub exceeded_sample_limit: u64,
    /// Scrapes that failed for `body_size_limit`.
    pub exceeded_body_limit: u64,
    /// Samples of a series that the body had already.
    pub duplicates: u64,
    /// Samples with an explicit timestamp that is not newer than the one before.
    pub out_of_order: u64,
    /// Samples with an explicit timestamp too far ahead.
    pub out_of_bounds: u64,
    /// Samples that metric relabelling dropped.
    pub relabel_dropped: u64,
    /// Exemplars that were not logged.
    pub exemplars_dropped: u64,
    /// Timestamp of the newest logged sample, milliseconds since the Unix epoch.
    pub highest_timestamp_ms: i64,
    /// Gauge: memory by purpose, in bytes.
    pub memory: BTreeMap<&'static str, u64>,
    /// The log.
    pub log: LogStats,
    /// Gauge: how near each endpoint is to losing samples to a cap.
    pub caps: Vec<CapUse>,
    /// Damaged places of the log that were skipped.
    pub damaged: u64,
    /// Saves of cursors that failed.
    pub cursor_saves_failed: u64,
    /// Gauge: former logs, and files in them, that cannot be read.
    pub former_unreadable: u64,
    /// Directories of former logs that are not sent yet.
    pub former_dirs: u64,
    /// Per endpoint.
    pub endpoints: Vec<EndpointFigures>,
}

/// What one shard's queue to one endpoint has counted.
#[derive(Debug, Clone, Default)]
pub struct EndpointFigures {
    /// Endpoint identity.
    pub identity: String,
    /// URL without credentials.
    pub url: String,
    /// The queue's counters.
    pub stats: QueueStats,
    /// Age of the oldest sample that is not acknowledged, in milliseconds.
    pub lag_ms: u64,
    /// What of the shard's log is not acknowledged.
    pub left: Left,
    /// How fast that shrinks, in samples a second.
    pub samples_fewer_per_s: f64,
    /// Requests that all shards together may have on their way now.
    pub requests_bound: u32,
    /// The least and the most that this may be.
    pub requests_bounds: (u32, u32),
}
