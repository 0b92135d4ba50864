//! Metric families -> lines of `Dialect::Protobuf` that name the series, and beside them values,
//! timestamps, exemplars and native histograms by number of line.
//!
//! Every line ends in the value 0: lines of two scrapes are the same as long as the series are, so
//! that the matcher knows them again by comparing bytes.

use super::message::{Bucket, Exemplar, Family, Histogram, Metric, Type};
use super::native::{self, Limits};
use crate::matcher::{HistogramFault, RawExemplar, RawHistogram, Scratch};
use crate::parse::{NORMAL_NAN, bound};

/// Text that the lines of a body may have in any case, in bytes.
const TEXT_BYTES_FREE: usize = 16 << 20;
/// And for each byte of the body: a histogram's labels stand in the line of each of its buckets.
const TEXT_PER_BYTE: usize = 64;

/// What of histograms is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    /// Native buckets, where there are any.
    pub(super) native: bool,
    /// Classic buckets also where there are native ones.
    pub(super) always_classic: bool,
    pub(super) limits: Limits,
}

/// What was read of a body.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Lines that were not taken yet.
    pub(super) text: Vec<u8>,
    values: Vec<f64>,
    stamps: Vec<(u32, i64)>,
    exemplars: Vec<RawExemplar>,
    arena: Vec<u8>,
    histograms: Vec<RawHistogram>,
    family: FamilyText,
    /// Bytes of text that there have been, and that there may be.
    text_bytes: usize,
    text_bytes_max: usize,
}

/// The family whose metrics are being read.
#[derive(Debug, Default)]
struct FamilyText {
    name: String,
    /// The name needs no quotes.
    is_plain: bool,
    /// Comments that no line stands behind yet.
    comments: Vec<u8>,
    /// Labels of the metric: `a="b",c="d"`.
    labels: Vec<u8>,
    /// Of the metric; 0 = none.
    timestamp_ms: i64,
}

impl Lines {
    /// So many bytes of the body are read next. Lines repeat what a message says once: what they
    /// may come to is bounded by what has come over the network.
    pub(super) fn grant(&mut self, message_bytes: usize) {
        let more = message_bytes.saturating_mul(TEXT_PER_BYTE);
        self.text_bytes_max = self
            .text_bytes_max
            .max(TEXT_BYTES_FREE)
            .saturating_add(more);
    }

    /// Begins a family: its type.
    ///
    /// # Errors
    /// Name, help, unit or type are not valid.
    pub(super) fn begin(&mut self, family: &Family<'_>) -> Result<Type, String> {
        let name = text(family.name, "a metric name")?;
        if name.is_empty() || name.contains('\0') {
            return Err(format!("invalid metric name {name:?}"));
        }
        let help = text(family.help, "a HELP text")?;
        let unit = text(family.unit, "a unit")?;
        let kind = Type::of(family.kind)
            .ok_or_else(|| format!("unknown metric type {} of {name:?}", family.kind))?;
        check_unit(name, kind, unit)?;
        let own = &mut self.family;
        own.name.clear();
        own.name.push_str(name);
        own.is_plain = is_plain(name, b":");
        let comments = &mut own.comments;
        comments.clear();
        let mut comment = |word: &str, write: &dyn Fn(&mut Vec<u8>)| {
            comments.extend_from_slice(word.as_bytes());
            put_name(comments, name, own.is_plain);
            comments.push(b' ');
            write(comments);
            comments.push(b'\n');
        };
        if !help.is_empty() {
            comment("# HELP ", &|out| put_escaped(out, help));
        }
        comment("# TYPE ", &|out| {
            out.extend_from_slice(kind.word().as_bytes());
        });
        // A unit is not escaped.
        if !unit.is_empty() && !unit.contains('\n') {
            comment("# UNIT ", &|out| out.extend_from_slice(unit.as_bytes()));
        }
        Ok(kind)
    }

