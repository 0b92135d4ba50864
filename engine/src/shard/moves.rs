//! The ends of targets' slots -> what is known of their series goes to other nodes; what came from
//! other nodes and former runs -> the targets that are scraped here.

use super::scrapes::Scrapes;
use super::targets::Slot;
use crate::fetch::Fetcher;
use crate::mailbox::{Ending, FromShard, HANDOVERS_PER_MESSAGE_MAX, Removal, ShardIndex};
use crate::scrape::TargetState;
use ringscrape_wal::scrape::Scrape;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc;

/// How long what came from another node waits for a target that is not scraped here, in ms.
const UNCLAIMED_MS_MAX: u64 = 10 * 60_000;

/// What is known of targets that are not scraped here yet, or not any more.
pub(super) struct Moves {
    shard: ShardIndex,
    reports: mpsc::Sender<(ShardIndex, FromShard)>,
    /// What targets last had in the log of former runs, by key, until they are scraped.
    former: HashMap<u64, Arc<Scrape>>,
    /// What other nodes sent, by key, until the first scrape; and when it came.
    handed: HashMap<u64, (Arc<Scrape>, u64)>,
    /// Keys of targets that rest and are to be handed over, in the order in which they came.
    leaving: VecDeque<u64>,
    /// What waits for a place in the mailbox.
    outgoing: Vec<(Arc<str>, Vec<Arc<Scrape>>)>,
    /// The control loop is to be told that the shard stood still.
    has_stood_still: bool,
    /// Targets have moved whose last samples are to arrive before the next owner's.
    is_hurried: bool,
}

impl Moves {
    pub(super) fn new(shard: ShardIndex, reports: mpsc::Sender<(ShardIndex, FromShard)>) -> Self {
        Self {
            shard,
            reports,
            former: HashMap::new(),
            handed: HashMap::new(),
            leaving: VecDeque::new(),
            outgoing: Vec::new(),
            has_stood_still: false,
            is_hurried: false,
        }
    }

    /// Takes what targets had in former runs.
    pub(super) fn add_former(&mut self, former: impl Iterator<Item = (u64, Arc<Scrape>)>) {
        self.former.extend(former);
    }

    /// Targets of former runs that have not come back by now have ended for every receiver.
    pub(super) fn forget_former(&mut self) {
        self.former = HashMap::new();
    }

    /// Gives a target its series, before its first scrape. True if they are another node's word.
    pub(super) fn restore(&mut self, state: &mut TargetState) -> bool {
        let key = state.target().key;
        match (self.former.remove(&key), self.handed.remove(&key)) {
            (Some(former), Some((handed, _))) if former.timestamp_ms > handed.timestamp_ms => {
                state.restore(&former);
                false
            }
            (_, Some((handed, _))) => state.take_over(&handed),
            (Some(former), None) => {
                state.restore(&former);
                false
            }
            (None, None) => false,
        }
    }

    /// What is known of a target that was never scraped here.
    fn take(&mut self, key: u64) -> Option<Arc<Scrape>> {
        let handed = self.handed.remove(&key).map(|(scrape, _)| scrape);
        let former = self.former.remove(&key);
        former
            .into_iter()
            .chain(handed)
            .max_by_key(|scrape| scrape.timestamp_ms)
    }

    fn push(&mut self, to: &Arc<str>, scrape: Arc<Scrape>) {
        match self.outgoing.iter_mut().find(|(node, _)| node == to) {
            Some((_, scrapes)) => scrapes.push(scrape),
            None => self.outgoing.push((to.clone(), vec![scrape])),
        }
    }

    /// Puts what waits into the control loop's mailbox, as far as it takes it.
    fn send(&mut self) {
        while self.has_stood_still || !self.outgoing.is_empty() {
            let Ok(place) = self.reports.try_reserve() else {
                return;
            };
            if std::mem::take(&mut self.has_stood_still) {
                place.send((self.shard, FromShard::StoodStill));
            } else if let Some((to, mut scrapes)) = self.outgoing.pop() {
                let rest = scrapes.split_off(scrapes.len().min(HANDOVERS_PER_MESSAGE_MAX));
                if !rest.is_empty() {
                    self.outgoing.push((to.clone(), rest));
                }
                place.send((self.shard, FromShard::HandOver { to, scrapes }));
            }
        }
    }

