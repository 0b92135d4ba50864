//! All entries of one member: what it takes from others, what it lacks, what it forgets.
//!
//! To take something: [`Replica::judge`], store what the verdict says on the disk, then
//! [`Replica::take`].

use super::entry::{Entry, Held, REVISION_MAX, Version};
use super::message::Known;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Removals are kept for so long by a member that is in touch with a majority: 30 days.
pub const REMOVAL_LIFETIME_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// After this time members need not have them: so they may forget them at different moments.
const REMOVAL_SHOWN_MS: u64 = REMOVAL_LIFETIME_MS / 2;
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
    /// See [`Past`].
    pub mark: Option<u64>,
    /// See [`Past`].
    pub forgotten: u64,
    /// The highest revision of removals that are too old to be told, or are forgotten.
    pub old: u64,
    /// For each bucket of names the sum of the entries' hashes.
    buckets: Vec<u64>,
}

/// What a member remembers of the time before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// For how long it has been in touch with a majority, all in all.
    pub observed_ms: u64,
    /// It has all up to this revision that was confirmed; `None`: it has just begun.
    pub mark: Option<u64>,
    /// Up to this revision removals were forgotten, here or by those that this member has its
    /// entries from.
    pub forgotten: u64,
}

/// What two members are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// They may take from each other.
    Good,
    /// The other one may hold what was removed and forgotten meanwhile.
    TheyAreStale,
    /// This one may.
    WeAreStale,
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
    pub taken: Vec<Held>,
    /// Of the two, who did not know of each other.
    pub lost: Vec<Lost>,
    /// Names that have another entry, which stays.
    pub beaten: Vec<Known>,
}

/// What two members have to tell each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exchange {
    /// What the other one lacks.
    pub entries: Vec<Held>,
    /// What this one lacks.
    pub wanted: Vec<Arc<str>>,
}

/// All of one member.
#[derive(Debug, Clone)]
pub struct Replica {
    me: Arc<str>,
    entries: BTreeMap<Arc<str>, Kept>,
    revision: u64,
    past: Past,
    told: VecDeque<(Arc<str>, Version)>,
}

#[derive(Debug, Clone)]
struct Kept {
    entry: Arc<Entry>,
    hash: u64,
    /// At what [`Past::observed_ms`] it was new; that may be before the beginning.
    since_ms: i64,
}

impl Replica {
    /// Of a member that has nothing.
    pub fn new(me: Arc<str>) -> Self {
        Self {
            me,
            entries: BTreeMap::new(),
            revision: 0,
            past: Past::default(),
            told: VecDeque::new(),
        }
    }

    /// Whose it is.
    pub fn me(&self) -> &Arc<str> {
        &self.me
    }

    /// The highest revision that it knows of.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What it remembers of the time before.
    pub fn past(&self) -> Past {
        self.past
    }

    /// What it remembered before it was started.
    pub fn recall(&mut self, past: Past) {
        let own = &mut self.past;
        own.observed_ms = own.observed_ms.max(past.observed_ms);
        own.mark = own.mark.max(past.mark);
        own.forgotten = own.forgotten.max(past.forgotten);
        self.revision = self.revision.max(past.forgotten);
    }

    /// It has all up to `revision` that was confirmed, and has been in touch with a majority for
    /// `elapsed_ms` more. Forgets old removals.
    pub fn in_touch(&mut self, revision: u64, elapsed_ms: u64) {
        self.past.mark = self.past.mark.max(Some(revision));
        self.past.observed_ms = self.past.observed_ms.saturating_add(elapsed_ms);
        self.forget_old();
    }

    /// Forgets old removals.
    pub fn forget_old(&mut self) {
        let (observed_ms, forgotten) = (self.past.observed_ms, &mut self.past.forgotten);
        self.entries.retain(|_, kept| {
            let is_kept = kept.age_ms(observed_ms) < REMOVAL_LIFETIME_MS;
            if !is_kept {
                *forgotten = (*forgotten).max(kept.entry.version.revision);
            }
            is_kept
        });
    }

