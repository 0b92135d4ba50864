//! OpenMetrics 0.0.1 and 1.0.0 -> comments, series, values.
//!
//! The grammar is that of Prometheus 3 (prometheus/prometheus model/textparse, openmetricslex.l and
//! openmetricsparse.go), which is laxer than the specification (no order of families, no checks
//! between lines) but strict about bytes: one space between tokens, no blank lines, no comments
//! but HELP, TYPE, UNIT and the final `# EOF`, after which nothing may follow. NUL may stand in
//! label values and HELP texts.

use ringscrape_wal::definition::FamilyKind;

use super::label_list::{self, Style};
use super::scan::{Halt, Input, Name, Span};
use super::text::{family_name, float};
use super::{Exemplar, Lead, Line, ValueLine};

const NO_EOF: &str = "data does not end with # EOF";

/// Skips HELP, TYPE and UNIT lines, which `each` sees, and `# EOF`. `checks_unit`: it must end its
/// family's name.
#[inline]
pub(super) fn lead(
    input: &Input<'_>,
    checks_unit: bool,
    mut each: impl FnMut(Line),
) -> Result<Lead, Halt> {
    let mut at = 0;
    loop {
        match input.get(at) {
            None if input.last => return Err(input.bad(at, NO_EOF)),
            None => return Err(Halt::NeedMore),
            Some(b'#') => match comment(input, at, checks_unit, &mut each)? {
                Some(next) => at = next,
                None => return Ok(Lead::End),
            },
            Some(_) => return Ok(Lead::Series(at)),
        }
    }
}

/// Reads the comment line at `at`: where the next line starts, or nothing if it was `# EOF`.
fn comment(
    input: &Input<'_>,
    at: usize,
    checks_unit: bool,
    each: &mut impl FnMut(Line),
) -> Result<Option<usize>, Halt> {
    const WORDS: &str = "`# HELP `, `# TYPE `, `# UNIT ` or `# EOF`";
    let rest = &input.bytes[at..];
    if rest.starts_with(b"# EOF") {
        return end(input, at + 5).map(|()| None);
    }
    let word = rest.get(..7).unwrap_or(rest);
    let (help, kind) = match word {
        b"# HELP " => (true, false),
        b"# TYPE " => (false, true),
        b"# UNIT " => (false, false),
        _ => {
            let words: [&[u8]; 4] = [b"# HELP ", b"# TYPE ", b"# UNIT ", b"# EOF"];
            let common = |with: &&[u8]| word.iter().zip(*with).take_while(|(a, b)| a == b).count();
            let most = words.iter().map(common).max().unwrap_or(0);
            return Err(input.unexpected(at + most, WORDS));
        }
    };
    let (name, from) = family_name(input, at + 7)?;
    if input.get(from) != Some(b' ') {
        return Err(input.unexpected(from, "a space and a text after the metric name"));
    }
    let to = input.line_end(from)?;
    if to == input.bytes.len() {
        return Err(input.bad(to, NO_EOF));
    }
    let text = Span { from: from + 1, to };
    if help {
        input.utf8(text, "HELP text")?;
        each(Line::Help(name, text));
    } else if kind {
        each(Line::Type(name, family_kind(input, text)?));
    } else {
        if checks_unit {
            unit(input, name, text)?;
        }
        each(Line::Unit(name, text));
    }
    Ok(Some(to + 1))
}

/// Checks what follows `# EOF`: at most a newline.
fn end(input: &Input<'_>, at: usize) -> Result<(), Halt> {
    let at = at + usize::from(input.get(at) == Some(b'\n'));
    match input.get(at) {
        None if input.last => Ok(()),
        None => Err(Halt::NeedMore),
        Some(_) => Err(input.bad(at, "unexpected data after # EOF")),
    }
}

fn family_kind(input: &Input<'_>, text: Span) -> Result<FamilyKind, Halt> {
    Ok(match text.of(input.bytes) {
        b"counter" => FamilyKind::Counter,
        b"gauge" => FamilyKind::Gauge,
        b"histogram" => FamilyKind::Histogram,
        b"gaugehistogram" => FamilyKind::GaugeHistogram,
        b"summary" => FamilyKind::Summary,
        b"info" => FamilyKind::Info,
        b"stateset" => FamilyKind::StateSet,
        b"unknown" => FamilyKind::Unknown,
        other => {
            let found = String::from_utf8_lossy(&other[..other.len().min(40)]);
            return Err(input.bad(text.from, format!("unknown TYPE {found:?}")));
        }
    })
}

/// A unit must be the last part of its family's name.
fn unit(input: &Input<'_>, name: Name, text: Span) -> Result<(), Halt> {
    let (family, unit) = (name.span.of(input.bytes), text.of(input.bytes));
    let suffix = family.strip_suffix(unit);
    if unit.is_empty() || suffix.is_some_and(|front| front.ends_with(b"_")) {
        return Ok(());
    }
    let unit = String::from_utf8_lossy(&unit[..unit.len().min(40)]);
    let family = String::from_utf8_lossy(&family[..family.len().min(100)]);
    let reason = format!("unit {unit:?} is not a suffix of metric {family:?}");
    Err(input.bad(text.from, reason))
}

