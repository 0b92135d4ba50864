//! Slots that are over, and what went wrong around them -> scraped exactly once, excused, or a
//! breach of what the cluster promises.

use crate::ledger::Slot;
use crate::network::NodeId;
use crate::scraper::view_at;
use crate::time::{EPOCH_MS, MILLI, Micros};
use crate::views::{ViewId, Views};
use std::collections::BTreeMap;

/// A while in which slots may suffer.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// Why, in a word.
    pub(crate) cause: &'static str,
    /// The first slot time that may be scraped twice, in ms since the Unix epoch.
    pub(crate) doubled_from_ms: i64,
    /// The first slot time that may be missed.
    pub(crate) missed_from_ms: i64,
    /// The last one; `None`: it goes on.
    pub(crate) until_ms: Option<i64>,
    /// Whose slots.
    pub(crate) of: Whose,
}

/// Which slots may suffer.
#[derive(Debug)]
pub(crate) enum Whose {
    /// All.
    Everybodys,
    /// Those that a node owned, or was to make good for.
    Of(Victim),
    /// Those of which nodes named different owners, or none: their tables were not the same.
    Disputed,
}

/// A node, and what it owned by the timeline that it had.
#[derive(Debug)]
pub(crate) struct Victim {
    /// The node.
    pub(crate) node: NodeId,
    /// Its views, each with the slot time that it holds from.
    pub(crate) views: Vec<(i64, ViewId)>,
}

/// What is wrong with a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Nobody scraped it.
    Missed,
    /// Two or more did.
    Doubled,
    /// One process did so twice.
    Repeated,
}

/// What was counted.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    /// Slots judged.
    pub(crate) slots: u64,
    /// Those that were scraped by a node that made good for another one, later than its time.
    pub(crate) late: u64,
    /// Excused faults, by cause.
    pub(crate) faults: BTreeMap<(Fault, &'static str), u64>,
    /// Faults without an excuse.
    pub(crate) breaches: u64,
}

/// All that went wrong lately.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    troubles: Vec<Trouble>,
    /// What was counted.
    pub(crate) tally: Tally,
    /// Nothing before this slot time is judged: the cluster was not there yet.
    pub(crate) since_ms: Option<i64>,
}

/// Troubles that ended so long ago concern no slot that is not judged yet.
const KEEP_MS: i64 = 300_000;

impl Judge {
    /// Something goes wrong. Returns a number for [`Judge::end`].
    pub(crate) fn add(&mut self, trouble: Trouble, now: Micros) {
        let now_ms = unix_ms(now);
        self.troubles
            .retain(|t| t.until_ms.is_none_or(|until| until + KEEP_MS > now_ms));
        self.troubles.push(trouble);
    }

    /// All that goes on has its end.
    pub(crate) fn end_all(&mut self, until_ms: i64) {
        for trouble in &mut self.troubles {
            trouble.until_ms.get_or_insert(until_ms);
        }
    }

    /// Judges a slot; `Some`: a breach.
    pub(crate) fn judge(&mut self, slot: &Slot, views: &Views) -> Option<Fault> {
        if self.since_ms.is_none_or(|since_ms| slot.unix_ms < since_ms) {
            return None;
        }
        self.tally.slots += 1;
        self.tally.late += u64::from(slot.scrapes.iter().any(|scrape| scrape.is_late));
        let fault = fault(slot)?;
        let mut of_slot = self.troubles.iter().filter(|trouble| {
            let from_ms = match fault {
                Fault::Missed => trouble.missed_from_ms,
                Fault::Doubled => trouble.doubled_from_ms,
                Fault::Repeated => return false,
            };
            let is_then = from_ms <= slot.unix_ms
                && trouble.until_ms.is_none_or(|until| slot.unix_ms <= until);
            is_then
                && match &trouble.of {
                    Whose::Everybodys => true,
                    Whose::Of(victim) => victim.owns(slot, views),
                    Whose::Disputed => slot.named.len() != 1,
                }
        });
        let Some(trouble) = of_slot.next() else {
            self.tally.breaches += 1;
            return Some(fault);
        };
        *self.tally.faults.entry((fault, trouble.cause)).or_default() += 1;
        None
    }
}

impl Victim {
    fn owns(&self, slot: &Slot, views: &Views) -> bool {
        let view = view_at(&self.views, slot.unix_ms);
        let is_owner = views.owner(view, slot.target) == Some(self.node);
        is_owner || slot.named.contains(&self.node)
    }
}

/// A true time, in ms since the Unix epoch.
pub(crate) fn unix_ms(at: Micros) -> i64 {
    EPOCH_MS + (at / MILLI) as i64
}

fn fault(slot: &Slot) -> Option<Fault> {
    let scrapes = &slot.scrapes;
    match scrapes.as_slice() {
        [] => Some(Fault::Missed),
        [_] => None,
        [first, others @ ..] => {
            let is_repeated = others
                .iter()
                .any(|scrape| (scrape.node, scrape.life) == (first.node, first.life));
            Some(if is_repeated {
                Fault::Repeated
            } else {
                Fault::Doubled
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Scrape;

    fn slot(unix_ms: i64, nodes: &[NodeId]) -> Slot {
        let scrape = |node: &NodeId| Scrape {
            node: *node,
            life: 1,
            view: 0,
            at: 0,
            is_late: false,
        };
        Slot {
            unix_ms,
            target: 0,
            number: 0,
            scrapes: nodes.iter().map(scrape).collect(),
            named: Vec::new(),
        }
    }

    #[test]
    fn faults_need_an_excuse() {
        let views = Views::new(&[]);
        let mut judge = Judge::default();
        assert_eq!(judge.judge(&slot(5, &[]), &views), None, "before all began");
        judge.since_ms = Some(10);
        assert_eq!(judge.judge(&slot(11, &[1]), &views), None);
        assert_eq!(judge.judge(&slot(11, &[]), &views), Some(Fault::Missed));
        assert_eq!(
            judge.judge(&slot(11, &[1, 2]), &views),
            Some(Fault::Doubled)
        );
        assert_eq!(
            judge.judge(&slot(11, &[1, 1]), &views),
            Some(Fault::Repeated)
        );
        let trouble = Trouble {
            cause: "test",
            doubled_from_ms: 20,
            missed_from_ms: 30,
            until_ms: None,
            of: Whose::Everybodys,
        };
        judge.add(trouble, 0);
        assert_eq!(judge.judge(&slot(25, &[]), &views), Some(Fault::Missed));
        assert_eq!(judge.judge(&slot(25, &[1, 2]), &views), None);
        assert_eq!(judge.judge(&slot(30, &[]), &views), None);
        assert_eq!(
            judge.judge(&slot(30, &[1, 1]), &views),
            Some(Fault::Repeated)
        );
        let disputed = Trouble {
            cause: "test",
            doubled_from_ms: i64::MAX,
            missed_from_ms: 30,
            until_ms: None,
            of: Whose::Disputed,
        };
        let mut strict = Judge {
            since_ms: Some(10),
            ..Judge::default()
        };
        strict.add(disputed, 0);
        let mut missed = slot(31, &[]);
        missed.name(1);
        assert_eq!(strict.judge(&missed, &views), Some(Fault::Missed));
        missed.name(2);
        assert_eq!(strict.judge(&missed, &views), None, "two were named");
        judge.end_all(40);
        assert_eq!(judge.judge(&slot(41, &[]), &views), Some(Fault::Missed));
        assert_eq!(judge.tally.slots, 9);
        assert_eq!(judge.tally.breaches, 6);
    }
}
