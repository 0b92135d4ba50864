//! The oracle: one scrape as Prometheus' append loop does it, with maps and plain labels.
//!
//! Every body is parsed whole, every line relabelled on its own. Slow and obvious; the walk along
//! layouts must come to the same [`Record`]. Source: Prometheus scrape/scrape.go `append`,
//! `checkAddError`, `scrapeCache`; tsdb/agent/db.go `Append`. The deviations are those of `scrape`.

use super::outcome::{Failure, Outcome, Report, ScrapeError};
use crate::config::model::ScrapeRules;
use crate::labels::{Labels, LabelsBuilder, Value};
use crate::matcher::SeriesRules;
use crate::matcher::template::labels_of;
use crate::parse::{self, Dialect, Exemplar, Next, Piece};
use crate::relabel::Verdict;
use ringscrape_wal::definition::{FamilyKind, Run, Target};
use ringscrape_wal::scrape::STALE_NAN_BITS;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// A sample: series, bits of the value, timestamp in milliseconds.
pub type Sample = (Labels, u64, i64);

/// An exemplar: series, label set, bits of the value, timestamp in milliseconds.
pub type ExemplarOf = (Labels, Vec<(String, String)>, u64, i64);

/// An exemplar as exposed: label set, bits of the value, timestamp.
type Shown = (Vec<(String, String)>, u64, Option<i64>);

/// What a scrape says, free of how it is stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// Exposed and automatic samples, in order.
    pub samples: Vec<Sample>,
    /// Series that get a marker.
    pub stale: BTreeSet<Labels>,
    /// Sorted.
    pub exemplars: Vec<ExemplarOf>,
    /// What kind of error there was.
    pub error: Option<&'static str>,
    /// Samples dropped: duplicate, out of order, too far ahead.
    pub dropped: [u32; 3],
}

impl Record {
    /// What `outcome` says of `target`. `None`: its blocks are damaged, or its parts don't fit.
    pub fn of(outcome: &Outcome, target: &Target) -> Option<Self> {
        let series = each(&outcome.layout.runs, target)?;
        if series.len() != outcome.values.len() || series.len() != outcome.layout.len as usize {
            return None;
        }
        let sides = outcome.sides.as_deref().cloned().unwrap_or_default();
        let times: HashMap<_, _> = sides
            .timestamps
            .iter()
            .map(|side| (side.index, side.timestamp_ms))
            .collect();
        let mut record = Self {
            error: outcome.error.as_ref().map(kind_of),
            dropped: [
                outcome.stats.duplicates,
                outcome.stats.out_of_order,
                outcome.stats.out_of_bounds,
            ],
            ..Self::default()
        };
        for (index, (labels, value)) in series.iter().zip(&outcome.values).enumerate() {
            let index = index as u32;
            if sides.skipped.binary_search(&index).is_err() {
                let timestamp_ms = times.get(&index).copied().unwrap_or(outcome.timestamp_ms);
                record
                    .samples
                    .push((labels.clone(), value.to_bits(), timestamp_ms));
            }
        }
        for exemplar in &sides.exemplars {
            let pairs = exemplar
                .labels
                .iter()
                .map(|(n, v)| (n.to_string(), v.to_string()));
            record.exemplars.push((
                series.get(exemplar.index as usize)?.clone(),
                pairs.collect(),
                exemplar.value.to_bits(),
                exemplar.timestamp_ms,
            ));
        }
        record.exemplars.sort();
        let stale = each(&outcome.stale, target)?;
        let count = stale.len();
        record.stale = stale.into_iter().collect();
        (record.stale.len() == count).then_some(record)
    }

    /// The same record as a receiver sees it: series and time to value, markers included.
    pub fn points(&self, timestamp_ms: i64) -> BTreeMap<(Labels, i64), u64> {
        let samples = self.samples.iter().map(|(l, v, t)| ((l.clone(), *t), *v));
        let stale = self
            .stale
            .iter()
            .map(|l| ((l.clone(), timestamp_ms), STALE_NAN_BITS));
        samples.chain(stale).collect()
    }
}

fn each(runs: &[Run], target: &Target) -> Option<Vec<Labels>> {
    let entries = runs
        .iter()
        .flat_map(|run| (run.from..run.to).map(|index| (&run.block, index)));
    entries
        .map(|(block, index)| labels_of(block, index, target))
        .collect()
}

