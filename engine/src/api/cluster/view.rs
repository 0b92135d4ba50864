//! What the API says of a cluster: the JSON as types, which the command line reads, too.
//!
//! Names are written as in Prometheus' JSON (`lastError`); times are milliseconds since the Unix
//! epoch and say so (`sinceMs`). What is missing reads as its default, so that releases may differ.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `data` of `/api/v1/cluster`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterView {
    /// Whether the node runs with `--cluster.enabled`.
    pub enabled: bool,
    /// `--cluster.name`.
    pub name: String,
    /// The node that answers.
    pub this_node: String,
    /// Its clock.
    pub now_ms: i64,
    /// When the cluster was founded; `None`: not joined yet.
    pub founded_ms: Option<i64>,
    /// Random number that tells founders of one moment apart, in hexadecimal.
    pub founder_id: String,
    /// This node sees less than half of the members of the last hour: it keeps its share, accuses
    /// nobody and agrees to no change.
    pub is_isolated: bool,
    /// This node stood still for so long that others may have its targets: it scrapes nothing
    /// until a peer answers.
    pub is_standing_still: bool,
    /// Whether it may scrape: a cluster is found and has the size waited for, or waiting is over.
    pub is_ready: bool,
    /// What this node waits for before it scrapes, in words; empty: nothing.
    pub waits_for: String,
    /// `--cluster.wait-for-size`.
    pub minimum_size: u32,
    /// Sorted by name.
    pub members: Vec<MemberView>,
    /// Targets that this node's discovery knows.
    pub targets: u64,
    /// Of these, how many nobody scrapes.
    pub targets_unowned: u64,
    /// Of those, how many because no member has room for them.
    pub targets_refused: u64,
    /// Changes of the last hour, newest first.
    pub moves: Vec<MoveView>,
    /// Jobs whose settings differ between members.
    pub drift: Vec<DriftView>,
    /// What went wrong while other nodes were asked.
    pub warnings: Vec<String>,
}

/// What a member is doing; the first, second and fourth word are Alloy's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Member, and owns nothing yet: discovery has not answered, or its join is not agreed.
    #[default]
    Viewer,
    /// Owns targets.
    Participant,
    /// Owns targets until an agreed time.
    Draining,
    /// Owns nothing any more; it is going, or was drained.
    Terminating,
    /// Does not answer, and was not given up yet.
    Suspect,
    /// Was given up: others own its targets.
    Dead,
}

impl MemberState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Viewer,
        Self::Participant,
        Self::Draining,
        Self::Terminating,
        Self::Suspect,
        Self::Dead,
    ];

    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Participant => "participant",
            Self::Draining => "draining",
            Self::Terminating => "terminating",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        }
    }

    /// The nearest of Alloy's three states; `None`: Alloy does not list such a node.
    pub fn alloy(self) -> Option<&'static str> {
        match self {
            Self::Viewer => Some("viewer"),
            Self::Participant | Self::Suspect => Some("participant"),
            Self::Draining | Self::Terminating => Some("terminating"),
            Self::Dead => None,
        }
    }
}

/// A member as this node knows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberView {
    /// `--cluster.node-name`.
    pub name: String,
    /// The node that answers.
    pub is_self: bool,
    /// What it is doing.
    pub state: MemberState,
    /// Where it takes gossip and streams.
    pub gossip_address: String,
    /// Where its API is.
    pub http_address: String,
    /// Rises with each start and each false death.
    pub incarnation: u64,
    /// `--cluster.zone`.
    pub zone: String,
    /// `--cluster.weight`.
    pub weight: u32,
    /// `--cluster.samples-per-second-max`.
    pub samples_per_second_max: Option<u32>,
    /// Targets that cost much, as it tells the others.
    pub heavy_targets: u64,
    /// Release.
    pub software: String,
    /// Which part of the ring is its own, 0 to 1.
    pub ring_share: f64,
    /// Targets that it owns, of those that this node's discovery knows.
    pub targets: u64,
    /// What it logs; `None`: not asked, or it did not answer.
    pub samples_per_second: Option<f64>,
    /// The change that it plans.
    pub next_change: Option<NextChange>,
    /// When this node last heard from it.
    pub last_contact_ms: Option<i64>,
    /// Its clock less this node's, as measured; `None`: not measured.
    pub clock_skew_ms: Option<i64>,
    /// Since when it is dead.
    pub dead_since_ms: Option<i64>,
    /// Who gave it up.
    pub accused_by: String,
}

