//! What the engine wishes of its node -> a change that takes effect on all nodes at one slot time.
//!
//! The node writes the change with its time into its own entry, and asks all others until each has
//! shown that it knows it; then it marks the change as agreed. A change that is not agreed never
//! holds, so a node that hears of it late, or not at all, does nothing wrong.

use super::{Event, State, Wish};
use crate::member::{Member, Planned, Stage};
use crate::now::Now;
use core::net::SocketAddr;
use std::sync::Arc;

/// Least time between a proposal and its effect.
const LEAD_MS_MIN: i64 = 3_000;
/// Most that unsuccessful proposals make of it.
const LEAD_MS_MAX: i64 = 60_000;
/// More of it for each node that has to know.
const LEAD_MS_PER_NODE: i64 = 4;
/// Changes take effect on full seconds: those of several nodes at once make one new view.
const GRID_MS: i64 = 1_000;
/// When a change has been in force for so long its entry is written without the stage before.
const FOLD_MS: i64 = 10_000;
/// A node that does not scrape says so anew, so that it is not forgotten.
const RENEW_MS: i64 = super::table::KEEP_MS / 2;
/// Within this time a peer that has not answered is not asked again.
const RETRY_MS: u64 = 150;

/// A change that others are being asked about.
#[derive(Debug)]
pub(super) struct Proposal {
    /// Monotonic.
    first_ms: u64,
    lead_ms: i64,
    /// Times that it was not agreed on.
    failures: u32,
}

impl State {
    /// Proposes, agrees, renews, tidies up.
    pub(super) fn plan_step(&mut self, now: Now) {
        if !self.start.is_published || self.start.is_refused {
            return;
        }
        let Some(own) = self.table.member(&self.own.name).cloned() else {
            return;
        };
        let asked = own.next.as_ref().filter(|next| !next.is_agreed);
        if let Some(asked) = asked {
            self.pursue(&own, asked, now);
            return;
        }
        let in_force = own.next.as_ref().filter(|n| n.stage.from_ms <= now.unix_ms);
        if own.next.is_some() && in_force.is_none() {
            return;
        }
        let stage = own.stage_at(now.unix_ms);
        if let Some(wanted) = self.wanted(stage, now) {
            self.propose(stage.clone(), wanted, None, now);
        } else if in_force.is_some_and(|n| n.stage.from_ms.saturating_add(FOLD_MS) <= now.unix_ms) {
            self.write_own(stage.clone(), None, now);
        } else if in_force.is_none()
            && !stage.is_active
            && stage.from_ms.saturating_add(RENEW_MS) <= now.unix_ms
        {
            let from_ms = now.unix_ms;
            self.write_own(
                Stage {
                    from_ms,
                    ..stage.clone()
                },
                None,
                now,
            );
        }
    }

    /// The stage that the engine wishes, if that is another one.
    fn wanted(&mut self, stage: &Stage, now: Now) -> Option<Wish> {
        let wish = self.wish.clone()?;
        let may_start = stage.is_active || wish.is_active && self.is_size_met(now);
        let is_same = if wish.is_active && may_start {
            stage.is_active
                && stage.weight == wish.weight
                && stage.jobs == wish.jobs
                && stage.heavy == wish.heavy
        } else {
            !stage.is_active
        };
        (!is_same).then_some(wish)
    }

    /// Whether there are as many nodes as this one has to wait for, or it has waited long enough.
    fn is_size_met(&mut self, now: Now) -> bool {
        let since_ms = *self.ready_since_ms.get_or_insert(now.monotonic_ms);
        let waited_ms = now.monotonic_ms.saturating_sub(since_ms);
        let timeout_ms = self.own.wait_timeout_ms;
        if timeout_ms > 0 && waited_ms >= timeout_ms {
            return true;
        }
        let alive = self.table.members().filter(|member| {
            member.name == self.own.name || !self.is_dead(member) && self.is_up(member)
        });
        alive.count() >= self.own.wait_for_size as usize
    }

    fn propose(&mut self, before: Stage, wish: Wish, failed: Option<Proposal>, now: Now) {
        let mut stage = Stage {
            from_ms: now.unix_ms,
            is_active: wish.is_active,
            weight: wish.weight,
            jobs: wish.jobs,
            heavy: wish.heavy,
        };
        let others = self.others(now).count();
        // Who is cut off from the others must not take itself for alone.
        if others == 0 && !self.is_isolated {
            let from_ms = stage.from_ms;
            let is_agreed = true;
            self.write_own(before, Some(Planned { stage, is_agreed }), now);
            self.proposal = None;
            let after_ms = failed.map_or(0, |f| now.monotonic_ms.saturating_sub(f.first_ms));
            self.events.push(Event::Agreed { from_ms, after_ms });
            return;
        }
        let failures = failed.as_ref().map_or(0, |failed| failed.failures + 1);
        let lead_ms = self.lead_ms(others, failures);
        let earliest_ms = now.unix_ms.saturating_add(lead_ms);
        let from_ms = earliest_ms
            .div_euclid(GRID_MS)
            .saturating_add(1)
            .saturating_mul(GRID_MS);
        stage.from_ms = from_ms;
        let is_agreed = false;
        self.write_own(before, Some(Planned { stage, is_agreed }), now);
        self.proposal = Some(Proposal {
            first_ms: failed.map_or(now.monotonic_ms, |failed| failed.first_ms),
            lead_ms,
            failures,
        });
        let others = others as u32;
        self.events.push(Event::Proposed { from_ms, others });
    }

