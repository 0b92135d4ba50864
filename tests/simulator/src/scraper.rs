//! A node's timeline and its clock -> the slots that it scrapes.

use crate::ledger::{Ledger, Scrape};
use crate::network::NodeId;
use crate::time::Micros;
use crate::views::{NOBODY, ViewId, Views};
use crate::world::World;
use ringscrape_cluster::{Timeline, View};
use std::sync::Arc;

/// What one node scrapes.
///
/// Its slots are looked at in ranges, whenever something changes for the node and some times a
/// second: what it did since the last look is what its timeline of that time says.
#[derive(Debug)]
pub(crate) struct Scraper {
    node: NodeId,
    life: u32,
    timeline: Arc<Timeline>,
    /// The timeline's views, each from a time on.
    views: Vec<(i64, ViewId)>,
    /// All slots up to here are behind it, by its own clock, which may be set back meanwhile.
    done_ms: i64,
    /// Whether it scrapes nothing for now.
    pub(crate) is_held: bool,
}

/// A moment, in true time and by the node's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// True.
    pub(crate) at: Micros,
    /// What the node thinks.
    pub(crate) unix_ms: i64,
}

impl Scraper {
    /// A process that has just started.
    pub(crate) fn new(
        (node, life): (NodeId, u32),
        timeline: &Arc<Timeline>,
        views: &mut Views,
        world: &World,
    ) -> Self {
        let mut scraper = Self {
            node,
            life,
            timeline: timeline.clone(),
            views: Vec::new(),
            done_ms: i64::MIN,
            is_held: false,
        };
        scraper.views = scraper.numbered(timeline, views, world);
        scraper
    }

    /// The view that holds at a slot time.
    pub(crate) fn view_at(&self, slot_ms: i64) -> ViewId {
        view_at(&self.views, slot_ms)
    }

    /// The views, each with the slot time that it holds from.
    pub(crate) fn views(&self) -> &[(i64, ViewId)] {
        &self.views
    }

    /// Sees to it that who owns what in its views is known when they are over.
    pub(crate) fn note_owners(&self, views: &Views) {
        for ((_, view), (_, id)) in self.timeline.views().iter().zip(&self.views) {
            views.owners(*id, view);
        }
    }

    /// The timeline that it goes by.
    pub(crate) fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    /// All slots up to now are behind it without having been scraped: it did not run, or its clock
    /// was set ahead.
    pub(crate) fn skip(&mut self, now: Moment) {
        self.done_ms = self.done_ms.max(now.unix_ms);
    }

    /// Scrapes what has come due since the last call.
    pub(crate) fn advance(&mut self, now: Moment, ledger: &mut Ledger, views: &Views) {
        if now.unix_ms <= self.done_ms {
            return;
        }
        let from_ms = std::mem::replace(&mut self.done_ms, now.unix_ms);
        if self.is_held || from_ms == i64::MIN {
            return;
        }
        for number in ledger.numbers(from_ms, now.unix_ms) {
            let Some(slot) = ledger.slot(number) else {
                continue;
            };
            let view = view_at(&self.views, slot.unix_ms);
            let owners = views.owners(view, self.timeline.view_at(slot.unix_ms));
            let owner = owners[slot.target];
            if owner != NOBODY {
                slot.name(owner.into());
            }
            if owner as usize == self.node {
                slot.scrapes.push(Scrape {
                    node: self.node,
                    life: self.life,
                    view,
                    at: now.at,
                    is_late: false,
                });
            }
        }
    }

    /// Goes by another timeline. Slots that it gives to this node, that are over but still the
    /// newest of their target, are scraped at once.
    ///
    /// To be called after [`Scraper::advance`] with the same moment.
    pub(crate) fn switch(
        &mut self,
        timeline: &Arc<Timeline>,
        now: Moment,
        ledger: &mut Ledger,
        views: &mut Views,
        world: &World,
    ) {
        let after = self.numbered(timeline, views, world);
        let before = std::mem::replace(&mut self.views, after);
        let former = std::mem::replace(&mut self.timeline, timeline.clone());
        let oldest_ms = now.unix_ms - world.interval_ms_max as i64;
        if self.is_held || same_between(&before, &self.views, oldest_ms, now.unix_ms) {
            return;
        }
        for (target, facts) in world.followed().iter().enumerate() {
            let slots = facts.slots();
            let slot_ms = slots.time_ms(slots.number_at(now.unix_ms));
            let view = self.view_at(slot_ms);
            views.owners(view, timeline.view_at(slot_ms));
            views.owners(view_at(&before, slot_ms), former.view_at(slot_ms));
            let owner = views.owner(view, target);
            let former = views.owner(view_at(&before, slot_ms), target);
            if owner == former {
                continue;
            }
            if let (Some(owner), Some(slot)) = (owner, ledger.find(target, slot_ms)) {
                slot.name(owner);
            }
            if owner != Some(self.node) {
                continue;
            }
            // Only what a dead node owned is missing: one who is still there has scraped it.
            if former.is_none_or(|former| views.members(view).contains(&former)) {
                continue;
            }
            let Some(slot) = ledger.find(target, slot_ms) else {
                continue;
            };
            if slot.scrapes.iter().all(|scrape| scrape.node != self.node) {
                slot.scrapes.push(Scrape {
                    node: self.node,
                    life: self.life,
                    view,
                    at: now.at,
                    is_late: true,
                });
            }
        }
    }

    fn numbered(
        &self,
        timeline: &Timeline,
        views: &mut Views,
        world: &World,
    ) -> Vec<(i64, ViewId)> {
        let numbered = timeline.views().iter().map(|(from_ms, view)| {
            (
                *from_ms,
                self.known(view).unwrap_or_else(|| views.id(view, world)),
            )
        });
        numbered.collect()
    }

    /// Most views of a timeline were in the one before.
    fn known(&self, view: &Arc<View>) -> Option<ViewId> {
        let before = self.timeline.views().iter().zip(&self.views);
        let mut same = before.filter(|((_, other), _)| Arc::ptr_eq(other, view));
        same.next().map(|(_, (_, id))| *id)
    }
}

/// The view that holds at a slot time; the first holds for all before, too.
pub(crate) fn view_at(views: &[(i64, ViewId)], slot_ms: i64) -> ViewId {
    let after = views.partition_point(|(from_ms, _)| *from_ms <= slot_ms);
    views[after.saturating_sub(1)].1
}

fn same_between(
    before: &[(i64, ViewId)],
    after: &[(i64, ViewId)],
    from_ms: i64,
    to_ms: i64,
) -> bool {
    let times = before.iter().chain(after).map(|(at, _)| *at);
    times
        .filter(|at| (from_ms..=to_ms).contains(at))
        .chain([from_ms])
        .all(|at| view_at(before, at) == view_at(after, at))
}
