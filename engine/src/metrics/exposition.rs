//! Metric values -> Prometheus text 0.0.4.

use super::table::{Kind, Metric};
use std::fmt::Write;

/// A text exposition under construction. Families must be written one after the other.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    open: Option<&'static str>,
}

impl Exposition {
    /// An empty exposition.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one sample of `metric`; its HELP and TYPE go before the first one.
    pub fn sample(&mut self, metric: &'static Metric, labels: &[(&str, &str)], value: f64) {
        self.suffixed(metric, "", labels, value);
    }

    /// Adds count, sum and quantiles of a histogram of microseconds, in seconds.
    pub fn latency(
        &mut self,
        metric: &'static Metric,
        labels: &[(&str, &str)],
        histogram: &hdrhistogram::Histogram<u64>,
        sum_us: u64,
    ) {
        debug_assert!(matches!(metric.kind, Kind::Summary));
        for (quantile, text) in [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99"), (1.0, "1")] {
            let mut all = labels.to_vec();
            all.push(("quantile", text));
            let value_us = histogram.value_at_quantile(quantile);
            self.suffixed(metric, "", &all, value_us as f64 / 1e6);
        }
        self.suffixed(metric, "_sum", labels, sum_us as f64 / 1e6);
        self.suffixed(metric, "_count", labels, histogram.len() as f64);
    }

    /// Adds the buckets, sum and count of a histogram. `counts[i]`: values up to `bounds[i]` and
    /// above the bound before; the last is beyond all bounds.
    pub fn histogram(
        &mut self,
        metric: &'static Metric,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        debug_assert!(matches!(metric.kind, Kind::Histogram) && counts.len() == bounds.len() + 1);
        let mut total = 0;
        for (index, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(index).map_or("+Inf".to_owned(), f64::to_string);
            let mut all = labels.to_vec();
            all.push(("le", &bound));
            self.suffixed(metric, "_bucket", &all, total as f64);
        }
        self.suffixed(metric, "_sum", labels, sum);
        self.suffixed(metric, "_count", labels, total as f64);
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn suffixed(
        &mut self,
        metric: &'static Metric,
        suffix: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        if self.open != Some(metric.name) {
            self.open = Some(metric.name);
            let kind = metric.kind.as_str();
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "# HELP {} {}", metric.name, metric.help);
            let _ = writeln!(self.text, "# TYPE {} {kind}", metric.name);
        }
        self.text.push_str(metric.name);
        self.text.push_str(suffix);
        for (index, (name, label)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for character in label.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        // Rust writes `inf`.
        let _ = match value == f64::INFINITY {
            true => writeln!(self.text, " +Inf"),
            false => writeln!(self.text, " {value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static UP: Metric = Metric {
        name: "up_total",
        kind: Kind::Counter,
        labels: &["job"],
        help: "Things.",
    };

    #[test]
    fn help_stands_once_and_labels_are_escaped() {
        let mut text = Exposition::new();
        text.sample(&UP, &[("job", "a\"b\\c\nd")], 1.0);
        text.sample(&UP, &[("job", "e")], 2.5);
        text.sample(&UP, &[], f64::INFINITY);
        assert_eq!(
            text.into_text(),
            "# HELP up_total Things.\n# TYPE up_total counter\n\
             up_total{job=\"a\\\"b\\\\c\\nd\"} 1\nup_total{job=\"e\"} 2.5\nup_total +Inf\n"
        );
    }
}
