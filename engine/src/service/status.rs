//! What each node says of the stored configurations -> how each configuration is doing.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one node says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeConfigs {
    /// Whether its store answers.
    pub is_connected: bool,
    /// Why not.
    pub store_error: String,
    /// The store's revision that it has taken over.
    pub revision: u64,
    /// Those asked for that it knows, by name.
    pub configs: BTreeMap<String, NodeConfig>,
}

/// One configuration, as one node has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeConfig {
    /// The revision of the text that it has taken over.
    pub revision: u64,
    /// Why it does not run; empty: it does.
    pub refusals: Vec<String>,
    /// Since when this text runs, in ms since the Unix epoch.
    pub since_ms: Option<i64>,
    /// Its jobs.
    pub jobs: Vec<String>,
    /// URLs of its endpoints, without credentials.
    pub endpoints: Vec<String>,
    /// Its targets that this node scrapes.
    pub targets: u64,
    /// Of them, those whose last scrape succeeded.
    pub up: u64,
    /// Of them, those whose last scrape failed.
    pub down: u64,
    /// The error of the latest scrape that failed, of the targets that are down.
    pub last_error: String,
    /// When that scrape began.
    pub last_error_ms: Option<i64>,
}

/// One configuration across the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Its name.
    pub name: String,
    /// Whether a node runs it.
    pub is_running: bool,
    /// Why nodes do not run it.
    pub refusals: Vec<String>,
    /// Since when its text has been running, on the node that has had it for the longest time.
    pub since_ms: Option<i64>,
    /// Its jobs.
    pub jobs: Vec<String>,
    /// URLs of its endpoints, without credentials.
    pub endpoints: Vec<String>,
    /// Targets that are scraped.
    pub targets: u64,
    /// Of them, those whose last scrape succeeded.
    pub up: u64,
    /// Of them, those whose last scrape failed.
    pub down: u64,
    /// The error of the latest scrape that failed.
    pub last_error: String,
    /// When that scrape began.
    pub last_error_ms: Option<i64>,
    /// The nodes that scrape targets of it, with how many.
    pub owners: BTreeMap<String, u64>,
    /// By node: what it has taken over.
    pub applied: BTreeMap<String, Applied>,
}

/// What a node has taken over of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Applied {
    /// The revision of the text; `None`: it does not know the configuration, or gave no answer.
    pub revision: Option<u64>,
    /// Why there is no answer, or why its store has none.
    pub error: String,
}

/// Puts together what the nodes say, sorted by name. A node without an answer is among those that
/// `applied` names.
pub fn across(nodes: &BTreeMap<String, Result<NodeConfigs, String>>) -> Vec<ConfigStatus> {
    let mut all = BTreeMap::<&str, ConfigStatus>::new();
    for (node, said) in nodes {
        for (name, config) in said.iter().flat_map(|said| &said.configs) {
            let status = all.entry(name).or_default();
            status.name.clone_from(name);
            status.add(node, config);
        }
    }
    for status in all.values_mut() {
        for (node, said) in nodes {
            let error = match said {
                Ok(said) => said.store_error.clone(),
                Err(reason) => reason.clone(),
            };
            status.applied.entry(node.clone()).or_default().error = error;
        }
    }
    all.into_values().collect()
}

impl ConfigStatus {
    fn add(&mut self, node: &str, config: &NodeConfig) {
        self.is_running |= config.refusals.is_empty();
        for refusal in &config.refusals {
            if !self.refusals.contains(refusal) {
                self.refusals.push(refusal.clone());
            }
        }
        self.since_ms = match (self.since_ms, config.since_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        // Nodes that are behind have other ones.
        let newest = self.applied.values().filter_map(|one| one.revision).max();
        if newest.is_none_or(|newest| newest < config.revision) {
            self.jobs.clone_from(&config.jobs);
            self.endpoints.clone_from(&config.endpoints);
        }
        self.targets += config.targets;
        self.up += config.up;
        self.down += config.down;
        if config.last_error_ms > self.last_error_ms {
            self.last_error.clone_from(&config.last_error);
            self.last_error_ms = config.last_error_ms;
        }
        if config.targets > 0 {
            self.owners.insert(node.to_owned(), config.targets);
        }
        let applied = Applied {
            revision: Some(config.revision),
            error: String::new(),
        };
        self.applied.insert(node.to_owned(), applied);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_add_up_and_silent_ones_are_named() {
        let config = |revision, targets, refusals: &[&str], error_ms: Option<i64>| NodeConfig {
            revision,
            refusals: refusals.iter().map(|text| (*text).to_owned()).collect(),
            since_ms: Some(100 + revision as i64),
            jobs: vec![format!("j{revision}")],
            targets,
            up: targets.saturating_sub(1),
            down: targets.min(1),
            last_error: error_ms.map_or(String::new(), |ms| format!("at {ms}")),
            last_error_ms: error_ms,
            ..NodeConfig::default()
        };
        let node = |configs: Vec<(&str, NodeConfig)>, store_error: &str| {
            Ok(NodeConfigs {
                store_error: store_error.to_owned(),
                configs: configs
                    .into_iter()
                    .map(|(n, c)| (n.to_owned(), c))
                    .collect(),
                ..NodeConfigs::default()
            })
        };
        let nodes = BTreeMap::from([
            (
                "n1".to_owned(),
                node(
                    vec![
                        ("a", config(7, 3, &[], Some(5))),
                        ("b", config(4, 0, &["taken"], None)),
                    ],
                    "",
                ),
            ),
            (
                "n2".to_owned(),
                node(vec![("a", config(6, 2, &[], Some(9)))], "etcd is away"),
            ),
            ("n3".to_owned(), Err("no answer".to_owned())),
        ]);
        let all = across(&nodes);
        let [a, b] = &all[..] else {
            panic!("{all:?}");
        };
        assert_eq!((&*a.name, &*b.name), ("a", "b"));
        assert_eq!((a.targets, a.up, a.down), (5, 3, 2));
        assert_eq!((&*a.last_error, a.since_ms), ("at 9", Some(106)));
        assert_eq!(a.jobs, ["j7"], "those of the newest text");
        assert_eq!(
            a.owners,
            BTreeMap::from([("n1".into(), 3), ("n2".into(), 2)])
        );
        let applied = |node: &str| (a.applied[node].revision, a.applied[node].error.as_str());
        assert_eq!(applied("n1"), (Some(7), ""));
        assert_eq!(applied("n2"), (Some(6), "etcd is away"));
        assert_eq!(applied("n3"), (None, "no answer"));
        assert!(!b.is_running && b.owners.is_empty());
        assert_eq!(b.refusals, ["taken"]);
        assert_eq!(b.applied["n2"].revision, None);
    }
}
