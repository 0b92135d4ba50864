//! A target's slot times and what has happened -> its next scrape, and the time it is stamped with.
//!
//! Rules: a target's slot number only rises, whatever the wall clock does. One target is never
//! scraped twice at once: slots that come while a scrape runs are dropped, but for one that is
//! still fresh when it ends. A scrape that starts late is made for the slot that is current then;
//! the slots before it are missed. Whatever is not scraped is counted by one of the two causes.

use ringscrape_cluster::slot::Slots;

/// A scrape is stamped with its slot's time if it started within this part of the interval.
const STAMP_TOLERANCE_DIVISOR: i64 = 10;

/// How far a target is in its slots: 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// The last slot that was scraped or dropped.
    last: i64,
}

/// A slot to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Its number.
    pub number: i64,
    /// When to begin, in ms since the Unix epoch; may be the present or the past.
    pub at_ms: i64,
    /// Slots dropped because the scrape before took longer than the interval.
    pub overrun: u64,
}

/// A slot that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// Its number.
    pub number: i64,
    /// Its time, in ms since the Unix epoch.
    pub slot_ms: i64,
    /// What to stamp the scrape with, in ms since the Unix epoch: `slot_ms` if it is on time.
    pub timestamp_ms: i64,
    /// How late it is, in ms.
    pub late_ms: u64,
    /// Slots missed since the last one because nothing started them in time.
    pub missed: u64,
}

impl Turns {
    /// A target that is scraped from its first slot at or after `now_ms`.
    pub fn starting_at(slots: &Slots, now_ms: i64) -> Turns {
        Turns {
            last: slots.number_from(now_ms).saturating_sub(1),
        }
    }

    /// A target whose last scrape was stamped `last_ms`: its slots go on behind that, and those
    /// missed since are counted. Also for a target whose interval has changed.
    pub fn after(slots: &Slots, last_ms: i64) -> Turns {
        Turns {
            last: slots.number_at(last_ms),
        }
    }

    /// The same target, to be scraped from its first slot at or after `now_ms`, none twice.
    /// `changed`: `slots` are not those that it was scraped by before.
    pub fn no_earlier_than(self, slots: &Slots, changed: bool, now_ms: i64) -> Turns {
        let fresh = Turns::starting_at(slots, now_ms);
        match changed {
            true => fresh,
            false => Turns {
                last: self.last.max(fresh.last),
            },
        }
    }

    /// How many slots lie between two states of one target's turns.
    pub(super) fn slots_since(self, before: Turns) -> u64 {
        self.last.saturating_sub(before.last).max(0).unsigned_abs()
    }

    /// The next slot, with nothing in flight: the one after the last, or, if its time has passed,
    /// the present one. To be called when a target is added.
    pub fn next(&self, slots: &Slots, now_ms: i64) -> Next {
        let number = slots.number_at(now_ms).max(self.last.saturating_add(1));
        Next {
            number,
            at_ms: slots.time_ms(number),
            overrun: 0,
        }
    }

    /// A scrape may begin now. `None`: no slot is due yet (the wake-up was early, or the clock was
    /// set back); ask [`Turns::next`] again.
    pub fn begin(&mut self, slots: &Slots, now_ms: i64) -> Option<Begun> {
        let number = slots.number_at(now_ms);
        if number <= self.last {
            return None;
        }
        let missed = number.saturating_sub(self.last).saturating_sub(1);
        self.last = number;
        let slot_ms = slots.time_ms(number);
        let late_ms = now_ms.saturating_sub(slot_ms);
        Some(Begun {
            number,
            slot_ms,
            timestamp_ms: match late_ms <= tolerance_ms(slots) {
                true => slot_ms,
                false => now_ms,
            },
            late_ms: late_ms.unsigned_abs(),
            missed: missed.unsigned_abs(),
        })
    }

    /// The scrape that [`Turns::begin`] began has ended. A slot that came meanwhile is still taken
    /// if it can be stamped with its own time; so a target that takes the whole interval to time
    /// out fails in each slot, as it should, and one that took longer is back on its grid.
    pub fn finish(&mut self, slots: &Slots, now_ms: i64) -> Next {
        let current = slots.number_at(now_ms);
        let fresh = now_ms.saturating_sub(slots.time_ms(current)) <= tolerance_ms(slots);
        let dropped_to = match fresh {
            true => current.saturating_sub(1),
            false => current,
        };
        let overrun = dropped_to.saturating_sub(self.last).max(0).unsigned_abs();
        self.last = self.last.max(dropped_to);
        Next {
            overrun,
            ..self.next(slots, now_ms)
        }
    }
}

