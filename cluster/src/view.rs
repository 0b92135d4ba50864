//! The members that are active at one time -> who owns which target.

use crate::key::TargetKey;
use crate::member::{JobId, Stage};
use crate::placement::{Costs, bucket_of};
use crate::ring::Ring;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

/// A member that is active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// Its name.
    pub name: Arc<str>,
    /// Its zone; empty = none.
    pub zone: Arc<str>,
    /// What holds for it.
    pub stage: Stage,
}

/// Who owns what, as long as nothing changes. Immutable; equal for equal members on every node.
#[derive(Debug, Default)]
pub struct View {
    /// Sorted by name.
    members: Vec<Active>,
    /// Made when first asked for: many views are over, or replaced, before anybody asks.
    jobs: OnceLock<HashMap<JobId, JobRing>>,
}

/// The members that scrape a job.
#[derive(Debug, Clone)]
pub struct JobRing {
    /// The settings that they agree on.
    pub config_hash: u64,
    /// Members with other settings: they own nothing of the job.
    pub others: u32,
    group: Arc<Group>,
    /// The targets that are placed by their cost, by key.
    heavy: HashMap<u64, u32>,
}

/// The members that scrape the same jobs.
#[derive(Debug)]
struct Group {
    ring: Ring,
    /// By index in the ring: index in the view's members.
    indexes: Vec<u32>,
    /// By bucket; `None`: the ring tells, as nobody has told of costs.
    buckets: Option<Vec<u32>>,
}

impl JobRing {
    /// Who scrapes a target of the job, as an index of [`View::members`]. `None`: nobody who has
    /// the job has a weight.
    pub fn owner_index(&self, key: TargetKey) -> Option<u32> {
        if let Some(owner) = self.heavy.get(&key.0) {
            return Some(*owner);
        }
        let group = &*self.group;
        if let Some(buckets) = &group.buckets {
            return buckets.get(bucket_of(key)).copied();
        }
        let index = group.ring.owner_index(key)?;
        Some(group.indexes[index as usize])
    }

    /// Whether a target is placed by its cost.
    pub fn is_heavy(&self, key: TargetKey) -> bool {
        self.heavy.contains_key(&key.0)
    }
}

impl View {
    /// `members`: with `stage.is_active`, in any order, names unique.
    pub fn new(mut members: Vec<Active>) -> Self {
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            members,
            jobs: OnceLock::new(),
        }
    }

    fn jobs(&self) -> &HashMap<JobId, JobRing> {
        self.jobs.get_or_init(|| jobs_of(&self.members))
    }

    /// The active members, sorted by name.
    pub fn members(&self) -> &[Active] {
        &self.members
    }

    /// What is agreed on a job; `None`: no active member has it.
    pub fn job(&self, job: JobId) -> Option<&JobRing> {
        self.jobs().get(&job)
    }

    /// Who scrapes a target. `None`: no active member has the job.
    pub fn owner(&self, job: JobId, key: TargetKey) -> Option<&str> {
        let index = self.jobs().get(&job)?.owner_index(key)?;
        Some(&self.members[index as usize].name)
    }

    /// The index of a member.
    pub fn index_of(&self, name: &str) -> Option<u32> {
        let index = self
            .members
            .binary_search_by(|member| (*member.name).cmp(name));
        index.ok().map(|index| index as u32)
    }
}

/// What is agreed on each job: the settings that most members have, and who of these owns what.
fn jobs_of(members: &[Active]) -> HashMap<JobId, JobRing> {
    let mut versions = BTreeMap::<JobId, BTreeMap<u64, Votes>>::new();
    for (index, member) in members.iter().enumerate() {
        for version in member.stage.jobs.iter() {
            let of_job = versions.entry(version.job).or_default();
            let votes = of_job.entry(version.config_hash).or_default();
            votes.members.push(index as u32);
            votes.since_ms = votes.since_ms.max(version.since_ms);
        }
    }
    // Most jobs are scraped by all: they share one ring.
    let mut groups = HashMap::<Vec<u32>, usize>::new();
    let mut all_groups = Vec::<Group>::new();
    let mut agreed = Vec::with_capacity(versions.len());
    for (job, of_job) in versions {
        let all: usize = of_job.values().map(|votes| votes.members.len()).sum();
        let most = of_job
            .into_iter()
            .max_by_key(|(hash, votes)| (votes.members.len(), votes.since_ms, *hash));
        let Some((config_hash, votes)) = most else {
            continue;
        };
        let others = (all - votes.members.len()) as u32;
        let group = *groups.entry(votes.members).or_insert_with_key(|indexes| {
            all_groups.push(Group::new(members, indexes));
            all_groups.len() - 1
        });
        agreed.push((job, config_hash, others, group));
    }
    let mut heavy = HashMap::new();
    if let Some(costs) = Costs::new(members) {
        let group_of: HashMap<JobId, usize> = agreed
            .iter()
            .map(|(job, _, _, group)| (*job, *group))
            .collect();
        let ring_of = |job| {
            let group = &all_groups[*group_of.get(&job)?];
            Some((&group.ring, &*group.indexes))
        };
        let (owners, loads) = costs.place(members, ring_of);
        heavy = owners;
        for group in &mut all_groups {
            let buckets = costs.buckets(members, &loads, &group.ring, &group.indexes);
            group.buckets = buckets;
        }
    }
    let groups: Vec<Arc<Group>> = all_groups.into_iter().map(Arc::new).collect();
    let job_ring = |(job, config_hash, others, group): (JobId, u64, u32, usize)| {
        let of_job = JobRing {
            config_hash,
            others,
            group: groups[group].clone(),
            heavy: heavy.remove(&job).unwrap_or_default(),
        };
        (job, of_job)
    };
    agreed.into_iter().map(job_ring).collect()
}

impl Group {
    fn new(members: &[Active], indexes: &[u32]) -> Self {
        let weight = |index: &u32| members[*index as usize].stage.weight;
        let name = |index: &u32| members[*index as usize].name.to_string();
        // Names are sorted in a view as they are in a ring.
        let with_weight = indexes.iter().copied().filter(|index| weight(index) > 0);
        Self {
            ring: Ring::new(indexes.iter().map(|index| (name(index), weight(index)))),
            indexes: with_weight.collect(),
            buckets: None,
        }
    }
}

/// Who has one version of a job.
#[derive(Default)]
struct Votes {
    members: Vec<u32>,
    since_ms: i64,
}
