//! Who is silent, and whom this node still reaches -> who is dead, or that this node is cut off.
//!
//! A node judges only if it reaches half of those who were there in the last hour or more, itself
//! among them: before it finds anybody dead it asks for answers that are newer than the silence.
//! With fewer it keeps its own share. A node that itself stood still judges nobody and scrapes
//! nothing until a peer has answered.

use super::messages::{Crash, Side};
use super::{Event, State};
use crate::member::Member;
use crate::now::Now;
use core::net::SocketAddr;
use std::collections::BTreeSet;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Members count for the judgement for so long after they were found dead.
const MEMORY_MS: i64 = 60 * 60 * 1_000;
/// In a larger cluster as many members as this are asked, chosen anew for each judgement. If fewer
/// than three quarters of them answer, and more than a quarter, that is too close to a half for a
/// sample: then all are asked.
const SAMPLE_MAX: usize = 32;
/// When all of a larger cluster are asked, answers count for at least this long.
const ANSWERS_OF_MANY_MS: u64 = 10_000;
/// Who stood still and is cut off goes on with its share after this time, as others that are cut
/// off do.
const STILL_ISOLATED_MS: u64 = 10_000;
/// Who is said to be down is asked, too, and has at least this long to answer,
const SETTLE_MS: u64 = 100;
/// as many round trips of the slowest peer,
const SETTLE_ROUND_TRIPS: u64 = 3;
/// and at most this long.
const SETTLE_MS_MAX: u64 = 1_000;
/// A member that only the table tells of counts as silent after this multiple of the detection
/// time,
const UNKNOWN_DETECTIONS: u64 = 5;
/// and at the least after this time.
const UNKNOWN_MS_MIN: u64 = 10_000;
/// Within this time a peer that has not answered is not asked again.
const RETRY_MS: u64 = 150;
/// The same as long as this node is isolated.
const RETRY_ISOLATED_MS: u64 = 1_000;
/// Peers that are asked after this node stood still.
const WAKE_PEERS: usize = 5;

/// Who is asked in order to judge.
#[derive(Debug)]
struct Asked<'a> {
    names: Vec<&'a Arc<str>>,
    /// Whether that is everybody.
    is_all: bool,
    /// When those of them were last heard that were; monotonic, sorted.
    heard_ms: Vec<u64>,
}

impl Asked<'_> {
    /// How many were heard since then, this node included, and of how many.
    fn reached(&self, since_ms: u64) -> (usize, usize) {
        let before = self
            .heard_ms
            .partition_point(|heard_ms| *heard_ms < since_ms);
        (self.heard_ms.len() - before + 1, self.names.len() + 1)
    }
}

/// A member that does not speak.
#[derive(Debug)]
struct Silent {
    member: Arc<Member>,
    /// When this node last heard of it.
    until_ms: i64,
    /// Since when others' answers show that the silence is not this node's; monotonic.
    since_ms: u64,
    /// Whether it is not the failure detector that says so: it has to be asked first.
    is_guess: bool,
}

impl State {
    /// To be called first, with each word from outside.
    pub(super) fn notice_standstill(&mut self, now: Now) {
        let late_ms = now.monotonic_ms.saturating_sub(self.due_ms);
        self.due_ms = self.due_ms.max(now.monotonic_ms);
        if late_ms <= self.own.detection_ms / 2 {
            return;
        }
        // Former verdicts are of no use: they have to be found again.
        for peer in self.peers.iter_mut() {
            peer.since_ms = now.monotonic_ms;
        }
        if self.is_member_scraping(now) && self.stood_still_ms.is_none() {
            self.events.push(Event::StoodStill { late_ms });
            self.stood_still_ms = Some(now.monotonic_ms);
        } else if self.stood_still_ms.is_some() {
            self.stood_still_ms = Some(now.monotonic_ms);
        }
    }

    fn is_member_scraping(&self, now: Now) -> bool {
        let own = self.table.member(&self.own.name);
        self.start.is_published && own.is_some_and(|own| own.stage_at(now.unix_ms).is_active)
    }

    /// A peer has answered a question of this node.
    pub(super) fn wake(&mut self, round_trip_ms: u64, now: Now) {
        let woken = self.stood_still_ms.filter(|woke_ms| {
            // An answer to a question from before might be as old as this node's own knowledge.
            now.monotonic_ms.saturating_sub(round_trip_ms) >= *woke_ms
        });
        if woken.is_some() {
            self.go_on();
        }
    }

