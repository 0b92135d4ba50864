//! A node without a cluster -> a member of one: found it or found one, keep the name unique, go on
//! where the former incarnation was.
//!
//! A node's entry is not in the table until it is known what the table says of its name: an entry
//! of the former incarnation that still holds is taken over unchanged, so that a quick restart
//! moves nothing.

use super::messages::{Cluster, Delta, Summary};
use super::table::Put;
use super::{Death, Event, Refusal, State};
use crate::limits::is_incarnation;
use crate::member::{Founder, Member, Stage};
use crate::now::Now;
use core::net::SocketAddr;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A node that looks for a cluster, too, counts for this long after it was heard.
const CANDIDATE_MS: u64 = 3_000;
/// Until this node has entered its cluster it asks one node after another what is new.
const ASK_ANOTHER_MS: u64 = 1_000;
/// Another node that claims this name is seen this often until one of the two gives up,
const CLASHES_MAX: usize = 3;
/// within this time.
const CLASHES_MS: u64 = 60_000;

/// How far a node has come.
#[derive(Debug, Default)]
pub(super) struct Start {
    pub(super) founder: Option<Founder>,
    /// See [`Cluster::size_class`].
    pub(super) size_class: u8,
    /// Whether this node's own entry is in the table.
    pub(super) is_published: bool,
    pub(super) is_refused: bool,
    is_round_over: bool,
    /// Until when the node that had this name before, at another address, may answer.
    name_check_until_ms: Option<u64>,
    is_name_free: bool,
    /// When another node's entry under this name was seen.
    clashes_ms: Vec<u64>,
}

impl State {
    pub(super) fn founder(&self) -> Option<Founder> {
        self.start.founder
    }

    pub(super) fn cluster(&self) -> Option<Cluster> {
        let founder = self.start.founder?;
        let size_class = self.start.size_class;
        Some(Cluster {
            founder,
            size_class,
        })
    }

    /// How many members scrape at once, if there were never more.
    pub(super) fn note_size(&mut self, now: Now) {
        let is_active =
            |member: &&Arc<Member>| member.stage_at(now.unix_ms).is_active && !self.is_dead(member);
        let count = self.table.members().filter(is_active).count();
        let size_class = count.max(1).ilog2() as u8;
        self.start.size_class = self.start.size_class.max(size_class);
    }

    /// A delta came from a live node of another cluster, or this node has none. Returns whether the
    /// delta belongs to the cluster that this node is in now.
    pub(super) fn meet(&mut self, delta: &Delta, now: Now) -> bool {
        let Some(theirs) = delta.cluster else {
            return false;
        };
        match self.cluster() {
            Some(mine) if mine.founder == theirs.founder => true,
            Some(mine) if mine.is_before(&theirs) => false,
            mine => {
                if mine.is_some() {
                    self.raise_incarnation(now);
                    let incarnation = self.own.incarnation;
                    let into = theirs.founder;
                    let reason = Death::Merged { into };
                    self.events.push(Event::Died {
                        reason,
                        incarnation,
                    });
                }
                self.leave_table();
                self.start.founder = Some(theirs.founder);
                self.start.size_class = theirs.size_class;
                self.events.push(Event::Joined(theirs.founder));
                true
            }
        }
    }

    /// Forgets all that belonged to the former cluster.
    fn leave_table(&mut self) {
        self.table = Default::default();
        self.tracks = Default::default();
        self.proposal = None;
        self.start.is_published = false;
        self.start.name_check_until_ms = None;
        self.start.is_name_free = false;
        self.peers.iter_mut().for_each(|peer| peer.seen = None);
        self.followers.clear();
        self.roster = (u64::MAX, [].into());
        self.is_changed = true;
    }

