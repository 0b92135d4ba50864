//! Metric families, written down plainly -> the bytes of a delimited protobuf body.
//!
//! Source: `io/prometheus/client/metrics.proto` of <https://github.com/prometheus/client_model>.

/// The Content-Type of such a body.
pub const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// `MetricType.COUNTER`.
pub const COUNTER: u64 = 0;
/// `MetricType.GAUGE`.
pub const GAUGE: u64 = 1;
/// `MetricType.SUMMARY`.
pub const SUMMARY: u64 = 2;
/// `MetricType.UNTYPED`.
pub const UNTYPED: u64 = 3;
/// `MetricType.HISTOGRAM`.
pub const HISTOGRAM: u64 = 4;
/// `MetricType.GAUGE_HISTOGRAM`.
pub const GAUGE_HISTOGRAM: u64 = 5;

/// A message in the making: each call adds a field with a number below 16.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A text.
    #[must_use]
    pub fn text(mut self, field: u8, text: &str) -> Self {
        self.bytes(field, text.as_bytes());
        self
    }

    /// A message within.
    #[must_use]
    pub fn inner(mut self, field: u8, message: &Message) -> Self {
        self.bytes(field, &message.0);
        self
    }

    /// An unsigned number.
    #[must_use]
    pub fn number(mut self, field: u8, value: u64) -> Self {
        self.0.push(field << 3);
        varint(&mut self.0, value);
        self
    }

    /// A `sint32` or `sint64`.
    #[must_use]
    pub fn signed(self, field: u8, value: i64) -> Self {
        self.number(field, ((value << 1) ^ (value >> 63)).cast_unsigned())
    }

    /// A double.
    #[must_use]
    pub fn double(mut self, field: u8, value: f64) -> Self {
        self.0.push(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A label of a metric.
    #[must_use]
    pub fn label(self, name: &str, value: &str) -> Self {
        self.inner(1, &Message::default().text(1, name).text(2, value))
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.0.push(field << 3 | 2);
        varint(&mut self.0, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

/// A family with its length in front.
pub fn family(name: &str, help: &str, kind: u64, metrics: &[Message]) -> Vec<u8> {
    let mut family = Message::default();
    family = family.text(1, name).text(2, help).number(3, kind);
    for metric in metrics {
        family = family.inner(4, metric);
    }
    let mut bytes = Vec::new();
    varint(&mut bytes, family.0.len() as u64);
    bytes.extend_from_slice(&family.0);
    bytes
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
