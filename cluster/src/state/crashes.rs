//! Crash entries -> which incarnations are dead, and since when.
//!
//! Both sides of a split find each other dead. When they meet, the accusations of one side are
//! void: an entry does not count if its accuser was itself found dead, before it said so, by a
//! better side. Better is the side with more members, then with the lower name.

use super::messages::Crash;
use super::table::Incarnation;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// The valid crash entries, by whom they are about.
#[derive(Debug, Default)]
pub(super) struct Dead {
    by_incarnation: HashMap<Incarnation, Vec<Arc<Crash>>>,
}

impl Dead {
    /// A function of the set of the entries.
    pub(super) fn new<'a>(crashes: impl Iterator<Item = &'a Arc<Crash>>) -> Self {
        let mut ranked: Vec<&Arc<Crash>> = crashes.collect();
        ranked.sort_by(|a, b| order(a).cmp(&order(b)));
        let mut dead = Self::default();
        for crash in ranked {
            // All that are better have been judged.
            let voids = |of_accuser: &Arc<Crash>| {
                of_accuser.until_ms <= crash.made_ms && rank(of_accuser) < rank(crash)
            };
            if !dead.of(&crash.by, crash.by_incarnation).iter().any(voids) {
                let of = (crash.name.clone(), crash.incarnation);
                dead.by_incarnation
                    .entry(of)
                    .or_default()
                    .push(crash.clone());
            }
        }
        dead
    }

    /// The first valid entry about each incarnation that was not dead before.
    pub(super) fn beyond(&self, before: &Self) -> impl Iterator<Item = &Arc<Crash>> {
        let new = self.by_incarnation.iter();
        let new = new.filter(|(of, _)| !before.by_incarnation.contains_key(*of));
        let mut new: Vec<&Arc<Crash>> = new.filter_map(|(_, entries)| entries.first()).collect();
        new.sort_by(|a, b| order(a).cmp(&order(b)));
        new.into_iter()
    }

    /// The valid entries about an incarnation.
    pub(super) fn of(&self, name: &Arc<str>, incarnation: u64) -> &[Arc<Crash>] {
        if self.by_incarnation.is_empty() {
            return &[];
        }
        let of = (name.clone(), incarnation);
        self.by_incarnation.get(&of).map_or(&[], Vec::as_slice)
    }

    /// The first slot time that an incarnation does not scrape; `None`: it is not dead.
    pub(super) fn until_ms(&self, name: &Arc<str>, incarnation: u64) -> Option<i64> {
        let entries = self.of(name, incarnation).iter();
        entries.map(|crash| crash.until_ms).min()
    }
}

/// Lower is better.
fn rank(crash: &Crash) -> (Reverse<u32>, &str, &str) {
    let side = &crash.side;
    (Reverse(side.members), &side.lowest, &crash.by)
}

/// By rank, and complete, so that equal sets are evaluated equally.
fn order(crash: &Crash) -> impl Ord + '_ {
    (
        rank(crash),
        crash.until_ms,
        crash.made_ms,
        &*crash.name,
        crash.incarnation,
        crash.by_incarnation,
    )
}
