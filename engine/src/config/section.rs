//! A mapping of the file + the list of its keys -> typed values; what doesn't fit is noted.
//!
//! Reading goes on after a problem, so that one look at the output shows all of them.

use super::error::Problem;
use super::units::{self, DURATION_FORM, SIZE_FORM};
use super::yaml::{At, Entry, Node, Value};
use crate::labels::Labels;
use std::cell::RefCell;
use std::fmt::Display;

/// One kind of mapping: its keys in the order of the documentation.
#[derive(Debug)]
pub(crate) struct Section {
    /// Where it stands in the file, such as `scrape_configs[]`.
    pub(crate) path: &'static str,
    /// Keys that are read.
    pub(crate) keys: &'static [Key],
    /// Keys of Prometheus that this version refuses.
    pub(crate) unsupported: &'static [&'static [&'static str]],
}

/// One key that is read.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// Type and unit.
    pub(crate) kind: &'static str,
    pub(crate) default: &'static str,
    pub(crate) effect: &'static str,
}

/// Shorthand for tables of keys.
pub(crate) const fn key(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    effect: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default,
        effect,
    }
}

/// Settings of HTTP clients that this version doesn't have, in scraping, discovery and sending.
pub(crate) const HTTP_CLIENT: &[&str] = &[
    "authorization",
    "basic_auth",
    "bearer_token",
    "bearer_token_file",
    "http_headers",
    "no_proxy",
    "oauth2",
    "proxy_connect_header",
    "proxy_from_environment",
    "proxy_url",
    "tls_config",
];

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(crate) fn add(&self, at: At, message: impl Display) {
        self.0.borrow_mut().push(Problem {
            at,
            message: message.to_string(),
        });
    }

    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// The keys of one mapping that are in the section. A key without a value has the empty value of
/// its type, as in Prometheus: no text, false; numbers, lists and mappings count as not given.
pub(crate) struct Fields<'a> {
    /// Where the mapping begins.
    pub(crate) at: At,
    section: &'static Section,
    entries: Vec<&'a Entry>,
    pub(crate) problems: &'a Problems,
}

impl<'a> Fields<'a> {
    /// Notes unknown and unsupported keys, and a node that is no mapping.
    pub(crate) fn new(node: &'a Node, section: &'static Section, problems: &'a Problems) -> Self {
        Self::hinted(node, section, &[], problems)
    }

