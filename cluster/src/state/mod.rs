//! What a node has heard from others, its own wishes and the time -> the table of members, its
//! timeline, and whom to speak with next.
//!
//! Pure: time comes with each call, messages are values. What is kept follows from the set of all
//! that was heard, not from the order. In reading order: `messages` that nodes exchange, the
//! `table` that they make equal, which `crashes` in it count, `views` that follow from it; then
//! what one node does: `start`, `plan` its changes, judge who is dead (`isolation`).

mod crashes;
pub mod events;
mod isolation;
pub mod messages;
mod peers;
mod plan;
pub mod snapshot;
mod start;
mod table;
#[cfg(test)]
mod tests;
mod views;

use crate::member::{HeavyTarget, JobVersion, Member};
use crate::now::Now;
use crate::timeline::Timeline;
use core::net::SocketAddr;
use crashes::Dead;
pub use events::{Death, Event, Refusal};
pub use messages::{Crash, Delta, Known, Side, Summary};
use peers::{Peer, Peers};
use plan::Proposal;
pub use snapshot::{MemberState, Snapshot};
use start::Start;
use std::collections::HashSet;
use std::sync::Arc;
use table::Table;
use views::Tracks;

/// What a node is, for as long as its process runs.
#[derive(Debug, Clone)]
pub struct Own {
    /// Unique in the cluster.
    pub name: Arc<str>,
    /// Where others reach its gossip and its streams.
    pub gossip_address: SocketAddr,
    /// Where others reach its API, as `host:port`.
    pub http_address: Arc<str>,
    /// Empty = none.
    pub zone: Arc<str>,
    /// Release of the program, for people.
    pub software: Arc<str>,
    /// Higher than any that the name had before: the larger of stored + 1 and the clock's ms.
    pub incarnation: u64,
    /// How long a node may be silent until the failure detector says it is down.
    pub detection_ms: u64,
    /// Random.
    pub seed: u64,
    /// How many nodes there have to be before this one scrapes; 0 = any.
    pub wait_for_size: u32,
    /// How long it waits for that many; 0 = for ever.
    pub wait_timeout_ms: u64,
}

/// What the engine wants of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Whether it scrapes: true once discovery has answered, false to leave.
    pub is_active: bool,
    /// How much it can take, relative to others.
    pub weight: u32,
    /// The jobs that it can scrape, sorted by job.
    pub jobs: Arc<[JobVersion]>,
    /// Its targets that cost much, sorted by key. Who writes them sees to it that they seldom
    /// change: each change is agreed on by all.
    pub heavy: Arc<[HeavyTarget]>,
}

/// One node's part in the cluster.
///
/// The driver: calls `tick` at `next_due_ms`; after any call opens an exchange with each of
/// `to_exchange_with` and takes the events. In an exchange it merges a frame's delta before it
/// tells of the frame's summary.
#[derive(Debug)]
pub struct State {
    own: Own,
    start: Start,
    table: Table,
    dead: Dead,
    tracks: Tracks,
    timeline: Arc<Timeline>,
    peers: Peers,
    wish: Option<Wish>,
    proposal: Option<Proposal>,
    /// Since when the engine is ready to scrape; monotonic.
    ready_since_ms: Option<u64>,
    is_isolated: bool,
    /// Until then, on the monotonic clock, silence has to last longer to be a verdict.
    trusts_from_ms: u64,
    /// When this node found that it had stood still; monotonic. `None`: it did not, or goes on.
    stood_still_ms: Option<u64>,
    /// Whether the table is not the one that `dead` and `timeline` were made of.
    is_changed: bool,
    due_ms: u64,
    tidy_ms: u64,
    events: Vec<Event>,
}

