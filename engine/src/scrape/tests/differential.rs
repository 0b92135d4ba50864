//! Matched, fully parsed and the plain model come to the same record, for random bodies, edits,
//! rules, failures and windows, and two targets that share their blocks.

use super::generate::{Ending, Line, Step, apply, lines, render, scrape_rules, step};
use super::{STEP_MS, target};
use crate::config::model::ScrapeRules;
use crate::matcher::Tables;
use crate::parse::Dialect;
use crate::scrape::model::{Model, Record};
use crate::scrape::{Failure, Outcome, Report, ScrapeError, TargetState, Walk, end_of_run, fail};
use proptest::prelude::*;
use std::sync::Arc;

/// One target, three ways.
struct Trio {
    matched: TargetState,
    parsed: TargetState,
    model: Model,
}

impl Trio {
    fn new(id: u64, labels: &[(&str, &str)], rules: &Arc<ScrapeRules>) -> Self {
        let target = target(id, labels);
        Self {
            matched: TargetState::new(target.clone(), rules.clone()),
            parsed: TargetState::new(target.clone(), rules.clone()),
            model: Model::new(target, rules.clone()),
        }
    }

    fn set_rules(&mut self, rules: &Arc<ScrapeRules>) {
        self.matched.set_rules(rules.clone());
        self.parsed.set_rules(rules.clone());
        self.model.set_rules(rules.clone());
    }

    fn body(
        &mut self,
        tables: &mut Tables,
        dialect: Dialect,
        body: &[u8],
        report: &Report,
        windows: &[u16],
    ) -> Result<(), TestCaseError> {
        let expected = self.model.scrape(dialect, body, report);
        let walk = Walk::begin(tables, &self.matched, dialect);
        let matched = run(walk, tables, &mut self.matched, body, report, windows);
        let walk = Walk::begin_unmatched(tables, dialect);
        let parsed = run(walk, tables, &mut self.parsed, body, report, &[]);
        prop_assert_eq!(place(&matched), place(&parsed));
        check_error(body, &matched)?;
        self.compare("parsed", &parsed, &expected)?;
        self.compare("matched", &matched, &expected)
    }

    fn fail(
        &mut self,
        tables: &mut Tables,
        failure: &Failure,
        report: &Report,
    ) -> Result<(), TestCaseError> {
        let expected = self.model.fail(failure, report);
        let matched = fail(tables, &mut self.matched, failure.clone(), report);
        let parsed = fail(tables, &mut self.parsed, failure.clone(), report);
        self.compare("parsed", &parsed, &expected)?;
        self.compare("matched", &matched, &expected)
    }

    fn end(&mut self, tables: &mut Tables, timestamp_ms: i64) -> Result<(), TestCaseError> {
        let expected = self.model.end_of_run(timestamp_ms);
        let matched = end_of_run(tables, &mut self.matched, timestamp_ms);
        let parsed = end_of_run(tables, &mut self.parsed, timestamp_ms);
        prop_assert_eq!(matched.is_some(), expected.is_some());
        prop_assert_eq!(parsed.is_some(), expected.is_some());
        if let (Some(matched), Some(parsed), Some(expected)) = (matched, parsed, expected) {
            self.compare("parsed", &parsed, &expected)?;
            self.compare("matched", &matched, &expected)?;
        }
        Ok(())
    }

    fn compare(&self, how: &str, have: &Outcome, want: &Record) -> Result<(), TestCaseError> {
        let Some(record) = Record::of(have, self.matched.target()) else {
            return Err(TestCaseError::fail(format!(
                "{how}: not a record: {have:?}"
            )));
        };
        if record == *want {
            return Ok(());
        }
        let lines = |record: &Record| {
            let samples = record.samples.iter().map(|(labels, bits, at)| {
                format!("{:?} {} @{at}", labels.as_slice(), f64::from_bits(*bits))
            });
            let stale = record
                .stale
                .iter()
                .map(|labels| format!("stale {:?}", labels.as_slice()));
            let exemplars = record
                .exemplars
                .iter()
                .map(|exemplar| format!("{exemplar:?}"));
            let rest = format!("error {:?} dropped {:?}", record.error, record.dropped);
            samples
                .chain(stale)
                .chain(exemplars)
                .chain([rest])
                .collect::<Vec<_>>()
        };
        let (have, want) = (lines(&record), lines(want));
        let only = |a: &[String], b: &[String]| {
            let lines = a.iter().filter(|line| !b.contains(line));
            lines.cloned().collect::<Vec<_>>().join("\n  ")
        };
        Err(TestCaseError::fail(format!(
            "{how}\n only here:\n  {}\n only in the model:\n  {}\n",
            only(&have, &want),
            only(&want, &have)
        )))
    }
}

/// What went wrong where; how much of the line is quoted depends on the windows.
fn place(outcome: &Outcome) -> Option<ScrapeError> {
    let mut error = outcome.error.clone();
    if let Some(ScrapeError::Parse { near, .. }) = &mut error {
        near.clear();
    }
    error
}

/// The error's line is where the model text has it.
fn check_error(body: &[u8], outcome: &Outcome) -> Result<(), TestCaseError> {
    if let Some(ScrapeError::Parse { line, column, .. }) = &outcome.error {
        let at = body.split(|&byte| byte == b'\n').nth(*line as usize - 1);
        let len = at.map(<[u8]>::len);
        prop_assert!(
            len.is_some_and(|len| *column as usize <= len + 1),
            "{:?}",
            outcome.error
        );
        if let Some(broken) = body.windows(8).position(|bytes| bytes == b"}broken\n") {
            let before = body[..broken].iter().filter(|&&byte| byte == b'\n').count();
            prop_assert!(*line <= before as u64 + 1);
        }
    }
    Ok(())
}