    /// Adds a metric of the family.
    ///
    /// # Errors
    /// It is malformed or has labels that are not valid.
    pub(super) fn metric(
        &mut self,
        kind: Type,
        metric: &Metric<'_>,
        options: &Options,
    ) -> Result<(), String> {
        let mut labels = std::mem::take(&mut self.family.labels);
        labels.clear();
        let put = put_labels(&mut labels, &metric.labels);
        self.family.labels = labels;
        put?;
        self.family.timestamp_ms = metric.timestamp_ms;
        match kind {
            Type::Counter => {
                let raw = self.line("", None, metric.counter)?;
                self.exemplar(raw, metric.counter_exemplar)
            }
            Type::Gauge => {
                self.line("", None, metric.gauge)?;
                Ok(())
            }
            Type::Untyped => {
                self.line("", None, metric.untyped)?;
                Ok(())
            }
            Type::Summary => {
                let summary = &metric.summary;
                self.line("_count", None, summary.count as f64)?;
                self.line("_sum", None, summary.sum)?;
                for &(quantile, value) in &summary.quantiles {
                    self.line("", Some(("quantile", quantile)), value)?;
                }
                Ok(())
            }
            Type::Histogram | Type::GaugeHistogram => {
                let histogram = &metric.histogram;
                let is_native = options.native && histogram.is_native();
                if is_native {
                    self.native(histogram, kind == Type::GaugeHistogram, options.limits)?;
                }
                let has_buckets = !histogram.buckets.is_empty();
                if !is_native || (options.always_classic && has_buckets) {
                    self.classic(histogram)?;
                }
                Ok(())
            }
        }
    }

    fn native(
        &mut self,
        histogram: &Histogram<'_>,
        is_gauge: bool,
        limits: Limits,
    ) -> Result<(), String> {
        let raw = self.line("", None, 0.0)?;
        let form = native::log_form(histogram, is_gauge, limits).map_err(|fault| match fault {
            HistogramFault::Invalid(reason) => {
                HistogramFault::Invalid(format!("{}: {reason}", self.family.name))
            }
            HistogramFault::Buckets => fault,
        });
        self.histograms.push(RawHistogram { raw, form });
        let of_buckets: Vec<_> = match histogram.exemplars.is_empty() {
            true => histogram
                .buckets
                .iter()
                .filter_map(|bucket| bucket.exemplar)
                .collect(),
            false => Vec::new(),
        };
        let first = self.exemplars.len();
        for exemplar in histogram.exemplars.iter().chain(&of_buckets) {
            let exemplar = Exemplar::read(exemplar).map_err(|error| error.to_string())?;
            // Which of them are new, only timestamps tell.
            if exemplar.timestamp_ms.is_some() {
                self.put_exemplar(raw, &exemplar)?;
            }
        }
        self.exemplars[first..].sort_by_key(|exemplar| exemplar.timestamp_ms);
        Ok(())
    }

    fn classic(&mut self, histogram: &Histogram<'_>) -> Result<(), String> {
        // A count of floats, if there is one, counts.
        let either = |float: f64, whole: u64| match float == 0.0 {
            true => whole as f64,
            false => float,
        };
        let count = either(histogram.count_float, histogram.count);
        self.line("_count", None, count)?;
        self.line("_sum", None, histogram.sum)?;
        let mut is_open = true;
        for bucket in &histogram.buckets {
            let Bucket { upper_bound, .. } = *bucket;
            let count = either(bucket.count_float, bucket.count);
            let raw = self.line("_bucket", Some(("le", upper_bound)), count)?;
            self.exemplar(raw, bucket.exemplar)?;
            if upper_bound == f64::INFINITY {
                is_open = false;
                break;
            }
        }
        if is_open {
            self.line("_bucket", Some(("le", f64::INFINITY)), count)?;
        }
        Ok(())
    }