fn kind_of(error: &ScrapeError) -> &'static str {
    match error {
        ScrapeError::Parse { .. } | ScrapeError::Protobuf { .. } => "parse",
        ScrapeError::Histogram(_) | ScrapeError::BucketLimit { .. } => "histogram",
        ScrapeError::Series(_) => "series",
        ScrapeError::LabelLimit(_) => "label limit",
        ScrapeError::SampleLimit { .. } => "sample limit",
        ScrapeError::Incomplete => "incomplete",
        ScrapeError::Failed(_) => "failed",
    }
}

/// One target.
#[derive(Debug)]
pub struct Model {
    target: Arc<Target>,
    rules: Arc<ScrapeRules>,
    /// Series texts that do not count as added, with what they became (deviation 2).
    cache: HashSet<(Vec<u8>, Labels)>,
    tracked: BTreeSet<Labels>,
    last_ms: HashMap<Labels, i64>,
    last_exemplar: HashMap<Labels, Shown>,
    reported: bool,
}

/// One pass over a body.
#[derive(Default)]
struct Pass {
    total: u32,
    post_relabel: u32,
    added: u32,
    counted: u64,
    over_limit: bool,
    error: Option<&'static str>,
    dropped: [u32; 3],
    /// Texts with their series that occurred, whatever became of their samples.
    lines: HashSet<(Vec<u8>, Labels)>,
    series: BTreeSet<Labels>,
    plain: BTreeSet<Labels>,
    cache: HashSet<(Vec<u8>, Labels)>,
    tracked: BTreeSet<Labels>,
    last_ms: HashMap<Labels, i64>,
    samples: Vec<Sample>,
    exemplars: Vec<ExemplarOf>,
    last_exemplar: HashMap<Labels, Shown>,
}

impl Model {
    /// A target that was never scraped.
    pub fn new(target: Arc<Target>, rules: Arc<ScrapeRules>) -> Self {
        Self {
            target,
            rules,
            cache: HashSet::new(),
            tracked: BTreeSet::new(),
            last_ms: HashMap::new(),
            last_exemplar: HashMap::new(),
            reported: false,
        }
    }

    /// Other rules. If they can change the series, nothing is cached any more.
    pub fn set_rules(&mut self, rules: Arc<ScrapeRules>) {
        let same = SeriesRules::of(&self.rules) == SeriesRules::of(&rules)
            && self.rules.honor_timestamps == rules.honor_timestamps
            && self.rules.track_timestamps_staleness == rules.track_timestamps_staleness;
        if !same {
            self.cache.clear();
            self.last_ms.clear();
            self.last_exemplar.clear();
        }
        self.rules = rules;
    }

    /// A scrape without a body.
    pub fn fail(&mut self, failure: &Failure, report: &Report) -> Record {
        let body_bytes = match failure {
            Failure::BodySizeLimit { .. } => -1.0,
            Failure::Other(_) => 0.0,
        };
        self.nothing_seen(report, Some("failed"), body_bytes)
    }

    /// The target is gone.
    pub fn end_of_run(&mut self, timestamp_ms: i64) -> Option<Record> {
        if !std::mem::take(&mut self.reported) {
            return None;
        }
        let mut stale = self.go_stale(&BTreeSet::new(), timestamp_ms);
        stale.extend(self.automatic_labels());
        Some(Record {
            stale,
            ..Record::default()
        })
    }

