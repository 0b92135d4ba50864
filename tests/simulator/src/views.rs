//! Views of many nodes -> one number for each different one, with who owns the followed targets.
//!
//! A thousand nodes that agree hold a thousand equal views; asking one of them is enough.

use crate::network::NodeId;
use crate::world::World;
use ringscrape_cluster::member::JobId;
use ringscrape_cluster::{TargetKey, View};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::Xxh3;

/// Equal for views with equal members.
pub(crate) type ViewId = u32;

/// The different views.
#[derive(Debug)]
pub(crate) struct Views {
    nodes: BTreeMap<String, NodeId>,
    by_hash: BTreeMap<u128, ViewId>,
    all: Vec<Known>,
    /// The targets that are followed, and of which job each is.
    followed: Vec<(JobId, TargetKey)>,
}

#[derive(Debug)]
struct Known {
    members: Vec<NodeId>,
    /// Whether all members have the same jobs and the same weight.
    is_even: bool,
    /// For each followed target; `NOBODY` if no member has its job. Found when they are first
    /// needed: most views are replaced before they hold.
    owners: OnceCell<Vec<u16>>,
}

/// Instead of an owner.
pub(crate) const NOBODY: u16 = u16::MAX;

impl Views {
    /// `names`: of all nodes that there may be, by their number.
    pub(crate) fn new(names: &[String]) -> Self {
        let numbered = names.iter().enumerate();
        Self {
            nodes: numbered.map(|(node, name)| (name.clone(), node)).collect(),
            by_hash: BTreeMap::new(),
            all: Vec::new(),
            followed: Vec::new(),
        }
    }

    /// The number of a view.
    pub(crate) fn id(&mut self, view: &View, world: &World) -> ViewId {
        let hash = hash(view);
        if let Some(id) = self.by_hash.get(&hash) {
            return *id;
        }
        let node = |name: &str| self.nodes.get(name).map_or(NOBODY, |node| *node as u16);
        if self.followed.is_empty() {
            let followed = world.followed().iter();
            let followed = followed.map(|target| (world.jobs[target.job], target.key));
            self.followed = followed.collect();
        }
        let known = Known {
            owners: OnceCell::new(),
            members: view
                .members()
                .iter()
                .map(|m| node(&m.name).into())
                .collect(),
            is_even: view.members().windows(2).all(|pair| {
                let [a, b] = [&pair[0].stage, &pair[1].stage];
                let same_jobs = a.jobs.len() == b.jobs.len()
                    && a.jobs
                        .iter()
                        .zip(b.jobs.iter())
                        .all(|(a, b)| (a.job, a.config_hash) == (b.job, b.config_hash));
                same_jobs && a.weight == b.weight && a.heavy.is_empty() && b.heavy.is_empty()
            }),
        };
        let id = self.all.len() as ViewId;
        self.all.push(known);
        self.by_hash.insert(hash, id);
        id
    }

    /// Who owns a followed target; `None`: nobody, or nobody has needed to know yet.
    pub(crate) fn owner(&self, id: ViewId, target: usize) -> Option<NodeId> {
        let owner = *self.all[id as usize].owners.get()?.get(target)?;
        (owner != NOBODY).then_some(owner.into())
    }

    /// Owners of all followed targets at once; `u16::MAX`: nobody.
    pub(crate) fn owners(&self, id: ViewId, view: &View) -> &[u16] {
        self.all[id as usize].owners.get_or_init(|| {
            // What a view finds out it keeps: a thousand nodes would keep a thousand times that.
            let view = View::new(view.members().to_vec());
            let node = |name: &str| self.nodes.get(name).map_or(NOBODY, |node| *node as u16);
            let owner =
                |(job, key): &(JobId, TargetKey)| view.owner(*job, *key).map_or(NOBODY, node);
            self.followed.iter().map(owner).collect()
        })
    }

    /// The active members.
    pub(crate) fn members(&self, id: ViewId) -> &[NodeId] {
        &self.all[id as usize].members
    }

    /// Whether nothing but their names tells the members apart.
    pub(crate) fn is_even(&self, id: ViewId) -> bool {
        self.all[id as usize].is_even
    }

    /// How many different ones there were.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }
}

/// Of all that decides about owners. When a stage began does not.
fn hash(view: &View) -> u128 {
    let mut hasher = Xxh3::new();
    for member in view.members() {
        hasher.update(&(member.name.len() as u32).to_le_bytes());
        hasher.update(member.name.as_bytes());
        hasher.update(&(member.zone.len() as u32).to_le_bytes());
        hasher.update(member.zone.as_bytes());
        let stage = &member.stage;
        hasher.update(&stage.weight.to_le_bytes());
        hasher.update(&(stage.jobs.len() as u64).to_le_bytes());
        for job in stage.jobs.iter() {
            for number in [job.job.0, job.config_hash, job.since_ms as u64] {
                hasher.update(&number.to_le_bytes());
            }
        }
        for heavy in stage.heavy.iter() {
            for number in [heavy.job.0, heavy.key, heavy.samples_per_s.into()] {
                hasher.update(&number.to_le_bytes());
            }
        }
    }
    hasher.digest128()
}
