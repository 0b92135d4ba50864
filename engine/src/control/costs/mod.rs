//! What this node's targets cost, and what all nodes tell of costs -> what this node tells.
//!
//! Pure. What a node tells is agreed on by all nodes and moves targets, so it must not answer to
//! the moves that it has caused: a node tells of the targets that nobody lists what *all* of them
//! cost, by what its own ones cost on average, which stays the same whoever scrapes which. It lists
//! the targets of its own that cost much; when one of them goes to another node, it goes on until
//! that one lists it. And it says something new only if loads would be off without it.

#[cfg(test)]
mod tests;

use crate::mailbox::{CostReport, JobCost};
use crate::target::Target;
use ringscrape_cluster::member::{HeavyTarget, JobId, ZoneId};
use ringscrape_cluster::{Spot, View};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// A target is listed if it costs so much more than is usual,
const LIST_FACTOR: f64 = 4.0;
/// and if it costs at least this part of what a node has on average.
const LIST_SHARE: f64 = 1.0 / 300.0;
/// One that is listed stays so until it costs less than this part of that.
const UNLIST: f64 = 0.5;
/// A cost that differs by less from what was told is told as before.
const SAME: f64 = 0.1;
/// What was told is told anew when single costs are off by this part of a node's load on average,
const OFF_SHARE: f64 = 0.03;
/// or those of all others by this part of all,
const OFF_REST: f64 = 0.05;
/// or, as long as no single cost matters, when all costs are off by this part.
const OFF_ALONE: f64 = 0.5;
/// A node says what all targets cost if it knows at least this part of an equal share of them.
const KNOWN_SHARE: f64 = 0.25;
/// Targets that all nodes list at most.
const LISTED_MAX: usize = 50_000;
/// Targets that a node lists at most, and at least if it has so many.
const LISTED_OF_NODE: (usize, usize) = (16, 1_000);
/// How long a target is listed that another node has and does not list, or that nobody may take.
/// Then it is placed as if it cost little, so that somebody measures it.
const KEPT_MS: i64 = 600_000;
/// Least time between two changes.
const CHANGE_MS: i64 = 60_000;
/// When a node that has started looks at costs first,
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(10);
/// and how often then.
pub(super) const LOOK: Duration = Duration::from_secs(20);
/// How soon a target is listed whose lister is gone.
pub(super) const URGENT_LOOK: Duration = Duration::from_millis(200);

/// A target that can be listed: its job, and what its place follows from.
type Listed = (JobId, u64);

/// What a node knows of costs, and has told.
#[derive(Debug, Default)]
pub(super) struct Learner {
    /// `None`: as in its entry.
    told: Option<Arc<[HeavyTarget]>>,
    told_ms: Option<i64>,
    /// Targets that somebody lists, and who; or that were listed by nodes that are gone. So who
    /// gets one of them knows its cost before its first scrape.
    known: HashMap<Listed, (HeavyTarget, Arc<str>)>,
    /// Since when this node lists targets that others have, or nobody, and that nobody else lists.
    kept_since_ms: HashMap<Listed, i64>,
}

/// All that is looked at.
pub(super) struct Look<'a> {
    /// This node.
    pub(super) me: &'a str,
    /// What is agreed on, as far ahead as is known.
    pub(super) view: &'a View,
    /// The targets of the jobs that are shared, whoever scrapes them.
    pub(super) counts: &'a BTreeMap<(JobId, ZoneId, u8), u64>,
    /// Whether there is a target with this place.
    pub(super) exists: &'a dyn Fn(Listed) -> bool,
    /// What this node takes at most; 0 = any amount.
    pub(super) budget: u32,
    pub(super) now_ms: i64,
}

impl Look<'_> {
    /// How many targets somebody is to scrape: replicas that there are too few members for are not
    /// among them.
    fn wanted(&self) -> u64 {
        let members = self.view.members().len();
        let counts = self.counts.iter();
        let wanted = counts.filter(|((.., index), _)| usize::from(*index) < members);
        wanted.map(|(_, count)| count).sum()
    }
}

