//! Entries of members and crashes, from whoever has them -> one table, the same on all nodes that
//! have heard the same.
//!
//! Merging is commutative, associative and idempotent: of a member the highest (incarnation,
//! version) is kept, of an accused incarnation the newest crash entries.
//!
//! What nobody needs any more is forgotten by rules that follow from the entry and the time alone
//! (`Table::forget`), and an entry that would be forgotten is not taken in: so a node that comes
//! back with an old table brings nothing back.

use super::messages::{Cluster, Crash, Delta, Known, Part, Sketch, Summary, Wants};
use crate::limits::{
    CRASHES_MAX, CRASHES_PER_LIFE_MAX, DELTA_BYTES_MAX, MEMBERS_MAX, is_incarnation,
};
use crate::member::Member;
use core::ops::Bound::{Excluded, Included, Unbounded};
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
/// Parts of a table that are told apart at most; a power of two.
const PARTS_MAX: usize = 256;
const PARTS_MIN: usize = 16;
/// Bytes of a part's hash in a sketch.
const SKETCH_BYTES: usize = 4;

/// Whose incarnation.
pub(super) type Incarnation = (Arc<str>, u64);

#[derive(Debug)]
pub(super) struct Table {
    members: BTreeMap<Arc<str>, Entry<Member>>,
    /// Newest first, at most `CRASHES_PER_LIFE_MAX`.
    crashes: BTreeMap<Incarnation, Vec<Entry<Crash>>>,
    crash_count: usize,
    /// Wrapping sums of the entries' hashes, by the first bits of the name's hash.
    sums: [u64; PARTS_MAX],
    /// Wrapping sum of all entries' hashes.
    digest: u64,
    /// Rises when a name or an incarnation comes or goes.
    roster: u64,
}

