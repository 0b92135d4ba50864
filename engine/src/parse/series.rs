//! The bytes of an accepted series or exemplar -> its labels, unescaped and checked.

use std::borrow::Cow;

use ringscrape_wal::definition::FamilyKind;

use super::label_list::{self, Style};
use super::scan::{Halt, Input, Name, Part, Span, unescape, unescape_name};
use super::{Dialect, ParseError, number};
use crate::labels::LabelsBuilder;

const METRIC_NAME: &str = "__name__";

/// A label as exposed and where it stands.
#[derive(Debug)]
pub(crate) struct Exposed<'a> {
    pub(crate) name: Cow<'a, str>,
    /// May be empty.
    pub(crate) value: Cow<'a, str>,
    at: usize,
}

/// See `series_labels`.
pub(super) fn labels(
    dialect: Dialect,
    series: &[u8],
    kind: FamilyKind,
    labels: &mut LabelsBuilder,
) -> Result<(), ParseError> {
    labels.clear();
    let mut exposed = Vec::new();
    sorted(dialect, series, kind, &mut exposed)?;
    // Sorted, so that each label goes to the end of the set.
    for label in &exposed {
        labels.set_text(&label.name, &label.value);
    }
    Ok(())
}

/// See `sorted_labels`.
pub(super) fn sorted<'a>(
    dialect: Dialect,
    series: &'a [u8],
    kind: FamilyKind,
    exposed: &mut Vec<Exposed<'a>>,
) -> Result<(), ParseError> {
    exposed.clear();
    read_exposed(dialect, series, exposed)?;
    // So duplicates are neighbours.
    if !exposed.is_sorted_by(|a, b| a.name <= b.name) {
        exposed.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let fail = |at: usize, reason: String| ParseError {
        offset: at,
        reason,
        near: String::from_utf8_lossy(&series[..series.len().min(40)]).into_owned(),
    };
    for pair in exposed.windows(2) {
        if pair[0].name == pair[1].name {
            let at = pair[0].at.max(pair[1].at);
            return Err(fail(at, format!("label {:?} is given twice", pair[1].name)));
        }
    }
    for label in exposed {
        if label.name.is_empty() {
            return Err(fail(label.at, "a label with an empty name".to_owned()));
        }
        if let Some(value) = normal(dialect, kind, &label.name, &label.value) {
            label.value = value.into();
        }
    }
    Ok(())
}

/// See `empty_labels`.
pub(super) fn empty(dialect: Dialect, series: &[u8]) -> Vec<String> {
    let exposed = exposed(dialect, series).unwrap_or_default();
    let empty = exposed.into_iter().filter(|label| label.value.is_empty());
    empty.map(|label| label.name.into_owned()).collect()
}

/// See `kind_matters`.
pub(super) fn kind_matters(dialect: Dialect, series: &[u8]) -> bool {
    if dialect == Dialect::Protobuf {
        return false;
    }
    let exposed = exposed(dialect, series).unwrap_or_default();
    let mut names = exposed.iter().map(|label| &*label.name);
    names.any(|name| name == "le" || name == "quantile")
}

/// See `exemplar_labels`.
pub(super) fn exemplar(labels: &[u8]) -> Vec<(String, String)> {
    let mut out = Vec::new();
    // A part that is no label does not come in this style, and the walk has succeeded before.
    let _walked = walk(labels, Style::Exemplar, 1, true, |label| {
        out.push((label.name.into_owned(), label.value.into_owned()));
    });
    out
}

/// The value as Prometheus stores it, if that is another one.
/// Source: `normalizeFloatsInLabelValues` in prometheus/prometheus model/textparse; deviation: Go
/// also reads hexadecimal floats here.
fn normal(dialect: Dialect, kind: FamilyKind, name: &str, value: &str) -> Option<String> {
    let bound = match kind {
        _ if dialect == Dialect::Protobuf => false,
        FamilyKind::Histogram => name == "le",
        FamilyKind::Summary => name == "quantile",
        _ => false,
    };
    if !bound {
        return None;
    }
    number::float(value.as_bytes()).ok().map(number::bound)
}

/// All labels of a series in the order exposed, the metric's name among them.
pub(super) fn exposed(dialect: Dialect, series: &[u8]) -> Result<Vec<Exposed<'_>>, ParseError> {
    let mut exposed = Vec::new();
    read_exposed(dialect, series, &mut exposed)?;
    Ok(exposed)
}

fn read_exposed<'a>(
    dialect: Dialect,
    series: &'a [u8],
    exposed: &mut Vec<Exposed<'a>>,
) -> Result<(), ParseError> {
    let input = Input {
        bytes: series,
        last: true,
    };
    let to = input.metric_name(0);
    if to > 0 {
        let span = Span { from: 0, to };
        let quoted = false;
        exposed.extend(label(series, None, Name { span, quoted }, None));
    }
    let (style, open) = match dialect {
        Dialect::Text => (Style::Text, input.skip_blanks(to)),
        Dialect::OpenMetrics | Dialect::Protobuf => (Style::OpenMetrics, to),
    };
    if input.get(open) == Some(b'{') {
        walk(series, style, open + 1, to > 0, |label| exposed.push(label))?;
    }
    Ok(())
}

/// Gives `each` the labels of a list that starts before `from`.
fn walk<'a>(
    bytes: &'a [u8],
    style: Style,
    from: usize,
    named: bool,
    mut each: impl FnMut(Exposed<'a>),
) -> Result<(), ParseError> {
    let input = Input { bytes, last: true };
    let text = std::str::from_utf8(bytes).ok();
    let walked = label_list::walk(&input, style, from, named, |part| {
        let exposed = match part {
            Part::Metric(name) => label(bytes, text, name, None),
            Part::Label(name, value) => label(bytes, text, name, Some(value)),
        };
        if let Some(exposed) = exposed {
            each(exposed);
        }
    });
    match walked {
        Ok(_) => Ok(()),
        Err(Halt::Bad(error)) => Err(*error),
        Err(Halt::NeedMore) => unreachable!("BUG: no bytes follow a series"),
    }
}

/// A label, or with no value the metric's name. Nothing if it is not UTF-8, which `next_piece` has
/// refused. `text`: all bytes, if they are UTF-8.
#[inline]
fn label<'a>(
    bytes: &'a [u8],
    text: Option<&'a str>,
    name: Name,
    value: Option<Span>,
) -> Option<Exposed<'a>> {
    let at = name.span.from;
    let part = |span: Span| match text {
        Some(text) => text.get(span.from..span.to),
        None => std::str::from_utf8(span.of(bytes)).ok(),
    };
    let name = match name.quoted {
        true => unescape_name(bytes, name)?,
        false => part(name.span)?.into(),
    };
    let Some(value) = value else {
        return Some(Exposed {
            name: METRIC_NAME.into(),
            value: name,
            at,
        });
    };
    let value = unescape(part(value)?, true);
    Some(Exposed { name, value, at })
}
