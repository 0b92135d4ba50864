//! `{…}` -> its labels: one walk for both grammars, whether the labels are wanted or only skipped.

use super::scan::{Halt, Input, Name, Part, Span};

/// How the lists of a grammar differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Blanks between tokens, separating commas optional, raw newlines in values.
    Text,
    /// No blanks, commas between labels.
    OpenMetrics,
    /// As OpenMetrics, without a metric name.
    Exemplar,
}

/// Walks a label list from the byte after `{` to the byte after `}`, which is returned.
///
/// `named`: the metric's name stands before the list, so none may stand in it; a list of a series
/// without a name before it must hold one.
///
/// Deviations from Prometheus, all stricter: quoted names must be UTF-8 here already (it fails the
/// scrape later, unless a rule drops the series first), a NUL beside a value's quotes is an error,
/// and an unquoted word is never a metric name.
#[inline(always)]
pub(super) fn walk(
    input: &Input<'_>,
    style: Style,
    from: usize,
    mut named: bool,
    mut each: impl FnMut(Part),
) -> Result<usize, Halt> {
    let text = style == Style::Text;
    let blanks = |at: usize| if text { input.skip_blanks(at) } else { at };
    let mut at = blanks(from);
    loop {
        let quoted = match input.get(at) {
            Some(b'}') => break,
            Some(b'"') => true,
            _ => false,
        };
        let (name, end) = if quoted {
            let end = input.quoted_name(at)?;
            let (from, to) = (at + 1, end - 1);
            (Span { from, to }, end)
        } else {
            let end = input.label_name(at);
            if end == at {
                return Err(input.unexpected(at, "a label name or `}`"));
            }
            (Span { from: at, to: end }, end)
        };
        let name = Name { span: name, quoted };
        let next = blanks(end);
        match input.get(next) {
            Some(b'=') => {
                let open = blanks(next + 1);
                if input.get(open) != Some(b'"') {
                    return Err(input.unexpected(open, "a quoted label value"));
                }
                let close = input.value(open, text)?;
                let (from, to) = (open + 1, close - 1);
                each(Part::Label(name, Span { from, to }));
                at = blanks(close);
                match input.get(at) {
                    Some(b',') => at = blanks(at + 1),
                    Some(b'}') => {}
                    None => return Err(input.unexpected(at, "`,` or `}`")),
                    Some(_) if text => {}
                    Some(_) => return Err(input.unexpected(at, "`,` or `}`")),
                }
            }
            Some(b',' | b'}') if quoted && style != Style::Exemplar => {
                if named {
                    let span = Span { from: at, to: end };
                    let again = String::from_utf8_lossy(span.of(input.bytes)).into_owned();
                    return Err(input.bad(at, format!("a second metric name {again}")));
                }
                named = true;
                each(Part::Metric(name));
                at = next;
                if input.get(at) == Some(b',') {
                    at = blanks(at + 1);
                }
            }
            _ => return Err(input.unexpected(next, "`=` after a label name")),
        }
    }
    if !named && style != Style::Exemplar {
        return Err(input.bad(from - 1, "a series without a metric name"));
    }
    Ok(at + 1)
}