    /// The same; `hints`: keys that are refused, each with what to do instead.
    pub(crate) fn hinted(
        node: &'a Node,
        section: &'static Section,
        hints: &[(&str, &str)],
        problems: &'a Problems,
    ) -> Self {
        let mut fields = Self {
            at: node.at,
            section,
            entries: Vec::new(),
            problems,
        };
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                let message = format!(
                    "`{}` must be a mapping, not {}",
                    section.path,
                    node.describe()
                );
                problems.add(node.at, message);
                &[]
            }
        };
        for entry in entries {
            let name = entry.key.as_str();
            if section.keys.iter().any(|key| key.name == name) {
                fields.entries.push(entry);
            } else if let Some((_, hint)) = hints.iter().find(|(key, _)| *key == name) {
                let message = format!("`{name}` has no meaning here: {hint}");
                problems.add(entry.key_at, message);
            } else if section
                .unsupported
                .iter()
                .any(|names| names.contains(&name))
            {
                problems.add(entry.key_at, not_supported(&format!("`{name}`")));
            } else {
                problems.add(entry.key_at, unknown_key(name, section));
            }
        }
        fields
    }

    /// The value of `name`, if it is given.
    pub(crate) fn node(&self, name: &str) -> Option<&'a Node> {
        debug_assert!(
            self.section.keys.iter().any(|key| key.name == name),
            "BUG: {name} is not in the table of {}",
            self.section.path
        );
        self.entries
            .iter()
            .find(|entry| entry.key == name)
            .map(|entry| &entry.node)
    }

    /// Where `name` stands, else where the mapping begins.
    pub(crate) fn at(&self, name: &str) -> At {
        self.node(name).map_or(self.at, |node| node.at)
    }

    /// Notes a problem at the value of `name`.
    pub(crate) fn refuse(&self, name: &str, message: impl Display) {
        self.problems.add(self.at(name), message);
    }

    fn read<T>(
        &self,
        name: &str,
        form: &str,
        empty: Option<T>,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Option<T> {
        let node = self.node(name)?;
        let value = match &node.value {
            Value::Null => return empty,
            Value::Text(text) => parse(text),
            _ => None,
        };
        if value.is_none() {
            let found = node.describe();
            self.problems.add(
                node.at,
                format!("`{name}`: {found} is not allowed here; give {form}"),
            );
        }
        value
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.read(name, "a text", Some(""), Some)
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.read(name, "true or false", Some(false), |text| {
            match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => Some(true),
                "false" | "no" | "off" | "n" => Some(false),
                _ => None,
            }
        })
    }

    /// A number that is finite.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.read(name, "a number", None, |text| {
            text.parse().ok().filter(|number: &f64| number.is_finite())
        })
    }

    pub(crate) fn duration_ms(&self, name: &str) -> Option<u64> {
        self.read(name, DURATION_FORM, None, units::parse_duration_ms)
    }

    pub(crate) fn size_bytes(&self, name: &str) -> Option<u64> {
        self.read(name, SIZE_FORM, None, units::parse_size_bytes)
    }

    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        self.read(name, "a whole number, 0 or more", None, |text| {
            text.parse().ok()
        })
    }

    /// A whole number from 1 to 2^32 - 1.
    pub(crate) fn count_from_1(&self, name: &str) -> Option<u32> {
        self.read(name, "a whole number, 1 or more", None, |text| {
            text.parse().ok().filter(|n| *n > 0)
        })
    }

    /// One of `choices` by name.
    pub(crate) fn choice<T: Copy>(&self, name: &str, choices: &[(T, &str)]) -> Option<T> {
        self.read(
            name,
            &one_of(choices.iter().map(|(_, name)| *name)),
            None,
            |text| pick(text, choices),
        )
    }

    /// Notes a value other than `only`: the key is known, but does nothing in this version.
    pub(crate) fn only(&self, name: &str, only: &[&str]) {
        if let Some(node) = self.node(name)
            && !matches!(node.value, Value::Null)
            && !matches!(&node.value, Value::Text(text) if only.contains(&text.as_str()))
        {
            self.problems.add(
                node.at,
                not_supported(&format!("`{name}: {}`", plain(node))),
            );
        }
    }

    /// The items of a list; `None` if the key is not given.
    pub(crate) fn list(&self, name: &str) -> Option<&'a [Node]> {
        let node = self.node(name)?;
        match &node.value {
            Value::Null => None,
            Value::List(items) => Some(items),
            _ => {
                let found = node.describe();
                self.problems
                    .add(node.at, format!("`{name}` must be a list, not {found}"));
                None
            }
        }
    }

    /// A list of texts.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        self.list(name)
            .map(|items| texts(name, items, self.problems))
    }

    /// The entries of a mapping with free keys.
    pub(crate) fn map(&self, name: &str) -> &'a [Entry] {
        match self.node(name).map(|node| (&node.value, node)) {
            None | Some((Value::Null, _)) => &[],
            Some((Value::Map(entries), _)) => entries,
            Some((_, node)) => {
                let found = node.describe();
                self.problems
                    .add(node.at, format!("`{name}` must be a mapping, not {found}"));
                &[]
            }
        }
    }

    /// A mapping of names to texts, with the place of each name.
    pub(crate) fn text_map(&self, name: &str) -> Vec<(&'a str, &'a str, At)> {
        let entries = self
            .map(name)
            .iter()
            .filter_map(|entry| match &entry.node.value {
                Value::Text(text) => Some((entry.key.as_str(), text.as_str(), entry.key_at)),
                Value::Null => Some((entry.key.as_str(), "", entry.key_at)),
                _ => {
                    let found = entry.node.describe();
                    let message = format!("`{name}`: {:?} must be a text, not {found}", entry.key);
                    self.problems.add(entry.node.at, message);
                    None
                }
            });
        entries.collect()
    }

    /// A label set; `change` is applied to the values.
    pub(crate) fn labels(&self, name: &str, change: impl Fn(&str) -> String) -> Labels {
        let pairs = self.text_map(name);
        for (label, _, at) in &pairs {
            if label.is_empty() {
                self.problems
                    .add(*at, format!("`{name}`: \"\" is not a valid label name"));
            }
        }
        Labels::from_pairs(
            pairs
                .into_iter()
                .map(|(label, value, _)| (label, change(value))),
        )
    }
}

/// The texts in `items`; others are noted under `name`.
pub(crate) fn texts(name: &str, items: &[Node], problems: &Problems) -> Vec<String> {
    let texts = items.iter().filter_map(|item| match &item.value {
        Value::Text(text) => Some(text.clone()),
        _ => {
            problems.add(
                item.at,
                format!("`{name}` holds texts, not {}", item.describe()),
            );
            None
        }
    });
    texts.collect()
}

/// The choice called `text`.
pub(crate) fn pick<T: Copy>(text: &str, choices: &[(T, &str)]) -> Option<T> {
    choices
        .iter()
        .find(|(_, name)| *name == text)
        .map(|(choice, _)| *choice)
}

/// "one of a, b, c".
pub(crate) fn one_of<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    format!(
        "one of {}",
        names.into_iter().collect::<Vec<_>>().join(", ")
    )
}

/// The message for what Prometheus has and this version has not.
pub(crate) fn not_supported(what: &str) -> String {
    format!("{what} is known to Prometheus but not supported by this version of ringscrape")
}

fn plain(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => text.clone(),
        _ => node.describe(),
    }
}

fn unknown_key(name: &str, section: &Section) -> String {
    let known = section.keys.iter().map(|key| key.name);
    let all = known
        .clone()
        .chain(section.unsupported.iter().copied().flatten().copied());
    let near = all.map(|key| (distance(name, key), key)).min();
    match near.filter(|(distance, _)| *distance <= 1 + name.len() / 5) {
        Some((_, near)) => {
            format!(
                "unknown key `{name}` in `{}`; did you mean `{near}`?",
                section.path
            )
        }
        None => {
            let allowed = known.collect::<Vec<_>>().join(", ");
            format!(
                "unknown key `{name}` in `{}`; allowed: {allowed}",
                section.path
            )
        }
    }
}

/// How many characters must be added, removed or changed to get from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
