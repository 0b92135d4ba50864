//! Explicit timestamps -> which samples are in order.
//!
//! Only series that have or had explicit timestamps remember their last one; that of the others is
//! the time when the target was written last.
//!
//! Source: Prometheus tsdb/agent/db.go `Append` (a sample must be newer than the last one),
//! scrape/target.go `timeLimitAppender`.

use super::change::Change;
use super::outcome::Report;
use super::target_state::TargetState;
use std::collections::{BTreeSet, HashMap};

/// How far ahead of the clock a sample may be.
const AHEAD_MAX_MS: i64 = 10 * 60 * 1000;

/// What became of the samples of one scrape.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Samples that are not to be sent, rising.
    pub(super) rejected: Vec<u32>,
    /// Raw index and timestamp of the samples with an explicit one, rising.
    pub(super) accepted: Vec<(u32, i64)>,
    /// How many of the rejected are not newer than the last one of their series.
    pub(super) out_of_order: u32,
    /// How many of the rejected are too far ahead.
    pub(super) out_of_bounds: u32,
    /// The last timestamps, by canonical index of the new layout.
    pub(super) times: HashMap<u32, i64>,
}

/// Judges the samples before raw index `to`. `stamps`: raw index and explicit timestamp, rising.
pub(super) fn judge(
    change: &Change<'_>,
    state: &TargetState,
    stamps: &[(u32, i64)],
    to: u32,
    report: &Report,
) -> Judged {
    let mut judged = Judged::default();
    if stamps.is_empty() && state.times.is_empty() {
        return judged;
    }
    let new = change.new;
    let carried = change.carry(&state.times);
    let mut last_ms = carried.clone();
    let mut stamped_series = BTreeSet::new();
    for raw in affected(change, stamps, &carried, to) {
        if new.kept(raw).is_none() || new.is_duplicate(raw) {
            continue;
        }
        let series = new.canonical(raw);
        let last = match last_ms.get(&series) {
            Some(&last) => Some(last),
            None => written_ms(change, state, series),
        };
        let stamp = stamps.binary_search_by_key(&raw, |&(raw, _)| raw);
        let timestamp_ms = match stamp {
            Ok(index) => {
                stamped_series.insert(series);
                stamps[index].1
            }
            Err(_) => report.timestamp_ms,
        };
        let too_far = stamp.is_ok() && timestamp_ms > report.now_ms.saturating_add(AHEAD_MAX_MS);
        if too_far || last.is_some_and(|last| timestamp_ms <= last) {
            judged.rejected.push(raw);
            match too_far {
                true => judged.out_of_bounds += 1,
                false => judged.out_of_order += 1,
            }
            if let Some(last) = last {
                last_ms.insert(series, last);
            }
            continue;
        }
        last_ms.insert(series, timestamp_ms);
        if stamp.is_ok() {
            judged.accepted.push((raw, timestamp_ms));
        }
    }
    last_ms.retain(|series, last| stamped_series.contains(series) || *last > report.timestamp_ms);
    judged.times = last_ms;
    judged
}

/// The samples before `to` whose timestamp has to be looked at, rising: those with one of their
/// own, and the others of series that have or had one.
fn affected(
    change: &Change<'_>,
    stamps: &[(u32, i64)],
    carried: &HashMap<u32, i64>,
    to: u32,
) -> BTreeSet<u32> {
    let mut affected: BTreeSet<u32> = stamps.iter().map(|&(raw, _)| raw).collect();
    affected.extend(carried.keys());
    for same in &change.new.collisions.same {
        affected.insert(same.raw);
        affected.insert(same.first);
    }
    affected.split_off(&to);
    affected
}

/// When a series without timestamps of its own was written last.
fn written_ms(change: &Change<'_>, state: &TargetState, series: u32) -> Option<i64> {
    let raw = change.old_series(series)?;
    // A series with timestamps of its own has its last one in `times`, if any was accepted. After
    // a failure the times are kept per entry.
    let stamped = change.old.is_some_and(|old| old.is_stamped(raw));
    let unknown = stamped && state.written_each_ms.is_none();
    if unknown { None } else { state.written_ms(raw) }
}
