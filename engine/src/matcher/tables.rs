//! What the targets of one shard share: text blocks, what was derived of them, layouts.

use super::collide::{self, Subject};
use super::derive::{Derivation, SeriesRules};
use super::layout::{Layout, TextRun};
use super::scratch::{Scratch, Segment, Source};
use super::shape::Shape;
use super::text_block::{Fresh, TextBlock};
use crate::config::model::ScrapeRules;
use crate::parse::Dialect;
use ahash::RandomState;
use ringscrape_wal::definition as wal;
use ringscrape_wal::pool::ScrapePool;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};

/// Ids of blocks and layouts, unique in the process as the log wants them.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// How many scratch buffers are kept for later walks.
const SCRATCH_KEPT: usize = 8;
/// A scratch buffer of more samples than this is not kept.
const SCRATCH_SAMPLES_MAX: usize = 1 << 18;

/// One shard's interned text blocks, derivations and layouts. Not shared between threads.
#[derive(Debug, Default)]
pub struct Tables {
    hasher: RandomState,
    pub(super) texts: HashMap<u64, Vec<Rc<TextBlock>>, RandomState>,
    pub(super) derivations: HashMap<(SeriesRules, Shape), Rc<Derivation>, RandomState>,
    pub(super) layouts: HashMap<u64, Vec<Rc<Layout>>, RandomState>,
    pub(super) scratch: Vec<Scratch>,
    pool: Rc<ScrapePool>,
    pub(super) recent: Recent,
    /// Layouts of one target each, whose text is to be given up.
    pub(super) lonely: Vec<Weak<Layout>>,
}

/// Layouts of targets that were scraped for the first time, the latest one last: the next new
/// target may be like them.
pub(crate) type Recent = Rc<RefCell<Vec<Rc<Layout>>>>;

/// How many of them are remembered.
const RECENT_MAX: usize = 8;

/// What a layout is made of.
pub(crate) struct Parts<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) runs: Vec<TextRun>,
    /// Raw indices with an explicit timestamp that counts, rising.
    pub(crate) stamped: Vec<u32>,
    /// What followed the last sample line; none if the body was not accepted.
    pub(crate) tail: Option<&'a [u8]>,
    pub(crate) target: &'a wal::Target,
    /// Ranges of raw indices outside of which nothing is known to collide, rising.
    pub(crate) fresh: Option<Vec<(u32, u32)>>,
}

fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

impl Tables {
    /// Empty tables with a hash key of their own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty tables; what is made with them takes memory from `pool`.
    pub fn with_pool(pool: Rc<ScrapePool>) -> Self {
        Self {
            pool,
            ..Self::default()
        }
    }

    /// An empty vector with room for `len` values of a record.
    pub(crate) fn values(&self, len: u32) -> Vec<f64> {
        self.pool.values(len as usize)
    }

    /// The key of all hashes in these tables.
    pub(crate) fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// A buffer for a walk.
    pub(crate) fn take_scratch(&mut self) -> Scratch {
        self.scratch.pop().unwrap_or_default()
    }

    /// What a new target may be like.
    pub(crate) fn recent(&self) -> Recent {
        self.recent.clone()
    }

    /// Remembers what a new target is like.
    pub(crate) fn note_recent(&self, layout: &Rc<Layout>) {
        let mut recent = self.recent.borrow_mut();
        recent.retain(|known| known.id() != layout.id());
        if recent.len() == RECENT_MAX {
            recent.remove(0);
        }
        recent.push(layout.clone());
    }

    /// Keeps a buffer for later.
    pub(crate) fn give_scratch(&mut self, scratch: Scratch) {
        self.give_texts_up();
        if self.scratch.len() < SCRATCH_KEPT && scratch.values.capacity() <= SCRATCH_SAMPLES_MAX {
            self.scratch.push(scratch);
        }
    }

    /// The derivation for `target` under `rules`.
    pub(crate) fn derivation(
        &mut self,
        target: &wal::Target,
        rules: &ScrapeRules,
    ) -> Rc<Derivation> {
        let key = (SeriesRules::of(rules), Shape::of(target, rules));
        let made = self
            .derivations
            .entry(key)
            .or_insert_with_key(|(rules, shape)| {
                Rc::new(Derivation::new(rules.clone(), shape.clone(), &mut next_id))
            });
        made.clone()
    }