    /// A node with this node's name has spoken.
    pub(super) fn meet_namesake(&mut self, theirs: &Summary) {
        let mine = (self.own.incarnation, self.own.gossip_address);
        let other = (theirs.incarnation, theirs.gossip_address);
        if mine == other {
            return;
        }
        let is_newcomer = match (self.start.founder, theirs.cluster) {
            (None, None) => mine > other,
            (Some(_), None) => false,
            _ => !self.start.is_published,
        };
        if is_newcomer && mine.1 != other.1 {
            self.refuse(theirs.gossip_address);
        }
    }

    /// An entry of this node's name came that this node has not written.
    pub(super) fn defend_name(&mut self, theirs: &Member, now: Now) {
        let Some(own) = self.table.member(&self.own.name).cloned() else {
            return;
        };
        if !is_incarnation(theirs.incarnation, now.unix_ms) {
            return;
        }
        let is_newer = theirs.incarnation > own.incarnation
            || theirs.incarnation == own.incarnation
                && (theirs.version > own.version
                    || theirs.version == own.version && *theirs != *own);
        if !is_newer {
            return;
        }
        let clashes = &mut self.start.clashes_ms;
        clashes.retain(|ms| now.monotonic_ms.saturating_sub(*ms) < CLASHES_MS);
        clashes.push(now.monotonic_ms);
        let is_often = clashes.len() >= CLASHES_MAX;
        if is_often && theirs.gossip_address < self.own.gossip_address {
            self.refuse(theirs.gossip_address);
            return;
        }
        self.own.incarnation = theirs.incarnation.saturating_add(1);
        let raised = Event::IncarnationRaised(self.own.incarnation);
        self.events.push(raised);
        let member = Member {
            incarnation: self.own.incarnation,
            version: 0,
            ..(*own).clone()
        };
        self.write(member, now);
    }

    fn refuse(&mut self, address: SocketAddr) {
        if !self.start.is_refused {
            self.start.is_refused = true;
            self.is_changed = true;
            let name = self.own.name.clone();
            self.events
                .push(Event::Refused(Refusal::DuplicateName { name, address }));
        }
    }

    /// See [`State::join_round_over`].
    pub(super) fn end_join_round(&mut self) {
        self.start.is_round_over = true;
    }

    /// Goes on as far as what is known allows.
    pub(super) fn start_step(&mut self, now: Now) {
        if self.start.is_refused || self.start.is_published {
            return;
        }
        if self.start.founder.is_none() {
            if !self.start.is_round_over || self.is_lower_candidate(now) {
                return;
            }
            let founder = Founder {
                founded_ms: now.unix_ms,
                id: self.own.seed,
            };
            self.start.founder = Some(founder);
            self.events.push(Event::Founded(founder));
        }
        self.publish_step(now);
    }

    fn publish_step(&mut self, now: Now) {
        let former = self.table.member(&self.own.name).cloned();
        let Some(former) = former else {
            self.write(self.inactive(now), now);
            return;
        };
        self.had_jobs = former.stage_at(now.unix_ms).jobs.clone();
        if former.incarnation >= self.own.incarnation {
            self.own.incarnation = former.incarnation.saturating_add(1);
            let raised = Event::IncarnationRaised(self.own.incarnation);
            self.events.push(raised);
        }
        if !self.is_name_free(&former, now) {
            return;
        }
        let agreed = former.next.clone().filter(|next| next.is_agreed);
        let is_active = former.stage_at(now.unix_ms).is_active
            || agreed.as_ref().is_some_and(|next| next.stage.is_active);
        // In another zone it gets other targets: that has to be agreed.
        let is_elsewhere = former.zone != self.own.zone;
        let is_dead = !self.dead.of(&former.name, former.incarnation).is_empty();
        if !is_active || is_elsewhere || is_dead {
            self.write(self.inactive(now), now);
        } else if self.wish.as_ref().is_some_and(|wish| wish.is_active) {
            let member = Member {
                now: former.now.clone(),
                next: agreed,
                ..self.inactive(now)
            };
            self.write(member, now);
            let former = former.incarnation;
            self.events.push(Event::Resumed { former });
        }
    }

