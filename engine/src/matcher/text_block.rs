//! Pieces of exposed text -> immutable blocks of them, cut at metric families.

use super::derive::DerivedBlock;
use super::hashed::Hashed;
use crate::parse::{self, Dialect, Piece};
use ahash::RandomState;
use ringscrape_wal::definition::FamilyKind;
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;

/// A block ends at the next metric family once it has this many entries.
const ENTRIES_SOFT: usize = 32;
/// A block has at most this many entries.
const ENTRIES_HARD: usize = 1000;
/// A block that has this much text takes no further entry, in bytes.
const TEXT_BYTES_SOFT: usize = 1 << 20;
/// Longest prefix (comments and series of one sample) that is accepted, in bytes.
pub(crate) const PREFIX_BYTES_MAX: usize = 64 << 20;

/// The counters of an `Rc` or `Arc`.
pub(super) const RC_BYTES: usize = 16;

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
    /// Keyed hash of each prefix.
    pub(crate) hashes: Box<[u64]>,
    /// `kinds.len() == hashes.len()`.
    pub(crate) kinds: Box<[EntryKind]>,
    form: RefCell<Form>,
    /// Its text is better kept.
    keeps_text: Cell<bool>,
    /// The layout in the making that has this block already.
    pub(super) taken: Cell<u64>,
}

/// How a block knows its lines.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// By their text.
    Text(Rc<Lines>),
    /// By the hashes of their prefixes.
    Hashed(Rc<Hashed>),
}

/// The text of a block.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The prefixes, one after the other.
    pub(crate) text: Box<[u8]>,
    /// End (exclusive) of each prefix in `text`; rising.
    pub(crate) ends: Box<[u32]>,
    /// Where each entry's series (name and labels) stands in `text`: start and end.
    pub(crate) series: Box<[(u32, u32)]>,
}

impl Lines {
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

    /// Where the series stands in the prefix: start and end.
    pub(super) fn series_in_prefix(&self, index: u32) -> (u32, u32) {
        let base = self.start(index) as u32;
        let (start, end) = self.series[index as usize];
        (start - base, end - base)
    }
}

impl TextBlock {
    /// How many entries there are.
    pub(crate) fn len(&self) -> u32 {
        self.hashes.len() as u32
    }

    /// How it knows its lines now.
    #[inline]
    pub(crate) fn form(&self) -> Form {
        self.form.borrow().clone()
    }

    /// The text; from now on it is kept.
    pub(crate) fn lines(&self) -> Rc<Lines> {
        let hashed = match &*self.form.borrow() {
            Form::Text(lines) => return lines.clone(),
            Form::Hashed(hashed) => hashed.clone(),
        };
        let lines = Rc::new(hashed.lines());
        self.form.replace(Form::Text(lines.clone()));
        self.keeps_text.set(false);
        lines
    }

    /// Gives the text up, if the derived labels make up for it. True: that took some work.
    pub(super) fn give_text_up(&self, derived: &Rc<DerivedBlock>) -> bool {
        let lines = match &*self.form.borrow() {
            Form::Text(lines) if !self.keeps_text.get() => lines.clone(),
            _ => return false,
        };
        match Hashed::new(self.dialect, &lines, derived, lines.text.len() / 2) {
            Some(hashed) => {
                self.form.replace(Form::Hashed(Rc::new(hashed)));
            }
            None => self.keeps_text.set(true),
        }
        true
    }

    /// The same whatever has to be kept.
    #[cfg(test)]
    pub(super) fn give_any_text_up(&self, derived: &Rc<DerivedBlock>) -> bool {
        let lines = self.lines();
        let hashed = Hashed::new(self.dialect, &lines, derived, usize::MAX);
        let given = hashed.map(|hashed| {
            let again = hashed.lines();
            assert_eq!((&again.text, &again.ends), (&lines.text, &lines.ends));
            assert_eq!(again.series, lines.series);
            self.form.replace(Form::Hashed(Rc::new(hashed)))
        });
        given.is_some()
    }

    /// Appends everything before the value of entry `index`; gives where its series stands in it.
    pub(crate) fn push_prefix(&self, index: u32, out: &mut Vec<u8>) -> (u32, u32) {
        match &*self.form.borrow() {
            Form::Text(lines) => {
                out.extend_from_slice(lines.prefix(index));
                lines.series_in_prefix(index)
            }
            Form::Hashed(hashed) => hashed.push_prefix(index, out),
        }
    }

