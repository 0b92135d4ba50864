//! True time -> what the clocks of one node say.

use crate::time::{EPOCH_MS, Micros};
use ringscrape_cluster::Now;

/// The clocks of one node.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// By how much the Unix clock is ahead, on top of the drift.
    offset_us: i64,
    /// How much faster than true time both clocks run, in millionths.
    drift_ppm: i64,
    /// What the monotonic clock said at true time 0: it starts anywhere.
    monotonic_us: u64,
}

impl Clock {
    /// Clocks that have been off and drifting since the beginning.
    pub(crate) fn new(offset_ms: i64, drift_ppm: i64, monotonic_ms: u64) -> Self {
        Self {
            offset_us: offset_ms * 1_000,
            drift_ppm,
            monotonic_us: monotonic_ms * 1_000,
        }
    }

    /// What they say.
    pub(crate) fn now(&self, at: Micros) -> Now {
        let elapsed_us = self.elapsed_us(at);
        let unix_us = EPOCH_MS * 1_000 + elapsed_us as i64 + self.offset_us;
        Now {
            unix_ms: unix_us.div_euclid(1_000),
            monotonic_ms: (self.monotonic_us + elapsed_us) / 1_000,
        }
    }

    /// The first true time at which the monotonic clock says this, or somewhat after.
    pub(crate) fn when(&self, monotonic_ms: u64) -> Micros {
        let elapsed_us = monotonic_ms
            .saturating_mul(1_000)
            .saturating_sub(self.monotonic_us);
        if elapsed_us > i64::MAX as u64 {
            return Micros::MAX;
        }
        let mut at = (i128::from(elapsed_us) * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm)))
            as Micros;
        while self.elapsed_us(at) < elapsed_us {
            at += 1;
        }
        at
    }

    /// Sets the Unix clock ahead, or back.
    pub(crate) fn step(&mut self, by_ms: i64) {
        self.offset_us += by_ms * 1_000;
    }

    /// Unix time minus true time, at a true time.
    pub(crate) fn error_ms(&self, at: Micros) -> i64 {
        self.now(at).unix_ms - EPOCH_MS - (at / 1_000) as i64
    }

    fn elapsed_us(&self, at: Micros) -> u64 {
        let drift_us = i128::from(at) * i128::from(self.drift_ppm) / 1_000_000;
        (i128::from(at) + drift_us) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_never_early() {
        for drift_ppm in [-500, -3, 0, 7, 500] {
            let clock = Clock::new(-1_500, drift_ppm, 4_711);
            for monotonic_ms in [4_712, 5_000, 1_000_003, 77_777_777] {
                let at = clock.when(monotonic_ms);
                assert_eq!(clock.now(at).monotonic_ms, monotonic_ms);
                assert!(clock.now(at - 2).monotonic_ms < monotonic_ms);
            }
        }
    }

    #[test]
    fn a_step_moves_only_the_unix_clock() {
        let mut clock = Clock::new(0, 0, 0);
        let before = clock.now(5_000_000);
        clock.step(-2_000);
        let after = clock.now(5_000_000);
        assert_eq!(after.unix_ms, before.unix_ms - 2_000);
        assert_eq!(after.monotonic_ms, before.monotonic_ms);
        assert_eq!(clock.error_ms(5_000_000), -2_000);
    }
}