/// Ticks while something is waited for.
const BUSY_TICK_MS: u64 = 50;
/// Ticks otherwise: shorter than any detection time, to notice that this node stood still.
const TICK_MS: u64 = 500;
/// How often old entries are looked for.
const TIDY_MS: u64 = 10_000;
/// Exchanges under way at once.
const EXCHANGES_MAX: usize = 32;
/// An exchange that was not answered within this time is no longer counted as under way.
const EXCHANGE_PATIENCE_MS: u64 = 1_000;
/// The same peer is asked again for its cluster after this time.
const ASK_AGAIN_MS: u64 = 300;
/// Clocks that differ by more are warned about,
const SKEW_MS: i64 = 500;
/// and again after they have differed by less than this.
const SKEW_SETTLED_MS: i64 = 400;

impl State {
    /// A node that looks for its cluster; see [`State::join_round_over`].
    pub fn new(own: Own, now: Now) -> Self {
        let nobody = vec![(i64::MIN, Arc::default())];
        Self {
            timeline: Arc::new(Timeline::new(own.name.clone(), nobody)),
            own,
            start: Start::default(),
            table: Table::default(),
            dead: Dead::default(),
            tracks: Tracks::default(),
            peers: Peers::default(),
            wish: None,
            proposal: None,
            ready_since_ms: None,
            is_isolated: false,
            trusts_from_ms: 0,
            stood_still_ms: None,
            is_changed: false,
            due_ms: now.monotonic_ms,
            tidy_ms: now.monotonic_ms.saturating_add(TIDY_MS),
            events: Vec::new(),
        }
    }

    /// What the node is.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// The present one: rises when others believed this node dead.
    pub fn incarnation(&self) -> u64 {
        self.own.incarnation
    }

    /// Of the table: equal for equal tables. Rides in every packet; if a peer's differs, the two
    /// exchange what the other lacks. 0: no cluster found yet.
    pub fn digest(&self) -> u64 {
        let founder = self.founder();
        founder.map_or(0, |founder| {
            self.table.digest().wrapping_add(founder.id | 1)
        })
    }

    /// What this node knows, to be sent in an exchange.
    pub fn summary(&self, now: Now) -> Summary {
        Summary {
            name: self.own.name.clone(),
            incarnation: self.own.incarnation,
            gossip_address: self.own.gossip_address,
            founder: self.founder(),
            unix_ms: now.unix_ms,
            members: self.table.known(),
            crashes: self.table.crash_hashes(),
        }
    }

    /// What a peer with this summary lacks.
    pub fn delta_for(&self, theirs: &Summary) -> Delta {
        let nothing = Delta {
            founder: None,
            members: Vec::new(),
            crashes: Vec::new(),
        };
        let founder = self.founder();
        founder.map_or(nothing, |founder| self.table.delta_for(founder, theirs))
    }

    /// A peer told in an exchange what this node lacked. To be called before `heard` with the
    /// summary that came with it.
    pub fn merge(&mut self, delta: Delta, now: Now) {
        self.notice_standstill(now);
        if self.start.is_refused || !self.meet(&delta, now) {
            return;
        }
        // Who is about to be forgotten with its crash entry does not come back without it.
        let is_over = |crash: &&Arc<Crash>| table::is_over(crash, now.unix_ms);
        let over = delta.crashes.iter().filter(is_over);
        let over: HashSet<(Arc<str>, u64)> = over
            .map(|one| (one.name.clone(), one.incarnation))
            .collect();
        // Members first: what a crash entry is about decides whether it is needed.
        for member in delta.members {
            if Some(member.founder) != self.founder()
                || over.contains(&(member.name.clone(), member.incarnation))
            {
                continue;
            }
            if member.name == self.own.name && self.start.is_published {
                self.defend_name(&member, now);
            } else {
                self.is_changed |= self.table.put(member, now.unix_ms);
            }
        }
        for crash in delta.crashes {
            self.is_changed |= self.table.put_crash(crash, now.unix_ms);
        }
        self.settle(now);
    }

