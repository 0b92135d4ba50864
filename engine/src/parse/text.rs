//! Prometheus text 0.0.4 and 1.0.0 -> comments, series, values.
//!
//! The grammar is that of Prometheus 3 (prometheus/prometheus model/textparse, promlex.l and
//! promparse.go): blanks and tabs between tokens, optional commas between labels, raw newlines
//! inside quotes, comments of any kind, HELP and TYPE in any order and place. `\r` is an ordinary
//! byte: fine in comments and values, an error anywhere else. NUL may stand in label values, HELP
//! texts and `# ` comments; at the start of a line it ends the body, silently.
//!
//! Deviations, on lines that no client library writes: blanks before a metric name do not become a
//! part of it, and a value must not touch the name (`a+1`, which Prometheus takes).

use ringscrape_wal::definition::FamilyKind;

use super::label_list::{self, Style};
use super::number::{self, Fault};
use super::scan::{Halt, Input, Name, Span};
use super::{Lead, Line, ValueLine};

/// Skips comments and blank lines; `each` sees HELP and TYPE lines.
#[inline]
pub(super) fn lead(input: &Input<'_>, mut each: impl FnMut(Line)) -> Result<Lead, Halt> {
    let mut at = 0;
    loop {
        at = input.skip_blanks(at);
        match input.get(at) {
            None if input.last => return Ok(Lead::End),
            None => return Err(Halt::NeedMore),
            Some(b'\n') => at += 1,
            Some(0) => return Ok(Lead::End),
            Some(b'#') => match comment(input, at, &mut each)? {
                Some(next) => at = next,
                None => return Ok(Lead::End),
            },
            Some(_) => return Ok(Lead::Series(at)),
        }
    }
}

/// Reads a comment line that starts at `at`: the offset of the next line, or nothing if a NUL ends
/// the body here.
fn comment(
    input: &Input<'_>,
    at: usize,
    each: &mut impl FnMut(Line),
) -> Result<Option<usize>, Halt> {
    let line_end = input.line_end(at + 1)?;
    let next = input.bytes.len().min(line_end + 1);
    let word = input.skip_blanks(at + 1);
    let rest = &input.bytes[word..line_end];
    let spaced = word > at + 1;
    let ends = if spaced {
        rest.first() == Some(&0)
    } else {
        memchr::memchr(0, rest).is_some()
    };
    if ends {
        return Ok(None);
    }
    let keyword = |text: &[u8]| {
        spaced && rest.starts_with(text) && matches!(rest.get(text.len()), Some(b' ' | b'\t'))
    };
    let help = keyword(b"HELP");
    if !help && !keyword(b"TYPE") {
        return Ok(Some(next));
    }
    let from = input.skip_blanks(word + 4);
    let (name, end) = family_name(input, from)?;
    // A quoted name may hold newlines.
    let line_end = input.line_end(end)?;
    let next = input.bytes.len().min(line_end + 1);
    let text = after_name(input, end, line_end)?;
    if help {
        input.utf8(text, "HELP text")?;
        each(Line::Help(name, text));
    } else {
        let kind = match text.of(input.bytes) {
            b"counter" => FamilyKind::Counter,
            b"gauge" => FamilyKind::Gauge,
            b"histogram" => FamilyKind::Histogram,
            b"summary" => FamilyKind::Summary,
            b"untyped" => FamilyKind::Unknown,
            other => {
                let found = String::from_utf8_lossy(&other[..other.len().min(40)]);
                let allowed = "counter, gauge, histogram, summary or untyped";
                return Err(input.bad(
                    text.from,
                    format!("expected the TYPE {allowed}, found {found:?}"),
                ));
            }
        };
        each(Line::Type(name, kind));
    }
    Ok(Some(next))
}

/// The name after HELP, TYPE or UNIT, plain or quoted, and where it ends.
pub(super) fn family_name(input: &Input<'_>, from: usize) -> Result<(Name, usize), Halt> {
    if input.get(from) == Some(b'"') {
        let end = input.quoted_name(from)?;
        let (from, to) = (from + 1, end - 1);
        let span = Span { from, to };
        return Ok((Name { span, quoted: true }, end));
    }
    let to = input.metric_name(from);
    if to == from {
        return Err(input.unexpected(from, "a metric name"));
    }
    let span = Span { from, to };
    let quoted = false;
    Ok((Name { span, quoted }, to))
}

