//! Two layouts of one target + where the entries came from -> which series is which.

use crate::matcher::template::write_identity;
use crate::matcher::{Layout, Segment, Source};
use ahash::RandomState;
use ringscrape_wal::definition::{Block, Target};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

/// The step from one layout to the next.
pub(super) struct Change<'a> {
    pub(super) old: Option<&'a Layout>,
    pub(super) new: &'a Layout,
    /// Where the entries of `new` came from, all of them.
    pub(super) segments: &'a [Segment],
    pub(super) target: &'a Target,
    pub(super) hasher: &'a RandomState,
    /// The rules changed: equal text need not be an equal series.
    pub(super) relabelled: bool,
    /// Series must be compared by their labels, as text alone does not tell.
    pub(super) by_labels: bool,
    /// Segments of `Source::Old`, by their place in `old`.
    by_old: Vec<Segment>,
    /// Hash of the labels -> old entries, rising; of those that text does not map.
    index: OnceCell<HashMap<u64, Vec<u32>, RandomState>>,
}

impl<'a> Change<'a> {
    pub(super) fn new(
        old: Option<&'a Layout>,
        new: &'a Layout,
        segments: &'a [Segment],
        target: &'a Target,
        hasher: &'a RandomState,
    ) -> Self {
        let relabelled = old.is_some_and(|old| old.derivation.id != new.derivation.id);
        let collides = |layout: &Layout| !layout.collisions.same.is_empty();
        let by_labels = relabelled || collides(new) || old.is_some_and(collides);
        let mut by_old: Vec<Segment> = segments.to_vec();
        by_old.retain(|segment| matches!(segment.source, Source::Old(_)));
        by_old.sort_unstable_by_key(|segment| match segment.source {
            Source::Old(from) | Source::New(from) => from,
        });
        Self {
            old,
            new,
            segments,
            target,
            hasher,
            relabelled,
            by_labels,
            by_old,
            index: OnceCell::new(),
        }
    }

    /// The old entry with the same text at `raw` of the new layout.
    pub(super) fn old_text(&self, raw: u32) -> Option<u32> {
        let next = self
            .segments
            .partition_point(|segment| segment.at + segment.len <= raw);
        match self.segments.get(next)?.source {
            Source::Old(from) => Some(from + (raw - self.segments[next].at)),
            Source::New(_) => None,
        }
    }

    /// The new entry that has the text of `raw` of the old layout.
    pub(super) fn new_text(&self, raw: u32) -> Option<u32> {
        let next = self
            .by_old
            .partition_point(|segment| old_range(segment).1 <= raw);
        let segment = self.by_old.get(next)?;
        let (from, _) = old_range(segment);
        (from <= raw).then(|| segment.at + (raw - from))
    }

    /// Ranges of old entries that no new entry has the text of, rising.
    pub(super) fn removed(&self) -> Vec<(u32, u32)> {
        let len = self.old.map_or(0, Layout::len);
        let mut removed = Vec::new();
        let mut at = 0;
        for segment in &self.by_old {
            let (from, to) = old_range(segment);
            if from > at {
                removed.push((at, from));
            }
            at = to;
        }
        if len > at {
            removed.push((at, len));
        }
        removed
    }