    /// Whether targets have moved since the last call.
    pub(super) fn take_hurried(&mut self) -> bool {
        std::mem::take(&mut self.is_hurried)
    }

    /// Whether something waits for a place in the control loop's mailbox.
    pub(super) fn is_waiting(&self) -> bool {
        self.has_stood_still || !self.outgoing.is_empty()
    }
}

impl Slot {
    /// Slots from this time on are not scraped here.
    pub(super) fn until_ms(&self) -> Option<i64> {
        self.until.as_ref().map(|until| until.at_ms)
    }
}

impl Scrapes {
    /// The last slot of a target here is over. Its replacement goes on with its series, or they
    /// end, or what is known of them goes to the next owner.
    pub(super) fn rest(&mut self, index: usize) {
        let slot = &mut self.targets.slab[index];
        let Some(until) = slot.until.clone() else {
            return;
        };
        let missed = slot.turns.close(&slot.slots, until.at_ms);
        self.count_missed(index, missed);
        let slot = &mut self.targets.slab[index];
        slot.was_held = false;
        slot.taken_over_ms = None;
        if let Some(replacement) = slot.replacement.take() {
            self.targets.replace(index, *replacement, until.at_ms);
            return self.schedule(index);
        }
        match until.series {
            Ending::End => self.end_later(index, false),
            Ending::Succeeded => self.end_later(index, true),
            Ending::Move(to) => {
                slot.is_resting = true;
                self.moves.is_hurried = true;
                if to.is_some() {
                    self.moves.leaving.push_back(slot.target.key.0);
                }
                self.set_timer(index, until.at_ms);
            }
        }
    }

    /// Stops scraping a target.
    pub(super) fn remove(&mut self, fetcher: &mut Fetcher, removal: &Removal) {
        let Some(index) = self.targets.find(removal.key) else {
            return;
        };
        fetcher.forget(index as u32);
        self.targets.slab[index].flight = None;
        match &removal.series {
            Ending::End => self.end_later(index, false),
            Ending::Succeeded => self.end_later(index, true),
            Ending::Move(to) => {
                self.moves.is_hurried = true;
                if let Some(to) = to {
                    self.hand_over(index, to);
                }
                self.leave(index);
            }
        }
    }

    /// The target is gone: its series end two slots from now, unless it comes back until then.
    fn end_later(&mut self, index: usize, succeeded: bool) {
        let slot = &mut self.targets.slab[index];
        let interval_ms = slot.slots.interval_ms() as i64;
        let end_ms = slot
            .turns
            .next(&slot.slots, self.now.unix_ns / 1_000_000)
            .at_ms;
        slot.ends_at_ms = Some(end_ms);
        slot.succeeded = succeeded;
        slot.is_resting = false;
        slot.replacement = None;
        slot.until = None;
        // One more slot and a tenth, as Prometheus waits: so a target that moved between jobs or
        // came back has new samples first.
        self.set_timer(index, end_ms + interval_ms + interval_ms / 10);
    }

    /// Forgets a target whose series go on elsewhere.
    pub(super) fn leave(&mut self, index: usize) {
        let slot = &mut self.targets.slab[index];
        if let Some(timer) = slot.timer.take() {
            self.wheel.cancel(timer);
        }
        if slot.is_resting
            && let Some(to) = next_owner(slot)
        {
            self.hand_over(index, &to);
        }
        let slot = &self.targets.slab[index];
        self.log.borrow_mut().forget_target(slot.log_target.id);
        self.targets.remove(index);
    }