    /// Another member, by what it has in short.
    pub fn meet(&mut self, theirs: &Digest) -> Meeting {
        let is_stale = |mark: Option<u64>, forgotten| mark.is_some_and(|mark| mark < forgotten);
        if is_stale(theirs.mark, self.past.forgotten) {
            return Meeting::TheyAreStale;
        }
        if is_stale(self.past.mark, theirs.forgotten) {
            return Meeting::WeAreStale;
        }
        // Who has taken entries from others lacks the removals that those have forgotten.
        self.past.forgotten = self.past.forgotten.max(theirs.forgotten);
        // They are as if it had them: it must not be found stale once they are forgotten.
        self.revision = self.revision.max(theirs.old);
        Meeting::Good
    }

    /// Whether another member, by its mark or what it tells, may hold what was removed and
    /// forgotten meanwhile.
    pub fn finds_stale(&self, their_mark: Option<u64>, told: &[Held]) -> bool {
        let mut stored = told.iter().filter(|held| held.entry.content.is_some());
        their_mark.is_some_and(|mark| mark < self.past.forgotten)
            || stored.any(|held| self.is_gone(&held.entry.name, &held.entry.version))
    }

    /// Whether an entry of another member was here, and its removal is forgotten: who has no mark
    /// yet may hold such a one. Unless nobody confirmed it.
    fn is_gone(&self, name: &str, version: &Version) -> bool {
        let forgotten = self.past.forgotten;
        let had_all = self.past.mark.is_some_and(|mark| mark >= forgotten);
        had_all && version.revision <= forgotten && !self.entries.contains_key(name)
    }

    /// Of a name; removals are entries, too.
    pub fn get(&self, name: &str) -> Option<&Arc<Entry>> {
        self.entries.get(name).map(|kept| &kept.entry)
    }

