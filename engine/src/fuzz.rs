//! Arbitrary bytes -> a panic if the parser breaks one of its promises: entry points for fuzzers
//! and property tests. Nothing else calls them.

use ringscrape_wal::definition::FamilyKind;

use crate::labels::LabelsBuilder;
use crate::parse::{
    Dialect, Exemplar, Next, ParseError, Piece, ValueLine, comments, empty_labels, exemplar_labels,
    kind_in_force, kind_matters, next_piece, plain_value, series_labels, value_line,
};

pub use crate::fetch::fuzz::http_response;
pub use crate::scrape::fuzz::protobuf;

/// Parses `data` as Prometheus text, whole and in windows that `data` decides.
///
/// # Panics
/// If the invariants of [`crate::parse`] do not hold for `data`.
pub fn text(data: &[u8]) {
    check(Dialect::Text, data);
}

/// Parses `data` as OpenMetrics, whole and in windows that `data` decides.
///
/// # Panics
/// If the invariants of [`crate::parse`] do not hold for `data`.
pub fn openmetrics(data: &[u8]) {
    check(Dialect::OpenMetrics, data);
}

/// What a parse gave, by offsets from the start of the body.
#[derive(Debug, PartialEq)]
struct Outcome<'a> {
    samples: Vec<Sample<'a>>,
    /// Where the tail starts, or offset and reason of the error.
    end: Result<usize, (usize, String)>,
}

#[derive(Debug, PartialEq)]
struct Sample<'a> {
    start: usize,
    prefix: &'a [u8],
    series: &'a [u8],
    value: Value<'a>,
    len: usize,
}

/// Value bits, timestamp and exemplar.
type Value<'a> = (u64, Option<i64>, Option<(&'a [u8], u64, Option<i64>)>);

fn check(dialect: Dialect, data: &[u8]) {
    let whole = parse(dialect, data, || data.len());
    let mut random = seed(data);
    let windowed = parse(dialect, data, || step(&mut random));
    assert_eq!(whole, windowed, "windows change the outcome");

    let mut kind = FamilyKind::Unknown;
    let mut before: Option<&Sample<'_>> = None;
    for sample in &whole.samples {
        let bytes = &data[sample.start..sample.start + sample.len];
        check_alone(dialect, sample, bytes);
        check_labels(dialect, sample, &mut kind);
        let rest = &bytes[sample.prefix.len()..];
        check_transplant(dialect, sample.prefix, rest);
        for other in [
            &b"1\n"[..],
            b" 1\n",
            b"+Inf\n",
            b"nan 3\n",
            b"{} 1\n",
            b"_1\n",
            b"1 2\n",
        ] {
            check_transplant(dialect, sample.prefix, other);
        }
        if let Some(before) = before {
            check_transplant(dialect, before.prefix, rest);
        }
        before = Some(sample);
    }
    if let Ok(tail) = whole.end {
        comments(dialect, &data[tail..]);
    }
}

/// Parses a body that arrives in windows; `grow` says by how many bytes more.
fn parse(dialect: Dialect, data: &[u8], mut grow: impl FnMut() -> usize) -> Outcome<'_> {
    let mut samples = Vec::new();
    let mut start = 0;
    let mut there = grow().min(data.len());
    let end = loop {
        let last = there == data.len();
        match next_piece(dialect, &data[start..there], last) {
            Ok(Next::NeedMore) => {
                assert!(!last, "more bytes wanted after the last one");
                there = data.len().min(there + grow().max(1));
            }
            Ok(Next::Sample(piece)) => {
                let sample = sample(start, &piece);
                assert!(sample.len > sample.prefix.len() && sample.len <= there - start);
                assert!(last || data[start + sample.len - 1] == b'\n');
                start += sample.len;
                samples.push(sample);
            }
            Ok(Next::End { tail }) => {
                assert_eq!(tail, &data[start..there]);
                break Ok(start);
            }
            Err(ParseError {
                offset,
                reason,
                near,
            }) => {
                assert!(offset <= there - start && near.chars().count() <= 40);
                break Err((start + offset, reason));
            }
        }
    };
    Outcome { samples, end }
}