/// What this node's shards say together.
#[derive(Debug, Default)]
struct Own {
    jobs: BTreeMap<JobId, JobCost>,
    targets: f64,
    /// What a target usually costs: the geometric mean.
    usual: f64,
    dear: BTreeMap<Listed, (Spot, f64)>,
}

impl Learner {
    /// What this node tells of costs; `None`: what it told before, it knows nothing better yet.
    pub(super) fn told(&self, budget: u32) -> Option<Arc<[HeavyTarget]>> {
        let only = || (budget > 0).then(|| Arc::from([HeavyTarget::budget(budget)]));
        self.told.clone().or_else(only)
    }

    /// Takes note of what others tell. True: this node owns a target that costs much and that
    /// nobody lists: it is to be listed soon, or it is placed as if it cost little.
    pub(super) fn observe(&mut self, me: &str, view: &View) -> bool {
        let mut members: Vec<_> = view.members().iter().collect();
        members.sort_by_key(|member| member.stage.from_ms);
        let mut listed = HashSet::new();
        for member in members {
            for target in member.stage.heavy.iter().filter(|one| one.is_target()) {
                let place = (target.job, target.key);
                listed.insert(place);
                self.known.insert(place, (*target, member.name.clone()));
            }
        }
        // Who is there and lists a target no more has seen that it costs little.
        let is_gone = |name: &str| view.index_of(name).is_none();
        self.known
            .retain(|place, (_, by)| listed.contains(place) || is_gone(by));
        let is_urgent = |(place, (target, _)): (&Listed, &(HeavyTarget, Arc<str>))| {
            !listed.contains(place) && is_mine(me, view, target)
        };
        self.known.len() > listed.len() && self.known.iter().any(is_urgent)
    }

    /// The targets whose costs are worth a question to the shards whatever they are.
    pub(super) fn asked(&self) -> Arc<[u64]> {
        let told = self.told.iter().flat_map(|told| told.iter());
        let told = told
            .filter(|target| target.is_target())
            .map(|target| target.key);
        let asked: HashSet<u64> = self.known.keys().map(|(_, key)| *key).chain(told).collect();
        asked.into_iter().collect()
    }

    /// How many targets this node lists.
    pub(super) fn listed(&self) -> usize {
        let told = self.told.iter().flat_map(|told| told.iter());
        told.filter(|target| target.is_target()).count()
    }

    /// Looks at what targets cost. True: there is something new to tell.
    pub(super) fn look(&mut self, reports: &[CostReport], look: &Look<'_>) -> bool {
        if look.view.index_of(look.me).is_none() {
            return false;
        }
        let before: Vec<HeavyTarget> = match &self.told {
            Some(told) => told.to_vec(),
            None => own_entry(look).to_vec(),
        };
        self.observe(look.me, look.view);
        self.known.retain(|place, _| (look.exists)(*place));
        self.note_kept(&before, look);
        let own = Own::new(reports, look);
        let fresh = self.list(&own, &before, look);
        let (is_off, is_urgent) = self.compare(&before, &fresh, look);
        let is_settled = self
            .told_ms
            .is_none_or(|told_ms| look.now_ms.saturating_sub(told_ms) >= CHANGE_MS);
        if !(is_off && (is_settled || is_urgent)) {
            return false;
        }
        self.told = Some(fresh.into());
        self.told_ms = Some(look.now_ms);
        true
    }

    /// Takes note of what this node lists though it does not have it.
    fn note_kept(&mut self, before: &[HeavyTarget], look: &Look<'_>) {
        let me = look.view.index_of(look.me);
        let others = listed_by(look.view, |index| Some(index) != me);
        let is_kept = |target: &&HeavyTarget| {
            let is_mine = is_mine(look.me, look.view, target);
            target.is_target() && !is_mine && !others.contains_key(&(target.job, target.key))
        };
        let kept = before.iter().filter(is_kept).map(|target| {
            let place = (target.job, target.key);
            let since_ms = self.kept_since_ms.get(&place).copied();
            (place, since_ms.unwrap_or(look.now_ms))
        });
        self.kept_since_ms = kept.collect();
    }

