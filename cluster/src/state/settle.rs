//! What has changed -> who is dead, the timeline, and what this node does about it.

use super::crashes::Dead;
use super::{Death, Event, State};
use crate::now::Now;
use crate::timeline::Timeline;
use std::sync::Arc;

/// Ticks while something is waited for.
const BUSY_TICK_MS: u64 = 50;
/// The same in a large cluster: each tick looks at all members.
const BUSY_TICK_OF_MANY_MS: u64 = 200;
/// Ticks otherwise: shorter than any detection time, to notice that this node stood still.
const TICK_MS: u64 = 500;
/// In a large cluster a table is one that others may follow if it is there for this long.
const TURN_MS: u64 = 50;
/// A large cluster's timeline is made anew at most this often because of other members' changes,
const REFRESH_MS: u64 = 200;
/// and with more members more seldom: that costs as much as there are.
const REFRESH_MS_PER_MEMBER: f64 = 0.5;

impl State {
    /// Does what follows from what was heard.
    pub(super) fn settle(&mut self, now: Now) {
        self.settle_all(!self.is_large(), now);
    }

    /// The same. To judge and to plan cost a look at all members: in a large cluster they wait for
    /// a tick.
    pub(super) fn settle_all(&mut self, is_tick: bool, now: Now) {
        self.refresh(now);
        self.start_step(now);
        self.refresh(now);
        if is_tick {
            self.was_judging = self.judge(now);
            self.refresh(now);
            self.plan_step(now);
            self.refresh(now);
        }
        self.turn(now);
        let is_asked = self.proposal.is_some() || !self.start.is_published || self.is_ahead(now);
        let is_busy = is_asked || self.was_judging || self.is_stale || self.wanted_ms.is_some();
        let wait_ms = match (is_busy, self.is_large()) {
            (true, false) => BUSY_TICK_MS,
            (true, true) => BUSY_TICK_OF_MANY_MS,
            (false, _) => TICK_MS,
        };
        self.due_ms = now.monotonic_ms.saturating_add(wait_ms);
    }

    /// A change of this node is agreed on and does not hold yet: all have to learn it in time.
    fn is_ahead(&self, now: Now) -> bool {
        let own = self.table.member(&self.own.name);
        let next = own.and_then(|own| own.next.as_ref());
        next.is_some_and(|next| next.is_agreed && next.stage.from_ms > now.unix_ms)
    }

    /// If the table is another one, nobody is known to follow it but this node.
    fn turn(&mut self, now: Now) {
        let digest = self.digest();
        if self.followers.digest() == Some(digest) {
            return;
        }
        self.news_ms = now.monotonic_ms;
        // Where much changes at once nobody else has a table that is over in a moment.
        let is_soon = now.monotonic_ms.saturating_sub(self.turned_ms) < TURN_MS;
        if is_soon && self.is_large() {
            return;
        }
        self.turned_ms = now.monotonic_ms;
        let own = self.table.member(&self.own.name);
        let Some(own) = own.filter(|_| self.may_gossip()) else {
            self.followers.clear();
            return;
        };
        if self.roster.0 != self.table.roster() {
            let lives = self
                .table
                .members()
                .map(|m| (m.name.clone(), m.incarnation));
            self.roster = (self.table.roster(), lives.collect());
        }
        let (own, roster) = ((own.incarnation, own.version), self.roster.1.clone());
        let me = roster
            .binary_search_by(|(name, _)| name.cmp(&self.own.name))
            .ok();
        let in_time = now.monotonic_ms >= self.late_until_ms;
        self.followers
            .turn(digest, own, roster, me.filter(|_| in_time));
    }

    /// What follows from the table: who is dead, this node among them, and the timeline.
    pub(super) fn refresh(&mut self, now: Now) {
        let every_ms = REFRESH_MS.max((self.table.len() as f64 * REFRESH_MS_PER_MEMBER) as u64);
        let is_late = now.monotonic_ms.saturating_sub(self.refreshed_ms) >= every_ms;
        let is_due = self.is_stale && (is_late || !self.is_large());
        if !std::mem::take(&mut self.is_changed) && !is_due {
            return;
        }
        self.is_stale = false;
        self.refreshed_ms = now.monotonic_ms;
        let before = std::mem::replace(&mut self.dead, Dead::new(self.table.crashes()));
        for crash in self.dead.beyond(&before) {
            let is_me = crash.name == self.own.name;
            if !is_me && self.start.is_published {
                self.events.push(Event::Crashed {
                    name: crash.name.clone(),
                    incarnation: crash.incarnation,
                    until_ms: crash.until_ms,
                    by: crash.by.clone(),
                });
            }
        }
        let of_me = self
            .dead
            .of(&self.own.name, self.own.incarnation)
            .first()
            .cloned();
        if let Some(crash) = of_me.filter(|_| self.start.is_published) {
            self.raise_incarnation(now);
            self.proposal = None;
            self.write(self.inactive(now), now);
            self.is_changed = false;
            self.events.push(Event::Died {
                reason: Death::Accused {
                    by: crash.by.clone(),
                    until_ms: crash.until_ms,
                },
                incarnation: self.own.incarnation,
            });
        }
        self.leave_void_crashes_behind(now);
        self.note_size(now);
        let before = &self.timeline;
        // Before it has entered, what the table says of its name is not about this node.
        let timeline = if self.may_gossip() {
            let (table, dead) = (&self.table, &self.dead);
            self.tracks.timeline(before, table, dead, now.unix_ms)
        } else {
            nobody(&self.own.name, before)
        };
        if !timeline.is_same(before) {
            self.timeline = Arc::new(timeline);
            self.events.push(Event::TimelineChanged);
        }
    }
}

/// A timeline in which nobody scrapes; with the view of the one before if that is such a one.
fn nobody(me: &Arc<str>, before: &Timeline) -> Timeline {
    let first = &before.views()[0].1;
    let is_nobody = first.members().is_empty();
    let view = if is_nobody {
        first.clone()
    } else {
        Arc::default()
    };
    Timeline::new(me.clone(), vec![(i64::MIN, view)])
}
