//! What targets cost and how much members can take -> who scrapes the targets that cost much, and
//! which part of all others each member gets.
//!
//! A target that costs much goes to the first member at or after it on the ring that has room for
//! it: a share by weight of all load, and a little more. The others fill the members up to one
//! level: positions are cut into equal buckets, and each bucket goes to the first member at or
//! after it that still has room. So load is level by cost, and little moves when it changes.
//!
//! Source: Mirrokni, Thorup, Zadimoghaddam, Consistent Hashing with Bounded Loads, 2016.

use crate::key::TargetKey;
use crate::member::{HeavyTarget, JobId};
use crate::ring::Ring;
use crate::view::Active;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// By how much a member's share may be exceeded by targets that cost much.
const HEAVY_SLACK: f64 = 0.05;
/// By how much it may be exceeded in buckets.
const BUCKET_SLACK: f64 = 0.02;
/// Leading bits of a position that tell its bucket.
const BUCKET_BITS: u32 = 16;
const BUCKETS: usize = 1 << BUCKET_BITS;

/// What members have told of the costs of targets.
#[derive(Debug)]
pub(crate) struct Costs {
    /// Falling, then by target; each target once.
    heavy: Vec<HeavyTarget>,
    /// Of all other targets together; `None`: nobody has told.
    rest: Option<f64>,
}

/// What each member has got of the targets that cost much, in samples a second.
#[derive(Debug)]
pub(crate) struct Loads {
    /// By member.
    heavy: Vec<f64>,
}

impl Costs {
    /// `None`: nobody has told anything.
    pub(crate) fn new(members: &[Active]) -> Option<Self> {
        let mut heavy = BTreeMap::<(JobId, u64), u32>::new();
        let (mut rest, mut tellers) = (0.0, 0usize);
        for target in members.iter().flat_map(|member| member.stage.heavy.iter()) {
            if target.job == HeavyTarget::REST {
                rest += f64::from(target.samples_per_s);
                tellers += 1;
            } else {
                // Who owned it before and who owns it now may both tell of it.
                let cost = heavy.entry((target.job, target.key)).or_default();
                *cost = target.samples_per_s.max(*cost);
            }
        }
        let target = |((job, key), samples_per_s)| HeavyTarget {
            job,
            key,
            samples_per_s,
        };
        let mut heavy: Vec<HeavyTarget> = heavy.into_iter().map(target).collect();
        heavy.sort_by_key(|target| (Reverse(target.samples_per_s), target.job, target.key));
        // Who has not told is taken to be like the others.
        let others = members.len() as f64 / tellers.max(1) as f64;
        let rest = (rest > 0.0).then_some(rest * others);
        (rest.is_some() || !heavy.is_empty()).then_some(Self { heavy, rest })
    }

