//! Changes of the stored configurations <-> the payload of a frame.

use super::{Change, Configs, Origin, Outcome, StoredConfig};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Changes that hold together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    /// The store's revision after them.
    pub(super) revision: u64,
    /// Each name at most once.
    pub(super) records: Vec<Record>,
}

/// One configuration as a batch leaves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Record {
    /// There is one.
    Put {
        name: Arc<str>,
        text: Arc<str>,
        revision: u64,
        managed_by: String,
        changed_by: String,
        changed_ms: i64,
    },
    /// There is none any more.
    Delete { name: Arc<str> },
}

impl Batch {
    /// What planned changes leave.
    pub(super) fn of_changes(changes: &[Change], outcomes: &[Outcome], revision: u64) -> Self {
        let made = changes.iter().zip(outcomes);
        let made = made.filter(|(_, outcome)| **outcome != Outcome::Unchanged);
        let records = made.map(|(change, _)| match change {
            Change::Put {
                name, text, origin, ..
            } => put(name, text, revision, origin),
            Change::Delete { name, .. } => Record::Delete { name: name.clone() },
        });
        Self {
            revision,
            records: records.collect(),
        }
    }

    /// All that is stored.
    pub(super) fn of_all(configs: &Configs) -> Self {
        let all = configs.by_name.values();
        let records = all.map(|one| put(&one.name, &one.text, one.revision, &one.origin));
        Self {
            revision: configs.revision,
            records: records.collect(),
        }
    }

    /// Adds it to what was before.
    pub(super) fn add_to(self, configs: &mut Configs) {
        for record in self.records {
            match record {
                Record::Put {
                    name,
                    text,
                    revision,
                    managed_by,
                    changed_by,
                    changed_ms,
                } => {
                    let config = StoredConfig {
                        name: name.clone(),
                        text,
                        revision,
                        origin: Origin {
                            managed_by,
                            changed_by,
                            changed_ms,
                        },
                    };
                    configs.by_name.insert(name, Arc::new(config));
                }
                Record::Delete { name } => {
                    configs.by_name.remove(&name);
                }
            }
        }
        configs.revision = self.revision;
    }
}

fn put(name: &Arc<str>, text: &Arc<str>, revision: u64, origin: &Origin) -> Record {
    Record::Put {
        name: name.clone(),
        text: text.clone(),
        revision,
        managed_by: origin.managed_by.clone(),
        changed_by: origin.changed_by.clone(),
        changed_ms: origin.changed_ms,
    }
}
