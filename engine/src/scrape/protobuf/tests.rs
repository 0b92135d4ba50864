//! Native histograms against a plain model: a map from bucket to count.

use super::message::{Histogram, Side};
use super::native::{Limits, log_form};
use crate::matcher::HistogramFault;
use crate::protobuf::{Fields, Value, get_varint, unzigzag};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a logged histogram says, buckets by index.
#[derive(Debug, PartialEq, Default)]
pub(in crate::scrape) struct Logged {
    pub(in crate::scrape) whole: Option<(u64, u64)>,
    pub(in crate::scrape) float: Option<(f64, f64)>,
    pub(in crate::scrape) sum: f64,
    pub(in crate::scrape) schema: i32,
    pub(in crate::scrape) zero_threshold: f64,
    pub(in crate::scrape) negative: BTreeMap<i64, f64>,
    pub(in crate::scrape) positive: BTreeMap<i64, f64>,
    pub(in crate::scrape) hint: u64,
}

/// Reads the form of the log.
pub(in crate::scrape) fn logged(bytes: &[u8]) -> Logged {
    let mut logged = Logged::default();
    let mut spans = [Vec::new(), Vec::new()];
    let mut counts = [Vec::new(), Vec::new()];
    for field in Fields::new(bytes) {
        let (number, value) = field.unwrap();
        let double = || value.double().unwrap();
        let varint = || value.varint().unwrap();
        match number {
            1 => logged.whole.get_or_insert_default().0 = varint(),
            2 => logged.float.get_or_insert_default().0 = double(),
            3 => logged.sum = double(),
            4 => logged.schema = unzigzag(varint()) as i32,
            5 => logged.zero_threshold = double(),
            6 => logged.whole.get_or_insert_default().1 = varint(),
            7 => logged.float.get_or_insert_default().1 = double(),
            8 | 11 => {
                let mut parts = Fields::new(value.bytes().unwrap()).map(Result::unwrap);
                let (offset, length) = (parts.next().unwrap(), parts.next().unwrap());
                let (Value::Varint(offset), Value::Varint(length)) = (offset.1, length.1) else {
                    panic!("a span of other fields");
                };
                spans[usize::from(number == 11)].push((unzigzag(offset), length));
            }
            9 | 12 => {
                let bytes = value.bytes().unwrap();
                let (mut at, mut count) = (0, 0);
                while at < bytes.len() {
                    count += unzigzag(get_varint(bytes, &mut at).unwrap());
                    counts[usize::from(number == 12)].push(count as f64);
                }
            }
            10 | 13 => {
                let bytes = value.bytes().unwrap().as_chunks().0;
                let floats = bytes.iter().map(|chunk| f64::from_le_bytes(*chunk));
                counts[usize::from(number == 13)].extend(floats);
            }
            14 => logged.hint = varint(),
            other => panic!("field {other}"),
        }
    }
    for (side, map) in [&mut logged.negative, &mut logged.positive]
        .into_iter()
        .enumerate()
    {
        let mut at = 0;
        let mut counts = counts[side].iter();
        for &(offset, length) in &spans[side] {
            assert!(
                length > 0 && (at == 0 || offset > 0),
                "spans that could be one"
            );
            at += offset;
            for _ in 0..length {
                map.insert(at, *counts.next().expect("a count for each bucket"));
                at += 1;
            }
        }
        assert_eq!(counts.next(), None);
    }
    logged
}

const FREE: Limits = Limits {
    schema_max: 8,
    buckets_max: 0,
};

/// Spans that have these offsets and lengths, and the buckets' indices.
fn indices(spans: &[(i32, u32)]) -> Vec<i64> {
    let mut at = 0;
    let mut indices = Vec::new();
    for &(offset, len) in spans {
        at += i64::from(offset);
        indices.extend(at..at + i64::from(len));
        at += i64::from(len);
    }
    indices
}

fn side(spans: &[(i32, u32)], counts: &[u64], is_float: bool) -> Side {
    let mut side = Side {
        spans: spans.to_vec(),
        ..Side::default()
    };
    let mut before = 0;
    for &count in counts {
        match is_float {
            true => side.counts.push(count as f64),
            false => side.deltas.push(count as i64 - before),
        }
        before = count as i64;
    }
    side
}

type Spans = (Vec<(i32, u32)>, Vec<u64>);

fn spans() -> impl Strategy<Value = Spans> {
    let span = (0..40_i32, 0..5_u32);
    (-300..300_i32, prop::collection::vec(span, 0..6)).prop_flat_map(|(first, mut spans)| {
        if let Some(span) = spans.first_mut() {
            span.0 = first;
        }
        let len = spans.iter().map(|(_, len)| *len as usize).sum::<usize>();
        let counts = prop::collection::vec(prop_oneof![Just(0), 1..1000_u64], len);
        (Just(spans), counts)
    })
}

