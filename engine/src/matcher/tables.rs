//! What the targets of one shard share: text blocks, what was derived of them, layouts.

use super::collide::{self, Subject};
use super::derive::{Derivation, SeriesRules};
use super::layout::{Layout, TextRun};
use super::shape::Shape;
use super::text_block::{Fresh, TextBlock};
use super::walk::{Scratch, Segment, Source};
use crate::config::model::ScrapeRules;
use crate::parse::Dialect;
use ahash::RandomState;
use ringscrape_wal::definition as wal;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
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
    texts: HashMap<u64, Vec<Rc<TextBlock>>, RandomState>,
    derivations: HashMap<(SeriesRules, Shape), Rc<Derivation>, RandomState>,
    layouts: HashMap<u64, Vec<Rc<Layout>>, RandomState>,
    scratch: Vec<Scratch>,
}

/// Bytes of memory by purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryUse {
    /// Exposed text.
    pub text_bytes: usize,
    /// Series after relabelling, as templates; what the log holds of them too.
    pub derived_bytes: usize,
    /// Layouts.
    pub layout_bytes: usize,
    /// How many text blocks there are.
    pub text_blocks: usize,
    /// How many derived blocks there are.
    pub derived_blocks: usize,
    /// How many layouts there are.
    pub layouts: usize,
}

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

    /// The key of all hashes in these tables.
    pub(crate) fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// A buffer for a walk.
    pub(crate) fn take_scratch(&mut self) -> Scratch {
        self.scratch.pop().unwrap_or_default()
    }

    /// Keeps a buffer for later.
    pub(crate) fn give_scratch(&mut self, scratch: Scratch) {
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
        let mut push = |block: &Rc<TextBlock>, from: u32, to: u32| match runs.last_mut() {
            Some(last) if last.block.id == block.id && last.to == from => last.to = to,
            _ => runs.push(TextRun {
                derived: derivation.derived(block, &self.hasher, &mut next_id),
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
                        push(&text.block, entry, entry + count);
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
                        push(block, low - start, high - start);
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
        let mut taken: HashSet<u64, RandomState> = HashSet::default();
        if fresh.len() > 0 {
            taken.extend(
                old.into_iter()
                    .flat_map(|old| old.runs.iter().map(|run| run.block.id)),
            );
        }
        for (from, to) in fresh.cuts() {
            let hash = self.hasher.hash_one(fresh.text(from, to));
            let known = self.texts.entry(hash).or_default();
            let found = known.iter().find(|block| {
                block.dialect == dialect
                    && !taken.contains(&block.id)
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
            taken.insert(block.id);
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

    /// Drops what no target uses any more. What the log still reads stays with the log.
    pub fn sweep(&mut self) {
        self.layouts.retain(|_, layouts| {
            layouts.retain(|layout| Rc::strong_count(layout) > 1);
            !layouts.is_empty()
        });
        for derivation in self.derivations.values() {
            let mut blocks = derivation.blocks.borrow_mut();
            blocks.retain(|_, derived| Rc::strong_count(derived) > 1);
        }
        self.derivations
            .retain(|_, derivation| Rc::strong_count(derivation) > 1);
        self.texts.retain(|_, blocks| {
            blocks.retain(|block| Rc::strong_count(block) > 1);
            !blocks.is_empty()
        });
    }

    /// What these tables hold.
    pub fn memory_use(&self) -> MemoryUse {
        let mut memory = MemoryUse::default();
        for block in self.texts.values().flatten() {
            memory.text_blocks += 1;
            memory.text_bytes += block.memory_bytes();
        }
        for derivation in self.derivations.values() {
            for derived in derivation.blocks.borrow().values() {
                memory.derived_blocks += 1;
                memory.derived_bytes += derived.memory_bytes();
            }
        }
        for layout in self.layouts.values().flatten() {
            memory.layouts += 1;
            memory.layout_bytes += layout.memory_bytes();
        }
        memory
    }
}
