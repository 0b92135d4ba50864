//! The series of a layout -> which of them have the same final labels.
//!
//! Of plain samples of one series the first is kept. Samples with explicit timestamps are all
//! kept: their times decide. If all series have the same labels of the target as holes, the answer
//! is the same for every target of the shape; otherwise the target's values are filled in.

use super::derive::{Derivation, Pattern};
use super::layout::TextRun;
use super::template::write_identity;
use ahash::RandomState;
use ringscrape_wal::definition as wal;
use std::collections::HashSet;

/// A sample line whose final labels stood in the body before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Same {
    /// Its raw index.
    pub(crate) raw: u32,
    /// Raw index of the first line with these labels.
    pub(crate) first: u32,
    /// It is not logged: it has no timestamp, and a line before has none or has the same text.
    pub(crate) duplicate: bool,
    /// It has no timestamp and the same series text as a line before.
    pub(crate) again: bool,
}

/// What collides in a layout.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Collisions {
    /// By raw index.
    pub(crate) same: Box<[Same]>,
    /// Sample lines that yield an automatic series: raw index and the place of the automatic
    /// series. Rising, without duplicates.
    pub(crate) automatic: Box<[(u32, u32)]>,
    /// Valid for all targets of the shape.
    pub(crate) shared: bool,
}

impl Collisions {
    /// The entry for `raw`, if it is not the first of its series.
    pub(crate) fn get(&self, raw: u32) -> Option<&Same> {
        let found = self.same.binary_search_by_key(&raw, |same| same.raw);
        found.ok().map(|index| &self.same[index])
    }
}

/// What `find` looks at.
pub(super) struct Subject<'a> {
    pub(super) derivation: &'a Derivation,
    pub(super) runs: &'a [TextRun],
    /// Raw indices with an explicit timestamp, rising.
    pub(super) stamped: &'a [u32],
    pub(super) target: &'a wal::Target,
    pub(super) hasher: &'a RandomState,
}

/// A sample line in question.
#[derive(Clone, Copy)]
struct Member<'a> {
    hash: u64,
    raw: u32,
    run: &'a TextRun,
    entry: u32,
    kept: u32,
}

/// Whether the answer holds for all targets of the shape.
pub(super) fn is_shared(derivation: &Derivation, runs: &[TextRun]) -> bool {
    let mut pattern: Option<&[u16]> = None;
    for run in runs {
        let this = match &run.derived.pattern {
            Pattern::Nothing => continue,
            Pattern::Mixed => return false,
            Pattern::Same(this) => &this[..],
        };
        if **pattern.get_or_insert(this) != *this {
            return false;
        }
    }
    let like = runs
        .iter()
        .any(|run| !run.derived.automatic_like.is_empty());
    !like || pattern.is_none_or(|holes| holes.iter().copied().eq(derivation.shape.holes()))
}

/// Finds what collides. `fresh`: ranges of raw indices outside of which nothing collides with one
/// another, rising; `None`: everything is in question. Used only if the answer is shared.
pub(super) fn find(subject: &Subject<'_>, fresh: Option<&[(u32, u32)]>) -> Collisions {
    let shared = is_shared(subject.derivation, subject.runs);
    let mut members = match fresh {
        Some(fresh) if shared => among_fresh(subject, fresh),
        _ => all_members(subject, shared),
    };
    retain_repeated(&mut members);
    let same = group(subject, shared, members);
    let mut automatic = automatic(subject);
    automatic.retain(|&(raw, _)| !same.iter().any(|same| same.raw == raw && same.duplicate));
    Collisions {
        same: same.into(),
        automatic: automatic.into(),
        shared,
    }
}

fn all_members<'a>(subject: &Subject<'a>, shared: bool) -> Vec<Member<'a>> {
    let mut members = Vec::new();
    let mut identity = Vec::new();
    each(subject.runs, |raw, run, entry, kept| {
        let hash = if shared {
            u64::from(run.derived.ids[kept as usize])
        } else {
            identity.clear();
            write_identity(&run.derived.wal, kept, Some(subject.target), &mut identity);
            subject.hasher.hash_one(&identity[..])
        };
        members.push(Member {
            hash,
            raw,
            run,
            entry,
            kept,
        });
    });
    members
}

