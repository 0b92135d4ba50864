//! The runs of one agent under one load -> its figures: medians over all windows of all rounds.

use serde::{Deserialize, Serialize};

use super::log_cpu::Looks;
use crate::fleet::Spread;
use crate::sink::{ProtocolUse, SinkReport};

/// One run of one agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) windows: Vec<Window>,
    pub(super) cold: ColdStart,
    pub(super) received: SinkReport,
    pub(super) jitter: Spread,
    pub(super) slots_missed: u64,
    pub(super) log_looks: Option<Looks>,
    pub(super) fleet_cpu_us_per_scrape: f64,
    /// What was wrong with the process itself.
    pub(super) complaint: Option<String>,
}

impl Run {
    /// A run that came to nothing.
    pub(super) fn failed(complaint: &str) -> Run {
        let mut run = Run {
            complaint: Some(complaint.to_owned()),
            ..Run::default()
        };
        // The sink has nothing to say about it.
        run.received.verified = true;
        run
    }
}

/// The figures of one agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Name of the agent.
    pub name: String,
    /// What it says it is; empty if it does not say.
    pub version: String,
    /// How it was started; words in braces stand for paths and addresses.
    pub command: String,
    /// Whether nothing was wrong or missing (values off in the last bits do not count).
    pub verified: bool,
    /// Why not, or `none`.
    pub reason: String,
    /// The protocols it wrote in, such as `snappy 1.0`.
    pub protocol: String,
    /// Samples per second at the receiver.
    pub samples_per_second: f64,
    /// CPU seconds in user mode per million samples.
    pub user_seconds_per_million: f64,
    /// CPU seconds in the kernel per million samples.
    pub system_seconds_per_million: f64,
    /// Their sum; the median of the sums, not the sum of the medians.
    pub cpu_seconds_per_million: f64,
    /// Resident memory.
    pub resident_mib: f64,
    /// The same per series of the load.
    pub resident_bytes_per_series: f64,
    /// Bytes of request bodies per sample.
    pub wire_bytes_per_sample: f64,
    /// Bytes written to storage per sample.
    pub disk_bytes_per_sample: f64,
    /// CPU of its log per sample, in ns: the log's share of the looks of all rounds, of the CPU
    /// time; nothing if it was not looked for, or its functions are not known.
    #[serde(default)]
    pub log_cpu_ns_per_sample: Option<f64>,
    /// Who looked: `perf`, or `pprof` for the agent itself; empty if nobody did.
    #[serde(default)]
    pub log_cpu_by: String,
    /// Looks, and those of them in the log.
    #[serde(default)]
    pub log_cpu_looks: (u64, u64),
    /// Distance of a scrape from its target's grid; medians over the rounds.
    pub jitter: Spread,
    /// From a sample's timestamp to its receipt.
    pub lag: Spread,
    /// Slots without a scrape, over all windows.
    pub slots_missed: u64,
    /// Share of (target, slot) that arrived, 0 to 1; the least of the rounds.
    pub completeness: f64,
    /// Samples missing between others, lost scrapes included.
    pub gaps: u64,
    /// Wrong values.
    pub wrong_values: u64,
    /// Values off in the last bits.
    pub inexact_values: u64,
    /// How the agent came up; medians over the rounds.
    pub cold: ColdStart,
    /// CPU of the sink per sample, in ns: with the next one, what the load itself costs.
    pub sink_cpu_ns_per_sample: f64,
    /// CPU of the fleet per scrape, in us; large while bodies of unlike targets are first rendered.
    pub fleet_cpu_us_per_scrape: f64,
    /// Each window, round after round.
    pub windows: Vec<Window>,
}

/// From the start of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColdStart {
    /// To the receipt of the first sample.
    pub first_sample_seconds: f64,
    /// CPU seconds used until then.
    pub first_sample_cpu_seconds: f64,
    /// Until samples of every target were received.
    pub all_targets_seconds: f64,
    /// CPU seconds used until then.
    pub all_targets_cpu_seconds: f64,
}

