//! Metric families, written down plainly -> the bytes of a delimited protobuf body.

use crate::protobuf::{put_bytes, put_varint, zigzag};

/// A message in the making: each call adds a field.
#[derive(Debug, Clone, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    pub(super) fn bytes(mut self, field: u8, bytes: impl AsRef<[u8]>) -> Self {
        // Field 16 is the only one with a longer tag.
        match field {
            16 => {
                self.0.extend_from_slice(&[0x82, 1]);
                put_varint(&mut self.0, bytes.as_ref().len() as u64);
                self.0.extend_from_slice(bytes.as_ref());
            }
            _ => put_bytes(&mut self.0, field << 3 | 2, bytes.as_ref()),
        }
        self
    }

    pub(super) fn inner(self, field: u8, message: Message) -> Self {
        self.bytes(field, message.0)
    }

    pub(super) fn number(mut self, field: u8, value: u64) -> Self {
        self.0.push(field << 3);
        put_varint(&mut self.0, value);
        self
    }

    pub(super) fn signed(self, field: u8, value: i64) -> Self {
        self.number(field, zigzag(value))
    }

    pub(super) fn double(mut self, field: u8, value: f64) -> Self {
        self.0.push(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Labels of a metric or an exemplar.
    pub(super) fn labels(self, labels: &[(&str, &str)]) -> Self {
        labels.iter().fold(self, |message, (name, value)| {
            message.inner(1, new().bytes(1, name).bytes(2, value))
        })
    }
}

pub(super) fn new() -> Message {
    Message::default()
}

pub(super) const COUNTER: u64 = 0;
pub(super) const GAUGE: u64 = 1;
pub(super) const SUMMARY: u64 = 2;
pub(super) const UNTYPED: u64 = 3;
pub(super) const HISTOGRAM: u64 = 4;
pub(super) const GAUGE_HISTOGRAM: u64 = 5;

/// A family, with its length in front.
pub(super) fn family(name: &str, kind: u64, metrics: &[Message]) -> Vec<u8> {
    let family = new().bytes(1, name).number(3, kind);
    let add = |family: Message, metric: &Message| family.inner(4, metric.clone());
    delimited(metrics.iter().fold(family, add))
}

pub(super) fn delimited(message: Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, message.0.len() as u64);
    bytes.extend_from_slice(&message.0);
    bytes
}

/// A metric whose value is field 1 of a message in `field`: gauge 2, counter 3, untyped 5.
pub(super) fn metric(labels: &[(&str, &str)], field: u8, value: f64) -> Message {
    new().labels(labels).inner(field, new().double(1, value))
}

/// An exemplar; `seconds` is its timestamp.
pub(super) fn exemplar(label: &str, value: f64, seconds: Option<u64>) -> Message {
    let exemplar = new().labels(&[("id", label)]).double(2, value);
    match seconds {
        Some(seconds) => exemplar.inner(3, new().number(1, seconds).number(2, 5_000_000)),
        None => exemplar,
    }
}

/// A native histogram with buckets 1 and 2 for positive values, counts 2 and 3.
pub(super) fn native() -> Message {
    new()
        .number(1, 6)
        .double(2, 7.5)
        .signed(5, 3)
        .double(6, 1e-128)
        .number(7, 1)
        .inner(12, new().signed(1, 1).number(2, 2))
        .signed(13, 2)
        .signed(13, 1)
}

/// A bucket of a classic histogram.
pub(super) fn bucket(bound: f64, count: u64) -> Message {
    new().number(1, count).double(2, bound)
}
