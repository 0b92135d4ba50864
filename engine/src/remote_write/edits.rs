//! Entries of a block -> how the label bytes of each differ from those of the one before.
//!
//! Series that follow each other mostly have the same labels. What stays equal is known from the
//! block alone, so it is found once, stored in about 10 bytes a series, and a compressor is told
//! instead of searching for it (see `construct`).
//!
//! **Form**: per entry one word (how many words follow, the entry's holes, how it is written) and
//! then operations, one word each: copy from the entry before, constant bytes and whole holes; then
//! bytes of its own, in place of some that the one before has there. Own bytes of some length have
//! a number besides (**text**), the same for the same bytes, so that they can be copied from where
//! they were written last. The first entry, and one whose holes are others, is written **whole**.
//!
//! **Invariant**: `Edits` of a block, applied entry by entry, give the block's label bytes (tests
//! in `tests/construct.rs`); a copy is of `COPY_LEN_MIN` bytes or more, or there is none.

use super::diff::{Edit, diff, merge_near};
use super::encode::TargetLabels;
use ahash::AHashMap;
use ringscrape_wal::definition::{Block, Hole, next_id};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// Own bytes of this length have a number.
const TEXT_LEN_MIN: usize = 8;
/// Label bytes of one entry; longer ones have no edits, nor has their block.
const ENTRY_BYTES_MAX: usize = 1 << 16;
/// Distinct lists of holes in a block.
const HOLE_LISTS_MAX: usize = 128;
/// Entries between two places at which reading can begin.
const ENTRIES_PER_MARK: usize = 64;

/// A block that has no edits: absurd labels, or holes in too many ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit;

/// How an entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Edits of the entry before that is not dropped.
    Edited,
    /// On its own: no copies; the holes of an operation are filled before its bytes are written.
    Whole,
    /// A series without labels, which is not sent.
    Dropped,
}

/// The first word of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head(u32);

impl Head {
    #[inline]
    fn new(form: Form, holes: u32, words: usize) -> Result<Self, Unfit> {
        let words = u16::try_from(words).map_err(|_| Unfit)?;
        Ok(Self((form as u32) << 24 | holes << 16 | u32::from(words)))
    }

    /// Words of the entry after this one.
    #[inline]
    pub(super) fn words(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// Number of the list of all holes.
    #[inline]
    pub(super) fn holes(self) -> usize {
        (self.0 >> 16 & 0xff) as usize
    }

    #[inline]
    pub(super) fn form(self) -> Form {
        match self.0 >> 24 {
            0 => Form::Edited,
            1 => Form::Whole,
            _ => Form::Dropped,
        }
    }
}

/// Copy `copied` constant bytes and the holes of list `holes`; write `own` bytes of the block in
/// place of `replaced`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation(u32);

impl Operation {
    const TEXT: u32 = 1 << 31;

    #[inline]
    pub(super) fn copied(self) -> usize {
        (self.0 & 0xff) as usize
    }

    #[inline]
    pub(super) fn own(self) -> usize {
        (self.0 >> 8 & 0xff) as usize
    }

    #[inline]
    pub(super) fn replaced(self) -> usize {
        (self.0 >> 16 & 0xff) as usize
    }

    #[inline]
    pub(super) fn holes(self) -> usize {
        (self.0 >> 24 & 0x7f) as usize
    }

    /// Whether the number of its text follows.
    #[inline]
    pub(super) fn has_text(self) -> bool {
        self.0 & Self::TEXT != 0
    }
}

/// The operations of some entries, one after the other.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Words<'a>(pub(super) &'a [u32]);

impl<'a> Words<'a> {
    /// The next entry; `None` at the end.
    #[inline]
    pub(super) fn next_entry(&mut self) -> Option<(Head, Words<'a>)> {
        let (head, rest) = self.0.split_first()?;
        let head = Head(*head);
        let (own, rest) = rest.split_at_checked(head.words())?;
        self.0 = rest;
        Some((head, Words(own)))
    }

    /// The next operation of an entry and the number of its text.
    #[inline]
    pub(super) fn next_operation(&mut self) -> Option<(Operation, Option<u32>)> {
        let (operation, mut rest) = self.0.split_first()?;
        let operation = Operation(*operation);
        let mut text = None;
        if operation.has_text() {
            let (number, after) = rest.split_first()?;
            (text, rest) = (Some(*number), after);
        }
        self.0 = rest;
        Some((operation, text))
    }
}

/// Lists of target labels, numbered; number 0 is the empty one.
#[derive(Debug, Clone, Default)]
pub(super) struct HoleLists(Vec<Box<[u16]>>);

impl HoleLists {
    fn number(&mut self, labels: &[u16]) -> Result<u32, Unfit> {
        if self.0.is_empty() {
            self.0.push(Box::default());
        }
        if let Some(number) = self.0.iter().position(|have| **have == *labels) {
            return Ok(number as u32);
        }
        if self.0.len() == HOLE_LISTS_MAX {
            return Err(Unfit);
        }
        self.0.push(labels.into());
        Ok(self.0.len() as u32 - 1)
    }