/// The figures of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Length in seconds.
    pub seconds: f64,
    /// Samples received.
    pub samples: u64,
    /// CPU seconds in user mode.
    pub user_seconds: f64,
    /// CPU seconds in the kernel.
    pub system_seconds: f64,
    /// Resident memory at its end, in bytes.
    pub resident_bytes: u64,
    /// Bytes written to storage.
    pub disk_bytes: u64,
    /// Bytes of request bodies.
    pub wire_bytes: u64,
    /// From a sample's timestamp to its receipt.
    pub lag: Spread,
}

impl Measured {
    /// Merges the runs of one agent under a load of `series` series in all.
    pub(super) fn of(name: &str, runs: &[Run], series: u64) -> Measured {
        let windows: Vec<Window> = runs.iter().flat_map(|run| run.windows.clone()).collect();
        let of = |figure: &dyn Fn(&Window) -> f64| median(windows.iter().map(figure).collect());
        let per_sample = |figure: &dyn Fn(&Window) -> f64| {
            of(&|window| figure(window) / window.samples.max(1) as f64)
        };
        let whole: Vec<&Run> = runs.iter().filter(|run| !run.windows.is_empty()).collect();
        let each =
            |figure: &dyn Fn(&Run) -> f64| median(whole.iter().copied().map(figure).collect());
        let sum = |figure: &dyn Fn(&Run) -> u64| runs.iter().map(figure).sum::<u64>();
        let cpu_seconds_per_million =
            1e6 * per_sample(&|window| window.user_seconds + window.system_seconds);
        let looks = whole.iter().filter_map(|run| run.log_looks);
        let looks = looks.reduce(|sum, one| Looks {
            by: one.by,
            all: sum.all + one.all,
            log: sum.log + one.log,
        });
        let reasons: Vec<String> = runs.iter().filter_map(complaint).collect();
        let resident_bytes = of(&|window| window.resident_bytes as f64);
        Measured {
            name: name.to_owned(),
            verified: reasons.is_empty(),
            reason: if reasons.is_empty() {
                "none".into()
            } else {
                reasons.join("; ")
            },
            version: String::new(),
            command: String::new(),
            protocol: protocols(runs.iter().flat_map(|run| &run.received.protocols)),
            samples_per_second: of(&|window| window.samples as f64 / window.seconds),
            user_seconds_per_million: per_sample(&|window| window.user_seconds) * 1e6,
            system_seconds_per_million: per_sample(&|window| window.system_seconds) * 1e6,
            cpu_seconds_per_million,
            resident_mib: resident_bytes / f64::from(1 << 20),
            resident_bytes_per_series: resident_bytes / series.max(1) as f64,
            wire_bytes_per_sample: per_sample(&|window| window.wire_bytes as f64),
            disk_bytes_per_sample: per_sample(&|window| window.disk_bytes as f64),
            log_cpu_ns_per_sample: looks.map(|looks| looks.share() * cpu_seconds_per_million * 1e3),
            log_cpu_by: looks.map_or("", |looks| looks.by).to_owned(),
            log_cpu_looks: looks.map_or((0, 0), |looks| (looks.all, looks.log)),
            jitter: Spread {
                p50_ms: each(&|run| run.jitter.p50_ms),
                p99_ms: each(&|run| run.jitter.p99_ms),
                max_ms: each(&|run| run.jitter.max_ms),
            },
            lag: Spread {
                p50_ms: of(&|window| window.lag.p50_ms),
                p99_ms: of(&|window| window.lag.p99_ms),
                max_ms: of(&|window| window.lag.max_ms),
            },
            slots_missed: sum(&|run| run.slots_missed),
            completeness: whole
                .iter()
                .map(|run| run.received.completeness.share)
                .reduce(f64::min)
                .unwrap_or(0.0),
            gaps: sum(&|run| run.received.findings.gaps + run.received.findings.lost_scrapes),
            wrong_values: sum(&|run| run.received.findings.wrong_values),
            inexact_values: sum(&|run| run.received.inexact_values),
            cold: ColdStart {
                first_sample_seconds: each(&|run| run.cold.first_sample_seconds),
                first_sample_cpu_seconds: each(&|run| run.cold.first_sample_cpu_seconds),
                all_targets_seconds: each(&|run| run.cold.all_targets_seconds),
                all_targets_cpu_seconds: each(&|run| run.cold.all_targets_cpu_seconds),
            },
            sink_cpu_ns_per_sample: each(&|run| run.received.cpu_ns_per_sample),
            fleet_cpu_us_per_scrape: each(&|run| run.fleet_cpu_us_per_scrape),
            windows,
        }
    }
}

