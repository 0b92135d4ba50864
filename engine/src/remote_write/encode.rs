//! One scrape -> `timeseries` fields of a remote write 1.0 request, by copying label bytes.
//!
//! Every sample becomes one `TimeSeries` message: the template's label bytes with the target's own
//! labels inserted at the holes, then one sample (or native histogram), then exemplars. Labels come
//! out sorted because templates are. A request is the concatenation of such fields.
//!
//! Cost: five short copies a sample, no allocation but the growth of `out`.

use super::wire::{
    TAG_FIELD_1, TAG_FIELD_3, TAG_HISTOGRAMS, TAG_SAMPLES, field_len, put_bytes, put_label,
    put_varint, varint_len,
};
use ringscrape_wal::definition::{Block, Hole, Run, Target};
use ringscrape_wal::scrape::{Exemplar, STALE_NAN_BITS, Scrape, Sides};
use std::ops::Range;
use std::sync::Arc;

/// A target's labels in wire form, encoded once per target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetLabels {
    /// One `labels` field after the other, in the order of `Target::labels`.
    pub(super) bytes: Box<[u8]>,
    /// End (exclusive) of each label in `bytes`.
    pub(super) ends: Box<[u32]>,
}

impl TargetLabels {
    /// Encodes the labels of `target`.
    pub fn new(target: &Target) -> Self {
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(target.labels.len());
        for (name, value) in &target.labels {
            put_label(&mut bytes, name, value);
            ends.push(bytes.len() as u32);
        }
        Self {
            bytes: bytes.into(),
            ends: ends.into(),
        }
    }

    /// Bytes of label `index`; empty if the target has no such label.
    #[inline]
    pub(super) fn range(&self, index: u16) -> Range<usize> {
        let index = usize::from(index);
        let Some(end) = self.ends.get(index) else {
            return 0..0;
        };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start as usize..*end as usize
    }
}

/// What applies to all samples of an encoding call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether exemplars are written.
    pub exemplars: bool,
    /// Native histograms are left out.
    pub without_histograms: bool,
    /// Samples older than this (Unix ms) are left out and counted.
    pub timestamp_ms_min: Option<i64>,
    /// Encoding stops soon after this many bytes were appended; 0 = no bound. The place depends on
    /// the content and on where `range` begins alone.
    pub bytes_max: usize,
}

/// What an encoding call did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// `TimeSeries` messages written: samples, staleness markers, histograms.
    pub samples: u32,
    /// Of `samples`, the native histograms.
    pub histograms: u32,
    /// Exemplars written.
    pub exemplars: u32,
    /// Positions left out because write relabelling dropped the series.
    pub relabel_dropped: u32,
    /// Positions left out because of `Options::timestamp_ms_min`.
    pub too_old: u32,
    /// Positions left out because the record contradicts its layout.
    pub malformed: u32,
    /// Newest timestamp written, Unix ms; meaningless if `samples` is 0.
    pub timestamp_ms_newest: i64,
    /// Position after the last one that was dealt with: the end of `range` unless `bytes_max`
    /// stopped it before.
    pub end: u32,
}

impl Counts {
    /// Adds what another call did before; `end` stays.
    pub(super) fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.histograms += other.histograms;
        self.exemplars += other.exemplars;
        self.relabel_dropped += other.relabel_dropped;
        self.too_old += other.too_old;
        self.malformed += other.malformed;
        self.timestamp_ms_newest = self.timestamp_ms_newest.max(other.timestamp_ms_newest);
    }
}

/// Entries between two looks at `Options::bytes_max`.
pub(super) const ENTRIES_PER_CHECK: u32 = 256;

/// Positions of a scrape: its values, then its staleness markers.
pub fn positions(scrape: &Scrape) -> u32 {
    let stale: u32 = scrape.stale.iter().map(|run| run.to - run.from).sum();
    scrape.layout.len + stale
}

