//! A target's turns + the time from which its slots are another node's -> what is left to do here.
//!
//! The slots before `until_ms` are scraped here, those at or after it elsewhere, each node by its
//! own clock: a scrape never begins for a slot that is not this node's, however late it is. One
//! under way goes on to its end.

use super::slots::{Next, Turns};
use ringscrape_cluster::slot::Slots;

/// What follows a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// The next slot here; `None`: there is none.
    pub next: Option<Next>,
    /// Slots dropped because the scrape took longer than the interval.
    pub overrun: u64,
}

impl Turns {
    /// As [`Turns::next`], of the slots before `until_ms`.
    pub fn next_before(&self, slots: &Slots, now_ms: i64, until_ms: Option<i64>) -> Option<Next> {
        let next = self.next(slots, now_ms);
        until_ms
            .is_none_or(|until_ms| next.at_ms < until_ms)
            .then_some(next)
    }

    /// As [`Turns::finish`], of the slots before `until_ms`.
    pub fn finish_before(&mut self, slots: &Slots, now_ms: i64, until_ms: Option<i64>) -> Finished {
        if let Some(until_ms) = until_ms
            && slots.time_ms(slots.number_at(now_ms)) >= until_ms
        {
            let overrun = self.close(slots, until_ms);
            return Finished {
                next: None,
                overrun,
            };
        }
        let overrun = self.finish(slots, now_ms).overrun;
        Finished {
            next: self.next_before(slots, now_ms, until_ms),
            overrun,
        }
    }

    /// Passes over all slots before `until_ms`, as nothing begins any more. Returns how many that
    /// are: they are missed.
    pub fn close(&mut self, slots: &Slots, until_ms: i64) -> u64 {
        let before = *self;
        *self = self.no_earlier_than(slots, false, until_ms);
        self.slots_since(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringscrape_cluster::key::TargetKey;
    use std::collections::BTreeMap;

    /// What a node does with a target within one window, as a shard does it.
    struct Tenure {
        from_ms: i64,
        until_ms: Option<i64>,
        /// When it hears of the window, before or after its begin.
        heard_ms: i64,
        /// How late each wake-up is and how long each scrape takes.
        paces: Vec<(i64, i64)>,
    }

    /// The slots scraped, and how many were not.
    fn run(slots: &Slots, tenure: &Tenure, end_ms: i64) -> (Vec<i64>, u64) {
        let (mut scraped, mut missed) = (Vec::new(), 0);
        let mut turns = Turns::starting_at(slots, tenure.from_ms);
        let mut now_ms = tenure.heard_ms;
        let mut paces = tenure.paces.iter().cycle();
        let mut next = turns.next_before(slots, now_ms, tenure.until_ms);
        while let Some(slot) = next.filter(|slot| slot.at_ms < end_ms) {
            let (late_ms, takes_ms) = paces.next().copied().unwrap_or_default();
            now_ms = now_ms.max(slot.at_ms) + late_ms;
            if turns.next_before(slots, now_ms, tenure.until_ms).is_none() {
                break;
            }
            let begun = turns.begin(slots, now_ms).expect("its time has come");
            assert!(begun.slot_ms >= tenure.from_ms);
            scraped.push(begun.number);
            now_ms += takes_ms;
            let finished = turns.finish_before(slots, now_ms, tenure.until_ms);
            missed += begun.missed + finished.overrun;
            next = finished.next;
        }
        missed += turns.close(slots, tenure.until_ms.unwrap_or(end_ms));
        (scraped, missed)
    }

    /// The windows that follow from the times of the moves, two nodes in turn.
    fn tenures(moves: &[(i64, i64)], paces: &[(i64, i64)], end_ms: i64) -> Vec<Tenure> {
        let mut from_ms = 0;
        let mut tenures = Vec::new();
        let mut heard_ms = 0;
        for (stays_ms, heard_after_ms) in moves {
            let until_ms = from_ms + stays_ms;
            tenures.push(Tenure {
                from_ms,
                until_ms: Some(until_ms),
                heard_ms,
                paces: paces.to_vec(),
            });
            from_ms = until_ms;
            heard_ms = (until_ms + heard_after_ms).max(0);
        }
        tenures.push(Tenure {
            from_ms,
            until_ms: (from_ms < end_ms).then_some(end_ms),
            heard_ms,
            paces: paces.to_vec(),
        });
        tenures
    }

    #[test]
    fn a_slot_at_the_end_of_a_window_is_not_in_it() {
        let slots = Slots::new(TargetKey(0), 10_000);
        let turns = Turns::starting_at(&slots, 95_000);
        assert_eq!(turns.next_before(&slots, 95_000, Some(100_000)), None);
        let next = turns.next_before(&slots, 95_000, Some(100_001));
        assert_eq!(next.map(|next| next.at_ms), Some(100_000));
        // Late, and meanwhile the next slot has come, which is another's.
        assert_eq!(turns.next_before(&slots, 110_000, Some(105_000)), None);
        let mut turns = turns;
        assert_eq!(turns.close(&slots, 105_000), 1);
        assert_eq!(turns.close(&slots, 105_000), 0);
    }

    proptest! {
        /// Whenever a target moves and whenever its nodes hear of it: no slot is scraped twice,
        /// and each is scraped or counted once, by the node that owns it.
        #[test]
        fn each_slot_is_one_nodes(
            key in any::<u64>(),
            interval_ms in 10_u64..30_000,
            moves in prop::collection::vec((0_i64..100_000, -5_000_i64..20_000), 0..10),
            paces in prop::collection::vec((0_i64..3_000, 0_i64..40_000), 1..10),
            calm in any::<bool>(),
        ) {
            let slots = Slots::new(TargetKey(key), interval_ms);
            let end_ms = moves.iter().map(|(stays_ms, _)| stays_ms).sum::<i64>() + 50_000;
            let paces = if calm { vec![(0, 0)] } else { paces };
            let moves: Vec<_> = moves
                .into_iter()
                .map(|(stays, heard)| (stays, if calm { heard.min(0) } else { heard }))
                .collect();
            let mut by = BTreeMap::new();
            for (index, tenure) in tenures(&moves, &paces, end_ms).iter().enumerate() {
                let (scraped, missed) = run(&slots, tenure, end_ms);
                let until_ms = tenure.until_ms.unwrap_or(end_ms);
                let owned = slots.number_from(tenure.from_ms)..slots.number_from(until_ms);
                prop_assert!(scraped.iter().all(|slot| owned.contains(slot)));
                prop_assert_eq!(
                    scraped.len() as i64 + missed as i64,
                    (owned.end - owned.start).max(0)
                );
                prop_assert!(!calm || missed == 0, "{missed} missed without a delay");
                for slot in scraped {
                    prop_assert_eq!(by.insert(slot, index), None, "scraped twice");
                }
            }
        }
    }
}
