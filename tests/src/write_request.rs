//! Bytes of a remote-write 1.0 body -> its series, plainly and strictly.
//!
//! Source: `prompb/types.proto` of Prometheus and the remote-write 1.0 specification:
//! `WriteRequest{timeseries=1, metadata=3}`, `TimeSeries{labels=1, samples=2, exemplars=3}`,
//! `Label{name=1, value=2}`, `Sample{value=1 double, timestamp=2 int64 ms}`.

use std::collections::BTreeMap;

/// Names and values in the order in which they were sent.
pub type Labels = Vec<(String, String)>;

/// One series of a request.
#[derive(Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Value bits and timestamp in ms since the epoch.
    pub samples: Vec<(u64, i64)>,
    /// Native histograms.
    pub histograms: Vec<Histogram>,
}

/// A native histogram without its timestamp; what is not there is 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Numbers by field: counts, schema and the reset hint.
    pub numbers: BTreeMap<u64, u64>,
    /// Bits of doubles by field: counts, sum and zero threshold.
    pub doubles: BTreeMap<u64, u64>,
    /// Spans by field: offset and length.
    pub spans: BTreeMap<u64, Vec<(i64, u64)>>,
    /// Differences of counts by field.
    pub deltas: BTreeMap<u64, Vec<i64>>,
    /// Bits of counts by field.
    pub counts: BTreeMap<u64, Vec<u64>>,
}

/// Decodes an uncompressed request.
///
/// # Errors
/// Says what is malformed.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Series>, String> {
    let mut all = Vec::new();
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(series)) => all.push(decode_series(series)?),
            (3, Value::Bytes(_)) => {}
            (number, _) => return Err(format!("unexpected field {number} in the request")),
        }
    }
    Ok(all)
}

fn decode_series(bytes: &[u8]) -> Result<Series, String> {
    let mut series = Series {
        labels: Vec::new(),
        samples: Vec::new(),
        histograms: Vec::new(),
    };
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(label)) => series.labels.push(decode_label(label)?),
            (2, Value::Bytes(sample)) => series.samples.push(decode_sample(sample)?),
            (3, Value::Bytes(_)) => {}
            (4, Value::Bytes(one)) => series.histograms.push(decode_histogram(one)?),
            (number, _) => return Err(format!("unexpected field {number} in a series")),
        }
    }
    Ok(series)
}

fn decode_label(bytes: &[u8]) -> Result<(String, String), String> {
    let mut label = (String::new(), String::new());
    for field in Fields(bytes) {
        let (number, Value::Bytes(text)) = field? else {
            return Err("a label has a field that is no string".to_owned());
        };
        let text = std::str::from_utf8(text).map_err(|e| format!("label not UTF-8: {e}"))?;
        match number {
            1 => label.0 = text.to_owned(),
            2 => label.1 = text.to_owned(),
            _ => return Err(format!("unexpected field {number} in a label")),
        }
    }
    Ok(label)
}

fn decode_sample(bytes: &[u8]) -> Result<(u64, i64), String> {
    let mut sample = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Fixed64(bits)) => sample.0 = bits,
            (2, Value::Varint(time)) => sample.1 = time.cast_signed(),
            (number, _) => return Err(format!("unexpected field {number} in a sample")),
        }
    }
    Ok(sample)
}

fn decode_histogram(bytes: &[u8]) -> Result<Histogram, String> {
    let mut histogram = Histogram::default();
    for field in Fields(bytes) {
        match field? {
            (15, Value::Varint(_)) | (_, Value::Varint(0) | Value::Fixed64(0)) => {}
            (field, Value::Varint(number)) => {
                histogram.numbers.insert(field, number);
            }
            (field, Value::Fixed64(bits)) => {
                histogram.doubles.insert(field, bits);
            }
            (field @ (8 | 11), Value::Bytes(span)) => {
                let (mut offset, mut length) = (0, 0);
                for part in Fields(span) {
                    match part? {
                        (1, Value::Varint(value)) => offset = unzigzag(value),
                        (2, Value::Varint(value)) => length = value,
                        (number, _) => return Err(format!("field {number} in a span")),
                    }
                }
                let spans = histogram.spans.entry(field).or_default();
                spans.push((offset, length));
            }
            (field @ (9 | 12), Value::Bytes(packed)) => {
                let mut all = Fields(packed);
                let deltas = histogram.deltas.entry(field).or_default();
                while !all.0.is_empty() {
                    let delta = all.varint().ok_or("a cut delta")?;
                    deltas.push(unzigzag(delta));
                }
            }
            (field @ (10 | 13), Value::Bytes(packed)) => {
                let (all, _) = packed.as_chunks();
                let counts = histogram.counts.entry(field).or_default();
                counts.extend(all.iter().map(|bytes| u64::from_le_bytes(*bytes)));
            }
            (number, _) => return Err(format!("unexpected field {number} in a histogram")),
        }
    }
    Ok(histogram)
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| {
            let field = self
                .field()
                .ok_or_else(|| "cut or malformed protobuf".to_owned());
            if field.is_err() {
                self.0 = &[];
            }
            field
        })
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            _ => return None,
        };
        Some((key >> 3, value))
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a{b="c"}` with 1.5 at 1000 ms, written out by hand.
    const BYTES: &[u8] = b"\x0a\x27\x0a\x0d\x0a\x08__name__\x12\x01a\x0a\x06\x0a\x01b\x12\x01c\
        \x12\x0c\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x10\xe8\x07\x1a\x00";

    #[test]
    fn a_series_by_hand() {
        let labels = vec![("__name__".into(), "a".into()), ("b".into(), "c".into())];
        let samples = vec![(1.5f64.to_bits(), 1000)];
        // The trailing `1a 00` inside the series is an empty exemplar, which is passed over.
        let histograms = Vec::new();
        let series = Series {
            labels,
            samples,
            histograms,
        };
        assert_eq!(decode(BYTES).unwrap(), [series]);
    }

    #[test]
    fn each_cut_is_refused() {
        for end in 1..BYTES.len() {
            assert!(decode(&BYTES[..end]).is_err(), "cut at {end}");
        }
    }
}
