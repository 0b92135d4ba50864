//! What was heard of each node, directly and by hearsay -> whom to compare tables with, whom to
//! greet, and whose death to believe.

use crate::exchange::Peer;
use crate::limits::MEMBERS_MAX;
use crate::membership::{Detection, Identity};
use core::net::SocketAddr;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node that nothing was heard of for so long is forgotten.
const FORGET_AFTER_MS: u64 = 3_600_000;
/// Tables are compared with one node at most this often.
const COMPARE_EVERY_MS: u64 = 200;
/// Both sides find the difference at about the same time: one of them is to begin.
const COMPARE_JITTER_MS: u64 = 100;
/// Comparisons that are begun in one go,
const COMPARISONS_MAX: usize = 8;
/// and the time between two of them beyond that, for each member: news reach all in a few rounds
/// whoever is asked, so what it costs must not grow with how many tell of them.
const COMPARISON_US_PER_MEMBER: u64 = 200;
/// Differences that wait to be compared: with as many more there is no lack of news.
const DIFFERENCES_MAX: usize = 32;
/// After as many comparisons with a node that brought nothing it is not asked more seldom.
const FRUITLESS_MAX: u32 = 5;
/// How often nodes are greeted that the membership protocol does not know,
const GREET_EVERY_MS: u64 = 1_000;
/// how many at a time at least,
const GREETINGS: usize = 3;
/// and which part of them: each that answers tells of some 20 others.
const GREETED_PART: usize = 20;

/// The nodes that were heard of.
#[derive(Debug)]
pub(super) struct Contacts {
    peers: BTreeMap<Arc<str>, Known>,
    /// Nodes whose table differs, and when to compare.
    differs: BTreeMap<Arc<str>, Difference>,
    /// Nodes that the membership protocol has found dead, and that were not found dead by us.
    doubted: BTreeMap<Arc<str>, Doubt>,
    /// When all comparisons that were begun will have had their time, in monotonic us.
    compared_until_us: u64,
    /// When to greet next; `None`: there is nobody to greet.
    greet_ms: Option<u64>,
    /// Silence that goes with being dead.
    silence_ms: u64,
    /// How long an answer may take.
    answer_ms: u64,
}

/// A node that may be dead: it is asked for an answer until that is clear.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    incarnation: u64,
    since_ms: u64,
    ask_ms: u64,
}

#[derive(Debug)]
struct Known {
    incarnation: u64,
    address: Option<SocketAddr>,
    /// When it was last heard, directly.
    heard_ms: Option<u64>,
    /// When anything was last heard of it.
    mentioned_ms: u64,
    is_alive: bool,
    /// When tables were last compared.
    compared_ms: Option<u64>,
    /// Comparisons in a row that told neither side anything: the tables differ for a reason that
    /// lies elsewhere, or only for a moment.
    fruitless: u32,
}

#[derive(Debug)]
struct Difference {
    address: SocketAddr,
    due_ms: u64,
}

impl Contacts {
    pub(super) fn new(detection: Detection) -> Self {
        Self {
            peers: BTreeMap::new(),
            differs: BTreeMap::new(),
            doubted: BTreeMap::new(),
            compared_until_us: 0,
            greet_ms: None,
            silence_ms: detection.suspicion_ms,
            answer_ms: detection.probe_rtt_ms,
        }
    }

    pub(super) fn address_of(&self, name: &str) -> Option<SocketAddr> {
        self.peers.get(name)?.address
    }

    /// Whether the membership protocol has found this life of a node alive.
    pub(super) fn is_alive(&self, name: &str, incarnation: u64) -> bool {
        let known = self.peers.get(name);
        known.is_some_and(|known| known.is_alive && known.incarnation == incarnation)
    }

    /// A genuine message came from a node itself.
    pub(super) fn heard(&mut self, name: &Arc<str>, incarnation: u64, now_ms: u64) {
        if let Some(known) = self.known(name, incarnation, now_ms) {
            known.heard_ms = Some(now_ms);
        }
    }

    /// A node is in somebody's table.
    pub(super) fn learnt(&mut self, peer: &Peer, now_ms: u64) {
        if let Some(known) = self.known(&peer.name, peer.incarnation, now_ms) {
            known.address = peer.gossip_address.or(known.address);
            if !known.is_alive {
                self.greet_ms.get_or_insert(now_ms + GREET_EVERY_MS);
            }
        }
    }

