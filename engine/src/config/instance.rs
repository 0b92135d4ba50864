//! The YAML of a stored configuration -> its jobs and endpoints, read as those of the file are.
//!
//! Source of names: Grafana Agent, static mode, "metrics_instance_config". Nothing here reads a
//! file or an environment variable.

use super::error::Problem;
use super::global::Global;
use super::section::{Fields, Problems, Section, key};
use super::yaml::{self, Entry, Node, Value};
use super::{Endpoint, ScrapeConfig, remote_write, scrape};
use crate::labels::Labels;
use crate::relabel::with_regex_bytes_max;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Relabelling rules of one stored configuration, all together.
const RULES_MAX: usize = 500;
/// Compiled size of each of its expressions: nobody's rules may take a node's memory.
const REGEX_BYTES_MAX: usize = 512 << 10;

/// A stored configuration.
pub(crate) const INSTANCE: Section = Section {
    path: "stored configuration",
    keys: &[
        key(
            "name",
            "text",
            "none",
            "No effect: the name in the URL counts.",
        ),
        key(
            "scrape_configs",
            "list",
            "none",
            "Jobs, as in the file, but without `file_sd_configs`. Job names are unique over the \
             file and all stored configurations.",
        ),
        key(
            "remote_write",
            "list",
            "as in the file",
            "Endpoints, as in the file. In values of `headers`, `${secret:NAME}` stands for a \
             secret of `scraping_service.secrets`. A `name` is of this configuration alone.",
        ),
        key(
            "external_labels",
            "mapping of texts",
            "none",
            "Beside those of the file, and before them. Variables are not replaced.",
        ),
        key(
            "distribute_by",
            "`target` or `config`",
            "`target`",
            "Whether the nodes of a cluster share its targets, or one node has all of them.",
        ),
        key("host_filter", "`false`", "false", "Only the default."),
        key(
            "wal_truncate_frequency",
            "duration",
            "none",
            "No effect: the log is cut when its content is sent.",
        ),
        key("min_wal_time", "duration", "none", "No effect."),
        key(
            "max_wal_time",
            "duration",
            "none",
            "No effect: see `--storage.retention-hours`.",
        ),
        key(
            "remote_flush_deadline",
            "duration",
            "none",
            "No effect: see `--remote.flush-deadline`.",
        ),
        key(
            "write_stale_on_shutdown",
            "`false`",
            "false",
            "Only the default: series end when their target or job does.",
        ),
    ],
    unsupported: &[],
};

const INSTANCE_HINTS: &[(&str, &str)] = &[
    (
        "host_filter_relabel_configs",
        "targets are shared by the cluster; leave it out",
    ),
    (
        "global",
        "defaults are those of the node's file; give them in each job",
    ),
];

/// What a stored configuration holds.
#[derive(Debug)]
pub(crate) struct InstanceConfig {
    pub(crate) scrape_configs: Vec<Arc<ScrapeConfig>>,
    /// `None`: not given.
    pub(crate) remote_write: Option<Vec<Arc<Endpoint>>>,
    /// With those of the file.
    pub(crate) external_labels: Labels,
    /// `distribute_by: config`.
    pub(crate) is_unit: bool,
}

/// Reads a stored configuration. `defaults`: of the node's file. `secrets`: by name.
///
/// # Errors
/// All problems, in the order of their places.
pub(crate) fn read(
    text: &str,
    defaults: &Global,
    secrets: &BTreeMap<String, String>,
) -> Result<InstanceConfig, Vec<Problem>> {
    let mut root = yaml::parse(text).map_err(|(at, message)| {
        let message = format!("not YAML: {message}");
        vec![Problem { at, message }]
    })?;
    let problems = Problems::default();
    insert_secrets(&mut root, secrets, &problems);
    refuse_files(&mut root, &problems);
    refuse_excess(&mut root, &problems);
    let fields = Fields::hinted(&root, &INSTANCE, INSTANCE_HINTS, &problems);
    fields.text("name");
    if fields.flag("host_filter") == Some(true) {
        let message = "`host_filter: true` is not supported: targets are shared by the cluster; \
                       keep a node's own with `relabel_configs`";
        fields.refuse("host_filter", message);
    }
    for name in [
        "wal_truncate_frequency",
        "min_wal_time",
        "max_wal_time",
        "remote_flush_deadline",
    ] {
        fields.duration_ms(name);
    }
    if fields.flag("write_stale_on_shutdown") == Some(true) {
        let message = "`write_stale_on_shutdown: true` is not supported: series end when their \
                       target or job does";
        fields.refuse("write_stale_on_shutdown", message);
    }
    let own = fields.labels("external_labels", str::to_owned);
    // Of a repeated name the last value wins.
    let external_labels = Labels::from_pairs(defaults.external_labels.iter().chain(own.iter()));
    let global = Global {
        external_labels: external_labels.clone(),
        ..defaults.clone()
    };
    let by = fields.choice("distribute_by", &[(false, "target"), (true, "config")]);
    let (scrape_configs, endpoints) = with_regex_bytes_max(REGEX_BYTES_MAX, || {
        let jobs = scrape::read(&fields, &global, Path::new(""));
        (jobs, remote_write::read(&fields, &global))
    });
    let config = InstanceConfig {
        scrape_configs,
        remote_write: fields.list("remote_write").map(|_| endpoints),
        external_labels,
        is_unit: by.unwrap_or(false),
    };
    let mut problems = problems.into_vec();
    problems.sort();
    problems.dedup();
    match problems.is_empty() {
        true => Ok(config),
        false => Err(problems),
    }
}

