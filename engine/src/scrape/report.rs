//! Automatic series; scrapes without a body; the end of a target.

use super::change::Tracking;
use super::outcome::{Failure, Outcome, Report, ScrapeError, Stats};
use super::staleness::{self, Stale};
use super::target_state::TargetState;
use crate::matcher::{Derivation, Tables, push_run};
use std::rc::Rc;

/// What the automatic series say of a body.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    pub(super) up: bool,
    pub(super) scraped: u32,
    pub(super) post_relabel: u32,
    pub(super) added: u32,
    /// -1: the body limit was reached; 0: there is no body.
    pub(super) body_bytes: f64,
}

/// Adds the values of the automatic series, in their order.
pub(super) fn push_automatic(
    values: &mut Vec<f64>,
    state: &TargetState,
    report: &Report,
    said: &Said,
) {
    values.extend([
        f64::from(u8::from(said.up)),
        report.duration_s,
        f64::from(said.scraped),
        f64::from(said.post_relabel),
        f64::from(said.added),
    ]);
    if state.rules.extra_scrape_metrics {
        values.extend([
            report.timeout_s,
            state.rules.sample_limit as f64,
            said.body_bytes,
        ]);
    }
}

/// A record of the automatic series and markers only.
#[allow(clippy::too_many_arguments)]
pub(super) fn without_samples(
    tables: &Tables,
    state: &TargetState,
    derivation: &Derivation,
    report: &Report,
    said: &Said,
    stale: Stale,
    error: Option<ScrapeError>,
    stats: Stats,
) -> Outcome {
    let mut values = tables.values(derivation.automatic_layout.len);
    push_automatic(&mut values, state, report, said);
    Outcome {
        timestamp_ms: report.timestamp_ms,
        layout: derivation.automatic_layout.clone(),
        values,
        stats: Stats {
            samples_scraped: said.scraped,
            samples_post_relabel: said.post_relabel,
            series_added: said.added,
            stale_markers: stale.count,
            ..stats
        },
        stale: stale.runs.into(),
        sides: None,
        error,
    }
}

/// A scrape that yielded no body: `up` is 0 and everything that is tracked ends, once.
///
/// A walk that was begun for this scrape is to be dropped.
pub fn fail(
    tables: &mut Tables,
    state: &mut TargetState,
    failure: Failure,
    report: &Report,
) -> Outcome {
    let said = Said {
        body_bytes: match failure {
            Failure::BodySizeLimit { .. } => -1.0,
            Failure::Other(_) => 0.0,
        },
        ..Said::default()
    };
    nothing_seen(tables, state, report, &said, Some(failure.into()))
}

/// Everything that is tracked ends; texts stay known.
pub(super) fn nothing_seen(
    tables: &mut Tables,
    state: &mut TargetState,
    report: &Report,
    said: &Said,
    error: Option<ScrapeError>,
) -> Outcome {
    let derivation = state.derivation(tables);
    let stale = end_all(state, &derivation, report.timestamp_ms);
    state.reported = true;
    without_samples(
        tables,
        state,
        &derivation,
        report,
        said,
        stale,
        error,
        Stats::default(),
    )
}

/// Markers for everything that is tracked; nothing is afterwards.
fn end_all(state: &mut TargetState, derivation: &Derivation, timestamp_ms: i64) -> Stale {
    let layout = state.layout.clone();
    let before = layout.as_deref().map(|layout| Tracking {
        layout,
        to: state.tracked_to,
        except: &state.untracked,
        stamped: state.tracked_stamped,
    });
    let stale = staleness::everything(
        before.as_ref(),
        &state.restored,
        &derivation.automatic,
        &state.target,
        &state.times,
        timestamp_ms,
    );
    if let Some(before) = &before {
        if stale.raw.len() == before.layout.kept as usize && state.written_each_ms.is_none() {
            state.written_ms = timestamp_ms;
        } else {
            let mut each: Box<[i64]> = match state.written_each_ms.take() {
                Some(each) => each,
                None => vec![state.written_ms; before.layout.len() as usize].into(),
            };
            for &raw in &stale.raw {
                each[before.layout.canonical(raw) as usize] = timestamp_ms;
            }
            state.written_each_ms = Some(each);
        }
    }
    if let Some(layout) = &layout {
        state.note_markers(layout, &stale.raw, timestamp_ms);
    }
    state.tracked_to = 0;
    state.untracked.clear();
    state.restored.clear();
    stale
}

/// The target is gone: markers for everything that is tracked and for the automatic series, at
/// the time when it would have been scraped next. `None`: it was never scraped.
///
/// The layout of the outcome is empty. The state is to be dropped.
pub fn end_of_run(
    tables: &mut Tables,
    state: &mut TargetState,
    timestamp_ms: i64,
) -> Option<Outcome> {
    if !state.reported && state.restored.is_empty() {
        return None;
    }
    let derivation: Rc<Derivation> = state.derivation(tables);
    let mut stale = end_all(state, &derivation, timestamp_ms);
    let automatic = &derivation.automatic;
    let count = automatic.entries.len() as u32;
    push_run(&mut stale.runs, automatic, 0, count);
    state.reported = false;
    Some(Outcome {
        timestamp_ms,
        layout: derivation.empty_layout.clone(),
        values: Vec::new(),
        stats: Stats {
            stale_markers: stale.count + count,
            ..Stats::default()
        },
        stale: stale.runs.into(),
        sides: None,
        error: None,
    })
}