    /// Who gets which of the targets that cost much. `ring_of`: of the members that scrape a job,
    /// with the view's index of each of its members.
    pub(crate) fn place<'a>(
        &self,
        members: &[Active],
        ring_of: impl Fn(JobId) -> Option<(&'a Ring, &'a [u32])>,
    ) -> (HashMap<JobId, HashMap<u64, u32>>, Loads) {
        let weights: Vec<f64> = members.iter().map(|m| f64::from(m.stage.weight)).collect();
        let sum_of_weights: f64 = weights.iter().sum();
        let heavy: f64 = self.heavy.iter().map(|t| f64::from(t.samples_per_s)).sum();
        let level =
            (heavy + self.rest.unwrap_or(0.0)) / sum_of_weights.max(1.0) * (1.0 + HEAVY_SLACK);
        let mut loads = vec![0.0; members.len()];
        let mut owners = HashMap::<JobId, HashMap<u64, u32>>::new();
        for target in &self.heavy {
            let Some((ring, indexes)) = ring_of(target.job) else {
                continue;
            };
            let cost = f64::from(target.samples_per_s);
            let after = |member: u32| (loads[member as usize] + cost) / weights[member as usize];
            let around = ring
                .around(TargetKey(target.key))
                .map(|at| indexes[at as usize]);
            // Far round the ring all have been asked.
            let mut asked = around.take(8 * indexes.len());
            let with_room = asked.find(|member| after(*member) <= level);
            let least = || {
                let members = indexes.iter().copied();
                members.min_by(|a, b| after(*a).total_cmp(&after(*b)))
            };
            let Some(owner) = with_room.or_else(least) else {
                continue;
            };
            loads[owner as usize] += cost;
            owners
                .entry(target.job)
                .or_default()
                .insert(target.key, owner);
        }
        (owners, Loads { heavy: loads })
    }

    /// Which of the members of a ring gets each bucket of the other targets; `None`: not known, the
    /// ring decides.
    pub(crate) fn buckets(
        &self,
        members: &[Active],
        loads: &Loads,
        ring: &Ring,
        indexes: &[u32],
    ) -> Option<Vec<u32>> {
        let rest = self.rest.filter(|_| !indexes.is_empty())?;
        let load = |index: &u32| {
            let weight = f64::from(members[*index as usize].stage.weight);
            (weight, loads.heavy[*index as usize])
        };
        let room = room(&indexes.iter().map(load).collect::<Vec<_>>(), rest);
        let sum: f64 = room.iter().sum();
        let bucket = BUCKETS as f64 * (1.0 + BUCKET_SLACK) / sum;
        let mut left: Vec<u32> = room
            .iter()
            .map(|room| (room * bucket).ceil() as u32)
            .collect();
        let mut owners = vec![0; BUCKETS];
        for number in 0..BUCKETS as u64 {
            // Neighbours in turn would fill up the members one after the other.
            let number = number.reverse_bits() >> (u64::BITS - BUCKET_BITS);
            let position = TargetKey(number << (u64::BITS - BUCKET_BITS));
            let with_room = ring.around(position).find(|at| left[*at as usize] > 0);
            let Some(at) = with_room else {
                continue;
            };
            left[at as usize] -= 1;
            owners[number as usize] = indexes[at as usize];
        }
        Some(owners)
    }
}

/// The bucket of a target.
pub(crate) fn bucket_of(key: TargetKey) -> usize {
    (key.0 >> (u64::BITS - BUCKET_BITS)) as usize
}