    /// A peer told in an exchange what it knows.
    ///
    /// `round_trip_ms`: from sending a frame to this answer; `None` if this was no answer.
    pub fn heard(&mut self, theirs: &Summary, round_trip_ms: Option<u64>, now: Now) {
        self.notice_standstill(now);
        if theirs.name == self.own.name {
            self.meet_namesake(theirs);
            self.refresh(now);
            return;
        }
        let mut theirs_own = theirs
            .members
            .iter()
            .filter(|known| known.name == theirs.name);
        let is_published = theirs_own.any(|known| known.incarnation == theirs.incarnation);
        if self.founder().is_some() && !is_published {
            // As long as it has not entered, its former incarnation counts.
            return;
        }
        let is_same = self.founder().is_some() && theirs.founder == self.founder();
        let of_me = theirs
            .members
            .iter()
            .find(|known| known.name == self.own.name);
        let seen = of_me
            .filter(|_| is_same)
            .map(|known| (known.incarnation, known.version));
        let Some(peer) = self.peers.present(&theirs.name, theirs.incarnation, now) else {
            return;
        };
        peer.take(theirs, round_trip_ms, now);
        peer.seen = peer.seen.max(seen);
        if let Some(skew_ms) = peer.skew_ms {
            let is_far = skew_ms.saturating_abs() > SKEW_MS;
            if is_far && !peer.is_skew_told {
                let name = theirs.name.clone();
                self.events.push(Event::SkewWarning { name, skew_ms });
            }
            let is_near = skew_ms.saturating_abs() < SKEW_SETTLED_MS;
            peer.is_skew_told = is_far || peer.is_skew_told && !is_near;
        }
        if let Some(round_trip_ms) = round_trip_ms {
            self.wake(round_trip_ms, now);
        }
        self.settle(now);
    }

    /// Whether this node takes part in gossip: the failure detector is told of the cluster, and
    /// packets are sent, from then on only. Before, its name may be another node's.
    pub fn may_gossip(&self) -> bool {
        self.start.is_published && !self.start.is_refused
    }

    /// A gossip packet came from a node, and it was genuine. Not to be called for exchanges.
    pub fn contact(&mut self, name: &str, incarnation: u64, now: Now) {
        self.notice_standstill(now);
        if let Some(peer) = self.peer(name, incarnation, now) {
            peer.speak(now);
        }
    }

    /// The failure detector says that a node is there.
    pub fn up(&mut self, name: &str, incarnation: u64, now: Now) {
        self.notice_standstill(now);
        if let Some(peer) = self.peer(name, incarnation, now) {
            peer.tell(true, now);
        }
        self.settle(now);
    }

    /// The failure detector says that a node is gone.
    pub fn down(&mut self, name: &str, incarnation: u64, now: Now) {
        self.notice_standstill(now);
        if let Some(peer) = self.peer(name, incarnation, now) {
            peer.tell(false, now);
        }
        self.settle(now);
    }

    /// A peer's failure detector holds this incarnation for dead, and an exchange with the peer
    /// has not brought a crash entry: the node goes on as it is under a higher one. Returns that.
    pub fn renew(&mut self, now: Now) -> u64 {
        self.notice_standstill(now);
        self.begin_another_life(now);
        self.settle(now);
        self.own.incarnation
    }

    /// Entries that find this life of the node dead and do not count would count as soon as those
    /// that void them are forgotten: the node goes on, as it is, in another life.
    fn leave_void_crashes_behind(&mut self, now: Now) {
        let (name, incarnation) = (&self.own.name, self.own.incarnation);
        let is_me = |one: &Arc<Crash>| one.name == *name && one.incarnation == incarnation;
        let is_accused = self.table.crashes().any(is_me);
        if is_accused && self.start.is_published {
            self.begin_another_life(now);
            self.is_changed = false;
        }
    }

    fn begin_another_life(&mut self, now: Now) {
        self.raise_incarnation(now);
        let raised = Event::IncarnationRaised(self.own.incarnation);
        self.events.push(raised);
        let own = self.table.member(&self.own.name).cloned();
        if let Some(own) = own.filter(|_| self.start.is_published) {
            let member = Member {
                incarnation: self.own.incarnation,
                ..(*own).clone()
            };
            self.write(member, now);
        }
    }

