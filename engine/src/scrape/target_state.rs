//! What a shard remembers of one target between scrapes.

use crate::config::model::ScrapeRules;
use crate::matcher::{Derivation, Layout, SeriesRules, Tables, push_run};
use ringscrape_wal::definition as wal;
use ringscrape_wal::scrape::Scrape;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// No sample of a series was written yet.
pub(super) const NEVER_MS: i64 = i64::MIN;

/// One target: the layout that its next body is expected to follow, and what of it is tracked.
///
/// All indices are raw indices of `layout`. Usually everything in it is tracked and the lists are
/// empty; after a rolled-back scrape the layout is what was seen of the body, then what is left of
/// the layout before, and only a part of it is tracked.
#[derive(Debug)]
pub struct TargetState {
    pub(super) target: Arc<wal::Target>,
    pub(super) rules: Arc<ScrapeRules>,
    /// Taken from the tables at first use; `None` again after a change of rules.
    pub(super) derivation: Option<Rc<Derivation>>,
    pub(super) layout: Option<Rc<Layout>>,
    /// Entries from here on are not tracked.
    pub(super) tracked_to: u32,
    /// Entries with an explicit timestamp are tracked too.
    pub(super) tracked_stamped: bool,
    /// Entries before `tracked_to` that are not tracked either, rising.
    pub(super) untracked: Vec<u32>,
    /// Ranges of entries that do not count as known for `scrape_series_added`, rising.
    pub(super) uncached: Vec<(u32, u32)>,
    /// The layout is not the one of a successful scrape.
    pub(super) patched: bool,
    /// Tracked series of the log's last record, from before a restart, or of the node before.
    pub(super) restored: Vec<wal::Run>,
    /// Series that the node before knew: they do not count as added. The layout says the same once
    /// a scrape has succeeded.
    pub(super) taken_over: Vec<wal::Run>,
    /// Last timestamp of series with explicit ones, by canonical index.
    pub(super) times: HashMap<u32, i64>,
    /// Hash of the last exemplar of a series, by canonical index.
    pub(super) exemplars: HashMap<u32, u64>,
    /// When the entries without explicit timestamp were written last, markers included.
    pub(super) written_ms: i64,
    /// The same per canonical entry, where it differs between them.
    pub(super) written_each_ms: Option<Box<[i64]>>,
    /// Labels of the target whose values are longer than `label_value_length_limit`.
    pub(super) oversized: Vec<u16>,
    /// Sample lines of the last successful scrape that had any.
    pub(super) successful_len: u32,
    /// A scrape was reported: there are automatic series.
    pub(super) reported: bool,
}

impl TargetState {
    /// A target that was never scraped.
    pub fn new(target: Arc<wal::Target>, rules: Arc<ScrapeRules>) -> Self {
        let oversized = oversized(&target, &rules);
        Self {
            target,
            rules,
            derivation: None,
            layout: None,
            tracked_to: 0,
            tracked_stamped: false,
            untracked: Vec::new(),
            uncached: Vec::new(),
            patched: false,
            restored: Vec::new(),
            taken_over: Vec::new(),
            times: HashMap::new(),
            exemplars: HashMap::new(),
            written_ms: NEVER_MS,
            written_each_ms: None,
            oversized,
            successful_len: 0,
            reported: false,
        }
    }

    /// The target.
    pub fn target(&self) -> &Arc<wal::Target> {
        &self.target
    }

    /// Takes new rules; the next walk applies them. Series that stay the same get no marker.
    pub fn set_rules(&mut self, rules: Arc<ScrapeRules>) {
        if Arc::ptr_eq(&self.rules, &rules) {
            return;
        }
        let keeps_cache = SeriesRules::of(&self.rules) == SeriesRules::of(&rules)
            && self.rules.honor_timestamps == rules.honor_timestamps
            && self.rules.track_timestamps_staleness == rules.track_timestamps_staleness;
        if !keeps_cache {
            // Prometheus starts a new cache: all series count as added once more.
            let len = self.layout.as_ref().map_or(0, |layout| layout.len());
            self.uncached = if len > 0 { vec![(0, len)] } else { Vec::new() };
            self.times.clear();
            self.exemplars.clear();
            self.written_ms = NEVER_MS;
            self.written_each_ms = None;
        }
        self.oversized = oversized(&self.target, &rules);
        self.rules = rules;
        self.derivation = None;
    }

    /// Takes the tracked series back from the target's last record in the log. To be called before
    /// the first scrape; returns `false`, and does nothing, after it or if the record is of a
    /// target with other labels.
    pub fn restore(&mut self, scrape: &Scrape) -> bool {
        if self.reported || scrape.target.labels != self.target.labels {
            return false;
        }
        self.taken_over.clear();
        let mut hidden: Vec<u32> = Vec::new();
        if let Some(sides) = &scrape.sides {
            hidden.extend(&sides.skipped);
            if !self.rules.track_timestamps_staleness {
                hidden.extend(sides.timestamps.iter().map(|side| side.index));
            }
            hidden.sort_unstable();
        }
        self.restored.clear();
        // The last run is the automatic series.
        let exposed = scrape
            .layout
            .runs
            .split_last()
            .map_or(&[][..], |(_, exposed)| exposed);
        let mut position = 0;
        for run in exposed {
            for index in run.from..run.to {
                if hidden.binary_search(&position).is_err() {
                    push_run(&mut self.restored, &run.block, index, index + 1);
                }
                position += 1;
            }
        }
        true
    }

    /// What the target's rules make of exposed text.
    pub(super) fn derivation(&mut self, tables: &mut Tables) -> Rc<Derivation> {
        let made = self
            .derivation
            .get_or_insert_with(|| tables.derivation(&self.target, &self.rules));
        made.clone()
    }

    /// Everything in the layout is tracked and known, and nothing else is remembered.
    pub(super) fn is_plain(&self) -> bool {
        let len = self.layout.as_ref().map_or(0, |layout| layout.len());
        self.tracked_to == len
            && !self.patched
            && self.untracked.is_empty()
            && self.uncached.is_empty()
            && self.restored.is_empty()
            && self.times.is_empty()
            && self.written_each_ms.is_none()
    }

    /// Series with timestamps of their own remember their markers as well. `stale`: raw indices.
    pub(super) fn note_markers(&mut self, layout: &Layout, stale: &[u32], timestamp_ms: i64) {
        if layout.stamped.is_empty() && self.times.is_empty() {
            return;
        }
        for &raw in stale {
            let series = layout.canonical(raw);
            if layout.is_stamped(raw) || self.times.contains_key(&series) {
                self.times.insert(series, timestamp_ms);
            }
        }
    }

    /// When an entry without explicit timestamp was written last.
    pub(super) fn written_ms(&self, raw: u32) -> Option<i64> {
        let written = match &self.written_each_ms {
            Some(each) => each[raw as usize],
            None => self.written_ms,
        };
        (written != NEVER_MS).then_some(written)
    }
}

fn oversized(target: &wal::Target, rules: &ScrapeRules) -> Vec<u16> {
    let limit = rules.label_value_length_limit;
    let labels = target.labels.iter().enumerate();
    labels
        .filter(|(_, (_, value))| limit > 0 && value.len() as u64 > limit)
        .filter_map(|(index, _)| u16::try_from(index).ok())
        .collect()
}
