//! Entries of members and crashes, from whoever has them -> one table, the same on all nodes that
//! have heard the same.
//!
//! Merging is commutative, associative and idempotent: of a member the highest (incarnation,
//! version) is kept, of an accused incarnation the newest crash entries.
//!
//! What nobody needs any more is forgotten by rules that follow from the entry and the time alone
//! (`Table::forget`), and an entry that would be forgotten is not taken in: so a node that comes
//! back with an old table brings nothing back.

use super::messages::{Crash, Delta, Known, Summary};
use crate::member::{Founder, Member};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// How long members that have left are kept, and crash entries that have no more effect.
pub(super) const KEEP_MS: i64 = 60 * 60 * 1_000;
/// How long a dead member is kept that did not come back, and the crash entries about it: as long
/// as a cluster that is split may stay so and still know who was dead when it heals.
pub(super) const KEEP_DEAD_MS: i64 = 24 * 60 * 60 * 1_000;
/// Crash entries about one incarnation: more than that say the same.
const CRASHES_MAX: usize = 8;
/// Names: more are not taken in.
const MEMBERS_MAX: usize = 16_384;

/// Whose incarnation.
pub(super) type Incarnation = (Arc<str>, u64);

#[derive(Debug, Default)]
pub(super) struct Table {
    members: BTreeMap<Arc<str>, Entry<Member>>,
    /// Newest first, at most `CRASHES_MAX`.
    crashes: BTreeMap<Incarnation, Vec<Entry<Crash>>>,
    /// Wrapping sum of all entries' hashes.
    digest: u64,
}

#[derive(Debug)]
struct Entry<T> {
    value: Arc<T>,
    hash: u64,
}

impl Table {
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn member(&self, name: &str) -> Option<&Arc<Member>> {
        self.members.get(name).map(|entry| &entry.value)
    }

