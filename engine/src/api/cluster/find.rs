//! What somebody typed to name a target -> whether a target is meant.

use crate::target::Target;

/// A URL, an `instance`, a key in hexadecimal, or labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TargetQuery {
    /// A scrape URL, or the value of a target's `instance` label.
    Text(String),
    /// A target's key.
    Key(u64),
    /// All of these labels.
    Labels(Vec<(String, String)>),
}

impl TargetQuery {
    /// Reads `http://host:1/metrics`, `host:1`, `00ff…` (16 digits) or `{job="a", instance="b"}`,
    /// where braces and quotes may be left out.
    ///
    /// # Errors
    /// What is wrong with it, and what it may look like.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err(format!("the target is empty; it is {FORM}"));
        }
        let digits = text.strip_prefix("0x").unwrap_or(text);
        if digits.len() == 16
            && let Ok(key) = u64::from_str_radix(digits, 16)
        {
            return Ok(Self::Key(key));
        }
        if text.contains("://") || !text.contains('=') {
            return Ok(Self::Text(text.to_owned()));
        }
        let inner = match text.strip_prefix('{') {
            Some(rest) => rest
                .strip_suffix('}')
                .ok_or_else(|| "the labels have no closing brace".to_owned())?,
            None => text,
        };
        labels(inner).map(Self::Labels)
    }

    /// Whether `target` is meant.
    pub(crate) fn fits(&self, target: &Target) -> bool {
        match self {
            Self::Text(text) => target.scrape_url == *text || target.labels.get("instance") == text,
            Self::Key(key) => target.key.0 == *key,
            Self::Labels(labels) => labels
                .iter()
                .all(|(name, value)| target.labels.get(name) == value),
        }
    }
}

const FORM: &str = "a scrape URL, the value of an instance label, a key of 16 hexadecimal digits, \
                    or labels such as job=node,instance=10.0.0.1:9100";

fn labels(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest
            .split_once('=')
            .ok_or_else(|| format!("{rest:?} is no label; a target is {FORM}"))?;
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)
                .ok_or_else(|| format!("the value of label {:?} has no end", name.trim()))?,
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        found.push((name.trim().to_owned(), value));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if after.is_empty() => after,
            None => return Err(format!("a comma is missing before {after:?}")),
        };
    }
    Ok(found)
}

/// The value up to the closing quote, and what comes after that.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels_of(text: &str) -> Vec<(String, String)> {
        match TargetQuery::parse(text) {
            Ok(TargetQuery::Labels(labels)) => labels,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn forms() {
        let text = |text: &str| TargetQuery::Text(text.to_owned());
        for url in ["http://a:1/metrics?x=y", "10.0.0.1:9100", "[::1]:80"] {
            assert_eq!(TargetQuery::parse(url), Ok(text(url)));
        }
        for key in ["00000000000000ff", "0x00000000000000FF"] {
            assert_eq!(TargetQuery::parse(key), Ok(TargetQuery::Key(255)));
        }
        assert_eq!(TargetQuery::parse("ff"), Ok(text("ff")));
        let expected = [("job", "a b"), ("instance", "c:1")].map(|(n, v)| (n.into(), v.into()));
        for labels in [
            "{job=\"a b\", instance=\"c:1\"}",
            "job=a b,instance=c:1",
            " {job=a b , instance=\"c:1\",} ",
        ] {
            assert_eq!(labels_of(labels), expected, "{labels}");
        }
        assert_eq!(labels_of("a=\"\\\"\\\\\\n\"")[0].1, "\"\\\n");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "empty"),
            ("{a=b", "closing brace"),
            ("a=\"b", "no end"),
            ("a=\"b\"c=d", "comma"),
            ("a=b,c", "no label"),
        ] {
            let error = TargetQuery::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_an_answer(text in ".{0,40}") {
            let _ = TargetQuery::parse(&text);
        }

        #[test]
        fn quoted_values_come_back(value in ".{0,20}") {
            let quoted: String = value
                .chars()
                .flat_map(|c| match c {
                    '"' | '\\' => vec!['\\', c],
                    '\n' => vec!['\\', 'n'],
                    other => vec![other],
                })
                .collect();
            let labels = labels_of(&format!("{{a=\"{quoted}\",b=\"x\"}}"));
            prop_assert_eq!(&labels[0].1, &value);
            prop_assert_eq!(&labels[1].1, "x");
        }
    }
}
