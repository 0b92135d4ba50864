//! Bytes of a remote write request, 1.0 or 2.0 -> its time series, borrowed, never copied.
//!
//! Source: prometheus `prompb/remote.proto`, `prompb/types.proto` and
//! `prompb/io/prometheus/write/v2/types.proto`; wire format per the protobuf encoding guide. Labels
//! must come before all else in a time series, as every sender writes them: so their bytes are one
//! slice. References to symbols (2.0) must be packed for the same reason.
//!
//! Hostile input yields an error, never a panic and never more work than its length.

use xxhash_rust::xxh3::xxh3_64;

pub use super::protobuf::DecodeError;
use super::protobuf::{Field, Reader, Result};
pub use super::symbols::SymbolTable;
use super::symbols::Symbols;
use crate::scheme::identity;

/// One time series of a request.
#[derive(Clone, Copy)]
pub struct TimeSeries<'a> {
    labels: Labels<'a>,
    rest: &'a [u8],
}

#[derive(Clone, Copy)]
enum Labels<'a> {
    /// 1.0: the encoded label fields, back to back.
    Fields(&'a [u8]),
    /// 2.0: packed numbers of symbols, name and value in turn.
    References(&'a [u8], Symbols<'a>),
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Bits of the value.
    pub bits: u64,
    /// Milliseconds since the Unix epoch, signed.
    pub timestamp_ms: i64,
}

/// What a request held beside its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Metadata entries.
    pub metadata: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Native histograms.
    pub histograms: u64,
}

/// Numbers of the fields that the two versions have both; 0 for none.
#[derive(Clone, Copy)]
struct Numbers {
    series: u64,
    metadata: u64,
    sample: u64,
    exemplar: u64,
    histogram: u64,
    series_metadata: u64,
}

const V1: Numbers = Numbers {
    series: 1,
    metadata: 3,
    sample: 2,
    exemplar: 3,
    histogram: 4,
    series_metadata: 0,
};
const V2: Numbers = Numbers {
    series: 5,
    metadata: 0,
    sample: 2,
    exemplar: 4,
    histogram: 3,
    series_metadata: 5,
};

/// The time series of a request; each is checked as it is reached.
pub struct WriteRequest<'a> {
    reader: Reader<'a>,
    numbers: Numbers,
    /// Of a 2.0 request.
    symbols: Option<Symbols<'a>>,
    /// Counts up while the series are read.
    pub extras: Extras,
}

impl<'a> WriteRequest<'a> {
    /// Reads an uncompressed 1.0 request.
    pub fn new(bytes: &'a [u8]) -> WriteRequest<'a> {
        WriteRequest {
            reader: Reader(bytes),
            numbers: V1,
            symbols: None,
            extras: Extras::default(),
        }
    }

    /// Reads an uncompressed 2.0 request; `table` is emptied and filled with its symbols.
    ///
    /// # Errors
    /// What is wrong with the bytes outside of the time series.
    pub fn new_v2(bytes: &'a [u8], table: &'a mut SymbolTable) -> Result<WriteRequest<'a>> {
        Ok(WriteRequest {
            reader: Reader(bytes),
            numbers: V2,
            symbols: Some(table.fill(bytes)?),
            extras: Extras::default(),
        })
    }

