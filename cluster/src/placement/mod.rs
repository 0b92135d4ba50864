//! What targets cost and how much members can take -> who scrapes the targets that cost much, and
//! which part of all others each member gets.
//!
//! A target that costs much goes to the first member at or after it on the ring that has room for
//! it: a share by weight of all load, and a little more. The others fill the members up to one
//! level, bucket by bucket. So load is level by cost, and little moves when it changes.
//!
//! A target of a zone stays there as long as its members can take it: up to their budgets, or half
//! more than a level load. A member takes no more than its budget, by what is known of costs: what
//! nobody has room for is refused, the same everywhere, as all of this follows from the table.
//!
//! Of the replicas of a target no two are one member's: each bucket is dealt out once for each
//! index of replicas, to a member that has none of its lower indexes.
//!
//! Source: Mirrokni, Thorup, Zadimoghaddam, Consistent Hashing with Bounded Loads, 2016.

mod fill;
mod group;
#[cfg(test)]
mod replica_tests;
#[cfg(test)]
mod tests;

use crate::key::TargetKey;
use crate::member::{HeavyTarget, JobId, ZoneId};
use crate::spot::REPLICAS_MAX;
use crate::view::Active;
pub(crate) use group::Group;
use group::Part;
pub use group::ZoneFit;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// By how much a member's share may be exceeded by targets that cost much.
const HEAVY_SLACK: f64 = 0.05;
/// How far above a level load a member without a budget is filled with targets of its own zone.
const ZONE_STRETCH: f64 = 1.5;
/// In the place of a member: none has room.
pub(crate) const NOBODY: u32 = u32::MAX;

/// What members have told of the costs of targets.
#[derive(Debug)]
pub(crate) struct Costs {
    /// Falling, then by job and key; each target once.
    heavy: Vec<HeavyTarget>,
    /// Of all other targets together, by index of the replica and zone; empty: nobody has told.
    rest: BTreeMap<(u8, ZoneId), f64>,
}

/// What each member has and may have, in samples a second.
#[derive(Debug)]
pub(crate) struct Loads {
    /// By member.
    weights: Vec<f64>,
    /// What it takes at most.
    budgets: Vec<f64>,
    /// Up to where it is filled with targets of its own zone.
    most_in_zone: Vec<f64>,
    /// What it has got of the targets that cost much.
    heavy: Vec<f64>,
}

impl Costs {
    /// `None`: nobody has told anything.
    pub(crate) fn new(members: &[Active]) -> Option<Self> {
        let mut heavy = BTreeMap::<(JobId, u64), (i64, HeavyTarget)>::new();
        let (mut rest, mut tellers) = (BTreeMap::<(u8, ZoneId), f64>::new(), 0usize);
        for stage in members.iter().map(|member| &member.stage) {
            for target in stage.heavy.iter().filter(|target| target.is_target()) {
                // Who owned it and who owns it now may both tell of it: the last word counts.
                let word = (stage.from_ms, *target);
                let last = heavy.entry((target.job, target.key)).or_insert(word);
                let order = |one: &(i64, HeavyTarget)| (one.0, one.1.samples_per_s, one.1.zone);
                if order(&word) > order(last) {
                    *last = word;
                }
            }
            let of_rest = |target: &&HeavyTarget| target.job == HeavyTarget::REST;
            tellers += usize::from(stage.heavy.iter().any(|target| of_rest(&target)));
            for target in stage.heavy.iter().filter(of_rest) {
                let index = target.replica.index.min(REPLICAS_MAX - 1);
                let sum = rest.entry((index, target.zone)).or_default();
                *sum += f64::from(target.samples_per_s);
            }
        }
        // Each tells of all: what is true is about what they say on average.
        rest.values_mut()
            .for_each(|sum| *sum /= tellers.max(1) as f64);
        // Replicas that there are not enough members for are nobody's load.
        let takers = members.iter().filter(|member| member.stage.weight > 0);
        let takers = takers.count();
        rest.retain(|(index, _), sum| *sum > 0.0 && usize::from(*index) < takers);
        let mut heavy: Vec<HeavyTarget> = heavy.into_values().map(|(_, target)| target).collect();
        heavy.sort_by_key(|target| (Reverse(target.samples_per_s), target.job, target.key));
        (!rest.is_empty() || !heavy.is_empty()).then_some(Self { heavy, rest })
    }