    /// What would be told now.
    fn list(&self, own: &Own, before: &[HeavyTarget], look: &Look<'_>) -> Vec<HeavyTarget> {
        let me = look.view.index_of(look.me);
        let others: HashMap<Listed, HeavyTarget> = listed_by(look.view, |index| Some(index) != me);
        let was_told: HashMap<Listed, HeavyTarget> = before
            .iter()
            .filter(|t| t.is_target())
            .map(by_place)
            .collect();
        let last_word = |place: &Listed| was_told.get(place).or_else(|| others.get(place));
        // All of this node's targets that may be worth a word, with what they cost.
        let mut mine = HashMap::<Listed, HeavyTarget>::new();
        for ((job, key), (spot, cost)) in &own.dear {
            let place = (*job, *key);
            let fresh = HeavyTarget {
                key: *key,
                job: *job,
                zone: spot.zone,
                replica: spot.replica,
                samples_per_s: whole(*cost),
            };
            let last = last_word(&place).copied().filter(|last| {
                last.spot() == *spot && (cost - cost_of(last)).abs() <= SAME * cost_of(last)
            });
            if is_mine(look.me, look.view, &fresh) {
                mine.insert(place, last.unwrap_or(fresh));
            }
        }
        for (place, (target, _)) in &self.known {
            let is_unlisted = !others.contains_key(place);
            // What others list and this node has not measured, they tell as well.
            if is_unlisted && !own.dear.contains_key(place) && is_mine(look.me, look.view, target) {
                mine.insert(*place, *target);
            }
        }
        // What went to another node, until that one lists it; and what nobody may take.
        let is_long = |since_ms: &i64| look.now_ms.saturating_sub(*since_ms) >= KEPT_MS;
        let kept = was_told.iter().filter(|(place, target)| {
            !is_mine(look.me, look.view, target)
                && !others.contains_key(*place)
                && (look.exists)(**place)
                && !self.kept_since_ms.get(*place).is_some_and(is_long)
        });
        let kept: HashMap<Listed, HeavyTarget> = kept.map(|(p, t)| (*p, *t)).collect();
        let everything = |mine: &HashMap<Listed, HeavyTarget>| {
            let mut all = others.clone();
            all.extend(
                kept.iter()
                    .chain(mine)
                    .map(|(place, target)| (*place, *target)),
            );
            all
        };
        let is_listed = |place: &Listed| was_told.contains_key(place) || others.contains_key(place);
        let from = |place: &Listed, least: f64| least * if is_listed(place) { UNLIST } else { 1.0 };
        let usual = LIST_FACTOR * own.usual(look);
        mine.retain(|place, target| cost_of(target) >= from(place, usual));
        let all = everything(&mine);
        let listed: f64 = all.values().map(cost_of).sum();
        let rest: f64 = own.rest(&all, look).values().sum();
        let share = (listed + rest) / look.view.members().len() as f64;
        mine.retain(|place, target| cost_of(target) >= from(place, share * LIST_SHARE));
        let mut fresh: Vec<HeavyTarget> = mine.values().chain(kept.values()).copied().collect();
        fresh.sort_by_key(|target| (std::cmp::Reverse(target.samples_per_s), target.key));
        let (least, most) = LISTED_OF_NODE;
        fresh.truncate((LISTED_MAX / look.view.members().len()).clamp(least, most));
        fresh.extend((look.budget > 0).then(|| HeavyTarget::budget(look.budget)));
        match own.is_enough(look) {
            true => {
                let rest = own.rest(&everything(&mine), look).into_iter();
                let told = |((zone, index), sum)| HeavyTarget::rest(zone, index, whole(sum));
                fresh.extend(rest.map(told));
            }
            false => fresh.extend(before.iter().filter(|t| t.job == HeavyTarget::REST)),
        }
        fresh.sort();
        fresh
    }