    /// A scrape with a body.
    pub fn scrape(&mut self, dialect: Dialect, body: &[u8], report: &Report) -> Record {
        if body.is_empty() {
            return self.nothing_seen(report, None, 0.0);
        }
        let mut pass = Pass {
            last_ms: self.last_ms.clone(),
            last_exemplar: self.last_exemplar.clone(),
            ..Pass::default()
        };
        let mut rest = body;
        let mut kind = FamilyKind::Unknown;
        while pass.error.is_none() {
            match parse::next_piece(dialect, rest, true) {
                Err(_) => pass.error = Some("parse"),
                Ok(Next::Sample(piece)) => {
                    kind = parse::kind_in_force(dialect, piece.prefix, kind);
                    rest = &rest[piece.len..];
                    self.sample(&mut pass, dialect, kind, &piece, report);
                }
                Ok(_) => break,
            }
        }
        if pass.over_limit && pass.error.is_none() {
            pass.error = Some("sample limit");
        }
        let stale = self.go_stale(&pass.tracked, report.timestamp_ms);
        let mut record = Record {
            stale,
            error: pass.error,
            dropped: pass.dropped,
            ..Record::default()
        };
        if pass.error.is_none() {
            self.cache.extend(pass.cache);
            self.cache.retain(|line| pass.lines.contains(line));
            for (series, last_ms) in &mut pass.last_ms {
                *last_ms = (*last_ms).max(self.last_ms.get(series).copied().unwrap_or(i64::MIN));
            }
            self.last_ms = pass.last_ms;
            self.last_ms
                .retain(|series, _| pass.series.contains(series));
            self.last_exemplar = pass.last_exemplar;
            self.last_exemplar
                .retain(|series, _| pass.series.contains(series));
            record.samples = pass.samples;
            record.exemplars = pass.exemplars;
            record.exemplars.sort();
        } else {
            self.cache.extend(pass.cache);
        }
        self.tracked = pass.tracked;
        let values = [
            f64::from(u8::from(pass.error.is_none())),
            report.duration_s,
            f64::from(pass.total),
            f64::from(pass.post_relabel),
            f64::from(pass.added),
            report.timeout_s,
            self.rules.sample_limit as f64,
            report.body_bytes as f64,
        ];
        // Deviation 4: what the target exposes itself for this time is not written twice.
        let exposed: BTreeSet<_> = record
            .samples
            .iter()
            .cloned()
            .map(|(l, _, t)| (l, t))
            .collect();
        for (labels, value) in self.automatic_labels().into_iter().zip(values) {
            let here = (labels, report.timestamp_ms);
            if !exposed.contains(&here) {
                record.samples.push((here.0, value.to_bits(), here.1));
            }
        }
        self.reported = true;
        record
    }

    fn sample(
        &self,
        pass: &mut Pass,
        dialect: Dialect,
        kind: FamilyKind,
        piece: &Piece<'_>,
        report: &Report,
    ) {
        let rules = &*self.rules;
        let explicit_ms = piece.timestamp_ms.filter(|_| rules.honor_timestamps);
        pass.total += 1;
        let labels = match self.relabelled(dialect, piece.series, kind) {
            Ok(Some(labels)) => labels,
            Ok(None) => return,
            Err(error) => {
                pass.error = Some(error);
                return;
            }
        };
        pass.post_relabel += 1;
        pass.series.insert(labels.clone());
        let line = (piece.series.to_vec(), labels.clone());
        let again = !pass.lines.insert(line.clone());
        let timestamp_ms = explicit_ms.unwrap_or(report.timestamp_ms);
        let mut appended = false;
        let mut rejected = false;
        if again && explicit_ms.is_none() {
            pass.dropped[0] += 1;
        } else {
            pass.counted += 1;
            let first_plain = explicit_ms.is_some() || pass.plain.insert(labels.clone());
            let last_ms = pass.last_ms.get(&labels);
            if rules.sample_limit > 0 && pass.counted > rules.sample_limit {
                pass.over_limit = true;
                rejected = true;
            } else if explicit_ms.is_some_and(|ms| ms > report.now_ms + 600_000) {
                pass.dropped[2] += 1;
                rejected = true;
            } else if !first_plain {
                // Deviation 1: Prometheus appends it, but one sample of a series is enough.
                pass.dropped[0] += 1;
                appended = true;
            } else if last_ms.is_some_and(|&last_ms| timestamp_ms <= last_ms) {
                pass.dropped[1] += 1;
                rejected = true;
            } else {
                appended = true;
                pass.last_ms.insert(labels.clone(), timestamp_ms);
                pass.samples
                    .push((labels.clone(), piece.value.to_bits(), timestamp_ms));
                if explicit_ms.is_none() || rules.track_timestamps_staleness {
                    pass.tracked.insert(labels.clone());
                }
            }
        }
        if appended && !self.cache.contains(&line) && pass.cache.insert(line) && !pass.over_limit {
            pass.added += 1;
        }
        if let Some(exemplar) = &piece.exemplar
            && !rejected
        {
            exemplar_of(pass, labels, exemplar, timestamp_ms);
        }
    }