fn run(
    mut walk: Walk,
    tables: &mut Tables,
    state: &mut TargetState,
    body: &[u8],
    report: &Report,
    windows: &[u16],
) -> Outcome {
    let mut from = 0;
    let mut to = 0usize;
    let mut sizes = windows.iter();
    loop {
        let grow = sizes.next().map_or(usize::MAX, |&size| usize::from(size));
        to = body.len().min(to.saturating_add(grow));
        match walk.feed(&body[from..to], to == body.len()) {
            Err(_) => break,
            Ok(used) => from += used,
        }
        if to == body.len() {
            assert_eq!(from, to, "the last window is consumed");
            break;
        }
    }
    walk.finish(tables, state, report)
}

fn case(
    rules: ScrapeRules,
    mut lines: Vec<Line>,
    steps: Vec<Step>,
    openmetrics: bool,
    windows: Vec<u16>,
    hashed: bool,
) -> Result<(), TestCaseError> {
    let dialect = if openmetrics {
        Dialect::OpenMetrics
    } else {
        Dialect::Text
    };
    let rules = Arc::new(rules);
    let mut tables = Tables::new();
    let mut trios = [
        Trio::new(1, &[("instance", "i1"), ("job", "j")], &rules),
        Trio::new(2, &[("instance", "vé"), ("job", "j")], &rules),
        Trio::new(
            3,
            &[("env", "1"), ("instance", "a-long-one"), ("job", "J")],
            &rules,
        ),
    ];
    let mut now_ms = 1_700_000_000_000;
    let mut story = String::new();
    for (number, step) in steps.iter().enumerate() {
        now_ms += STEP_MS;
        let mut report = Report {
            timestamp_ms: now_ms,
            now_ms: now_ms + 3,
            duration_s: number as f64,
            timeout_s: 10.0,
            body_bytes: 0,
        };
        let body = match step {
            Step::Body(edits, ending) => {
                edits.iter().for_each(|edit| apply(&mut lines, edit));
                render(&lines, dialect, now_ms, *ending, None)
            }
            Step::Broken(edits, at) => {
                edits.iter().for_each(|edit| apply(&mut lines, edit));
                let at = at.index(lines.len() + 1);
                render(&lines, dialect, now_ms, Ending::Whole, Some(at))
            }
            Step::Same => render(&lines, dialect, now_ms, Ending::Whole, None),
            Step::OnlyComments => render(&[], dialect, now_ms, Ending::Comment, None),
            Step::Empty => Vec::new(),
            Step::Fail => {
                story.push_str(&format!("--- {number} fails\n"));
                for trio in &mut trios {
                    trio.fail(&mut tables, &Failure::Other("refused".into()), &report)?;
                }
                continue;
            }
            Step::BodyLimit => {
                for trio in &mut trios {
                    trio.fail(
                        &mut tables,
                        &Failure::BodySizeLimit { limit_bytes: 1 },
                        &report,
                    )?;
                }
                continue;
            }
            Step::Rules(rules) => {
                let rules = Arc::new(ScrapeRules::clone(rules));
                story.push_str(&format!("--- {number} rules {rules:?}\n"));
                trios.iter_mut().for_each(|trio| trio.set_rules(&rules));
                continue;
            }
        };
        report.body_bytes = body.len() as u64;
        let text = String::from_utf8_lossy(&body).replace('\0', "\\0");
        story.push_str(&format!("--- {number} at {now_ms}\n{text}"));
        // New targets may take it for one of theirs.
        let mut other = lines.clone();
        other.truncate(lines.len() - lines.len() / 4);
        other.extend_from_slice(&lines[lines.len() / 2..]);
        let other = render(&other, dialect, now_ms, Ending::Whole, None);
        let mut stranger =
            TargetState::new(target(9, &[("instance", "x"), ("job", "j")]), rules.clone());
        let walk = Walk::begin(&mut tables, &stranger, dialect);
        run(walk, &mut tables, &mut stranger, &other, &report, &[]);
        for trio in &mut trios {
            trio.body(&mut tables, dialect, &body, &report, &windows)
                .map_err(|error| TestCaseError::fail(format!("{error}\n{story}")))?;
        }
        if hashed {
            tables.give_all_texts_up();
        }
        tables.sweep();
    }
    for trio in &mut trios {
        trio.end(&mut tables, now_ms + STEP_MS)?;
    }
    Ok(())
}

/// Cases by default; `PROPTEST_CASES` overrides it.
const CASES: u32 = if cfg!(debug_assertions) { 512 } else { 4096 };

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn matched_and_parsed_equal_the_model(
        rules in scrape_rules(),
        lines in lines(),
        steps in prop::collection::vec(step(), 3..9),
        openmetrics in any::<bool>(),
        windows in prop_oneof![
            Just(Vec::new()),
            prop::collection::vec(1u16..40, 0..200),
            prop::collection::vec(1u16..2000, 0..20),
        ],
        hashed in any::<bool>(),
    ) {
        case(rules, lines, steps, openmetrics, windows, hashed)?;
    }
}