    /// All, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values().map(|kept| &kept.entry)
    }

    /// The same, to be told.
    pub fn held(&self, name: &str) -> Option<Held> {
        let kept = self.entries.get(name)?;
        Some(kept.held(self.past.observed_ms))
    }

    /// All, to be told.
    pub fn all_held(&self) -> impl Iterator<Item = Held> {
        let kept = self.entries.values();
        kept.map(|kept| kept.held(self.past.observed_ms))
    }

    /// Of the next write of this member.
    pub fn next_version(&self) -> Version {
        Version::after(self.revision, &self.me)
    }

    /// Which of some entries stay.
    pub fn judge(&self, incoming: Vec<Held>) -> Verdict {
        let mut best: BTreeMap<Arc<str>, Held> = BTreeMap::new();
        for held in incoming.into_iter().filter(|held| held.entry.is_sound()) {
            let known = best
                .entry(held.entry.name.clone())
                .or_insert_with(|| held.clone());
            if held.entry.beats(&known.entry) {
                *known = held;
            }
        }
        let mut verdict = Verdict::default();
        for (name, held) in best {
            let entry = &held.entry;
            let Some(kept) = self.get(&name) else {
                // What was removed so long ago is removed.
                if entry.content.is_some() || held.age_ms < REMOVAL_LIFETIME_MS {
                    verdict.taken.push(held);
                }
                continue;
            };
            if kept == entry {
                continue;
            }
            let is_taken = entry.beats(kept);
            let (winner, loser) = match is_taken {
                true => (entry, kept),
                false => (kept, entry),
            };
            if winner.is_unaware_of(loser) {
                let (winner, loser) = (winner.clone(), loser.clone());
                verdict.lost.push(Lost { loser, winner });
            }
            match is_taken {
                true => verdict.taken.push(held),
                false => verdict.beaten.push(Known::of(kept)),
            }
        }
        verdict
    }

    /// Takes what was judged since the last `take`. Returns what was lost and not reported yet.
    pub fn take(&mut self, verdict: &Verdict) -> Vec<Lost> {
        for Held { entry, age_ms } in &verdict.taken {
            self.revision = self.revision.max(entry.version.revision);
            let age_ms = (*age_ms).min(REMOVAL_LIFETIME_MS);
            let kept = Kept {
                entry: entry.clone(),
                hash: entry.hash(),
                since_ms: self.past.observed_ms as i64 - age_ms as i64,
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

    /// What it has, in short. Old removals are left out, forgotten or not.
    pub fn digest(&self) -> Digest {
        let mut buckets = vec![0_u64; BUCKETS];
        let mut old = self.past.forgotten;
        for kept in self.entries.values() {
            if self.is_shown(kept) {
                let bucket = &mut buckets[bucket_of(&kept.entry.name)];
                *bucket = bucket.wrapping_add(kept.hash);
            } else {
                old = old.max(kept.entry.version.revision);
            }
        }
        Digest {
            mark: self.past.mark,
            forgotten: self.past.forgotten,
            old,
            buckets,
        }
    }

    /// What it has where another member has something else, old removals too; `None`: both have the
    /// same.
    pub fn differences(&self, theirs: &Digest) -> Option<Vec<Known>> {
        let own = self.digest();
        if own.buckets == theirs.buckets {
            return None;
        }
        let differs = |name: &str| own.differs(theirs, bucket_of(name));
        let known = self.entries().filter(|entry| differs(&entry.name));
        Some(known.map(|entry| Known::of(entry)).collect())
    }

    /// What to tell the other one, and to ask it for: as much as goes at once, whole batches only.
    /// Nothing: both have the same, but for old removals.
    pub fn exchange(&self, digest: &Digest, known: &[Known]) -> Exchange {
        let own = self.digest();
        let theirs: BTreeMap<&str, &Known> = known.iter().map(|one| (&*one.name, one)).collect();
        let mut wanted = BTreeMap::<&Version, Vec<&Known>>::new();
        for one in known {
            let is_news = self.get(&one.name).is_none_or(|kept| {
                let is_other = kept.version == one.version && kept.hash() != one.hash;
                kept.version < one.version || is_other
            });
            if is_news && !self.is_gone(&one.name, &one.version) {
                wanted.entry(&one.version).or_default().push(one);
            }
        }
        let mut lacking = BTreeMap::<&Version, Vec<&Kept>>::new();
        for kept in self.entries.values() {
            let entry = &kept.entry;
            let is_news = match theirs.get(&*entry.name) {
                Some(one) => {
                    let is_other = entry.version == one.version && kept.hash != one.hash;
                    entry.version > one.version || is_other
                }
                None => self.is_shown(kept),
            };
            if is_news && own.differs(digest, bucket_of(&entry.name)) {
                lacking.entry(&entry.version).or_default().push(kept);
            }
        }
        Exchange {
            entries: first_batches(lacking, |kept| kept.entry.bytes())
                .map(|kept| kept.held(self.past.observed_ms))
                .collect(),
            wanted: first_batches(wanted, |known| known.bytes as usize)
                .map(|known| known.name.clone())
                .collect(),
        }
    }

    fn is_shown(&self, kept: &Kept) -> bool {
        kept.age_ms(self.past.observed_ms) < REMOVAL_SHOWN_MS
    }
}

impl Kept {
    /// 0 if it is no removal.
    fn age_ms(&self, observed_ms: u64) -> u64 {
        match self.entry.content {
            Some(_) => 0,
            None => u64::try_from(observed_ms as i64 - self.since_ms).unwrap_or(0),
        }
    }

    fn held(&self, observed_ms: u64) -> Held {
        Held {
            entry: self.entry.clone(),
            age_ms: self.age_ms(observed_ms),
        }
    }
}

impl Digest {
    /// Whether it is one of this release.
    pub fn is_sound(&self) -> bool {
        self.buckets.len() == BUCKETS && self.forgotten.max(self.old) <= REVISION_MAX
    }

    fn differs(&self, other: &Self, bucket: usize) -> bool {
        self.buckets.get(bucket) != other.buckets.get(bucket)
    }
}

fn bucket_of(name: &str) -> usize {
    (xxh3_64(name.as_bytes()) % BUCKETS as u64) as usize
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
