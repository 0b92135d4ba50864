//! What the engine wishes of its node -> a change that takes effect on all nodes at one slot time.
//!
//! The node writes the change with its time into its own entry, and asks all others until each has
//! shown that it knows it; then it marks the change as agreed. A change that is not agreed never
//! holds, so a node that hears of it late, or not at all, does nothing wrong.

use super::peers::Peer;
use super::{Event, State, Wish};
use crate::member::{HeavyTarget, JobId, JobVersion, Member, Planned, Stage};
use crate::now::Now;
use core::net::SocketAddr;
use std::collections::HashMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Least time between a proposal and its effect.
const LEAD_MS_MIN: i64 = 3_000;
/// The same for a change of nothing but the settings of jobs: it has to follow soon, and who hears
/// of it late is wrong about the targets of the changed jobs only.
const LEAD_MS_MIN_JOBS: i64 = 600;
/// Most that unsuccessful proposals make of it,
const LEAD_MS_MAX: i64 = 20_000;
/// or as many times what it is without them.
const LEADS_MAX: i64 = 3;
/// More of it for each node that has to know.
const LEAD_MS_PER_NODE: i64 = 8;
/// Clocks that differ by more are not waited for.
const SKEW_MS_MAX: i64 = 10 * 60 * 1_000;
/// Who hears of a proposal says so until this long before its node gives it up (but for a fifth of
/// a shorter lead), by its own clock: the word that it is agreed has to come in time, too.
const IN_TIME_MS: i64 = 400;
/// Changes take effect on full seconds: those of several nodes at once make one new view.
const GRID_MS: i64 = 1_000;
/// The same for changes of the settings of jobs.
const GRID_MS_JOBS: i64 = 200;
/// When a change has been in force for so long its entry is written without the stage before.
const FOLD_MS: i64 = 10_000;
/// A node that does not scrape says so anew, so that it is not forgotten.
const RENEW_MS: i64 = super::table::KEEP_MS / 2;
/// Within this time a peer that has not answered is not asked again.
const RETRY_MS: u64 = 150;
/// The same in a large cluster,
const RETRY_OF_MANY_MS: u64 = 1_000;
/// where a few are told of a change, so that they pass it on,
const TOLD: usize = 4;
/// and who is still not known to know it after this time is asked,
const FOLLOW_MS: u64 = 2_000;
/// a few at a time,
const ASKED: usize = 4;
/// this often.
const ASK_EVERY_MS: u64 = 200;
/// There, changes of many nodes at once are agreed together: each is proposed when no entry has
/// changed for this long,
const QUIET_MS: u64 = 600;
/// or after this time.
const QUIET_PATIENCE_MS: u64 = 5_000;

/// A change that others are being asked about.
#[derive(Debug)]
pub(super) struct Proposal {
    /// Monotonic.
    first_ms: u64,
    lead_ms: i64,
    /// Times that it was not agreed on.
    failures: u32,
}

/// Whether a node may say that it knows what a member's entry says. Not if it proposes something
/// that this node's clock would find agreed too late: that would hold in its past.
pub(super) fn is_in_time(member: &Member, now: Now) -> bool {
    let asked = member.next.as_ref().filter(|next| !next.is_agreed);
    asked.is_none_or(|next| {
        let lead_ms = lead_ms_of(next);
        let left_ms = lead_ms / 2 + IN_TIME_MS.min(lead_ms / 5);
        now.unix_ms <= next.stage.from_ms.saturating_sub(left_ms)
    })
}

fn same_settings(a: &[JobVersion], b: &[JobVersion]) -> bool {
    let settings = |version: &JobVersion| (version.job, version.config_hash);
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| settings(a) == settings(b))
}

/// What a node tells of costs. One that has started knows no more than its budget, and goes on with
/// what it told before.
fn told_by(wish: &Wish, before: &Stage) -> Arc<[HeavyTarget]> {
    let Some(heavy) = &wish.heavy else {
        return before.heavy.clone();
    };
    let is_budget = |one: &&HeavyTarget| one.job == HeavyTarget::BUDGET;
    if heavy.is_empty() || !heavy.iter().all(|one| is_budget(&one)) {
        return heavy.clone();
    }
    let others = before.heavy.iter().filter(|one| !is_budget(one));
    let mut all: Vec<HeavyTarget> = others.chain(heavy.iter()).copied().collect();
    all.sort();
    all.into()
}

