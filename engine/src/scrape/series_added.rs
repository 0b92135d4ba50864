//! What a scrape shows for the first time -> `scrape_series_added`.
//!
//! Prometheus counts texts of series, not series: a text is known if its sample was appended in the
//! last
//! successful scrape or in a failed one since. A line whose HELP changed is not new.
//!
//! Source: Prometheus scrape/scrape.go `scrapeCache`.

use super::change::Change;
use super::target_state::TargetState;
use crate::matcher::template::write_identity;
use crate::matcher::{Layout, Source};
use ringscrape_wal::definition::Block;
use std::collections::HashSet;

/// What is new in a scrape.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// `scrape_series_added`.
    pub(super) count: u32,
    /// Ranges of new raw indices that are still not known after it, rising.
    pub(super) uncached: Vec<(u32, u32)>,
}

/// Counts. Samples from raw index `to` on were not appended; nor were the `rejected`. Entries from
/// `seen` on are not of this body: they are kept from the layout before.
pub(super) fn count(
    change: &Change<'_>,
    state: &TargetState,
    seen: u32,
    to: u32,
    rejected: &[u32],
) -> Added {
    let mut added = Added::default();
    let unknown_ranges = candidates(change, state);
    if unknown_ranges.is_empty() {
        return added;
    }
    let new = change.new;
    let known = Known::new(change, state, seen);
    let taken_over = taken_over(state);
    let repeated = !new.collisions.same.is_empty();
    if let [(from, end)] = unknown_ranges[..]
        && known.is_empty()
        && taken_over.is_empty()
        && !repeated
        && rejected.is_empty()
        && end <= to
    {
        added.count = new.kept_before(end) - new.kept_before(from);
        return added;
    }
    // Equal lines of one body are equal series.
    let mut first_seen = HashSet::new();
    for (from, end) in unknown_ranges {
        for raw in from..end {
            let Some((block, kept)) = new.kept(raw) else {
                continue;
            };
            if known.contains(change, raw)
                || (!taken_over.is_empty() && taken_over.contains(&identity(state, block, kept)))
            {
                continue;
            }
            let line = || line(change, new, raw);
            if repeated && line().is_some_and(|line| first_seen.contains(&line)) {
                continue;
            }
            let again = new.collisions.get(raw).is_some_and(|same| same.again);
            if raw < to && !again && rejected.binary_search(&raw).is_err() {
                if repeated {
                    first_seen.extend(line());
                }
                added.count += 1;
            } else {
                match added.uncached.last_mut() {
                    Some(last) if last.1 == raw => last.1 += 1,
                    _ => added.uncached.push((raw, raw + 1)),
                }
            }
        }
    }
    added
}

/// The series that the node before knew. It tells no texts, so a series under a new text counts as
/// known too.
fn taken_over(state: &TargetState) -> HashSet<Vec<u8>> {
    let mut series = HashSet::new();
    for run in &state.taken_over {
        series.extend((run.from..run.to).map(|kept| identity(state, &run.block, kept)));
    }
    series
}

fn identity(state: &TargetState, block: &Block, kept: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_identity(block, kept, Some(&state.target), &mut bytes);
    bytes
}

/// Ranges of new raw indices whose text is not surely known, rising.
fn candidates(change: &Change<'_>, state: &TargetState) -> Vec<(u32, u32)> {
    let mut ranges = Vec::new();
    for segment in change.segments {
        let Source::Old(from) = segment.source else {
            ranges.push((segment.at, segment.at + segment.len));
            continue;
        };
        for &(low, high) in &state.uncached {
            let (low, high) = (low.max(from), high.min(from + segment.len));
            if low < high {
                ranges.push((segment.at + low - from, segment.at + high - from));
            }
        }
    }
    ranges
}

/// Text and series of a sample line, if relabelling kept it. The same text under another TYPE can
/// be another series.
type Line = (Vec<u8>, Vec<u8>);

fn line(change: &Change<'_>, layout: &Layout, raw: u32) -> Option<Line> {
    let (block, kept) = layout.kept(raw)?;
    let mut identity = Vec::new();
    write_identity(block, kept, Some(change.target), &mut identity);
    let mut text = Vec::new();
    let text = layout.series(raw, &mut text).to_vec();
    Some((text, identity))
}

/// Known lines that can occur among the candidates: those that left, and those of series that
/// stand in the body more than once.
struct Known {
    /// Hash of the text and raw index in the old layout, sorted.
    lines: Vec<(u64, u32)>,
}

impl Known {
    fn new(change: &Change<'_>, state: &TargetState, seen: u32) -> Self {
        let mut known = Self { lines: Vec::new() };
        let Some(old) = change.old else {
            return known;
        };
        let is_known = |raw: u32| {
            let next = state.uncached.partition_point(|&(_, to)| to <= raw);
            let uncached = state
                .uncached
                .get(next)
                .is_some_and(|&(from, _)| from <= raw);
            !uncached
        };
        let mut text = Vec::new();
        let mut add = |raw: u32| {
            if is_known(raw) && old.kept(raw).is_some() {
                let hash = change.hasher.hash_one(old.series(raw, &mut text));
                known.lines.push((hash, raw));
            }
        };
        let kept_on = change
            .segments
            .iter()
            .filter_map(|segment| match segment.source {
                Source::Old(from) if segment.at >= seen => Some((from, from + segment.len)),
                _ => None,
            });
        for (from, to) in change.removed().into_iter().chain(kept_on) {
            (from..to).for_each(&mut add);
        }
        for same in &change.new.collisions.same {
            for raw in [same.first, same.raw] {
                if let Some(text) = change.old_text(raw) {
                    add(text);
                }
            }
        }
        known.lines.sort_unstable();
        known
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether the line at `raw` of the new layout is one of these.
    fn contains(&self, change: &Change<'_>, raw: u32) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut text = Vec::new();
        let hash = change.hasher.hash_one(change.new.series(raw, &mut text));
        let first = self.lines.partition_point(|&(have, _)| have < hash);
        let equal = self.lines[first..]
            .iter()
            .take_while(|&&(have, _)| have == hash);
        let mut known = equal.filter_map(|&(_, raw)| line(change, change.old?, raw));
        known.any(|known| Some(known) == line(change, change.new, raw))
    }
}
