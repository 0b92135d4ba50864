//! Pieces of exposed text -> immutable blocks of them, cut at metric families.

use crate::parse::{self, Dialect, Piece};
use ahash::RandomState;
use memchr::memmem;
use ringscrape_wal::definition::FamilyKind;

/// A block ends at the next metric family once it has this many entries.
const ENTRIES_SOFT: usize = 32;
/// A block has at most this many entries.
const ENTRIES_HARD: usize = 1000;
/// A block that has this much text takes no further entry, in bytes.
const TEXT_BYTES_SOFT: usize = 1 << 20;
/// Longest prefix (comments and series of one sample) that is accepted, in bytes.
pub(crate) const PREFIX_BYTES_MAX: usize = 64 << 20;

/// What an entry has to do with metric types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EntryKind {
    /// The TYPE that the entry's comments declare; it stays in force after the entry.
    pub(crate) declared: Option<FamilyKind>,
    /// The TYPE in force at the entry, if its labels depend on it.
    pub(crate) used: Option<FamilyKind>,
}

/// Consecutive pieces: everything of them but the values.
#[derive(Debug)]
pub(crate) struct TextBlock {
    /// Unique in this process; never reused.
    pub(crate) id: u64,
    /// The grammar that the text follows.
    pub(crate) dialect: Dialect,
    /// The prefixes, one after the other.
    pub(crate) text: Box<[u8]>,
    /// End (exclusive) of each prefix in `text`; rising.
    pub(crate) ends: Box<[u32]>,
    /// Keyed hash of each prefix; `hashes.len() == ends.len()`.
    pub(crate) hashes: Box<[u32]>,
    /// Where each entry's series (name and labels) stands in `text`: start and end.
    pub(crate) series: Box<[(u32, u32)]>,
    /// `kinds.len() == ends.len()`.
    pub(crate) kinds: Box<[EntryKind]>,
}

impl TextBlock {
    /// How many entries there are.
    pub(crate) fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    /// Where entry `index` begins in `text`.
    #[inline]
    pub(crate) fn start(&self, index: u32) -> usize {
        match index {
            0 => 0,
            _ => self.ends[index as usize - 1] as usize,
        }
    }

    /// Everything before the value of entry `index`.
    #[inline]
    pub(crate) fn prefix(&self, index: u32) -> &[u8] {
        &self.text[self.start(index)..self.ends[index as usize] as usize]
    }

    /// Name and labels of entry `index` as exposed.
    pub(crate) fn series(&self, index: u32) -> &[u8] {
        let (start, end) = self.series[index as usize];
        &self.text[start as usize..end as usize]
    }

    /// Bytes of memory that this holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.ends.len() * 18
    }
}

/// One entry on its way into a block.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// End (exclusive) in `Fresh::text`.
    end: usize,
    /// Start of the series, relative to the start of the prefix.
    series_start: u32,
    /// Length of the series.
    series_len: u32,
    hash: u32,
    /// The labels depend on the TYPE in force.
    kind_matters: bool,
    kind: EntryKind,
}

/// New entries in the order of the body, with the places where blocks are to be cut.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// First entry of each block; rising, the first is 0.
    cuts: Vec<u32>,
    /// Where the text of the last block begins.
    block_start: usize,
}

impl Fresh {
    /// Removes all entries and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.cuts.clear();
        self.block_start = 0;
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Adds a piece that the parser has read. `hash`: of its prefix.
    pub(crate) fn push(&mut self, dialect: Dialect, piece: &Piece<'_>, hash: u32) {
        let start = piece.series.as_ptr() as usize - piece.prefix.as_ptr() as usize;
        let declared = || {
            let [a, b] = [FamilyKind::Unknown, FamilyKind::Gauge]
                .map(|before| parse::kind_in_force(dialect, piece.prefix, before));
            (a == b).then_some(a)
        };
        let entry = Entry {
            end: 0,
            series_start: start as u32,
            series_len: piece.series.len() as u32,
            hash,
            kind_matters: has_bound_label(dialect, piece.series),
            kind: EntryKind {
                declared: piece.prefix[..start]
                    .contains(&b'#')
                    .then(declared)
                    .flatten(),
                used: None,
            },
        };
        self.push_parts(piece.prefix, entry);
    }

