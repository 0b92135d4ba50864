//! HTTP requests of people and scrapers -> questions to the control loop -> answers.
//!
//! Runs on the control thread. It holds no state of its own: every answer comes from the control
//! loop, over bounded channels.

pub mod cluster;
pub mod configs;
mod gate;
mod json;
mod router;

pub(crate) use json::StateFilter;
pub(crate) use router::{ApiOptions, router};

use crate::labels::Labels;
use crate::service::status::NodeConfigs;
use crate::target::Target;
use cluster::{ClusterView, Fleet, OverviewView};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What the API asks the control loop.
#[derive(Debug)]
pub(crate) enum Query {
    /// All targets, for `/api/v1/targets`.
    Targets(oneshot::Sender<TargetsView>),
    /// The text of `/metrics`.
    Metrics(oneshot::Sender<String>),
    /// Whether all shards are running.
    Ready(oneshot::Sender<bool>),
    /// The cluster's members, without counts of targets, and what these are counted from.
    Cluster(oneshot::Sender<(ClusterView, Fleet)>),
    /// All targets that discovery knows, and who owns them.
    Fleet(oneshot::Sender<Fleet>),
    /// The state of this node's targets.
    Health {
        /// Which; `None`: all.
        keys: Option<Vec<u64>>,
        /// Where to.
        answer: oneshot::Sender<Vec<TargetStatus>>,
    },
    /// How this node has stored configurations, and how its targets of them are.
    Configs {
        /// Which; `None`: all.
        names: Option<Vec<String>>,
        /// Where to.
        answer: oneshot::Sender<NodeConfigs>,
    },
    /// How this process is doing.
    Overview(oneshot::Sender<OverviewView>),
    /// Give all targets to other nodes, or take some again; the error says why not.
    Drain {
        /// Whether to own nothing.
        is_drained: bool,
        /// Where to.
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// The scraping service; `None`: it is off.
    Service(oneshot::Sender<Option<configs::Service>>),
    /// Read the configuration again; the answer is the error's text.
    Reload(oneshot::Sender<Result<(), String>>),
}

/// State of all jobs and targets at one moment.
#[derive(Debug, Default)]
pub(crate) struct TargetsView {
    /// Active targets, sorted by job and address.
    pub(crate) statuses: Vec<TargetStatus>,
    /// Jobs in file order.
    pub(crate) jobs: Vec<JobView>,
}

/// One job as the API shows it.
#[derive(Debug, Default)]
pub(crate) struct JobView {
    /// `job_name`.
    pub(crate) name: String,
    /// Targets that relabelling dropped, at most `keep_dropped_targets`.
    pub(crate) dropped: Vec<Labels>,
    /// How many were dropped.
    pub(crate) dropped_count: u64,
}

/// One active target as its shard sees it.
#[derive(Debug, Clone)]
pub(crate) struct TargetStatus {
    /// The target.
    pub(crate) target: Arc<Target>,
    /// Result of the last scrape.
    pub(crate) health: Health,
    /// Error of the last scrape, empty if it succeeded.
    pub(crate) last_error: String,
    /// Start of the last scrape, milliseconds since the Unix epoch.
    pub(crate) last_scrape_ms: Option<i64>,
    /// Its duration in seconds.
    pub(crate) last_duration_s: f64,
}

impl TargetStatus {
    /// `job_name` of the target's job.
    pub(crate) fn job(&self) -> &str {
        &self.target.scrape_config.job_name
    }
}

/// Result of a target's last scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Health {
    Unknown,
    Up,
    Down,
}
