//! `scrape_configs[].clustering` -> whether and how the nodes of a cluster share a job's targets.

use super::KeyLabels;
use super::section::{Fields, Section, key};
use ringscrape_cluster::spot::REPLICAS_MAX;

/// `clustering` of a job.
pub(crate) const CLUSTERING: Section = Section {
    path: "scrape_configs[].clustering",
    keys: &[
        key(
            "enabled",
            "true or false",
            "true",
            "Whether a target is scraped by one node of the cluster, not by each node that has the \
             job. Without `--cluster.enabled` there is one node.",
        ),
        key(
            "key_labels",
            "list of names",
            "URL and all labels",
            "Only these labels decide which node scrapes a target: it stays where it is when \
             others change. Targets with the same values in all of them move together.",
        ),
        key(
            "exclude_labels",
            "list of names",
            "none",
            "Labels that do not decide it, of all others and the URL; not with `key_labels`.",
        ),
        key(
            "replication_factor",
            "count, 1 to 8",
            "1",
            "How many nodes scrape each target, evenly spread over the interval; no node does so \
             twice. As many as there are, if there are fewer: one without `--cluster.enabled`. \
             Above 1 `replica_label` is needed.",
        ),
        key(
            "replica_label",
            "name",
            "none",
            "Label that is added to each target after `relabel_configs`, with the number of the \
             replica: `0` for the first. It tells their series apart, whichever nodes scrape them, \
             and wins over a label of the same name that the target has.",
        ),
    ],
    unsupported: &[],
};

/// Whether and how the nodes of a cluster share the targets.
pub(super) struct Clustering {
    pub(super) is_enabled: bool,
    pub(super) key_labels: KeyLabels,
    /// How many nodes scrape a target.
    pub(super) factor: u8,
    /// Empty: none.
    pub(super) replica_label: String,
}

/// Reads `clustering` of a job.
pub(super) fn read(fields: &Fields<'_>) -> Clustering {
    let Some(node) = fields.node("clustering") else {
        return Clustering {
            is_enabled: true,
            key_labels: KeyLabels::All,
            factor: 1,
            replica_label: String::new(),
        };
    };
    let clustering = Fields::new(node, &CLUSTERING, fields.problems);
    let names = |key| {
        let mut names = clustering.texts(key).unwrap_or_default();
        if let Some(name) = names.iter().find(|name| name.starts_with("__")) {
            let message = format!(
                "`{key}`: a target has no label {name:?} after relabelling; copy it to another \
                 name in `relabel_configs`"
            );
            clustering.refuse(key, message);
        }
        names.sort();
        names.dedup();
        names
    };
    let (only, without) = (names("key_labels"), names("exclude_labels"));
    let labels = match (only.is_empty(), without.is_empty()) {
        (true, true) => KeyLabels::All,
        (false, true) => KeyLabels::Only(only),
        (true, false) => KeyLabels::Without(without),
        (false, false) => {
            let message = "`exclude_labels` means nothing beside `key_labels`: give one of them";
            clustering.refuse("exclude_labels", message);
            KeyLabels::All
        }
    };
    let is_enabled = clustering.flag("enabled").unwrap_or(true);
    let (factor, replica_label) = replicas(&clustering, is_enabled);
    Clustering {
        is_enabled,
        key_labels: labels,
        factor,
        replica_label,
    }
}

/// How many nodes scrape a target, and the label that tells their series apart.
fn replicas(clustering: &Fields<'_>, is_enabled: bool) -> (u8, String) {
    let label = clustering.text("replica_label").unwrap_or_default();
    if ["__name__", "instance", "job"].contains(&label) {
        let message = format!("`replica_label`: {label:?} has a meaning of its own; give another");
        clustering.refuse("replica_label", message);
    }
    let given = clustering.count_from_1("replication_factor").unwrap_or(1);
    let Some(factor) = u8::try_from(given).ok().filter(|n| *n <= REPLICAS_MAX) else {
        let message = format!("`replication_factor` must be at most {REPLICAS_MAX}");
        clustering.refuse("replication_factor", message);
        return (1, label.to_owned());
    };
    if factor > 1 && !is_enabled {
        let message = "`replication_factor` means nothing with `enabled: false`: each node that \
                       has the job scrapes its targets";
        clustering.refuse("replication_factor", message);
    } else if factor > 1 && label.is_empty() {
        let message = "`replication_factor` above 1 needs `replica_label`: the name of the label \
                       that tells the series of the replicas apart, such as `replica`";
        clustering.refuse("replication_factor", message);
    }
    (factor, label.to_owned())
}