    /// Adds a line; gives its number.
    ///
    /// # Errors
    /// It would be more text than there may be.
    fn line(
        &mut self,
        suffix: &str,
        bound_label: Option<(&str, f64)>,
        value: f64,
    ) -> Result<u32, String> {
        let (family, text) = (&mut self.family, &mut self.text);
        self.text_bytes += family.comments.len() + family.name.len() + family.labels.len();
        if self.text_bytes > self.text_bytes_max {
            return Err(format!(
                "names and labels come to more than {} bytes, {TEXT_PER_BYTE} times what was \
                 received",
                self.text_bytes_max
            ));
        }
        text.append(&mut family.comments);
        let mut separator: &[u8] = b"{";
        if family.is_plain {
            text.extend_from_slice(family.name.as_bytes());
            text.extend_from_slice(suffix.as_bytes());
        } else {
            text.extend_from_slice(b"{\"");
            put_escaped(text, &family.name);
            text.extend_from_slice(suffix.as_bytes());
            text.push(b'"');
            separator = b",";
        }
        if !family.labels.is_empty() {
            text.extend_from_slice(separator);
            text.extend_from_slice(&family.labels);
            separator = b",";
        }
        if let Some((name, value)) = bound_label {
            text.extend_from_slice(separator);
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b"=\"");
            text.extend_from_slice(bound(value).as_bytes());
            text.push(b'"');
            separator = b",";
        }
        if separator == b"," {
            text.push(b'}');
        }
        text.extend_from_slice(b" 0\n");
        let raw = self.values.len() as u32;
        // A target can't set staleness markers.
        self.values
            .push(if value.is_nan() { NORMAL_NAN } else { value });
        if family.timestamp_ms != 0 {
            self.stamps.push((raw, family.timestamp_ms));
        }
        Ok(raw)
    }

    fn exemplar(&mut self, raw: u32, bytes: Option<&[u8]>) -> Result<(), String> {
        match bytes {
            None => Ok(()),
            Some(bytes) => {
                let exemplar = Exemplar::read(bytes).map_err(|error| error.to_string())?;
                self.put_exemplar(raw, &exemplar)
            }
        }
    }

    fn put_exemplar(&mut self, raw: u32, exemplar: &Exemplar<'_>) -> Result<(), String> {
        let start = self.arena.len();
        self.arena.push(b'{');
        put_labels(&mut self.arena, &exemplar.labels)?;
        self.arena.push(b'}');
        self.exemplars.push(RawExemplar {
            raw,
            labels: (start, self.arena.len()),
            value: exemplar.value,
            timestamp_ms: exemplar.timestamp_ms,
        });
        Ok(())
    }

    /// Gives `scratch`, which has as many values as lines were read, what stands beside them.
    pub(super) fn give(mut self, scratch: &mut Scratch) {
        let count = scratch.values.len().min(self.values.len());
        scratch.values[..count].copy_from_slice(&self.values[..count]);
        let is_read = |raw: u32| (raw as usize) < count;
        self.stamps.retain(|&(raw, _)| is_read(raw));
        self.exemplars.retain(|exemplar| is_read(exemplar.raw));
        self.histograms.retain(|histogram| is_read(histogram.raw));
        scratch.stamps = self.stamps;
        scratch.exemplars = self.exemplars;
        scratch.arena = self.arena;
        scratch.histograms = self.histograms;
    }
}

/// As Prometheus: a unit must be the last part of its family's name; in that of a counter the last
/// but `_total`.
fn check_unit(name: &str, kind: Type, unit: &str) -> Result<(), String> {
    let front = match kind {
        Type::Counter => name.strip_suffix("_total").unwrap_or(name),
        _ => name,
    };
    let ends = front.strip_suffix(unit).is_some_and(|f| f.ends_with('_'));
    match unit.is_empty() || ends {
        true => Ok(()),
        false => Err(format!("unit {unit:?} is not a suffix of metric {name:?}")),
    }
}

fn text<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, String> {
    std::str::from_utf8(bytes).map_err(|_| {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
        format!("{what} is not UTF-8: {start:?}")
    })
}

/// Whether a name needs no quotes. `more`: what may stand in it besides letters, digits and `_`.
fn is_plain(name: &str, more: &[u8]) -> bool {
    let may = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || more.contains(&byte);
    let starts = name
        .bytes()
        .next()
        .is_some_and(|byte| !byte.is_ascii_digit());
    starts && name.bytes().all(may)
}

fn put_labels(out: &mut Vec<u8>, labels: &[(&[u8], &[u8])]) -> Result<(), String> {
    for (index, (name, value)) in labels.iter().enumerate() {
        let (name, value) = (text(name, "a label name")?, text(value, "a label value")?);
        if name.is_empty() || name.contains('\0') {
            return Err(format!("invalid label name {name:?}"));
        }
        if index > 0 {
            out.push(b',');
        }
        put_name(out, name, is_plain(name, b""));
        out.extend_from_slice(b"=\"");
        put_escaped(out, value);
        out.push(b'"');
    }
    Ok(())
}

fn put_name(out: &mut Vec<u8>, name: &str, is_plain: bool) {
    if is_plain {
        out.extend_from_slice(name.as_bytes());
        return;
    }
    out.push(b'"');
    put_escaped(out, name);
    out.push(b'"');
}

fn put_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr3(b'"', b'\\', b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\n' => b"\\n",
            b'"' => b"\\\"",
            _ => b"\\\\",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}
