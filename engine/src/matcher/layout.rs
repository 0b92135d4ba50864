//! Runs of text blocks -> the series of a scrape, in order, and what of them is logged.

use super::collide::{Collisions, Same};
use super::derive::{Derivation, DerivedBlock};
use super::text_block::TextBlock;
use crate::parse::Dialect;
use ringscrape_wal::definition as wal;
use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;

/// Consecutive entries of a text block.
#[derive(Debug, Clone)]
pub(crate) struct TextRun {
    pub(crate) block: Rc<TextBlock>,
    pub(crate) derived: Rc<DerivedBlock>,
    /// First entry (inclusive).
    pub(crate) from: u32,
    /// Last entry (exclusive).
    pub(crate) to: u32,
}

/// A body without its values. Immutable and shared by all targets that expose the same.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) derivation: Rc<Derivation>,
    pub(crate) dialect: Dialect,
    pub(crate) runs: Box<[TextRun]>,
    /// Raw index at which each run begins; rising.
    starts: Box<[u32]>,
    len: u32,
    /// Raw indices of the samples with an explicit timestamp that counts, rising.
    pub(crate) stamped: Box<[u32]>,
    /// What collides after relabelling.
    pub(crate) collisions: Collisions,
    /// What followed the last sample line of a body that was accepted.
    pub(crate) tail: Option<Box<[u8]>>,
    /// How many entries relabelling kept, colliding ones included.
    pub(crate) kept: u32,
    log_id: u64,
    logged: OnceCell<Logged>,
    /// For how many sweeps one target alone has used it; 2: its texts have been looked at.
    pub(super) lonely_sweeps: Cell<u8>,
    /// The first run whose text has not been looked at.
    pub(super) next_lonely: Cell<usize>,
}

/// What of a layout goes to the log.
#[derive(Debug)]
pub(crate) struct Logged {
    /// Ranges of raw indices whose values are logged, rising.
    pub(crate) ranges: Box<[(u32, u32)]>,
    /// Sum of the ranges' lengths.
    pub(crate) len: u32,
    /// The series of these values, and the automatic ones after them as the last run.
    pub(crate) layout: Arc<wal::Layout>,
}

/// Raw indices in rising order -> positions.
pub(crate) struct Positions<'a> {
    ranges: &'a [(u32, u32)],
    before: u32,
}

impl Positions<'_> {
    /// The position of a sample, if it is logged. `raw` must not be less than before.
    pub(crate) fn of(&mut self, raw: u32) -> Option<u32> {
        while let Some(&(from, to)) = self.ranges.first() {
            if raw < to {
                return (raw >= from).then(|| self.before + raw - from);
            }
            self.before += to - from;
            self.ranges = &self.ranges[1..];
        }
        None
    }
}

impl Layout {
    pub(super) fn new(
        log_id: u64,
        derivation: Rc<Derivation>,
        dialect: Dialect,
        runs: Vec<TextRun>,
        stamped: Box<[u32]>,
        collisions: Collisions,
        tail: Option<Box<[u8]>>,
    ) -> Self {
        let mut starts = Vec::with_capacity(runs.len());
        let (mut len, mut kept) = (0, 0);
        for run in &runs {
            starts.push(len);
            len += run.to - run.from;
            kept += run.derived.kept_before(run.to) - run.derived.kept_before(run.from);
        }
        Self {
            derivation,
            dialect,
            runs: runs.into(),
            starts: starts.into(),
            len,
            stamped,
            collisions,
            tail,
            kept,
            log_id,
            logged: OnceCell::new(),
            lonely_sweeps: Cell::new(0),
            next_lonely: Cell::new(0),
        }
    }

    /// Unique in this process; never reused.
    pub(crate) fn id(&self) -> u64 {
        self.log_id
    }

    /// How many sample lines there are.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The run that holds raw index `raw`, and the entry of its block. For `raw == len`: the
    /// number of runs, and 0.
    pub(crate) fn locate(&self, raw: u32) -> (usize, u32) {
        if raw >= self.len {
            return (self.runs.len(), 0);
        }
        let run = self.starts.partition_point(|&start| start <= raw) - 1;
        (run, self.runs[run].from + (raw - self.starts[run]))
    }

    /// Raw index of entry `entry` of run `run`; `len` past the last run.
    #[inline]
    pub(crate) fn raw(&self, run: usize, entry: u32) -> u32 {
        match self.runs.get(run) {
            Some(text) => self.starts[run] + (entry - text.from),
            None => self.len,
        }
    }

    /// Appends everything before the value of a sample line.
    pub(crate) fn push_prefix(&self, raw: u32, out: &mut Vec<u8>) {
        let (run, entry) = self.locate(raw);
        self.runs[run].block.push_prefix(entry, out);
    }

    /// Whether `prefix`, whose hash is `hash`, is everything before the value of a sample line.
    pub(crate) fn is_prefix(&self, raw: u32, hash: u64, prefix: &[u8]) -> bool {
        let (run, entry) = self.locate(raw);
        self.runs[run].block.is_prefix(entry, hash, prefix)
    }

