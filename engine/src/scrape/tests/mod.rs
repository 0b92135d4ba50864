//! Tests of scrapes: named after Prometheus' own where there is one, and against the model.

mod differential;
mod families;
mod generate;
mod handover;
mod matching;
mod prometheus;
mod protobuf;
mod protobuf_random;
mod semantics;

use super::model::Record;
use super::*;
use crate::config::model::ScrapeRules;
use crate::labels::Labels;
use crate::matcher::Tables;
use crate::parse::Dialect;
use crate::relabel::{Action, RuleConfig, Rules};
use ringscrape_wal::definition::Target;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Time between two scrapes of a test.
const STEP_MS: i64 = 15_000;

fn relabel(configs: &[(Action, &[&str], &str, &str, &str)]) -> Rules {
    let configs = configs
        .iter()
        .map(|(action, source, regex, target, replacement)| RuleConfig {
            source_labels: (!source.is_empty())
                .then(|| source.iter().map(|s| s.to_string()).collect()),
            regex: (!regex.is_empty()).then(|| regex.to_string()),
            target_label: target.to_string(),
            replacement: replacement.to_string(),
            action: *action,
            ..RuleConfig::default()
        });
    Rules::new(configs.collect()).unwrap()
}

fn target(id: u64, labels: &[(&str, &str)]) -> Arc<Target> {
    let labels = Labels::from_pairs(labels.iter().copied());
    Arc::new(Target {
        id,
        key: id,
        labels: labels.as_slice().into(),
    })
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

/// One target scraped every `STEP_MS`.
struct Harness {
    tables: Tables,
    state: TargetState,
    now_ms: i64,
    dialect: Dialect,
    last: Option<Outcome>,
}

impl Harness {
    fn new(rules: ScrapeRules) -> Self {
        let target = target(1, &[("instance", "i"), ("job", "j")]);
        Self {
            tables: Tables::new(),
            state: TargetState::new(target, Arc::new(rules)),
            now_ms: 1_000_000_000,
            dialect: Dialect::Text,
            last: None,
        }
    }

    fn report(&mut self, body: &[u8]) -> Report {
        self.now_ms += STEP_MS;
        Report {
            timestamp_ms: self.now_ms,
            now_ms: self.now_ms,
            duration_s: 0.25,
            timeout_s: 10.0,
            body_bytes: body.len() as u64,
        }
    }

    fn scrape(&mut self, body: &str) -> Record {
        self.scrape_bytes(body)
    }

    fn scrape_bytes(&mut self, body: impl AsRef<[u8]>) -> Record {
        let body = body.as_ref();
        let report = self.report(body);
        let mut walk = Walk::begin(&mut self.tables, &self.state, self.dialect);
        if let Ok(used) = walk.feed(body, true) {
            assert_eq!(used, body.len());
        }
        let outcome = walk.finish(&mut self.tables, &mut self.state, &report);
        self.record(outcome)
    }

    fn fail(&mut self) -> Record {
        let report = self.report(b"");
        let failure = Failure::Other("connection refused".into());
        let outcome = fail(&mut self.tables, &mut self.state, failure, &report);
        self.record(outcome)
    }

    fn record(&mut self, outcome: Outcome) -> Record {
        let record = Record::of(&outcome, self.state.target()).expect("a record");
        self.last = Some(outcome);
        record
    }

    fn stats(&self) -> Stats {
        self.last.as_ref().expect("a scrape").stats
    }
}

/// The names of series without the target's labels: `name` or `name{label=value,…}`.
fn names<'a>(series: impl IntoIterator<Item = &'a Labels>) -> Vec<String> {
    let name = |labels: &Labels| {
        let own = ["__name__", "instance", "job"];
        let rest = labels.iter().filter(|(name, _)| !own.contains(name));
        let rest: Vec<_> = rest
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        match rest.is_empty() {
            true => labels.get("__name__").to_owned(),
            false => format!("{}{{{}}}", labels.get("__name__"), rest.join(",")),
        }
    };
    series.into_iter().map(name).collect()
}

fn stale(record: &Record) -> Vec<String> {
    names(&record.stale)
}

/// The exposed samples: name and value.
fn exposed(record: &Record) -> Vec<(String, f64)> {
    let count = record.samples.len() - 5;
    let samples = record.samples[..count].iter();
    samples
        .map(|(series, bits, _)| (names([series]).remove(0), f64::from_bits(*bits)))
        .collect()
}

/// The values of `up`, `scrape_samples_scraped`, `scrape_samples_post_metric_relabeling` and
/// `scrape_series_added`.
fn automatic(record: &Record) -> [f64; 4] {
    let value = |from_end: usize| f64::from_bits(record.samples[record.samples.len() - from_end].1);
    [value(5), value(3), value(2), value(1)]
}

fn is_unique(record: &Record) -> bool {
    let series: BTreeSet<_> = record.samples.iter().map(|(l, _, t)| (l, t)).collect();
    series.len() == record.samples.len()
}
