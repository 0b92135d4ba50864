//! The series of a body + limits -> the first sample that fails the scrape.

use super::outcome::ScrapeError;
use super::target_state::TargetState;
use crate::matcher::{HistogramFault, Layout, RawHistogram, Reject, TextRun};

/// The first sample line that fails the scrape because of its labels, and why.
pub(super) fn first_failing(runs: &[TextRun], state: &TargetState) -> Option<(u32, ScrapeError)> {
    let mut raw = 0;
    for run in runs {
        let rejects = &run.derived.rejects;
        let first = rejects.partition_point(|(entry, _)| *entry < run.from);
        let reject = rejects.get(first).filter(|(entry, _)| *entry < run.to);
        let to = reject.map_or(run.to, |(entry, _)| *entry);
        if !state.oversized.is_empty()
            && let Some((entry, error)) = first_oversized(run, to, state)
        {
            return Some((raw + (entry - run.from), error));
        }
        if let Some((entry, reject)) = reject {
            let error = match reject {
                Reject::Series(reason) => ScrapeError::Series(reason.clone()),
                Reject::LabelLimit(reason) => ScrapeError::LabelLimit(reason.clone()),
            };
            return Some((raw + (entry - run.from), error));
        }
        raw += run.to - run.from;
    }
    None
}

/// Whether each native histogram can be logged.
pub(super) fn has_no_fault(histograms: &[RawHistogram]) -> bool {
    histograms.iter().all(|histogram| histogram.form.is_ok())
}

/// The first kept line whose native histogram contradicts itself, and how.
pub(super) fn first_invalid(
    runs: &[TextRun],
    histograms: &[RawHistogram],
) -> Option<(u32, ScrapeError)> {
    let (mut run, mut start) = (0, 0);
    for histogram in histograms {
        let Err(HistogramFault::Invalid(reason)) = &histogram.form else {
            continue;
        };
        let raw = histogram.raw;
        while let Some(passed) = runs.get(run)
            && start + (passed.to - passed.from) <= raw
        {
            start += passed.to - passed.from;
            run += 1;
        }
        let run = runs.get(run)?;
        if run.derived.kept(run.from + (raw - start)).is_some() {
            return Some((raw, ScrapeError::Histogram(reason.clone())));
        }
    }
    None
}

/// Whether a kept line has a native histogram of too many buckets.
pub(super) fn has_too_many_buckets(layout: &Layout, histograms: &[RawHistogram]) -> bool {
    histograms.iter().any(|histogram| {
        histogram.form == Err(HistogramFault::Buckets) && layout.kept(histogram.raw).is_some()
    })
}

/// The first series that has one of the target's own labels whose value is too long.
fn first_oversized(run: &TextRun, to: u32, state: &TargetState) -> Option<(u32, ScrapeError)> {
    for entry in run.from..to {
        let Some(kept) = run.derived.kept(entry) else {
            continue;
        };
        let (_, holes) = run.derived.wal.entry(kept);
        let hole = holes
            .iter()
            .find(|hole| state.oversized.contains(&hole.target_label));
        if let Some(hole) = hole {
            let (name, value) = &state.target.labels[hole.target_label as usize];
            let error = ScrapeError::LabelLimit(format!(
                "label_value_length_limit exceeded (target label: {name:.50}, length: {}, limit: {})",
                value.len(),
                state.rules.label_value_length_limit
            ));
            return Some((entry, error));
        }
    }
    None
}

/// The first sample beyond `sample_limit` (0 = none) among the first `seen` sample lines.
pub(super) fn first_beyond(layout: &Layout, seen: u32, sample_limit: u64) -> Option<u32> {
    if sample_limit == 0 || counted(layout, seen) as u64 <= sample_limit {
        return None;
    }
    let mut count = 0;
    (0..seen).find(|&raw| {
        let again = layout.collisions.get(raw).is_some_and(|same| same.again);
        count += u64::from(layout.kept(raw).is_some() && !again);
        count > sample_limit
    })
}

/// How many of the first `seen` sample lines count for `sample_limit`: those that relabelling
/// kept, without repetitions of the same line.
pub(super) fn counted(layout: &Layout, seen: u32) -> u32 {
    let again = layout
        .collisions
        .same
        .iter()
        .filter(|same| same.again && same.raw < seen);
    layout.kept_before(seen) - again.count() as u32
}
