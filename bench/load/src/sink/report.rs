//! What a sink counted -> its report, as data and as JSON.

use serde::{Deserialize, Serialize};

use crate::fleet::Spread;

/// Everything that may be wrong with what arrived. All zero on a healthy run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    /// Samples missing between two samples of one series.
    pub gaps: u64,
    /// Whole responses of a target missing between two that arrived.
    pub lost_scrapes: u64,
    /// Samples with the timestamp of the one before and the same value.
    pub duplicates_identical: u64,
    /// Samples with the timestamp of the one before and another value.
    pub duplicates_different: u64,
    /// Samples with a timestamp before the newest one of their series.
    pub out_of_order: u64,
    /// Samples under a new timestamp with the value of the response before.
    pub repeated: u64,
    /// Samples under a newer timestamp with the value of an older response.
    pub swapped: u64,
    /// Values that are not their series' ones: changed bits, or labels that were changed.
    pub wrong_values: u64,
    /// Series whose label set is broken: unsorted (unless the protocol allows it), double or empty
    /// labels, no name, not UTF-8.
    pub wrong_labels: u64,
    /// Series that no target of a fleet exposes (unless they are allowed).
    pub foreign_series: u64,
    /// Samples whose timestamp is more than a day before the first one or 48 days after it.
    pub wrong_timestamps: u64,
    /// Markers of series that went on in the next slot, without a failed scrape in between.
    pub false_markers: u64,
    /// Series that went on over a failed scrape, or ended, without a marker.
    pub missing_markers: u64,
    /// Requests that could not be decoded.
    pub bad_requests: u64,
}

impl Findings {
    /// Each finding with its name, in the order of the report.
    pub fn list(&self) -> [(&'static str, u64); 14] {
        [
            ("gaps", self.gaps),
            ("lost scrapes", self.lost_scrapes),
            ("identical duplicates", self.duplicates_identical),
            ("different duplicates", self.duplicates_different),
            ("out of order", self.out_of_order),
            ("repeated values", self.repeated),
            ("swapped values", self.swapped),
            ("wrong values", self.wrong_values),
            ("wrong labels", self.wrong_labels),
            ("foreign series", self.foreign_series),
            ("wrong timestamps", self.wrong_timestamps),
            ("false staleness markers", self.false_markers),
            ("missing staleness markers", self.missing_markers),
            ("bad requests", self.bad_requests),
        ]
    }

    /// Whether nothing was found.
    pub fn clean(&self) -> bool {
        self.list().iter().all(|(_, count)| *count == 0)
    }

    /// The findings that are not zero as text, or `none`.
    pub fn summary(&self) -> String {
        let found = self.list().into_iter().filter(|(_, count)| *count > 0);
        let parts: Vec<_> = found
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        if parts.is_empty() {
            "none".into()
        } else {
            parts.join(", ")
        }
    }
}

/// One finding in detail; the first ones of a run are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Defect {
    /// Name of the counter in [`Findings`] that it raised.
    pub kind: String,
    /// The series as text.
    pub series: String,
    /// Timestamp of the sample before, in ms; 0 for none.
    pub before_ms: i64,
    /// Timestamp of the sample, in ms.
    pub at_ms: i64,
    /// What was found, as text.
    pub detail: String,
}

/// Responses of a target that a fleet completed and that never arrived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LostScrapes {
    /// Its `instance` label.
    pub instance: String,
    /// First missing response number.
    pub from_n: u64,
    /// Last missing response number, inclusive.
    pub to_n: u64,
    /// Timestamp of the last one that arrived before, in ms.
    pub before_ms: i64,
    /// Timestamp of the first one that arrived after, in ms.
    pub after_ms: i64,
}

/// What arrived of what was to be expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Completeness {
    /// Targets that should appear, 0 if not told.
    pub targets_expected: u64,
    /// Targets of which at least one response arrived.
    pub targets_seen: u64,
    /// Slots of the scrape interval between the first and the last response of each target.
    pub slots_expected: u64,
    /// Slots of which the response arrived.
    pub slots_seen: u64,
    /// Slots with `up` 0.
    pub slots_failed: u64,
    /// Samples that the responses which arrived should have had, 0 if not told.
    pub samples_expected: u64,
    /// Samples of fleet series that arrived, without markers.
    pub samples_seen: u64,
    /// Share of (target, slot) seen, 0 to 1: 0 for each target that is missing altogether.
    pub share: f64,
}

/// What came in one protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProtocolUse {
    /// Name, such as `snappy 1.0`.
    pub protocol: String,
    /// Requests that were taken.
    pub requests: u64,
    /// Their samples.
    pub samples: u64,
    /// Bytes of their bodies as on the wire.
    pub wire_bytes: u64,
    /// Bytes of their bodies after decompression.
    pub plain_bytes: u64,
}

/// What a sink received.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkReport {
    /// Whether nothing is wrong and nothing is missing.
    pub verified: bool,
    /// Why not, or `none`.
    pub reason: String,
    /// Seconds since the start.
    pub seconds: f64,
    /// When the first sample came, in ms since the Unix epoch; 0 for never.
    pub first_sample_ms: u64,
    /// Requests with status 2xx.
    pub requests: u64,
    /// Requests refused on purpose.
    pub faults: u64,
    /// Bytes of request bodies as on the wire.
    pub wire_bytes: u64,
    /// The same per sample.
    pub wire_bytes_per_sample: f64,
    /// What came in each protocol that was used.
    pub protocols: Vec<ProtocolUse>,
    /// All samples, automatic ones and markers included.
    pub samples: u64,
    /// Samples of the automatic series (`up`, `scrape_*`).
    pub samples_automatic: u64,
    /// Series seen.
    pub series: u64,
    /// Staleness markers.
    pub markers: u64,
    /// `up` samples with value 1.
    pub ups: u64,
    /// `up` samples with value 0.
    pub downs: u64,
    /// Values off in the last bits only, by a decimal reader that does not round correctly.
    pub inexact_values: u64,
    /// Series with unsorted labels: a finding unless they came in VictoriaMetrics' protocol.
    pub unsorted_series: u64,
    /// Metadata entries.
    pub metadata: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Native histograms.
    pub histograms: u64,
    /// From a sample's timestamp to its receipt.
    pub lag: Spread,
    /// What is wrong.
    pub findings: Findings,
    /// What is missing.
    pub completeness: Completeness,
    /// Details of the first findings.
    pub defects: Vec<Defect>,
    /// Details of lost responses, at most 10,000.
    pub lost_scrapes: Vec<LostScrapes>,
    /// Heap bytes of the series table, per series.
    pub table_bytes_per_series: f64,
    /// CPU that the sink's thread used, per sample, in nanoseconds.
    pub cpu_ns_per_sample: f64,
}

/// What a sink received since the last time it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkWindow {
    /// Requests with status 2xx.
    pub requests: u64,
    /// Bytes of their bodies.
    pub wire_bytes: u64,
    /// Samples.
    pub samples: u64,
    /// From a sample's timestamp to its receipt.
    pub lag: Spread,
}
