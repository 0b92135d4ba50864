//! All entries of one member: what it takes from others, what it lacks, what it forgets.
//!
//! To take something: [`Replica::judge`], store what the verdict says on the disk, then
//! [`Replica::take`].

use super::entry::{Entry, Version};
use super::message::Known;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Removals are kept for so long: 30 days.
pub const REMOVAL_LIFETIME_MS: i64 = 30 * 24 * 60 * 60 * 1_000;
/// Of one batch: it has to fit into one message, compressed.
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// Of what is exchanged at once, if it is more than one batch.
const EXCHANGE_BYTES_MAX: usize = 8 << 20;
/// Entries are compared by so many groups of them.
const BUCKETS: usize = 256;
/// Losers that are remembered as reported.
const TOLD_MAX: usize = 4_096;

/// What a member has, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// When it was last in touch with a majority, in ms since the Unix epoch; `None`: never.
    pub mark_ms: Option<i64>,
    /// For each bucket of names the sum of the entries' hashes.
    buckets: Vec<u64>,
}

/// An entry that was written without knowing of the one that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What is gone.
    pub loser: Arc<Entry>,
    /// What stays.
    pub winner: Arc<Entry>,
}

/// What of some entries is news.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// To be stored and taken.
    pub taken: Vec<Arc<Entry>>,
    /// Of the two, who did not know of each other.
    pub lost: Vec<Lost>,
    /// Names that have another entry, which stays.
    pub beaten: Vec<Known>,
}

/// What two members have to tell each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exchange {
    /// What the other one lacks.
    pub entries: Vec<Arc<Entry>>,
    /// What this one lacks.
    pub wanted: Vec<Arc<str>>,
}

/// All of one member.
#[derive(Debug, Clone)]
pub struct Replica {
    me: Arc<str>,
    entries: BTreeMap<Arc<str>, Kept>,
    revision: u64,
    mark_ms: Option<i64>,
    told: VecDeque<(Arc<str>, Version)>,
}

#[derive(Debug, Clone)]
struct Kept {
    entry: Arc<Entry>,
    hash: u64,
}

impl Replica {
    /// Of a member that has nothing.
    pub fn new(me: Arc<str>) -> Self {
        Self {
            me,
            entries: BTreeMap::new(),
            revision: 0,
            mark_ms: None,
            told: VecDeque::new(),
        }
    }

    /// The highest revision that it knows of.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// When it was last in touch with a majority.
    pub fn mark_ms(&self) -> Option<i64> {
        self.mark_ms
    }

    /// It was in touch with a majority: it has all that was confirmed before.
    pub fn mark(&mut self, now_ms: i64) {
        self.mark_ms = self.mark_ms.max(Some(now_ms));
    }

    /// Of a name; removals are entries, too.
    pub fn get(&self, name: &str) -> Option<&Arc<Entry>> {
        self.entries.get(name).map(|kept| &kept.entry)
    }