    /// Name and labels of a sample line as exposed, instead of what is in `out`.
    pub(crate) fn series<'a>(&self, raw: u32, out: &'a mut Vec<u8>) -> &'a [u8] {
        let (run, entry) = self.locate(raw);
        self.runs[run].block.series(entry, out)
    }

    /// The series that a sample line became, if it was not dropped.
    pub(crate) fn kept(&self, raw: u32) -> Option<(&Arc<wal::Block>, u32)> {
        let (run, entry) = self.locate(raw);
        let derived = &self.runs[run].derived;
        derived.kept(entry).map(|index| (&derived.wal, index))
    }

    /// Whether a sample line has an explicit timestamp that counts.
    pub(crate) fn is_stamped(&self, raw: u32) -> bool {
        self.stamped.binary_search(&raw).is_ok()
    }

    /// The lowest raw index with the same final labels.
    pub(crate) fn canonical(&self, raw: u32) -> u32 {
        self.collisions.get(raw).map_or(raw, |same| same.first)
    }

    /// Whether a sample line is not logged because another one of the same series is.
    pub(crate) fn is_duplicate(&self, raw: u32) -> bool {
        self.collisions.get(raw).is_some_and(|same| same.duplicate)
    }

    /// The samples that `sample_limit` counts: kept ones, without those whose line occurred before.
    pub(crate) fn counted(&self) -> u32 {
        let again = self.collisions.same.iter().filter(|same| same.again);
        self.kept - again.count() as u32
    }

    /// How many entries relabelling kept before raw index `to`.
    pub(crate) fn kept_before(&self, to: u32) -> u32 {
        let mut kept = 0;
        for (run, start) in self.runs.iter().zip(&self.starts) {
            if *start >= to {
                break;
            }
            let end = run.to.min(run.from + (to - start));
            kept += run.derived.kept_before(end) - run.derived.kept_before(run.from);
        }
        kept
    }

    /// What goes to the log. Only for layouts without entries that fail a scrape.
    pub(crate) fn logged(&self) -> &Logged {
        self.logged.get_or_init(|| self.build_logged())
    }

    /// Positions of samples in the logged values, to be asked for in rising order.
    pub(crate) fn positions(&self) -> Positions<'_> {
        Positions {
            ranges: &self.logged().ranges,
            before: 0,
        }
    }

    fn build_logged(&self) -> Logged {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        let mut runs: Vec<wal::Run> = Vec::new();
        let mut duplicates = self
            .collisions
            .same
            .iter()
            .filter(|same| same.duplicate)
            .peekable();
        for (run, &start) in self.runs.iter().zip(&self.starts) {
            let mut from = run.from;
            while from < run.to {
                // The longest range without a duplicate or, in blocks with drops, one entry.
                let raw = start + (from - run.from);
                while duplicates.next_if(|same| same.raw < raw).is_some() {}
                let mut to = match duplicates.peek() {
                    Some(same) => run.to.min(run.from + (same.raw - start)),
                    None => run.to,
                };
                if to == from {
                    from += 1;
                    continue;
                }
                if !run.derived.all_kept() {
                    to = from + 1;
                }
                if let Some(kept) = run.derived.kept(from) {
                    let len = to - from;
                    match ranges.last_mut() {
                        Some(last) if last.1 == raw => last.1 += len,
                        _ => ranges.push((raw, raw + len)),
                    }
                    push_run(&mut runs, &run.derived.wal, kept, kept + len);
                }
                from = to;
            }
        }
        let len = ranges.iter().map(|(from, to)| to - from).sum::<u32>();
        let automatic = &self.derivation.automatic;
        let count = automatic.entries.len() as u32;
        runs.push(wal::Run {
            block: automatic.clone(),
            from: 0,
            to: count,
        });
        Logged {
            ranges: ranges.into(),
            len,
            layout: Arc::new(wal::Layout {
                id: self.log_id,
                runs: runs.into(),
                len: len + count,
            }),
        }
    }

    /// Whether `self` is these runs with these timestamps.
    pub(super) fn equals(&self, derivation: u64, runs: &[TextRun], stamped: &[u32]) -> bool {
        self.derivation.id == derivation
            && *self.stamped == *stamped
            && self.runs.len() == runs.len()
            && self
                .runs
                .iter()
                .zip(runs)
                .all(|(a, b)| (a.block.id, a.from, a.to) == (b.block.id, b.from, b.to))
    }

    /// Bytes of memory of the layout itself, without its blocks.
    pub(crate) fn memory_bytes(&self) -> usize {
        let logged = self.logged.get().map_or(0, |logged| {
            logged.ranges.len() * 8 + size_of_val(&*logged.layout.runs)
        });
        size_of::<Self>()
            + self.runs.len() * (size_of::<TextRun>() + 4)
            + self.stamped.len() * 4
            + self.collisions.same.len() * size_of::<Same>()
            + self.tail.as_ref().map_or(0, |tail| tail.len())
            + logged
    }
}

/// Adds the entries `from..to` of `block`, to the last run if they follow it.
pub(crate) fn push_run(runs: &mut Vec<wal::Run>, block: &Arc<wal::Block>, from: u32, to: u32) {
    match runs.last_mut() {
        Some(last) if Arc::ptr_eq(&last.block, block) && last.to == from => last.to = to,
        _ => runs.push(wal::Run {
            block: block.clone(),
            from,
            to,
        }),
    }
}
