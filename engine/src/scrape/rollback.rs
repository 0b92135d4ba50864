//! A body that fails its scrape -> the record of the failure, and what stays known.
//!
//! As in Prometheus: what was seen before the failure counts as seen and gets no marker; what was
//! not reached, or lies beyond `sample_limit`, ends. Texts known before stay known.

use super::change::{Change, Tracking};
use super::finish::known_apart;
use super::limits;
use super::outcome::{Outcome, Report, ScrapeError, Stats};
use super::report::{Said, without_samples};
use super::series_added;
use super::staleness;
use super::target_state::{NEVER_MS, TargetState};
use super::timestamps;
use crate::matcher::{Derivation, Layout, Parts, Scratch, Segment, Source, Tables};
use crate::parse::Dialect;
use std::rc::Rc;

/// More texts than twice those of the last success and this many are not kept over failures.
/// Source: Prometheus scrape/scrape.go `iterDone`.
const KEPT_SPARE: u32 = 1000;

/// What was read of a body that fails its scrape.
pub(super) struct Partial {
    /// Of the entries seen.
    pub(super) segments: Vec<Segment>,
    pub(super) dialect: Dialect,
    /// How many entries came before the failure.
    pub(super) seen: u32,
    /// How many sample lines are reported.
    pub(super) scraped: u32,
    pub(super) error: ScrapeError,
    pub(super) stats: Stats,
}

/// Makes the record of the failure.
pub(super) fn roll_back(
    tables: &mut Tables,
    state: &mut TargetState,
    derivation: &Rc<Derivation>,
    scratch: &Scratch,
    mut partial: Partial,
    report: &Report,
) -> Outcome {
    let old = state.layout.clone();
    let seen = partial.seen;
    keep_rest(state, old.as_deref(), &mut partial);
    let segments = &partial.segments;
    let stamps = scratch.stamps.iter().map(|&(raw, _)| raw);
    let parts = Parts {
        dialect: partial.dialect,
        runs: tables.runs(
            derivation,
            partial.dialect,
            old.as_deref(),
            segments,
            &scratch.fresh,
        ),
        stamped: stamps.take_while(|&raw| raw < seen).collect(),
        tail: None,
        target: &state.target,
        fresh: known_apart(old.as_deref(), derivation, segments),
    };
    let layout = tables.layout(derivation, parts);
    let target = state.target.clone();
    let change = Change::new(old.as_deref(), &layout, segments, &target, tables.hasher());
    let limit = state.rules.sample_limit;
    let to = limits::first_beyond(&layout, seen, limit).unwrap_or(seen);

    let judged = timestamps::judge(&change, state, &scratch.stamps, to, report);
    let added = series_added::count(&change, state, seen, to, &judged.rejected);
    let track_stamped = state.rules.track_timestamps_staleness;
    let before = change.old.map(|old| Tracking {
        layout: old,
        to: state.tracked_to,
        except: &state.untracked,
        stamped: state.tracked_stamped,
    });
    let now = Tracking {
        layout: &layout,
        to,
        except: &judged.rejected,
        stamped: track_stamped,
    };
    let stale = staleness::between(
        &change,
        before.as_ref(),
        &state.restored,
        &now,
        &state.times,
        report.timestamp_ms,
    );
    let said = Said {
        up: false,
        scraped: partial.scraped,
        post_relabel: layout.kept_before(seen),
        added: added.count,
        body_bytes: report.body_bytes as f64,
    };
    let duplicates = layout
        .collisions
        .same
        .iter()
        .filter(|same| same.duplicate && same.raw < if same.again { seen } else { to });
    let stats = Stats {
        duplicates: duplicates.count() as u32,
        out_of_order: judged.out_of_order,
        out_of_bounds: judged.out_of_bounds,
        ..partial.stats
    };
    let written_each_ms = written(state, &change, &stale.raw, report.timestamp_ms);
    if let Some(old) = change.old {
        state.note_markers(old, &stale.raw, report.timestamp_ms);
    }
    state.times = change.carry(&state.times);
    state.exemplars = change.carry(&state.exemplars);
    state.tracked_to = to;
    state.tracked_stamped = track_stamped;
    state.untracked = judged.rejected;
    state.uncached = added.uncached;
    state.patched = true;
    state.restored.clear();
    state.written_each_ms = Some(written_each_ms);
    let error = Some(partial.error);
    let outcome = without_samples(
        tables, state, derivation, report, &said, stale, error, stats,
    );
    state.layout = Some(layout);
    outcome
}

/// Adds the old entries that the body did not reach: they are expected and known still.
fn keep_rest(state: &TargetState, old: Option<&Layout>, partial: &mut Partial) {
    let Some(old) = old.filter(|old| old.dialect == partial.dialect) else {
        return;
    };
    let mut taken: Vec<(u32, u32)> = Vec::new();
    for segment in &partial.segments {
        if let Source::Old(from) = segment.source {
            taken.push((from, from + segment.len));
        }
    }
    taken.sort_unstable();
    taken.push((old.len(), old.len()));
    let taken_len: u32 = taken.iter().map(|(from, to)| to - from).sum();
    let most = u64::from(state.successful_len) * 2 + u64::from(KEPT_SPARE);
    if u64::from(partial.seen) + u64::from(old.len() - taken_len) > most {
        return;
    }
    let mut at = partial.seen;
    let mut next = 0;
    for (from, to) in taken {
        if from > next {
            partial.segments.push(Segment {
                at,
                len: from - next,
                source: Source::Old(next),
            });
            at += from - next;
        }
        next = to;
    }
}

/// When the series of each entry of the new layout was written last; right for canonical entries.
fn written(
    state: &TargetState,
    change: &Change<'_>,
    stale: &[u32],
    timestamp_ms: i64,
) -> Box<[i64]> {
    let mut stale: Vec<u32> = stale
        .iter()
        .filter_map(|&raw| change.old.map(|old| old.canonical(raw)))
        .collect();
    stale.sort_unstable();
    let each = (0..change.new.len()).map(|raw| {
        let Some(old_raw) = change.old_series(raw) else {
            return NEVER_MS;
        };
        if stale.binary_search(&old_raw).is_ok() {
            return timestamp_ms;
        }
        let stamped = change.old.is_some_and(|old| old.is_stamped(old_raw));
        if stamped && state.written_each_ms.is_none() {
            return NEVER_MS;
        }
        state.written_ms(old_raw).unwrap_or(NEVER_MS)
    });
    each.collect()
}