    fn lead_ms(&self, others: usize, failures: u32) -> i64 {
        let skews = self.peers.iter().filter_map(|(_, peer)| peer.skew_ms);
        let skew_ms = skews.map(i64::saturating_abs).max().unwrap_or(0);
        let round_trips = self.peers.iter().filter_map(|(_, peer)| peer.round_trip_ms);
        let round_trip_ms = round_trips.max().unwrap_or(0).min(LEAD_MS_MAX as u64) as i64;
        let base_ms = LEAD_MS_MIN.max(3 * round_trip_ms) + LEAD_MS_PER_NODE * others as i64;
        let patient_ms = base_ms
            .saturating_mul(1 << failures.min(5))
            .min(LEAD_MS_MAX.max(base_ms));
        // By a clock that is ahead the time comes sooner: half of the lead has to outlast that.
        patient_ms.saturating_add(2 * skew_ms.min(LEAD_MS_MAX))
    }

    /// Agreed, if all know it and it is not too late for all to learn so; if it is, from the start.
    fn pursue(&mut self, own: &Member, asked: &Planned, now: Now) {
        let Some(proposal) = &self.proposal else {
            self.write_own(own.now.clone(), None, now);
            return;
        };
        let from_ms = asked.stage.from_ms;
        let is_late = now.unix_ms > from_ms.saturating_sub(proposal.lead_ms / 2);
        let entry = (own.incarnation, own.version);
        if is_late {
            let failed = self.proposal.take();
            match self.wanted(&own.now, now) {
                Some(wish) => self.propose(own.now.clone(), wish, failed, now),
                None => self.write_own(own.now.clone(), None, now),
            }
        } else if !self.is_isolated
            && self
                .others(now)
                .all(|o| self.peers.has_seen(&o.name, entry))
        {
            let after_ms = now.monotonic_ms.saturating_sub(proposal.first_ms);
            let agreed = Planned {
                is_agreed: true,
                stage: asked.stage.clone(),
            };
            self.proposal = None;
            self.write_own(own.now.clone(), Some(agreed), now);
            self.events.push(Event::Agreed { from_ms, after_ms });
        }
    }

    /// The next version of this node's entry.
    fn write_own(&mut self, stage: Stage, next: Option<Planned>, now: Now) {
        let version = self
            .table
            .member(&self.own.name)
            .map_or(0, |own| own.version);
        let member = Member {
            version: version.saturating_add(1),
            now: stage,
            next,
            ..self.inactive(now)
        };
        self.write(member, now);
    }

    /// The members that have to know of a change before it holds: all that are not known to be
    /// dead and scrape, will scrape, or could begin to.
    fn others(&self, now: Now) -> impl Iterator<Item = &Arc<Member>> {
        self.table.members().filter(move |member| {
            let peer = self.peers.get(&member.name);
            // Nobody finds a node dead that does not scrape yet: one that is gone before its
            // change was agreed must not hold up the changes of all others.
            let is_gone = || peer.is_some_and(|peer| peer.is_told && !peer.is_up);
            let is_coming = member.next.as_ref().is_some_and(|next| {
                let may_be_agreed = || next.stage.from_ms > now.unix_ms && !is_gone();
                next.stage.is_active && (next.is_agreed || may_be_agreed())
            });
            // Who has left by plan is not there to be asked, whatever its last entry was before.
            let is_active = member.stage_at(now.unix_ms).is_active || is_coming;
            member.name != self.own.name
                && !self.is_dead(member)
                && (is_active || self.is_up(member))
        })
    }

    /// Whether the failure detector says that a member is there. What it said of a former life does
    /// not count: of one that was over before this node heard of it, it says nothing.
    fn is_up(&self, member: &Member) -> bool {
        let peer = self.peers.get(&member.name);
        peer.is_some_and(|peer| peer.is_up && peer.incarnation >= member.incarnation)
    }

    /// Whom to ask because of a change that is not agreed, or that was agreed just now.
    pub(super) fn to_ask_for_plan(&self, now: Now) -> Vec<(Arc<str>, SocketAddr)> {
        let own = self.table.member(&self.own.name);
        let Some(own) = own.filter(|_| self.start.is_published) else {
            return Vec::new();
        };
        let is_open = own.next.as_ref().is_some_and(|next| {
            !next.is_agreed || next.stage.from_ms.saturating_add(FOLD_MS) > now.unix_ms
        });
        if !is_open {
            return Vec::new();
        }
        let entry = (own.incarnation, own.version);
        let lack = self
            .others(now)
            .filter(|o| !self.peers.has_seen(&o.name, entry));
        let may = lack.filter(|other| {
            let peer = self.peers.get(&other.name);
            peer.is_none_or(|peer| peer.may_be_asked(RETRY_MS, now))
        });
        may.map(|other| (other.name.clone(), other.gossip_address))
            .collect()
    }
}
