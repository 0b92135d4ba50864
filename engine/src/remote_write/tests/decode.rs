//! Bytes of a remote write request, 1.0 or 2.0 -> what they say, strictly: the tests' receiver.
//!
//! Shares nothing with the encoder. Anything the specification forbids is a panic: unsorted,
//! repeated or empty labels, unknown fields, a wrong wire type, bytes left over.

/// A decoded request.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct WriteRequest {
    pub(super) series: Vec<TimeSeries>,
    /// Of 1.0: by family. Of 2.0: of each series, in order, without a name.
    pub(super) metadata: Vec<Metadata>,
    /// Of 2.0: start timestamps of samples and histograms that have one, and their series' index.
    pub(super) starts: Vec<(usize, i64)>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct TimeSeries {
    pub(super) labels: Vec<(String, String)>,
    /// Value bits and timestamp.
    pub(super) samples: Vec<(u64, i64)>,
    pub(super) exemplars: Vec<Exemplar>,
    /// The message without its timestamp, which must be its last field, and the timestamp.
    pub(super) histograms: Vec<(Vec<u8>, i64)>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Exemplar {
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
    pub(super) timestamp_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Metadata {
    pub(super) kind: u64,
    pub(super) name: String,
    pub(super) help: String,
    pub(super) unit: String,
}

enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn varint(&mut self) -> u64 {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = self.0[0];
            self.0 = &self.0[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let tag = self.varint();
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()),
            1 => {
                let (bytes, rest) = self.0.split_at(8);
                self.0 = rest;
                Field::Fixed64(u64::from_le_bytes(bytes.try_into().unwrap()))
            }
            2 => {
                let len = self.varint() as usize;
                let (bytes, rest) = self.0.split_at(len);
                self.0 = rest;
                Field::Bytes(bytes)
            }
            other => panic!("wire type {other}"),
        };
        Some((tag >> 3, field))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn label(bytes: &[u8]) -> (String, String) {
    let mut label = (String::new(), String::new());
    for field in Fields(bytes) {
        match field {
            (1, Field::Bytes(name)) => label.0 = text(name),
            (2, Field::Bytes(value)) => label.1 = text(value),
            (number, _) => panic!("field {number} in a label"),
        }
    }
    assert!(!label.0.is_empty() && !label.1.is_empty(), "{label:?}");
    label
}

fn sample(bytes: &[u8]) -> (u64, i64) {
    let mut sample = (0, 0);
    for field in Fields(bytes) {
        match field {
            (1, Field::Fixed64(bits)) => sample.0 = bits,
            (2, Field::Varint(timestamp)) => sample.1 = timestamp as i64,
            (number, _) => panic!("field {number} in a sample"),
        }
    }
    sample
}

fn exemplar(bytes: &[u8]) -> Exemplar {
    let mut exemplar = Exemplar::default();
    for field in Fields(bytes) {
        match field {
            (1, Field::Bytes(bytes)) => exemplar.labels.push(label(bytes)),
            (2, Field::Fixed64(bits)) => exemplar.value = f64::from_bits(bits),
            (3, Field::Varint(timestamp)) => exemplar.timestamp_ms = timestamp as i64,
            (number, _) => panic!("field {number} in an exemplar"),
        }
    }
    exemplar
}

fn histogram(bytes: &[u8]) -> (Vec<u8>, i64) {
    let mut fields = Fields(bytes);
    loop {
        let before = bytes.len() - fields.0.len();
        match fields.next() {
            Some((15, Field::Varint(timestamp))) => {
                assert!(fields.0.is_empty(), "the timestamp is the last field");
                return (bytes[..before].to_vec(), timestamp as i64);
            }
            Some(_) => {}
            None => panic!("a histogram without a timestamp"),
        }
    }
}

fn series(bytes: &[u8]) -> TimeSeries {
    let mut series = TimeSeries::default();
    for field in Fields(bytes) {
        match field {
            (1, Field::Bytes(bytes)) => series.labels.push(label(bytes)),
            (2, Field::Bytes(bytes)) => series.samples.push(sample(bytes)),
            (3, Field::Bytes(bytes)) => series.exemplars.push(exemplar(bytes)),
            (4, Field::Bytes(bytes)) => series.histograms.push(histogram(bytes)),
            (number, _) => panic!("field {number} in a series"),
        }
    }
    let sorted = series.labels.windows(2).all(|pair| pair[0].0 < pair[1].0);
    assert!(sorted, "labels unsorted or repeated: {:?}", series.labels);
    assert!(!series.labels.is_empty());
    series
}

fn metadata(bytes: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    for field in Fields(bytes) {
        match field {
            (1, Field::Varint(kind)) => metadata.kind = kind,
            (2, Field::Bytes(name)) => metadata.name = text(name),
            (4, Field::Bytes(help)) => metadata.help = text(help),
            (5, Field::Bytes(unit)) => metadata.unit = text(unit),
            (number, _) => panic!("field {number} in metadata"),
        }
    }
    metadata
}

/// Decodes an uncompressed request.
pub(super) fn decode(raw: &[u8]) -> WriteRequest {
    let mut request = WriteRequest::default();
    for field in Fields(raw) {
        match field {
            (1, Field::Bytes(bytes)) => request.series.push(series(bytes)),
            (3, Field::Bytes(bytes)) => request.metadata.push(metadata(bytes)),
            (number, _) => panic!("field {number} in a request"),
        }
    }
    request
}

/// Labels of these numbers.
fn referred(bytes: &[u8], symbols: &[String]) -> Vec<(String, String)> {
    let mut fields = Fields(bytes);
    let mut texts = Vec::new();
    while !fields.0.is_empty() {
        texts.push(symbols[fields.varint() as usize].clone());
    }
    assert!(texts.len().is_multiple_of(2), "{texts:?}");
    let pairs = texts.chunks(2);
    let labels: Vec<_> = pairs
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect();
    assert!(
        labels
            .iter()
            .all(|(name, value)| !name.is_empty() && !value.is_empty())
    );
    labels
}

fn series_v2(bytes: &[u8], symbols: &[String]) -> (TimeSeries, Metadata, Vec<i64>) {
    let (mut series, mut metadata) = (TimeSeries::default(), Metadata::default());
    let mut starts = Vec::new();
    for field in Fields(bytes) {
        match field {
            (1, Field::Bytes(bytes)) => series.labels = referred(bytes, symbols),
            (2, Field::Bytes(bytes)) => {
                let mut sample = (0, 0);
                for field in Fields(bytes) {
                    match field {
                        (1, Field::Fixed64(bits)) => sample.0 = bits,
                        (2, Field::Varint(timestamp)) => sample.1 = timestamp as i64,
                        (3, Field::Varint(timestamp)) => starts.push(timestamp as i64),
                        (number, _) => panic!("field {number} in a sample"),
                    }
                }
                series.samples.push(sample);
            }
            (3, Field::Bytes(bytes)) => {
                let mut end = bytes.len();
                let start = Fields(bytes).find_map(|field| match field {
                    (17, Field::Varint(timestamp)) => Some(timestamp),
                    _ => None,
                });
                if let Some(start) = start {
                    starts.push(start as i64);
                    end -= 2 + varint_len(start);
                }
                series.histograms.push(histogram(&bytes[..end]));
            }
            (4, Field::Bytes(bytes)) => {
                let mut exemplar = Exemplar::default();
                for field in Fields(bytes) {
                    match field {
                        (1, Field::Bytes(bytes)) => exemplar.labels = referred(bytes, symbols),
                        (2, Field::Fixed64(bits)) => exemplar.value = f64::from_bits(bits),
                        (3, Field::Varint(timestamp)) => exemplar.timestamp_ms = timestamp as i64,
                        (number, _) => panic!("field {number} in an exemplar"),
                    }
                }
                series.exemplars.push(exemplar);
            }
            (5, Field::Bytes(bytes)) => {
                for field in Fields(bytes) {
                    match field {
                        (1, Field::Varint(kind)) => metadata.kind = kind,
                        (3, Field::Varint(help)) => metadata.help = symbols[help as usize].clone(),
                        (4, Field::Varint(unit)) => metadata.unit = symbols[unit as usize].clone(),
                        (number, _) => panic!("field {number} in metadata"),
                    }
                }
            }
            (number, _) => panic!("field {number} in a series"),
        }
    }
    let sorted = series.labels.windows(2).all(|pair| pair[0].0 < pair[1].0);
    assert!(sorted, "labels unsorted or repeated: {:?}", series.labels);
    assert!(!series.labels.is_empty());
    assert_eq!(series.samples.len() + series.histograms.len(), 1);
    (series, metadata, starts)
}

fn varint_len(mut value: u64) -> usize {
    let mut len = 1;
    while value >= 128 {
        value /= 128;
        len += 1;
    }
    len
}

/// Decodes an uncompressed 2.0 request; also its symbols.
pub(super) fn decode_v2(raw: &[u8]) -> (WriteRequest, Vec<String>) {
    let mut request = WriteRequest::default();
    let mut symbols = Vec::new();
    for field in Fields(raw) {
        match field {
            (4, Field::Bytes(bytes)) => symbols.push(text(bytes)),
            (5, Field::Bytes(bytes)) => {
                let (series, metadata, starts) = series_v2(bytes, &symbols);
                let index = request.series.len();
                request
                    .starts
                    .extend(starts.into_iter().map(|start| (index, start)));
                request.series.push(series);
                request.metadata.push(metadata);
            }
            (number, _) => panic!("field {number} in a request"),
        }
    }
    assert_eq!(symbols[0], "");
    let distinct: std::collections::BTreeSet<_> = symbols.iter().collect();
    assert_eq!(distinct.len(), symbols.len(), "{symbols:?}");
    (request, symbols)
}

/// Decodes an uncompressed request of either version: one of 2.0 begins with a symbol.
pub(super) fn decode_any(raw: &[u8]) -> WriteRequest {
    match raw.first() {
        Some(0x22) => decode_v2(raw).0,
        _ => decode(raw),
    }
}

/// Decodes the body of a request, in either form: a zstd frame begins with its magic number.
pub(super) fn decode_body(body: &[u8]) -> WriteRequest {
    if body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return decode_any(&zstd::stream::decode_all(body).unwrap());
    }
    decode_any(&snap::raw::Decoder::new().decompress_vec(body).unwrap())
}