    /// Whether loads are off if nothing new is told; and whether that cannot wait.
    fn compare(
        &self,
        before: &[HeavyTarget],
        fresh: &[HeavyTarget],
        look: &Look<'_>,
    ) -> (bool, bool) {
        if before == fresh {
            return (false, false);
        }
        let budgets = |told: &[HeavyTarget]| {
            let all = told.iter().filter(|t| t.job == HeavyTarget::BUDGET);
            all.map(|t| t.samples_per_s).min()
        };
        let rest = |told: &[HeavyTarget]| -> BTreeMap<Listed, f64> {
            let all = told.iter().filter(|t| t.job == HeavyTarget::REST);
            let place = |t: &HeavyTarget| (JobId(t.zone.0), t.replica.index.into());
            all.map(|t| (place(t), cost_of(t))).collect()
        };
        let heavy = |told: &[HeavyTarget]| -> BTreeMap<Listed, f64> {
            let all = told.iter().filter(|t| t.is_target());
            all.map(|t| ((t.job, t.key), cost_of(t))).collect()
        };
        let (heavy_off, rest_off) = (
            difference(&heavy(before), &heavy(fresh)),
            difference(&rest(before), &rest(fresh)),
        );
        let sum_of_rest: f64 = rest(fresh).values().sum();
        let members = look.view.members();
        let sum = targets_of(look.view).map(cost_of).sum::<f64>() + sum_of_rest;
        let load = sum / members.len() as f64;
        let heavy_matters = !heavy(fresh).is_empty() || targets_of(look.view).next().is_some();
        let zones = members.iter().any(|member| member.zone != members[0].zone);
        let entries = members.iter().flat_map(|member| member.stage.heavy.iter());
        let mut entries = entries.chain(fresh);
        let has_budgets = entries.any(|one| one.job == HeavyTarget::BUDGET);
        let is_rest_off = match heavy_matters || zones || has_budgets {
            // Each node tells of all: half of it is half of each node's load.
            true => rest_off > OFF_REST * sum,
            false => rest_off > OFF_ALONE * sum_of_rest,
        };
        let is_changed = budgets(before) != budgets(fresh);
        let is_off = is_changed || heavy_off > OFF_SHARE * load || is_rest_off;
        let nobody = listed_by(look.view, |_| true);
        let had = heavy(before);
        let is_urgent = heavy(fresh).keys().any(|place| {
            !had.contains_key(place)
                && !nobody.contains_key(place)
                && self.known.contains_key(place)
        });
        (is_off || is_urgent, is_urgent || is_changed)
    }
}

impl Own {
    fn new(reports: &[CostReport], look: &Look<'_>) -> Self {
        let is_shared = |job: JobId| {
            let mut of_job = look.counts.range((job, ZoneId::NONE, 0)..);
            of_job.next().is_some_and(|((first, ..), _)| *first == job)
        };
        let mut own = Self::default();
        let (mut targets, mut logs) = (0, 0.0);
        for report in reports {
            targets += report.targets;
            logs += report.sum_of_logs;
            for cost in report.jobs.iter().filter(|cost| is_shared(cost.job)) {
                let nothing = JobCost {
                    targets: 0,
                    samples_per_s: 0.0,
                    ..*cost
                };
                let sum = own.jobs.entry(cost.job).or_insert(nothing);
                sum.targets += cost.targets;
                sum.samples_per_s += cost.samples_per_s;
                own.targets += cost.targets as f64;
            }
            // A configuration that is one node's as a whole is placed by its name.
            let is_placed = |target: &Target| is_shared(target.job) && !target.is_of_unit();
            for (target, cost) in report.dear.iter().filter(|(t, _)| is_placed(t)) {
                // Targets with one place move together.
                let place = (target.job, target.spot.key.0);
                let sum = own.dear.entry(place).or_insert((target.spot, 0.0));
                sum.1 += f64::from(*cost);
            }
        }
        own.usual = if targets > 0 {
            (logs / targets as f64).exp2()
        } else {
            0.0
        };
        own
    }

    /// Whether this node's targets stand for all.
    fn is_enough(&self, look: &Look<'_>) -> bool {
        let share = look.wanted() as f64 / look.view.members().len() as f64;
        self.targets > 0.0 && self.targets >= KNOWN_SHARE * share
    }

