//! Exposition text -> pieces: the slow, complete parser, and the oracle of the fast path.
//!
//! A body is a list of **pieces**. A piece is one sample line with all comment and blank lines
//! before it. Its **prefix** is everything from the end of the sample line before to the first
//! byte of the value: equal prefixes mean equal series and equal metadata, so the matcher compares
//! prefixes and reads the number. What follows the last sample line is the **tail**.
//!
//! **Invariants** (each held by a property test in `tests/`)
//! 1. Parsing is free of context at the borders of pieces: an accepted body cut there gives, piece
//!    by piece, the same pieces; and windows of any size give the same pieces as the whole body.
//! 2. `series` and [`comments`] are functions of the prefix alone. What the labels of a series are
//!    depends, besides, on the TYPE in force ([`kind_in_force`]), and only if [`kind_matters`].
//! 3. If some accepted piece had the prefix P, and [`value_line`] accepts R, then P + R is a piece
//!    with prefix P and the value of R. A refusal of `value_line` says nothing of P + R: the series
//!    may go on (`a ` before `{b="c"} 1`), so the caller asks [`next_piece`] then.
//! 4. [`plain_value`] gives what `value_line` gives, in both dialects, or nothing.
//!
//! One bad line fails the scrape, as in Prometheus. Where the grammars deviate from Prometheus'
//! own is said in `text.rs`, `openmetrics.rs` and `label_list.rs`.

mod label_list;
mod number;
mod openmetrics;
mod scan;
mod series;
mod text;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use ringscrape_wal::definition::FamilyKind;

use crate::labels::LabelsBuilder;
pub(crate) use number::{NORMAL_NAN, bound};
use scan::{Halt, Input, Name, Span};
pub(crate) use series::Exposed;

/// Which grammar a body follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Prometheus text 0.0.4 and 1.0.0.
    Text,
    /// OpenMetrics 0.0.1 and 1.0.0.
    OpenMetrics,
    /// What `scrape` writes for a protobuf body: as OpenMetrics, but a unit need not end the name
    /// of its family, and `le` and `quantile` are written as they are to be stored.
    Protobuf,
}

/// One sample line with the comment and blank lines before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece<'a> {
    /// Bytes from the start of the piece to the first byte of the value.
    pub prefix: &'a [u8],
    /// The series as exposed (name and labels), a part of `prefix`.
    pub series: &'a [u8],
    /// The value; any NaN is `f64::from_bits(0x7ff8000000000001)`.
    pub value: f64,
    /// Explicit timestamp in milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// Exemplar (OpenMetrics).
    pub exemplar: Option<Exemplar<'a>>,
    /// Length of the whole piece, final `\n` included (absent only at the end of the body).
    pub len: usize,
}

/// An exemplar as exposed.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar<'a> {
    /// The label set, from `{` to `}`.
    pub labels: &'a [u8],
    /// Its value.
    pub value: f64,
    /// Its timestamp in milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
}

/// What stands at the start of the bytes given.
#[derive(Debug, Clone, PartialEq)]
pub enum Next<'a> {
    /// A piece.
    Sample(Piece<'a>),
    /// The body ends: the tail, which is comments, blank lines and for OpenMetrics `# EOF`.
    End {
        /// The rest of the bytes.
        tail: &'a [u8],
    },
    /// A whole piece is not there yet (only if `last` was false).
    NeedMore,
}

/// A body that does not follow its grammar. The scrape fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset} near {near:?}")]
pub struct ParseError {
    /// Byte offset in the bytes given.
    pub offset: usize,
    /// What was expected and what was found.
    pub reason: String,
    /// Up to 40 bytes of the offending line.
    pub near: String,
}

/// HELP, TYPE or UNIT line in a piece's prefix or in a tail.
#[derive(Debug, Clone, PartialEq)]
pub enum Comment<'a> {
    /// `# HELP name text`, the text unescaped.
    Help(Cow<'a, str>, Cow<'a, str>),
    /// `# TYPE name kind`.
    Type(Cow<'a, str>, FamilyKind),
    /// `# UNIT name unit`.
    Unit(Cow<'a, str>, Cow<'a, str>),
}

/// What ends the comments at the start of a piece.
enum Lead {
    /// A series, at this offset.
    Series(usize),
    /// The body's end.
    End,
}

