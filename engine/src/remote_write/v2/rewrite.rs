//! A 2.0 request that is ready -> its series; requests of some of them; a 1.0 request.
//!
//! For requests of our own, when a receiver refuses them: seldom. Bytes that are no request end the
//! reading, as its end does.

use super::symbols::Symbols;
use super::{
    TAG_EXEMPLAR, TAG_HELP, TAG_HISTOGRAM, TAG_METADATA, TAG_REFERENCES, TAG_SERIES, TAG_SYMBOL,
    TAG_UNIT,
};
use crate::remote_write::wire::{
    Malformed, TAG_FIELD_1, TAG_FIELD_3, TAG_HISTOGRAMS, TAG_SAMPLES, get_content, get_varint,
    put_bytes, put_label, put_varint,
};
use std::ops::Range;

/// The first byte of `Histogram.start_timestamp`, field 17; `Sample.start_timestamp` is field 3.
const TAG_HISTOGRAM_START: u64 = 0x88;
const TAG_SAMPLE_START: u64 = 0x18;

/// A number that no symbol has got yet.
const UNKNOWN: u32 = u32::MAX;

/// An uncompressed request's symbols and series, all fields of each.
pub(super) fn sections(raw: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    while raw.get(at).is_some_and(|tag| *tag == TAG_SYMBOL) {
        let mut end = at + 1;
        if get_content(raw, &mut end).is_err() {
            break;
        }
        at = end;
    }
    raw.split_at(at)
}

/// The fields of a message: tag, content, and where all of it lies. What follows damage is left.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { bytes, at: 0 }
}

impl Fields<'_> {
    fn read(&mut self) -> Result<(u64, Range<usize>, Range<usize>), Malformed> {
        let start = self.at;
        let tag = get_varint(self.bytes, &mut self.at)?;
        let mut content = self.at..self.at;
        match tag & 7 {
            0 => {
                get_varint(self.bytes, &mut self.at)?;
                content.end = self.at;
            }
            1 => {
                self.at += 8;
                content.end = self.at;
            }
            2 => content = get_content(self.bytes, &mut self.at)?,
            _ => return Err(Malformed),
        }
        if self.at > self.bytes.len() {
            return Err(Malformed);
        }
        Ok((tag, content, start..self.at))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let Ok((tag, content, whole)) = self.read() else {
            self.at = self.bytes.len();
            return None;
        };
        Some((tag, &self.bytes[content], &self.bytes[whole]))
    }
}

/// Numbers that are packed, or the single one of a field.
fn numbers(mut bytes: &[u8]) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let mut at = 0;
        let number = get_varint(bytes, &mut at).ok()?;
        bytes = &bytes[at..];
        u32::try_from(number).ok()
    })
}

/// Reads a request.
pub(in crate::remote_write) struct Reader<'a> {
    symbols: Vec<&'a str>,
    series: Fields<'a>,
}

impl<'a> Reader<'a> {
    /// Of an uncompressed request.
    pub(in crate::remote_write) fn new(raw: &'a [u8]) -> Self {
        let (symbols, series) = sections(raw);
        Self::of(symbols, series)
    }

    fn of(symbols: &'a [u8], series: &'a [u8]) -> Self {
        let text = |(_, content, _)| std::str::from_utf8(content).unwrap_or_default();
        Self {
            symbols: fields(symbols).map(text).collect(),
            series: fields(series),
        }
    }

    /// The next series.
    pub(in crate::remote_write) fn next(&mut self) -> Option<&'a [u8]> {
        let (tag, content, _) = self.series.next()?;
        (tag == u64::from(TAG_SERIES)).then_some(content)
    }

    /// Appends labels, given as their numbers, in the form of 1.0.
    fn put_labels(&self, out: &mut Vec<u8>, references: &[u8]) {
        let mut texts = numbers(references).map_while(|number| self.symbols.get(number as usize));
        while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
            put_label(out, name, value);
        }
    }

    /// Appends the labels of a series in the form of 1.0.
    pub(in crate::remote_write) fn labels(&self, out: &mut Vec<u8>, series: &[u8]) {
        for (tag, content, _) in fields(series) {
            if tag == u64::from(TAG_REFERENCES) {
                self.put_labels(out, content);
            }
        }
    }
}