    /// Ranges of new entries whose text is new, rising.
    pub(super) fn new_ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.segments.iter().filter_map(|segment| {
            let new = matches!(segment.source, Source::New(_));
            new.then_some((segment.at, segment.at + segment.len))
        })
    }

    /// Ranges of new entries for which text does not tell whether their series is old, rising.
    fn unclear(&self) -> Vec<(u32, u32)> {
        match self.by_labels {
            true => vec![(0, self.new.len())],
            false => self.new_ranges().collect(),
        }
    }

    /// The canonical old entry of the series at `raw` of the new layout, if there was one.
    pub(super) fn old_series(&self, raw: u32) -> Option<u32> {
        let old = self.old?;
        if !self.by_labels
            && let Some(text) = self.old_text(raw)
        {
            return old.kept(text).map(|_| text);
        }
        let (block, kept) = self.new.kept(raw)?;
        let mut identity = Vec::new();
        write_identity(block, kept, Some(self.target), &mut identity);
        let found = self.index().get(&self.hasher.hash_one(&identity[..]))?;
        found.iter().copied().find(|&raw| {
            old.kept(raw).is_some_and(|(block, kept)| {
                let mut other = Vec::new();
                write_identity(block, kept, Some(self.target), &mut other);
                other == identity
            })
        })
    }

    /// What was known of series of the old layout, for the new one. Both by canonical index.
    pub(super) fn carry<T: Copy>(&self, known: &HashMap<u32, T>) -> HashMap<u32, T> {
        let mut carried = HashMap::new();
        if known.is_empty() {
            return carried;
        }
        if !self.by_labels {
            for (&old, &value) in known {
                if let Some(raw) = self.new_text(old) {
                    carried.insert(self.new.canonical(raw), value);
                }
            }
        }
        for (from, to) in self.unclear() {
            for raw in from..to {
                let value = self.old_series(raw).and_then(|old| known.get(&old));
                if let Some(&value) = value {
                    carried.insert(self.new.canonical(raw), value);
                }
            }
        }
        carried
    }

    /// Hash of the series that entry `kept` of `block` is for the target.
    pub(super) fn series_hash(&self, block: &Block, kept: u32, bytes: &mut Vec<u8>) -> u64 {
        bytes.clear();
        write_identity(block, kept, Some(self.target), bytes);
        self.hasher.hash_one(&bytes[..])
    }

    fn index(&self) -> &HashMap<u64, Vec<u32>, RandomState> {
        self.index.get_or_init(|| {
            let mut index: HashMap<u64, Vec<u32>, RandomState> = HashMap::default();
            let Some(old) = self.old else {
                return index;
            };
            let ranges = match self.by_labels {
                true => vec![(0, old.len())],
                false => self.removed(),
            };
            let mut bytes = Vec::new();
            for (from, to) in ranges {
                for raw in from..to {
                    if let Some((block, kept)) = old.kept(raw) {
                        let hash = self.series_hash(block, kept, &mut bytes);
                        let entries = index.entry(hash).or_default();
                        // Only the first of equal ones is ever asked for.
                        let first = old.canonical(raw) == raw;
                        if first {
                            entries.push(raw);
                        }
                    }
                }
            }
            index
        })
    }
}

/// Start and end of a segment in the old layout.
fn old_range(segment: &Segment) -> (u32, u32) {
    match segment.source {
        Source::Old(from) | Source::New(from) => (from, from + segment.len),
    }
}

/// Which entries of a layout are tracked: they get a marker when they go.
pub(super) struct Tracking<'a> {
    pub(super) layout: &'a Layout,
    /// Entries from here on are not tracked.
    pub(super) to: u32,
    /// Entries that are not tracked either, rising.
    pub(super) except: &'a [u32],
    /// Entries with an explicit timestamp are tracked too.
    pub(super) stamped: bool,
}

impl Tracking<'_> {
    /// Whether entry `raw` is tracked.
    pub(super) fn contains(&self, raw: u32) -> bool {
        raw < self.to
            && self.except.binary_search(&raw).is_err()
            && (self.stamped || !self.layout.is_stamped(raw))
            && !self.layout.is_duplicate(raw)
            && self.layout.kept(raw).is_some()
    }

    /// Whether all entries before `to` are tracked that relabelling kept.
    pub(super) fn is_regular_to(&self, to: u32) -> bool {
        to <= self.to
            && self.except.is_empty()
            && (self.stamped || self.layout.stamped.is_empty())
            && self.layout.collisions.same.is_empty()
    }

    /// The block and entry for the log of a tracked entry.
    pub(super) fn series(&self, raw: u32) -> Option<(&Arc<Block>, u32)> {
        self.contains(raw).then(|| self.layout.kept(raw)).flatten()
    }
}