    /// A node's datagram said what its table is like.
    pub(super) fn compared(
        &mut self,
        name: &Arc<str>,
        from: SocketAddr,
        is_equal: bool,
        jitter: u64,
        now_ms: u64,
    ) {
        if is_equal {
            self.differs.remove(name);
            if let Some(known) = self.peers.get_mut(name) {
                known.fruitless = 0;
            }
            return;
        }
        let known = self.peers.get(name);
        let last_ms = known.and_then(|known| known.compared_ms);
        let address = known.and_then(|known| known.address).unwrap_or(from);
        let fruitless = known.map_or(0, |known| known.fruitless.min(FRUITLESS_MAX));
        let pause_ms = COMPARE_EVERY_MS << fruitless;
        let soonest_ms = last_ms.map_or(0, |last_ms| last_ms + pause_ms);
        let due_ms = soonest_ms.max(now_ms) + jitter % COMPARE_JITTER_MS;
        if self.differs.len() < DIFFERENCES_MAX {
            let difference = Difference { address, due_ms };
            self.differs.entry(name.clone()).or_insert(difference);
        }
    }

    /// Tables were compared, whoever began. `is_news`: one of the two was told something.
    pub(super) fn exchanged(&mut self, name: &Arc<str>, is_news: bool, now_ms: u64) {
        self.differs.remove(name);
        if let Some(known) = self.peers.get_mut(name) {
            known.compared_ms = Some(now_ms);
            known.fruitless = if is_news { 0 } else { known.fruitless + 1 };
        }
    }

    /// With whom to compare tables now, in a cluster of so many.
    pub(super) fn take_comparisons(
        &mut self,
        members: usize,
        now_ms: u64,
    ) -> Vec<(Arc<str>, SocketAddr)> {
        let each_us = members as u64 * COMPARISON_US_PER_MEMBER;
        let now_us = now_ms.saturating_mul(1_000);
        let until_us = self.compared_until_us.max(now_us);
        let ahead = (until_us - now_us).checked_div(each_us).unwrap_or(0) as usize;
        let is_due = |(_, difference): &(&Arc<str>, &Difference)| difference.due_ms <= now_ms;
        let due = self.differs.iter().filter(is_due);
        let due = due.map(|(name, difference)| (name.clone(), difference.address));
        let due: Vec<_> = due.take(COMPARISONS_MAX.saturating_sub(ahead)).collect();
        self.compared_until_us = until_us + due.len() as u64 * each_us;
        for (name, _) in &due {
            self.differs.remove(name);
            if let Some(known) = self.peers.get_mut(name) {
                known.compared_ms = Some(now_ms);
            }
        }
        // Who has to wait is looked at again when there is room.
        let room_ms = (self.compared_until_us / 1_000)
            .saturating_sub((COMPARISONS_MAX as u64 - 1) * each_us / 1_000);
        if due.is_empty() || ahead + due.len() >= COMPARISONS_MAX {
            for difference in self.differs.values_mut() {
                difference.due_ms = difference.due_ms.max(room_ms);
            }
        }
        due
    }

    /// The membership protocol has found a node alive.
    pub(super) fn up(&mut self, identity: &Identity, now_ms: u64) {
        self.doubted.remove(&identity.name);
        if let Some(known) = self.known(&identity.name, identity.incarnation, now_ms) {
            known.address = Some(identity.address);
            known.is_alive = true;
        }
    }

    /// The membership protocol has found a node dead.
    pub(super) fn down(&mut self, identity: &Identity, now_ms: u64) {
        if let Some(known) = self.known(&identity.name, identity.incarnation, now_ms) {
            known.is_alive = false;
            let doubt = Doubt {
                incarnation: identity.incarnation,
                since_ms: now_ms,
                ask_ms: now_ms,
            };
            self.doubted.insert(identity.name.clone(), doubt);
            self.greet_ms.get_or_insert(now_ms + GREET_EVERY_MS);
        }
    }

