//! Bytes of a `MetricFamily` -> its metrics, borrowed.
//!
//! Source of the field numbers: `io/prometheus/client/metrics.proto` of
//! <https://github.com/prometheus/client_model>. Repeated numbers are read packed and unpacked;
//! created timestamps and fields that are not known are passed over.

use crate::protobuf::{Fields, Malformed, Value, get_varint, unzigzag};

/// `MetricType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Summary,
    Untyped,
    Histogram,
    GaugeHistogram,
}

/// `MetricFamily`.
#[derive(Debug, Default)]
pub(super) struct Family<'a> {
    pub(super) name: &'a [u8],
    pub(super) help: &'a [u8],
    pub(super) unit: &'a [u8],
    /// The number of its type.
    pub(super) kind: u64,
    pub(super) metrics: Vec<&'a [u8]>,
}

/// `Metric`.
#[derive(Debug, Default)]
pub(super) struct Metric<'a> {
    pub(super) labels: Vec<(&'a [u8], &'a [u8])>,
    pub(super) timestamp_ms: i64,
    pub(super) gauge: f64,
    pub(super) counter: f64,
    pub(super) untyped: f64,
    pub(super) counter_exemplar: Option<&'a [u8]>,
    pub(super) summary: Summary,
    pub(super) histogram: Histogram<'a>,
}

/// `Summary`.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) sum: f64,
    /// Quantile and value.
    pub(super) quantiles: Vec<(f64, f64)>,
}

/// `Histogram`.
#[derive(Debug, Default, Clone)]
pub(super) struct Histogram<'a> {
    pub(super) count: u64,
    pub(super) count_float: f64,
    pub(super) sum: f64,
    pub(super) buckets: Vec<Bucket<'a>>,
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) zero_count: u64,
    pub(super) zero_count_float: f64,
    pub(super) negative: Side,
    pub(super) positive: Side,
    pub(super) exemplars: Vec<&'a [u8]>,
}

/// `Bucket`, of a classic histogram.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Bucket<'a> {
    pub(super) count: u64,
    pub(super) count_float: f64,
    pub(super) upper_bound: f64,
    pub(super) exemplar: Option<&'a [u8]>,
}

/// The buckets of a native histogram for values of one sign.
#[derive(Debug, Default, Clone)]
pub(super) struct Side {
    /// Offset from the end of the span before, and length.
    pub(super) spans: Vec<(i32, u32)>,
    /// Count of each bucket as a difference to the bucket before.
    pub(super) deltas: Vec<i64>,
    /// Count of each bucket.
    pub(super) counts: Vec<f64>,
}

/// `Exemplar`.
#[derive(Debug, Default)]
pub(super) struct Exemplar<'a> {
    pub(super) labels: Vec<(&'a [u8], &'a [u8])>,
    pub(super) value: f64,
    pub(super) timestamp_ms: Option<i64>,
}

impl Type {
    pub(super) fn of(number: u64) -> Option<Self> {
        Some(match number {
            0 => Type::Counter,
            1 => Type::Gauge,
            2 => Type::Summary,
            3 => Type::Untyped,
            4 => Type::Histogram,
            5 => Type::GaugeHistogram,
            _ => return None,
        })
    }

    /// As a TYPE line has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Summary => "summary",
            Type::Untyped => "unknown",
            Type::Histogram => "histogram",
            Type::GaugeHistogram => "gaugehistogram",
        }
    }
}

impl<'a> Family<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut family = Self::default();
        for field in Fields::new(bytes) {
            match field? {
                (1, name) => family.name = name.bytes()?,
                (2, help) => family.help = help.bytes()?,
                (3, kind) => family.kind = kind.varint()?,
                (4, metric) => family.metrics.push(metric.bytes()?),
                (5, unit) => family.unit = unit.bytes()?,
                _ => {}
            }
        }
        Ok(family)
    }
}