/// Reads the series that starts at `at`, up to the first byte of its value: the end of the series
/// and the start of the value.
#[inline]
pub(super) fn series(input: &Input<'_>, at: usize) -> Result<(usize, usize), Halt> {
    let mut end = input.metric_name(at);
    if input.get(end) == Some(b'{') {
        end = label_list::walk(input, Style::OpenMetrics, end + 1, end > at, |_| ())?;
        input.utf8(Span { from: at, to: end }, "a label")?;
    } else if end == at {
        return Err(input.unexpected(at, "a metric name, `{` or `#`"));
    }
    if input.get(end) != Some(b' ') {
        return Err(input.unexpected(end, "a space and a value"));
    }
    match input.get(end + 1) {
        None | Some(b'\n' | b' ') => Err(input.unexpected(end + 1, "a value")),
        Some(_) => Ok((end, end + 1)),
    }
}

/// Reads value, timestamp and exemplar from `at` on, to the end of the line.
pub(super) fn value<'a>(input: &Input<'a>, at: usize) -> Result<ValueLine<'a>, Halt> {
    let mut end = token(input, at, "a value")?;
    let mut line = ValueLine {
        value: float(input, at, end)?,
        timestamp_ms: None,
        exemplar: None,
        len: 0,
    };
    if input.get(end) == Some(b' ') && !exemplar_starts(input, end)? {
        let from = end + 1;
        end = token(input, from, "a timestamp")?;
        line.timestamp_ms = Some(timestamp(input, from, end)?);
    }
    if input.get(end) == Some(b' ') {
        if !exemplar_starts(input, end)? {
            return Err(input.unexpected(end + 1, "an exemplar after the timestamp"));
        }
        let (exemplar, next) = exemplar(input, end + 3)?;
        line.exemplar = Some(exemplar);
        end = next;
    }
    line.len = end_of_line(input, end)?;
    Ok(line)
}

/// Whether ` # {` stands at `at`, where a space does.
fn exemplar_starts(input: &Input<'_>, at: usize) -> Result<bool, Halt> {
    match (input.get(at + 1), input.get(at + 2)) {
        (None, _) | (Some(b'#'), None) => Err(input.unexpected(input.bytes.len(), "a timestamp")),
        (Some(b'#'), Some(b' ')) if input.get(at + 3) == Some(b'{') => Ok(true),
        (Some(b'#'), Some(b' ')) => Err(input.unexpected(at + 3, "`{` of an exemplar")),
        _ => Ok(false),
    }
}

/// Reads an exemplar whose `{` is at `from`; returns where it ends.
fn exemplar<'a>(input: &Input<'a>, from: usize) -> Result<(Exemplar<'a>, usize), Halt> {
    let to = label_list::walk(input, Style::Exemplar, from + 1, false, |_| ())?;
    let labels = Span { from, to };
    input.utf8(labels, "an exemplar's label")?;
    if input.get(to) != Some(b' ') {
        return Err(input.unexpected(to, "a space and the exemplar's value"));
    }
    let mut end = token(input, to + 1, "an exemplar's value")?;
    let mut exemplar = Exemplar {
        labels: labels.of(input.bytes),
        value: float(input, to + 1, end)?,
        timestamp_ms: None,
    };
    if input.get(end) == Some(b' ') {
        let from = end + 1;
        end = token(input, from, "an exemplar's timestamp")?;
        exemplar.timestamp_ms = Some(timestamp(input, from, end)?);
    }
    Ok((exemplar, end))
}

/// The end of the token at `from`, which may not be empty; the byte there is a space or a newline.
fn token(input: &Input<'_>, from: usize, what: &str) -> Result<usize, Halt> {
    let rest = input.bytes.get(from..).unwrap_or_default();
    let length = rest.iter().position(|byte| matches!(byte, b' ' | b'\n'));
    match length {
        Some(0) => Err(input.unexpected(from, what)),
        Some(length) => Ok(from + length),
        None if input.last => Err(input.bad(input.bytes.len(), NO_EOF)),
        None => Err(Halt::NeedMore),
    }
}

fn end_of_line(input: &Input<'_>, at: usize) -> Result<usize, Halt> {
    match input.get(at) {
        Some(b'\n') => Ok(at + 1),
        None if input.last => Err(input.bad(at, NO_EOF)),
        _ => Err(input.unexpected(at, "the end of the line")),
    }
}

/// Seconds as a float, in milliseconds truncated towards zero.
fn timestamp(input: &Input<'_>, from: usize, to: usize) -> Result<i64, Halt> {
    let seconds = float(input, from, to)?;
    if !seconds.is_finite() {
        return Err(input.bad(from, "a timestamp that is not finite"));
    }
    Ok((seconds * 1000.0) as i64)
}
