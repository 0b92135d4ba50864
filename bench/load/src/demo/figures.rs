//! Reports of fleet, sink and engine -> the figures that the demo shows.

use std::time::Instant;

use crate::fleet::FleetReport;
use crate::process::Usage;
use crate::sink::SinkReport;

/// The latest figures; rates are over the time between the last two updates.
#[derive(Default)]
pub(super) struct Figures {
    last: Option<(Instant, u64, f64)>,
    pub(super) samples: u64,
    pub(super) samples_per_second: f64,
    pub(super) cores: f64,
    /// Over the whole run.
    pub(super) cpu_seconds_per_million: f64,
    pub(super) user_seconds: f64,
    pub(super) system_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) bytes_per_series: f64,
    pub(super) series: u64,
    pub(super) targets_seen: u64,
    pub(super) targets: u32,
    pub(super) scrapes: u64,
    pub(super) slots_missed: u64,
    pub(super) jitter_p99_ms: f64,
    pub(super) wire_bytes_per_sample: f64,
    pub(super) lag_p50_ms: f64,
    pub(super) lag_p99_ms: f64,
    pub(super) findings: String,
    pub(super) gaps: u64,
    pub(super) duplicates: u64,
    pub(super) wrong: u64,
    /// Share of samples that took the engine's fast path, 0 to 1; `None` if it does not say.
    pub(super) matched: Option<f64>,
}

impl Figures {
    pub(super) fn update(
        &mut self,
        sink: &SinkReport,
        fleet: &FleetReport,
        usage: Usage,
        matched: Option<f64>,
    ) {
        let cpu = usage.user_seconds + usage.system_seconds;
        let now = Instant::now();
        if let Some((then, samples, before)) = self.last {
            let seconds = (now - then).as_secs_f64();
            // The last update comes after the engine's end, perhaps right behind the one before.
            if seconds > 0.5 {
                self.samples_per_second = sink.samples.saturating_sub(samples) as f64 / seconds;
                self.cores = (cpu - before).max(0.0) / seconds;
            }
        }
        self.last = Some((now, sink.samples, cpu));
        let found = &sink.findings;
        self.samples = sink.samples;
        self.cpu_seconds_per_million = cpu * 1e6 / sink.samples.max(1) as f64;
        self.user_seconds = usage.user_seconds;
        self.system_seconds = usage.system_seconds;
        self.resident_bytes = usage.resident_bytes;
        self.bytes_per_series = usage.resident_bytes as f64 / sink.series.max(1) as f64;
        self.series = sink.series;
        self.targets_seen = sink.completeness.targets_seen;
        self.targets = fleet.targets;
        self.scrapes = fleet.scrapes;
        self.slots_missed = fleet.slots_missed;
        self.jitter_p99_ms = fleet.jitter.p99_ms;
        self.wire_bytes_per_sample = sink.wire_bytes_per_sample;
        self.lag_p50_ms = sink.lag.p50_ms;
        self.lag_p99_ms = sink.lag.p99_ms;
        self.findings = found.summary();
        self.gaps = found.gaps + found.lost_scrapes;
        self.duplicates = found.duplicates_identical + found.duplicates_different;
        self.wrong = found.wrong_values + found.swapped + found.repeated;
        self.matched = matched;
    }
}

/// A number with commas between groups of three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The share of `ringscrape_match_samples_total` with `path="matched"` in an exposition text;
/// `None`
/// if nothing is counted.
pub(super) fn matched_share(metrics: &str) -> Option<f64> {
    let sum = |path: &str| -> f64 {
        metrics
            .lines()
            .filter(|line| line.starts_with("ringscrape_match_samples_total{"))
            .filter(|line| line.contains(&format!("path=\"{path}\"")))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    };
    let (matched, parsed) = (sum("matched"), sum("parsed"));
    (matched + parsed > 0.0).then(|| matched / (matched + parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_three() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1234567, "1,234,567"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn share_over_shards() {
        let text = "# TYPE ringscrape_match_samples_total counter\n\
            ringscrape_match_samples_total{path=\"matched\",shard=\"0\"} 60\n\
            ringscrape_match_samples_total{path=\"matched\",shard=\"1\"} 30\n\
            ringscrape_match_samples_total{path=\"parsed\",shard=\"0\"} 10\n";
        assert_eq!(matched_share(text), Some(0.9));
        assert_eq!(matched_share(""), None);
    }
}
