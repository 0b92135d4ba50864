//! What a node says of itself: the entry that all others keep of it.
//!
//! Only the node itself writes its entry. Of two entries of one name the one with the higher
//! incarnation counts, then the one with the higher version.

use crate::key::TargetKey;
use crate::spot::{Replica, Spot};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// A node, as the table knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Unique in the cluster; its tokens on the ring come from it.
    pub name: Arc<str>,
    /// Rises with each start and whenever the others believed it dead.
    pub incarnation: u64,
    /// Rises with each change of this entry, within an incarnation.
    pub version: u64,
    /// The cluster that it belongs to.
    pub founder: Founder,
    /// Where it takes gossip and streams.
    pub gossip_address: SocketAddr,
    /// Where its API is, as `host:port`.
    pub http_address: Arc<str>,
    /// Its zone; empty = none.
    pub zone: Arc<str>,
    /// Release of the program, for people.
    pub software: Arc<str>,
    /// What is in force.
    pub now: Stage,
    /// What follows at a time that all nodes have agreed on, or are being asked about.
    pub next: Option<Planned>,
}

/// Which cluster a node belongs to: set by the node that found nobody to join, taken over by those
/// who join it. Of two clusters that meet the older one stays, the nodes of the other join it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Founder {
    /// When, in ms since the Unix epoch.
    pub founded_ms: i64,
    /// Random.
    pub id: u64,
}

/// All of a node that decides who owns what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// The first slot time that it holds for, in ms since the Unix epoch.
    pub from_ms: i64,
    /// Whether the node scrapes.
    pub is_active: bool,
    /// How much it can take, relative to others.
    pub weight: u32,
    /// The jobs that it can scrape, sorted by job.
    pub jobs: Arc<[JobVersion]>,
    /// Targets that cost much, and what else it says of loads, sorted.
    pub heavy: Arc<[HeavyTarget]>,
}

/// A planned change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// What holds from `stage.from_ms` on, if it is agreed.
    pub stage: Stage,
    /// Whether all active members had said that they know it, in time.
    pub is_agreed: bool,
    /// When it was proposed, by the clock of its node. Who hears of it by its own clock too late
    /// does not say that it knows it.
    pub proposed_ms: i64,
}

/// What of an entry decides who scrapes when.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Effect<'a> {
    incarnation: u64,
    zone: &'a str,
    now: &'a Stage,
    agreed: Option<&'a Stage>,
}

impl Effect<'_> {
    /// Whether it says of any time that the node scrapes.
    pub(crate) fn is_anything(&self) -> bool {
        self.now.is_active || self.agreed.is_some_and(|stage| stage.is_active)
    }
}

/// A job of a node's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobVersion {
    /// Which.
    pub job: JobId,
    /// Stable hash of its settings.
    pub config_hash: u64,
    /// Since when the node has these settings, in ms since the Unix epoch.
    pub since_ms: i64,
}

/// Stable hash of a job's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

impl JobId {
    /// XXH3-64, seed 0, of the name.
    pub fn new(job_name: &str) -> Self {
        Self(xxh3_64(job_name.as_bytes()))
    }
}

/// Which zone a node or a target is in.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ZoneId(pub u64);

impl ZoneId {
    /// In none.
    pub const NONE: Self = Self(0);

    /// XXH3-64, seed 0, of the name; [`Self::NONE`] for an empty one.
    pub fn new(name: &str) -> Self {
        match name {
            "" => Self::NONE,
            name => Self(xxh3_64(name.as_bytes())),
        }
    }
}

/// A target that costs so much that it is placed by its cost; or what else a node says of loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HeavyTarget {
    /// Its position on the ring, which is a replica's own.
    pub key: u64,
    /// Its job.
    pub job: JobId,
    /// Its zone.
    pub zone: ZoneId,
    /// Which replica.
    pub replica: Replica,
    /// What it costs, in samples a second.
    pub samples_per_s: u32,
}

impl HeavyTarget {
    /// In the place of a job: all targets of the cluster in one zone that no node lists, together,
    /// as the node estimates.
    pub const REST: JobId = JobId(0);
    /// In the place of a job: how much the node takes at most.
    pub const BUDGET: JobId = JobId(u64::MAX);

    /// What the targets of a zone cost that no node of the cluster lists, together: the replicas
    /// with one index. Only when some node tells this are they placed by cost, too.
    pub fn rest(zone: ZoneId, index: u8, samples_per_s: u32) -> Self {
        Self {
            key: 0,
            job: Self::REST,
            zone,
            replica: Replica { index, count: 0 },
            samples_per_s,
        }
    }

    /// How much the node takes at most: what no node has room for is scraped by none.
    pub fn budget(samples_per_s: u32) -> Self {
        Self {
            key: 0,
            job: Self::BUDGET,
            zone: ZoneId::NONE,
            replica: Replica::ONLY,
            samples_per_s,
        }
    }

    /// What decides who scrapes it.
    pub fn spot(&self) -> Spot {
        Spot {
            key: TargetKey(self.key),
            zone: self.zone,
            replica: self.replica,
        }
    }

    /// Whether it is a target.
    pub fn is_target(&self) -> bool {
        self.job != Self::REST && self.job != Self::BUDGET
    }
}

impl Member {
    pub(crate) fn effect(&self) -> Effect<'_> {
        let agreed = self.next.as_ref().filter(|next| next.is_agreed);
        Effect {
            incarnation: self.incarnation,
            zone: &self.zone,
            now: &self.now,
            agreed: agreed.map(|next| &next.stage),
        }
    }

    /// What holds at a slot time.
    pub fn stage_at(&self, slot_ms: i64) -> &Stage {
        match &self.next {
            Some(next) if next.is_agreed && next.stage.from_ms <= slot_ms => &next.stage,
            _ => &self.now,
        }
    }
}

impl Stage {
    /// The node's version of a job.
    pub fn job(&self, job: JobId) -> Option<&JobVersion> {
        let index = self.jobs.binary_search_by_key(&job, |version| version.job);
        index.ok().map(|index| &self.jobs[index])
    }
}
