//! One sample after the other -> records of the open request, each like the one before.
//!
//! See `construct` for what is repeated of the record before.

use super::construct::{Part, Single, Source};
use super::edits::{Form, Head, Words, segments};
use super::encode::{
    Counts, Options, Stamp, TargetLabels, encode, put_exemplar, put_histogram, tail_from, take,
};
use super::places::{Places, write_like};
use super::sink::Sink;
use super::wire::{TAG_FIELD_1, varint_len};
use ringscrape_wal::definition::Block;
use ringscrape_wal::scrape::{STALE_NAN_BITS, Sides};
use std::sync::Arc;

/// A stamp of this length has enough constant bytes after the value to be repeated.
const STAMP_LEN_MIN: usize = 17;

/// What the last record of the open request was.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) places: Places,
    /// Block of the last record, if it is of this scrape.
    block: Option<Arc<Block>>,
    /// Its entry.
    entry: u32,
    /// The entry of the block whose edits are those of the last record; `u32::MAX`: none.
    entry_next: u32,
    /// Bytes of the last record after its length, and all its bytes.
    body_len: usize,
    record_len: usize,
    stamp: Stamp,
    /// The value of the last record, if what follows its labels is that in the stamp.
    plain_bits: Option<u64>,
    /// What follows the labels of the last record, if `plain_bits` is `None`.
    tail: Vec<u8>,
    tail_new: Vec<u8>,
}

