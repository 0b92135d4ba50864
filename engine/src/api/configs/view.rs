//! The JSON of what is added to Grafana Agent's API, in both directions.

use crate::service::status::ConfigStatus;
use serde::{Deserialize, Serialize};

/// The `data` of a list of configurations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListView {
    /// Names, sorted.
    pub configs: Vec<String>,
    /// The rest is there if the request has a parameter: what is told of each of `configs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<ConfigView>>,
    /// The store's revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Configurations that fit, on all pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// With `stale`: why the store does not answer. What is listed may be old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_error: Option<String>,
    /// There is more: ask again with `after` set to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One stored configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfigView {
    /// Its name.
    pub name: String,
    /// The store's revision at its last change: its `ETag` without quotes.
    pub revision: u64,
    /// Who keeps it; empty: nobody in particular.
    pub managed_by: String,
    /// Who changed it last.
    pub changed_by: String,
    /// When, in ms since the Unix epoch.
    pub changed_ms: i64,
    /// Bytes of its text.
    pub bytes: u64,
    /// Its YAML without secrets, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// How it is doing, if asked for and a node knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ConfigStatus>,
}

/// Changes that are made together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// Who keeps what is put from now on; without it that stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
    /// Each name at most once.
    pub changes: Vec<ChangeRequest>,
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// What is done.
    pub action: Action,
    /// Of which configuration.
    pub name: String,
    /// The YAML to put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Only if this is its revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<u64>,
    /// Only if there is none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub if_absent: bool,
}

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Creates or replaces.
    Put,
    /// Removes.
    Delete,
}

/// What became of a batch, or would.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BatchView {
    /// The store's revision, afterwards.
    pub revision: u64,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// In the order of the request.
    pub changes: Vec<ChangeView>,
}

/// What became of one change, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// Of which configuration.
    pub name: String,
    /// What.
    pub outcome: OutcomeView,
    /// Its revision before; none: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_before: Option<u64>,
    /// In dry runs, of an update: the difference, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// What becomes of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum OutcomeView {
    Created,
    Updated,
    Unchanged,
    Deleted,
}

/// The `data` of an error.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ErrorView {
    /// All of it, for people.
    pub error: String,
    /// For batches: what is wrong with which configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<NamedError>,
}

/// What is wrong with one configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedError {
    /// Which.
    pub name: String,
    /// Why.
    pub error: String,
}
