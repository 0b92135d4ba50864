//! A scrape and one like it in the same request -> repetitions of that one, and what differs.
//!
//! Targets of one kind expose the same series. If two of them have the same layout, and labels of
//! the same lengths, their records are the same byte for byte, but for a few bytes of the targets'
//! own labels, of values and of the timestamp; and all are at one distance. That is less than what
//! differs from series to series, and much of it is equal numbers. The distance is a whole scrape,
//! which costs nothing in zstd, where most matches have the distance of the one before, and more
//! than it saves in snappy.

use super::diff::COPY_LEN_MIN;
use super::encode::{Counts, Stamp, TargetLabels};
use super::sink::Sink;
use super::wire::{TAG_FIELD_1, put_varint, varint_len};
use ringscrape_wal::definition::{Block, Hole, Layout};
use ringscrape_wal::scrape::Scrape;
use std::ops::Range;
use std::sync::Arc;

/// Kinds of scrapes that are remembered.
const ROWS_MAX: usize = 4;
/// Where the value begins in a stamp.
const VALUE_AT: usize = 3;
const VALUE_LEN: usize = 8;

/// The latest scrape of a kind in the open request.
#[derive(Debug)]
struct Row {
    layout: Arc<Layout>,
    /// What its series were written from, by run.
    blocks: Vec<Arc<Block>>,
    target: TargetLabels,
    stamp: Stamp,
    values: Vec<f64>,
    /// Its uncompressed bytes.
    bytes: Range<usize>,
}

/// At most eight bytes of a target's labels that are not those of another one.
#[derive(Debug, Clone, Copy)]
struct Difference {
    /// Where they begin in `TargetLabels::bytes`.
    at: usize,
    len: usize,
    /// The bytes, the first in the lowest bits.
    word: u64,
}

/// The latest scrapes of the open request, one of each kind.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<Row>,
    /// The next one to be forgotten.
    oldest: usize,
    /// What the targets' labels differ in, by label.
    differences: Vec<Difference>,
    differences_ends: Vec<usize>,
}

impl Rows {
    /// Forgets the open request.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.oldest = 0;
    }

    /// Keeps a scrape that was written whole and plainly as `bytes`.
    pub(super) fn keep(
        &mut self,
        scrape: &Scrape,
        target: &TargetLabels,
        blocks: &[Arc<Block>],
        bytes: Range<usize>,
    ) {
        let row = Row {
            layout: scrape.layout.clone(),
            blocks: blocks.to_vec(),
            target: target.clone(),
            stamp: Stamp::new(scrape.timestamp_ms),
            values: scrape.values.to_vec(),
            bytes,
        };
        if self.rows.len() < ROWS_MAX {
            self.rows.push(row);
        } else {
            self.rows[self.oldest] = row;
            self.oldest = (self.oldest + 1) % ROWS_MAX;
        }
    }

    /// Writes all of a scrape that has values only, if one like it is known and it takes fewer than
    /// `len_max` bytes; `None`: nothing was written.
    pub(super) fn write<S: Sink>(
        &mut self,
        sink: &mut S,
        scrape: &Scrape,
        target: &TargetLabels,
        blocks: &[Arc<Block>],
        len_max: usize,
    ) -> Option<Counts> {
        let stamp = Stamp::new(scrape.timestamp_ms);
        let same = |(a, b): (&Arc<Block>, &Arc<Block>)| Arc::ptr_eq(a, b);
        let index = self.rows.iter().position(|row| {
            Arc::ptr_eq(&row.layout, &scrape.layout)
                && row.target.ends == target.ends
                && row.stamp.len() == stamp.len()
                && row.values.len() == scrape.values.len()
                && row.blocks.len() == blocks.len()
                && row.blocks.iter().zip(blocks).all(same)
        })?;
        if self.rows[index].bytes.len() >= len_max {
            return None;
        }
        self.compare(index, target);
        let row = &mut self.rows[index];
        let start = sink.len();
        let mut writer = Writer {
            distance: start - row.bytes.start,
            at: start,
            stamp_difference: difference(row.stamp.bytes(), stamp.bytes(), VALUE_AT + VALUE_LEN),
            differences: &self.differences,
            differences_ends: &self.differences_ends,
            target,
            stamp,
            sink,
            written: 0,
            dropped: 0,
        };
        let mut values = row.values.iter().zip(&scrape.values[..]);
        for (run, block) in scrape.layout.runs.iter().zip(blocks) {
            writer.run(block, run.from..run.to, &mut values);
        }
        writer.end();
        let (samples, relabel_dropped) = (writer.written, writer.dropped);
        let end = writer.at;
        debug_assert_eq!(end - start, row.bytes.len());
        row.bytes = start..end;
        row.stamp = writer.stamp;
        row.values.copy_from_slice(&scrape.values[..]);
        row.target.bytes.copy_from_slice(&target.bytes);
        Some(Counts {
            samples,
            relabel_dropped,
            timestamp_ms_newest: match samples {
                0 => i64::MIN,
                _ => scrape.timestamp_ms,
            },
            end: scrape.layout.len,
            ..Counts::default()
        })
    }

    /// Finds what `target` and the row's differ in.
    fn compare(&mut self, index: usize, target: &TargetLabels) {
        self.differences.clear();
        self.differences_ends.clear();
        let before = &self.rows[index].target;
        let mut start = 0;
        for end in &target.ends {
            let end = *end as usize;
            let first = self.differences.len();
            for at in (start..end).filter(|at| before.bytes[*at] != target.bytes[*at]) {
                let open = self.differences[first..].last_mut();
                match open.filter(|open| at < open.at + size_of::<u64>()) {
                    Some(open) => open.len = at + 1 - open.at,
                    None => self.differences.push(Difference {
                        at,
                        len: 1,
                        word: 0,
                    }),
                }
            }
            for difference in &mut self.differences[first..] {
                for (byte, shift) in target.bytes[difference.at..][..difference.len]
                    .iter()
                    .zip((0..).step_by(8))
                {
                    difference.word |= u64::from(*byte) << shift;
                }
            }
            self.differences_ends.push(self.differences.len());
            start = end;
        }
    }
}

