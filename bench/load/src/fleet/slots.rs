//! Arrival times of one target's scrapes -> how far each was off the target's own regular grid.

/// What the arrivals of one target say; times in units of 10 us.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slots {
    /// Slots between the first and the last arrival that nothing arrived in.
    pub(super) missed: u64,
    /// Arrivals in a slot that had one already.
    pub(super) doubled: u64,
    /// Per arrival, how much later than the earliest phase seen; never negative.
    pub(super) lateness: Vec<u32>,
    /// Per arrival, how far from the median phase, either way.
    pub(super) jitter: Vec<u32>,
}

/// Measures `arrivals` (ascending) against a grid of `interval`, both in units of 10 us.
///
/// The phase of the grid is the median of the arrivals' residuals modulo the interval, taken around
/// the first arrival, so that a few late ones do not move it. An arrival belongs to the nearest
/// slot:
/// one that is late by less than half an interval is late, by more is a miss and an early next one.
pub(super) fn measure(arrivals: &[u32], interval: u32) -> Slots {
    let (Some(&first), true) = (arrivals.first(), interval > 0) else {
        return Slots::default();
    };
    let (interval, half) = (i64::from(interval), i64::from(interval) / 2);
    // Residuals in [-half, half) around a centre; recentred once so that the wrap is far away.
    let residuals = |centre: i64| -> Vec<i64> {
        let residual = |at: &u32| {
            let since = i64::from(*at) - i64::from(first) - centre;
            (since + half).rem_euclid(interval) - half
        };
        arrivals.iter().map(residual).collect()
    };
    let median = |mut values: Vec<i64>| {
        let middle = values.len() / 2;
        *values.select_nth_unstable(middle).1
    };
    let phase = median(residuals(0));
    let around = residuals(phase);
    let earliest = around.iter().copied().min().unwrap_or(0);
    let mut slots = Slots::default();
    let mut last: Option<i64> = None;
    for (at, residual) in arrivals.iter().zip(&around) {
        slots.lateness.push((residual - earliest) as u32);
        slots.jitter.push(residual.unsigned_abs() as u32);
        let slot = (i64::from(*at) - i64::from(first) - phase - residual) / interval;
        match last {
            Some(last) if slot == last => slots.doubled += 1,
            Some(last) => slots.missed += (slot - last - 1).max(0) as u64,
            None => {}
        }
        last = Some(slot);
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn regular_arrivals_are_on_the_grid() {
        let slots = measure(&[500, 1500, 2500, 3500], 1000);
        assert_eq!((slots.missed, slots.doubled), (0, 0));
        assert_eq!(slots.jitter, [0; 4]);
        assert_eq!(slots.lateness, [0; 4]);
    }

    #[test]
    fn missed_and_doubled_slots() {
        assert_eq!(measure(&[0, 1000, 4000, 5000], 1000).missed, 2);
        assert_eq!(measure(&[0, 1000, 1001, 2000], 1000).doubled, 1);
        assert_eq!(measure(&[], 1000), Slots::default());
        assert_eq!(measure(&[7], 1000).jitter, [0]);
    }

    #[test]
    fn a_late_first_arrival_does_not_move_the_grid() {
        let slots = measure(&[400, 1000, 2000, 3000, 4000], 1000);
        assert_eq!(slots.jitter, [400, 0, 0, 0, 0]);
        assert_eq!(slots.lateness, [400, 0, 0, 0, 0]);
        assert_eq!((slots.missed, slots.doubled), (0, 0));
    }

    proptest! {
        /// Model: slots and offsets chosen first, arrivals made from them.
        #[test]
        fn finds_what_was_put_in(
            phase in 0..1000u32,
            late in proptest::collection::vec(0..200u32, 20..60),
            skipped in proptest::collection::hash_set(1..19usize, 0..6),
        ) {
            let arrivals: Vec<u32> = late.iter().enumerate()
                .filter(|(slot, _)| !skipped.contains(slot))
                .map(|(slot, late)| phase + slot as u32 * 1000 + late)
                .collect();
            let slots = measure(&arrivals, 1000);
            prop_assert_eq!(slots.missed, skipped.len() as u64);
            prop_assert_eq!(slots.doubled, 0);
            let least = arrivals.iter().map(|at| (at - phase) % 1000).min().unwrap();
            let expected: Vec<u32> =
                arrivals.iter().map(|at| (at - phase) % 1000 - least).collect();
            prop_assert_eq!(slots.lateness, expected);
        }
    }
}
