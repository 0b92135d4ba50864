//! One scrape -> `timeseries` fields of a remote write 2.0 request, by copying references.
//!
//! As for 1.0, every sample becomes one `TimeSeries` message: references with those of the target's
//! own labels inserted at the holes, one sample (or native histogram), exemplars, metadata. The
//! series of a block are resolved when they come first in a request, and copied for every further
//! target that has them.

use super::references::References;
use super::resolved::{ROOM, Resolved};
use super::symbols::Symbols;
use super::{TAG_EXEMPLAR, TAG_HISTOGRAM, TAG_REFERENCES, TAG_SERIES};
use crate::remote_write::construct::Template;
use crate::remote_write::encode::{
    Counts, ENTRIES_PER_CHECK, Options, Stamp, clip, tail_from, take,
};
use crate::remote_write::sink::Buffer;
use crate::remote_write::wire::{TAG_SAMPLES, put_bytes, put_varint, varint_len};
use ahash::AHashMap;
use ringscrape_wal::definition::{Block, Hole};
use ringscrape_wal::scrape::{Exemplar, STALE_NAN_BITS, Scrape, Sides};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a 1.0 message that are not labels, about.
const SAMPLE_BYTES: usize = 40;

/// Numbers of a target's labels, as far as they were asked for.
#[derive(Debug, Default)]
struct TargetReferences {
    /// Packed name and value of each, then `ROOM`.
    bytes: Vec<u8>,
    ranges: Vec<Range<u32>>,
}

impl TargetReferences {
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(ROOM, 0);
        self.ranges.clear();
    }

    fn resolve(&mut self, label: u16, labels: &[(Box<str>, Box<str>)], symbols: &mut Symbols) {
        let index = usize::from(label);
        let Some((name, value)) = labels.get(index) else {
            return;
        };
        if self.ranges.len() <= index {
            self.ranges.resize(index + 1, 0..0);
        }
        if self.ranges[index].is_empty() {
            self.bytes.truncate(self.bytes.len() - ROOM);
            let start = self.bytes.len() as u32;
            put_varint(&mut self.bytes, symbols.number(name).into());
            put_varint(&mut self.bytes, symbols.number(value).into());
            self.ranges[index] = start..self.bytes.len() as u32;
            self.bytes.resize(self.bytes.len() + ROOM, 0);
        }
    }

    /// Where the references of a label are; empty if the target has no such label.
    #[inline]
    fn range(&self, label: u16) -> Range<usize> {
        let range = self.ranges.get(usize::from(label));
        range.map_or(0..0, |range| range.start as usize..range.end as usize)
    }
}

/// Writes scrapes to one request after the other.
#[derive(Debug, Default)]
pub(super) struct Series {
    pub(super) symbols: Symbols,
    /// By references, first entry and number of entries.
    resolved: AHashMap<(u64, u32, u32), Resolved>,
    resolved_cost: usize,
    target: TargetReferences,
    scratch: Vec<u32>,
    tail: Vec<u8>,
    inner: Vec<u8>,
}

