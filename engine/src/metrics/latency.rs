//! Durations in microseconds -> quantiles, by hdrhistogram.

use hdrhistogram::Histogram;

/// Longest duration told apart: an hour, in microseconds. Longer ones count as this.
const MICROSECONDS_MAX: u64 = 3_600_000_000;

/// A histogram with two significant digits, and the exact sum.
#[derive(Debug, Clone)]
pub struct Latency {
    histogram: Histogram<u64>,
    sum_us: u64,
}

impl Latency {
    /// No durations yet.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, MICROSECONDS_MAX, 2)
            .expect("BUG: the bounds are constants that hdrhistogram accepts");
        Self {
            histogram,
            sum_us: 0,
        }
    }

    /// Counts one duration.
    pub fn record(&mut self, duration_us: u64) {
        self.sum_us += duration_us;
        self.histogram.saturating_record(duration_us.max(1));
    }

    /// Adds all durations of `other`.
    pub fn add(&mut self, other: &Latency) {
        self.sum_us += other.sum_us;
        self.histogram
            .add(&other.histogram)
            .expect("BUG: all histograms have equal bounds");
    }

    /// The histogram, in microseconds.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// Sum of all durations, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_and_outliers_are_kept() {
        let mut a = Latency::new();
        a.record(0);
        a.record(1_500);
        let mut b = Latency::new();
        b.record(2 * MICROSECONDS_MAX);
        a.add(&b);
        assert_eq!(a.sum_us(), 2 * MICROSECONDS_MAX + 1_500);
        assert_eq!(a.histogram().len(), 3);
    }
}