    fn go_on(&mut self) {
        self.stood_still_ms = None;
        self.events.push(Event::GoOn);
    }

    /// Finds out who is dead and whether this node is cut off. Returns whether there is something
    /// to wait for.
    pub(super) fn judge(&mut self, now: Now) -> bool {
        if !self.start.is_published || self.start.is_refused {
            return self.stood_still_ms.is_some() || self.is_isolated;
        }
        if self.stood_still_ms.is_some() && self.living(now).next().is_none() {
            self.go_on();
        }
        let silent = self.silent(now);
        if silent.is_empty() {
            self.set_isolated(false, now);
            return self.stood_still_ms.is_some();
        }
        let settle_ms = self.settle_ms(now);
        let counted = self.counted(now);
        let asked = self.asked(&counted, &silent, settle_ms, now);
        let was_isolated = self.is_isolated;
        let mut is_isolated = false;
        let mut accused = Vec::new();
        for one in &silent {
            let quiet_ms = now.monotonic_ms.saturating_sub(one.since_ms);
            let since_ms = self.heard_since_ms(&asked, one, now);
            let (reached, of) = asked.reached(since_ms);
            if reached * 2 < of {
                is_isolated |= self.is_isolated || quiet_ms >= self.own.detection_ms / 2;
            } else if quiet_ms >= settle_ms && self.has_not_answered(one, settle_ms, now) {
                accused.push(self.accusation(&counted, &asked, one, now));
            }
        }
        self.set_isolated(is_isolated, now);
        self.go_on_isolated(now);
        if was_isolated {
            return true;
        }
        for crash in accused {
            self.events.push(Event::Accused {
                name: crash.name.clone(),
                incarnation: crash.incarnation,
                until_ms: crash.until_ms,
            });
            self.is_changed |= self.table.put_crash(Arc::new(crash), now.unix_ms);
        }
        true
    }

    fn has_not_answered(&self, silent: &Silent, settle_ms: u64, now: Now) -> bool {
        let peer = self.peers.get(&silent.member.name);
        let asked_ms = peer.and_then(|peer| peer.unanswered_ms);
        let is_long = |ms: u64| now.monotonic_ms.saturating_sub(ms) >= settle_ms;
        !silent.is_guess || asked_ms.is_some_and(is_long)
    }

    /// How long others have to answer before somebody is found dead.
    fn settle_ms(&self, now: Now) -> u64 {
        let round_trips = self.peers.iter().filter_map(|(_, peer)| peer.round_trip_ms);
        let round_trip_ms = round_trips.max().unwrap_or(0).min(SETTLE_MS_MAX);
        let settle_ms = SETTLE_MS
            .max(SETTLE_ROUND_TRIPS * round_trip_ms)
            .min(SETTLE_MS_MAX);
        // The failure detector may have judged by the time that this node stood still.
        if self.stood_still_ms.is_some() || now.monotonic_ms < self.trusts_from_ms {
            settle_ms.max(self.own.detection_ms)
        } else {
            settle_ms
        }
    }

    /// Nobody may ever answer. Others may have its share by now, as they may have that of any node
    /// that is cut off: it keeps it, too.
    fn go_on_isolated(&mut self, now: Now) {
        let is_over =
            |since_ms: u64| now.monotonic_ms.saturating_sub(since_ms) >= STILL_ISOLATED_MS;
        let is_still = self.stood_still_ms.is_some_and(is_over);
        if is_still && self.is_isolated && is_over(self.isolated_ms) {
            self.go_on();
        }
    }

    fn set_isolated(&mut self, is_isolated: bool, now: Now) {
        if self.is_isolated == is_isolated {
            return;
        }
        self.is_isolated = is_isolated;
        self.events.push(Event::Isolated(is_isolated));
        self.isolated_ms = now.monotonic_ms;
        if !is_isolated {
            // The first who is heard again is not the only one alive: whoever was silent as long as
            // this node was cut off gets the time to speak.
            self.trusts_from_ms = now.monotonic_ms.saturating_add(2 * self.own.detection_ms);
            for peer in self.peers.iter_mut() {
                peer.since_ms = now.monotonic_ms;
            }
        }
    }

