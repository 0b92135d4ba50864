//! Arbitrary bytes -> a panic if a protobuf body breaks a promise of its reader.

use super::outcome::{Outcome, Report, ScrapeError};
use super::target_state::TargetState;
use super::{Walk, model};
use crate::config::model::ScrapeRules;
use crate::matcher::Tables;
use crate::parse::Dialect;
use ringscrape_wal::definition::Target;
use std::sync::Arc;

/// Reads `data` as a protobuf body, whole, again, and in windows that `data` decides; its first
/// byte chooses the rules.
///
/// # Panics
/// If windows change the outcome, if a second scrape does not know the series of the first, or if
/// the matcher refuses a line.
pub fn protobuf(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else {
        return;
    };
    let honors = choice & 16 != 0;
    let rules = Arc::new(ScrapeRules {
        scrape_native_histograms: choice & 1 != 0,
        always_scrape_classic_histograms: choice & 2 != 0,
        native_histogram_bucket_limit: if choice & 4 != 0 { 3 } else { 0 },
        native_histogram_schema_max: if choice & 8 != 0 { 0 } else { 8 },
        honor_timestamps: honors,
        ..ScrapeRules::default()
    });
    let target = Arc::new(Target {
        id: 1,
        key: 1,
        labels: [("instance".into(), "i".into())].into(),
    });
    let mut tables = Tables::new();
    let mut state = TargetState::new(target.clone(), rules.clone());
    let whole = scrape(&mut tables, &mut state, body, body.len(), 1);
    let again = scrape(&mut tables, &mut state, body, body.len(), 2);
    let mut other = TargetState::new(target.clone(), rules);
    let step = 1 + usize::from(choice >> 5) * 7;
    let windowed = scrape(&mut Tables::new(), &mut other, body, step, 1);
    let record = model::Record::of(&whole, &target).expect("BUG: a record that does not fit");
    let same = model::Record::of(&windowed, &target).expect("BUG: a record that does not fit");
    assert_eq!(record, same, "windows change the outcome");
    assert_eq!(whole.error, windowed.error);
    let histograms = |outcome: &Outcome| {
        let sides = outcome.sides.as_deref().cloned();
        sides.unwrap_or_default().histograms
    };
    assert_eq!(histograms(&whole), histograms(&windowed));
    match &whole.error {
        Some(ScrapeError::Protobuf { reason, .. }) => {
            assert!(!reason.starts_with("as a line"), "{reason}");
        }
        Some(_) => {}
        None => {
            assert_eq!(again.error, None);
            // A timestamp may be refused once and taken later.
            assert!(
                honors || again.stats.series_added == 0,
                "the series are known"
            );
        }
    }
}

fn scrape(
    tables: &mut Tables,
    state: &mut TargetState,
    body: &[u8],
    step: usize,
    number: i64,
) -> Outcome {
    let report = Report {
        timestamp_ms: number * 15_000,
        now_ms: number * 15_000,
        duration_s: 0.0,
        timeout_s: 10.0,
        body_bytes: body.len() as u64,
    };
    let mut walk = Walk::begin(tables, state, Dialect::Protobuf);
    let mut rest = body;
    loop {
        let (window, after) = rest.split_at(step.min(rest.len()));
        let last = after.is_empty();
        if walk.feed(window, last).is_err() || last {
            break;
        }
        rest = after;
    }
    walk.finish(tables, state, &report)
}