/// The text after a HELP or TYPE name: all but the first byte, which is a blank in any sane body;
/// a text of blanks alone is empty.
fn after_name(input: &Input<'_>, end: usize, line_end: usize) -> Result<Span, Halt> {
    if input.get(end) == Some(0) {
        return Err(input.unexpected(end, "a text after the metric name"));
    }
    let blank = input.skip_blanks(end) >= line_end;
    let from = if blank { line_end } else { end + 1 };
    Ok(Span { from, to: line_end })
}

/// Reads the series that starts at `at`, up to the first byte of its value: the end of the series
/// and the start of the value.
#[inline]
pub(super) fn series(input: &Input<'_>, at: usize) -> Result<(usize, usize), Halt> {
    let name_end = input.metric_name(at);
    let mut end = name_end;
    let mut value = input.skip_blanks(end);
    let open = if name_end == at { at } else { value };
    if input.get(open) == Some(b'{') {
        end = label_list::walk(input, Style::Text, open + 1, name_end > at, |_| ())?;
        input.utf8(Span { from: at, to: end }, "a label")?;
        value = input.skip_blanks(end);
    } else if name_end == at {
        return Err(input.unexpected(at, "a metric name, `{` or `#`"));
    } else if value == end {
        return Err(input.unexpected(end, "a blank and a value after the metric name"));
    }
    match input.get(value) {
        None | Some(b'\n' | b'{' | 0) => Err(input.unexpected(value, "a value")),
        Some(_) => Ok((end, value)),
    }
}

/// Reads value and timestamp from `at` on, to the end of the line.
pub(super) fn value<'a>(input: &Input<'a>, at: usize) -> Result<ValueLine<'a>, Halt> {
    let token = &input.bytes[at.min(input.bytes.len())..];
    let length = token
        .iter()
        .position(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'{' | 0))
        .unwrap_or(token.len());
    if length == 0 {
        return Err(input.unexpected(at, "a value"));
    }
    let end = at + length;
    if end == input.bytes.len() && !input.last {
        return Err(Halt::NeedMore);
    }
    let value = float(input, at, end)?;
    let mut next = input.skip_blanks(end);
    let mut timestamp_ms = None;
    if let Some(b'0'..=b'9') = input.get(next) {
        let (timestamp, end) = timestamp(input, next)?;
        timestamp_ms = Some(timestamp);
        next = input.skip_blanks(end);
    }
    let expected = match timestamp_ms {
        None => "a timestamp in digits or the end of the line",
        Some(_) => "the end of the line after the timestamp",
    };
    let len = match input.get(next) {
        Some(b'\n') => next + 1,
        None if input.last => next,
        _ => return Err(input.unexpected(next, expected)),
    };
    Ok(ValueLine {
        value,
        timestamp_ms,
        exemplar: None,
        len,
    })
}

/// The number between two offsets.
pub(super) fn float(input: &Input<'_>, from: usize, to: usize) -> Result<f64, Halt> {
    let token = &input.bytes[from..to];
    number::float(token).map_err(|fault| {
        let shown = String::from_utf8_lossy(&token[..token.len().min(40)]);
        let why = match fault {
            Fault::Syntax => "not a number",
            Fault::Range => "out of the range of a 64-bit float",
        };
        input.bad(from, format!("{shown:?} is {why}"))
    })
}

/// Milliseconds in decimal digits, and where they end.
fn timestamp(input: &Input<'_>, from: usize) -> Result<(i64, usize), Halt> {
    let mut at = from;
    let mut value = Some(0_i64);
    while let Some(byte @ b'0'..=b'9') = input.get(at) {
        value = value
            .and_then(|value| value.checked_mul(10))
            .and_then(|value| value.checked_add(i64::from(byte - b'0')));
        at += 1;
    }
    match value {
        Some(value) => Ok((value, at)),
        None => Err(input.bad(from, "a timestamp out of the range of 64 bits")),
    }
}