#[derive(Debug)]
struct Entry<T> {
    value: Arc<T>,
    hash: u64,
    /// Hash of the name that it is about.
    place: u64,
    bytes: usize,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It is not news.
    Known,
    /// It is, but says nothing yet of who scrapes when.
    Pending,
    /// It may change who scrapes when.
    Matters,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            crashes: BTreeMap::new(),
            crash_count: 0,
            sums: [0; PARTS_MAX],
            digest: 0,
            roster: 0,
        }
    }
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

    /// All, sorted by name, but those before this name after the others.
    pub(super) fn members_from(&self, name: &str) -> impl Iterator<Item = &Arc<Member>> {
        let from = self.members.range::<str, _>((Included(name), Unbounded));
        let before = self.members.range::<str, _>((Unbounded, Excluded(name)));
        from.chain(before).map(|(_, entry)| &entry.value)
    }

    /// All crash entries.
    pub(super) fn crashes(&self) -> impl Iterator<Item = &Arc<Crash>> {
        self.crashes.values().flatten().map(|entry| &entry.value)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Equal as long as no name or incarnation comes or goes.
    pub(super) fn roster(&self) -> u64 {
        self.roster
    }

    /// Hashes of its parts: of more if there are more members.
    pub(super) fn sketch(&self) -> Sketch {
        let parts = self.members.len().next_power_of_two();
        self.sketch_of(parts.clamp(PARTS_MIN, PARTS_MAX))
    }

    fn sketch_of(&self, parts: usize) -> Sketch {
        let of_part = |sums: &[u64]| {
            let sum = sums.iter().fold(0, |sum: u64, one| sum.wrapping_add(*one));
            // Sums of hashes: any of their bytes are as good as others.
            ((sum >> 32) as u32).to_be_bytes()
        };
        Sketch(
            self.sums
                .chunks(PARTS_MAX / parts)
                .flat_map(of_part)
                .collect(),
        )
    }

    /// What this table has where one with this sketch differs. The digests are known to differ.
    pub(super) fn part(&self, sketch: &Sketch) -> Part {
        let parts = sketch.0.len() / SKETCH_BYTES;
        if !parts.is_power_of_two() || !(PARTS_MIN..=PARTS_MAX).contains(&parts) {
            return Part::default();
        }
        let own = self.sketch_of(parts);
        let pairs = own
            .0
            .chunks(SKETCH_BYTES)
            .zip(sketch.0.chunks(SKETCH_BYTES));
        let mut differs = vec![0u8; parts / 8];
        for (index, (a, b)) in pairs.enumerate() {
            differs[index / 8] |= u8::from(a != b) << (index % 8);
        }
        if differs.iter().all(|bits| *bits == 0) {
            // Four bytes did not tell.
            differs.fill(u8::MAX);
        }
        let members = self.members.values();
        let mut members: Vec<Known> = members
            .filter(|entry| is_in(&differs, entry.place))
            .map(Entry::known)
            .collect();
        members.sort_unstable();
        let crashes = self.crashes.values().flatten();
        let mut crashes: Vec<u64> = crashes
            .filter(|entry| is_in(&differs, entry.place))
            .map(|entry| entry.hash)
            .collect();
        crashes.sort_unstable();
        Part {
            differs,
            members,
            crashes,
        }
    }

    /// Of a table of which this is a part: what it lacks, and what this one wants of it.
    pub(super) fn counter(&self, cluster: Cluster, part: &Part) -> (Delta, Wants) {
        let have: HashMap<u64, &Known> = part.members.iter().map(|k| (k.place, k)).collect();
        let have_crashes: HashSet<u64> = part.crashes.iter().copied().collect();
        let mut wants = Wants::default();
        let mut known_here = HashSet::new();
        let mut lacks = Cut::default();
        for entry in self.members.values() {
            if !is_in(&part.differs, entry.place) {
                continue;
            }
            let theirs = have.get(&entry.place).map(|known| known.version());
            known_here.insert(entry.place);
            if theirs.is_none_or(|theirs| theirs < entry.version()) {
                lacks.members.push(entry);
            } else if theirs.is_some_and(|theirs| theirs > entry.version()) {
                wants.members.push(entry.place);
            }
        }
        let unknown = have.keys().filter(|place| !known_here.contains(place));
        wants.members.extend(unknown);
        wants.members.sort_unstable();
        let mut crashes_here = HashSet::new();
        for entry in self.crashes.values().flatten() {
            if is_in(&part.differs, entry.place) && !have_crashes.contains(&entry.hash) {
                lacks.crashes.push(entry);
            }
            crashes_here.insert(entry.hash);
        }
        let unknown = part
            .crashes
            .iter()
            .filter(|hash| !crashes_here.contains(hash));
        wants.crashes.extend(unknown);
        (lacks.delta(cluster), wants)
    }

    /// What was asked for.
    pub(super) fn wanted(&self, cluster: Cluster, wants: &Wants) -> Delta {
        let is_wanted = |place: &u64| wants.members.binary_search(place).is_ok();
        let members = self
            .members
            .values()
            .filter(|entry| is_wanted(&entry.place));
        let is_wanted = |hash: &u64| wants.crashes.binary_search(hash).is_ok();
        let crashes = self.crashes.values().flatten();
        let crashes = crashes.filter(|entry| is_wanted(&entry.hash));
        let cut = Cut {
            members: members.collect(),
            crashes: crashes.collect(),
        };
        cut.delta(cluster)
    }

    /// All of it, what is about `first` before anything else.
    pub(super) fn all(&self, cluster: Cluster, first: &Summary) -> Delta {
        let mut members: Vec<&Entry<Member>> = self.members.values().collect();
        members.sort_by_key(|entry| entry.value.name != first.name);
        let mut crashes: Vec<&Entry<Crash>> = self.crashes.values().flatten().collect();
        crashes.sort_by_key(|entry| entry.value.name != first.name);
        Cut { members, crashes }.delta(cluster)
    }

    fn add(&mut self, place: u64, hash: u64) {
        let sum = &mut self.sums[part_of(place)];
        *sum = sum.wrapping_add(hash);
        self.digest = self.digest.wrapping_add(hash);
    }

    fn subtract(&mut self, place: u64, hash: u64) {
        self.add(place, hash.wrapping_neg());
    }

    pub(super) fn put(&mut self, member: Arc<Member>, now_ms: i64) -> Put {
        if is_outdated(&member, now_ms) || !is_incarnation(member.incarnation, now_ms) {
            return Put::Known;
        }
        let entry = Entry::new(&member.name, member.clone());
        let have = self.members.get(&entry.value.name);
        let is_same_life = have.is_some_and(|have| have.value.incarnation == member.incarnation);
        let (before, matters) = match have {
            Some(have) if have.version() >= entry.version() => return Put::Known,
            Some(have) => (Some(have.hash), have.value.effect() != member.effect()),
            None if self.members.len() >= MEMBERS_MAX => return Put::Known,
            None => (None, member.effect().is_anything()),
        };
        if let Some(before) = before {
            self.subtract(entry.place, before);
        }
        self.roster += u64::from(!is_same_life);
        self.add(entry.place, entry.hash);
        self.members.insert(entry.value.name.clone(), entry);
        if matters { Put::Matters } else { Put::Pending }
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
        let is_life = is_incarnation(crash.incarnation.max(crash.by_incarnation), now_ms);
        if age_ms >= keep_ms || age_ms < -KEEP_MS || !is_life {
            return false;
        }
        let entry = Entry::new(&of.0, crash);
        let (place, hash) = (entry.place, entry.hash);
        let is_full = self.crash_count >= CRASHES_MAX;
        if is_full && !self.crashes.contains_key(&of) {
            return false;
        }
        let entries = self.crashes.entry(of).or_default();
        let at = entries.partition_point(|have| have.order() < entry.order());
        let is_known = entries.get(at).is_some_and(|have| have.hash == entry.hash);
        if at == CRASHES_PER_LIFE_MAX || is_known {
            return false;
        }
        entries.insert(at, entry);
        let too_old = entries.drain(CRASHES_PER_LIFE_MAX.min(entries.len())..);
        let too_old: Vec<u64> = too_old.map(|entry| entry.hash).collect();
        self.crash_count = self.crash_count + 1 - too_old.len();
        self.add(place, hash);
        for hash in too_old {
            self.subtract(place, hash);
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
            let Some(entries) = self.crashes.get_mut(&of) else {
                continue;
            };
            let old: Vec<_> = entries.drain(from..).map(|e| (e.place, e.hash)).collect();
            if entries.is_empty() {
                self.crashes.remove(&of);
            }
            self.crash_count -= old.len();
            for (place, hash) in old {
                self.subtract(place, hash);
            }
        }
        for name in gone.iter().filter(|name| &***name != me) {
            if let Some(entry) = self.members.remove(name) {
                self.subtract(entry.place, entry.hash);
                self.roster += 1;
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

/// Entries for a delta, which is cut when it is long enough: the rest goes with the next exchange.
#[derive(Default)]
struct Cut<'a> {
    members: Vec<&'a Entry<Member>>,
    crashes: Vec<&'a Entry<Crash>>,
}

impl Cut<'_> {
    fn delta(&self, cluster: Cluster) -> Delta {
        let mut bytes = 0;
        let mut has_room = |more: usize| {
            let has_room = bytes == 0 || bytes + more <= DELTA_BYTES_MAX;
            bytes += more;
            has_room
        };
        let members = self.members.iter();
        let members = members.take_while(|entry| has_room(entry.bytes));
        let members = members.map(|entry| entry.value.clone()).collect();
        let crashes = self.crashes.iter();
        let crashes = crashes.take_while(|entry| has_room(entry.bytes));
        let crashes = crashes.map(|entry| entry.value.clone()).collect();
        Delta {
            cluster: Some(cluster),
            members,
            crashes,
        }
    }
}

fn part_of(place: u64) -> usize {
    (place >> (u64::BITS - PARTS_MAX.trailing_zeros())) as usize
}

/// Whether a name's part is marked; `bits` has as many as there are parts.
fn is_in(bits: &[u8], place: u64) -> bool {
    let parts = (bits.len() * 8).clamp(1, PARTS_MAX);
    let part = part_of(place) / (PARTS_MAX / parts);
    bits.get(part / 8)
        .is_some_and(|byte| byte >> (part % 8) & 1 == 1)
}

/// Where a name stands among hashes.
pub(super) fn place_of(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

impl<T: Serialize> Entry<T> {
    fn new(about: &str, value: Arc<T>) -> Self {
        // Values of plain fields in memory: nothing that can fail.
        let bytes = postcard::to_stdvec(&*value).unwrap_or_default();
        Self {
            hash: xxh3_64(&bytes),
            place: place_of(about),
            bytes: bytes.len(),
            value,
        }
    }
}

impl Entry<Member> {
    fn version(&self) -> (u64, u64, u64) {
        (self.value.incarnation, self.value.version, self.hash)
    }

    fn known(&self) -> Known {
        Known {
            place: self.place,
            incarnation: self.value.incarnation,
            version: self.value.version,
            hash: self.hash,
        }
    }
}

impl Known {
    fn version(&self) -> (u64, u64, u64) {
        (self.incarnation, self.version, self.hash)
    }
}

impl Entry<Crash> {
    fn order(&self) -> (Reverse<i64>, u64) {
        (Reverse(self.value.made_ms), self.hash)
    }
}
