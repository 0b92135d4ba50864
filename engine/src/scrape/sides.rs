//! What was read besides values -> the side columns of a record.

use super::exemplars;
use super::outcome::{Report, Stats};
use super::target_state::TargetState;
use super::timestamps::Judged;
use crate::matcher::{Layout, RawExemplar, Scratch, Tables};
use ringscrape_wal::scrape::{SideBytes, SideTimestamp, Sides};

/// Timestamps, exemplars, native histograms and what is not to be sent, by position.
pub(super) fn sides(
    layout: &Layout,
    scratch: &Scratch,
    state: &mut TargetState,
    tables: &Tables,
    judged: &Judged,
    report: &Report,
    stats: &mut Stats,
) -> Option<Box<Sides>> {
    let mut sides = Sides::default();
    let logged = layout.logged();
    let mut positions = layout.positions();
    for &(raw, timestamp_ms) in &judged.accepted {
        if let Some(index) = positions.of(raw) {
            sides.timestamps.push(SideTimestamp {
                index,
                timestamp_ms,
            });
        }
    }
    let mut positions = layout.positions();
    sides
        .skipped
        .extend(judged.rejected.iter().filter_map(|&raw| positions.of(raw)));
    let mut exposed: Vec<u32> = Vec::new();
    for &(raw, place) in &layout.collisions.automatic {
        let stamp = judged.accepted.binary_search_by_key(&raw, |&(raw, _)| raw);
        let at_ms = stamp.map_or(report.timestamp_ms, |index| judged.accepted[index].1);
        if at_ms == report.timestamp_ms && judged.rejected.binary_search(&raw).is_err() {
            exposed.push(logged.len + place);
        }
    }
    exposed.sort_unstable();
    exposed.dedup();
    sides.skipped.extend(exposed);
    if !scratch.exemplars.is_empty() {
        exemplar_sides(
            layout, scratch, state, tables, judged, report, stats, &mut sides,
        );
    }
    let mut positions = layout.positions();
    for histogram in &scratch.histograms {
        if let (Some(index), Ok(bytes)) = (positions.of(histogram.raw), &histogram.form) {
            let bytes = bytes.clone();
            sides.histograms.push(SideBytes { index, bytes });
        }
    }
    let empty = sides == Sides::default();
    (!empty).then(|| Box::new(sides))
}

#[allow(clippy::too_many_arguments)]
fn exemplar_sides(
    layout: &Layout,
    scratch: &Scratch,
    state: &mut TargetState,
    tables: &Tables,
    judged: &Judged,
    report: &Report,
    stats: &mut Stats,
    sides: &mut Sides,
) {
    let found: &[RawExemplar] = &scratch.exemplars;
    let timestamp_ms = |raw: u32| {
        let accepted = judged.accepted.binary_search_by_key(&raw, |&(raw, _)| raw);
        accepted.map_or(report.timestamp_ms, |index| judged.accepted[index].1)
    };
    let taken = exemplars::take(
        layout,
        found,
        &scratch.arena,
        &mut state.exemplars,
        tables.hasher(),
        &judged.rejected,
        timestamp_ms,
    );
    stats.exemplars_dropped = taken.dropped;
    let mut positions = layout.positions();
    for mut exemplar in taken.exemplars {
        if let Some(index) = positions.of(exemplar.index) {
            exemplar.index = index;
            sides.exemplars.push(exemplar);
        }
    }
}
