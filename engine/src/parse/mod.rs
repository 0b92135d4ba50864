//! Exposition text -> pieces: the slow, complete parser, and the oracle of the fast path.
//!
//! A body is a list of **pieces**. A piece is one sample line with all comment and blank lines
//! before it. Its **prefix** is everything from the end of the sample line before to the first
//! byte of the value: equal prefixes mean equal series and equal metadata, so the matcher compares
//! prefixes and reads the number. What follows the last sample line is the **tail**.

use crate::labels::LabelsBuilder;

/// Which grammar a body follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Prometheus text 0.0.4 and 1.0.0.
    Text,
    /// OpenMetrics 0.0.1 and 1.0.0.
    OpenMetrics,
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
    Help(std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>),
    /// `# TYPE name kind`.
    Type(
        std::borrow::Cow<'a, str>,
        ringscrape_wal::definition::FamilyKind,
    ),
    /// `# UNIT name unit`.
    Unit(std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>),
}

/// Reads the piece at the start of `body`. `last`: no bytes follow `body`.
///
/// # Errors
/// A line that does not follow the grammar, wherever it stands before the piece's end.
pub fn next_piece(_dialect: Dialect, _body: &[u8], _last: bool) -> Result<Next<'_>, ParseError> {
    Ok(Next::NeedMore)
}

/// Reads the labels of a piece's `series`, `__name__` included, into `labels` (cleared first).
///
/// # Errors
/// A duplicate label name, a missing metric name: the scrape fails.
pub fn series_labels(
    _dialect: Dialect,
    _series: &[u8],
    _labels: &mut LabelsBuilder,
) -> Result<(), ParseError> {
    Ok(())
}

/// The HELP, TYPE and UNIT lines of a prefix or tail that `next_piece` has accepted.
pub fn comments(_dialect: Dialect, _prefix: &[u8]) -> Vec<Comment<'_>> {
    Vec::new()
}

/// The fast path after a known prefix: reads `VALUE\n` at the start of `rest` (nothing else on the
/// line; value in the grammar common to both dialects) and returns the value and the bytes used,
/// `\n` included. `None`: anything unusual, take the slow path for this line.
#[inline]
pub fn plain_value(_rest: &[u8]) -> Option<(f64, usize)> {
    None
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
/// As `next_piece`.
pub fn value_line(
    _dialect: Dialect,
    _rest: &[u8],
    _last: bool,
) -> Result<Option<ValueLine<'_>>, ParseError> {
    Ok(None)
}
