//! What a node has heard from others, its own wishes and the time -> the table of members, its
//! timeline, and whom to speak with next.
//!
//! Pure: time comes with each call, messages are values. What is kept follows from the set of all
//! that was heard, not from the order. In reading order: `messages` that nodes exchange, the
//! `table` that they make equal by what they `talk`, which `crashes` in it count, `views` that
//! follow from it, and who is known to have it (`followers`); then what one node does: `start`,
//! `plan` its changes, judge who is dead (`isolation`), all of it in turn (`settle`).

mod crashes;
pub mod events;
mod followers;
mod isolation;
pub mod messages;
mod peers;
mod plan;
mod settle;
pub mod snapshot;
mod start;
mod table;
mod talk;
#[cfg(test)]
mod tests;
mod views;

use crate::limits::{HEAVY_MAX, JOBS_MAX, is_incarnation};
use crate::member::{HeavyTarget, JobVersion, Member};
use crate::now::Now;
use crate::timeline::Timeline;
use core::net::SocketAddr;
use crashes::Dead;
pub use events::{Death, Event, Refusal};
use followers::Followers;
pub use messages::{Cluster, Crash, Delta, Known, Part, Side, Sketch, Summary, Wants};
use peers::{Peer, Peers};
use plan::Proposal;
pub use snapshot::{MemberState, Snapshot};
use start::Start;
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
    /// Targets that cost much, and what else it says of loads, sorted. Who writes it sees to it
    /// that it seldom changes: each change is agreed on by all. `None`: what the node told before,
    /// it knows nothing better yet.
    pub heavy: Option<Arc<[HeavyTarget]>>,
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
    /// Whether only entries of other members have changed since: in a large cluster, where many do
    /// at once, that may wait a moment.
    is_stale: bool,
    refreshed_ms: u64,
    /// Of the present table.
    followers: Followers,
    /// Names and lives in the table, and what the table's `roster` was then.
    roster: (u64, Arc<[followers::Life]>),
    /// When the table last changed; monotonic.
    news_ms: u64,
    /// When `followers` was last told of another table; monotonic.
    turned_ms: u64,
    /// When this node's entry was last written; monotonic.
    written_ms: u64,
    /// When the plan may ask the next ones directly, in a large cluster; monotonic.
    ask_ms: u64,
    /// The same for a judgement.
    judge_ask_ms: u64,
    /// Who is told first of the entry of this version, in a large cluster.
    told: (u64, Vec<Arc<str>>),
    /// One who did not know of a change when that was last looked at.
    lacking: Option<Arc<str>>,
    /// Since when the engine wants something else; monotonic.
    wanted_ms: Option<u64>,
    /// Until then it does not follow its own table, see `followers`; monotonic.
    late_until_ms: u64,
    /// The settings that this node last had, or its former life.
    had_jobs: Arc<[JobVersion]>,
    /// When it was found that this node is cut off; monotonic.
    isolated_ms: u64,
    /// Whether the last look at all members found something to judge.
    was_judging: bool,
    due_ms: u64,
    tidy_ms: u64,
    events: Vec<Event>,
}