    /// Name and labels of entry `index` as exposed, instead of what is in `out`.
    pub(crate) fn series<'a>(&self, index: u32, out: &'a mut Vec<u8>) -> &'a [u8] {
        out.clear();
        let (start, end) = self.push_prefix(index, out);
        &out[start as usize..end as usize]
    }

    /// Whether `prefix`, whose hash is `hash`, is everything before the value of entry `index`.
    pub(crate) fn is_prefix(&self, index: u32, hash: u64, prefix: &[u8]) -> bool {
        hash == self.hashes[index as usize]
            && match &*self.form.borrow() {
                Form::Text(lines) => lines.prefix(index) == prefix,
                Form::Hashed(hashed) => usize::from(hashed.lens[index as usize]) == prefix.len(),
            }
    }

    /// Whether `rest` begins with entry `index`, and goes on.
    pub(crate) fn begins(&self, index: u32, rest: &[u8], hasher: &RandomState) -> bool {
        match &*self.form.borrow() {
            Form::Text(lines) => {
                let want = lines.prefix(index);
                // Neighbours differ at their ends.
                want.len() < rest.len()
                    && want[want.len() - 1] == rest[want.len() - 1]
                    && rest.starts_with(want)
            }
            Form::Hashed(hashed) => {
                let len = usize::from(hashed.lens[index as usize]);
                len < rest.len()
                    && rest[len - 1] == b' '
                    && prefix_hash(hasher, &rest[..len]) == self.hashes[index as usize]
            }
        }
    }

    /// Bytes of memory that this holds: of text, and of what is there instead.
    pub(crate) fn memory_bytes(&self) -> (usize, usize) {
        let own = RC_BYTES + size_of::<Self>() + self.hashes.len() * 10;
        match &*self.form.borrow() {
            Form::Text(lines) => {
                let lines =
                    RC_BYTES + size_of::<Lines>() + lines.text.len() + lines.ends.len() * 12;
                (own + lines, 0)
            }
            Form::Hashed(hashed) => (0, own + RC_BYTES + hashed.memory_bytes()),
        }
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
    hash: u64,
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
    /// One entry's prefix.
    prefix: Vec<u8>,
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

    /// Bytes of memory that this holds.
    pub(super) fn memory_bytes(&self) -> usize {
        self.text.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.cuts.capacity() * size_of::<u32>()
            + self.prefix.capacity()
    }

    /// Adds a piece that the parser has read. `hash`: of its prefix.
    pub(crate) fn push(&mut self, dialect: Dialect, piece: &Piece<'_>, hash: u64) {
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
        let mut prefix = std::mem::take(&mut self.prefix);
        prefix.clear();
        let (start, end) = block.push_prefix(index, &mut prefix);
        let kind = block.kinds[index as usize];
        let entry = Entry {
            end: 0,
            series_start: start,
            series_len: end - start,
            hash: block.hashes[index as usize],
            kind_matters: kind.used.is_some(),
            kind,
        };
        self.push_parts(&prefix, entry);
        self.prefix = prefix;
    }

    /// Adds entry `index` of `other`.
    pub(crate) fn push_from(&mut self, other: &Fresh, index: u32) {
        self.push_parts(other.prefix(index), other.entries[index as usize]);
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

    /// Keyed hash of the entries `from..to`.
    pub(crate) fn hash(&self, hasher: &RandomState, from: u32, to: u32) -> u64 {
        let mut hash = hasher.build_hasher();
        for entry in &self.entries[from as usize..to as usize] {
            hash.write_u64(entry.hash);
        }
        hash.finish()
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
        let entries = &self.entries[from as usize..to as usize];
        let alike = entries.len() == block.hashes.len()
            && entries
                .iter()
                .zip(block.hashes.iter().zip(&block.kinds))
                .all(|(entry, (hash, kind))| entry.hash == *hash && entry.kind == *kind);
        alike
            && match &*block.form.borrow() {
                Form::Text(lines) => {
                    let base = self.start(from);
                    let mut ends = entries.iter().zip(&lines.ends);
                    *lines.text == *self.text(from, to)
                        && ends.all(|(entry, &end)| entry.end - base == end as usize)
                }
                Form::Hashed(hashed) => (from..to)
                    .zip(&hashed.lens)
                    .all(|(index, &len)| self.prefix(index).len() == usize::from(len)),
            }
    }

    /// Makes a block of the entries `from..to`.
    pub(crate) fn block(&self, id: u64, dialect: Dialect, from: u32, to: u32) -> TextBlock {
        let base = self.start(from);
        let entries = &self.entries[from as usize..to as usize];
        let series = (from..to).zip(entries).map(|(index, entry)| {
            let start = (self.start(index) - base) as u32 + entry.series_start;
            (start, start + entry.series_len)
        });
        let lines = Lines {
            text: self.text(from, to).into(),
            ends: entries.iter().map(|e| (e.end - base) as u32).collect(),
            series: series.collect(),
        };
        TextBlock {
            id,
            dialect,
            hashes: entries.iter().map(|entry| entry.hash).collect(),
            kinds: entries.iter().map(|entry| entry.kind).collect(),
            form: RefCell::new(Form::Text(Rc::new(lines))),
            keeps_text: Cell::new(false),
            taken: Cell::new(0),
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
    may_have_bound_label(series) && parse::kind_matters(dialect, series)
}

/// Whether a `=`, be it in a value, comes after `le`, which `quantile` ends with too: all other
/// series need not be parsed to know.
fn may_have_bound_label(series: &[u8]) -> bool {
    memchr::memchr_iter(b'=', series).any(|at| {
        let before = series[..at].trim_ascii_end();
        let name = before.strip_suffix(b"\"").unwrap_or(before);
        name.ends_with(b"le")
    })
}

/// The keyed hash under which a prefix is looked up.
pub(crate) fn prefix_hash(hasher: &RandomState, prefix: &[u8]) -> u64 {
    hasher.hash_one(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_series_whose_kind_matters_is_missed() {
        let names = ["le", "quantile", "mode", "file", "le2", "xle"];
        let (mut all, mut mattering, mut parsed) = (0, 0, 0);
        for dialect in [Dialect::Text, Dialect::OpenMetrics] {
            for (before, after) in [("", ""), (" ", ""), ("", " "), (" ", "\t"), ("\"", "\"")] {
                for name in names {
                    for value in ["0.5", "idle", "a=b"] {
                        for first in ["", "a=\"le\",", "le_=\"1\","] {
                            let label = format!("{before}{name}{after}=\"{value}\"");
                            let series = format!("some_file{{{first}{label}}}");
                            let matters = parse::kind_matters(dialect, series.as_bytes());
                            let may = may_have_bound_label(series.as_bytes());
                            assert!(may || !matters, "{series}");
                            all += 1;
                            mattering += u32::from(matters);
                            parsed += u32::from(may);
                        }
                    }
                }
            }
        }
        assert!(
            mattering > 0 && parsed < all * 3 / 4,
            "{mattering}, {parsed} of {all}"
        );
    }
}