impl Series {
    /// Forgets all symbols.
    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.resolved.clear();
        self.resolved_cost = 0;
    }

    /// Memory of what is resolved, about.
    pub(super) fn cost(&self) -> usize {
        self.resolved_cost
    }

    /// Writes the samples at `range` (within `0..positions(scrape)`): see `encode::encode`. Where
    /// `Options::bytes_max` stops it is a matter of the content, not of the symbols there are.
    pub(super) fn encode(
        &mut self,
        out: &mut Buffer,
        scrape: &Scrape,
        range: Range<u32>,
        options: Options,
        mut template: impl FnMut(&Arc<Block>) -> Template,
    ) -> Counts {
        let mut counts = Counts {
            timestamp_ms_newest: i64::MIN,
            ..Counts::default()
        };
        let bytes_max = match options.bytes_max {
            0 => usize::MAX,
            bytes_max => bytes_max,
        };
        let mut bytes = 0_usize;
        let mut stamp = Stamp::new(scrape.timestamp_ms);
        self.target.clear();
        let mut at = 0_u32;
        for run in scrape.layout.runs.iter().chain(&scrape.stale) {
            let Some((first, position, position_end)) = clip(run, &mut at, &range) else {
                continue;
            };
            if bytes >= bytes_max {
                counts.end = position;
                return counts;
            }
            let len = position_end - position;
            let own = template(&run.block);
            let block = own.block.as_ref().unwrap_or(&run.block);
            let references = own
                .references
                .filter(|references| u64::from(first) + u64::from(len) <= references.len().into());
            let Some(references) = references else {
                counts.malformed += len;
                continue;
            };
            let key = (references.id, first, len);
            // First the symbols that all series have: small numbers take fewer bytes.
            for label in &references.labels {
                let labels = &scrape.target.labels;
                self.target.resolve(*label, labels, &mut self.symbols);
            }
            let mut resolved = self.resolve(&references, key);
            let mut done = 0;
            while done < len && bytes < bytes_max {
                let part_len = (len - done).min(ENTRIES_PER_CHECK);
                let part = Part {
                    scrape,
                    options,
                    entries: done..done + part_len,
                    position: position + done,
                };
                self.part(out, &mut resolved, &part, &mut stamp, &mut counts);
                let start = block.entry(first + done).0.start;
                done += part_len;
                let end = block.entry(first + done - 1).0.end;
                bytes = bytes.saturating_add(end - start + part_len as usize * SAMPLE_BYTES);
            }
            self.resolved.insert(key, resolved);
            if done < len {
                counts.end = position + done;
                return counts;
            }
        }
        counts.end = range.end;
        counts
    }

    /// Takes the entries of `key` out of the table, or resolves them.
    fn resolve(&mut self, references: &References, key: (u64, u32, u32)) -> Resolved {
        if let Some(mut resolved) = self.resolved.remove(&key) {
            resolved.mark(&mut self.symbols);
            return resolved;
        }
        let entries = key.1..key.1 + key.2;
        let new = Resolved::new(references, entries, &mut self.symbols, &mut self.scratch);
        self.resolved_cost += new.cost();
        new
    }

    /// Writes some entries.
    fn part(
        &mut self,
        out: &mut Buffer,
        resolved: &mut Resolved,
        part: &Part<'_>,
        stamp: &mut Stamp,
        counts: &mut Counts,
    ) {
        let scrape = part.scrape;
        let len = part.entries.len();
        // Whether the scrape as a whole is too old; samples with their own timestamp may not be.
        let too_old = Some(scrape.timestamp_ms) < part.options.timestamp_ms_min;
        if part.position >= scrape.layout.len {
            if too_old {
                counts.too_old += len as u32;
                return;
            }
            let values = std::iter::repeat_n(STALE_NAN_BITS, len);
            return self.plain(out, resolved, part, values, stamp, counts);
        }
        let values = scrape.values.get(part.position as usize..);
        let values = values.unwrap_or_default();
        let values = &values[..len.min(values.len())];
        counts.malformed += (len - values.len()) as u32;
        match scrape.sides.as_deref() {
            Some(sides) => self.mixed(out, resolved, part, (values, sides), counts),
            None if too_old => counts.too_old += values.len() as u32,
            None => {
                let values = values.iter().map(|value| value.to_bits());
                self.plain(out, resolved, part, values, stamp, counts);
            }
        }
    }

    /// Writes samples that all have the scrape's timestamp and nothing beside a value.
    fn plain(
        &self,
        out: &mut Buffer,
        resolved: &Resolved,
        part: &Part<'_>,
        values: impl Iterator<Item = u64>,
        stamp: &mut Stamp,
        counts: &mut Counts,
    ) {
        let (mut bytes_at, mut holes_at) = resolved.start(part.entries.start);
        let entries = &resolved.entries[part.entries.start as usize..part.entries.end as usize];
        let (mut written, mut dropped) = (0, 0);
        for (entry, bits) in entries.iter().zip(values) {
            let bytes = bytes_at..entry.bytes_end as usize;
            let holes = &resolved.holes[holes_at..entry.holes_end as usize];
            (bytes_at, holes_at) = (bytes.end, entry.holes_end as usize);
            if bytes.is_empty() && holes.is_empty() {
                dropped += 1;
                continue;
            }
            let metadata = resolved.metadata(*entry);
            self.labels(out, resolved, bytes, holes, stamp.len() + metadata.len());
            let (tail, len) = stamp.wide(bits);
            out.put_part(tail, len);
            out.put(metadata);
            written += 1;
        }
        counts.relabel_dropped += dropped;
        counts.samples += written;
        if written > 0 {
            let newest = &mut counts.timestamp_ms_newest;
            *newest = (*newest).max(part.scrape.timestamp_ms);
        }
    }

    /// Writes what comes before the sample of a series: tag, length, references.
    #[inline]
    fn labels(
        &self,
        out: &mut Buffer,
        resolved: &Resolved,
        bytes: Range<usize>,
        holes: &[Hole],
        tail_len: usize,
    ) {
        let target = &self.target;
        let own = holes
            .iter()
            .map(|hole| target.range(hole.target_label).len());
        let len = bytes.len() + own.sum::<usize>();
        let body_len = 1 + varint_len(len as u64) + len + tail_len;
        if body_len < 0x80 {
            let word = u32::from_le_bytes([TAG_SERIES, body_len as u8, TAG_REFERENCES, len as u8]);
            out.reserve(4);
            out.put_word(word.into(), 4);
        } else {
            put_head(out, body_len, len);
        }
        let mut at = bytes.start;
        for hole in holes {
            let offset = (hole.offset as usize).clamp(at, bytes.end);
            out.put_part(&resolved.bytes[at..], offset - at);
            at = offset;
            let own = target.range(hole.target_label);
            out.put_part(&target.bytes[own.start..], own.len());
        }
        out.put_part(&resolved.bytes[at..], bytes.end - at);
    }

    /// Writes samples of a scrape with side columns.
    fn mixed(
        &mut self,
        out: &mut Buffer,
        resolved: &Resolved,
        part: &Part<'_>,
        (values, sides): (&[f64], &Sides),
        counts: &mut Counts,
    ) {
        let from = part.position;
        let mut skipped = tail_from(&sides.skipped, from, |index| *index);
        let mut timestamps = tail_from(&sides.timestamps, from, |side| side.index);
        let mut starts = tail_from(&sides.start_timestamps, from, |side| side.index);
        let mut histograms = tail_from(&sides.histograms, from, |side| side.index);
        let mut exemplars = tail_from(&sides.exemplars, from, |side| side.index);
        let mut tail = std::mem::take(&mut self.tail);
        for (value, offset) in values.iter().zip(0..) {
            let position = from + offset;
            let skip = take(&mut skipped, position, |index| *index).is_some();
            let explicit = take(&mut timestamps, position, |side| side.index);
            let start = take(&mut starts, position, |side| side.index);
            let histogram = take(&mut histograms, position, |side| side.index);
            let own = exemplars.iter().take_while(|one| one.index == position);
            let (own_exemplars, rest) = exemplars.split_at(own.count());
            exemplars = rest;
            if skip {
                continue;
            }
            let timestamp_ms = explicit.map_or(part.scrape.timestamp_ms, |side| side.timestamp_ms);
            if Some(timestamp_ms) < part.options.timestamp_ms_min {
                counts.too_old += 1;
                continue;
            }
            let index = part.entries.start + offset;
            let (bytes_at, holes_at) = resolved.start(index);
            let entry = resolved.entries[index as usize];
            let bytes = bytes_at..entry.bytes_end as usize;
            let holes = &resolved.holes[holes_at..entry.holes_end as usize];
            if bytes.is_empty() && holes.is_empty() {
                counts.relabel_dropped += 1;
                continue;
            }
            // Zero says that there is none.
            let start_ms = start.map_or(0, |side| side.timestamp_ms);
            tail.clear();
            match histogram {
                Some(side) => {
                    put_histogram(&mut tail, &side.bytes, timestamp_ms, start_ms);
                    counts.histograms += 1;
                }
                None => put_sample(&mut tail, value.to_bits(), timestamp_ms, start_ms),
            }
            if part.options.exemplars {
                for exemplar in own_exemplars {
                    put_exemplar(&mut tail, exemplar, &mut self.symbols, &mut self.inner);
                    counts.exemplars += 1;
                }
            }
            tail.extend_from_slice(resolved.metadata(entry));
            self.labels(out, resolved, bytes, holes, tail.len());
            out.put(&tail);
            counts.samples += 1;
            let newest = &mut counts.timestamp_ms_newest;
            *newest = (*newest).max(timestamp_ms);
        }
        self.tail = tail;
    }
}