/// With more members not all of them are asked for whatever is to be known of all.
const FEW: usize = 33;
/// After a change nodes of a large cluster tell each other of their tables for so long.
const SPREAD_MS: u64 = 4_000;
/// In a large cluster it is found out at most this often whom to ask in order to judge.
const JUDGE_ASK_MS: u64 = 50;
/// How often old entries are looked for.
const TIDY_MS: u64 = 10_000;
/// Exchanges under way at once.
const EXCHANGES_MAX: usize = 32;
/// The same as long as somebody is silent in a large cluster.
const EXCHANGES_TO_JUDGE_MAX: usize = 64;
/// An exchange that was not answered within this time is no longer counted as under way.
const EXCHANGE_PATIENCE_MS: u64 = 1_000;
/// The same peer is asked again for its cluster after this time.
const ASK_AGAIN_MS: u64 = 300;

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
            is_stale: false,
            refreshed_ms: 0,
            followers: Followers::default(),
            roster: (u64::MAX, [].into()),
            news_ms: 0,
            turned_ms: 0,
            written_ms: 0,
            ask_ms: 0,
            judge_ask_ms: 0,
            told: (0, Vec::new()),
            lacking: None,
            wanted_ms: None,
            late_until_ms: 0,
            had_jobs: [].into(),
            isolated_ms: 0,
            was_judging: false,
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
        self.digest_in(self.start.size_class)
    }

    /// The same, if the cluster had been as large as that.
    fn digest_in(&self, size_class: u8) -> u64 {
        let founder = self.founder();
        founder.map_or(0, |founder| {
            let of_cluster = founder.id.wrapping_add(u64::from(size_class) << 1) | 1;
            self.table.digest().wrapping_add(of_cluster)
        })
    }

    /// Who is known to have a table with this digest: a bit for each member, see `followers`.
    /// Rides in packets, too.
    pub fn followers(&self) -> &[u8] {
        if self.followers.digest() == Some(self.digest()) {
            self.followers.bits()
        } else {
            &[]
        }
    }

    /// Whether this is a large cluster in which something is new: nodes tell each other of their
    /// tables beside what the failure detector sends.
    pub fn is_spreading(&self, now: Now) -> bool {
        let is_new = now.monotonic_ms.saturating_sub(self.news_ms) < SPREAD_MS;
        is_new && self.is_large() && self.may_gossip()
    }

    fn is_large(&self) -> bool {
        self.table.len() > FEW
    }

    /// Whether this node takes part in gossip: the failure detector is told of the cluster, and
    /// packets are sent, from then on only. Before, its name may be another node's.
    pub fn may_gossip(&self) -> bool {
        self.start.is_published && !self.start.is_refused
    }

    /// A gossip packet came from a node, and it was genuine. Not to be called for exchanges.
    /// `digest` and `followers`: as this node would say them of itself.
    pub fn contact(
        &mut self,
        name: &str,
        incarnation: u64,
        digest: u64,
        followers: &[u8],
        now: Now,
    ) {
        self.notice_standstill(now);
        let Some(peer) = self.peer(name, incarnation, now) else {
            return;
        };
        peer.speak(now);
        let peers = &mut self.peers;
        self.followers
            .learn(digest, followers, |life, entry| peers.follows(life, entry));
    }

    /// The failure detector says that a node is there.
    pub fn up(&mut self, name: &str, incarnation: u64, now: Now) {
        self.notice_standstill(now);
        if let Some(peer) = self.peer(name, incarnation, now) {
            peer.tell(true, now);
        }
        self.settle_all(true, now);
    }

    /// The failure detector says that a node is gone.
    pub fn down(&mut self, name: &str, incarnation: u64, now: Now) {
        self.notice_standstill(now);
        if let Some(peer) = self.peer(name, incarnation, now) {
            peer.tell(false, now);
            // At the next tick, which is soon then.
            self.was_judging = true;
        }
        self.settle_all(true, now);
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
    pub fn wish(&mut self, mut wish: Wish, now: Now) {
        self.notice_standstill(now);
        // Nobody would take an entry with more.
        if wish.jobs.len() > JOBS_MAX {
            wish.jobs = wish.jobs[..JOBS_MAX].into();
        }
        if let Some(heavy) = wish.heavy.as_mut().filter(|heavy| heavy.len() > HEAVY_MAX) {
            *heavy = heavy[..HEAVY_MAX].into();
        }
        self.wish = Some(wish);
        self.settle_all(true, now);
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
        self.settle_all(true, now);
    }

    /// When to call `tick`, on the monotonic clock.
    pub fn next_due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Whom to open an exchange with now, beside those whose digest differs: to be asked for after
    /// each tick and each end of an exchange. Who is named counts as asked: it is named again only
    /// when it was not heard for a while.
    pub fn to_exchange_with(&mut self, now: Now) -> Vec<(Arc<str>, SocketAddr)> {
        let mut to_ask = Vec::new();
        if !self.is_large() || now.monotonic_ms >= self.judge_ask_ms {
            self.judge_ask_ms = now.monotonic_ms.saturating_add(JUDGE_ASK_MS);
            to_ask = self.to_ask_for_judgement(now);
        }
        to_ask.extend(self.ask_for_plan(now));
        for (name, address) in self.to_ask_for_start(now) {
            let peer = self.peers.get(&name);
            if peer.is_none_or(|peer| peer.may_be_asked(ASK_AGAIN_MS, now)) {
                to_ask.push((name, address));
            }
        }
        let under_way = |(_, peer): &(_, &Peer)| peer.is_being_asked(EXCHANGE_PATIENCE_MS, now);
        let most = match self.was_judging && self.is_large() {
            true => EXCHANGES_TO_JUDGE_MAX,
            false => EXCHANGES_MAX,
        };
        if to_ask.is_empty() {
            return to_ask;
        }
        let mut free = most.saturating_sub(self.peers.iter().filter(under_way).count());
        to_ask.retain(|(name, _)| {
            let peer = self.peers.entry(name, now);
            let is_new = free > 0 && peer.asked_ms != Some(now.monotonic_ms);
            if is_new {
                free -= 1;
                peer.asked_ms = Some(now.monotonic_ms);
                peer.unanswered_ms.get_or_insert(now.monotonic_ms);
            }
            is_new
        });
        to_ask
    }

    /// Who owns what; another one after [`Event::TimelineChanged`].
    pub fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    /// Whether the table has changed since the timeline was made: in a large cluster that waits
    /// until more has changed, for a moment.
    pub fn is_timeline_stale(&self) -> bool {
        self.is_stale
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The peer, if it is another node, and `incarnation` its newest one.
    fn peer(&mut self, name: &str, incarnation: u64, now: Now) -> Option<&mut Peer> {
        if *name == *self.own.name || !is_incarnation(incarnation, now.unix_ms) {
            return None;
        }
        self.peers.present(name, incarnation, now)
    }

    fn is_dead(&self, member: &Member) -> bool {
        !self.dead.of(&member.name, member.incarnation).is_empty()
    }
}