/// How late a scrape may start and still be stamped with its slot's time, in ms.
fn tolerance_ms(slots: &Slots) -> i64 {
    slots.interval_ms() as i64 / STAMP_TOLERANCE_DIVISOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringscrape_cluster::key::TargetKey;

    const INTERVAL_MS: i64 = 10_000;

    /// Slots at 0, 10 s, 20 s …
    fn slots() -> Slots {
        let slots = Slots::new(TargetKey(0), INTERVAL_MS as u64);
        assert_eq!(slots.phase_ms(), 0);
        slots
    }

    #[test]
    fn a_target_that_comes_back_has_missed_nothing() {
        let slots = slots();
        let mut turns = Turns::starting_at(&slots, 95_000);
        assert!(turns.begin(&slots, 100_000).is_some());
        let mut back = turns.no_earlier_than(&slots, false, 165_000);
        assert_eq!(back.next(&slots, 165_000).at_ms, 170_000);
        assert_eq!(back.begin(&slots, 170_000).unwrap().missed, 0);
        // At once: the slot it had is not scraped again.
        let at_once = turns.no_earlier_than(&slots, false, 100_000);
        assert_eq!(at_once.next(&slots, 100_000).at_ms, 110_000);
    }

    #[test]
    fn on_time_late_and_missed() {
        let slots = slots();
        let mut turns = Turns::starting_at(&slots, 95_000);
        let next = turns.next(&slots, 95_000);
        assert_eq!((next.number, next.at_ms), (10, 100_000));
        assert_eq!(turns.begin(&slots, 99_999), None);
        let begun = |number, timestamp_ms, late_ms, missed| {
            Some(Begun {
                number,
                slot_ms: number * INTERVAL_MS,
                timestamp_ms,
                late_ms,
                missed,
            })
        };
        assert_eq!(turns.begin(&slots, 100_001), begun(10, 100_000, 1, 0));
        assert_eq!(turns.begin(&slots, 100_002), None, "once only");
        assert_eq!(turns.begin(&slots, 111_000), begun(11, 110_000, 1_000, 0));
        assert_eq!(turns.begin(&slots, 121_001), begun(12, 121_001, 1_001, 0));
        assert_eq!(turns.begin(&slots, 159_999), begun(15, 159_999, 9_999, 2));
        assert_eq!(turns.next(&slots, 159_999).at_ms, 160_000);
    }

    #[test]
    fn overruns_drop_slots_that_are_not_fresh() {
        let slots = slots();
        for (ends_ms, at_ms, overrun) in [
            (100_500, 110_000, 0),
            (109_999, 110_000, 0),
            (110_003, 110_000, 0),
            (111_000, 110_000, 0),
            (111_001, 120_000, 1),
            (135_000, 140_000, 3),
            (140_000, 140_000, 3),
        ] {
            let mut turns = Turns::starting_at(&slots, 100_000);
            turns.begin(&slots, 100_000).unwrap();
            let next = turns.finish(&slots, ends_ms);
            assert_eq!((next.at_ms, next.overrun), (at_ms, overrun), "{ends_ms}");
            let begun = turns.begin(&slots, next.at_ms.max(ends_ms)).unwrap();
            assert_eq!((begun.slot_ms, begun.missed), (at_ms, 0), "{ends_ms}");
            assert_eq!(begun.timestamp_ms, at_ms, "{ends_ms}");
        }
    }

    #[test]
    fn a_clock_set_back_repeats_nothing() {
        let slots = slots();
        let mut turns = Turns::starting_at(&slots, 100_000);
        turns.begin(&slots, 100_000).unwrap();
        let next = turns.finish(&slots, 70_000);
        assert_eq!((next.at_ms, next.overrun), (110_000, 0));
        assert_eq!(turns.begin(&slots, 80_000), None);
        assert_eq!(turns.begin(&slots, 110_000).unwrap().missed, 0);
    }

    #[test]
    fn a_target_taken_over_goes_on_behind_its_last_scrape() {
        let slots = slots();
        let mut turns = Turns::after(&slots, 100_000);
        assert_eq!(turns.next(&slots, 105_000).at_ms, 110_000);
        assert_eq!(turns.next(&slots, 125_000).at_ms, 120_000);
        assert_eq!(turns.begin(&slots, 125_000).unwrap().missed, 1);
    }

    proptest! {
        /// Whatever the clock does and however long scrapes take: numbers rise, each slot up to
        /// the last one is scraped, missed or overrun exactly once, timestamps lie in their slot.
        #[test]
        fn every_slot_is_accounted_for(
            key in any::<u64>(),
            interval_ms in 1_u64..100_000,
            start_ms in 0_i64..10_000_000,
            steps in prop::collection::vec((-20_000_i64..200_000, 0_i64..200_000), 1..60),
        ) {
            let slots = Slots::new(TargetKey(key), interval_ms);
            let mut turns = Turns::starting_at(&slots, start_ms);
            let first = slots.number_from(start_ms);
            let (mut now_ms, mut accounted, mut last) = (start_ms, 0, first - 1);
            for (wait_ms, takes_ms) in steps {
                now_ms += wait_ms;
                if let Some(begun) = turns.begin(&slots, now_ms) {
                    prop_assert!(begun.number > last);
                    accounted += 1 + begun.missed;
                    last = begun.number;
                    prop_assert!(begun.slot_ms <= begun.timestamp_ms);
                    prop_assert!(begun.timestamp_ms < begun.slot_ms + interval_ms as i64);
                    prop_assert_eq!(begun.slot_ms + begun.late_ms as i64, now_ms);
                    prop_assert_eq!(accounted as i64, begun.number - first + 1);
                    now_ms += takes_ms;
                    let next = turns.finish(&slots, now_ms);
                    accounted += next.overrun;
                    last += next.overrun as i64;
                    prop_assert!(next.number > last);
                } else {
                    prop_assert!(turns.next(&slots, now_ms).at_ms > now_ms);
                }
            }
        }
    }
}
