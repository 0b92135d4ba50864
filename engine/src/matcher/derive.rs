//! Text block x scrape rules x target shape -> the series that are logged, derived once.
//!
//! Source of the semantics: Prometheus scrape/scrape.go `mutateSampleLabels`,
//! `resolveConflictingExposedLabels`, `verifyLabelLimits`.

use super::shape::Shape;
use super::template::BlockBuilder;
use super::text_block::{Lines, RC_BYTES, TextBlock};
use crate::config::model::ScrapeRules;
use crate::labels::{LabelsBuilder, Value};
use crate::parse::{self, Comment, Dialect, Exposed};
use crate::relabel::{Rules, Verdict};
use ahash::RandomState;
use ringscrape_wal::definition as wal;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// The automatic series, in the order in which they are logged; the last three only with
/// `extra_scrape_metrics`.
pub(crate) const AUTOMATIC_NAMES: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

/// The scrape rules that decide what a sample line becomes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SeriesRules {
    pub(crate) honor_labels: bool,
    pub(crate) metric_relabel_configs: Rules,
    pub(crate) label_limit: u64,
    pub(crate) label_name_length_limit: u64,
    pub(crate) label_value_length_limit: u64,
    pub(crate) extra_scrape_metrics: bool,
}

impl SeriesRules {
    pub(crate) fn of(rules: &ScrapeRules) -> Self {
        Self {
            honor_labels: rules.honor_labels,
            metric_relabel_configs: rules.metric_relabel_configs.clone(),
            label_limit: rules.label_limit,
            label_name_length_limit: rules.label_name_length_limit,
            label_value_length_limit: rules.label_value_length_limit,
            extra_scrape_metrics: rules.extra_scrape_metrics,
        }
    }
}

impl SeriesRules {
    /// Nothing is relabelled and nothing limited.
    fn is_plain(&self) -> bool {
        self.metric_relabel_configs.is_empty()
            && self.label_limit == 0
            && self.label_name_length_limit == 0
            && self.label_value_length_limit == 0
    }
}

/// Scrape rules applied to one shape of targets, with all that was derived so far.
#[derive(Debug)]
pub(crate) struct Derivation {
    /// Unique in this process; never reused.
    pub(crate) id: u64,
    pub(crate) rules: SeriesRules,
    pub(crate) shape: Shape,
    /// The automatic series, target labels only.
    pub(crate) automatic: Arc<wal::Block>,
    /// The layout of a scrape that yields the automatic series only.
    pub(crate) automatic_layout: Arc<wal::Layout>,
    /// The layout of a record that holds nothing but staleness markers.
    pub(crate) empty_layout: Arc<wal::Layout>,
    /// By the text block's id.
    pub(super) blocks: RefCell<HashMap<u64, Rc<DerivedBlock>, RandomState>>,
}

/// Which of the target's labels the series of a block have as holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// The block has no series.
    Nothing,
    /// All series have these, rising.
    Same(Box<[u16]>),
    /// They differ.
    Mixed,
}

/// Why a series fails the whole scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reject {
    /// Its labels are not valid.
    Series(String),
    /// A label limit is exceeded.
    LabelLimit(String),
}

/// What relabelling makes of a text block.
#[derive(Debug)]
pub(crate) struct DerivedBlock {
    /// The series that were kept, as templates.
    pub(crate) wal: Arc<wal::Block>,
    /// Number of kept entries before each text entry, and after the last; `None`: all are kept.
    kept_before: Option<Box<[u32]>>,
    /// Keyed hash of each kept entry's template without its holes.
    pub(crate) ids: Box<[u32]>,
    /// The holes.
    pub(crate) pattern: Pattern,
    /// Kept entries named like an automatic series.
    pub(crate) automatic_like: Box<[u32]>,
    /// Text entries that fail the scrape, rising.
    pub(crate) rejects: Box<[(u32, Reject)]>,
}

impl DerivedBlock {
    /// The kept entries among the text entries before `index`; the kept index of `index` itself
    /// if it is kept.
    #[inline]
    pub(crate) fn kept_before(&self, index: u32) -> u32 {
        match &self.kept_before {
            None => index,
            Some(before) => before[index as usize],
        }
    }

    /// The kept index of text entry `index`, if it is kept.
    #[inline]
    pub(crate) fn kept(&self, index: u32) -> Option<u32> {
        match &self.kept_before {
            None => Some(index),
            Some(before) => {
                let kept = before[index as usize];
                (before[index as usize + 1] > kept).then_some(kept)
            }
        }
    }

    /// Whether every text entry is kept.
    #[inline]
    pub(crate) fn all_kept(&self) -> bool {
        self.kept_before.is_none()
    }