    /// What the holes of each list take for a target; false if the target has not all of them.
    pub(super) fn lens(&self, target: &TargetLabels, lens: &mut Vec<usize>) -> bool {
        lens.clear();
        for labels in &self.0 {
            let mut sum = 0;
            for label in labels {
                let len = target.range(*label).len();
                if len == 0 {
                    return false;
                }
                sum += len;
            }
            lens.push(sum);
        }
        true
    }

    pub(super) fn get(&self, number: usize) -> &[u16] {
        self.0.get(number).map_or(&[], |labels| labels)
    }

    fn clear(&mut self) {
        self.0.truncate(1);
    }
}

/// The edits of one block.
#[derive(Debug)]
pub struct Edits {
    /// Unique in this process.
    pub(super) id: u64,
    words: Box<[u32]>,
    /// Index in `words` of every `ENTRIES_PER_MARK`th entry.
    marks: Box<[u32]>,
    pub(super) hole_lists: HoleLists,
    /// Number of texts.
    pub(super) texts: u32,
}

impl Edits {
    /// The edits of `block`, made with the memory of `builder`.
    ///
    /// # Errors
    /// `Unfit`, for blocks that no exporter has.
    pub fn new(block: &Block, builder: &mut EditsBuilder) -> Result<Self, Unfit> {
        builder.entries(block, 0..block.entries.len() as u32)?;
        Ok(Self {
            id: next_id(),
            words: builder.words.as_slice().into(),
            marks: builder.marks.as_slice().into(),
            hole_lists: builder.hole_lists.clone(),
            texts: builder.texts,
        })
    }

    /// The words of entry `index` and of those after it.
    pub(super) fn from(&self, index: u32) -> Words<'_> {
        let index = index as usize;
        let mark = self.marks.get(index / ENTRIES_PER_MARK).copied();
        let mut rest = Words(&self.words[mark.map_or(self.words.len(), |mark| mark as usize)..]);
        for _ in 0..index % ENTRIES_PER_MARK {
            rest.next_entry();
        }
        rest
    }

    /// Memory, about.
    pub fn cost(&self) -> usize {
        size_of::<Self>() + (self.words.len() + self.marks.len()) * 4 + 64
    }
}

/// Makes edits; its memory is used again.
#[derive(Debug, Default)]
pub struct EditsBuilder {
    words: Vec<u32>,
    marks: Vec<u32>,
    pub(super) hole_lists: HoleLists,
    pub(super) texts: u32,
    /// By hash: where the text stands in the block's bytes, and its number.
    known: AHashMap<u64, (u32, u32, u32)>,
    edits: Vec<Edit>,
    holes: Vec<u16>,
}

impl EditsBuilder {
    /// Makes the edits of these entries of a block, to be read with `all`; the first is whole.
    pub(super) fn entries(&mut self, block: &Block, entries: Range<u32>) -> Result<(), Unfit> {
        self.start();
        let mut before = None;
        for (index, place) in entries.zip(0_usize..) {
            if place.is_multiple_of(ENTRIES_PER_MARK) {
                self.marks.push(self.words.len() as u32);
            }
            self.entry(before.map(|before| (block, before)), (block, index), true)?;
            let (bytes, holes) = block.entry(index);
            if !bytes.is_empty() || !holes.is_empty() {
                before = Some(index);
            }
        }
        Ok(())
    }

    /// Makes the edits of one entry, to be read with `all`. `None` if the two have not the same
    /// holes, or are too long.
    pub(super) fn between(&mut self, before: (&Block, u32), entry: (&Block, u32)) -> Option<Head> {
        self.start();
        self.entry(Some(before), entry, false).ok()?;
        let head = self.all().next_entry()?.0;
        (head.form() == Form::Edited).then_some(head)
    }