fn complaint(run: &Run) -> Option<String> {
    let found = (!run.received.verified).then(|| run.received.reason.clone());
    let parts: Vec<String> = found.into_iter().chain(run.complaint.clone()).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The names of the protocols that brought samples, each once.
fn protocols<'a>(used: impl Iterator<Item = &'a ProtocolUse>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for one in used.filter(|one| one.samples > 0) {
        if !names.contains(&one.protocol.as_str()) {
            names.push(&one.protocol);
        }
    }
    names.join(", ")
}

/// The middle value, or the mean of the two in the middle; 0 for none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count.is_multiple_of(2) => (values[count / 2 - 1] + values[count / 2]) / 2.0,
        count => values[count / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(samples: u64, user_seconds: f64) -> Window {
        Window {
            seconds: 10.0,
            samples,
            user_seconds,
            ..Window::default()
        }
    }

    fn run(windows: Vec<Window>, all_targets_seconds: f64) -> Run {
        let mut run = Run {
            windows,
            ..Run::default()
        };
        run.cold.all_targets_seconds = all_targets_seconds;
        run.received.verified = true;
        run.received.completeness.share = 1.0;
        run
    }

    #[test]
    fn medians_over_all_windows_of_all_rounds() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert_eq!(median(vec![]), 0.0);
        let mut runs = [
            run(vec![window(1_000_000, 1.0), window(2_000_000, 1.0)], 4.0),
            run(vec![window(1_000_000, 4.0)], 8.0),
        ];
        let measured = Measured::of("x", &runs, 10);
        assert_eq!(measured.user_seconds_per_million, 1.0);
        assert_eq!(measured.samples_per_second, 100_000.0);
        assert_eq!(measured.cold.all_targets_seconds, 6.0);
        assert_eq!((measured.verified, measured.windows.len()), (true, 3));
        assert_eq!(measured.log_cpu_ns_per_sample, None);
        for (run, log) in runs.iter_mut().zip([10, 40]) {
            run.log_looks = Some(Looks {
                by: "perf",
                all: 100,
                log,
            });
        }
        let measured = Measured::of("x", &runs, 10);
        assert_eq!(measured.cpu_seconds_per_million, 1.0);
        assert_eq!(measured.log_cpu_ns_per_sample, Some(250.0));
        assert_eq!(
            (&*measured.log_cpu_by, measured.log_cpu_looks),
            ("perf", (200, 50))
        );
        runs[1].received.verified = false;
        runs[1].received.reason = "3 gaps".into();
        runs[1].received.completeness.share = 0.5;
        let measured = Measured::of("x", &runs, 10);
        assert_eq!((measured.verified, &*measured.reason), (false, "3 gaps"));
        assert_eq!(measured.completeness, 0.5);
        runs[1] = Run::failed("it died");
        let measured = Measured::of("x", &runs, 10);
        assert_eq!((measured.verified, &*measured.reason), (false, "it died"));
        assert_eq!((measured.completeness, measured.windows.len()), (1.0, 2));
        assert_eq!(Measured::of("x", &runs[1..], 10).completeness, 0.0);
    }

    #[test]
    fn protocols_are_named_once() {
        let of = |protocol: &str, samples| ProtocolUse {
            protocol: protocol.into(),
            samples,
            ..ProtocolUse::default()
        };
        let used = [of("a", 1), of("b", 0), of("c", 2), of("a", 3)];
        assert_eq!(protocols(used.iter()), "a, c");
    }
}