    /// Hands over some of the targets that rest. True: there are more, and place for them.
    pub(super) fn hand_over_some(&mut self) -> bool {
        for _ in 0..HANDOVERS_PER_MESSAGE_MAX {
            if self.moves.is_waiting() {
                break;
            }
            let Some(key) = self.moves.leaving.pop_front() else {
                break;
            };
            // It may have been given back, or have left meanwhile.
            let Some(index) = self.targets.find(key) else {
                continue;
            };
            let slot = &self.targets.slab[index];
            if slot.is_resting
                && let Some(to) = next_owner(slot)
            {
                self.hand_over(index, &to);
            }
        }
        self.moves.send();
        !self.moves.leaving.is_empty() && !self.moves.is_waiting()
    }

    /// Targets whose slots end, and those of which the next owner is still to be told.
    pub(super) fn remaining(&self) -> usize {
        let slots = self.targets.slab.iter();
        let ending = slots.filter(|(_, slot)| slot.until.is_some()).count();
        let waiting = self.moves.outgoing.iter().map(|(_, scrapes)| scrapes.len());
        ending + waiting.sum::<usize>()
    }

    fn hand_over(&mut self, index: usize, to: &Arc<str>) {
        let slot = &mut self.targets.slab[index];
        if std::mem::replace(&mut slot.is_handed_over, true) {
            return;
        }
        let known = match slot.last_scrape_ms {
            Some(at_ms) => slot.state.hand_over(&mut self.tables, at_ms).map(Arc::new),
            None => self.moves.take(slot.target.key.0),
        };
        if let Some(scrape) = known {
            self.figures.handovers_sent += 1;
            self.moves.push(to, scrape);
        }
    }

    /// Takes what other nodes know of targets.
    pub(super) fn restore(&mut self, scrapes: Vec<Arc<Scrape>>) {
        for scrape in scrapes {
            let key = scrape.target.key;
            let slot = self
                .targets
                .find(key)
                .map(|index| &mut self.targets.slab[index])
                .filter(|slot| slot.last_scrape_ms.is_some());
            match slot {
                // The first scrape may be under way: it is in time for its end.
                Some(slot) => match slot.state.take_over(&scrape) {
                    true => self.figures.handovers_used += 1,
                    false => self.figures.handovers_late += 1,
                },
                None => {
                    let now_ms = self.now.monotonic_ns / 1_000_000;
                    self.moves.handed.insert(key, (scrape, now_ms));
                }
            }
        }
    }

    /// Forgets what other nodes sent of targets that did not come.
    pub(super) fn sweep_moves(&mut self, now_ms: u64) {
        let targets = &self.targets;
        let before = self.moves.handed.len();
        self.moves.handed.retain(|key, (_, came_ms)| {
            // One that is to be scraped here needs it at its first slot, however far that is.
            now_ms.saturating_sub(*came_ms) < UNCLAIMED_MS_MAX || targets.find(*key).is_some()
        });
        self.figures.handovers_unused += (before - self.moves.handed.len()) as u64;
    }

    /// Counts slots of a target that were not scraped, by what kept it from them.
    pub(super) fn count_missed(&mut self, index: usize, missed: u64) {
        let slot = &mut self.targets.slab[index];
        let was_held = std::mem::take(&mut slot.was_held);
        let figures = &mut self.figures;
        if slot.taken_over_ms.is_some() {
            figures.slots_missed_takeover += missed;
        } else if was_held {
            figures.slots_missed_held += missed;
        } else {
            figures.slots_missed_late += missed;
        }
    }

    /// The shard did not run for long: it may have lost its targets without knowing it.
    pub(super) fn stand_still(&mut self) {
        self.is_held = true;
        self.moves.has_stood_still = true;
    }

    /// Scrapes may begin again.
    pub(super) fn go_on(&mut self) {
        self.is_held = false;
        let held = |(index, slot): (usize, &Slot)| {
            let idle = slot.flight.is_none() && slot.timer.is_none();
            (slot.was_held && idle).then_some(index)
        };
        let held: Vec<usize> = self.targets.slab.iter().filter_map(held).collect();
        for index in held {
            self.schedule(index);
        }
    }
}

fn next_owner(slot: &Slot) -> Option<Arc<str>> {
    match &slot.until.as_ref()?.series {
        Ending::Move(to) => to.clone(),
        Ending::End | Ending::Succeeded => None,
    }
}
