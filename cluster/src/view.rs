//! The members that are active at one time -> who owns which target.

use crate::key::TargetKey;
use crate::member::{HeavyTarget, JobId, Stage};
pub use crate::placement::ZoneFit;
use crate::placement::{Costs, Group, NOBODY};
use crate::spot::Spot;
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
    /// The targets that are placed by their cost, by key; `NOBODY`: no member has room for it.
    heavy: HashMap<u64, u32>,
}

/// Where a target is, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Who scrapes it, as an index of [`View::members`].
    pub owner: Option<u32>,
    /// What decides it.
    pub by: PlacedBy,
    /// Whether it is where its zone is.
    pub zone: ZoneFit,
}

/// What decides where a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacedBy {
    /// The ring alone: no node has told of costs.
    Ring,
    /// The ring, so that the members come to one level by what all targets cost.
    Level,
    /// What it costs itself.
    Cost,
    /// What it costs, or all do: it is more than the members may take.
    Budget,
    /// There are no more members than the target has other replicas.
    Spare,
}

impl JobRing {
    /// Who scrapes a target of the job that has no zone, as an index of [`View::members`].
    /// `None`: nobody who has the job has a weight, or room for it.
    pub fn owner_index(&self, key: TargetKey) -> Option<u32> {
        self.owner_of(&Spot::plain(key))
    }

    /// Who scrapes a target of the job, as an index of [`View::members`].
    pub fn owner_of(&self, spot: &Spot) -> Option<u32> {
        self.find(spot).filter(|owner| *owner != NOBODY)
    }

    /// The same, or [`NOBODY`] if all who might have no room.
    fn find(&self, spot: &Spot) -> Option<u32> {
        let of_cost = |spot: &Spot| self.heavy.get(&spot.key.0).copied();
        if let Some(owner) = of_cost(spot) {
            return Some(owner);
        }
        if spot.replica.count < 2 {
            return self.group.owner(spot, &[]);
        }
        if self.is_spare(spot) {
            return None;
        }
        // In the order in which they choose: those that cost much, then by index. One that is
        // refused is nobody's, and does not send others to those who have no room.
        let somebody = |owner: &u32| *owner != NOBODY;
        let of_siblings = spot.siblings().filter_map(|sibling| of_cost(&sibling));
        let mut taken: Vec<u32> = of_siblings.filter(somebody).collect();
        for sibling in spot.siblings().take(spot.replica.index.into()) {
            if of_cost(&sibling).is_none() {
                taken.extend(self.group.owner(&sibling, &taken).filter(somebody));
            }
        }
        self.group.owner(spot, &taken)
    }

    /// Where a target is, and why.
    pub fn place(&self, spot: &Spot) -> Place {
        let owner = self.owner_of(spot);
        let by = if owner.is_none() && self.is_spare(spot) {
            PlacedBy::Spare
        } else if owner.is_none() && self.is_refused(spot) {
            PlacedBy::Budget
        } else if self.is_heavy(spot.key) {
            PlacedBy::Cost
        } else if self.group.is_level() {
            PlacedBy::Level
        } else {
            PlacedBy::Ring
        };
        let fit = |owner| self.group.zone_fit(owner, spot.zone);
        let zone = owner.map_or(ZoneFit::Any, fit);
        Place { owner, by, zone }
    }

    /// Whether no member that has the job has room for a target.
    pub fn is_refused(&self, spot: &Spot) -> bool {
        !self.is_spare(spot) && self.find(spot) == Some(NOBODY)
    }

    /// Whether there are no more members that have the job and a weight than the target has
    /// replicas before this one: it waits for another member.
    pub fn is_spare(&self, spot: &Spot) -> bool {
        spot.replica.index > 0 && !self.group.has_member_for(spot.replica.index)
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

    /// Whether some member takes a certain amount at most.
    pub fn has_budgets(&self) -> bool {
        let mut heavy = self.members.iter().flat_map(|one| one.stage.heavy.iter());
        heavy.any(|target| target.job == HeavyTarget::BUDGET)
    }

    /// The active members, sorted by name.
    pub fn members(&self) -> &[Active] {
        &self.members
    }

    /// What is agreed on a job; `None`: no active member has it.
    pub fn job(&self, job: JobId) -> Option<&JobRing> {
        self.jobs().get(&job)
    }

    /// Who scrapes a target without zone and replicas. `None`: no active member has the job, or
    /// room.
    pub fn owner(&self, job: JobId, key: TargetKey) -> Option<&str> {
        self.owner_of(job, &Spot::plain(key))
    }

    /// Who scrapes a target. `None`: no active member has the job, or room.
    pub fn owner_of(&self, job: JobId, spot: &Spot) -> Option<&str> {
        let index = self.jobs().get(&job)?.owner_of(spot)?;
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
            let votes = of_job.entry(version.config_hash).or_insert(Votes {
                members: Vec::new(),
                since_ms: version.since_ms,
            });
            votes.members.push(index as u32);
            votes.since_ms = votes.since_ms.min(version.since_ms);
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
        let group_of = |job| Some(&all_groups[*group_of.get(&job)?]);
        let (owners, loads) = costs.place(members, group_of);
        heavy = owners;
        for group in &mut all_groups {
            costs.fill(group, &loads);
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

/// Who has one version of a job.
struct Votes {
    members: Vec<u32>,
    /// Since when the first of them has it.
    since_ms: i64,
}
