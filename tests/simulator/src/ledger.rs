//! Scrapes as they happen -> each followed slot with who scraped it.

use crate::network::NodeId;
use crate::time::Micros;
use crate::views::ViewId;
use crate::world::World;
use std::collections::VecDeque;
use std::ops::Range;

/// One slot of one followed target.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Its time, in ms since the Unix epoch.
    pub(crate) unix_ms: i64,
    /// Whose.
    pub(crate) target: usize,
    /// Which of the target's.
    pub(crate) number: i64,
    /// All there were.
    pub(crate) scrapes: Vec<Scrape>,
    /// Who owned it, as nodes saw it when it was due or later.
    pub(crate) named: Vec<NodeId>,
}

impl Slot {
    /// A node is said to own it.
    pub(crate) fn name(&mut self, owner: NodeId) {
        if !self.named.contains(&owner) {
            self.named.push(owner);
        }
    }
}

/// A node scraped a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scrape {
    /// Which node.
    pub(crate) node: NodeId,
    /// Which of its processes.
    pub(crate) life: u32,
    /// By which view.
    pub(crate) view: ViewId,
    /// When, in true time; only as exact as the node is looked at.
    pub(crate) at: Micros,
    /// Whether it made good for one that was missing.
    pub(crate) is_late: bool,
}

/// The slots that are not judged yet, by time.
#[derive(Debug)]
pub(crate) struct Ledger {
    slots: VecDeque<Slot>,
    /// How many were taken out before the first one.
    taken: u64,
    /// All slots before this are there.
    until_ms: i64,
}

impl Ledger {
    /// `from_ms`: of the first slots.
    pub(crate) fn new(from_ms: i64) -> Self {
        Self {
            slots: VecDeque::new(),
            taken: 0,
            until_ms: from_ms,
        }
    }

    /// Adds the slots before `until_ms` that are not there yet.
    pub(crate) fn extend(&mut self, world: &World, until_ms: i64) {
        if until_ms <= self.until_ms {
            return;
        }
        let mut slots = Vec::new();
        for (target, facts) in world.followed().iter().enumerate() {
            let times = facts.slots();
            let mut number = times.number_from(self.until_ms);
            while times.time_ms(number) < until_ms {
                slots.push(Slot {
                    unix_ms: times.time_ms(number),
                    target,
                    number,
                    scrapes: Vec::new(),
                    named: Vec::new(),
                });
                number += 1;
            }
        }
        slots.sort_unstable_by_key(|slot| (slot.unix_ms, slot.target));
        self.slots.extend(slots);
        self.until_ms = until_ms;
    }

    /// Numbers of the slots after one time, up to and including another.
    pub(crate) fn numbers(&self, after_ms: i64, until_ms: i64) -> Range<u64> {
        let number = |at: i64| {
            let index = self.slots.partition_point(|slot| slot.unix_ms <= at);
            self.taken + index as u64
        };
        let from = number(after_ms);
        from..number(until_ms).max(from)
    }

    /// A slot by its number.
    pub(crate) fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let index = number.checked_sub(self.taken)?;
        self.slots.get_mut(index as usize)
    }

    /// The slot of a target at a time.
    pub(crate) fn find(&mut self, target: usize, unix_ms: i64) -> Option<&mut Slot> {
        let key = (unix_ms, target);
        let index = self
            .slots
            .binary_search_by_key(&key, |slot| (slot.unix_ms, slot.target))
            .ok()?;
        self.slots.get_mut(index)
    }

    /// Takes the first slot out if it is before this time.
    pub(crate) fn take_before(&mut self, unix_ms: i64) -> Option<Slot> {
        if self.slots.front()?.unix_ms >= unix_ms {
            return None;
        }
        self.taken += 1;
        self.slots.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn slots_are_all_there_once() {
        let world = World::new(&mut Random::new(3), 50, 20, 3);
        let mut ledger = Ledger::new(0);
        ledger.extend(&world, 7_000);
        ledger.extend(&world, 5_000);
        ledger.extend(&world, 30_000);
        let expected: usize = world
            .followed()
            .iter()
            .map(|target| (30_000 / target.interval_ms) as usize)
            .sum();
        assert_eq!(ledger.numbers(-1, 30_000), 0..expected as u64);
        let first_half = ledger.numbers(-1, 14_999);
        let mut before = (-1, 0);
        let mut count = 0u64;
        while let Some(slot) = ledger.take_before(15_000) {
            assert!(before < (slot.unix_ms, slot.target));
            before = (slot.unix_ms, slot.target);
            count += 1;
        }
        assert_eq!(0..count, first_half);
        let range = ledger.numbers(14_999, 15_100);
        for number in range {
            let (target, at) = ledger.slot(number).map(|s| (s.target, s.unix_ms)).unwrap();
            assert_eq!(ledger.find(target, at).map(|s| s.target), Some(target));
        }
    }
}
