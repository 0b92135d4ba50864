//! What one queue has done -> counters and gauges; the metrics page sums them over shards.

use super::request::Form;

/// Why samples were given up, or not sent on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum DropCause {
    /// The receiver refuses this very series or sample; found by halving.
    Refused = 0,
    /// Refused together with others that the halving budget did not allow to tell apart.
    BudgetSpent = 1,
    /// A 429 while `retry_on_http_429` is off.
    RateLimited = 2,
    /// A single series that is too large for the receiver (413).
    TooLarge = 3,
    /// Older than `sample_age_limit`.
    TooOld = 4,
    /// Dropped by `write_relabel_configs`.
    Relabelled = 5,
    /// The record in the log contradicts itself.
    Malformed = 6,
    /// The receiver took the request and says that it has not written all of it.
    NotWritten = 7,
}

impl DropCause {
    /// All causes, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Refused,
        Self::BudgetSpent,
        Self::RateLimited,
        Self::TooLarge,
        Self::TooOld,
        Self::Relabelled,
        Self::Malformed,
        Self::NotWritten,
    ];

    /// Whether the receiver's answers are the cause, and not our own settings.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Refused
                | Self::BudgetSpent
                | Self::RateLimited
                | Self::TooLarge
                | Self::NotWritten
        )
    }

    /// The value of a metric's `cause` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::BudgetSpent => "refused_undivided",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::TooOld => "too_old",
            Self::Relabelled => "write_relabelled",
            Self::Malformed => "malformed",
            Self::NotWritten => "not_written",
        }
    }
}

/// Upper bounds in seconds of the latency histogram's buckets; one more is unbounded.
pub const LATENCY_BUCKETS_S: [f64; 15] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0,
];

/// Time from sending a request to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Latency {
    /// Requests per bucket (not cumulative); the last is beyond `LATENCY_BUCKETS_S`.
    pub counts: [u64; LATENCY_BUCKETS_S.len() + 1],
    /// Sum of all times in microseconds.
    pub sum_us: u64,
}

impl Latency {
    /// Counts one request.
    pub fn record(&mut self, elapsed_us: u64) {
        let seconds = elapsed_us as f64 / 1e6;
        let bucket = LATENCY_BUCKETS_S.partition_point(|bound| *bound < seconds);
        self.counts[bucket] += 1;
        self.sum_us += elapsed_us;
    }
}

/// Counters (they only rise) and gauges of one endpoint in one shard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueStats {
    /// Samples (staleness markers and histograms included) that the receiver acknowledged.
    pub samples_sent: u64,
    /// Of `samples_sent`, native histograms; counted when encoded.
    pub histograms: u64,
    /// Exemplars encoded into requests.
    pub exemplars: u64,
    /// Samples in requests that were sent again.
    pub samples_retried: u64,
    /// Samples given up or left out, by `DropCause`.
    pub samples_dropped: [u64; DropCause::ALL.len()],
    /// Samples sent again after a start that the receiver already had.
    pub samples_resent: u64,
    /// Requests of which the receiver stored all but some samples.
    pub requests_partly_stored: u64,
    /// Metric families acknowledged.
    pub metadata_sent: u64,
    /// Metric families in requests that failed; they are sent again in the next round.
    pub metadata_failed: u64,
    /// Compressed bytes given to the network, retries included.
    pub bytes_sent: u64,
    /// Uncompressed bytes of new requests.
    pub bytes_raw: u64,
    /// Requests ended, by class: 0 no answer, else the first digit of the status (1..=5).
    pub requests: [u64; 6],
    /// Answers that say the configuration is wrong (401, 403, 404, ...).
    pub config_faults: u64,
    /// Times the batch size was halved by a 413.
    pub batch_halvings: u64,
    /// Latency of all requests with samples.
    pub latency: Latency,
    /// Newest timestamp of an acknowledged request, Unix ms; 0 before the first.
    pub timestamp_ms_highest_sent: i64,

    /// Gauge: samples read from the log and not acknowledged.
    pub samples_pending: u64,
    /// Gauge: requests on their way.
    pub requests_in_flight: u32,
    /// Gauge: batches read and not acknowledged, those that wait for a retry included.
    pub batches_pending: u32,
    /// Gauge: scrape time of the oldest record that was read and not acknowledged, Unix ms.
    pub timestamp_ms_oldest_pending: Option<i64>,
    /// Gauge: samples in a full request, lowered by 413.
    pub samples_per_send: u32,
    /// Gauge: what requests are, and how they are compressed.
    pub form: Form,
}

impl QueueStats {
    /// Adds to the samples dropped for `cause`.
    pub fn drop_samples(&mut self, cause: DropCause, samples: u64) {
        self.samples_dropped[cause as usize] += samples;
    }

    /// Samples given up because of the receiver's answers: Prometheus' `samples_failed_total`.
    pub fn samples_failed(&self) -> u64 {
        let failures = DropCause::ALL.iter().filter(|cause| cause.is_failure());
        failures
            .map(|cause| self.samples_dropped[*cause as usize])
            .sum()
    }

    /// Age of the oldest record that is not acknowledged; 0 if there is none.
    pub fn lag_ms(&self, now_unix_ms: i64) -> u64 {
        self.timestamp_ms_oldest_pending.map_or(0, |oldest_ms| {
            now_unix_ms.saturating_sub(oldest_ms).max(0) as u64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_numbered_in_order_and_named_apart() {
        let mut names = std::collections::BTreeSet::new();
        for (number, cause) in DropCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, number);
            assert!(names.insert(cause.name()));
        }
    }

    #[test]
    fn latency_bounds_are_inclusive() {
        let mut latency = Latency::default();
        latency.record(5_000);
        latency.record(5_001);
        latency.record(400_000_000);
        assert_eq!(latency.counts[0], 1);
        assert_eq!(latency.counts[1], 1);
        assert_eq!(latency.counts[LATENCY_BUCKETS_S.len()], 1);
        assert_eq!(latency.sum_us, 400_010_001);
    }
}
