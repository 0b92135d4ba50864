//! Figures -> a block of lines redrawn in place on a terminal, or one line now and then elsewhere.

use std::fmt::Write as _;
use std::time::Duration;

use super::figures::{Figures, thousands};
use crate::error::Error;
use crate::output;

/// Where the figures go.
pub(super) struct Display {
    live: bool,
    /// Lines on the terminal that the next block overwrites.
    lines: usize,
}

impl Display {
    pub(super) fn new(live: bool) -> Display {
        Display { live, lines: 0 }
    }

    /// Shows the figures; `end` is the length of the run.
    ///
    /// # Errors
    /// `Io` when standard output is closed.
    pub(super) fn show(
        &mut self,
        figures: &Figures,
        elapsed: Duration,
        end: Duration,
    ) -> Result<(), Error> {
        if !self.live {
            return output::say(&line(figures, elapsed));
        }
        let block = block(figures, elapsed, end);
        let mut text = String::new();
        if self.lines > 0 {
            let _ = write!(text, "\x1b[{}A\x1b[J", self.lines);
        }
        text.push_str(&block);
        self.lines = block.lines().count();
        output::say(&text)
    }
}

fn matched(figures: &Figures) -> String {
    figures
        .matched
        .map_or("-".into(), |share| format!("{:.2} %", share * 100.0))
}

/// A figure per sample or series, which means nothing before the first one.
fn per(count: u64, figure: String) -> String {
    if count == 0 { "-".into() } else { figure }
}

fn block(figures: &Figures, elapsed: Duration, end: Duration) -> String {
    let mut out = String::new();
    let mut row = |name: &str, text: String| {
        let _ = writeln!(out, "  {name:<10} {text}");
    };
    row(
        "time",
        format!("{} s of {} s", elapsed.as_secs(), end.as_secs()),
    );
    row(
        "scrapes",
        format!(
            "{} of {} targets, {} scrapes, {} slots missed, jitter p99 {:.1} ms",
            thousands(figures.targets_seen),
            thousands(u64::from(figures.targets)),
            thousands(figures.scrapes),
            figures.slots_missed,
            figures.jitter_p99_ms
        ),
    );
    row(
        "delivered",
        format!(
            "{} samples/s, {:.1} bytes a sample on the wire",
            thousands(figures.samples_per_second as u64),
            figures.wire_bytes_per_sample
        ),
    );
    row(
        "CPU",
        format!(
            "{} s per million samples ({:.2} s user, {:.2} s system; now {:.1} % of a core)",
            per(
                figures.samples,
                format!("{:.2}", figures.cpu_seconds_per_million)
            ),
            figures.user_seconds,
            figures.system_seconds,
            figures.cores * 100.0
        ),
    );
    row(
        "memory",
        format!(
            "{:.1} MiB resident, {} bytes a series ({} series)",
            figures.resident_bytes as f64 / f64::from(1 << 20),
            per(figures.series, format!("{:.0}", figures.bytes_per_series)),
            thousands(figures.series)
        ),
    );
    row(
        "lag",
        format!(
            "p50 {:.0} ms, p99 {:.0} ms",
            figures.lag_p50_ms, figures.lag_p99_ms
        ),
    );
    row("matched", matched(figures));
    row(
        "verified",
        format!(
            "{} samples: {} gaps, {} duplicates, {} wrong values; findings: {}",
            thousands(figures.samples),
            figures.gaps,
            figures.duplicates,
            figures.wrong,
            figures.findings
        ),
    );
    out
}

fn line(figures: &Figures, elapsed: Duration) -> String {
    format!(
        "{:>3} s  {} targets  {} samples/s  {} verified  {} CPU-s/M samples  {:.1} MiB  \
         {} B/series  lag p99 {:.0} ms  matched {}  findings: {}\n",
        elapsed.as_secs(),
        thousands(figures.targets_seen),
        thousands(figures.samples_per_second as u64),
        thousands(figures.samples),
        per(
            figures.samples,
            format!("{:.2}", figures.cpu_seconds_per_million)
        ),
        figures.resident_bytes as f64 / f64::from(1 << 20),
        per(figures.series, format!("{:.0}", figures.bytes_per_series)),
        figures.lag_p99_ms,
        matched(figures),
        figures.findings
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_is_stable_in_height_and_line_is_one() {
        let figures = Figures::default();
        let second = Duration::from_secs(1);
        let lines = block(&figures, second, second * 60).lines().count();
        let mut later = Figures::default();
        (later.samples, later.matched) = (u64::MAX, Some(0.5));
        assert_eq!(
            block(&later, second * 59, second * 60).lines().count(),
            lines
        );
        assert_eq!(line(&figures, second).lines().count(), 1);
    }
}
