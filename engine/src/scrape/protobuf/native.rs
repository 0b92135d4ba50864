//! A native histogram as exposed -> checked, without empty buckets, as coarse as it must be, in the
//! form of the log.
//!
//! Source of the rules: Prometheus model/histogram (`Validate`, `Compact`, `ReduceResolution`),
//! scrape/target.go (`maxSchemaAppender`, `bucketLimitAppender`); of the form: `types.proto` of
//! <https://prometheus.io/docs/specs/prw/remote_write_spec/>.

use super::message::{Histogram, Side};
use crate::config::model::NATIVE_SCHEMAS;
use crate::matcher::HistogramFault;
use crate::parse::NORMAL_NAN;
use crate::protobuf::{put_bytes, put_varint, zigzag};
use std::ops::AddAssign;

/// Finest schema that is read, and made coarser.
const SCHEMA_READ_MAX: i32 = 52;

/// How fine a histogram may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The finest schema.
    pub(super) schema_max: i32,
    /// Most buckets; 0 = any number.
    pub(super) buckets_max: u64,
}

/// Buckets that are not empty: index and count, rising.
type Buckets<T> = Vec<(i32, T)>;

/// What integer and float histograms have in common.
struct Both<T> {
    schema: i32,
    negative: Buckets<T>,
    positive: Buckets<T>,
}

/// `Histogram` of remote write 1.0 without its timestamp.
pub(super) fn log_form(
    exposed: &Histogram<'_>,
    is_gauge: bool,
    limits: Limits,
) -> Result<Box<[u8]>, HistogramFault> {
    let schema = exposed.schema;
    if !(*NATIVE_SCHEMAS.start()..=SCHEMA_READ_MAX).contains(&schema) {
        return Err(invalid(format!("unknown schema {schema}")));
    }
    let mut out = Vec::with_capacity(64);
    let sum = match exposed.sum.is_nan() {
        true => NORMAL_NAN,
        false => exposed.sum,
    };
    if exposed.count_float > 0.0 || exposed.zero_count_float > 0.0 {
        let side = |side: &Side| {
            let counts = side.counts.iter().map(|&count| Ok(count));
            buckets(&side.spans, side.counts.len(), counts)
        };
        let mut both = Both {
            schema,
            negative: side(&exposed.negative)?,
            positive: side(&exposed.positive)?,
        };
        check_float(exposed, &both)?;
        both.coarsen(limits)?;
        put_double(&mut out, 2, exposed.count_float);
        put_double(&mut out, 3, sum);
        put_number(&mut out, 4, zigzag(both.schema.into()));
        put_double(&mut out, 5, exposed.zero_threshold);
        put_double(&mut out, 7, exposed.zero_count_float);
        for (field, side) in [(8, &both.negative), (11, &both.positive)] {
            put_spans(&mut out, field, side)?;
            let counts = side.iter().flat_map(|(_, count)| count.to_le_bytes());
            put_packed(&mut out, field + 2, &counts.collect::<Vec<_>>());
        }
    } else {
        let mut both = Both {
            schema,
            negative: whole_buckets(&exposed.negative)?,
            positive: whole_buckets(&exposed.positive)?,
        };
        check_whole(exposed, &both)?;
        both.coarsen(limits)?;
        put_number(&mut out, 1, exposed.count);
        put_double(&mut out, 3, sum);
        put_number(&mut out, 4, zigzag(both.schema.into()));
        put_double(&mut out, 5, exposed.zero_threshold);
        put_number(&mut out, 6, exposed.zero_count);
        for (field, side) in [(8, &both.negative), (11, &both.positive)] {
            put_spans(&mut out, field, side)?;
            let mut deltas = Vec::with_capacity(side.len() * 2);
            let mut before = 0;
            for &(_, count) in side {
                put_varint(&mut deltas, zigzag(count.wrapping_sub(before) as i64));
                before = count;
            }
            put_packed(&mut out, field + 1, &deltas);
        }
    }
    // What made the counts go back is not known; a gauge's may.
    put_number(&mut out, 14, if is_gauge { 3 } else { 0 });
    Ok(out.into())
}

fn invalid(reason: String) -> HistogramFault {
    HistogramFault::Invalid(reason)
}

/// The buckets of one side, of integer counts.
fn whole_buckets(side: &Side) -> Result<Buckets<u64>, HistogramFault> {
    let mut last = 0_i64;
    let counts = side.deltas.iter().map(|&delta| {
        let next = last.checked_add(delta).and_then(|n| u64::try_from(n).ok());
        let count = next.ok_or_else(|| invalid("a bucket has a negative count".to_owned()))?;
        last = count as i64;
        Ok(count)
    });
    buckets(&side.spans, side.deltas.len(), counts)
}