    /// The next time series, or `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the bytes; nothing after it can be read.
    pub fn next_series(&mut self) -> Result<Option<TimeSeries<'a>>> {
        let numbers = self.numbers;
        while let Some((number, field)) = self.reader.field()? {
            match field {
                Field::Bytes(bytes) if number == numbers.series => {
                    return match self.symbols {
                        None => fields(bytes),
                        Some(symbols) => references(bytes, symbols),
                    }
                    .map(Some);
                }
                Field::Bytes(_) => self.extras.metadata += u64::from(number == numbers.metadata),
                _ if number == numbers.series || number == numbers.metadata => {
                    return Err(DecodeError::WireType);
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Calls `each` for every sample of `series`, in order, and counts what else it holds.
    ///
    /// # Errors
    /// As [`WriteRequest::next_series`]; `each` has then been called for the samples before it.
    pub fn samples(&mut self, series: &TimeSeries<'a>, mut each: impl FnMut(Sample)) -> Result<()> {
        let numbers = self.numbers;
        let mut reader = Reader(series.rest);
        while let Some((number, field)) = reader.field()? {
            match field {
                Field::Bytes(bytes) if number == numbers.sample => each(sample(bytes)?),
                Field::Bytes(_) if number == 1 => return Err(DecodeError::LateLabel),
                Field::Bytes(_) => {
                    self.extras.exemplars += u64::from(number == numbers.exemplar);
                    self.extras.histograms += u64::from(number == numbers.histogram);
                    self.extras.metadata += u64::from(number == numbers.series_metadata);
                }
                _ if number <= 4 => return Err(DecodeError::WireType),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A time series of 1.0.
fn fields(bytes: &[u8]) -> Result<TimeSeries<'_>> {
    let mut reader = Reader(bytes);
    while let [0x0a, length, rest @ ..] = reader.0 {
        // Almost every label is shorter than 128 bytes.
        if *length < 0x80 {
            reader.0 = rest
                .get(usize::from(*length)..)
                .ok_or(DecodeError::Truncated)?;
        } else {
            reader.field()?;
        }
    }
    let (labels, rest) = bytes.split_at(bytes.len() - reader.0.len());
    Ok(TimeSeries {
        labels: Labels::Fields(labels),
        rest,
    })
}

/// A time series of 2.0.
fn references<'a>(bytes: &'a [u8], symbols: Symbols<'a>) -> Result<TimeSeries<'a>> {
    let mut reader = Reader(bytes);
    let mut labels: &[u8] = b"";
    if bytes.first() == Some(&0x0a)
        && let Some((_, Field::Bytes(packed))) = reader.field()?
    {
        labels = packed;
    }
    Ok(TimeSeries {
        labels: Labels::References(labels, symbols),
        rest: reader.0,
    })
}

fn sample(bytes: &[u8]) -> Result<Sample> {
    let mut sample = Sample {
        bits: 0,
        timestamp_ms: 0,
    };
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        match (number, field) {
            (1, Field::Fixed64(bits)) => sample.bits = bits,
            (2, Field::Varint(value)) => sample.timestamp_ms = value as i64,
            (1 | 2, _) => return Err(DecodeError::WireType),
            _ => {}
        }
    }
    Ok(sample)
}

impl<'a> TimeSeries<'a> {
    /// The labels as (name, value), in the order of the request.
    ///
    /// # Errors
    /// As [`WriteRequest::next_series`].
    pub fn label_pairs(&self) -> Result<Vec<(&'a [u8], &'a [u8])>> {
        let mut pairs = Vec::new();
        match self.labels {
            Labels::Fields(bytes) => {
                let mut reader = Reader(bytes);
                while let Some((_, field)) = reader.field()? {
                    let Field::Bytes(bytes) = field else {
                        return Err(DecodeError::WireType);
                    };
                    pairs.push(label(bytes)?);
                }
            }
            Labels::References(packed, symbols) => {
                let mut reader = Reader(packed);
                while !reader.0.is_empty() {
                    let name = symbols.text(reader.varint()?)?;
                    let value = reader.varint().map_err(|_| DecodeError::Symbol)?;
                    pairs.push((name, symbols.text(value)?));
                }
            }
        }
        Ok(pairs)
    }

    /// A hash of the labels in their order; the same for equal labels under one `kind`, whichever
    /// version of the protocol brings them. The fast way is the kind of the request's own version.
    ///
    /// # Errors
    /// As [`WriteRequest::next_series`].
    pub fn key(&self, kind: KeyKind) -> Result<u64> {
        match (self.labels, kind) {
            (Labels::Fields(bytes), KeyKind::Fields) => Ok(xxh3_64(bytes)),
            (Labels::References(packed, symbols), KeyKind::Symbols) => {
                let (mut key, mut count) = (0u64, 0u32);
                let mut reader = Reader(packed);
                while !reader.0.is_empty() {
                    key = chain(key, symbols.hash(reader.varint()?)?);
                    count += 1;
                }
                if count % 2 == 1 {
                    return Err(DecodeError::Symbol);
                }
                Ok(identity(key))
            }
            (Labels::Fields(_), KeyKind::Symbols) => {
                let chained = |key, (name, value): (&[u8], &[u8])| {
                    chain(chain(key, xxh3_64(name)), xxh3_64(value))
                };
                Ok(identity(self.label_pairs()?.into_iter().fold(0, chained)))
            }
            (Labels::References(..), KeyKind::Fields) => {
                let mut bytes = Vec::with_capacity(512);
                for (name, value) in self.label_pairs()? {
                    put_label(&mut bytes, name, value);
                }
                Ok(xxh3_64(&bytes))
            }
        }
    }
}

/// What the keys of series are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// The bytes of the label fields of 1.0.
    Fields,
    /// The hashes of names and values.
    Symbols,
}

/// One step of a hash over hashes; a bijection of `key` for every `next`, so that only `identity`
/// at the end has to spread it.
fn chain(key: u64, next: u64) -> u64 {
    (key.rotate_left(23) ^ next).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn label(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (mut name, mut value): (&[u8], &[u8]) = (b"", b"");
    let mut label = Reader(bytes);
    while let Some((number, field)) = label.field()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => name = bytes,
            (2, Field::Bytes(bytes)) => value = bytes,
            (1 | 2, _) => return Err(DecodeError::WireType),
            _ => {}
        }
    }
    Ok((name, value))
}

/// A label as field 1 of a time series of 1.0.
fn put_label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let size = |text: &[u8]| 1 + varint_len(text.len()) + text.len();
    out.push(0x0a);
    put_varint(out, size(name) + size(value));
    for (tag, text) in [(0x0a, name), (0x12, value)] {
        out.push(tag);
        put_varint(out, text.len());
        out.extend_from_slice(text);
    }
}

fn varint_len(value: usize) -> usize {
    ((usize::BITS - value.leading_zeros()).max(1) as usize).div_ceil(7)
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
pub(super) mod tests;