    /// Bytes of memory that this holds, the block for the log included.
    pub(crate) fn memory_bytes(&self) -> usize {
        2 * RC_BYTES
            + size_of::<Self>()
            + size_of::<wal::Block>()
            + self.ids.len() * 4
            + self
                .kept_before
                .as_ref()
                .map_or(0, |before| before.len() * 4)
            + self.wal.bytes.len()
            + size_of_val(&*self.wal.entries)
            + size_of_val(&*self.wal.holes)
    }
}

impl Derivation {
    /// `next_id`: gives ids for what is made here.
    pub(crate) fn new(rules: SeriesRules, shape: Shape, next_id: &mut impl FnMut() -> u64) -> Self {
        let mut builder = BlockBuilder::default();
        let count = if rules.extra_scrape_metrics { 8 } else { 5 };
        for name in &AUTOMATIC_NAMES[..count] {
            let mut labels = LabelsBuilder::new();
            labels.set_text("__name__", name);
            for (name, value) in &shape.labels {
                labels.set(name, value.clone());
            }
            builder.push(&labels);
        }
        let automatic = Arc::new(builder.finish(next_id()));
        let run = wal::Run {
            block: automatic.clone(),
            from: 0,
            to: count as u32,
        };
        Self {
            id: next_id(),
            automatic,
            automatic_layout: Arc::new(wal::Layout {
                id: next_id(),
                runs: Box::new([run]),
                len: count as u32,
            }),
            empty_layout: Arc::new(wal::Layout {
                id: next_id(),
                runs: Box::default(),
                len: 0,
            }),
            rules,
            shape,
            blocks: RefCell::default(),
        }
    }

    /// What becomes of `block`; derived at first use.
    pub(crate) fn derived(
        &self,
        block: &TextBlock,
        hasher: &RandomState,
        next_id: &mut impl FnMut() -> u64,
    ) -> Rc<DerivedBlock> {
        if let Some(derived) = self.blocks.borrow().get(&block.id) {
            return derived.clone();
        }
        let derived = Rc::new(self.derive(block, hasher, next_id()));
        self.blocks.borrow_mut().insert(block.id, derived.clone());
        derived
    }

    fn derive(&self, block: &TextBlock, hasher: &RandomState, id: u64) -> DerivedBlock {
        let mut labels = LabelsBuilder::new();
        let mut builder = BlockBuilder::default();
        let mut before = Vec::with_capacity(block.len() as usize + 1);
        let mut rejects = Vec::new();
        let mut automatic_like = Vec::new();
        let mut pattern = Pattern::Nothing;
        let mut exposed = Vec::new();
        let plain = self.rules.is_plain();
        let lines = &*block.lines();
        for index in 0..block.len() {
            before.push(builder.entries.len() as u32);
            if plain
                && let Some(name) = self.push_plain(block, lines, index, &mut exposed, &mut builder)
            {
                if AUTOMATIC_NAMES.contains(&name) {
                    automatic_like.push(builder.entries.len() as u32 - 1);
                }
                pattern.add(self.shape.holes());
                continue;
            }
            match self.series(block, lines.series(index), index, &mut labels) {
                Ok(false) => {}
                Err(reject) => rejects.push((index, reject)),
                Ok(true) => {
                    if AUTOMATIC_NAMES.contains(&labels.text("__name__")) {
                        automatic_like.push(builder.entries.len() as u32);
                    }
                    pattern.add(holes(&labels));
                    builder.push(&labels);
                }
            }
        }
        before.push(builder.entries.len() as u32);
        let all_kept = builder.entries.len() == block.hashes.len();
        let wal = wal::Block {
            families: families(block.dialect, lines),
            ..builder.finish(id)
        };
        // They are compared only where the holes are the same.
        let ids = (0..wal.entries.len() as u32)
            .map(|index| hasher.hash_one(&wal.bytes[wal.entry(index).0]) as u32);
        DerivedBlock {
            ids: ids.collect(),
            kept_before: (!all_kept).then(|| before.into()),
            pattern,
            automatic_like: automatic_like.into(),
            rejects: rejects.into(),
            wal: Arc::new(wal),
        }
    }