/// A planned change of one member.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NextChange {
    /// The first slot time that it holds for.
    pub at_ms: i64,
    /// `join`, `leave`, `weight`, `jobs` or `heavy`, joined by `, `.
    pub what: String,
    /// Whether all have said in time that they know it; if not, it does not happen.
    pub is_agreed: bool,
}

/// A change of who is active, and what it moved.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MoveView {
    /// From which slot time on.
    pub at_ms: i64,
    /// `join`, `leave`, `crash`, `weight`, `jobs` or `heavy`, joined by `, `.
    pub cause: String,
    /// The nodes that changed.
    pub nodes: Vec<String>,
    /// Targets with another owner than before.
    pub targets: u64,
    /// The same by both owners, most first.
    pub flows: Vec<Flow>,
}

/// Targets that go from one node to another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Flow {
    /// Owner before; `None`: nobody.
    pub from: Option<String>,
    /// Owner after; `None`: nobody.
    pub to: Option<String>,
    /// How many.
    pub targets: u64,
}

/// A job whose settings differ between members.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DriftView {
    /// Its name; its number in hexadecimal if this node does not have the job.
    pub job: String,
    /// The settings in use, by most members; the others own nothing of the job.
    pub versions: Vec<DriftVersion>,
}

/// Members with equal settings of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DriftVersion {
    /// Hash of the settings, in hexadecimal; empty: they do not have the job.
    pub config_hash: String,
    /// Whether these are the settings that count.
    pub is_in_force: bool,
    /// Who has them.
    pub nodes: Vec<String>,
}

/// `data` of `/api/v1/cluster/owner`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnersView {
    /// The node that answers.
    pub this_node: String,
    /// Its clock.
    pub now_ms: i64,
    /// How many targets fit the question.
    pub matched: u64,
    /// The first of them, by job and URL.
    pub owners: Vec<OwnerView>,
}

/// Who owns one target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerView {
    /// `job_name`.
    pub job: String,
    /// Where it is scraped.
    pub url: String,
    /// Its key, in hexadecimal.
    pub key: String,
    /// Final labels.
    pub labels: BTreeMap<String, String>,
    /// Who scrapes it; `None`: nobody.
    pub owner: Option<String>,
    /// In one sentence.
    pub why: String,
    /// Since when; `None`: for as long as this node remembers.
    pub since_ms: Option<i64>,
    /// Who owned it before that.
    pub before: Option<String>,
    /// The next owner, if a change is agreed.
    pub next: Option<NextOwner>,
    /// The owner if the node asked about leaves.
    pub without: Option<WithoutView>,
}

/// Who owns a target after a change that is agreed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NextOwner {
    /// Who; `None`: nobody.
    pub owner: Option<String>,
    /// From which slot time on.
    pub from_ms: i64,
}

/// Who owns a target if a node leaves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WithoutView {
    /// The node that leaves.
    pub node: String,
    /// Who; `None`: nobody.
    pub owner: Option<String>,
}

/// `data` of `/api/v1/cluster/what-if`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WhatIfView {
    /// The node that leaves.
    pub leave: String,
    /// Targets that this node's discovery knows.
    pub targets: u64,
    /// How many get another owner.
    pub moved: u64,
    /// How many nobody scrapes afterwards.
    pub unowned: u64,
    /// Per node, by name.
    pub nodes: Vec<WhatIfNode>,
}

