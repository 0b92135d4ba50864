//! A replacement such as `${1}_$name` -> its parts, expanded as Go's `Regexp.Expand` does.
//!
//! Source: Go package `regexp`, documentation of `Expand`: `$name` takes the longest run of
//! letters, digits and underscores, so `$1x` is `${1x}`; a name without a group is empty; `$$` is
//! `$`; a `$` that begins neither is itself.

/// A compiled replacement.
#[derive(Debug, Clone)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Group(usize),
}

impl Template {
    /// `group_names[k]` is the name of capture group k, if it has one.
    pub(super) fn new(source: &str, group_names: &[Option<String>]) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = source;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                text.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = reference(rest) else {
                text.push('$');
                continue;
            };
            rest = after;
            if let Some(group) = resolve(name, group_names) {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Group(group));
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Self { parts }
    }

    /// The text with each reference replaced by what `group` gives for it (`""` if the group took
    /// no part in the match).
    pub(super) fn expand<'h>(&self, group: impl Fn(usize) -> &'h str) -> String {
        let mut out = String::new();
        for part in &self.parts {
            out.push_str(match part {
                Part::Text(text) => text,
                Part::Group(index) => group(*index),
            });
        }
        out
    }
}

/// After a `$`: the name and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (text, brace) = match text.strip_prefix('{') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let end = text
        .find(|next| !is_name_character(next))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    let rest = if brace { rest.strip_prefix('}')? } else { rest };
    Some((name, rest))
}

/// The group that `name` means: a number without leading zeros is an index.
fn resolve(name: &str, group_names: &[Option<String>]) -> Option<usize> {
    let is_number = name.bytes().all(|b| b.is_ascii_digit());
    if is_number && (name.len() == 1 || !name.starts_with('0')) {
        return name.parse().ok().filter(|index| *index < group_names.len());
    }
    group_names
        .iter()
        .position(|have| have.as_deref() == Some(name))
}

/// Go's `unicode.IsLetter`, `unicode.IsDigit` (categories L and Nd), or `_`.
fn is_name_character(next: char) -> bool {
    if next.is_ascii() {
        return next.is_ascii_alphanumeric() || next == '_';
    }
    static NAME: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| {
        regex::Regex::new(r"^[\pL\p{Nd}]$").expect("BUG: constant expression")
    });
    NAME.is_match(next.encode_utf8(&mut [0; 4]))
}
