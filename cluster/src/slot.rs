//! A target's key and interval -> the times at which it is scraped.
//!
//! Slot k of a target is at `phase + k * interval` milliseconds since the Unix epoch. The phase
//! lies on a grid that depends on the interval alone, so that targets come due in groups and a
//! group costs one wake-up; the key spreads targets over the grid.

use crate::key::TargetKey;
use crate::spot::Replica;

/// Shortest distance between two places of the grid, in ms.
pub const GRID_MS_MIN: u64 = 10;
/// Longest distance between two places of the grid, in ms.
pub const GRID_MS_MAX: u64 = 50;
/// Places that an interval is divided into, between the two bounds.
const GRID_PLACES: u64 = 256;

/// Distance between two places of the grid: `interval / 256`, at least 10 ms and at most 50 ms.
pub const fn grid_ms(interval_ms: u64) -> u64 {
    let grid = interval_ms / GRID_PLACES;
    if grid < GRID_MS_MIN {
        GRID_MS_MIN
    } else if grid > GRID_MS_MAX {
        GRID_MS_MAX
    } else {
        grid
    }
}

/// The slot times of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    interval_ms: i64,
    phase_ms: i64,
}

impl Slots {
    /// `interval_ms`: at least 1 (0 is taken as 1). The phase is `(key mod places) * grid`, where
    /// `places` is how often the grid fits into the interval, at least once.
    pub fn new(key: TargetKey, interval_ms: u64) -> Self {
        Self::of_replica(key, interval_ms, Replica::ONLY)
    }

    /// The same of one replica; `key` is that of the target without replicas. Their slots are
    /// spread evenly over the interval, on the grid: that of index `i` of `n` is later by
    /// `i * places / n` places, and the phase stays below the interval.
    pub fn of_replica(key: TargetKey, interval_ms: u64, replica: Replica) -> Self {
        let interval_ms = interval_ms.clamp(1, i64::MAX as u64);
        let grid = grid_ms(interval_ms);
        let places = (interval_ms / grid).max(1);
        let ahead =
            u128::from(places) * u128::from(replica.index) / u128::from(replica.count.max(1));
        let place = (u128::from(key.0 % places) + ahead) % u128::from(places);
        Self {
            interval_ms: interval_ms as i64,
            phase_ms: (place as u64 * grid) as i64,
        }
    }

    /// Milliseconds between two slots.
    pub fn interval_ms(&self) -> u64 {
        self.interval_ms as u64
    }

    /// Time of slot 0, in ms: a multiple of the grid, below the interval.
    pub fn phase_ms(&self) -> i64 {
        self.phase_ms
    }

    /// Time of slot `number`, in ms since the Unix epoch.
    pub fn time_ms(&self, number: i64) -> i64 {
        number
            .saturating_mul(self.interval_ms)
            .saturating_add(self.phase_ms)
    }

    /// Number of the last slot at or before `time_ms`.
    pub fn number_at(&self, time_ms: i64) -> i64 {
        time_ms
            .saturating_sub(self.phase_ms)
            .div_euclid(self.interval_ms)
    }

    /// Number of the first slot at or after `time_ms`.
    pub fn number_from(&self, time_ms: i64) -> i64 {
        let number = self.number_at(time_ms);
        if self.time_ms(number) < time_ms {
            number.saturating_add(1)
        } else {
            number
        }
    }

    /// Time of the first slot at or after `time_ms`.
    pub fn next_ms(&self, time_ms: i64) -> i64 {
        self.time_ms(self.number_from(time_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_grid_is_bounded() {
        for (interval_ms, grid) in [
            (1, 10),
            (1_000, 10),
            (2_560, 10),
            (5_000, 19),
            (12_800, 50),
            (60_000, 50),
            (u64::MAX, 50),
        ] {
            assert_eq!(grid_ms(interval_ms), grid, "{interval_ms}");
        }
    }

    #[test]
    fn slots_never_change() {
        let slots = Slots::new(TargetKey(1_234_567_890_123_456_789), 15_000);
        // 300 places of 50 ms; 1234567890123456789 mod 300 = 189.
        assert_eq!(slots.phase_ms(), 9_450);
        assert_eq!(slots.time_ms(118_000_000), 1_770_000_009_450);
        assert_eq!(slots.next_ms(1_770_000_000_000), 1_770_000_009_450);
        assert_eq!(slots.next_ms(1_770_000_009_450), 1_770_000_009_450);
        assert_eq!(slots.next_ms(1_770_000_009_451), 1_770_000_024_450);
        assert_eq!(Slots::new(TargetKey(7), 3).phase_ms(), 0);
    }

    #[test]
    fn phases_spread_over_the_interval() {
        // 10 s: a grid of 39 ms, 256 places, 78 targets on each.
        let mut hits = vec![0u32; 256];
        for n in 0..20_000u64 {
            let key = TargetKey::new("job", &format!("http://10.0.0.1:{n}/metrics"), []);
            let slots = Slots::new(key, 10_000);
            hits[(slots.phase_ms() / 39) as usize] += 1;
        }
        assert!(hits.iter().all(|hits| (40..130).contains(hits)), "{hits:?}");
    }

    proptest! {
        #[test]
        fn slots_agree_with_their_definition(
            key in any::<u64>(),
            interval_ms in 1u64..100_000_000,
            time_ms in -10_000_000_000_000i64..10_000_000_000_000,
        ) {
            let slots = Slots::new(TargetKey(key), interval_ms);
            prop_assert!((0..interval_ms as i64).contains(&slots.phase_ms()));
            prop_assert_eq!(slots.phase_ms() as u64 % grid_ms(interval_ms), 0);
            let at = slots.number_at(time_ms);
            prop_assert!(slots.time_ms(at) <= time_ms && time_ms < slots.time_ms(at + 1));
            let from = slots.number_from(time_ms);
            prop_assert!(slots.time_ms(from - 1) < time_ms && time_ms <= slots.time_ms(from));
            prop_assert_eq!(slots.next_ms(slots.time_ms(from)), slots.time_ms(from));
        }

        /// On the grid, and as far apart as it allows: one place and what is left of the interval.
        #[test]
        fn replicas_are_spread_over_the_interval(
            key in any::<u64>(),
            interval_ms in 1u64..200_000,
            count in 1u8..=8,
        ) {
            let all: Vec<Slots> = Replica::of(count)
                .map(|replica| Slots::of_replica(TargetKey(key), interval_ms, replica))
                .collect();
            prop_assert_eq!(all[0], Slots::new(TargetKey(key), interval_ms));
            let (first_ms, grid) = (all[0].phase_ms(), grid_ms(interval_ms));
            for (index, slots) in all.iter().enumerate() {
                prop_assert!((0..interval_ms as i64).contains(&slots.phase_ms()));
                prop_assert_eq!(slots.phase_ms() as u64 % grid, 0);
                let later_ms = slots.next_ms(first_ms) - first_ms;
                let wanted_ms = interval_ms as i64 * index as i64 / i64::from(count);
                prop_assert!((later_ms - wanted_ms).unsigned_abs() <= 2 * grid, "{later_ms}");
            }
        }

        #[test]
        fn no_time_panics(
            key in any::<u64>(),
            interval_ms in any::<u64>(),
            time_ms in any::<i64>(),
            index in any::<u8>(),
            count in any::<u8>(),
        ) {
            let replica = Replica { index, count };
            let slots = Slots::of_replica(TargetKey(key), interval_ms, replica);
            let _ = slots.next_ms(time_ms);
        }
    }
}