    /// Whether the node that had this name before is this one, or gone.
    fn is_name_free(&mut self, former: &Member, now: Now) -> bool {
        if former.gossip_address == self.own.gossip_address {
            return true;
        }
        let patience_ms = self.own.detection_ms;
        let until_ms = *self
            .start
            .name_check_until_ms
            .get_or_insert(now.monotonic_ms.saturating_add(patience_ms));
        self.start.is_name_free |= now.monotonic_ms >= until_ms;
        self.start.is_name_free
    }

    /// Whom to ask in order to find a cluster, or whether the name is free.
    pub(super) fn to_ask_for_start(&self, now: Now) -> Vec<(Arc<str>, SocketAddr)> {
        if self.start.is_published || self.start.is_refused {
            return Vec::new();
        }
        if self.start.founder.is_none() {
            let candidates = self.candidates(now);
            let address = |(name, address)| Some((Arc::clone(name), address?));
            return candidates.filter_map(address).collect();
        }
        let former = self.table.member(&self.own.name);
        let elsewhere = former.filter(|f| f.gossip_address != self.own.gossip_address);
        let is_asked = self.start.name_check_until_ms.is_some() && !self.start.is_name_free;
        // Whether the former incarnation is still counted on, others have to tell.
        let round = now.monotonic_ms / ASK_ANOTHER_MS;
        let others = self.living(now);
        let other = others.min_by_key(|m| xxh3_64_with_seed(m.name.as_bytes(), round));
        let former = elsewhere.filter(|_| is_asked);
        let to_ask = former.into_iter().chain(other);
        to_ask
            .map(|member| (member.name.clone(), member.gossip_address))
            .collect()
    }

    /// Nodes that were heard of lately; while this one looks for a cluster these do, too.
    fn candidates(&self, now: Now) -> impl Iterator<Item = (&Arc<str>, Option<SocketAddr>)> {
        let since_ms = now.monotonic_ms.saturating_sub(CANDIDATE_MS);
        let is_heard = move |peer: &super::peers::Peer| {
            let contact = peer.contact.filter(|_| peer.address.is_some());
            contact.is_some_and(|at| at.monotonic_ms >= since_ms)
        };
        let heard = self.peers.iter().filter(move |(_, peer)| is_heard(peer));
        heard.map(|(name, peer)| (name, peer.address))
    }

    fn is_lower_candidate(&self, now: Now) -> bool {
        let mut candidates = self.candidates(now);
        candidates.any(|(name, _)| **name < *self.own.name)
    }

    pub(super) fn raise_incarnation(&mut self, now: Now) {
        let clock = u64::try_from(now.unix_ms).unwrap_or(0);
        self.own.incarnation = self.own.incarnation.saturating_add(1).max(clock);
    }

    /// This node's first entry: it does nothing yet.
    pub(super) fn inactive(&self, now: Now) -> Member {
        let own = &self.own;
        Member {
            name: own.name.clone(),
            incarnation: own.incarnation,
            version: 0,
            founder: self.start.founder.unwrap_or(Founder {
                founded_ms: now.unix_ms,
                id: own.seed,
            }),
            gossip_address: own.gossip_address,
            http_address: own.http_address.clone(),
            zone: own.zone.clone(),
            software: own.software.clone(),
            now: Stage {
                from_ms: now.unix_ms,
                is_active: false,
                weight: 0,
                jobs: [].into(),
                heavy: [].into(),
            },
            next: None,
        }
    }

    /// Puts this node's entry into the table.
    pub(super) fn write(&mut self, member: Member, now: Now) {
        let put = self.table.put(Arc::new(member), now.unix_ms);
        self.is_changed |= put == Put::Matters || !self.start.is_published;
        self.written_ms = now.monotonic_ms;
        self.start.is_published = true;
    }
}