/// A comment line with meaning: where its name and its text stand.
enum Line {
    Help(Name, Span),
    Type(Name, FamilyKind),
    Unit(Name, Span),
}

/// Reads the piece at the start of `body`. `last`: no bytes follow `body`.
///
/// `NeedMore` comes only without `last`; the caller keeps the bytes and asks again with more of
/// them (at least twice as many, so that the work stays linear). `End` comes with `last`, and in
/// text also without it: a NUL at the start of a line ends the body there, as in Prometheus, and
/// the caller ignores what follows. A body ends with `End`; OpenMetrics only after `# EOF`.
///
/// # Errors
/// A line that does not follow the grammar, wherever it stands before the piece's end.
pub fn next_piece(dialect: Dialect, body: &[u8], last: bool) -> Result<Next<'_>, ParseError> {
    let input = Input { bytes: body, last };
    match read_piece(dialect, &input) {
        Ok(next) => Ok(next),
        Err(Halt::NeedMore) => Ok(Next::NeedMore),
        Err(Halt::Bad(error)) => Err(*error),
    }
}

fn read_piece<'a>(dialect: Dialect, input: &Input<'a>) -> Result<Next<'a>, Halt> {
    let bytes = input.bytes;
    let lead = match dialect {
        Dialect::Text => text::lead(input, |_| ())?,
        Dialect::OpenMetrics => openmetrics::lead(input, true, |_| ())?,
        Dialect::Protobuf => openmetrics::lead(input, false, |_| ())?,
    };
    let Lead::Series(start) = lead else {
        return Ok(Next::End { tail: bytes });
    };
    let (end, value_at) = match dialect {
        Dialect::Text => text::series(input, start)?,
        Dialect::OpenMetrics | Dialect::Protobuf => openmetrics::series(input, start)?,
    };
    let mut piece = Piece {
        prefix: &bytes[..value_at],
        series: &bytes[start..end],
        value: 0.0,
        timestamp_ms: None,
        exemplar: None,
        len: 0,
    };
    if let Some((value, used)) = number::plain(&bytes[value_at..]) {
        piece.value = value;
        piece.len = value_at + used;
    } else {
        let line = read_value(dialect, input, value_at)?;
        piece.value = line.value;
        piece.timestamp_ms = line.timestamp_ms;
        piece.exemplar = line.exemplar;
        piece.len = line.len;
    }
    Ok(Next::Sample(piece))
}

/// Reads from `at` to the line's end; `len` counts from the start of the input.
fn read_value<'a>(dialect: Dialect, input: &Input<'a>, at: usize) -> Result<ValueLine<'a>, Halt> {
    match dialect {
        Dialect::Text => text::value(input, at),
        Dialect::OpenMetrics | Dialect::Protobuf => openmetrics::value(input, at),
    }
}

/// Reads the labels of a piece's `series`, `__name__` included, into `labels` (cleared first).
///
/// `kind`: the TYPE in force at the piece ([`kind_in_force`]). In a histogram the values of `le`,
/// in a summary those of `quantile` are written as Prometheus 3 writes them (`1` becomes `1.0`).
/// Labels exposed with an empty value are left out; [`empty_labels`] has their names.
///
/// A quoted empty metric name leaves `__name__` out: relabelling may still set one, and if it does
/// not, the scrape fails.
///
/// # Errors
/// A duplicate label name (`__name__` included), an empty label name: the scrape fails. `offset`
/// counts from the start of `series`.
pub fn series_labels(
    dialect: Dialect,
    series: &[u8],
    kind: FamilyKind,
    labels: &mut LabelsBuilder,
) -> Result<(), ParseError> {
    series::labels(dialect, series, kind, labels)
}

/// As `series_labels`, into a list sorted by name; labels with an empty value are in it too.
///
/// # Errors
/// As `series_labels`.
pub(crate) fn sorted_labels<'a>(
    dialect: Dialect,
    series: &'a [u8],
    kind: FamilyKind,
    labels: &mut Vec<Exposed<'a>>,
) -> Result<(), ParseError> {
    series::sorted(dialect, series, kind, labels)
}

/// The labels of an accepted series in the order exposed, `__name__` included.
pub(crate) fn exposed_labels(dialect: Dialect, series: &[u8]) -> Vec<Exposed<'_>> {
    series::exposed(dialect, series).unwrap_or_default()
}