    /// The others that scrape or will, as far as the table tells.
    pub(super) fn living(&self, now: Now) -> impl Iterator<Item = &Arc<Member>> {
        self.table.members().filter(move |member| {
            let next = member.next.as_ref();
            let is_active = member.stage_at(now.unix_ms).is_active
                || next.is_some_and(|next| next.is_agreed && next.stage.is_active);
            is_active && member.name != self.own.name && !self.is_dead(member)
        })
    }

    /// Those of them that do not speak.
    fn silent(&self, now: Now) -> Vec<Silent> {
        let living = self.living(now);
        living
            .filter_map(|member| self.silence(member, now))
            .collect()
    }

    fn silence(&self, member: &Arc<Member>, now: Now) -> Option<Silent> {
        let peer = self.peers.get(&member.name)?;
        let contact_ms = peer.contact.map_or(peer.since_unix_ms, |at| at.unix_ms);
        let waited_ms = now.monotonic_ms.saturating_sub(peer.since_ms);
        let (until_ms, patience_ms) = if peer.incarnation == member.incarnation && peer.is_told {
            if peer.is_up {
                return None;
            }
            (contact_ms, 0)
        } else if peer.incarnation > member.incarnation {
            // It was started again: it may take over its former entry.
            let former = peer
                .former_contact
                .filter(|(inc, _)| *inc == member.incarnation);
            let until_ms = former.map_or(peer.since_unix_ms, |(_, ms)| ms);
            (until_ms, self.own.detection_ms)
        } else {
            // Not known to the failure detector; or known as gone, but it has spoken since.
            let is_heard = peer.incarnation == member.incarnation && peer.contact.is_some();
            let patience_ms = if is_heard {
                self.own.detection_ms
            } else {
                UNKNOWN_MS_MIN.max(UNKNOWN_DETECTIONS * self.own.detection_ms)
            };
            let heard_ms = peer.contact.map_or(peer.since_ms, |at| at.monotonic_ms);
            let heard_ms = heard_ms.max(peer.since_ms);
            let silent_ms = heard_ms.saturating_add(patience_ms);
            return (now.monotonic_ms >= silent_ms).then(|| Silent {
                member: member.clone(),
                until_ms: contact_ms.min(now.unix_ms),
                since_ms: silent_ms,
                is_guess: true,
            });
        };
        (waited_ms >= patience_ms).then(|| Silent {
            member: member.clone(),
            until_ms: until_ms.min(now.unix_ms),
            since_ms: peer.since_ms.saturating_add(patience_ms),
            is_guess: patience_ms > 0,
        })
    }

    /// The names that are counted in a judgement: those that scrape, those that were found dead
    /// while they did and not come back by plan, and this node.
    fn counted(&self, now: Now) -> BTreeSet<Arc<str>> {
        let is_counted = |member: &&Arc<Member>| {
            let dead_ms = self.dead.until_ms(&member.name, member.incarnation);
            member.stage_at(now.unix_ms).is_active
                && dead_ms.is_none_or(|ms| ms.saturating_add(MEMORY_MS) > now.unix_ms)
        };
        let counted = self.table.members().filter(is_counted);
        let me = std::iter::once(&self.own.name);
        counted
            .map(|member| &member.name)
            .chain(me)
            .cloned()
            .collect()
    }