    /// Nodes found dead that this node has not heard for a while, either, and that did not answer.
    /// One that cannot hear others finds all of them dead and says so: whoever still hears them
    /// knows better.
    pub(super) fn believed_dead(&mut self, now_ms: u64) -> Vec<(Arc<str>, u64)> {
        let (peers, silence_ms, answer_ms) = (&self.peers, self.silence_ms, self.answer_ms);
        let is_silent = |name: &Arc<str>, doubt: &mut Doubt| {
            silent_from_ms(peers.get(name), doubt, silence_ms, answer_ms) <= now_ms
        };
        let silent = self.doubted.extract_if(.., is_silent);
        silent
            .map(|(name, doubt)| (name, doubt.incarnation))
            .collect()
    }

    /// Where to ask for an answer of those in doubt, now.
    pub(super) fn take_questions(&mut self, now_ms: u64) -> Vec<SocketAddr> {
        let again_ms = now_ms.saturating_add((self.answer_ms / 2).max(1));
        let mut addresses = Vec::new();
        for (name, doubt) in &mut self.doubted {
            if doubt.ask_ms <= now_ms {
                doubt.ask_ms = again_ms;
                addresses.extend(self.peers.get(name).and_then(|known| known.address));
            }
        }
        addresses
    }

    /// Nodes that are in a table and that the membership protocol does not know to be alive, a few
    /// at a time: so two halves of a cluster find each other again.
    pub(super) fn take_greetings(&mut self, rng: &mut StdRng, now_ms: u64) -> Vec<Peer> {
        if self.greet_ms.is_none_or(|due_ms| due_ms > now_ms) {
            return Vec::new();
        }
        self.peers.retain(|_, known| {
            known.is_alive || now_ms.saturating_sub(known.mentioned_ms) < FORGET_AFTER_MS
        });
        let strangers = self.peers.iter().filter(|(_, known)| !known.is_alive);
        let mut strangers: Vec<Peer> = strangers
            .map(|(name, known)| Peer {
                name: name.clone(),
                incarnation: known.incarnation,
                gossip_address: known.address,
            })
            .collect();
        self.greet_ms = (!strangers.is_empty()).then_some(now_ms + GREET_EVERY_MS);
        let most = GREETINGS.max(strangers.len() / GREETED_PART);
        let mut chosen = Vec::new();
        while chosen.len() < most && !strangers.is_empty() {
            chosen.push(strangers.swap_remove(rng.random_range(..strangers.len())));
        }
        chosen
    }

    /// When something is due next, in monotonic ms.
    pub(super) fn next_due_ms(&self) -> u64 {
        let compare = self.differs.values().map(|difference| difference.due_ms);
        let doubts = self.doubted.iter().map(|(name, doubt)| {
            let known = self.peers.get(name);
            let silent_ms = silent_from_ms(known, doubt, self.silence_ms, self.answer_ms);
            silent_ms.min(doubt.ask_ms)
        });
        let greet_ms = self.greet_ms.unwrap_or(u64::MAX);
        compare
            .chain(doubts)
            .min()
            .unwrap_or(u64::MAX)
            .min(greet_ms)
    }

    /// The node, unless this is about a former life of it, or there are too many.
    fn known(&mut self, name: &Arc<str>, incarnation: u64, now_ms: u64) -> Option<&mut Known> {
        if self.peers.len() >= MEMBERS_MAX && !self.peers.contains_key(name) {
            return None;
        }
        let new = || Known {
            incarnation,
            address: None,
            heard_ms: None,
            mentioned_ms: now_ms,
            is_alive: false,
            compared_ms: None,
            fruitless: 0,
        };
        let known = self.peers.entry(name.clone()).or_insert_with(new);
        if known.incarnation < incarnation {
            let address = known.address;
            *known = Known { address, ..new() };
        }
        known.mentioned_ms = now_ms;
        (known.incarnation == incarnation).then_some(known)
    }
}

fn silent_from_ms(known: Option<&Known>, doubt: &Doubt, silence_ms: u64, answer_ms: u64) -> u64 {
    let known = known.filter(|known| known.incarnation == doubt.incarnation);
    let heard_ms = known.and_then(|known| known.heard_ms);
    let silent_ms = heard_ms.map_or(0, |heard_ms| heard_ms.saturating_add(silence_ms));
    silent_ms.max(doubt.since_ms.saturating_add(answer_ms))
}
