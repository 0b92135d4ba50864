//! A list of relabelling rules in the file -> compiled rules.

use super::section::{Fields, Problems, Section, key, one_of};
use super::yaml::{Node, Value};
use crate::relabel::{Action, RuleConfig, Rules};

/// `relabel_configs[]`, `metric_relabel_configs[]`, `write_relabel_configs[]`.
pub(crate) const RULE: Section = Section {
    path: "relabel_configs[]",
    keys: &[
        key(
            "source_labels",
            "list of label names",
            "none",
            "Their values, joined, are the input.",
        ),
        key(
            "separator",
            "text",
            "`;`",
            "Stands between the joined values.",
        ),
        key(
            "regex",
            "RE2 expression",
            "`(.*)`",
            "What the whole input must match; `.` matches a newline too.",
        ),
        key("modulus", "count", "0", "Divisor of `hashmod`."),
        key(
            "target_label",
            "label name",
            "none",
            "Where the result goes; `replace` expands `$1`, `${1}` and `$name` in it.",
        ),
        key(
            "replacement",
            "text",
            "`$1`",
            "The result of `replace`, and the name of `labelmap`.",
        ),
        key(
            "action",
            "`replace`, `keep`, `drop`, `keepequal`, `dropequal`, `hashmod`, `labelmap`, \
             `labeldrop`, `labelkeep`, `lowercase` or `uppercase`, in any case",
            "`replace`",
            "What the rule does.",
        ),
    ],
    unsupported: &[],
};

/// Reads and compiles the rules under `name`.
pub(crate) fn rules(fields: &Fields<'_>, name: &str) -> Rules {
    let items = fields.list(name).unwrap_or_default();
    let configs = items
        .iter()
        .map(|item| rule(item, fields.problems))
        .collect();
    Rules::new(configs).unwrap_or_else(|error| {
        let at = items.get(error.index).map_or(fields.at, |item| item.at);
        fields.problems.add(at, format!("`{name}` {error}"));
        Rules::default()
    })
}

fn rule(node: &Node, problems: &Problems) -> RuleConfig {
    if matches!(node.value, Value::Null) {
        problems.add(node.at, "empty relabelling rule");
    }
    let fields = Fields::new(node, &RULE, problems);
    let text = |name: &str| fields.text(name).map(str::to_owned);
    let default = RuleConfig::default();
    let action = fields.text("action").map(|name| {
        Action::parse(name).unwrap_or_else(|| {
            let allowed = one_of(Action::ALL.iter().map(|(_, name)| *name));
            fields.refuse(
                "action",
                format!("`action`: {name:?} is not allowed here; give {allowed}"),
            );
            // Needs nothing, so that no second problem is reported.
            Action::Keep
        })
    });
    RuleConfig {
        source_labels: fields.texts("source_labels"),
        separator: text("separator").unwrap_or(default.separator),
        regex: text("regex"),
        modulus: fields.count("modulus").unwrap_or(default.modulus),
        target_label: text("target_label").unwrap_or(default.target_label),
        replacement: text("replacement").unwrap_or(default.replacement),
        action: action.unwrap_or(default.action),
    }
}