/// Appends the samples at `range` (within `0..positions(scrape)`) to `out`.
///
/// `template` gives the block to copy labels from in place of the scrape's own (an entry without
/// bytes and holes is a dropped series); `None` means the block itself. It is called once per run.
pub fn encode(
    out: &mut Vec<u8>,
    scrape: &Scrape,
    target: &TargetLabels,
    range: Range<u32>,
    options: Options,
    mut template: impl FnMut(&Arc<Block>) -> Option<Arc<Block>>,
) -> Counts {
    let mut counts = Counts {
        timestamp_ms_newest: i64::MIN,
        ..Counts::default()
    };
    let out_end = match options.bytes_max {
        0 => usize::MAX,
        bytes_max => out.len().saturating_add(bytes_max),
    };
    let mut writer = Writer {
        out,
        target,
        options,
        counts: &mut counts,
        stamp: Stamp::new(scrape.timestamp_ms),
    };
    let stale_from = scrape.layout.len;
    let mut at = 0_u32;
    let runs = scrape.layout.runs.iter().chain(&scrape.stale);
    for run in runs {
        let Some((first, mut position, position_end)) = clip(run, &mut at, &range) else {
            continue;
        };
        let own = template(&run.block);
        let block = own.as_deref().unwrap_or(&run.block);
        let mut entry = first;
        while position < position_end {
            if writer.out.len() >= out_end {
                counts.end = position;
                return counts;
            }
            let len = (position_end - position).min(ENTRIES_PER_CHECK);
            writer.part(scrape, block, entry..entry + len, position, stale_from);
            entry += len;
            position += len;
        }
    }
    counts.end = range.end;
    counts
}

/// The part of `run`, which begins at position `*at`, that lies in `range`: its first entry, its
/// first position and its end. Moves `*at` to the end of the run.
pub(super) fn clip(run: &Run, at: &mut u32, range: &Range<u32>) -> Option<(u32, u32, u32)> {
    let start = *at;
    *at += run.to - run.from;
    let from = start.max(range.start);
    let to = (*at).min(range.end);
    (from < to).then(|| (run.from + (from - start), from, to))
}

/// A `samples` field, ready but for the value: `0x12 len { 0x09 value:8 0x10 timestamp }`.
#[derive(Debug, Clone, Default)]
pub(super) struct Stamp {
    /// With room for a word behind any of them.
    bytes: [u8; 32],
    len: usize,
    timestamp_ms: i64,
}