/// Puts `counts`, so many, where `spans` say.
fn buckets<T: Copy + Default + PartialEq>(
    spans: &[(i32, u32)],
    len: usize,
    counts: impl Iterator<Item = Result<T, HistogramFault>>,
) -> Result<Buckets<T>, HistogramFault> {
    let needed: u64 = spans.iter().map(|&(_, len)| u64::from(len)).sum();
    if needed != len as u64 {
        let reason = format!("spans need {needed} buckets, there are {len}");
        return Err(invalid(reason));
    }
    let mut at = 0_i64;
    let mut indices = Vec::with_capacity(len);
    for (number, &(offset, len)) in spans.iter().enumerate() {
        if number > 0 && offset < 0 {
            let reason = format!("span number {} has the offset {offset}", number + 1);
            return Err(invalid(reason));
        }
        at += i64::from(offset);
        for index in at..at + i64::from(len) {
            let index = i32::try_from(index);
            indices.push(index.map_err(|_| invalid("a bucket is out of range".to_owned()))?);
        }
        at += i64::from(len);
    }
    let mut buckets = Vec::with_capacity(len);
    for (index, count) in indices.into_iter().zip(counts) {
        let count = count?;
        if count != T::default() {
            buckets.push((index, count));
        }
    }
    Ok(buckets)
}

fn check_whole(exposed: &Histogram<'_>, both: &Both<u64>) -> Result<(), HistogramFault> {
    let mut all = both.negative.iter().chain(&both.positive);
    let found = all.try_fold(exposed.zero_count, |sum, &(_, count)| {
        sum.checked_add(count)
    });
    // Observations of NaN are in no bucket.
    let fits = match found {
        None => false,
        Some(found) if exposed.sum.is_nan() => found <= exposed.count,
        Some(found) => found == exposed.count,
    };
    let reason = || {
        let found = found.map_or_else(|| "too many".to_owned(), |found| found.to_string());
        invalid(format!(
            "{found} observations in buckets, but the count is {}",
            exposed.count
        ))
    };
    fits.then_some(()).ok_or_else(reason)
}

fn check_float(exposed: &Histogram<'_>, both: &Both<f64>) -> Result<(), HistogramFault> {
    let own = [exposed.count_float, exposed.zero_count_float];
    let buckets = both.negative.iter().chain(&both.positive);
    let mut all = buckets.map(|&(_, count)| count).chain(own);
    match all.find(|count| *count < 0.0) {
        Some(count) => Err(invalid(format!("a count is negative: {count}"))),
        None => Ok(()),
    }
}

impl<T: Copy + AddAssign> Both<T> {
    /// Merges buckets until there are as few as there may be.
    fn coarsen(&mut self, limits: Limits) -> Result<(), HistogramFault> {
        if self.schema > limits.schema_max {
            self.reduce(limits.schema_max);
        }
        let len = |both: &Self| (both.negative.len() + both.positive.len()) as u64;
        while limits.buckets_max > 0 && len(self) > limits.buckets_max {
            if self.schema <= *NATIVE_SCHEMAS.start() {
                return Err(HistogramFault::Buckets);
            }
            self.reduce(self.schema - 1);
        }
        Ok(())
    }

    fn reduce(&mut self, schema: i32) {
        let steps = self.schema - schema;
        for side in [&mut self.negative, &mut self.positive] {
            let mut merged: Buckets<T> = Vec::with_capacity(side.len());
            for &(index, count) in &*side {
                // Each bucket ends where one of the coarser schema ends, or within it.
                let index = (((i64::from(index) - 1) >> steps) + 1) as i32;
                match merged.last_mut() {
                    Some((last, sum)) if *last == index => *sum += count,
                    _ => merged.push((index, count)),
                }
            }
            *side = merged;
        }
        self.schema = schema;
    }
}

fn put_spans<T>(out: &mut Vec<u8>, field: u8, side: &Buckets<T>) -> Result<(), HistogramFault> {
    let mut next = 0_i64;
    let mut at = 0;
    while let Some(&(first, _)) = side.get(at) {
        let first = i64::from(first);
        let same = side[at..].iter().zip(first..);
        let len = same
            .take_while(|&(&(index, _), wanted)| i64::from(index) == wanted)
            .count();
        let offset = i32::try_from(first - next)
            .map_err(|_| invalid("two buckets are too far apart".to_owned()))?;
        let mut span = Vec::with_capacity(12);
        put_number(&mut span, 1, zigzag(offset.into()));
        put_number(&mut span, 2, len as u64);
        put_bytes(out, field << 3 | 2, &span);
        next = first + len as i64;
        at += len;
    }
    Ok(())
}

fn put_packed(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_bytes(out, field << 3 | 2, bytes);
    }
}

fn put_number(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    put_varint(out, value);
}

fn put_double(out: &mut Vec<u8>, field: u8, value: f64) {
    out.push(field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}