/// Entries that come next.
struct Part<'a> {
    scrape: &'a Scrape,
    options: Options,
    /// In what is resolved.
    entries: Range<u32>,
    /// The position of the first in the scrape.
    position: u32,
}

/// The head of a series that is not short.
#[cold]
fn put_head(out: &mut Buffer, body_len: usize, labels_len: usize) {
    let mut head = vec![TAG_SERIES];
    put_varint(&mut head, body_len as u64);
    head.push(TAG_REFERENCES);
    put_varint(&mut head, labels_len as u64);
    out.put(&head);
}

fn put_sample(out: &mut Vec<u8>, bits: u64, timestamp_ms: i64, start_ms: i64) {
    let mut len = 10 + varint_len(timestamp_ms as u64);
    if start_ms != 0 {
        len += 1 + varint_len(start_ms as u64);
    }
    out.extend_from_slice(&[TAG_SAMPLES, len as u8, 0x09]);
    out.extend_from_slice(&bits.to_le_bytes());
    out.push(0x10);
    put_varint(out, timestamp_ms as u64);
    if start_ms != 0 {
        out.push(0x18);
        put_varint(out, start_ms as u64);
    }
}

/// The message of 1.0, and the start timestamp: field 17.
fn put_histogram(out: &mut Vec<u8>, bytes: &[u8], timestamp_ms: i64, start_ms: i64) {
    let mut len = bytes.len() + 1 + varint_len(timestamp_ms as u64);
    if start_ms != 0 {
        len += 2 + varint_len(start_ms as u64);
    }
    out.push(TAG_HISTOGRAM);
    put_varint(out, len as u64);
    out.extend_from_slice(bytes);
    out.push(0x78);
    put_varint(out, timestamp_ms as u64);
    if start_ms != 0 {
        out.extend_from_slice(&[0x88, 0x01]);
        put_varint(out, start_ms as u64);
    }
}

fn put_exemplar(
    out: &mut Vec<u8>,
    exemplar: &Exemplar,
    symbols: &mut Symbols,
    inner: &mut Vec<u8>,
) {
    inner.clear();
    for (name, value) in &exemplar.labels {
        put_varint(inner, symbols.number(name).into());
        put_varint(inner, symbols.number(value).into());
    }
    let labels = match inner.len() {
        0 => 0,
        len => 1 + varint_len(len as u64) + len,
    };
    let len = labels + 10 + varint_len(exemplar.timestamp_ms as u64);
    out.push(TAG_EXEMPLAR);
    put_varint(out, len as u64);
    if labels > 0 {
        put_bytes(out, TAG_REFERENCES, inner);
    }
    out.push(0x11);
    out.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
    out.push(0x18);
    put_varint(out, exemplar.timestamp_ms as u64);
}