    /// Adds entry `index` of a block.
    pub(crate) fn push_entry(&mut self, block: &TextBlock, index: u32) {
        let (start, end) = block.series[index as usize];
        let kind = block.kinds[index as usize];
        let entry = Entry {
            end: 0,
            series_start: start - block.start(index) as u32,
            series_len: end - start,
            hash: block.hashes[index as usize],
            kind_matters: kind.used.is_some(),
            kind,
        };
        self.push_parts(block.prefix(index), entry);
    }

    /// Tells entry `index` which TYPE is in force before it, and returns the one after it.
    pub(crate) fn resolve_kind(&mut self, index: u32, before: FamilyKind) -> FamilyKind {
        let entry = &mut self.entries[index as usize];
        let kind = entry.kind.declared.unwrap_or(before);
        entry.kind.used = entry.kind_matters.then_some(kind);
        kind
    }

    fn push_parts(&mut self, prefix: &[u8], entry: Entry) {
        let count = self.entries.len() - self.cuts.last().map_or(0, |&cut| cut as usize);
        let family = prefix[..entry.series_start as usize].contains(&b'#');
        if self.cuts.is_empty()
            || count >= ENTRIES_HARD
            || (count >= ENTRIES_SOFT && family)
            || self.text.len() - self.block_start >= TEXT_BYTES_SOFT
        {
            self.cuts.push(self.entries.len() as u32);
            self.block_start = self.text.len();
        }
        self.text.extend_from_slice(prefix);
        self.entries.push(Entry {
            end: self.text.len(),
            ..entry
        });
    }

    /// The blocks' entry ranges, in order.
    pub(crate) fn cuts(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let ends = self.cuts.iter().skip(1).copied().chain([self.len()]);
        self.cuts.iter().copied().zip(ends)
    }

    /// The text of the entries `from..to`.
    pub(crate) fn text(&self, from: u32, to: u32) -> &[u8] {
        &self.text[self.start(from)..self.start(to)]
    }

    /// Everything before the value of entry `index`.
    pub(crate) fn prefix(&self, index: u32) -> &[u8] {
        self.text(index, index + 1)
    }

    /// Whether the entries `from..to` are those of `block`.
    pub(crate) fn equals(&self, from: u32, to: u32, block: &TextBlock) -> bool {
        let base = self.start(from);
        *block.text == *self.text(from, to)
            && block.len() == to - from
            && self.entries[from as usize..to as usize]
                .iter()
                .zip(block.ends.iter().zip(&block.kinds))
                .all(|(entry, (&end, kind))| {
                    entry.end - base == end as usize && entry.kind == *kind
                })
    }

    /// Makes a block of the entries `from..to`.
    pub(crate) fn block(&self, id: u64, dialect: Dialect, from: u32, to: u32) -> TextBlock {
        let base = self.start(from);
        let entries = &self.entries[from as usize..to as usize];
        let series = (from..to).zip(entries).map(|(index, entry)| {
            let start = (self.start(index) - base) as u32 + entry.series_start;
            (start, start + entry.series_len)
        });
        TextBlock {
            id,
            dialect,
            text: self.text(from, to).into(),
            ends: entries.iter().map(|e| (e.end - base) as u32).collect(),
            hashes: entries.iter().map(|entry| entry.hash).collect(),
            series: series.collect(),
            kinds: entries.iter().map(|entry| entry.kind).collect(),
        }
    }

    fn start(&self, index: u32) -> usize {
        match index {
            0 => 0,
            _ => self.entries[index as usize - 1].end,
        }
    }
}

/// Whether the labels of a series depend on the TYPE in force.
fn has_bound_label(dialect: Dialect, series: &[u8]) -> bool {
    let maybe = [&b"le"[..], b"quantile"]
        .iter()
        .any(|name| memmem::find(series, name).is_some());
    maybe && parse::kind_matters(dialect, series)
}

/// The keyed hash under which a prefix is looked up.
pub(crate) fn prefix_hash(hasher: &RandomState, prefix: &[u8]) -> u32 {
    hasher.hash_one(prefix) as u32
}
