//! Bytes of a remote-write 2.0 body -> its symbols and series, as they stand there.
//!
//! Only what is no protobuf of this schema is an error here, so that a test can look at each rule.
//! Source: `prompb/io/prometheus/write/v2/types.proto` of Prometheus.

use crate::write_request::{Fields, Value};

/// A request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// All texts, in order.
    pub symbols: Vec<String>,
    /// All series, in order.
    pub series: Vec<Series>,
}

/// One `TimeSeries`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Places of names and values among the symbols.
    pub labels_refs: Vec<u64>,
    /// Value bits, timestamp and start timestamp in ms since the epoch.
    pub samples: Vec<(u64, i64, i64)>,
    /// Native histograms.
    pub histograms: usize,
    /// Exemplars.
    pub exemplars: Vec<Exemplar>,
    /// Type, and places of help and unit.
    pub metadata: Option<(u64, u64, u64)>,
}

/// One exemplar; what is not there is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Exemplar {
    /// Places of names and values among the symbols.
    pub labels_refs: Vec<u64>,
    /// The value's bits.
    pub value_bits: Option<u64>,
    /// Milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
}

impl Request {
    /// A symbol; empty for a place that is not there, which `bad_refs` tells.
    pub fn symbol(&self, place: u64) -> &str {
        let found = usize::try_from(place).ok();
        found
            .and_then(|place| self.symbols.get(place))
            .map_or("", String::as_str)
    }

    /// The labels of a series.
    pub fn labels(&self, series: &Series) -> Vec<(String, String)> {
        let pair = |pair: &[u64]| {
            let symbol = |at: usize| pair.get(at).map_or("", |place| self.symbol(*place));
            (symbol(0).to_owned(), symbol(1).to_owned())
        };
        series.labels_refs.chunks(2).map(pair).collect()
    }

    /// References to symbols that are not there.
    pub fn bad_refs(&self) -> usize {
        let all = self.series.iter().flat_map(|series| {
            let exemplars = series.exemplars.iter();
            let exemplars = exemplars.flat_map(|exemplar| exemplar.labels_refs.clone());
            let metadata = series.metadata.iter();
            let metadata = metadata.flat_map(|(_, help, unit)| [*help, *unit]);
            let labels = series.labels_refs.iter().copied();
            labels.chain(exemplars).chain(metadata).collect::<Vec<_>>()
        });
        let count = self.symbols.len() as u64;
        all.filter(|place| *place >= count).count()
    }
}

/// Decodes an uncompressed request.
///
/// # Errors
/// Says what is malformed.
pub fn decode(bytes: &[u8]) -> Result<Request, String> {
    let mut request = Request::default();
    for field in Fields(bytes) {
        match field? {
            (4, Value::Bytes(text)) => {
                let text = std::str::from_utf8(text);
                let text = text.map_err(|error| format!("symbol not UTF-8: {error}"))?;
                request.symbols.push(text.to_owned());
            }
            (5, Value::Bytes(series)) => request.series.push(decode_series(series)?),
            (number, _) => return Err(format!("unexpected field {number} in the request")),
        }
    }
    Ok(request)
}

fn decode_series(bytes: &[u8]) -> Result<Series, String> {
    let mut series = Series::default();
    for field in Fields(bytes) {
        match field? {
            (1, refs) => put_refs(&mut series.labels_refs, refs)?,
            (2, Value::Bytes(sample)) => series.samples.push(decode_sample(sample)?),
            (3, Value::Bytes(_)) => series.histograms += 1,
            (4, Value::Bytes(exemplar)) => series.exemplars.push(decode_exemplar(exemplar)?),
            (5, Value::Bytes(metadata)) => series.metadata = Some(decode_metadata(metadata)?),
            (number, _) => return Err(format!("unexpected field {number} in a series")),
        }
    }
    Ok(series)
}

/// Packed, or one by one: both mean the same.
fn put_refs(refs: &mut Vec<u64>, value: Value<'_>) -> Result<(), String> {
    match value {
        Value::Varint(place) => refs.push(place),
        Value::Bytes(packed) => {
            let mut rest = Fields(packed);
            while !rest.0.is_empty() {
                refs.push(rest.varint().ok_or("cut references")?);
            }
        }
        Value::Fixed64(_) => return Err("references of 8 bytes".to_owned()),
    }
    Ok(())
}

fn decode_sample(bytes: &[u8]) -> Result<(u64, i64, i64), String> {
    let mut sample = (0, 0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Fixed64(bits)) => sample.0 = bits,
            (2, Value::Varint(time)) => sample.1 = time.cast_signed(),
            (3, Value::Varint(start)) => sample.2 = start.cast_signed(),
            (number, _) => return Err(format!("unexpected field {number} in a sample")),
        }
    }
    Ok(sample)
}

fn decode_exemplar(bytes: &[u8]) -> Result<Exemplar, String> {
    let mut exemplar = Exemplar::default();
    for field in Fields(bytes) {
        match field? {
            (1, refs) => put_refs(&mut exemplar.labels_refs, refs)?,
            (2, Value::Fixed64(bits)) => exemplar.value_bits = Some(bits),
            (3, Value::Varint(time)) => exemplar.timestamp_ms = Some(time.cast_signed()),
            (number, _) => return Err(format!("unexpected field {number} in an exemplar")),
        }
    }
    Ok(exemplar)
}

fn decode_metadata(bytes: &[u8]) -> Result<(u64, u64, u64), String> {
    let mut metadata = (0, 0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Varint(kind)) => metadata.0 = kind,
            (3, Value::Varint(help)) => metadata.1 = help,
            (4, Value::Varint(unit)) => metadata.2 = unit,
            (number, _) => return Err(format!("unexpected field {number} in metadata")),
        }
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_stands() {
        let mut bytes = vec![0x22, 0, 0x22, 1, b'a', 0x22, 1, b'b'];
        let sample = [0x12, 13, 9, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 7, 0x18, 5];
        let exemplar = [0x22, 2, 0x18, 9];
        let metadata = [0x2a, 4, 8, 1, 0x18, 9];
        let refs = [0x0a, 2, 1, 2];
        let series = [&refs[..], &sample, &exemplar, &metadata].concat();
        bytes.extend([0x2a, series.len() as u8]);
        bytes.extend(series);
        let request = decode(&bytes).unwrap();
        assert_eq!(request.symbols, ["", "a", "b"]);
        let series = &request.series[0];
        assert_eq!(request.labels(series), [("a".to_owned(), "b".to_owned())]);
        assert_eq!(series.samples, [(1.0_f64.to_bits(), 7, 5)]);
        assert_eq!(series.exemplars[0].timestamp_ms, Some(9));
        assert_eq!(series.exemplars[0].value_bits, None);
        assert_eq!(series.metadata, Some((1, 9, 0)));
        assert_eq!(request.bad_refs(), 1);
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode(&[0x0a, 0]).is_err(), "a field of 1.0");
    }
}