/// The fresh entries, and those of the others that have the hash of a fresh one.
fn among_fresh<'a>(subject: &Subject<'a>, fresh: &[(u32, u32)]) -> Vec<Member<'a>> {
    let mut members = Vec::new();
    let is_fresh = |raw: u32| {
        let next = fresh.partition_point(|&(_, to)| to <= raw);
        fresh.get(next).is_some_and(|&(from, _)| from <= raw)
    };
    let count: u32 = fresh.iter().map(|(from, to)| to - from).sum();
    let bits = (count as usize * 16).next_power_of_two().max(64);
    let mut filter = vec![0u64; bits / 64];
    let mut hashes = Vec::with_capacity(count as usize);
    if count == 0 {
        return members;
    }
    let mut next = 0;
    let mut start = 0;
    for run in subject.runs {
        let end = start + (run.to - run.from);
        while let Some(&(from, to)) = fresh.get(next).filter(|(from, _)| *from < end) {
            for raw in from.max(start)..to.min(end) {
                let entry = run.from + (raw - start);
                let Some(kept) = run.derived.kept(entry) else {
                    continue;
                };
                let id = run.derived.ids[kept as usize];
                let bit = id as usize & (bits - 1);
                filter[bit / 64] |= 1 << (bit % 64);
                hashes.push(id);
                members.push(Member {
                    hash: u64::from(id),
                    raw,
                    run,
                    entry,
                    kept,
                });
            }
            if to > end {
                break;
            }
            next += 1;
        }
        start = end;
    }
    hashes.sort_unstable();
    each(subject.runs, |raw, run, entry, kept| {
        let id = run.derived.ids[kept as usize];
        let bit = id as usize & (bits - 1);
        let maybe = filter[bit / 64] >> (bit % 64) & 1 == 1;
        if maybe && hashes.binary_search(&id).is_ok() && !is_fresh(raw) {
            let hash = u64::from(id);
            members.push(Member {
                hash,
                raw,
                run,
                entry,
                kept,
            });
        }
    });
    members
}

/// Leaves the members whose hash another one has, and a few more.
fn retain_repeated(members: &mut Vec<Member<'_>>) {
    let slots = (members.len() * 8).next_power_of_two().max(64);
    let place = |member: &Member<'_>| (member.hash >> 3) as usize & (slots - 1);
    // Two bits a place: taken, and taken again.
    let mut once = vec![0u64; slots / 64];
    let mut again = vec![0u64; slots / 64];
    let mut repeated = false;
    for member in &*members {
        let (word, bit) = (place(member) / 64, 1 << (place(member) % 64));
        repeated |= once[word] & bit != 0;
        again[word] |= once[word] & bit;
        once[word] |= bit;
    }
    match repeated {
        false => members.clear(),
        true => members.retain(|member| again[place(member) / 64] >> (place(member) % 64) & 1 == 1),
    }
}

fn group(subject: &Subject<'_>, shared: bool, mut members: Vec<Member<'_>>) -> Vec<Same> {
    members.sort_unstable_by_key(|member| (member.hash, member.raw));
    let mut same = Vec::new();
    let target = (!shared).then_some(subject.target);
    let identity = |member: &Member<'_>| {
        let mut bytes = Vec::new();
        write_identity(&member.run.derived.wal, member.kept, target, &mut bytes);
        bytes
    };
    for equal in members.chunk_by(|a, b| a.hash == b.hash) {
        if equal.len() == 1 {
            continue;
        }
        let mut rest: Vec<&Member<'_>> = equal.iter().collect();
        while rest.len() > 1 {
            let first = identity(rest[0]);
            let (group, others): (Vec<_>, Vec<_>) = rest
                .into_iter()
                .partition(|member| identity(member) == first);
            judge(subject, &group, &mut same);
            rest = others;
        }
    }
    same.sort_unstable_by_key(|same| same.raw);
    same
}

/// Decides on the lines of one series, in the order of the body.
fn judge(subject: &Subject<'_>, group: &[&Member<'_>], same: &mut Vec<Same>) {
    let mut texts = HashSet::new();
    let mut plain_before = false;
    for member in group {
        let plain = subject.stamped.binary_search(&member.raw).is_err();
        let mut text = Vec::new();
        let text = member.run.block.series(member.entry, &mut text).to_vec();
        let repeated = !texts.insert(text);
        if member.raw != group[0].raw {
            same.push(Same {
                raw: member.raw,
                first: group[0].raw,
                duplicate: plain && (plain_before || repeated),
                again: plain && repeated,
            });
        }
        plain_before |= plain && !repeated;
    }
}

/// The automatic series that the body yields as well.
fn automatic(subject: &Subject<'_>) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    let mut want: Vec<Vec<u8>> = Vec::new();
    if subject
        .runs
        .iter()
        .all(|run| run.derived.automatic_like.is_empty())
    {
        return found;
    }
    each(subject.runs, |raw, run, _, kept| {
        let like = run.derived.automatic_like.contains(&kept);
        if like {
            let block = &subject.derivation.automatic;
            if want.is_empty() {
                want.extend((0..block.entries.len() as u32).map(|index| {
                    let mut bytes = Vec::new();
                    write_identity(block, index, Some(subject.target), &mut bytes);
                    bytes
                }));
            }
            let mut have = Vec::new();
            write_identity(&run.derived.wal, kept, Some(subject.target), &mut have);
            let place = want.iter().position(|bytes| *bytes == have);
            found.extend(place.map(|place| (raw, place as u32)));
        }
    });
    found
}

fn each<'a>(runs: &'a [TextRun], mut visit: impl FnMut(u32, &'a TextRun, u32, u32)) {
    let mut raw = 0;
    for run in runs {
        for entry in run.from..run.to {
            if let Some(kept) = run.derived.kept(entry) {
                visit(raw, run, entry, kept);
            }
            raw += 1;
        }
    }
}
