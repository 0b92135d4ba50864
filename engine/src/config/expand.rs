//! `$VAR` and `${VAR}` in external labels -> the environment's values.
//!
//! Source: Prometheus config/config.go, which expands with Go's `os.Expand`, `$$` giving `$`.

/// Replaces `$name` and `${name}` by what `variable` gives (`""` for none), `$$` by `$`. A `$`
/// before anything else stays; `${}` and an open `${` vanish, as in Go.
pub(crate) fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, length) = match after.chars().next() {
            None => (None, 0),
            Some('{') => match after[1..].find('}') {
                None => (Some(""), 1),
                Some(end) => (Some(&after[1..=end]), end + 2),
            },
            Some(special) if is_special(special) => (Some(&after[..1]), 1),
            Some(_) => {
                let is_name = |next: char| next.is_ascii_alphanumeric() || next == '_';
                let end = after.find(|next| !is_name(next)).unwrap_or(after.len());
                (Some(&after[..end]).filter(|name| !name.is_empty()), end)
            }
        };
        match name {
            None => out.push('$'),
            Some("$") => out.push('$'),
            Some("") => {}
            Some(name) => out.push_str(&variable(name).unwrap_or_default()),
        }
        rest = &after[length..];
    }
    out.push_str(rest);
    out
}

/// Variables of one character in a shell.
fn is_special(next: char) -> bool {
    matches!(next, '*' | '#' | '$' | '@' | '!' | '?' | '-' | '0'..='9')
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn variables_are_expanded_as_in_go() {
        let variable = |name: &str| match name {
            "A" => Some("x".to_owned()),
            "B_1" => Some("y".to_owned()),
            _ => None,
        };
        for (text, expected) in [
            ("", ""),
            ("a", "a"),
            ("$A", "x"),
            ("${A}b", "xb"),
            ("$Ab", ""),
            ("$B_1-$A.", "y-x."),
            ("$$A", "$A"),
            ("$${A}", "${A}"),
            ("a$", "a$"),
            ("$.A", "$.A"),
            ("${}A", "A"),
            ("${A", "A"),
            ("$1A", "A"),
            ("${$}", "$"),
            ("ä$ä", "ä$ä"),
        ] {
            assert_eq!(expand(text, variable), expected, "{text}");
        }
    }
}