    /// All, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values().map(|kept| &kept.entry)
    }

    /// Of the next write of this member.
    pub fn next_version(&self) -> Version {
        Version::after(self.revision, &self.me)
    }

    /// Which of some entries stay.
    pub fn judge(&self, incoming: Vec<Arc<Entry>>, now_ms: i64) -> Verdict {
        let mut best: BTreeMap<Arc<str>, Arc<Entry>> = BTreeMap::new();
        for entry in incoming.into_iter().filter(|entry| entry.is_sound()) {
            let known = best
                .entry(entry.name.clone())
                .or_insert_with(|| entry.clone());
            if entry.beats(known) {
                *known = entry;
            }
        }
        let mut verdict = Verdict::default();
        for (name, entry) in best {
            let Some(kept) = self.get(&name) else {
                // What was removed so long ago is removed.
                if !is_forgotten(&entry, now_ms) {
                    verdict.taken.push(entry);
                }
                continue;
            };
            if *kept == entry {
                continue;
            }
            let (winner, loser) = match entry.beats(kept) {
                true => (&entry, kept),
                false => (kept, &entry),
            };
            if winner.is_unaware_of(loser) {
                let (winner, loser) = (winner.clone(), loser.clone());
                verdict.lost.push(Lost { loser, winner });
            }
            match entry.beats(kept) {
                true => verdict.taken.push(entry),
                false => verdict.beaten.push(Known::of(kept)),
            }
        }
        verdict
    }

    /// Takes what was judged since the last `take`. Returns what was lost and not reported yet.
    pub fn take(&mut self, verdict: &Verdict) -> Vec<Lost> {
        for entry in &verdict.taken {
            self.revision = self.revision.max(entry.version.revision);
            let kept = Kept {
                entry: entry.clone(),
                hash: entry.hash(),
            };
            self.entries.insert(entry.name.clone(), kept);
        }
        let mut news = Vec::new();
        for lost in &verdict.lost {
            let loser = (lost.loser.name.clone(), lost.loser.version.clone());
            if !self.told.contains(&loser) {
                self.told.push_back(loser);
                news.push(lost.clone());
            }
        }
        while self.told.len() > TOLD_MAX {
            self.told.pop_front();
        }
        news
    }

    /// Forgets old removals.
    pub fn purge(&mut self, now_ms: i64) {
        self.entries
            .retain(|_, kept| !is_forgotten(&kept.entry, now_ms));
    }

    /// What it has, in short. Old removals are left out, purged or not.
    pub fn digest(&self, now_ms: i64) -> Digest {
        let mut buckets = vec![0_u64; BUCKETS];
        for kept in self.shown(now_ms) {
            let bucket = &mut buckets[bucket_of(&kept.entry.name)];
            *bucket = bucket.wrapping_add(kept.hash);
        }
        Digest {
            mark_ms: self.mark_ms,
            buckets,
        }
    }

    /// Whether another member, by its mark, may hold what was removed and forgotten meanwhile.
    pub fn finds_stale(&self, their_mark_ms: Option<i64>) -> bool {
        let (Some(own_ms), Some(their_ms)) = (self.mark_ms, their_mark_ms) else {
            return false;
        };
        their_ms.saturating_add(REMOVAL_LIFETIME_MS) < own_ms
    }

    /// What it has where another member has something else; `None`: both have the same.
    pub fn differences(&self, theirs: &Digest, now_ms: i64) -> Option<Vec<Known>> {
        let own = self.digest(now_ms);
        if own.buckets == theirs.buckets {
            return None;
        }
        let differs = |name: &str| own.differs(theirs, bucket_of(name));
        let shown = self.shown(now_ms);
        let known = shown.filter(|kept| differs(&kept.entry.name));
        Some(known.map(|kept| Known::of(&kept.entry)).collect())
    }

    /// What to tell the other one, and to ask it for: as much as goes at once, whole batches only.
    pub fn exchange(&self, digest: &Digest, known: &[Known], now_ms: i64) -> Exchange {
        let own = self.digest(now_ms);
        let theirs: BTreeMap<&str, &Known> = known.iter().map(|one| (&*one.name, one)).collect();
        let mut wanted = BTreeMap::<&Version, Vec<&Known>>::new();
        for one in known {
            let is_news = self.get(&one.name).is_none_or(|kept| {
                let is_other = kept.version == one.version && kept.hash() != one.hash;
                kept.version < one.version || is_other
            });
            if is_news {
                wanted.entry(&one.version).or_default().push(one);
            }
        }
        let mut lacking = BTreeMap::<&Version, Vec<&Arc<Entry>>>::new();
        for kept in self.shown(now_ms) {
            let entry = &kept.entry;
            let is_news = theirs.get(&*entry.name).is_none_or(|one| {
                let is_other = entry.version == one.version && kept.hash != one.hash;
                entry.version > one.version || is_other
            });
            if is_news && own.differs(digest, bucket_of(&entry.name)) {
                lacking.entry(&entry.version).or_default().push(entry);
            }
        }
        Exchange {
            entries: first_batches(lacking, |entry| entry.bytes())
                .cloned()
                .collect(),
            wanted: first_batches(wanted, |known| known.bytes as usize)
                .map(|known| known.name.clone())
                .collect(),
        }
    }

    fn shown(&self, now_ms: i64) -> impl Iterator<Item = &Kept> {
        let all = self.entries.values();
        all.filter(move |kept| !is_forgotten(&kept.entry, now_ms))
    }
}

impl Digest {
    /// Whether it is one of this release.
    pub fn is_sound(&self) -> bool {
        self.buckets.len() == BUCKETS
    }

    fn differs(&self, other: &Self, bucket: usize) -> bool {
        self.buckets.get(bucket) != other.buckets.get(bucket)
    }
}

fn bucket_of(name: &str) -> usize {
    (xxh3_64(name.as_bytes()) % BUCKETS as u64) as usize
}

fn is_forgotten(entry: &Entry, now_ms: i64) -> bool {
    entry.content.is_none() && entry.written_ms.saturating_add(REMOVAL_LIFETIME_MS) <= now_ms
}

/// The oldest batches that go into one message, at least one.
fn first_batches<'a, T: Copy + 'a>(
    by_version: BTreeMap<&Version, Vec<T>>,
    bytes_of: impl Fn(T) -> usize + 'a,
) -> impl Iterator<Item = T> {
    let mut bytes = 0;
    let batches = by_version.into_values().enumerate();
    let some = batches.take_while(move |(index, batch)| {
        bytes += batch.iter().map(|one| bytes_of(*one)).sum::<usize>();
        *index == 0 || bytes <= EXCHANGE_BYTES_MAX
    });
    some.flat_map(|(_, batch)| batch)
}