/// The names of the labels that a series exposes with an empty value: with `honor_labels` such a
/// name keeps the target's label of that name away.
pub fn empty_labels(dialect: Dialect, series: &[u8]) -> Vec<String> {
    series::empty(dialect, series)
}

/// Whether the labels of a series depend on the TYPE in force: it has a label `le` or `quantile`.
pub fn kind_matters(dialect: Dialect, series: &[u8]) -> bool {
    series::kind_matters(dialect, series)
}

/// The labels of an exemplar (`{` to `}`) as exposed, unescaped, in their order.
pub fn exemplar_labels(labels: &[u8]) -> Vec<(String, String)> {
    series::exemplar(labels)
}

/// The HELP, TYPE and UNIT lines of a prefix or tail that `next_piece` has accepted, in order.
///
/// A quoted name that is not UTF-8 names no series; its lines are left out.
pub fn comments(dialect: Dialect, prefix: &[u8]) -> Vec<Comment<'_>> {
    let mut comments = Vec::new();
    lines(dialect, prefix, |line| {
        let unescaped = |text: Span, quotes| {
            let text = std::str::from_utf8(text.of(prefix)).unwrap_or_default();
            scan::unescape(text, quotes)
        };
        let name = |name| scan::unescape_name(prefix, name);
        let comment = match line {
            // The text format escapes no quotes in HELP, OpenMetrics does.
            Line::Help(of, text) => {
                name(of).map(|name| Comment::Help(name, unescaped(text, dialect != Dialect::Text)))
            }
            Line::Type(of, kind) => name(of).map(|name| Comment::Type(name, kind)),
            Line::Unit(of, text) => name(of).map(|name| {
                let unit = std::str::from_utf8(text.of(prefix)).unwrap_or_default();
                Comment::Unit(name, unit.into())
            }),
        };
        comments.extend(comment);
    });
    comments
}

/// The TYPE in force after the comments of `prefix`: that of the last TYPE line, whatever family
/// it names, or `before` if there is none. At the start of a body it is `Unknown`.
///
/// Source: `mtype` in prometheus/prometheus model/textparse/promparse.go, which no line resets.
pub fn kind_in_force(dialect: Dialect, prefix: &[u8], before: FamilyKind) -> FamilyKind {
    let mut in_force = before;
    lines(dialect, prefix, |line| {
        if let Line::Type(_, kind) = line {
            in_force = kind;
        }
    });
    in_force
}

/// Gives `each` the comment lines of a prefix or tail that has been accepted.
fn lines(dialect: Dialect, prefix: &[u8], each: impl FnMut(Line)) {
    let input = Input {
        bytes: prefix,
        last: true,
    };
    let lead = match dialect {
        Dialect::Text => text::lead(&input, each),
        Dialect::OpenMetrics => openmetrics::lead(&input, true, each),
        Dialect::Protobuf => openmetrics::lead(&input, false, each),
    };
    debug_assert!(lead.is_ok(), "BUG: comments of a prefix never accepted");
}

/// The fast path after a known prefix: reads `VALUE\n` at the start of `rest` (nothing else on the
/// line; value in the grammar common to both dialects) and returns the value and the bytes used,
/// `\n` included. `None`: anything unusual, take the slow path for this line.
#[inline]
pub fn plain_value(rest: &[u8]) -> Option<(f64, usize)> {
    number::plain(rest)
}

/// What follows a value in the general case: optional timestamp and exemplar, then the line's end.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueLine<'a> {
    /// The value.
    pub value: f64,
    /// Explicit timestamp in milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// Exemplar (OpenMetrics).
    pub exemplar: Option<Exemplar<'a>>,
    /// Bytes used, final `\n` included where there is one.
    pub len: usize,
}

/// Reads value, timestamp and exemplar at the start of `rest`, up to and with the line's end.
/// `Ok(None)`: the line is not complete (only if `last` is false).
///
/// # Errors
/// As `next_piece`; but after a prefix that was only compared, see invariant 3: it may be that the
/// line has another prefix.
pub fn value_line(
    dialect: Dialect,
    rest: &[u8],
    last: bool,
) -> Result<Option<ValueLine<'_>>, ParseError> {
    let input = Input { bytes: rest, last };
    match read_value(dialect, &input, 0) {
        Ok(line) => Ok(Some(line)),
        Err(Halt::NeedMore) => Ok(None),
        Err(Halt::Bad(error)) => Err(*error),
    }
}