    /// Adds an entry to which no rule applies, if it is as plain as most are, and gives its name.
    fn push_plain<'a, 'b>(
        &self,
        block: &TextBlock,
        lines: &'a Lines,
        index: u32,
        exposed: &'b mut Vec<Exposed<'a>>,
        builder: &mut BlockBuilder,
    ) -> Option<&'b str> {
        let kind = block.kinds[index as usize].used.unwrap_or_default();
        parse::sorted_labels(block.dialect, lines.series(index), kind, exposed).ok()?;
        if !builder.push_plain(exposed, &self.shape.labels) {
            return None;
        }
        let name = exposed.iter().find(|label| label.name == "__name__");
        name.map(|label| &*label.value)
    }

    /// Reads, merges and relabels one entry. `Ok(false)`: a rule dropped it.
    fn series(
        &self,
        block: &TextBlock,
        series: &[u8],
        index: u32,
        labels: &mut LabelsBuilder,
    ) -> Result<bool, Reject> {
        let kind = block.kinds[index as usize].used.unwrap_or_default();
        parse::series_labels(block.dialect, series, kind, labels)
            .map_err(|error| Reject::Series(error.to_string()))?;
        if self.rules.honor_labels {
            // An exposed empty label hides the target's one: the idiom of the pushgateway.
            let empty = parse::empty_labels(block.dialect, series);
            for (name, value) in &self.shape.labels {
                if labels.get(name).is_none() && !empty.iter().any(|have| **have == **name) {
                    labels.set(name, value.clone());
                }
            }
        } else {
            self.merge(labels);
        }
        if self.rules.metric_relabel_configs.apply(labels) == Verdict::Drop || labels.is_empty() {
            return Ok(false);
        }
        if labels.get("__name__").is_none() {
            let series = String::from_utf8_lossy(series).into_owned();
            let reason =
                format!("missing metric name (__name__ label) after relabelling: {series}");
            return Err(Reject::Series(reason));
        }
        self.check_limits(labels)?;
        Ok(true)
    }

    /// The target's labels win; exposed ones of the same name are renamed, shorter names first.
    fn merge(&self, labels: &mut LabelsBuilder) {
        let mut conflicts = Vec::new();
        for (name, value) in &self.shape.labels {
            if let Some(exposed) = labels.get(name) {
                conflicts.push((name, exposed.clone()));
            }
            labels.set(name, value.clone());
        }
        conflicts.sort_by_key(|(name, _)| name.len());
        for (name, exposed) in conflicts {
            let mut renamed = format!("exported_{name}");
            while labels.get(&renamed).is_some() {
                renamed.insert_str(0, "exported_");
            }
            labels.set(&renamed, exposed);
        }
    }

    /// All limits but the length of the target's own values.
    fn check_limits(&self, labels: &LabelsBuilder) -> Result<(), Reject> {
        let rules = &self.rules;
        let metric = || labels.text("__name__").chars().take(50).collect::<String>();
        if rules.label_limit > 0 && labels.len() as u64 > rules.label_limit {
            return Err(Reject::LabelLimit(format!(
                "label_limit exceeded (metric: {}, number of labels: {}, limit: {})",
                metric(),
                labels.len(),
                rules.label_limit
            )));
        }
        for (name, value) in labels.iter() {
            let limit = rules.label_name_length_limit;
            if limit > 0 && name.len() as u64 > limit {
                return Err(Reject::LabelLimit(format!(
                    "label_name_length_limit exceeded (metric: {}, label name: {:.50}, \
                     length: {}, limit: {limit})",
                    metric(),
                    name,
                    name.len()
                )));
            }
            let limit = rules.label_value_length_limit;
            if let Value::Text(text) = value
                && limit > 0
                && text.len() as u64 > limit
            {
                return Err(Reject::LabelLimit(format!(
                    "label_value_length_limit exceeded (metric: {}, label name: {:.50}, \
                     value: {:?}, length: {}, limit: {limit})",
                    metric(),
                    name,
                    text.chars().take(50).collect::<String>(),
                    text.len()
                )));
            }
        }
        Ok(())
    }
}

impl Pattern {
    fn add(&mut self, holes: impl Iterator<Item = u16>) {
        match self {
            Pattern::Nothing => *self = Pattern::Same(holes.collect()),
            Pattern::Same(have) if have.iter().copied().eq(holes) => {}
            _ => *self = Pattern::Mixed,
        }
    }
}

/// Which labels of the target are holes, in the order of their names.
fn holes(labels: &LabelsBuilder) -> impl Iterator<Item = u16> + '_ {
    labels.iter().filter_map(|(_, value)| match value {
        Value::Target(index) => Some(*index),
        Value::Text(_) => None,
    })
}

/// HELP, TYPE and UNIT of the families that a block's text declares.
fn families(dialect: Dialect, lines: &Lines) -> Box<[wal::Family]> {
    let mut families: Vec<wal::Family> = Vec::new();
    let mut family = |name: &str, set: &mut dyn FnMut(&mut wal::Family)| {
        let found = families.iter().rposition(|family| *family.name == *name);
        let index = found.unwrap_or_else(|| {
            families.push(wal::Family {
                name: name.into(),
                ..Default::default()
            });
            families.len() - 1
        });
        set(&mut families[index]);
    };
    for index in 0..lines.ends.len() as u32 {
        let (start, _) = lines.series[index as usize];
        if !lines.text[lines.start(index)..start as usize].contains(&b'#') {
            continue;
        }
        for comment in parse::comments(dialect, lines.prefix(index)) {
            match comment {
                Comment::Help(name, help) => family(&name, &mut |f| f.help = (*help).into()),
                Comment::Type(name, kind) => family(&name, &mut |f| f.kind = kind),
                Comment::Unit(name, unit) => family(&name, &mut |f| f.unit = (*unit).into()),
            }
        }
    }
    families.into()
}