/// From the first to the last byte from `from` on in which two texts of one length differ.
fn difference(a: &[u8], b: &[u8], from: usize) -> Range<usize> {
    let differs = |at: &usize| a[*at] != b[*at];
    let first = (from..b.len()).find(differs);
    let last = (from..b.len()).rfind(differs);
    match (first, last) {
        (Some(first), Some(last)) => first..last + 1,
        _ => b.len()..b.len(),
    }
}

/// Writes the records of one scrape.
struct Writer<'a, S> {
    sink: &'a mut S,
    target: &'a TargetLabels,
    /// Ends with the present value once it was set.
    stamp: Stamp,
    /// What the timestamps differ in, in the stamp; at its end: nothing.
    stamp_difference: Range<usize>,
    /// See `Rows`.
    differences: &'a [Difference],
    differences_ends: &'a [usize],
    /// To what is repeated.
    distance: usize,
    /// Where the next record begins; what is missing up to it is equal.
    at: usize,
    written: u32,
    dropped: u32,
}

impl<S: Sink> Writer<'_, S> {
    fn run<'v>(
        &mut self,
        block: &Block,
        entries: Range<u32>,
        values: &mut impl Iterator<Item = (&'v f64, &'v f64)>,
    ) {
        let (mut bytes_at, mut holes_at) = match entries.start.checked_sub(1) {
            None => (0, 0),
            Some(before) => {
                let entry = block.entries[before as usize];
                (entry.bytes_end as usize, entry.holes_end as usize)
            }
        };
        let entries = &block.entries[entries.start as usize..entries.end as usize];
        for (entry, (before, value)) in entries.iter().zip(values) {
            let bytes = bytes_at..entry.bytes_end as usize;
            let holes = &block.holes[holes_at..entry.holes_end as usize];
            (bytes_at, holes_at) = (bytes.end, entry.holes_end as usize);
            if bytes.is_empty() && holes.is_empty() {
                self.dropped += 1;
                continue;
            }
            let hole_lens = holes
                .iter()
                .map(|hole| self.target.range(hole.target_label).len());
            let body_len = bytes.len() + hole_lens.sum::<usize>() + self.stamp.len();
            let labels_at = self.at + 1 + varint_len(body_len as u64);
            self.labels(block, bytes, holes, labels_at, body_len);
            self.at = labels_at + body_len;
            self.value(before.to_bits(), value.to_bits());
            self.written += 1;
        }
    }

    /// Writes what differs in the target's own labels.
    #[inline]
    fn labels(
        &mut self,
        block: &Block,
        bytes: Range<usize>,
        holes: &[Hole],
        labels_at: usize,
        body_len: usize,
    ) {
        let mut inserted = 0;
        for (number, hole) in holes.iter().enumerate() {
            let label = usize::from(hole.target_label);
            let own = self.target.range(hole.target_label);
            let offset = (hole.offset as usize).clamp(bytes.start, bytes.end) - bytes.start;
            let from = match label.checked_sub(1) {
                None => 0,
                Some(before) => self.differences_ends.get(before).copied().unwrap_or(0),
            };
            let to = self.differences_ends.get(label).copied().unwrap_or(from);
            for difference in &self.differences[from..to] {
                let at = labels_at + offset + inserted + (difference.at - own.start);
                if !self.equal_up_to(at) {
                    let record = self.record(block, bytes.clone(), &holes[..=number], body_len);
                    let missing = at - self.sink.len();
                    let end = at - self.at;
                    self.sink.literal(&record[end - missing..end]);
                }
                self.sink.literal_word(difference.word, difference.len);
            }
            inserted += own.len();
        }
    }

    /// Repeats what is missing up to `at`; false if it is too little for that.
    #[inline]
    fn equal_up_to(&mut self, at: usize) -> bool {
        let missing = at - self.sink.len();
        let goes_on = self.sink.match_distance() == self.distance;
        if missing >= COPY_LEN_MIN || (missing > 0 && goes_on) {
            self.sink.copy(missing, self.distance);
            return true;
        }
        missing == 0
    }

    /// The beginning of the present record, up to the last of `holes` at least.
    #[cold]
    fn record(
        &self,
        block: &Block,
        bytes: Range<usize>,
        holes: &[Hole],
        body_len: usize,
    ) -> Vec<u8> {
        let mut record = vec![TAG_FIELD_1];
        put_varint(&mut record, body_len as u64);
        let mut at = bytes.start;
        for hole in holes {
            let offset = (hole.offset as usize).clamp(at, bytes.end);
            record.extend_from_slice(&block.bytes[at..offset]);
            record.extend_from_slice(&self.target.bytes[self.target.range(hole.target_label)]);
            at = offset;
        }
        record
    }

    /// Writes what differs in the stamp of the record that ends at `at`.
    #[inline]
    fn value(&mut self, before: u64, bits: u64) {
        let stamp_at = self.at - self.stamp.len();
        self.stamp.with(bits);
        let differs = bits ^ before;
        let mut end = stamp_at;
        if differs != 0 {
            let from = VALUE_AT + differs.trailing_zeros() as usize / 8;
            let to = VALUE_AT + VALUE_LEN - differs.leading_zeros() as usize / 8;
            end = self.stamp_part(stamp_at, from, to);
        }
        let Range { start, end: to } = self.stamp_difference;
        if start < to {
            // If the value was written up to here or near, that goes on.
            let from = match start < end - stamp_at + COPY_LEN_MIN && end > stamp_at {
                true => end - stamp_at,
                false => start,
            };
            self.stamp_part(stamp_at, from, to);
        }
    }

    /// Writes bytes of the stamp at `stamp_at`; gives where they end.
    #[inline]
    fn stamp_part(&mut self, stamp_at: usize, from: usize, to: usize) -> usize {
        let mut from = from;
        if !self.equal_up_to(stamp_at + from) {
            // Too little to be repeated. It belongs to the stamp: labels end with the last byte of
            // a value, or equally.
            from = self.sink.len() - stamp_at;
        }
        while from < to {
            let len = (to - from).min(size_of::<u64>());
            self.sink.literal_word(self.stamp.word(from), len);
            from += len;
        }
        stamp_at + to
    }

    /// Writes what is missing of the last record.
    fn end(&mut self) {
        if !self.equal_up_to(self.at) {
            let missing = self.at - self.sink.len();
            let len = self.stamp.len();
            self.sink.literal(&self.stamp.bytes()[len - missing..]);
        }
    }
}