impl Stamp {
    pub(super) fn new(timestamp_ms: i64) -> Self {
        let mut timestamp = Vec::with_capacity(10);
        put_varint(&mut timestamp, timestamp_ms as u64);
        let mut bytes = [0; 32];
        bytes[0] = TAG_SAMPLES;
        bytes[1] = (10 + timestamp.len()) as u8;
        bytes[2] = 0x09;
        bytes[11] = 0x10;
        bytes[12..12 + timestamp.len()].copy_from_slice(&timestamp);
        Self {
            bytes,
            len: 12 + timestamp.len(),
            timestamp_ms,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The three bytes before the value, the first in the lowest bits.
    #[inline]
    pub(super) fn head(&self) -> u32 {
        u32::from_le_bytes([self.bytes[0], self.bytes[1], self.bytes[2], 0])
    }

    /// The eight bytes from `at` (before the end) on, the first in the lowest bits.
    #[inline]
    pub(super) fn word(&self, at: usize) -> u64 {
        self.bytes[at..]
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// As it is now.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// With this value, and room behind its bytes; and how many they are.
    #[inline]
    pub(super) fn wide(&mut self, value_bits: u64) -> (&[u8], usize) {
        self.bytes[3..11].copy_from_slice(&value_bits.to_le_bytes());
        (&self.bytes, self.len)
    }

    #[inline]
    pub(super) fn with(&mut self, value_bits: u64) -> &[u8] {
        self.bytes[3..11].copy_from_slice(&value_bits.to_le_bytes());
        &self.bytes[..self.len]
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    target: &'a TargetLabels,
    options: Options,
    counts: &'a mut Counts,
    stamp: Stamp,
}

impl Writer<'_> {
    /// Writes some entries of a block, whose first has this position in the scrape.
    fn part(
        &mut self,
        scrape: &Scrape,
        block: &Block,
        entries: Range<u32>,
        position: u32,
        stale_from: u32,
    ) {
        let len = entries.len();
        // Whether the scrape as a whole is too old; samples with their own timestamp may not be.
        let too_old = Some(scrape.timestamp_ms) < self.options.timestamp_ms_min;
        let stale = position >= stale_from;
        if entries.end as usize > block.entries.len() {
            self.counts.malformed += len as u32;
        } else if stale && too_old {
            self.counts.too_old += len as u32;
        } else if stale {
            self.plain(block, entries, std::iter::repeat_n(STALE_NAN_BITS, len));
        } else {
            let values = scrape.values.get(position as usize..).unwrap_or_default();
            let values = &values[..len.min(values.len())];
            self.counts.malformed += (len - values.len()) as u32;
            match scrape.sides.as_deref() {
                Some(sides) => self.mixed(scrape, sides, block, entries.start, values, position),
                None if too_old => self.counts.too_old += values.len() as u32,
                None => self.plain(block, entries, values.iter().map(|value| value.to_bits())),
            }
        }
    }

    /// Writes samples that all have the scrape's timestamp and nothing beside a value.
    fn plain(&mut self, block: &Block, entries: Range<u32>, values: impl Iterator<Item = u64>) {
        let (mut bytes_at, mut holes_at) = start_of(block, entries.start);
        let entries = &block.entries[entries.start as usize..entries.end as usize];
        let (mut written, mut dropped) = (0, 0);
        for (entry, value_bits) in entries.iter().zip(values) {
            let bytes = bytes_at..entry.bytes_end as usize;
            let holes = holes_at..entry.holes_end as usize;
            (bytes_at, holes_at) = (bytes.end, holes.end);
            if bytes.is_empty() && holes.is_empty() {
                dropped += 1;
                continue;
            }
            let holes = &block.holes[holes];
            let tail = self.stamp.with(value_bits);
            let len = labels_len(self.target, bytes.len(), holes) + tail.len();
            put_head(self.out, len);
            put_labels(self.out, self.target, block, bytes, holes);
            self.out.extend_from_slice(tail);
            written += 1;
        }
        self.counts.relabel_dropped += dropped;
        self.counts.samples += written;
        if written > 0 {
            let newest = &mut self.counts.timestamp_ms_newest;
            *newest = (*newest).max(self.stamp.timestamp_ms);
        }
    }

    /// Writes samples of a scrape with side columns. `first`: entry of the first value; `from`: its
    /// position.
    fn mixed(
        &mut self,
        scrape: &Scrape,
        sides: &Sides,
        block: &Block,
        first: u32,
        values: &[f64],
        from: u32,
    ) {
        let mut skipped = tail_from(&sides.skipped, from, |index| *index);
        let mut timestamps = tail_from(&sides.timestamps, from, |side| side.index);
        let mut histograms = tail_from(&sides.histograms, from, |side| side.index);
        let mut exemplars = tail_from(&sides.exemplars, from, |side| side.index);
        let mut tail = Vec::new();
        for (offset, value) in values.iter().enumerate() {
            let position = from + offset as u32;
            let skip = take(&mut skipped, position, |index| *index).is_some();
            let explicit = take(&mut timestamps, position, |side| side.index);
            let histogram = take(&mut histograms, position, |side| side.index);
            let count = exemplars
                .iter()
                .take_while(|exemplar| exemplar.index == position)
                .count();
            let (own_exemplars, rest) = exemplars.split_at(count);
            exemplars = rest;
            if skip || (histogram.is_some() && self.options.without_histograms) {
                continue;
            }
            let timestamp_ms = explicit.map_or(scrape.timestamp_ms, |side| side.timestamp_ms);
            if Some(timestamp_ms) < self.options.timestamp_ms_min {
                self.counts.too_old += 1;
                continue;
            }
            let (bytes, holes) = block.entry(first + offset as u32);
            if bytes.is_empty() && holes.is_empty() {
                self.counts.relabel_dropped += 1;
                continue;
            }
            tail.clear();
            match histogram {
                Some(side) => {
                    put_histogram(&mut tail, &side.bytes, timestamp_ms);
                    self.counts.histograms += 1;
                }
                None => {
                    tail.extend_from_slice(Stamp::new(timestamp_ms).with(value.to_bits()));
                }
            }
            if self.options.exemplars {
                for exemplar in own_exemplars {
                    put_exemplar(&mut tail, exemplar);
                    self.counts.exemplars += 1;
                }
            }
            let len = labels_len(self.target, bytes.len(), holes) + tail.len();
            put_head(self.out, len);
            put_labels(self.out, self.target, block, bytes, holes);
            self.out.extend_from_slice(&tail);
            self.counts.samples += 1;
            let newest = &mut self.counts.timestamp_ms_newest;
            *newest = (*newest).max(timestamp_ms);
        }
    }
}

/// Where entry `index` begins in the block's bytes and holes.
fn start_of(block: &Block, index: u32) -> (usize, usize) {
    match index.checked_sub(1) {
        None => (0, 0),
        Some(before) => {
            let entry = block.entries[before as usize];
            (entry.bytes_end as usize, entry.holes_end as usize)
        }
    }
}

#[inline]
fn labels_len(target: &TargetLabels, constant: usize, holes: &[Hole]) -> usize {
    holes.iter().fold(constant, |len, hole| {
        len + target.range(hole.target_label).len()
    })
}

/// Tag and length of a `timeseries` field.
#[inline]
fn put_head(out: &mut Vec<u8>, len: usize) {
    // One or two bytes of length for all but absurd series.
    match len {
        0..0x80 => out.extend_from_slice(&[TAG_FIELD_1, len as u8]),
        0x80..0x4000 => {
            out.extend_from_slice(&[TAG_FIELD_1, len as u8 | 0x80, (len >> 7) as u8]);
        }
        _ => {
            out.push(TAG_FIELD_1);
            put_varint(out, len as u64);
        }
    }
}

#[inline]
fn put_labels(
    out: &mut Vec<u8>,
    target: &TargetLabels,
    block: &Block,
    bytes: Range<usize>,
    holes: &[Hole],
) {
    let mut at = bytes.start;
    let mut next = 0;
    while next < holes.len() {
        let hole = holes[next];
        let offset = (hole.offset as usize).clamp(at, bytes.end);
        out.extend_from_slice(&block.bytes[at..offset]);
        at = offset;
        // Neighbours in the target that belong to the same place (instance and job, as a rule)
        // are neighbours in its bytes: one copy.
        let mut label = target.range(hole.target_label);
        next += 1;
        while let Some(more) = holes.get(next)
            && more.offset == hole.offset
            && more.target_label == holes[next - 1].target_label + 1
        {
            label.end = target.range(more.target_label).end.max(label.end);
            next += 1;
        }
        out.extend_from_slice(&target.bytes[label]);
    }
    out.extend_from_slice(&block.bytes[at..bytes.end]);
}

pub(super) fn put_histogram(out: &mut Vec<u8>, bytes: &[u8], timestamp_ms: i64) {
    let len = bytes.len() + 1 + varint_len(timestamp_ms as u64);
    out.push(TAG_HISTOGRAMS);
    put_varint(out, len as u64);
    out.extend_from_slice(bytes);
    out.push(0x78);
    put_varint(out, timestamp_ms as u64);
}

pub(super) fn put_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    let label_len = |(name, value): &(Box<str>, Box<str>)| {
        field_len(field_len(name.len()) + field_len(value.len()))
    };
    let labels: usize = exemplar.labels.iter().map(label_len).sum();
    let len = labels + 9 + 1 + varint_len(exemplar.timestamp_ms as u64);
    out.push(TAG_FIELD_3);
    put_varint(out, len as u64);
    for (name, value) in &exemplar.labels {
        put_label(out, name, value);
    }
    out.push(0x11);
    out.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
    out.push(0x18);
    put_varint(out, exemplar.timestamp_ms as u64);
}

/// The part of a side column from position `from` on.
pub(super) fn tail_from<T>(column: &[T], from: u32, index: impl Fn(&T) -> u32) -> &[T] {
    &column[column.partition_point(|side| index(side) < from)..]
}

/// The first element if it belongs to `position`; it is taken off then.
pub(super) fn take<'a, T>(
    column: &mut &'a [T],
    position: u32,
    index: impl Fn(&T) -> u32,
) -> Option<&'a T> {
    let (first, rest) = column.split_first()?;
    (index(first) == position).then(|| {
        *column = rest;
        first
    })
}

/// Appends one `metadata` field: `MetricMetadata`.
pub fn put_metadata(out: &mut Vec<u8>, family: &ringscrape_wal::definition::Family) {
    let mut inner = Vec::new();
    if family.kind as u8 != 0 {
        inner.extend_from_slice(&[0x08, family.kind as u8]);
    }
    for (tag, text) in [
        (0x12, &family.name),
        (0x22, &family.help),
        (0x2a, &family.unit),
    ] {
        if !text.is_empty() {
            put_bytes(&mut inner, tag, text.as_bytes());
        }
    }
    put_bytes(out, TAG_FIELD_3, &inner);
}