/// A piece parses alone as it did in its body, and its value alone as in the piece.
fn check_alone(dialect: Dialect, expected: &Sample<'_>, bytes: &[u8]) {
    let last = !bytes.ends_with(b"\n");
    match next_piece(dialect, bytes, last) {
        Ok(Next::Sample(piece)) => assert_eq!(sample(expected.start, &piece), *expected),
        other => panic!("a piece alone is {other:?}"),
    }
    let rest = &bytes[expected.prefix.len()..];
    let used = expected.len - expected.prefix.len();
    match value_line(dialect, rest, last) {
        Ok(Some(line)) => assert_eq!((value(&line), line.len), (expected.value, used)),
        other => panic!("a value alone is {other:?}"),
    }
    if let Some((plain, plain_used)) = plain_value(rest) {
        assert_eq!((plain.to_bits(), None, None), expected.value);
        assert_eq!(plain_used, used);
    }
}

/// After a known prefix an accepted value line makes a piece with that prefix.
fn check_transplant(dialect: Dialect, prefix: &[u8], rest: &[u8]) {
    let body = [prefix, rest].concat();
    let plain = plain_value(rest);
    match value_line(dialect, rest, true) {
        Ok(Some(line)) => {
            if let Some((plain, used)) = plain {
                assert_eq!((plain.to_bits(), None, None), value(&line));
                assert_eq!(used, line.len);
            }
            match next_piece(dialect, &body, true) {
                Ok(Next::Sample(piece)) => {
                    assert_eq!(piece.prefix, prefix);
                    assert_eq!(piece.len, prefix.len() + line.len);
                    assert_eq!(sample(0, &piece).value, value(&line));
                }
                other => panic!("prefix and value line are {other:?}"),
            }
        }
        Ok(None) => panic!("more bytes wanted after the last one"),
        Err(_) => assert_eq!(
            plain, None,
            "the fast path takes what the slow path refuses"
        ),
    }
}

/// Labels and comments decode, and depend on the TYPE in force only where they say so.
fn check_labels(dialect: Dialect, sample: &Sample<'_>, kind: &mut FamilyKind) {
    comments(dialect, sample.prefix);
    *kind = kind_in_force(dialect, sample.prefix, *kind);
    let labels = |kind| {
        let mut labels = LabelsBuilder::new();
        series_labels(dialect, sample.series, kind, &mut labels).map(|()| labels)
    };
    let in_force = labels(*kind);
    if !kind_matters(dialect, sample.series) {
        assert_eq!(in_force, labels(FamilyKind::Histogram));
        assert_eq!(in_force, labels(FamilyKind::Summary));
    }
    if let Ok(labels) = in_force {
        for name in empty_labels(dialect, sample.series) {
            assert!(labels.get(&name).is_none());
        }
    }
    if let Some((labels, ..)) = sample.value.2 {
        exemplar_labels(labels);
    }
}

fn sample<'a>(start: usize, piece: &Piece<'a>) -> Sample<'a> {
    Sample {
        start,
        prefix: piece.prefix,
        series: piece.series,
        value: (
            piece.value.to_bits(),
            piece.timestamp_ms,
            piece.exemplar.as_ref().map(exemplar),
        ),
        len: piece.len,
    }
}

fn value<'a>(line: &ValueLine<'a>) -> Value<'a> {
    let exemplar = line.exemplar.as_ref().map(exemplar);
    (line.value.to_bits(), line.timestamp_ms, exemplar)
}

fn exemplar<'a>(exemplar: &Exemplar<'a>) -> (&'a [u8], u64, Option<i64>) {
    let value = exemplar.value.to_bits();
    (exemplar.labels, value, exemplar.timestamp_ms)
}

/// FNV-1a, so that a finding replays from its bytes alone; never 0.
fn seed(data: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    data.iter().fold(0xcbf2_9ce4_8422_2325, mix) | 1
}

/// Window growth: mostly a few bytes, now and then many.
fn step(random: &mut u64) -> usize {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let bits = (*random >> 32) as usize;
    if bits.is_multiple_of(4) {
        1 + (bits >> 2) % 4096
    } else {
        1 + (bits >> 2) % 24
    }
}