impl State {
    /// Forgets the open request.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.unlike();
    }

    /// What follows has nothing before it that it is like.
    pub(super) fn unlike(&mut self) {
        self.block = None;
        self.entry_next = u32::MAX;
        self.tail.clear();
        self.plain_bits = None;
    }

    pub(super) fn begin_scrape(&mut self, timestamp_ms: i64, target: &TargetLabels) {
        self.keep_tail();
        self.block = None;
        self.entry_next = u32::MAX;
        self.stamp = Stamp::new(timestamp_ms);
        self.places.begin_scrape(target);
    }

    /// Puts what follows the labels of the last record in `tail`.
    fn keep_tail(&mut self) {
        if let Some(bits) = self.plain_bits.take() {
            self.tail.clear();
            self.tail.extend_from_slice(self.stamp.with(bits));
        }
    }

    /// Writes a run plainly that has no edits; gives the position it came to.
    pub(super) fn unfit<S: Sink>(
        &mut self,
        sink: &mut S,
        part: &Part<'_>,
        raw: &mut Vec<u8>,
        counts: &mut Counts,
        sink_end: usize,
    ) -> u32 {
        if sink.len() >= sink_end {
            return part.position;
        }
        let options = Options {
            bytes_max: match sink_end {
                usize::MAX => 0,
                _ => sink_end - sink.len(),
            },
            ..part.options
        };
        raw.clear();
        let range = part.position..part.position + part.len;
        let block = |_: &Arc<Block>| Some(part.block.clone());
        let written = encode(raw, part.scrape, part.target, range, options, block);
        sink.literal(raw);
        self.unlike();
        counts.add(&written);
        written.end
    }

    /// Writes some entries of a block.
    pub(super) fn part<S: Sink>(
        &mut self,
        sink: &mut S,
        part: &Part<'_>,
        source: &mut Source<'_>,
        single: &mut Single<'_>,
        counts: &mut Counts,
    ) {
        let scrape = part.scrape;
        let len = part.len as usize;
        // Whether the scrape as a whole is too old; samples with their own timestamp may not be.
        let too_old = Some(scrape.timestamp_ms) < part.options.timestamp_ms_min;
        let stale = part.position >= scrape.layout.len;
        let after = source.words;
        if stale && too_old {
            counts.too_old += part.len;
        } else if stale {
            let values = std::iter::repeat_n(STALE_NAN_BITS, len);
            self.plain(sink, part, source, single, values, counts);
        } else {
            let values = scrape.values.get(part.position as usize..);
            let values = values.unwrap_or_default();
            let values = &values[..len.min(values.len())];
            counts.malformed += (len - values.len()) as u32;
            match scrape.sides.as_deref() {
                Some(sides) => self.mixed(sink, part, source, single, (values, sides), counts),
                None if too_old => counts.too_old += values.len() as u32,
                None => {
                    let values = values.iter().map(|value| value.to_bits());
                    self.plain(sink, part, source, single, values, counts);
                }
            }
            if values.len() == len && !(scrape.sides.is_none() && too_old) {
                return;
            }
        }
        if !stale || too_old {
            // Not all entries were read.
            source.words = after;
            for _ in 0..len {
                source.words.next_entry();
            }
        }
    }

    /// Whether the edits of `part`'s first entry are those of the last record.
    fn is_next(&self, part: &Part<'_>) -> bool {
        let same = |block: &Arc<Block>| Arc::ptr_eq(block, part.block);
        self.entry_next == part.entry && self.block.as_ref().is_some_and(same)
    }

    fn set_last(&mut self, part: &Part<'_>, entry: u32) {
        self.entry = entry;
        let same = |block: &Arc<Block>| Arc::ptr_eq(block, part.block);
        if !self.block.as_ref().is_some_and(same) {
            self.block = Some(part.block.clone());
        }
    }

    /// Writes samples that all have the scrape's timestamp and nothing beside a value.
    fn plain<S: Sink>(
        &mut self,
        sink: &mut S,
        part: &Part<'_>,
        source: &mut Source<'_>,
        single: &mut Single<'_>,
        values: impl Iterator<Item = u64>,
        counts: &mut Counts,
    ) {
        let block = &**part.block;
        let mut bytes_at = block.entry(part.entry).0.start;
        let entries = &block.entries[part.entry as usize..][..part.len as usize];
        let mut is_next = self.is_next(part);
        let tail_len = self.stamp.len();
        let (mut written, mut dropped) = (0, 0);
        for ((entry, bits), index) in entries.iter().zip(values).zip(part.entry..) {
            let Some((head, words)) = source.words.next_entry() else {
                break;
            };
            let bytes = bytes_at..entry.bytes_end as usize;
            bytes_at = bytes.end;
            if head.form() == Form::Dropped {
                dropped += 1;
                continue;
            }
            let body_len = bytes.len() + source.hole_lens[head.holes()] + tail_len;
            if is_next && head.form() == Form::Edited {
                let distance = self.begin_like(sink, body_len);
                let (lens, texts) = (source.hole_lens, source.texts);
                self.edited(sink, words, (lens, texts), &block.bytes[bytes], distance);
                self.entry = index;
            } else {
                self.apart(sink, part, (source, single), (head, words), index, body_len);
                self.set_last(part, index);
                is_next = true;
            }
            self.value(sink, bits);
            written += 1;
        }
        self.entry_next = if is_next {
            part.entry + part.len
        } else {
            u32::MAX
        };
        counts.relabel_dropped += dropped;
        counts.samples += written;
        if written > 0 {
            let newest = &mut counts.timestamp_ms_newest;
            *newest = (*newest).max(part.scrape.timestamp_ms);
        }
    }

    /// Writes samples of a scrape with side columns.
    fn mixed<S: Sink>(
        &mut self,
        sink: &mut S,
        part: &Part<'_>,
        source: &mut Source<'_>,
        single: &mut Single<'_>,
        (values, sides): (&[f64], &Sides),
        counts: &mut Counts,
    ) {
        let from = part.position;
        let mut skipped = tail_from(&sides.skipped, from, |index| *index);
        let mut timestamps = tail_from(&sides.timestamps, from, |side| side.index);
        let mut histograms = tail_from(&sides.histograms, from, |side| side.index);
        let mut exemplars = tail_from(&sides.exemplars, from, |side| side.index);
        let mut is_next = self.is_next(part);
        for (value, offset) in values.iter().zip(0..) {
            let Some((head, words)) = source.words.next_entry() else {
                break;
            };
            let (position, index) = (from + offset, part.entry + offset);
            let skip = take(&mut skipped, position, |index| *index).is_some();
            let explicit = take(&mut timestamps, position, |side| side.index);
            let histogram = take(&mut histograms, position, |side| side.index);
            let own = exemplars.iter().take_while(|one| one.index == position);
            let (own_exemplars, rest) = exemplars.split_at(own.count());
            exemplars = rest;
            if skip || (histogram.is_some() && part.options.without_histograms) {
                is_next &= head.form() == Form::Dropped;
                continue;
            }
            let timestamp_ms = explicit.map_or(part.scrape.timestamp_ms, |side| side.timestamp_ms);
            if Some(timestamp_ms) < part.options.timestamp_ms_min {
                counts.too_old += 1;
                is_next &= head.form() == Form::Dropped;
                continue;
            }
            if head.form() == Form::Dropped {
                counts.relabel_dropped += 1;
                continue;
            }
            let mut tail = std::mem::take(&mut self.tail_new);
            tail.clear();
            match histogram {
                Some(side) => {
                    put_histogram(&mut tail, &side.bytes, timestamp_ms);
                    counts.histograms += 1;
                }
                None => tail.extend_from_slice(Stamp::new(timestamp_ms).with(value.to_bits())),
            }
            if part.options.exemplars {
                for exemplar in own_exemplars {
                    put_exemplar(&mut tail, exemplar);
                    counts.exemplars += 1;
                }
            }
            let (bytes, _) = part.block.entry(index);
            let body_len = bytes.len() + source.hole_lens[head.holes()] + tail.len();
            if is_next && head.form() == Form::Edited {
                let distance = self.begin_like(sink, body_len);
                let (lens, texts) = (source.hole_lens, source.texts);
                let bytes = &part.block.bytes[bytes];
                self.edited(sink, words, (lens, texts), bytes, distance);
            } else {
                self.apart(sink, part, (source, single), (head, words), index, body_len);
            }
            self.set_last(part, index);
            is_next = true;
            self.end(sink, tail);
            counts.samples += 1;
            let newest = &mut counts.timestamp_ms_newest;
            *newest = (*newest).max(timestamp_ms);
        }
        self.entry_next = if is_next {
            part.entry + part.len
        } else {
            u32::MAX
        };
    }

    /// Begins a record whose labels are edits of the last one's; gives their distance.
    #[inline]
    fn begin_like<S: Sink>(&mut self, sink: &mut S, body_len: usize) -> usize {
        let distance = self.record_len;
        let len_before = distance - 1 - self.body_len;
        let (varint, len) = varint(body_len);
        if sink.match_distance() == distance {
            if body_len == self.body_len {
                sink.copy(1 + len, distance);
                return distance;
            }
            sink.copy(1, distance);
            sink.literal_word(varint, len);
        } else {
            sink.literal_word(varint << 8 | u64::from(TAG_FIELD_1), 1 + len);
        }
        self.body_len = body_len;
        self.record_len = 1 + len + body_len;
        distance + len - len_before
    }

    /// Begins any other record.
    fn begin_unlike<S: Sink>(&mut self, sink: &mut S, body_len: usize) {
        let (varint, len) = varint(body_len);
        sink.literal_word(varint << 8 | u64::from(TAG_FIELD_1), 1 + len);
        self.body_len = body_len;
        self.record_len = 1 + len + body_len;
    }

    /// Writes labels as edits of those `distance` before.
    #[inline]
    fn edited<S: Sink>(
        &mut self,
        sink: &mut S,
        mut words: Words<'_>,
        (hole_lens, texts): (&[usize], usize),
        bytes: &[u8],
        mut distance: usize,
    ) {
        let mut at = 0;
        while let Some((operation, text)) = words.next_operation() {
            let copied = operation.copied();
            let len = copied + hole_lens[operation.holes()];
            if len > 0 {
                sink.copy(len, distance);
            }
            at += copied;
            let own = operation.own();
            distance = distance + own - operation.replaced();
            let own_bytes = &bytes[at..at + own];
            match text {
                None => sink.literal(own_bytes),
                Some(text) => {
                    let text = texts + text as usize;
                    self.places.write_text(sink, text, own_bytes);
                }
            }
            at += own;
        }
    }

    /// Writes the length and labels of a record that is not the next one of a block.
    #[cold]
    fn apart<S: Sink>(
        &mut self,
        sink: &mut S,
        part: &Part<'_>,
        (source, single): (&Source<'_>, &mut Single<'_>),
        (head, words): (Head, Words<'_>),
        index: u32,
        body_len: usize,
    ) {
        let whole = head.form() == Form::Whole;
        if whole && (self.block.is_none() || self.places.knows(words, source.texts)) {
            self.begin_unlike(sink, body_len);
            let bytes = &part.block.bytes[part.block.entry(index).0];
            self.whole(sink, words, source, bytes, part.target);
            return;
        }
        let before = self.block.as_deref().map(|block| (block, self.entry));
        let made = before.and_then(|before| {
            let entry = (&**part.block, index);
            single.builder.between(before, entry)
        });
        let fits = |_: &Head| {
            single
                .builder
                .hole_lists
                .lens(part.target, single.hole_lens)
        };
        let labels_start = sink.len() + 1 + varint_len(body_len as u64);
        if made.filter(fits).is_some() {
            let distance = self.begin_like(sink, body_len);
            let mut words = single.builder.all();
            if let Some((_, words)) = words.next_entry() {
                let bytes = &part.block.bytes[part.block.entry(index).0];
                self.edited(sink, words, (single.hole_lens, 0), bytes, distance);
            }
        } else {
            self.begin_unlike(sink, body_len);
            let (bytes, holes) = part.block.entry(index);
            for (segment, hole) in segments(bytes, holes) {
                sink.literal(&part.block.bytes[segment]);
                if let Some(label) = hole {
                    self.places.write_label(sink, part.target, label);
                }
            }
        }
        if whole {
            let (lens, texts) = (source.hole_lens, source.texts);
            self.places.note(words, texts, lens, labels_start);
        }
    }

    /// Writes the labels of a whole entry.
    fn whole<S: Sink>(
        &mut self,
        sink: &mut S,
        mut words: Words<'_>,
        source: &Source<'_>,
        bytes: &[u8],
        target: &TargetLabels,
    ) {
        let mut at = 0;
        while let Some((operation, text)) = words.next_operation() {
            for label in source.hole_lists.get(operation.holes()) {
                self.places.write_label(sink, target, *label);
            }
            let own = &bytes[at..at + operation.own()];
            at += own.len();
            match text {
                None => sink.literal(own),
                Some(text) => {
                    let text = source.texts + text as usize;
                    self.places.write_text(sink, text, own);
                }
            }
        }
    }

    /// Ends a record with the scrape's stamp.
    #[inline]
    fn value<S: Sink>(&mut self, sink: &mut S, bits: u64) {
        let Some(before) = self.plain_bits else {
            let mut tail = std::mem::take(&mut self.tail_new);
            tail.clear();
            tail.extend_from_slice(self.stamp.with(bits));
            self.end(sink, tail);
            if self.stamp.len() >= STAMP_LEN_MIN {
                self.plain_bits = Some(bits);
            }
            return;
        };
        self.plain_bits = Some(bits);
        let distance = self.record_len;
        let different = bits ^ before;
        if different == 0 {
            sink.copy(self.stamp.len(), distance);
            return;
        }
        let low = different.trailing_zeros() as usize / 8;
        let high = different.leading_zeros() as usize / 8;
        if low > 0 || sink.match_distance() == distance {
            sink.copy(3 + low, distance);
            sink.literal_word(bits >> (8 * low), 8 - low - high);
        } else {
            // The three bytes before the value are too few to be repeated.
            let head = u64::from(self.stamp.head());
            sink.literal_word(head, 3);
            sink.literal_word(bits, 8 - high);
        }
        sink.copy(high + self.stamp.len() - 11, distance);
    }

    /// Ends a record with these bytes.
    fn end<S: Sink>(&mut self, sink: &mut S, tail: Vec<u8>) {
        self.keep_tail();
        if self.tail.is_empty() {
            sink.literal(&tail);
        } else {
            // From the beginning of the one to that of the other.
            let distance = self.record_len + self.tail.len() - tail.len();
            write_like(sink, &tail, &self.tail, distance);
        }
        self.tail_new = std::mem::replace(&mut self.tail, tail);
    }
}

/// A length as a varint in the low bytes of a word, and its number of bytes.
#[inline]
fn varint(len: usize) -> (u64, usize) {
    match len {
        0..0x80 => (len as u64, 1),
        0x80..0x4000 => ((len & 0x7f | 0x80 | (len >> 7) << 8) as u64, 2),
        _ => {
            let (mut rest, mut word, mut count) = (len as u64, 0, 0);
            while rest >= 0x80 {
                word |= (rest & 0x7f | 0x80) << (8 * count);
                rest >>= 7;
                count += 1;
            }
            (word | rest << (8 * count), count + 1)
        }
    }
}
