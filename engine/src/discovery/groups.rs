//! JSON or YAML of target groups -> the groups. Pure.
//!
//! Source: Prometheus discovery/targetgroup/targetgroup.go: a list of `{targets: [..], labels:
//! {..}}`; other keys are errors.

use super::TargetGroup;
use crate::config::yaml::{self, Entry, Node, Value};
use crate::labels::Labels;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    targets: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
}

/// Reads JSON; the bytes are overwritten. `origin` names groups `origin:index`, and `extra` is a
/// label that each gets, whatever its own says.
///
/// # Errors
/// What is wrong; nothing is taken from a list with an error.
pub(super) fn from_json(
    body: &mut [u8],
    origin: &str,
    extra: (&str, &str),
) -> Result<Vec<Arc<TargetGroup>>, String> {
    // An empty text is no JSON and would be taken for one by its first byte.
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err("not a list of target groups: empty".into());
    }
    let groups = simd_json::serde::from_slice::<Option<Vec<Option<Group>>>>(body)
        .map_err(|cause| format!("not a list of target groups in JSON: {cause}"))?;
    finish(groups.unwrap_or_default(), origin, extra)
}

/// Reads YAML, as [`from_json`].
pub(super) fn from_yaml(
    text: &str,
    origin: &str,
    extra: (&str, &str),
) -> Result<Vec<Arc<TargetGroup>>, String> {
    let at = |node: &Node, message: String| {
        Err(format!(
            "line {}, column {}: {message}",
            node.at.line, node.at.column
        ))
    };
    let root = yaml::parse(text)
        .map_err(|(at, cause)| format!("line {}, column {}: {cause}", at.line, at.column))?;
    let items = match &root.value {
        Value::Null => &[][..],
        Value::List(items) => items,
        _ => {
            return at(
                &root,
                format!("a list of target groups is needed, not {}", root.describe()),
            );
        }
    };
    let mut groups = Vec::with_capacity(items.len());
    for item in items {
        let entries = match &item.value {
            Value::Null => {
                groups.push(None);
                continue;
            }
            Value::Map(entries) => entries,
            _ => {
                return at(
                    item,
                    format!("a target group is needed, not {}", item.describe()),
                );
            }
        };
        let mut group = Group {
            targets: None,
            labels: None,
        };
        for entry in entries {
            let node = &entry.node;
            match (entry.key.as_str(), &node.value) {
                ("targets" | "labels", Value::Null) => {}
                ("targets", Value::List(items)) => {
                    let mut targets = Vec::with_capacity(items.len());
                    for item in items {
                        match &item.value {
                            Value::Text(address) => targets.push(address.clone()),
                            _ => {
                                return at(
                                    item,
                                    format!("an address is needed, not {}", item.describe()),
                                );
                            }
                        }
                    }
                    group.targets = Some(targets);
                }
                ("labels", Value::Map(entries)) => {
                    let mut labels = BTreeMap::new();
                    for Entry { key, node, .. } in entries {
                        let value = match &node.value {
                            Value::Null => String::new(),
                            Value::Text(value) => value.clone(),
                            _ => {
                                return at(
                                    node,
                                    format!("a text is needed, not {}", node.describe()),
                                );
                            }
                        };
                        labels.insert(key.clone(), value);
                    }
                    group.labels = Some(labels);
                }
                ("targets", _) => {
                    return at(
                        node,
                        format!("`targets` must be a list, not {}", node.describe()),
                    );
                }
                ("labels", _) => {
                    return at(
                        node,
                        format!("`labels` must be a mapping, not {}", node.describe()),
                    );
                }
                (key, _) => {
                    return at(
                        node,
                        format!("unknown key `{key}`; allowed: targets, labels"),
                    );
                }
            }
        }
        groups.push(Some(group));
    }
    finish(groups, origin, extra)
}