/// A request of some series of another one.
#[derive(Default)]
pub(in crate::remote_write) struct Part {
    symbols: Option<Symbols>,
    /// The number here of each symbol there.
    known: Vec<u32>,
    series: Vec<u8>,
    own: Vec<u8>,
    inner: Vec<u8>,
}

impl Part {
    /// Adds a series of `reader`, the same one each time.
    pub(in crate::remote_write) fn put(&mut self, reader: &Reader<'_>, series: &[u8]) {
        let symbols = self.symbols.get_or_insert_with(Symbols::new);
        let known = &mut self.known;
        known.resize(reader.symbols.len(), UNKNOWN);
        let mut number = |there: u32| {
            let Some(here) = known.get_mut(there as usize) else {
                return 0;
            };
            if *here == UNKNOWN {
                *here = symbols.number(reader.symbols[there as usize]);
            }
            *here
        };
        let mut renumber = |out: &mut Vec<u8>, content: &[u8]| {
            for there in numbers(content) {
                put_varint(out, number(there).into());
            }
        };
        let (own, inner) = (&mut self.own, &mut self.inner);
        own.clear();
        for (tag, content, whole) in fields(series) {
            inner.clear();
            match u8::try_from(tag) {
                Ok(tag @ TAG_REFERENCES) => {
                    renumber(inner, content);
                    put_bytes(own, tag, inner);
                }
                Ok(tag @ TAG_EXEMPLAR) => {
                    let mut labels = Vec::new();
                    for (tag, content, whole) in fields(content) {
                        if tag == u64::from(TAG_REFERENCES) {
                            labels.clear();
                            renumber(&mut labels, content);
                            put_bytes(inner, TAG_REFERENCES, &labels);
                        } else {
                            inner.extend_from_slice(whole);
                        }
                    }
                    put_bytes(own, tag, inner);
                }
                Ok(tag @ TAG_METADATA) => {
                    for (tag, content, whole) in fields(content) {
                        match u8::try_from(tag) {
                            Ok(tag @ (TAG_HELP | TAG_UNIT)) => {
                                inner.push(tag);
                                renumber(inner, content);
                            }
                            _ => inner.extend_from_slice(whole),
                        }
                    }
                    put_bytes(own, tag, inner);
                }
                _ => own.extend_from_slice(whole),
            }
        }
        put_bytes(&mut self.series, TAG_SERIES, own);
    }

    /// Gives the request; empty if nothing was added.
    pub(in crate::remote_write) fn finish(self) -> Vec<u8> {
        let Some(symbols) = &self.symbols else {
            return Vec::new();
        };
        [symbols.fields(), &self.series].concat()
    }
}

/// The request of these fields without symbols that no series refers to: symbols and series.
pub(super) fn without_unused(symbols: &[u8], series: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut reader = Reader::of(symbols, series);
    let mut part = Part::default();
    while let Some(series) = reader.next() {
        part.put(&reader, series);
    }
    let fields = part.symbols.map(|symbols| symbols.fields().to_vec());
    (fields.unwrap_or_default(), part.series)
}

/// The same series in the form of 1.0, which has no metadata and no start timestamps in them.
pub(in crate::remote_write) fn as_first_version(raw: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(raw);
    let mut out = Vec::new();
    let (mut own, mut inner) = (Vec::new(), Vec::new());
    while let Some(series) = reader.next() {
        own.clear();
        reader.labels(&mut own, series);
        for (tag, content, _) in fields(series) {
            inner.clear();
            let (tag, left_out) = match u8::try_from(tag) {
                Ok(TAG_SAMPLES) => (TAG_SAMPLES, TAG_SAMPLE_START),
                Ok(TAG_HISTOGRAM) => (TAG_HISTOGRAMS, TAG_HISTOGRAM_START),
                Ok(TAG_EXEMPLAR) => (TAG_FIELD_3, u64::from(TAG_REFERENCES)),
                _ => continue,
            };
            for (tag_inner, content, whole) in fields(content) {
                if tag_inner != left_out {
                    inner.extend_from_slice(whole);
                } else if tag == TAG_FIELD_3 {
                    reader.put_labels(&mut inner, content);
                }
            }
            put_bytes(&mut own, tag, &inner);
        }
        put_bytes(&mut out, TAG_FIELD_1, &own);
    }
    out
}
