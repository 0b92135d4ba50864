//! What this node alone knows of the others: whether it reaches them, and what they know of it.

use super::messages::Summary;
use crate::now::Now;
use core::net::SocketAddr;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Peers that were not heard of for this long and are not in the table are forgotten.
const KEEP_MS: u64 = 60 * 60 * 1_000;

#[derive(Debug, Default)]
pub(super) struct Peers {
    by_name: HashMap<Arc<str>, Peer, BuildHasherDefault<NameHasher>>,
}

/// All members are looked up many times a second: faster than the standard one. Names come from
/// nodes with the cluster's key.
#[derive(Debug, Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u8(&mut self, _: u8) {
        // The end of a text: there is nothing but names.
    }
}

#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// The highest one heard of from the node itself or the failure detector; 0: none yet.
    pub(super) incarnation: u64,
    /// The failure detector's last word on it,
    pub(super) is_up: bool,
    /// if there was one, and nothing newer contradicts it.
    pub(super) is_told: bool,
    /// When `incarnation` or the word on it changed, or the peer was first heard of; monotonic.
    pub(super) since_ms: u64,
    /// The same moment, on the other clock.
    pub(super) since_unix_ms: i64,
    /// With this incarnation.
    pub(super) contact: Option<Now>,
    /// With the one before: which, and when.
    pub(super) former_contact: Option<(u64, i64)>,
    pub(super) skew_ms: Option<i64>,
    pub(super) is_skew_told: bool,
    pub(super) round_trip_ms: Option<u64>,
    /// The entry of this node that it is known to have: incarnation and version.
    pub(super) seen: Option<(u64, u64)>,
    /// When it was last asked for an exchange; monotonic.
    pub(super) asked_ms: Option<u64>,
    /// Since when it owes an answer; monotonic.
    pub(super) unanswered_ms: Option<u64>,
    /// Where it says it is.
    pub(super) address: Option<SocketAddr>,
}

impl Peers {
    pub(super) fn get(&self, name: &str) -> Option<&Peer> {
        self.by_name.get(name)
    }

    /// A life is known to have seen an entry of this node.
    pub(super) fn follows(&mut self, (name, incarnation): &(Arc<str>, u64), entry: (u64, u64)) {
        let peer = self.by_name.get_mut(name);
        if let Some(peer) = peer.filter(|peer| peer.incarnation == *incarnation) {
            peer.seen = peer.seen.max(Some(entry));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Peer)> {
        self.by_name.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.by_name.values_mut()
    }

    /// All may be asked again at once: there is something new to say.
    pub(super) fn let_ask(&mut self) {
        self.iter_mut().for_each(|peer| peer.asked_ms = None);
    }

    /// From the first word about a peer on it counts as waited for.
    pub(super) fn entry(&mut self, name: &Arc<str>, now: Now) -> &mut Peer {
        let entry = self.by_name.entry(name.clone());
        entry.or_insert_with(|| Peer {
            incarnation: 0,
            is_up: false,
            is_told: false,
            since_ms: now.monotonic_ms,
            since_unix_ms: now.unix_ms,
            contact: None,
            former_contact: None,
            skew_ms: None,
            is_skew_told: false,
            round_trip_ms: None,
            seen: None,
            asked_ms: None,
            unanswered_ms: None,
            address: None,
        })
    }

    /// The peer, if `incarnation` is its newest one; that is noted.
    pub(super) fn present(&mut self, name: &str, incarnation: u64, now: Now) -> Option<&mut Peer> {
        if !self.by_name.contains_key(name) {
            self.entry(&Arc::from(name), now);
        }
        let peer = self.by_name.get_mut(name)?;
        if peer.incarnation < incarnation {
            let contact_ms = peer.contact.map_or(peer.since_unix_ms, |at| at.unix_ms);
            peer.former_contact = Some((peer.incarnation, contact_ms));
            peer.incarnation = incarnation;
            peer.is_up = false;
            peer.is_told = false;
            peer.since_ms = now.monotonic_ms;
            peer.since_unix_ms = now.unix_ms;
            peer.contact = None;
            // What it had heard before it has forgotten.
            peer.seen = None;
        }
        (peer.incarnation == incarnation).then_some(peer)
    }

    /// Whether a peer was heard at or after a moment of the monotonic clock.
    pub(super) fn is_heard_since(&self, name: &str, since_ms: u64) -> bool {
        let contact = self.get(name).and_then(|peer| peer.contact);
        contact.is_some_and(|at| at.monotonic_ms >= since_ms)
    }

    pub(super) fn forget(&mut self, is_in_table: impl Fn(&str) -> bool, now: Now) {
        self.by_name.retain(|name, peer| {
            let last_ms = peer.contact.map_or(peer.since_ms, |at| at.monotonic_ms);
            peer.is_up
                || is_in_table(name)
                || now.monotonic_ms.saturating_sub(last_ms.max(peer.since_ms)) < KEEP_MS
        });
    }
}

impl Peer {
    /// The failure detector's word.
    pub(super) fn tell(&mut self, is_up: bool, now: Now) {
        if (self.is_up, self.is_told) != (is_up, true) {
            (self.is_up, self.is_told) = (is_up, true);
            self.since_ms = now.monotonic_ms;
            self.since_unix_ms = now.unix_ms;
        }
    }

    /// It has spoken. If the failure detector had said that it is gone, that is wrong, or over.
    pub(super) fn speak(&mut self, now: Now) {
        self.contact = Some(now);
        self.unanswered_ms = None;
        if self.is_told && !self.is_up {
            self.is_told = false;
            self.since_ms = now.monotonic_ms;
            self.since_unix_ms = now.unix_ms;
        }
    }

    /// What its summary says of itself.
    pub(super) fn take(&mut self, theirs: &Summary, round_trip_ms: Option<u64>, now: Now) {
        self.speak(now);
        self.address = Some(theirs.gossip_address);
        if let Some(round_trip_ms) = round_trip_ms {
            self.round_trip_ms = Some(round_trip_ms);
            let half_way_ms = now.unix_ms.saturating_sub(round_trip_ms as i64 / 2);
            self.skew_ms = Some(theirs.unix_ms.saturating_sub(half_way_ms));
        }
    }

    /// Whether it has this version of this node's entry, or a later one.
    pub(super) fn has_seen(&self, entry: (u64, u64)) -> bool {
        self.seen.is_some_and(|seen| seen >= entry)
    }

    /// Whether it may be asked for an exchange again.
    pub(super) fn may_be_asked(&self, retry_ms: u64, now: Now) -> bool {
        let asked_ms = self.asked_ms;
        asked_ms.is_none_or(|asked_ms| now.monotonic_ms.saturating_sub(asked_ms) >= retry_ms)
    }

    /// Whether it was asked and has neither answered nor had the time to.
    pub(super) fn is_being_asked(&self, patience_ms: u64, now: Now) -> bool {
        let heard_ms = self.contact.map_or(0, |at| at.monotonic_ms);
        let asked_ms = self.asked_ms;
        asked_ms.is_some_and(|ms| ms > heard_ms) && !self.may_be_asked(patience_ms, now)
    }
}
