//! Where texts and target labels stand in the open request, so that they can be repeated.

use super::diff::{COPY_LEN_MIN, common_prefix, common_suffix};
use super::edits::Words;
use super::encode::TargetLabels;
use super::sink::Sink;
use ahash::AHashMap;

/// A place in the open request: its offset plus 1; 0: nowhere.
type Place = u32;

/// Labels of a target, and where each stands.
#[derive(Debug, Default)]
struct Filled {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    places: Vec<Place>,
}

impl Filled {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.places.clear();
    }

    /// The label of this number and its place, if it was written.
    fn get(&self, label: usize) -> Option<(&[u8], usize)> {
        let place = *self.places.get(label).filter(|place| **place > 0)?;
        let start = if label == 0 { 0 } else { self.ends[label - 1] };
        let bytes = &self.bytes[start as usize..self.ends[label] as usize];
        Some((bytes, place as usize - 1))
    }
}

/// Places of what may come again.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By id of the edits: the first of its texts in `texts`.
    tables: AHashMap<u64, u32>,
    texts: Vec<Place>,
    target: Filled,
    target_before: Filled,
}

impl Places {
    /// The request is empty.
    pub(super) fn clear(&mut self) {
        self.tables.clear();
        self.texts.clear();
        self.target.clear();
        self.target_before.clear();
    }

    /// From now on holes are filled with these labels.
    pub(super) fn begin_scrape(&mut self, labels: &TargetLabels) {
        std::mem::swap(&mut self.target, &mut self.target_before);
        let target = &mut self.target;
        target.clear();
        target.bytes.extend_from_slice(&labels.bytes);
        target.ends.extend_from_slice(&labels.ends);
        target.places.resize(labels.ends.len(), 0);
    }

    /// The first of the places of kept edits with this many texts.
    pub(super) fn kept_texts(&mut self, id: u64, count: u32) -> usize {
        let texts = &mut self.texts;
        let first = self.tables.entry(id).or_insert_with(|| {
            let first = texts.len() as u32;
            texts.resize(texts.len() + count as usize, 0);
            first
        });
        *first as usize
    }

    /// The first of the places of edits that are used once; `end_texts` gives them back.
    pub(super) fn passing_texts(&mut self, count: u32) -> usize {
        let first = self.texts.len();
        self.texts.resize(first + count as usize, 0);
        first
    }

    pub(super) fn end_texts(&mut self, first: usize) {
        self.texts.truncate(first);
    }

    /// Writes a text, or repeats it.
    #[inline]
    pub(super) fn write_text<S: Sink>(&mut self, sink: &mut S, text: usize, bytes: &[u8]) {
        let here = sink.len();
        let place = std::mem::replace(&mut self.texts[text], here as Place + 1) as usize;
        if place == 0 {
            sink.literal(bytes);
        } else {
            sink.copy(bytes.len(), here + 1 - place);
        }
    }

    /// Whether the first text of a whole entry stands somewhere.
    pub(super) fn knows(&self, mut words: Words<'_>, texts: usize) -> bool {
        while let Some((_, text)) = words.next_operation() {
            if let Some(text) = text {
                return self.texts[texts + text as usize] != 0;
            }
        }
        false
    }

    /// Takes note of the texts of a whole entry whose labels were written at `start` by other
    /// means.
    pub(super) fn note(
        &mut self,
        mut words: Words<'_>,
        texts: usize,
        hole_lens: &[usize],
        start: usize,
    ) {
        let mut at = start;
        while let Some((operation, text)) = words.next_operation() {
            at += hole_lens[operation.holes()];
            if let Some(text) = text {
                self.texts[texts + text as usize] = at as Place + 1;
            }
            at += operation.own();
        }
    }

    /// Writes a label of the target: as it stands elsewhere, or like that of the target before.
    pub(super) fn write_label<S: Sink>(&mut self, sink: &mut S, target: &TargetLabels, label: u16) {
        let bytes = &target.bytes[target.range(label)];
        let label = usize::from(label);
        let here = sink.len();
        if let Some((_, place)) = self.target.get(label) {
            sink.copy(bytes.len(), here - place);
        } else if let Some((before, place)) = self.target_before.get(label) {
            write_like(sink, bytes, before, here - place);
        } else {
            sink.literal(bytes);
        }
        if let Some(place) = self.target.places.get_mut(label) {
            *place = here as Place + 1;
        }
    }
}

/// Writes `bytes`, repeating what is equal at both ends of `before`, which begins `distance`
/// earlier.
pub(super) fn write_like<S: Sink>(sink: &mut S, bytes: &[u8], before: &[u8], distance: usize) {
    let mut prefix = common_prefix(before, bytes);
    if prefix < COPY_LEN_MIN && sink.match_distance() != distance {
        prefix = 0;
    }
    let rest = &bytes[prefix..];
    let mut suffix = common_suffix(&before[prefix..], rest);
    if suffix < COPY_LEN_MIN {
        suffix = 0;
    }
    if prefix > 0 {
        sink.copy(prefix, distance);
    }
    sink.literal(&rest[..rest.len() - suffix]);
    if suffix > 0 {
        sink.copy(suffix, distance + bytes.len() - before.len());
    }
}
