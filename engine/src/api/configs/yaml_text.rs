//! A tree of scalars, lists and mappings -> YAML text that reads as the same tree.
//!
//! Comments, anchors and layout are gone. Scalars are written without quotes where that reads the
//! same, so that a number stays one for readers that tell numbers from texts.

use crate::config::yaml::{Node, Value};

/// The text of `node`, in block style.
pub(super) fn text(node: &Node) -> String {
    let mut out = String::new();
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => block(&mut out, node, 0),
        Value::List(items) if !items.is_empty() => block(&mut out, node, 0),
        _ => {
            inline(&mut out, node);
            out.push('\n');
        }
    }
    out
}

/// A mapping or list that is not empty, its first line indented by who calls.
fn block(out: &mut String, node: &Node, indent: usize) {
    match &node.value {
        Value::Map(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                if index > 0 {
                    spaces(out, indent);
                }
                key(out, &entry.key);
                out.push(':');
                match &entry.node.value {
                    Value::Map(inner) if !inner.is_empty() => {
                        out.push('\n');
                        spaces(out, indent + 2);
                        block(out, &entry.node, indent + 2);
                    }
                    Value::List(inner) if !inner.is_empty() => {
                        out.push('\n');
                        spaces(out, indent);
                        block(out, &entry.node, indent);
                    }
                    _ => {
                        out.push(' ');
                        inline(out, &entry.node);
                        out.push('\n');
                    }
                }
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    spaces(out, indent);
                }
                out.push_str("- ");
                match &item.value {
                    Value::Map(inner) if !inner.is_empty() => block(out, item, indent + 2),
                    Value::List(inner) if !inner.is_empty() => block(out, item, indent + 2),
                    _ => {
                        inline(out, item);
                        out.push('\n');
                    }
                }
            }
        }
        Value::Null | Value::Text(_) => {}
    }
}

/// What fits into one line.
fn inline(out: &mut String, node: &Node) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Text(text) => scalar(out, text),
        Value::List(_) => out.push_str("[]"),
        Value::Map(_) => out.push_str("{}"),
    }
}

fn spaces(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

/// Keys that look like numbers or booleans would be compared as such.
fn key(out: &mut String, text: &str) {
    let starts = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let is_boolean = ["true", "false"].contains(&text.to_ascii_lowercase().as_str());
    match starts && !is_boolean && is_plain(text) {
        true => out.push_str(text),
        false => quoted(out, text),
    }
}

fn scalar(out: &mut String, text: &str) {
    match is_plain(text) {
        true => out.push_str(text),
        false => quoted(out, text),
    }
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for one in text.chars() {
        match one {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // Control characters, line ends of other scripts and what is no character at all.
            _ if one.is_control()
                || matches!(one, '\u{2028}' | '\u{2029}' | '\u{feff}')
                || matches!(u32::from(one) & 0xffff, 0xfffe | 0xffff) =>
            {
                out.push_str(&format!("\\U{:08X}", u32::from(one)));
            }
            _ => out.push(one),
        }
    }
    out.push('"');
}

/// Whether `text` without quotes is one scalar that keeps its text.
fn is_plain(text: &str) -> bool {
    let mut bytes = text.bytes();
    let starts = match bytes.next() {
        Some(b'-') => text.as_bytes().get(1).is_some_and(u8::is_ascii_digit),
        Some(first) => first.is_ascii_alphanumeric() || b"_/<$^(+.".contains(&first),
        None => false,
    };
    starts
        && !matches!(text, "null" | "Null" | "NULL" | "<<" | "...")
        && !text.ends_with(':')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-./:<>$^()+=*|;?%".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::{self, At, Entry};
    use proptest::prelude::*;

    fn same(one: &Node, other: &Node) -> bool {
        match (&one.value, &other.value) {
            (Value::Null, Value::Null) => true,
            (Value::Text(one), Value::Text(other)) => one == other,
            (Value::List(one), Value::List(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b))
            }
            (Value::Map(one), Value::Map(other)) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .zip(other)
                        .all(|(a, b)| a.key == b.key && same(&a.node, &b.node))
            }
            _ => false,
        }
    }

    fn node(value: Value) -> Node {
        Node {
            at: At::default(),
            value,
        }
    }

    fn some_text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9_./:-]{0,8}",
            "\\PC{0,6}",
            "[ -~\n\t]{0,10}",
            prop::sample::select(vec![
                "null",
                "~",
                "true",
                "yes",
                "1",
                "-1",
                "1.0",
                "0x1F",
                "1_000",
                ".5",
                "<<",
                "- a",
                "a: b",
                "a #b",
                "...",
                "---",
                "+1",
                "2021-01-01",
                ".inf",
                ".nan",
                "=",
                "1e3",
                "08",
                "\u{85}",
                "\u{2028}",
                "\u{feff}x",
                "a:",
                "*",
                "&a",
                "!a",
                "%a",
                "@a",
                "`a"
            ])
            .prop_map(str::to_owned),
        ]
    }

    fn some_node() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![
            Just(Value::Null),
            some_text().prop_map(Value::Text),
            Just(Value::List(Vec::new())),
            Just(Value::Map(Vec::new())),
        ]
        .prop_map(node);
        leaf.prop_recursive(4, 24, 4, |inner| {
            let entries = prop::collection::btree_map(some_text(), inner.clone(), 1..4);
            prop_oneof![
                prop::collection::vec(inner, 1..4).prop_map(|items| node(Value::List(items))),
                entries.prop_map(|entries| {
                    let entries = entries.into_iter().map(|(key, node)| Entry {
                        key,
                        key_at: At::default(),
                        node,
                    });
                    node(Value::Map(entries.collect()))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(tree in some_node()) {
            let written = text(&tree);
            let read = yaml::parse(&written)
                .map_err(|(_, error)| TestCaseError::fail(format!("{error}:\n{written}")))?;
            prop_assert!(same(&tree, &read), "{written}\n{tree:?}\n{read:?}");
        }
    }

    #[test]
    fn the_style_is_that_of_configuration_files() {
        let source = "a: {b: 1, c: [x, {y: 'two words', z: []}]}\nd: ~\ne: 'null'\n";
        let tree = yaml::parse(source).unwrap();
        let wanted = "a:\n  b: 1\n  c:\n  - x\n  - y: \"two words\"\n    z: []\n\
                      d: null\ne: \"null\"\n";
        assert_eq!(text(&tree), wanted);
    }
}