    /// The final labels of a series; `None` if a rule drops it.
    fn relabelled(
        &self,
        dialect: Dialect,
        series: &[u8],
        kind: FamilyKind,
    ) -> Result<Option<Labels>, &'static str> {
        let rules = &*self.rules;
        let mut labels = LabelsBuilder::new();
        parse::series_labels(dialect, series, kind, &mut labels).map_err(|_| "series")?;
        let exposed = labels.clone();
        let empty = parse::empty_labels(dialect, series);
        let mut conflicts: Vec<(&str, &str)> = Vec::new();
        for (name, value) in &self.target.labels {
            let is_exposed = exposed.get(name).is_some();
            if rules.honor_labels && (is_exposed || empty.iter().any(|have| **have == **name)) {
                continue;
            }
            if is_exposed {
                conflicts.push((name, exposed.text(name)));
            }
            labels.set_text(name, value);
        }
        conflicts.sort_by_key(|(name, _)| name.len());
        for (name, value) in conflicts {
            let mut renamed = format!("exported_{name}");
            while !labels.text(&renamed).is_empty() {
                renamed = format!("exported_{renamed}");
            }
            labels.set_text(&renamed, value);
        }
        if rules.metric_relabel_configs.apply(&mut labels) == Verdict::Drop || labels.is_empty() {
            return Ok(None);
        }
        if labels.text("__name__").is_empty() {
            return Err("series");
        }
        let over = |have: usize, limit: u64| limit > 0 && have as u64 > limit;
        let too_long = labels.iter().any(|(name, value)| {
            over(name.len(), rules.label_name_length_limit)
                || matches!(value, Value::Text(v) if over(v.len(), rules.label_value_length_limit))
        });
        if over(labels.len(), rules.label_limit) || too_long {
            return Err("label limit");
        }
        Ok(Some(labels.into_labels()))
    }

    fn nothing_seen(
        &mut self,
        report: &Report,
        error: Option<&'static str>,
        body_bytes: f64,
    ) -> Record {
        let stale = self.go_stale(&BTreeSet::new(), report.timestamp_ms);
        self.tracked.clear();
        self.reported = true;
        let up = f64::from(u8::from(error.is_none()));
        let limit = self.rules.sample_limit as f64;
        let values = [
            up,
            report.duration_s,
            0.0,
            0.0,
            0.0,
            report.timeout_s,
            limit,
            body_bytes,
        ];
        let automatic = self.automatic_labels().into_iter().zip(values);
        Record {
            samples: automatic
                .map(|(l, v)| (l, v.to_bits(), report.timestamp_ms))
                .collect(),
            stale,
            error,
            ..Record::default()
        }
    }

    /// The series that were tracked and are not `now`.
    fn go_stale(&mut self, now: &BTreeSet<Labels>, timestamp_ms: i64) -> BTreeSet<Labels> {
        let automatic: BTreeSet<_> = self.automatic_labels().into_iter().collect();
        let mut stale: BTreeSet<_> = self.tracked.difference(now).cloned().collect();
        stale.retain(|series| {
            let newer = self
                .last_ms
                .get(series)
                .is_none_or(|&last_ms| last_ms < timestamp_ms);
            newer && !automatic.contains(series)
        });
        for series in &stale {
            self.last_ms.insert(series.clone(), timestamp_ms);
        }
        stale
    }

    fn automatic_labels(&self) -> Vec<Labels> {
        let count = if self.rules.extra_scrape_metrics {
            8
        } else {
            5
        };
        let names = [
            "up",
            "scrape_duration_seconds",
            "scrape_samples_scraped",
            "scrape_samples_post_metric_relabeling",
            "scrape_series_added",
            "scrape_timeout_seconds",
            "scrape_sample_limit",
            "scrape_body_size_bytes",
        ];
        let target = self
            .target
            .labels
            .iter()
            .map(|(name, value)| (&**name, &**value));
        let names = names[..count].iter();
        names
            .map(|&name| Labels::from_pairs(target.clone().chain([("__name__", name)])))
            .collect()
    }
}

fn exemplar_of(pass: &mut Pass, series: Labels, exemplar: &Exemplar<'_>, timestamp_ms: i64) {
    let mut labels = parse::exemplar_labels(exemplar.labels);
    labels.retain(|(_, value)| !value.is_empty());
    labels.sort();
    let names: BTreeSet<_> = labels.iter().map(|(name, _)| name).collect();
    let runes: usize = labels
        .iter()
        .map(|(n, v)| n.chars().count() + v.chars().count())
        .sum();
    if names.len() < labels.len() || runes > 128 {
        return;
    }
    let this = (
        labels.clone(),
        exemplar.value.to_bits(),
        exemplar.timestamp_ms,
    );
    if pass.last_exemplar.insert(series.clone(), this.clone()) != Some(this) {
        let timestamp_ms = exemplar.timestamp_ms.unwrap_or(timestamp_ms);
        pass.exemplars
            .push((series, labels, exemplar.value.to_bits(), timestamp_ms));
    }
}