    /// Who gets which of the targets that cost much. `group_of`: the members that scrape a job.
    pub(crate) fn place<'a>(
        &self,
        members: &[Active],
        group_of: impl Fn(JobId) -> Option<&'a Group>,
    ) -> (HashMap<JobId, HashMap<u64, u32>>, Loads) {
        let mut loads = self.loads(members);
        let level = self.total(|_| true) / loads.weights.iter().sum::<f64>().max(1.0);
        let level_of_zone = self.levels_of_zones(members, &loads);
        let mut owners = HashMap::<JobId, HashMap<u64, u32>>::new();
        for target in &self.heavy {
            let Some(group) = group_of(target.job).filter(|group| !group.whole.indexes.is_empty())
            else {
                continue;
            };
            let of_job = owners.entry(target.job).or_default();
            if !group.has_member_for(target.replica.index) {
                of_job.insert(target.key, NOBODY);
                continue;
            }
            // Their number may have changed since the target was told of: all that there can be.
            let mut spot = target.spot();
            spot.replica.count = REPLICAS_MAX;
            let siblings = spot.siblings();
            let taken = siblings.filter_map(|sibling| of_job.get(&sibling.key.0).copied());
            let one = Heavy {
                target,
                taken: taken.collect(),
            };
            let own = group.zones.get(&target.zone);
            let own_level = level_of_zone.get(&target.zone).copied().unwrap_or(level);
            let find = |part, level: f64, most: &[f64]| {
                loads.first(part, &one, level * (1.0 + HEAVY_SLACK), most)
            };
            let in_zone = |part: &'a Part| {
                find(part, own_level, &loads.budgets)
                    .or_else(|| loads.least(part, &one, &loads.most_in_zone))
            };
            let owner = own
                .and_then(in_zone)
                .or_else(|| find(&group.whole, level, &loads.budgets))
                // More than a share, wherever it is: then rather at home.
                .or_else(|| own.and_then(|part| loads.least(part, &one, &loads.budgets)))
                .or_else(|| loads.least(&group.whole, &one, &loads.budgets))
                .unwrap_or(NOBODY);
            if let Some(load) = loads.heavy.get_mut(owner as usize) {
                *load += f64::from(target.samples_per_s);
            }
            of_job.insert(target.key, owner);
        }
        (owners, loads)
    }

    /// Deals out all other targets. Nobody tells which jobs they are of: members that alone scrape
    /// some jobs are taken to have as much of them as of all others, by weight.
    pub(crate) fn fill(&self, group: &mut Group, loads: &Loads) {
        if self.rest.is_empty() {
            return;
        }
        let weight = |index: &u32| loads.weights[*index as usize];
        let of_group: f64 = group.whole.indexes.iter().map(weight).sum();
        let of_all: f64 = loads.weights.iter().sum();
        let part = of_group / of_all.max(1.0);
        let rest = self.rest.iter().map(|(of, sum)| (*of, sum * part));
        group.fill(&rest.collect(), loads);
    }

    /// What the targets of some zones cost together.
    fn total(&self, is_meant: impl Fn(ZoneId) -> bool) -> f64 {
        let heavy = self.heavy.iter().filter(|target| is_meant(target.zone));
        let heavy: f64 = heavy.map(|target| f64::from(target.samples_per_s)).sum();
        let rest = self.rest.iter().filter(|((_, zone), _)| is_meant(*zone));
        heavy + rest.map(|(_, sum)| sum).sum::<f64>()
    }

    fn loads(&self, members: &[Active]) -> Loads {
        let weights: Vec<f64> = members.iter().map(|m| f64::from(m.stage.weight)).collect();
        let level = self.total(|_| true) / weights.iter().sum::<f64>().max(1.0);
        let budgets: Vec<f64> = members.iter().map(budget).collect();
        let in_zone = |(weight, budget): (&f64, &f64)| match budget.is_finite() {
            true => *budget,
            false => level * weight * ZONE_STRETCH,
        };
        Loads {
            most_in_zone: weights.iter().zip(&budgets).map(in_zone).collect(),
            heavy: vec![0.0; members.len()],
            weights,
            budgets,
        }
    }

    /// By weight, what the members of a zone have of its targets.
    fn levels_of_zones(&self, members: &[Active], loads: &Loads) -> BTreeMap<ZoneId, f64> {
        let mut zones = BTreeMap::<ZoneId, (f64, f64)>::new();
        for (index, member) in members.iter().enumerate() {
            let (weight, most) = zones.entry(ZoneId::new(&member.zone)).or_default();
            *weight += loads.weights[index];
            *most += loads.most_in_zone[index];
        }
        let level = |(zone, (weight, most)): (ZoneId, (f64, f64))| {
            let own = self.total(|of| of == zone);
            (zone, own.min(most) / weight.max(1.0))
        };
        zones.into_iter().map(level).collect()
    }
}

/// A target that costs much, and who has other replicas of it.
struct Heavy<'a> {
    target: &'a HeavyTarget,
    taken: Vec<u32>,
}

impl Loads {
    /// By weight, what a member has if it gets a target, too; `None`: that is more than it may, or
    /// it has another replica.
    fn after(&self, member: u32, one: &Heavy<'_>, most: &[f64]) -> Option<f64> {
        let index = member as usize;
        let after = self.heavy[index] + f64::from(one.target.samples_per_s);
        let may = after <= most[index] && !one.taken.contains(&member);
        may.then_some(after / self.weights[index])
    }

    /// The first at or after the target on the ring that does not come above a level by weight.
    fn first(&self, part: &Part, one: &Heavy<'_>, level: f64, most: &[f64]) -> Option<u32> {
        let has_room = |member: &u32| {
            let after = self.after(*member, one, most);
            after.is_some_and(|after| after <= level)
        };
        around(part, one.target).find(has_room)
    }

    /// The one that has least with it; of equal ones the first at or after it on the ring.
    fn least(&self, part: &Part, one: &Heavy<'_>, most: &[f64]) -> Option<u32> {
        let all = around(part, one.target).chain(part.indexes.iter().copied());
        let may = all.filter_map(|member| Some((self.after(member, one, most)?, member)));
        may.min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, member)| member)
    }
}

/// The members at and after a target on the ring. Far round the ring all have been asked.
fn around<'a>(part: &'a Part, target: &HeavyTarget) -> impl Iterator<Item = u32> + 'a {
    let around = part.ring.around(TargetKey(target.key));
    let some = around.take(8 * part.indexes.len());
    some.map(|at| part.indexes[at as usize])
}

/// What a member takes at most.
fn budget(member: &Active) -> f64 {
    let heavy = member.stage.heavy.iter();
    let budgets = heavy.filter(|target| target.job == HeavyTarget::BUDGET);
    let budget = budgets.map(|target| target.samples_per_s).min();
    budget.map_or(f64::INFINITY, f64::from)
}
