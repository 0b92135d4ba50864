//! A file in Grafana Agent's layout -> the same as a file of ours, places kept.
//!
//! What stood under `metrics` comes to the top; the rest has no effect or is refused.
//! Source of names: Grafana Agent, static mode, "server_config" and "metrics_config".

use super::section::{Fields, Problems, Section, key};
use super::yaml::{Entry, Node, Value};

/// The agent's file.
pub(crate) const AGENT_FILE: Section = Section {
    path: "configuration file in the agent's layout",
    keys: &[
        key("server", "mapping", "none", "See below."),
        key("metrics", "mapping", "none", "See below."),
        key(
            "scrape_configs",
            "list",
            "none",
            "As above; the agent allowed none beside the store.",
        ),
        key("remote_write", "list", "none", "As above."),
    ],
    unsupported: &[],
};

const AGENT_FILE_HINTS: &[(&str, &str)] = &[
    ("global", "in this layout it is `metrics.global`"),
    (
        "scraping_service",
        "in this layout it is `metrics.scraping_service`",
    ),
    (
        "integrations",
        "ringscrape scrapes; run exporters beside it",
    ),
    ("logs", "ringscrape handles metrics only"),
    ("traces", "ringscrape handles metrics only"),
];

/// `server`.
pub(crate) const SERVER: Section = Section {
    path: "server",
    keys: &[
        key("log_level", "text", "none", "No effect: see `--log.level`."),
        key(
            "log_format",
            "text",
            "none",
            "No effect: see `--log.format`.",
        ),
    ],
    unsupported: &[],
};

/// `metrics`.
pub(crate) const METRICS: Section = Section {
    path: "metrics",
    keys: &[
        key(
            "global",
            "mapping",
            "none",
            "As `global` above; its `remote_write` is for all configurations without one.",
        ),
        key("scraping_service", "mapping", "none", "As above."),
        key(
            "wal_directory",
            "path",
            "none",
            "No effect: see `--storage.path`.",
        ),
        key(
            "wal_cleanup_age",
            "duration",
            "none",
            "No effect: nothing is left behind.",
        ),
        key(
            "wal_cleanup_period",
            "duration",
            "none",
            "No effect: nothing is left behind.",
        ),
    ],
    unsupported: &[],
};

const METRICS_HINTS: &[(&str, &str)] = &[
    (
        "configs",
        "give their jobs as `scrape_configs`, or store them",
    ),
    (
        "scraping_service_client",
        "nodes need no gRPC; see `--cluster.*`",
    ),
    (
        "instance_mode",
        "equal endpoint settings are always one endpoint; leave it out",
    ),
    (
        "instance_restart_backoff",
        "there are no instances to start anew; leave it out",
    ),
    (
        "http_disable_keepalives",
        "connections are kept; leave it out",
    ),
    (
        "http_idle_conn_timeout",
        "connections are kept; leave it out",
    ),
];

/// Whether a file is in the agent's layout.
pub(crate) fn is_agent_file(root: &Node) -> bool {
    let Value::Map(entries) = &root.value else {
        return false;
    };
    let mut keys = entries.iter().map(|entry| entry.key.as_str());
    keys.any(|key| key == "metrics" || key == "server")
}

/// The same in our layout.
pub(crate) fn translate(root: &Node, problems: &Problems) -> Node {
    let file = Fields::hinted(root, &AGENT_FILE, AGENT_FILE_HINTS, problems);
    let mut entries = Vec::new();
    if let Some(server) = file.node("server") {
        let server = Fields::new(server, &SERVER, problems);
        server.text("log_level");
        server.text("log_format");
    }
    if let Some(node) = file.node("metrics") {
        let metrics = Fields::hinted(node, &METRICS, METRICS_HINTS, problems);
        metrics.text("wal_directory");
        metrics.duration_ms("wal_cleanup_age");
        metrics.duration_ms("wal_cleanup_period");
        if let Some(node) = metrics.node("global") {
            entries.extend(global(node));
        }
        if let Some(node) = metrics.node("scraping_service") {
            entries.push(entry("scraping_service", node.clone()));
        }
    }
    for name in ["scrape_configs", "remote_write"] {
        let Some(node) = file.node(name) else {
            continue;
        };
        if entries.iter().any(|entry| entry.key == name) {
            file.refuse(name, format!("`{name}` is also in `metrics.global`"));
        } else {
            entries.push(entry(name, node.clone()));
        }
    }
    Node {
        at: root.at,
        value: Value::Map(entries),
    }
}

/// `remote_write` stands beside `global` in our layout.
fn global(node: &Node) -> Vec<Entry> {
    let Value::Map(keys) = &node.value else {
        return vec![entry("global", node.clone())];
    };
    let is_endpoints = |key: &&Entry| key.key == "remote_write";
    let rest = keys.iter().filter(|key| !is_endpoints(key)).cloned();
    let global = Node {
        at: node.at,
        value: Value::Map(rest.collect()),
    };
    let mut entries = vec![entry("global", global)];
    entries.extend(keys.iter().find(is_endpoints).cloned());
    entries
}

fn entry(key: &str, node: Node) -> Entry {
    Entry {
        key: key.to_owned(),
        key_at: node.at,
        node,
    }
}