    /// Sorted by name.
    pub(super) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values().map(|entry| &entry.value)
    }

    /// All crash entries.
    pub(super) fn crashes(&self) -> impl Iterator<Item = &Arc<Crash>> {
        self.crashes.values().flatten().map(|entry| &entry.value)
    }

    pub(super) fn known(&self) -> Vec<Known> {
        let known = |entry: &Entry<Member>| Known {
            name: entry.value.name.clone(),
            incarnation: entry.value.incarnation,
            version: entry.value.version,
            hash: entry.hash,
        };
        self.members.values().map(known).collect()
    }

    pub(super) fn crash_hashes(&self) -> Vec<u64> {
        let mut hashes: Vec<u64> = self.crashes.values().flatten().map(|e| e.hash).collect();
        hashes.sort_unstable();
        hashes
    }

    /// What a node with this summary lacks, if it is of the same cluster.
    pub(super) fn delta_for(&self, founder: Founder, theirs: &Summary) -> Delta {
        let is_same = theirs.founder == Some(founder);
        let mut have = HashMap::new();
        let mut have_crashes = HashSet::new();
        if is_same {
            let version = |known: &Known| (known.incarnation, known.version, known.hash);
            have.extend(theirs.members.iter().map(|k| (&*k.name, version(k))));
            have_crashes.extend(theirs.crashes.iter().copied());
        }
        let lacks = |entry: &&Entry<Member>| {
            let version = have.get(&*entry.value.name);
            version.is_none_or(|version| *version < entry.version())
        };
        let lacks_crash = |entry: &&Entry<Crash>| !have_crashes.contains(&entry.hash);
        let members = self.members.values().filter(lacks);
        let crashes = self.crashes.values().flatten().filter(lacks_crash);
        Delta {
            founder: Some(founder),
            members: members.map(|entry| entry.value.clone()).collect(),
            crashes: crashes.map(|entry| entry.value.clone()).collect(),
        }
    }

    /// Returns whether that changed anything.
    pub(super) fn put(&mut self, member: Arc<Member>, now_ms: i64) -> bool {
        if is_outdated(&member, now_ms) {
            return false;
        }
        let entry = Entry::new(member);
        match self.members.get(&entry.value.name) {
            Some(have) if have.version() >= entry.version() => return false,
            Some(have) => self.digest = self.digest.wrapping_sub(have.hash),
            None if self.members.len() >= MEMBERS_MAX => return false,
            None => {}
        }
        self.digest = self.digest.wrapping_add(entry.hash);
        self.members.insert(entry.value.name.clone(), entry);
        true
    }

    /// Returns whether that changed anything.
    pub(super) fn put_crash(&mut self, crash: Arc<Crash>, now_ms: i64) -> bool {
        let of = (crash.name.clone(), crash.incarnation);
        let keep_ms = if self.is_needed(&of, now_ms) {
            KEEP_DEAD_MS
        } else {
            KEEP_MS
        };
        let age_ms = now_ms.saturating_sub(crash.made_ms);
        if age_ms >= keep_ms || age_ms < -KEEP_MS {
            return false;
        }
        let entry = Entry::new(crash);
        let entries = self.crashes.entry(of).or_default();
        let at = entries.partition_point(|have| have.order() < entry.order());
        if at == CRASHES_MAX || entries.get(at).is_some_and(|have| have.hash == entry.hash) {
            return false;
        }
        self.digest = self.digest.wrapping_add(entry.hash);
        entries.insert(at, entry);
        for too_old in entries.drain(CRASHES_MAX.min(entries.len())..) {
            self.digest = self.digest.wrapping_sub(too_old.hash);
        }
        true
    }

    /// Forgets what nobody needs any more. Returns whether there was anything.
    ///
    /// A member that is not active is forgotten an hour after its stage began (one that lives
    /// renews it, see `plan`). A crash entry is forgotten after an hour if the incarnation that it
    /// is about is no longer the one in the table, or not active. One that still keeps a dead
    /// member out of the views is kept for a day, and then goes together with that member.
    pub(super) fn forget(&mut self, me: &str, now_ms: i64) -> bool {
        let before = self.digest;
        let mut gone: Vec<Arc<str>> = self
            .members()
            .filter(|member| is_outdated(member, now_ms))
            .map(|member| member.name.clone())
            .collect();
        let mut crashes_gone = Vec::new();
        for (of, entries) in &self.crashes {
            let is_old = |keep_ms| {
                let is_old = |e: &Entry<Crash>| now_ms.saturating_sub(e.value.made_ms) >= keep_ms;
                entries.iter().position(is_old).unwrap_or(entries.len())
            };
            if !self.is_needed(of, now_ms) {
                crashes_gone.push((of.clone(), is_old(KEEP_MS)));
            } else if is_old(KEEP_DEAD_MS) == 0 {
                crashes_gone.push((of.clone(), 0));
                gone.push(of.0.clone());
            }
        }
        for (of, from) in crashes_gone {
            if let Some(entries) = self.crashes.get_mut(&of) {
                for entry in entries.drain(from..) {
                    self.digest = self.digest.wrapping_sub(entry.hash);
                }
                if entries.is_empty() {
                    self.crashes.remove(&of);
                }
            }
        }
        for name in gone.iter().filter(|name| &***name != me) {
            if let Some(entry) = self.members.remove(name) {
                self.digest = self.digest.wrapping_sub(entry.hash);
            }
        }
        self.digest != before
    }

    /// Whether crash entries about an incarnation have an effect.
    fn is_needed(&self, (name, incarnation): &Incarnation, now_ms: i64) -> bool {
        let member = self.member(name);
        member.is_some_and(|m| m.incarnation == *incarnation && m.stage_at(now_ms).is_active)
    }
}

/// Whether a crash entry is so old that it is forgotten, and the member that it is about with it.
pub(super) fn is_over(crash: &Crash, now_ms: i64) -> bool {
    now_ms.saturating_sub(crash.made_ms) >= KEEP_DEAD_MS
}

/// Whether a member has not been active for so long that nobody needs to know of it.
fn is_outdated(member: &Member, now_ms: i64) -> bool {
    let stage = member.stage_at(now_ms);
    let comes = member.next.as_ref().is_some_and(|next| {
        next.stage.is_active && next.stage.from_ms.saturating_add(KEEP_MS) > now_ms
    });
    !stage.is_active && !comes && stage.from_ms.saturating_add(KEEP_MS) <= now_ms
}

impl<T: Serialize> Entry<T> {
    fn new(value: Arc<T>) -> Self {
        // Values of plain fields in memory: nothing that can fail.
        let bytes = postcard::to_stdvec(&*value).unwrap_or_default();
        Self {
            hash: xxh3_64(&bytes),
            value,
        }
    }
}

impl Entry<Member> {
    fn version(&self) -> (u64, u64, u64) {
        (self.value.incarnation, self.value.version, self.hash)
    }
}

impl Entry<Crash> {
    fn order(&self) -> (Reverse<i64>, u64) {
        (Reverse(self.value.made_ms), self.hash)
    }
}
