//! Readings of a counter, taken whenever somebody asks -> its rate over the last minute.

use std::collections::VecDeque;

/// How far back readings count.
const WINDOW_MS: i64 = 60_000;
/// Readings closer together than this replace each other.
const STEP_MS: i64 = 1_000;

/// The last minute of one counter.
#[derive(Debug)]
pub(super) struct Rate {
    /// Time and value, oldest first; the first is older than the window if there is such a one.
    readings: VecDeque<(i64, u64)>,
}

impl Rate {
    /// The counter is 0 at `started_ms`.
    pub(super) fn new(started_ms: i64) -> Self {
        Self {
            readings: [(started_ms, 0)].into(),
        }
    }

    /// Takes a reading; the counter's rise per second since the oldest reading of the last minute,
    /// or since the last one that is older.
    pub(super) fn reading(&mut self, now_ms: i64, total: u64) -> f64 {
        // A clock that stepped back makes all readings useless.
        self.readings
            .retain(|(time_ms, value)| *time_ms <= now_ms && *value <= total);
        while self.readings.len() > 1 && self.readings[1].0 <= now_ms - WINDOW_MS {
            self.readings.pop_front();
        }
        let rate = match self.readings.front() {
            Some((then_ms, value)) if *then_ms < now_ms => {
                (total - value) as f64 * 1e3 / (now_ms - then_ms) as f64
            }
            _ => 0.0,
        };
        if self
            .readings
            .back()
            .is_none_or(|(last_ms, _)| now_ms - last_ms >= STEP_MS)
        {
            self.readings.push_back((now_ms, total));
        }
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_change_of_rate_is_seen_within_a_minute() {
        let mut rate = Rate::new(0);
        assert_eq!(rate.reading(100_000, 1_000), 10.0, "since the start");
        for second in 101..=160 {
            rate.reading(second * 1_000, 1_000);
        }
        assert_eq!(rate.reading(161_000, 1_000), 0.0);
        assert_eq!(rate.reading(50_000, 1_000), 0.0, "the clock stepped back");
        assert_eq!(rate.reading(51_000, 1_007), 7.0);
    }

    proptest! {
        #[test]
        fn a_steady_counter_has_its_rate(steps in prop::collection::vec(1i64..90_000, 1..300)) {
            let mut rate = Rate::new(0);
            let mut now_ms = 0;
            for step in steps {
                now_ms += step;
                let found = rate.reading(now_ms, now_ms as u64 * 5);
                prop_assert!((found - 5_000.0).abs() < 1e-6, "{}", found);
                prop_assert!(rate.readings.len() <= 62);
            }
        }
    }
}
