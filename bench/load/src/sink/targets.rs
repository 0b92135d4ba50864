//! What arrived of each target's automatic series and response counter -> when it was scraped.

use std::collections::HashMap;

use crate::fleet::read_instance;

/// One target as seen through its samples. Times are in ms above the verifier's base.
#[derive(Default)]
pub(super) struct Target {
    pub(super) instance: String,
    /// Its number, if the label is one that a fleet gives.
    pub(super) number: Option<u32>,
    /// Times of scrapes whose response counter arrived, ascending.
    pub(super) scrapes: Vec<u32>,
    /// Times at which `up` was 0, ascending.
    pub(super) failures: Vec<u32>,
    /// Counter of its first response that arrived; 0 for none.
    pub(super) first_n: u64,
    /// Counter of its last response that arrived.
    pub(super) last_n: u64,
    /// Times at which `up` was 1.
    pub(super) ups: u64,
}

impl Target {
    /// How many times in `times` (ascending) lie strictly between `after` and `before`.
    pub(super) fn between(times: &[u32], after: u32, before: u32) -> usize {
        let start = times.partition_point(|at| *at <= after);
        let end = times.partition_point(|at| *at < before);
        end.saturating_sub(start)
    }

    /// Whether anything explains that a series was away between two of its samples: a failed
    /// scrape,
    /// or a scrape without it.
    pub(super) fn explains_absence(&self, after: u32, before: u32) -> bool {
        Target::between(&self.failures, after, before) > 0
            || Target::between(&self.scrapes, after, before) > 0
    }

    /// Adds a time to a list that is almost always appended to.
    pub(super) fn add(times: &mut Vec<u32>, at: u32) {
        match times.last() {
            Some(last) if *last >= at => {
                if let Err(place) = times.binary_search(&at) {
                    times.insert(place, at);
                }
            }
            _ => times.push(at),
        }
    }
}

/// All targets by `instance`.
#[derive(Default)]
pub(super) struct Targets {
    by_instance: HashMap<String, u32>,
    pub(super) list: Vec<Target>,
}

impl Targets {
    /// The index of the target with this label, new or known.
    pub(super) fn index(&mut self, instance: &str) -> u32 {
        if let Some(index) = self.by_instance.get(instance) {
            return *index;
        }
        let index = self.list.len() as u32;
        self.by_instance.insert(instance.to_owned(), index);
        self.list.push(Target {
            instance: instance.to_owned(),
            number: read_instance(instance),
            ..Target::default()
        });
        index
    }

    pub(super) fn get(&self, index: u32) -> &Target {
        &self.list[index as usize]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Target {
        &mut self.list[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_is_open_at_both_ends() {
        let times = [10, 20, 30];
        assert_eq!(Target::between(&times, 10, 30), 1);
        assert_eq!(Target::between(&times, 9, 31), 3);
        assert_eq!(Target::between(&times, 20, 20), 0);
        assert_eq!(Target::between(&[], 0, 9), 0);
    }

    #[test]
    fn late_times_are_put_in_order_once() {
        let mut times = Vec::new();
        for at in [10, 30, 20, 20, 30, 5] {
            Target::add(&mut times, at);
        }
        assert_eq!(times, [5, 10, 20, 30]);
    }
}