    /// Whom to ask in order to judge silences.
    fn asked<'a>(
        &self,
        counted: &'a BTreeSet<Arc<str>>,
        silent: &[Silent],
        settle_ms: u64,
        now: Now,
    ) -> Asked<'a> {
        let others = counted.iter().filter(|name| **name != self.own.name);
        let mut all: Vec<&Arc<str>> = others.collect();
        if all.len() <= SAMPLE_MAX {
            return self.of(all, true);
        }
        let first_ms = silent.iter().map(|one| one.since_ms).min().unwrap_or(0);
        let seed = self.own.seed ^ first_ms;
        all.sort_by_cached_key(|name| xxh3_64_with_seed(name.as_bytes(), seed));
        let sample = self.of(all[..SAMPLE_MAX].to_vec(), false);
        let is_close = |one: &Silent| {
            let (reached, of) = sample.reached(self.heard_since_ms(&sample, one, now));
            let quiet_ms = now.monotonic_ms.saturating_sub(one.since_ms);
            quiet_ms >= settle_ms && reached * 4 < of * 3 && reached * 4 > of
        };
        if silent.iter().any(is_close) {
            self.of(all, true)
        } else {
            sample
        }
    }

    fn of<'a>(&self, names: Vec<&'a Arc<str>>, is_all: bool) -> Asked<'a> {
        let contact = |name: &&Arc<str>| self.peers.get(name)?.contact;
        let heard = names.iter().filter_map(contact);
        let mut heard_ms: Vec<u64> = heard.map(|at| at.monotonic_ms).collect();
        heard_ms.sort_unstable();
        Asked {
            names,
            is_all,
            heard_ms,
        }
    }

    /// Answers count that are newer than the silence, and not old.
    fn heard_since_ms(&self, asked: &Asked<'_>, silent: &Silent, now: Now) -> u64 {
        let is_many = asked.is_all && asked.names.len() > SAMPLE_MAX;
        let answers_ms = match is_many {
            true => self.own.detection_ms.max(ANSWERS_OF_MANY_MS),
            false => self.own.detection_ms,
        };
        let recent_ms = now.monotonic_ms.saturating_sub(answers_ms);
        silent.since_ms.max(recent_ms)
    }

    fn accusation(
        &self,
        counted: &BTreeSet<Arc<str>>,
        asked: &Asked<'_>,
        silent: &Silent,
        now: Now,
    ) -> Crash {
        let since_ms = self.heard_since_ms(asked, silent, now);
        // Of those that were not asked the failure detector tells.
        let is_reached = |name: &&Arc<str>| {
            **name == self.own.name
                || self.peers.is_heard_since(name, since_ms)
                || !asked.is_all && self.peers.get(name).is_some_and(|peer| peer.is_up)
        };
        let reached: Vec<&Arc<str>> = counted.iter().filter(is_reached).collect();
        let lowest = reached.first().copied().unwrap_or(&self.own.name);
        Crash {
            name: silent.member.name.clone(),
            incarnation: silent.member.incarnation,
            until_ms: silent.until_ms,
            made_ms: now.unix_ms,
            by: self.own.name.clone(),
            by_incarnation: self.own.incarnation,
            side: Side {
                members: reached.len() as u32,
                lowest: lowest.clone(),
            },
        }
    }

    /// Whom to ask because somebody is silent, or this node was.
    pub(super) fn to_ask_for_judgement(&self, now: Now) -> Vec<(Arc<str>, SocketAddr)> {
        if !self.start.is_published || self.start.is_refused || !self.was_judging {
            return Vec::new();
        }
        let mut names = BTreeSet::new();
        if self.stood_still_ms.is_some() {
            let mut others: Vec<&Arc<str>> = self.living(now).map(|m| &m.name).collect();
            // Another few with each try: those that are asked may be dead.
            let round = now.monotonic_ms / RETRY_MS;
            others.sort_by_cached_key(|name| xxh3_64_with_seed(name.as_bytes(), round));
            names.extend(others.into_iter().take(WAKE_PEERS).cloned());
        }
        let silent = self.silent(now);
        if !silent.is_empty() {
            let counted = self.counted(now);
            let asked = self.asked(&counted, &silent, self.settle_ms(now), now);
            let since_ms = silent
                .iter()
                .map(|one| self.heard_since_ms(&asked, one, now));
            let since_ms = since_ms.max().unwrap_or(0);
            let unheard = asked.names.iter();
            let unheard = unheard.filter(|name| !self.peers.is_heard_since(name, since_ms));
            names.extend(unheard.copied().cloned());
            let guessed = silent.iter().filter(|one| one.is_guess);
            names.extend(guessed.map(|one| one.member.name.clone()));
        }
        let retry_ms = if self.is_isolated {
            RETRY_ISOLATED_MS
        } else {
            RETRY_MS
        };
        let address = |name: Arc<str>| {
            let peer = self.peers.get(&name);
            let may = peer.is_none_or(|peer| peer.may_be_asked(retry_ms, now));
            let member = self.table.member(&name).filter(|_| may)?;
            Some((name, member.gossip_address))
        };
        let mut to_ask: Vec<_> = names.into_iter().filter_map(address).collect();
        // Who is there answers soon and makes room for the next.
        let is_down =
            |(name, _): &(Arc<str>, _)| self.peers.get(name).is_none_or(|peer| !peer.is_up);
        to_ask.sort_by_key(is_down);
        to_ask
    }
}