    /// What was made.
    pub(super) fn all(&self) -> Words<'_> {
        Words(&self.words)
    }

    fn start(&mut self) {
        self.words.clear();
        self.marks.clear();
        self.hole_lists.clear();
        self.known.clear();
        self.texts = 0;
    }

    fn entry(
        &mut self,
        before: Option<(&Block, u32)>,
        (block, index): (&Block, u32),
        with_texts: bool,
    ) -> Result<(), Unfit> {
        let (bytes, holes) = block.entry(index);
        let head_at = self.words.len();
        self.words.push(0);
        self.holes.clear();
        self.holes
            .extend(holes.iter().map(|hole| hole.target_label));
        let all_holes = self.hole_lists.number(&self.holes)?;
        self.holes.clear();
        if bytes.len() > ENTRY_BYTES_MAX || block.bytes.len() < bytes.end {
            return Err(Unfit);
        }
        let like = before.filter(|(before, at)| {
            let (bytes_before, holes_before) = before.entry(*at);
            bytes_before.len() <= ENTRY_BYTES_MAX
                && holes_before.len() == holes.len()
                && holes_before
                    .iter()
                    .zip(holes)
                    .all(|(a, b)| a.target_label == b.target_label)
        });
        let form = match like {
            _ if bytes.is_empty() && holes.is_empty() => Form::Dropped,
            Some(before) => {
                self.edited(before, (block, index), with_texts)?;
                Form::Edited
            }
            None => {
                self.whole(block, bytes, holes, with_texts)?;
                Form::Whole
            }
        };
        let words = self.words.len() - head_at - 1;
        self.words[head_at] = Head::new(form, all_holes, words)?.0;
        Ok(())
    }

    fn whole(
        &mut self,
        block: &Block,
        bytes: Range<usize>,
        holes: &[Hole],
        with_texts: bool,
    ) -> Result<(), Unfit> {
        for (segment, hole) in segments(bytes, holes) {
            if !segment.is_empty() {
                self.put(block, 0, segment.start, segment.end, 0, with_texts)?;
            }
            self.holes.extend(hole);
        }
        if !self.holes.is_empty() {
            self.put(block, 0, 0, 0, 0, false)?;
        }
        Ok(())
    }

    fn edited(
        &mut self,
        (before, at): (&Block, u32),
        (block, index): (&Block, u32),
        with_texts: bool,
    ) -> Result<(), Unfit> {
        let (bytes_before, holes_before) = before.entry(at);
        let (bytes, holes) = block.entry(index);
        let mut copied_from = bytes.start;
        let segments_before = segments(bytes_before, holes_before);
        for ((segment, hole), (old, _)) in segments(bytes.clone(), holes).zip(segments_before) {
            self.edits.clear();
            let old = before.bytes.get(old).ok_or(Unfit)?;
            diff(
                old,
                &block.bytes[segment.clone()],
                segment.start,
                &mut self.edits,
            );
            let first = (segment.start == bytes.start).then_some(bytes.start);
            let last = hole.is_none().then_some(bytes.end);
            merge_near(&mut self.edits, first, last);
            for position in 0..self.edits.len() {
                let Edit {
                    start,
                    end,
                    replaced,
                } = self.edits[position];
                let copied = start - copied_from;
                self.put(block, copied, start, end, replaced, with_texts)?;
                copied_from = end;
            }
            self.holes.extend(hole);
        }
        let copied = bytes.end - copied_from;
        if copied > 0 || !self.holes.is_empty() {
            self.put(block, copied, 0, 0, 0, false)?;
        }
        Ok(())
    }

    /// Appends operations for one copy, with the holes gathered, and one replacement.
    fn put(
        &mut self,
        block: &Block,
        mut copied: usize,
        mut start: usize,
        end: usize,
        mut replaced: usize,
        with_texts: bool,
    ) -> Result<(), Unfit> {
        let mut holes = self.hole_lists.number(&self.holes)?;
        self.holes.clear();
        while copied > 255 {
            self.words.push(255 | holes << 24);
            (copied, holes) = (copied - 255, 0);
        }
        loop {
            let own = (end - start).min(255);
            let gone = replaced.min(255);
            let word = copied as u32 | (own as u32) << 8 | (gone as u32) << 16 | holes << 24;
            if with_texts && own >= TEXT_LEN_MIN {
                let text = self.text(block, start, own);
                self.words.extend([word | Operation::TEXT, text]);
            } else {
                self.words.push(word);
            }
            start += own;
            replaced -= gone;
            (copied, holes) = (0, 0);
            if start == end && replaced == 0 {
                return Ok(());
            }
        }
    }

    /// The number of a text.
    fn text(&mut self, block: &Block, start: usize, len: usize) -> u32 {
        let bytes = &block.bytes[start..start + len];
        let hash = xxh3_64(bytes);
        if let Some((at, have, number)) = self.known.get(&hash) {
            let at = *at as usize;
            if block.bytes[at..at + *have as usize] == *bytes {
                return *number;
            }
        }
        let number = self.texts;
        self.texts += 1;
        self.known.insert(hash, (start as u32, len as u32, number));
        number
    }
}

/// An entry's constant bytes, cut at its holes: each part with the hole after it.
pub(super) fn segments(
    bytes: Range<usize>,
    holes: &[Hole],
) -> impl Iterator<Item = (Range<usize>, Option<u16>)> {
    let mut at = bytes.start;
    let end = bytes.end;
    let cut = holes.iter().map(|hole| Some(*hole)).chain([None]);
    cut.map(move |hole| {
        let to = hole.map_or(end, |hole| (hole.offset as usize).clamp(at, end));
        let segment = at..to;
        at = to;
        (segment, hole.map(|hole| hole.target_label))
    })
}