/// Members by (weight, load) -> how much of `rest` each takes so that all whose load is not above
/// the level already come to the same level by weight.
fn room(members: &[(f64, f64)], rest: f64) -> Vec<f64> {
    let mut by_load: Vec<(f64, f64)> = members.to_vec();
    by_load.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    let (mut weight, mut load, mut level) = (0.0, rest, 0.0);
    for (own_weight, own_load) in by_load {
        if weight > 0.0 && own_load / own_weight >= level {
            break;
        }
        weight += own_weight;
        load += own_load;
        level = load / weight;
    }
    let room = |(weight, load): &(f64, f64)| (level * weight - load).max(0.0);
    members.iter().map(room).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{JobVersion, Stage};
    use crate::view::View;
    use proptest::prelude::*;

    const JOB: JobId = JobId(9);
    const NODES: usize = 50;

    /// Costs with a heavy tail: a few targets make up much of all.
    fn targets(count: u64, seed: u64) -> Vec<(TargetKey, u32)> {
        let target = |n: u64| {
            let key = TargetKey::new("job", &format!("{seed}-{n}"), []);
            let unit =
                (key.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 53) as f64;
            let cost = 50.0 * (1.0 - unit).powf(-1.0 / 1.5);
            (key, cost.min(50_000.0) as u32)
        };
        (0..count).map(target).collect()
    }

    /// Each node lists what costs more than a 300th of a share.
    fn view(nodes: &[usize], targets: &[(TargetKey, u32)], weight: impl Fn(usize) -> u32) -> View {
        let total: u64 = targets.iter().map(|(_, cost)| u64::from(*cost)).sum();
        let least = total / NODES as u64 / 300;
        let mut heavy = vec![Vec::new(); nodes.len()];
        for (n, (key, cost)) in targets.iter().enumerate() {
            if u64::from(*cost) > least {
                heavy[n % nodes.len()].push(HeavyTarget {
                    job: JOB,
                    key: key.0,
                    samples_per_s: *cost,
                });
            }
        }
        let listed: u64 = heavy
            .iter()
            .flatten()
            .map(|t| u64::from(t.samples_per_s))
            .sum();
        let rest = ((total - listed) / nodes.len() as u64) as u32;
        let active = |(node, mut heavy): (&usize, Vec<HeavyTarget>)| {
            heavy.push(HeavyTarget::rest(rest));
            heavy.sort_by_key(|target| target.key);
            let job = JobVersion {
                job: JOB,
                config_hash: 1,
                since_ms: 0,
            };
            Active {
                name: format!("node-{node}").into(),
                zone: "".into(),
                stage: Stage {
                    from_ms: 0,
                    is_active: true,
                    weight: weight(*node),
                    jobs: [job].into(),
                    heavy: heavy.into(),
                },
            }
        };
        View::new(nodes.iter().zip(heavy).map(active).collect())
    }

    /// The highest load by weight, in parts of the mean.
    fn skew(view: &View, targets: &[(TargetKey, u32)]) -> f64 {
        let mut loads = vec![0.0; view.members().len()];
        for (key, cost) in targets {
            let owner = view.job(JOB).unwrap().owner_index(*key).unwrap();
            loads[owner as usize] += f64::from(*cost);
        }
        let weights = view.members().iter().map(|m| f64::from(m.stage.weight));
        let mean = loads.iter().sum::<f64>() / weights.clone().sum::<f64>();
        let by_weight = loads
            .iter()
            .zip(weights)
            .map(|(load, weight)| load / weight);
        by_weight.fold(0.0, f64::max) / mean
    }

    #[test]
    fn costs_with_a_heavy_tail_are_level() {
        let nodes: Vec<usize> = (0..NODES).collect();
        let targets = targets(100_000, 1);
        let worst = skew(&view(&nodes, &targets, |_| 1), &targets);
        assert!(worst <= 1.10, "{worst}");
        let worst = skew(
            &view(&nodes, &targets, |node| 1 + node as u32 % 3),
            &targets,
        );
        assert!(worst <= 1.10, "{worst}");
    }

    #[test]
    fn who_has_a_huge_target_gets_less_of_the_rest() {
        let mut targets: Vec<_> = targets(2_000, 2)
            .into_iter()
            .map(|(key, _)| (key, 500))
            .collect();
        targets.push((TargetKey(77), 200_000));
        let worst = skew(&view(&[0, 1, 2], &targets, |_| 1), &targets);
        assert!(worst <= 1.10, "{worst}");
        // More than a share: its owner gets nothing else.
        targets.push((TargetKey(78), 3_000_000));
        let view = view(&[0, 1, 2], &targets, |_| 1);
        let of_huge = view.owner(JOB, TargetKey(78)).unwrap();
        let other = targets
            .iter()
            .filter(|(key, _)| view.owner(JOB, *key) == Some(of_huge));
        assert_eq!(other.count(), 1);
    }

    #[test]
    fn a_join_moves_little() {
        let targets = targets(100_000, 3);
        let before: Vec<usize> = (0..NODES).collect();
        let after: Vec<usize> = (0..=NODES).collect();
        let (before, after) = (
            view(&before, &targets, |_| 1),
            view(&after, &targets, |_| 1),
        );
        let moved = targets
            .iter()
            .filter(|(key, _)| before.owner(JOB, *key) != after.owner(JOB, *key));
        let parts = moved.count() as f64 / targets.len() as f64 * (NODES + 1) as f64;
        assert!(parts < 4.0, "moved {parts} of what the new node needs");
    }

    proptest! {
        #[test]
        fn rest_fills_up_to_one_level(
            members in prop::collection::vec((1u32..9, 0u32..1_000), 1..9),
            rest in 1u32..5_000,
        ) {
            let members: Vec<(f64, f64)> =
                members.into_iter().map(|(w, l)| (w.into(), l.into())).collect();
            let room = room(&members, rest.into());
            prop_assert!((room.iter().sum::<f64>() - f64::from(rest)).abs() < 1e-6);
            let filled = members.iter().zip(&room).filter(|(_, room)| **room > 0.0);
            let levels: Vec<f64> = filled.map(|((w, l), room)| (l + room) / w).collect();
            prop_assert!(levels.iter().all(|level| (level - levels[0]).abs() < 1e-6));
            let full = members.iter().zip(&room).filter(|(_, room)| **room == 0.0);
            for ((weight, load), _) in full {
                prop_assert!(load / weight >= levels[0] - 1e-6);
            }
        }
    }
}