fn finish(
    groups: Vec<Option<Group>>,
    origin: &str,
    extra: (&str, &str),
) -> Result<Vec<Arc<TargetGroup>>, String> {
    let groups = groups.into_iter().enumerate().map(|(index, group)| {
        let group = group.ok_or_else(|| format!("target group {index} is null"))?;
        let mut labels = group.labels.unwrap_or_default();
        if labels.contains_key("") {
            return Err(format!(
                "target group {index}: \"\" is not a valid label name"
            ));
        }
        labels.insert(extra.0.to_owned(), extra.1.to_owned());
        Ok(Arc::new(TargetGroup {
            source: format!("{origin}:{index}"),
            targets: addresses(&group.targets.unwrap_or_default()),
            labels: Labels::from_pairs(labels),
        }))
    });
    groups.collect()
}

/// One target per address.
pub(super) fn addresses(addresses: &[String]) -> Vec<Labels> {
    let target = |address: &String| Labels::from_pairs([("__address__", address.as_str())]);
    addresses.iter().map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTRA: (&str, &str) = ("__meta_x", "o");

    #[track_caller]
    fn both(json: &str, expected: Result<&str, &str>) {
        let show = |groups: Result<Vec<Arc<TargetGroup>>, String>| {
            let groups = groups?;
            let text = groups.iter().map(|group| {
                let targets: Vec<&str> =
                    group.targets.iter().map(|t| t.get("__address__")).collect();
                let labels: Vec<String> = group
                    .labels
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                format!(
                    "{} [{}] {{{}}}",
                    group.source,
                    targets.join(" "),
                    labels.join(" ")
                )
            });
            Ok(text.collect::<Vec<_>>().join("; "))
        };
        // JSON is YAML, so both readers must say the same.
        let results: [Result<String, String>; 2] = [
            show(from_json(&mut json.as_bytes().to_vec(), "o", EXTRA)),
            show(from_yaml(json, "o", EXTRA)),
        ];
        for result in results {
            match (&result, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{json}"),
                (Err(found), Err(part)) => assert!(found.contains(part), "{json}: {found}"),
                _ => panic!("{json}: {result:?}"),
            }
        }
    }

    #[test]
    fn groups_are_read_from_both_forms() {
        both(r#"[]"#, Ok(""));
        both(r#"null"#, Ok(""));
        both(r#"[{}]"#, Ok("o:0 [] {__meta_x=o}"));
        both(
            r#"[{"targets": ["a:1", "b:2"], "labels": {"x": "y", "e": ""}}, {"targets": null}]"#,
            Ok("o:0 [a:1 b:2] {__meta_x=o x=y}; o:1 [] {__meta_x=o}"),
        );
        // What the source says of itself doesn't count.
        both(
            r#"[{"labels": {"__meta_x": "mine"}}]"#,
            Ok("o:0 [] {__meta_x=o}"),
        );
        both(
            r#"[{"targets": ["ä\n\"\u0041"]}]"#,
            Ok("o:0 [ä\n\"A] {__meta_x=o}"),
        );
    }

    #[test]
    fn other_things_are_refused() {
        for json in [
            r#"{"targets": []}"#,
            r#"["a"]"#,
            r#"[null]"#,
            r#"[{"target": ["a"]}]"#,
            r#"[{"targets": "a"}]"#,
            r#"[{"targets": [["a"]]}]"#,
            r#"[{"targets": [null]}]"#,
            r#"[{"labels": ["a"]}]"#,
            r#"[{"labels": {"a": ["b"]}}]"#,
            r#"[{"labels": {"": "b"}}]"#,
            r#"[{"targets": ["a"]"#,
            r#"[{}"#,
            r#"x"#,
        ] {
            both(json, Err(""));
        }
        assert!(from_json(&mut [], "o", EXTRA).is_err());
        assert!(from_yaml("", "o", EXTRA).is_ok_and(|groups| groups.is_empty()));
        let error = from_yaml("- targets: [a]\n- target: [b]\n", "o", EXTRA).unwrap_err();
        assert_eq!(
            error,
            "line 2, column 11: unknown key `target`; allowed: targets, labels"
        );
    }
}
