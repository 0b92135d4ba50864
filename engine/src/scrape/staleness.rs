//! What was tracked - what is tracked = the series that end.
//!
//! Series are compared by their final labels, not by text: a changed HELP line, a moved line or a
//! changed rule ends no series.

use super::change::{Change, Tracking};
use crate::matcher::template::write_identity;
use crate::matcher::{Source, push_run};
use ringscrape_wal::definition::{Block, Run, Target};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A tracked series that may end.
struct Candidate<'a> {
    /// Its raw index in the old layout; none if it comes from the log.
    raw: Option<u32>,
    block: &'a Arc<Block>,
    kept: u32,
}

/// Series that end with a scrape.
#[derive(Debug, Default)]
pub(super) struct Stale {
    /// For the log.
    pub(super) runs: Vec<Run>,
    /// How many.
    pub(super) count: u32,
    /// The old entries among them, rising.
    pub(super) raw: Vec<u32>,
}

impl Stale {
    fn push(&mut self, candidate: &Candidate<'_>) {
        push_run(
            &mut self.runs,
            candidate.block,
            candidate.kept,
            candidate.kept + 1,
        );
        self.raw.extend(candidate.raw);
        self.count += 1;
    }
}

/// The tracked series that `now` does not have. `times`: last timestamps of old series, by
/// canonical index: a marker that is not newer would be refused.
pub(super) fn between(
    change: &Change<'_>,
    before: Option<&Tracking<'_>>,
    restored: &[Run],
    now: &Tracking<'_>,
    times: &HashMap<u32, i64>,
    timestamp_ms: i64,
) -> Stale {
    let mut candidates = Vec::new();
    if let Some(before) = before {
        gone(change, before, now, &mut candidates);
    }
    restored_candidates(restored, &mut candidates);
    if candidates.is_empty() {
        return Stale::default();
    }
    let (mut bytes, mut other) = (Vec::new(), Vec::new());
    let mut by_hash: Vec<(u64, usize)> = Vec::with_capacity(candidates.len());
    for (number, candidate) in candidates.iter().enumerate() {
        let hash = change.series_hash(candidate.block, candidate.kept, &mut bytes);
        by_hash.push((hash, number));
    }
    by_hash.sort_unstable();
    let mut ends = vec![true; candidates.len()];
    // A series can be tracked twice: from the log and from the layout, or with timestamps.
    for equal in by_hash.chunk_by(|a, b| a.0 == b.0) {
        for (place, &(_, number)) in equal.iter().enumerate().skip(1) {
            let candidate = &candidates[number];
            change.series_hash(candidate.block, candidate.kept, &mut bytes);
            ends[number] = !equal[..place].iter().any(|&(_, before)| {
                let candidate = &candidates[before];
                change.series_hash(candidate.block, candidate.kept, &mut other);
                other == bytes
            });
        }
    }
    let mut survives = |block: &Block, kept: u32| {
        let hash = change.series_hash(block, kept, &mut bytes);
        let first = by_hash.partition_point(|&(have, _)| have < hash);
        for &(_, number) in by_hash[first..]
            .iter()
            .take_while(|(have, _)| *have == hash)
        {
            let candidate = &candidates[number];
            change.series_hash(candidate.block, candidate.kept, &mut other);
            if other == bytes {
                ends[number] = false;
            }
        }
    };
    let automatic = &change.new.derivation.automatic;
    for index in 0..automatic.entries.len() as u32 {
        survives(automatic, index);
    }
    let everything = change.by_labels || !restored.is_empty();
    let regular = before.is_some_and(|before| before.is_regular_to(before.layout.len()));
    for segment in change.segments {
        let known = matches!(segment.source, Source::Old(_));
        if known && regular && !everything {
            continue;
        }
        for raw in segment.at..(segment.at + segment.len).min(now.to) {
            let counted = known
                && !everything
                && before.is_some_and(|before| {
                    change.old_text(raw).is_some_and(|old| before.contains(old))
                });
            if let Some((block, kept)) = now.series(raw)
                && !counted
            {
                survives(block, kept);
            }
        }
    }
    let mut stale = Stale::default();
    for (candidate, _) in candidates.iter().zip(&ends).filter(|(_, ends)| **ends) {
        let last_ms = candidate.raw.and_then(|raw| {
            let canonical = change.old.map(|old| old.canonical(raw));
            canonical.and_then(|raw| times.get(&raw))
        });
        if last_ms.is_none_or(|&last_ms| last_ms < timestamp_ms) {
            stale.push(candidate);
        }
    }
    stale
}

/// Everything that is tracked, when there is nothing new but the automatic series. Markers that
/// `times` refuses are left out, as in `between`.
pub(super) fn everything(
    before: Option<&Tracking<'_>>,
    restored: &[Run],
    automatic: &Block,
    target: &Target,
    times: &HashMap<u32, i64>,
    timestamp_ms: i64,
) -> Stale {
    let mut stale = Stale::default();
    let mut seen = HashSet::new();
    let identity = |block: &Block, kept: u32| {
        let mut bytes = Vec::new();
        write_identity(block, kept, Some(target), &mut bytes);
        bytes
    };
    let count = automatic.entries.len() as u32;
    let automatic: Vec<_> = (0..count).map(|index| identity(automatic, index)).collect();
    if let Some(before) = before {
        let runs = &before.layout.runs;
        let exposes_automatic = runs
            .iter()
            .any(|run| !run.derived.automatic_like.is_empty());
        for raw in 0..before.to {
            let Some((block, kept)) = before.series(raw) else {
                continue;
            };
            if exposes_automatic && automatic.contains(&identity(block, kept)) {
                continue;
            }
            let canonical = before.layout.canonical(raw);
            if before.layout.collisions.same.is_empty() || seen.insert(canonical) {
                let last_ms = times.get(&canonical);
                if last_ms.is_none_or(|&last_ms| last_ms < timestamp_ms) {
                    let raw = Some(raw);
                    stale.push(&Candidate { raw, block, kept });
                }
            }
        }
    }
    // What comes from the log is there only before the first scrape, so it can't be twice.
    for run in restored {
        for kept in run.from..run.to {
            if !automatic.contains(&identity(&run.block, kept)) {
                let (raw, block) = (None, &run.block);
                stale.push(&Candidate { raw, block, kept });
            }
        }
    }
    stale
}

/// Old entries that are tracked and whose text is not tracked any more.
fn gone<'a>(
    change: &Change<'_>,
    before: &'a Tracking<'_>,
    now: &Tracking<'_>,
    candidates: &mut Vec<Candidate<'a>>,
) {
    let mut push = |raw: u32| {
        if let Some((block, kept)) = before.series(raw) {
            let raw = Some(raw);
            candidates.push(Candidate { raw, block, kept });
        }
    };
    if change.relabelled {
        (0..before.to).for_each(push);
        return;
    }
    for (from, to) in change.removed() {
        (from..to).for_each(&mut push);
    }
    for segment in change.segments {
        let Source::Old(from) = segment.source else {
            continue;
        };
        if now.is_regular_to(segment.at + segment.len) {
            continue;
        }
        for offset in 0..segment.len {
            if !now.contains(segment.at + offset) {
                push(from + offset);
            }
        }
    }
    candidates.sort_by_key(|candidate| candidate.raw);
}

fn restored_candidates<'a>(restored: &'a [Run], candidates: &mut Vec<Candidate<'a>>) {
    for run in restored {
        candidates.extend((run.from..run.to).map(|kept| Candidate {
            raw: None,
            block: &run.block,
            kept,
        }));
    }
}