    /// The runs of `segments`: those of `old` cut, and new blocks of `fresh`.
    pub(crate) fn runs(
        &mut self,
        derivation: &Derivation,
        dialect: Dialect,
        old: Option<&Layout>,
        segments: &[Segment],
        fresh: &Fresh,
    ) -> Vec<TextRun> {
        let blocks = self.intern_fresh(dialect, old, fresh);
        let mut runs: Vec<TextRun> = Vec::new();
        let derive = |block: &Rc<TextBlock>| derivation.derived(block, &self.hasher, &mut next_id);
        let known = old.is_some_and(|old| old.derivation.id == derivation.id);
        let mut push =
            |block: &Rc<TextBlock>, derived: Option<&Rc<_>>, from: u32, to: u32| match runs
                .last_mut()
            {
                Some(last) if last.block.id == block.id && last.to == from => last.to = to,
                _ => runs.push(TextRun {
                    derived: derived.map_or_else(|| derive(block), Rc::clone),
                    block: block.clone(),
                    from,
                    to,
                }),
            };
        for segment in segments {
            match (segment.source, old) {
                (Source::Old(from), Some(layout)) => {
                    let mut left = segment.len;
                    let (mut run, mut entry) = layout.locate(from);
                    while left > 0 {
                        let text = &layout.runs[run];
                        let count = left.min(text.to - entry);
                        let derived = known.then_some(&text.derived);
                        push(&text.block, derived, entry, entry + count);
                        left -= count;
                        run += 1;
                        entry = layout.runs.get(run).map_or(0, |next| next.from);
                    }
                }
                (Source::Old(_), None) => debug_assert!(false, "BUG: a segment of no layout"),
                (Source::New(from), _) => {
                    let end = from + segment.len;
                    let first =
                        blocks.partition_point(|(start, block)| start + block.len() <= from);
                    for (start, block) in &blocks[first..] {
                        let (low, high) = (from.max(*start), end.min(start + block.len()));
                        if low >= high {
                            break;
                        }
                        push(block, None, low - start, high - start);
                    }
                }
            }
        }
        runs
    }

    /// Blocks of new text, each with the number of its first entry. A block that is in use already
    /// is copied: no entry of a block may occur twice in a layout.
    fn intern_fresh(
        &mut self,
        dialect: Dialect,
        old: Option<&Layout>,
        fresh: &Fresh,
    ) -> Vec<(u32, Rc<TextBlock>)> {
        let mut blocks: Vec<(u32, Rc<TextBlock>)> = Vec::new();
        let pass = next_id();
        if fresh.len() > 0 {
            for run in old.into_iter().flat_map(|old| &old.runs) {
                run.block.taken.set(pass);
            }
        }
        for (from, to) in fresh.cuts() {
            let hash = fresh.hash(&self.hasher, from, to);
            let known = self.texts.entry(hash).or_default();
            let found = known.iter().find(|block| {
                block.dialect == dialect
                    && block.taken.get() != pass
                    && fresh.equals(from, to, block)
            });
            let block = match found {
                Some(block) => block.clone(),
                None => {
                    let block = Rc::new(fresh.block(next_id(), dialect, from, to));
                    known.push(block.clone());
                    block
                }
            };
            block.taken.set(pass);
            blocks.push((from, block));
        }
        blocks
    }

    /// The layout of these runs under `derivation`, an equal one if there is one.
    pub(crate) fn layout(&mut self, derivation: &Rc<Derivation>, parts: Parts<'_>) -> Rc<Layout> {
        let runs: Vec<_> = parts
            .runs
            .iter()
            .map(|run| (run.block.id, run.from, run.to))
            .collect();
        let hash = self.hasher.hash_one((derivation.id, runs, &parts.stamped));
        let known = self.layouts.entry(hash).or_default();
        let mut equal = known
            .iter()
            .filter(|layout| layout.equals(derivation.id, &parts.runs, &parts.stamped))
            .peekable();
        if let Some(layout) = equal.next_if(|layout| layout.collisions.shared) {
            return layout.clone();
        }
        let subject = Subject {
            derivation,
            runs: &parts.runs,
            stamped: &parts.stamped,
            target: parts.target,
            hasher: &self.hasher,
        };
        let collisions = collide::find(&subject, parts.fresh.as_deref());
        if let Some(layout) = equal.find(|layout| layout.collisions == collisions) {
            return layout.clone();
        }
        drop(equal);
        let layout = Rc::new(Layout::new(
            next_id(),
            derivation.clone(),
            parts.dialect,
            parts.runs,
            parts.stamped.into(),
            collisions,
            parts.tail.map(Into::into),
        ));
        known.push(layout.clone());
        layout
    }

    /// The entries of `runs` in fresh blocks, cut as if the text were new.
    pub(crate) fn rebuilt(
        &mut self,
        derivation: &Derivation,
        dialect: Dialect,
        runs: &[TextRun],
    ) -> Vec<TextRun> {
        let mut fresh = Fresh::default();
        for run in runs {
            for entry in run.from..run.to {
                fresh.push_entry(&run.block, entry);
            }
        }
        let all = Segment {
            at: 0,
            len: fresh.len(),
            source: Source::New(0),
        };
        self.runs(derivation, dialect, None, &[all], &fresh)
    }
}