/// The value of a key.
fn value_of<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let Value::Map(entries) = &mut node.value else {
        return None;
    };
    let mut entries = entries.iter_mut();
    let found = entries.find(|entry: &&mut Entry| entry.key == key);
    found.map(|entry| &mut entry.node)
}

/// The items of a list under a key.
fn items_of<'a>(node: &'a mut Node, key: &str) -> &'a mut [Node] {
    match value_of(node, key).map(|node| &mut node.value) {
        Some(Value::List(items)) => items,
        _ => &mut [],
    }
}

/// Puts secrets into the headers of endpoints.
fn insert_secrets(root: &mut Node, secrets: &BTreeMap<String, String>, problems: &Problems) {
    for endpoint in items_of(root, "remote_write") {
        let headers = value_of(endpoint, "headers").map(|node| &mut node.value);
        let Some(Value::Map(headers)) = headers else {
            continue;
        };
        for header in headers {
            let at = header.node.at;
            let Value::Text(text) = &mut header.node.value else {
                continue;
            };
            match with_secrets(text, secrets) {
                Ok(full) => *text = full,
                Err(message) => problems.add(at, message),
            }
        }
    }
}

fn with_secrets(text: &str, secrets: &BTreeMap<String, String>) -> Result<String, String> {
    let mut full = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${secret:") {
        let Some((name, after)) = after.split_once('}') else {
            return Err("`headers`: `${secret:` without its `}`".to_owned());
        };
        let Some(secret) = secrets.get(name) else {
            return Err(format!(
                "`headers`: there is no secret {name:?}: name its file under \
                 `scraping_service.secrets`"
            ));
        };
        full.push_str(before);
        full.push_str(secret);
        rest = after;
    }
    full.push_str(rest);
    Ok(full)
}

/// Refuses what would give an endpoint records of others, and more rules than one may have.
fn refuse_excess(root: &mut Node, problems: &Problems) {
    for endpoint in items_of(root, "remote_write") {
        for key in ["start_at", "former_names"] {
            if let Some(node) = value_of(endpoint, key) {
                let message = format!("`{key}` is for endpoints of the node's file only");
                problems.add(node.at, message);
            }
        }
    }
    let mut rules = 0;
    for (list, key) in [
        ("scrape_configs", "relabel_configs"),
        ("scrape_configs", "metric_relabel_configs"),
        ("remote_write", "write_relabel_configs"),
    ] {
        for item in items_of(root, list) {
            rules += items_of(item, key).len();
            if rules > RULES_MAX {
                let message = format!("at most {RULES_MAX} rules are allowed in all");
                problems.add(item.at, message);
                // Those beyond are not compiled.
                if let Some(node) = value_of(item, key) {
                    node.value = Value::Null;
                }
            }
        }
    }
}

/// Takes out, and refuses, what reads files.
fn refuse_files(root: &mut Node, problems: &Problems) {
    for job in items_of(root, "scrape_configs") {
        let Value::Map(entries) = &mut job.value else {
            continue;
        };
        entries.retain(|entry| {
            let reads = entry.key == "file_sd_configs" && !matches!(entry.node.value, Value::Null);
            if reads {
                let message = "`file_sd_configs` is not for stored configurations, which read no \
                               files of the node: give `static_configs` or `http_sd_configs`";
                problems.add(entry.key_at, message);
            }
            !reads
        });
    }
}