proptest! {
    #[test]
    fn as_coarse_as_the_model(
        (negative, negative_counts) in spans(),
        (positive, positive_counts) in spans(),
        zero in 0..5_u64,
        schema in -4..12_i32,
        schema_max in -4..=8_i32,
        buckets_max in 0..12_u64,
        is_float: bool,
        is_gauge: bool,
    ) {
        let counts = negative_counts.iter().chain(&positive_counts);
        let count: u64 = counts.sum::<u64>() + zero;
        let mut exposed = Histogram {
            sum: 12.5,
            schema,
            zero_threshold: 0.25,
            negative: side(&negative, &negative_counts, is_float),
            positive: side(&positive, &positive_counts, is_float),
            ..Histogram::default()
        };
        let is_float = is_float && count > 0;
        match is_float {
            true => (exposed.count_float, exposed.zero_count_float) = (count as f64, zero as f64),
            false => (exposed.count, exposed.zero_count) = (count, zero),
        }
        prop_assume!(is_float || exposed.negative.counts.is_empty());
        prop_assume!(is_float || exposed.positive.counts.is_empty());

        // The model: buckets of the coarser schema hold those that end in them.
        let at = |schema_now: i32| {
            let width = 1_i64 << (schema - schema_now);
            let merged = |spans: &[(i32, u32)], counts: &[u64]| {
                let mut map = BTreeMap::<i64, f64>::new();
                for (index, count) in indices(spans).into_iter().zip(counts) {
                    if *count > 0 {
                        *map.entry(-(-index).div_euclid(width)).or_default() += *count as f64;
                    }
                }
                map
            };
            (merged(&negative, &negative_counts), merged(&positive, &positive_counts))
        };
        let limits = Limits { schema_max, buckets_max };
        let fits = |schema: &i32| {
            let (negative, positive) = at(*schema);
            buckets_max == 0 || (negative.len() + positive.len()) as u64 <= buckets_max
        };
        let wanted = (-4..=schema.min(schema_max)).rev().find(fits);
        let found = log_form(&exposed, is_gauge, limits);
        let Some(schema_now) = wanted else {
            prop_assert_eq!(found, Err(HistogramFault::Buckets));
            return Ok(());
        };
        let found = logged(&found.unwrap());
        let (negative, positive) = at(schema_now);
        let wanted = Logged {
            whole: (!is_float).then_some((count, zero)),
            float: is_float.then_some((count as f64, zero as f64)),
            sum: 12.5,
            schema: schema_now,
            zero_threshold: 0.25,
            negative,
            positive,
            hint: if is_gauge { 3 } else { 0 },
        };
        prop_assert_eq!(found, wanted);
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let good = || Histogram {
        count: 6,
        sum: 1.0,
        zero_count: 1,
        positive: side(&[(0, 2)], &[2, 3], false),
        ..Histogram::default()
    };
    assert!(log_form(&good(), false, FREE).is_ok());
    let refused = |change: &dyn Fn(&mut Histogram<'_>), words: &str| {
        let mut histogram = good();
        change(&mut histogram);
        match log_form(&histogram, false, FREE) {
            Err(HistogramFault::Invalid(reason)) => assert!(reason.contains(words), "{reason}"),
            other => panic!("{words}: {other:?}"),
        }
    };
    refused(&|h| h.schema = -5, "unknown schema -5");
    refused(&|h| h.schema = 53, "unknown schema 53");
    refused(&|h| h.schema = -53, "unknown schema -53");
    refused(
        &|h| h.count = 7,
        "6 observations in buckets, but the count is 7",
    );
    refused(&|h| h.zero_count = u64::MAX, "too many observations");
    refused(
        &|h| h.positive.spans.push((1, 1)),
        "spans need 3 buckets, there are 2",
    );
    refused(
        &|h| h.positive.spans = vec![(0, u32::MAX), (0, u32::MAX)],
        "spans need",
    );
    refused(
        &|h| h.positive.spans = vec![(0, 1), (-1, 1)],
        "span number 2 has the offset -1",
    );
    refused(&|h| h.positive.deltas = vec![2, -3], "negative count");
    refused(&|h| h.positive.deltas = vec![i64::MAX, 1], "negative count");
    refused(&|h| h.positive.spans = vec![(i32::MAX, 2)], "out of range");
    let far = |h: &mut Histogram<'_>| {
        h.positive.spans = vec![(i32::MIN, 1), (i32::MAX, 0), (i32::MAX, 1)]
    };
    refused(&far, "too far apart");
    let negative = |h: &mut Histogram<'_>| {
        h.count_float = 1.0;
        h.positive.counts = vec![2.0, -0.5];
    };
    refused(&negative, "a count is negative: -0.5");
}

#[test]
fn observations_of_nan_are_in_no_bucket_and_the_sum_is_no_marker() {
    let histogram = Histogram {
        count: 3,
        sum: f64::from_bits(ringscrape_wal::scrape::STALE_NAN_BITS),
        positive: side(&[(0, 1)], &[2], false),
        ..Histogram::default()
    };
    let found = logged(&log_form(&histogram, false, FREE).unwrap());
    assert_eq!(found.whole, Some((3, 0)));
    assert_eq!(found.sum.to_bits(), 0x7ff8_0000_0000_0001);
}
