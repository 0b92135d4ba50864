//! Bytes of a remote write 1.0 request -> what they say, strictly: the receiver of the tests.
//!
//! Shares nothing with the encoder. Anything the specification forbids is a panic: unsorted,
//! repeated or empty labels, unknown fields, a wrong wire type, bytes left over.

/// A decoded request.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct WriteRequest {
    pub(super) series: Vec<TimeSeries>,
    pub(super) metadata: Vec<Metadata>,
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

/// Decodes the body of a request, in either form: a zstd frame begins with its magic number.
pub(super) fn decode_body(body: &[u8]) -> WriteRequest {
    if body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return decode(&zstd::stream::decode_all(body).unwrap());
    }
    decode(&snap::raw::Decoder::new().decompress_vec(body).unwrap())
}