/// What a change means for one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WhatIfNode {
    /// Its name.
    pub name: String,
    /// Targets now.
    pub before: u64,
    /// Targets afterwards.
    pub after: u64,
}

/// `data` of `/api/v1/cluster/targets`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetsView {
    /// The node that answers.
    pub this_node: String,
    /// Its clock.
    pub now_ms: i64,
    /// Targets that this node's discovery knows.
    pub total: u64,
    /// How many fit the filter.
    pub matched: u64,
    /// How many of these were skipped.
    pub offset: u64,
    /// All jobs, for a filter.
    pub jobs: Vec<JobTargets>,
    /// The page, by job and URL.
    pub targets: Vec<TargetView>,
    /// What went wrong while other nodes were asked.
    pub warnings: Vec<String>,
}

/// A job and how many targets of the fleet it has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobTargets {
    /// `job_name`.
    pub name: String,
    /// Active targets, whoever owns them.
    pub targets: u64,
}

/// One target of the fleet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetView {
    /// `job_name`.
    pub job: String,
    /// Where it is scraped.
    pub url: String,
    /// Its key, in hexadecimal.
    pub key: String,
    /// Final labels.
    pub labels: BTreeMap<String, String>,
    /// Time between two scrapes.
    pub interval_ms: u64,
    /// Who scrapes it; `None`: nobody.
    pub owner: Option<String>,
    /// Why nobody does; empty: somebody does.
    pub why_unowned: String,
    /// The next owner, if a change is agreed.
    pub next: Option<NextOwner>,
    /// Its last scrape; `None`: another node knows, and was not asked or did not answer.
    pub health: Option<HealthView>,
}

/// The last scrape of a target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthView {
    /// `up`, `down` or `unknown`.
    pub health: String,
    /// Why it is down.
    pub last_error: String,
    /// Its start.
    pub last_scrape_ms: Option<i64>,
    /// Its duration, in seconds.
    pub last_duration_s: f64,
}

/// `data` of `/api/v1/overview`: this process at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OverviewView {
    /// Release.
    pub version: String,
    /// This node's clock.
    pub now_ms: i64,
    /// Start of the process.
    pub started_ms: i64,
    /// Data plane threads.
    pub shards: u64,
    /// Targets that this process scrapes.
    pub targets: u64,
    /// Samples logged since the start.
    pub samples_total: u64,
    /// Over the last minute, or since the start.
    pub samples_per_second: f64,
    /// Scrapes since the start, by result.
    pub scrapes: BTreeMap<String, u64>,
    /// Slots in which a target was not scraped, since the start.
    pub slots_missed: u64,
    /// Samples deleted from the log before every endpoint had them, since the start.
    pub samples_lost: u64,
    /// Where samples are sent.
    pub endpoints: Vec<EndpointView>,
}

/// A remote write endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointView {
    /// Its name.
    pub name: String,
    /// URL without credentials.
    pub url: String,
    /// Age of the oldest sample that it has not acknowledged.
    pub lag_ms: u64,
    /// Bytes of the log that it has not acknowledged, about.
    pub left_bytes: u64,
    /// Samples of the log that it has not acknowledged, about.
    pub left_samples: u64,
    /// Seconds until it has everything, going by the last half minute; none while what is left
    /// grows.
    pub left_seconds: Option<f64>,
    /// Samples read for sending and not acknowledged.
    pub pending: u64,
    /// Samples acknowledged since the start.
    pub sent: u64,
    /// Samples that it refused for good, since the start.
    pub failed: u64,
    /// Samples of requests that were repeated, since the start.
    pub retried: u64,
}

/// An entry of `/api/v0/web/peers`, as Alloy writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AlloyPeer {
    /// Node name.
    pub name: String,
    /// Where it takes gossip.
    pub addr: String,
    /// The node that answers.
    pub is_self: bool,
    /// `viewer`, `participant` or `terminating`.
    pub state: String,
}