    /// What a target that is not listed usually costs.
    fn usual(&self, look: &Look<'_>) -> f64 {
        if self.is_enough(look) {
            return self.usual;
        }
        let stages = look.view.members().iter().map(|member| &member.stage);
        let told = |target: &&HeavyTarget| target.job == HeavyTarget::REST;
        let sums = stages.map(|stage| stage.heavy.iter().filter(told).map(cost_of).sum::<f64>());
        let sums: Vec<f64> = sums.filter(|sum| *sum > 0.0).collect();
        let all = look.wanted();
        match sums.is_empty() {
            true => self.usual,
            false => sums.iter().sum::<f64>() / sums.len() as f64 / all.max(1) as f64,
        }
    }

    /// By zone and index of the replica: what all targets of the cluster cost that are not
    /// `listed`.
    fn rest(
        &self,
        listed: &HashMap<Listed, HeavyTarget>,
        look: &Look<'_>,
    ) -> BTreeMap<(ZoneId, u8), f64> {
        let mut unlisted = look.counts.clone();
        for (place, target) in listed {
            let of = (place.0, target.zone, target.replica.index);
            if let Some(count) = unlisted.get_mut(&of) {
                *count = count.saturating_sub(1);
            }
        }
        let mut jobs = self.jobs.clone();
        for (place, (_, cost)) in &self.dear {
            let sum = jobs
                .get_mut(&place.0)
                .filter(|_| listed.contains_key(place));
            if let Some(sum) = sum {
                sum.targets = sum.targets.saturating_sub(1);
                sum.samples_per_s = (sum.samples_per_s - cost).max(0.0);
            }
        }
        let mean = |targets: u64, sum: f64| (targets > 0).then(|| sum / targets as f64);
        let all_targets = jobs.values().map(|job| job.targets).sum();
        let of_all = mean(
            all_targets,
            jobs.values().map(|job| job.samples_per_s).sum(),
        );
        let mut rest = BTreeMap::<(ZoneId, u8), f64>::new();
        for ((job, zone, index), count) in unlisted {
            let of_job = jobs
                .get(&job)
                .and_then(|job| mean(job.targets, job.samples_per_s));
            let mean = of_job.or(of_all).unwrap_or(0.0);
            *rest.entry((zone, index)).or_default() += mean * count as f64;
        }
        rest.retain(|_, sum| *sum >= 1.0);
        rest
    }
}

/// What this node's entry says.
fn own_entry<'a>(look: &Look<'a>) -> &'a [HeavyTarget] {
    let index = look.view.index_of(look.me);
    let member = index.and_then(|index| look.view.members().get(index as usize));
    member.map_or(&[], |member| &member.stage.heavy)
}

fn targets_of(view: &View) -> impl Iterator<Item = &HeavyTarget> {
    let members = view.members().iter();
    let all = members.flat_map(|member| member.stage.heavy.iter());
    all.filter(|target| target.is_target())
}

/// What the members tell whose index is meant; of two words on a target the newer one.
fn listed_by(view: &View, is_meant: impl Fn(u32) -> bool) -> HashMap<Listed, HeavyTarget> {
    let mut members: Vec<_> = view.members().iter().enumerate().collect();
    members.retain(|(index, _)| is_meant(*index as u32));
    members.sort_by_key(|(_, member)| member.stage.from_ms);
    let all = members
        .iter()
        .flat_map(|(_, member)| member.stage.heavy.iter());
    all.filter(|target| target.is_target())
        .map(by_place)
        .collect()
}

fn by_place(target: &HeavyTarget) -> (Listed, HeavyTarget) {
    ((target.job, target.key), *target)
}

fn is_mine(me: &str, view: &View, target: &HeavyTarget) -> bool {
    view.owner_of(target.job, &target.spot()) == Some(me)
}

fn cost_of(target: &HeavyTarget) -> f64 {
    f64::from(target.samples_per_s)
}

fn whole(cost: f64) -> u32 {
    cost.round().clamp(1.0, f64::from(u32::MAX)) as u32
}

fn difference<K: Ord>(before: &BTreeMap<K, f64>, after: &BTreeMap<K, f64>) -> f64 {
    let gone = before.iter().filter(|(key, _)| !after.contains_key(key));
    let gone: f64 = gone.map(|(_, cost)| cost).sum();
    let changed = after.iter().map(|(key, cost)| {
        let before = before.get(key).copied().unwrap_or(0.0);
        (cost - before).abs()
    });
    gone + changed.sum::<f64>()
}