impl<'a> Metric<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut metric = Self::default();
        for field in Fields::new(bytes) {
            match field? {
                (1, pair) => metric.labels.push(label(pair.bytes()?)?),
                (2, gauge) => double(gauge.bytes()?, &mut metric.gauge)?,
                (3, counter) => metric.read_counter(counter.bytes()?)?,
                (4, summary) => metric.summary.add(summary.bytes()?)?,
                (5, untyped) => double(untyped.bytes()?, &mut metric.untyped)?,
                (6, timestamp) => metric.timestamp_ms = timestamp.varint()? as i64,
                (7, histogram) => metric.histogram.add(histogram.bytes()?)?,
                _ => {}
            }
        }
        Ok(metric)
    }

    fn read_counter(&mut self, bytes: &'a [u8]) -> Result<(), Malformed> {
        for field in Fields::new(bytes) {
            match field? {
                (1, value) => self.counter = value.double()?,
                (2, exemplar) => self.counter_exemplar = Some(exemplar.bytes()?),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Summary {
    fn add(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        for field in Fields::new(bytes) {
            match field? {
                (1, count) => self.count = count.varint()?,
                (2, sum) => self.sum = sum.double()?,
                (3, quantile) => {
                    let mut pair = (0.0, 0.0);
                    for field in Fields::new(quantile.bytes()?) {
                        match field? {
                            (1, quantile) => pair.0 = quantile.double()?,
                            (2, value) => pair.1 = value.double()?,
                            _ => {}
                        }
                    }
                    self.quantiles.push(pair);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'a> Histogram<'a> {
    fn add(&mut self, bytes: &'a [u8]) -> Result<(), Malformed> {
        for field in Fields::new(bytes) {
            match field? {
                (1, count) => self.count = count.varint()?,
                (2, sum) => self.sum = sum.double()?,
                (3, one) => self.buckets.push(bucket(one.bytes()?)?),
                (4, count) => self.count_float = count.double()?,
                // The upper half of a `sint32` is not part of it.
                (5, schema) => self.schema = unzigzag(schema.varint()? & 0xffff_ffff) as i32,
                (6, threshold) => self.zero_threshold = threshold.double()?,
                (7, count) => self.zero_count = count.varint()?,
                (8, count) => self.zero_count_float = count.double()?,
                (9, one) => self.negative.spans.push(span(one.bytes()?)?),
                (10, some) => deltas(some, &mut self.negative.deltas)?,
                (11, some) => counts(some, &mut self.negative.counts)?,
                (12, one) => self.positive.spans.push(span(one.bytes()?)?),
                (13, some) => deltas(some, &mut self.positive.deltas)?,
                (14, some) => counts(some, &mut self.positive.counts)?,
                (16, exemplar) => self.exemplars.push(exemplar.bytes()?),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether it has native buckets, or says that it may: with a span of length 0.
    pub(super) fn is_native(&self) -> bool {
        !self.positive.spans.is_empty()
            || !self.negative.spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
    }
}

impl<'a> Exemplar<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut exemplar = Self::default();
        for field in Fields::new(bytes) {
            match field? {
                (1, pair) => exemplar.labels.push(label(pair.bytes()?)?),
                (2, value) => exemplar.value = value.double()?,
                (3, timestamp) => exemplar.timestamp_ms = Some(unix_ms(timestamp.bytes()?)?),
                _ => {}
            }
        }
        Ok(exemplar)
    }
}

/// `google.protobuf.Timestamp`, in milliseconds.
fn unix_ms(bytes: &[u8]) -> Result<i64, Malformed> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::new(bytes) {
        match field? {
            (1, value) => seconds = value.varint()? as i64,
            (2, value) => nanos = value.varint()? as i32,
            _ => {}
        }
    }
    let ms = i64::from(nanos / 1_000_000);
    Ok(seconds.saturating_mul(1000).saturating_add(ms))
}

/// A message whose field 1 is its value.
fn double(bytes: &[u8], into: &mut f64) -> Result<(), Malformed> {
    for field in Fields::new(bytes) {
        if let (1, value) = field? {
            *into = value.double()?;
        }
    }
    Ok(())
}

fn label(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut pair: (&[u8], &[u8]) = (&[], &[]);
    for field in Fields::new(bytes) {
        match field? {
            (1, name) => pair.0 = name.bytes()?,
            (2, value) => pair.1 = value.bytes()?,
            _ => {}
        }
    }
    Ok(pair)
}

fn bucket(bytes: &[u8]) -> Result<Bucket<'_>, Malformed> {
    let mut bucket = Bucket::default();
    for field in Fields::new(bytes) {
        match field? {
            (1, count) => bucket.count = count.varint()?,
            (2, bound) => bucket.upper_bound = bound.double()?,
            (3, exemplar) => bucket.exemplar = Some(exemplar.bytes()?),
            (4, count) => bucket.count_float = count.double()?,
            _ => {}
        }
    }
    Ok(bucket)
}

fn span(bytes: &[u8]) -> Result<(i32, u32), Malformed> {
    let mut span = (0, 0);
    for field in Fields::new(bytes) {
        match field? {
            (1, offset) => span.0 = unzigzag(offset.varint()? & 0xffff_ffff) as i32,
            (2, length) => span.1 = length.varint()? as u32,
            _ => {}
        }
    }
    Ok(span)
}

fn deltas(value: Value<'_>, into: &mut Vec<i64>) -> Result<(), Malformed> {
    match value {
        Value::Varint(one) => into.push(unzigzag(one)),
        packed => {
            let bytes = packed.bytes()?;
            let mut at = 0;
            while at < bytes.len() {
                into.push(unzigzag(get_varint(bytes, &mut at)?));
            }
        }
    }
    Ok(())
}

fn counts(value: Value<'_>, into: &mut Vec<f64>) -> Result<(), Malformed> {
    match value {
        Value::Fixed64(bits) => into.push(f64::from_bits(bits)),
        packed => {
            let (all, rest) = packed.bytes()?.as_chunks();
            if !rest.is_empty() {
                return Err(Malformed);
            }
            into.extend(all.iter().map(|bytes| f64::from_le_bytes(*bytes)));
        }
    }
    Ok(())
}