    /// Each known join address was tried: its node answered, or failed to within the patience for
    /// joining. Without any address to join: at once. If no node of a cluster was heard until the
    /// first of these calls, this node founds one, unless a node with a lower name looks for a
    /// cluster, too.
    pub fn join_round_over(&mut self, now: Now) {
        self.notice_standstill(now);
        self.end_join_round();
        self.settle(now);
    }

    /// What the engine wants of this node from now on.
    pub fn wish(&mut self, wish: Wish, now: Now) {
        self.notice_standstill(now);
        self.wish = Some(wish);
        self.settle(now);
    }

    /// Time has come to `next_due_ms`.
    pub fn tick(&mut self, now: Now) {
        self.notice_standstill(now);
        if now.monotonic_ms >= self.tidy_ms {
            self.tidy_ms = now.monotonic_ms.saturating_add(TIDY_MS);
            self.table.forget(&self.own.name, now.unix_ms);
            let table = &self.table;
            self.peers.forget(|name| table.member(name).is_some(), now);
            // Past views are dropped with time, too.
            self.is_changed = true;
        }
        self.settle(now);
    }

    /// When to call `tick`, on the monotonic clock.
    pub fn next_due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Whom to open an exchange with now, beside those whose digest differs: to be asked for after
    /// each tick and each end of an exchange. Who is named counts as asked: it is named again only
    /// when it was not heard for a while.
    pub fn to_exchange_with(&mut self, now: Now) -> Vec<(Arc<str>, SocketAddr)> {
        let mut to_ask = self.to_ask_for_judgement(now);
        to_ask.extend(self.to_ask_for_plan(now));
        for (name, address) in self.to_ask_for_start(now) {
            let peer = self.peers.get(&name);
            if peer.is_none_or(|peer| peer.may_be_asked(ASK_AGAIN_MS, now)) {
                to_ask.push((name, address));
            }
        }
        let under_way = |(_, peer): &(_, &Peer)| peer.is_being_asked(EXCHANGE_PATIENCE_MS, now);
        let mut free = EXCHANGES_MAX.saturating_sub(self.peers.iter().filter(under_way).count());
        to_ask.retain(|(name, _)| {
            let peer = self.peers.entry(name, now);
            let is_new = free > 0 && peer.asked_ms != Some(now.monotonic_ms);
            if is_new {
                free -= 1;
                peer.asked_ms = Some(now.monotonic_ms);
            }
            is_new
        });
        to_ask
    }

    /// Who owns what; another one after [`Event::TimelineChanged`].
    pub fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The peer, if it is another node, and `incarnation` its newest one.
    fn peer(&mut self, name: &str, incarnation: u64, now: Now) -> Option<&mut Peer> {
        if *name == *self.own.name {
            return None;
        }
        self.peers.present(name, incarnation, now)
    }

    fn is_dead(&self, member: &Member) -> bool {
        !self.dead.of(&member.name, member.incarnation).is_empty()
    }

    /// Does what follows from all that is known now.
    fn settle(&mut self, now: Now) {
        self.refresh(now);
        self.start_step(now);
        self.refresh(now);
        self.judge(now);
        self.refresh(now);
        self.plan_step(now);
        self.refresh(now);
        let is_asked = self.proposal.is_some() || !self.start.is_published;
        let is_busy = is_asked || self.is_judging(now);
        let wait_ms = if is_busy { BUSY_TICK_MS } else { TICK_MS };
        self.due_ms = now.monotonic_ms.saturating_add(wait_ms);
    }

    /// What follows from the table: who is dead, this node among them, and the timeline.
    fn refresh(&mut self, now: Now) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        self.dead = Dead::new(self.table.crashes());
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
        for member in self.table.members().filter(|m| m.name != self.own.name) {
            // A life that the table tells of first gets the time to speak.
            self.peers.present(&member.name, member.incarnation, now);
        }
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