/// The jobs whose settings differ.
fn changed_jobs(a: &[JobVersion], b: &[JobVersion]) -> Vec<JobId> {
    let differs = |version: &&JobVersion, others: &[JobVersion]| {
        let same = |other: &JobVersion| {
            (other.job, other.config_hash) == (version.job, version.config_hash)
        };
        !others.iter().any(same)
    };
    let gone = a.iter().filter(|version| differs(version, b));
    let fresh = b.iter().filter(|version| differs(version, a));
    gone.chain(fresh).map(|version| version.job).collect()
}

fn lead_ms_of(next: &Planned) -> i64 {
    next.stage.from_ms.saturating_sub(next.proposed_ms)
}

impl State {
    /// An entry came that this node has heard of too late: it does not follow tables with it for as
    /// long as its node may believe that it is in time.
    pub(super) fn note_lateness(&mut self, member: &Member, now: Now) {
        let asked = member.next.as_ref().filter(|_| !is_in_time(member, now));
        if let Some(next) = asked {
            let lead_ms = lead_ms_of(next).clamp(0, 2 * SKEW_MS_MAX) as u64;
            let until_ms = now.monotonic_ms.saturating_add(lead_ms);
            self.late_until_ms = self.late_until_ms.max(until_ms);
        }
    }

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
        let wanted = self.wanted(stage, now);
        if wanted.is_none() {
            self.wanted_ms = None;
        }
        if let Some(wanted) = wanted {
            if self.is_time_to_propose(now) {
                self.propose(stage.clone(), wanted, None, now);
            }
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
                && same_settings(&stage.jobs, &wish.jobs)
                && stage.heavy == told_by(&wish, stage)
        } else {
            !stage.is_active
        };
        (!is_same).then_some(wish)
    }

    /// Since when a node has its settings it says by its own start. What anybody is known to have
    /// had before is not newer because somebody was restarted.
    fn settled(&mut self, jobs: &[JobVersion]) -> Arc<[JobVersion]> {
        let mut first = HashMap::<(JobId, u64), i64>::new();
        for version in jobs {
            first.insert((version.job, version.config_hash), version.since_ms);
        }
        let mut note = |version: &JobVersion| {
            if let Some(since_ms) = first.get_mut(&(version.job, version.config_hash)) {
                *since_ms = version.since_ms.min(*since_ms);
            }
        };
        self.had_jobs.iter().for_each(&mut note);
        for member in self.table.members() {
            let next = member.next.as_ref().map(|next| &next.stage);
            let stages = next.into_iter().chain([&member.now]);
            stages.flat_map(|stage| &*stage.jobs).for_each(&mut note);
        }
        let since = |version: &JobVersion| {
            let first = first.get(&(version.job, version.config_hash));
            JobVersion {
                since_ms: first.copied().unwrap_or(version.since_ms),
                ..*version
            }
        };
        self.had_jobs = jobs.iter().map(since).collect();
        self.had_jobs.clone()
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

    fn is_time_to_propose(&mut self, now: Now) -> bool {
        let wanted_ms = *self.wanted_ms.get_or_insert(now.monotonic_ms);
        let waited_ms = now.monotonic_ms.saturating_sub(wanted_ms);
        let quiet_ms = now.monotonic_ms.saturating_sub(self.news_ms);
        !self.is_large() || quiet_ms >= QUIET_MS || waited_ms >= QUIET_PATIENCE_MS
    }

    fn propose(&mut self, before: Stage, wish: Wish, failed: Option<Proposal>, now: Now) {
        let mut stage = Stage {
            from_ms: now.unix_ms,
            is_active: wish.is_active,
            weight: wish.weight,
            jobs: self.settled(&wish.jobs),
            heavy: told_by(&wish, &before),
        };
        self.wanted_ms = None;
        let proposed_ms = now.unix_ms;
        let others = self.others(now).count();
        // Who is cut off from the others must not take itself for alone.
        if others == 0 && !self.is_isolated {
            let from_ms = stage.from_ms;
            let next = Planned {
                stage,
                is_agreed: true,
                proposed_ms,
            };
            self.write_own(before, Some(next), now);
            self.proposal = None;
            let after_ms = failed.map_or(0, |f| now.monotonic_ms.saturating_sub(f.first_ms));
            self.events.push(Event::Agreed { from_ms, after_ms });
            return;
        }
        let failures = failed.as_ref().map_or(0, |failed| failed.failures + 1);
        let is_of_jobs = before.is_active
            && stage.is_active
            && before.weight == stage.weight
            && before.heavy == stage.heavy
            && !self.is_large()
            && !self.is_any_listed(&changed_jobs(&before.jobs, &stage.jobs));
        let (lead_ms_min, grid_ms) = match is_of_jobs {
            true => (LEAD_MS_MIN_JOBS, GRID_MS_JOBS),
            false => (LEAD_MS_MIN, GRID_MS),
        };
        let lead_ms = self.lead_ms(lead_ms_min, others, failures, now);
        let earliest_ms = now.unix_ms.saturating_add(lead_ms);
        let from_ms = earliest_ms
            .div_euclid(grid_ms)
            .saturating_add(1)
            .saturating_mul(grid_ms);
        stage.from_ms = from_ms;
        let next = Planned {
            stage,
            is_agreed: false,
            proposed_ms,
        };
        self.write_own(before, Some(next), now);
        self.proposal = Some(Proposal {
            first_ms: failed.map_or(now.monotonic_ms, |failed| failed.first_ms),
            lead_ms,
            failures,
        });
        let others = others as u32;
        self.events.push(Event::Proposed { from_ms, others });
    }

    /// Whether a member lists a target of one of these jobs: when that one gets another owner, so
    /// do targets of other jobs.
    fn is_any_listed(&self, jobs: &[JobId]) -> bool {
        let mut stages = self.table.members().flat_map(|member| {
            let next = member.next.as_ref().map(|next| &next.stage);
            next.into_iter().chain([&member.now])
        });
        let is_one = |target: &HeavyTarget| jobs.contains(&target.job);
        stages.any(|stage| stage.heavy.iter().any(is_one))
    }

    fn lead_ms(&self, lead_ms_min: i64, others: usize, failures: u32, now: Now) -> i64 {
        let peers = || self.others(now).filter_map(|o| self.peers.get(&o.name));
        let skews = peers().filter_map(|peer| peer.skew_ms);
        let skew_ms = skews.map(i64::saturating_abs).max().unwrap_or(0);
        let round_trips = peers().filter_map(|peer| peer.round_trip_ms);
        let round_trip_ms = round_trips.max().unwrap_or(0).min(LEAD_MS_MAX as u64) as i64;
        let base_ms = lead_ms_min.max(3 * round_trip_ms) + LEAD_MS_PER_NODE * others as i64;
        let patient_ms = base_ms
            .saturating_mul(1 << failures.min(5))
            .min(LEAD_MS_MAX.max(LEADS_MAX * base_ms));
        // By a clock that is ahead the time comes sooner: half of the lead has to outlast that.
        patient_ms.saturating_add(2 * skew_ms.min(SKEW_MS_MAX))
    }

    /// Agreed, if all know it and it is not too late for all to learn so; if it is, from the start.
    fn pursue(&mut self, own: &Member, asked: &Planned, now: Now) {
        let proposal = self.proposal.as_ref();
        let Some((first_ms, lead_ms)) = proposal.map(|one| (one.first_ms, one.lead_ms)) else {
            self.write_own(own.now.clone(), None, now);
            return;
        };
        let from_ms = asked.stage.from_ms;
        let is_late = now.unix_ms > from_ms.saturating_sub(lead_ms / 2);
        let entry = (own.incarnation, own.version);
        if is_late {
            if !self.is_time_to_propose(now) {
                return;
            }
            let failed = self.proposal.take();
            match self.wanted(&own.now, now) {
                Some(wish) => self.propose(own.now.clone(), wish, failed, now),
                None => self.write_own(own.now.clone(), None, now),
            }
        } else if !self.is_isolated && self.is_known_to_all(entry, now) {
            let after_ms = now.monotonic_ms.saturating_sub(first_ms);
            let agreed = Planned {
                is_agreed: true,
                proposed_ms: asked.proposed_ms,
                stage: asked.stage.clone(),
            };
            self.proposal = None;
            self.write_own(own.now.clone(), Some(agreed), now);
            // Who has just been asked is told at once all the same.
            self.peers.let_ask();
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
        self.table
            .members()
            .filter(move |member| self.has_to_know(member, now))
    }

    fn has_to_know(&self, member: &Member, now: Now) -> bool {
        let peer = self.peers.get(&member.name);
        // Nobody finds a node dead that does not scrape yet: one that is gone before its change was
        // agreed must not hold up the changes of all others.
        let is_gone = || peer.is_some_and(|peer| peer.is_told && !peer.is_up);
        let is_coming = member.next.as_ref().is_some_and(|next| {
            let may_be_agreed = || next.stage.from_ms > now.unix_ms && !is_gone();
            next.stage.is_active && (next.is_agreed || may_be_agreed())
        });
        // Who has left by plan is not there to be asked, whatever its last entry was before.
        let is_active = member.stage_at(now.unix_ms).is_active || is_coming;
        member.name != self.own.name && (is_active || is_up(member, peer)) && !self.is_dead(member)
    }

    fn is_known_to_all(&mut self, entry: (u64, u64), now: Now) -> bool {
        let lacks = |member: &&Arc<Member>| {
            let peer = self.peers.get(&member.name);
            !peer.is_some_and(|peer| peer.has_seen(entry)) && self.has_to_know(member, now)
        };
        // Those before the one who lacked it last have had it since: they come last.
        let before = self.lacking.as_deref().unwrap_or("");
        let lacking = self.table.members_from(before).find(lacks);
        self.lacking = lacking.map(|member| member.name.clone());
        self.lacking.is_none()
    }

    fn is_up(&self, member: &Member) -> bool {
        is_up(member, self.peers.get(&member.name))
    }

    /// Whom to ask because of a change that is not agreed, or that was agreed just now.
    pub(super) fn ask_for_plan(&mut self, now: Now) -> Vec<(Arc<str>, SocketAddr)> {
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
        let is_told = |other: &&Arc<Member>, retry_ms| {
            let peer = self.peers.get(&other.name);
            peer.is_none_or(|peer| !peer.has_seen(entry) && peer.may_be_asked(retry_ms, now))
        };
        let address = |other: &Arc<Member>| (other.name.clone(), other.gossip_address);
        if !self.is_large() {
            let lack = self.others(now).filter(|other| is_told(other, RETRY_MS));
            return lack.map(address).collect();
        }
        // All are to know it by what nodes tell each other anyway: to ask each would cost as much
        // as there are members, for each of as many changes as there are members.
        let is_rumour = now.monotonic_ms.saturating_sub(self.written_ms) < FOLLOW_MS;
        if !is_rumour && now.monotonic_ms < self.ask_ms {
            return Vec::new();
        }
        let by_chance = |member: &Member, seed: u64| {
            xxh3_64_with_seed(member.name.as_bytes(), self.own.seed ^ seed)
        };
        if is_rumour {
            if self.told.0 != entry.1 {
                let mut others: Vec<&Arc<Member>> = self.others(now).collect();
                others.sort_by_cached_key(|other| by_chance(other, entry.1));
                let told = others
                    .into_iter()
                    .take(TOLD)
                    .map(|other| other.name.clone());
                self.told = (entry.1, told.collect());
            }
            let told = self.told.1.iter();
            let told = told.filter_map(|name| self.table.member(name));
            let told = told.filter(|other| is_told(other, RETRY_OF_MANY_MS));
            return told.map(address).collect();
        }
        // From anybody on in turn: to look at all for a few of them costs too much, too.
        let lives = &self.roster.1;
        let seed = self.own.seed ^ self.ask_ms;
        let first = xxh3_64_with_seed(&[], seed) % (lives.len() as u64).max(1);
        let first = lives.get(first as usize).map_or("", |(name, _)| name);
        let lack = self.table.members_from(first);
        let lack = lack.filter(|o| is_told(o, RETRY_OF_MANY_MS) && self.has_to_know(o, now));
        let asked = lack.take(ASKED).map(address).collect();
        self.ask_ms = now.monotonic_ms.saturating_add(ASK_EVERY_MS);
        asked
    }
}

/// Whether the failure detector says that a member is there. What it said of a former life does not
/// count: of one that was over before this node heard of it, it says nothing.
fn is_up(member: &Member, peer: Option<&Peer>) -> bool {
    peer.is_some_and(|peer| peer.is_up && peer.incarnation >= member.incarnation)
}
