//! Replicas -> no member has two of a target, loads are level, little is moved, all agree.

use crate::key::TargetKey;
use crate::member::{HeavyTarget, JobId, JobVersion, Stage, ZoneId};
use crate::spot::{REPLICAS_MAX, Replica, Spot};
use crate::view::{Active, PlacedBy, View};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

const JOB: JobId = JobId(9);
const ZONES: [&str; 4] = ["", "a", "b", "c"];
/// What costs at least so much is told of by itself.
const HEAVY: u32 = 1_000;

#[derive(Debug, Clone, Copy)]
struct Node {
    number: usize,
    zone: &'static str,
    weight: u32,
    /// 0 = any amount.
    budget: u32,
}

#[derive(Debug, Clone, Copy)]
struct Target {
    place: TargetKey,
    zone: &'static str,
    replicas: u8,
    cost: u32,
}

impl Target {
    fn spots(self) -> impl Iterator<Item = Spot> {
        let zone = ZoneId::new(self.zone);
        Replica::of(self.replicas).map(move |replica| Spot::new(self.place, zone, replica))
    }
}

fn targets(count: u64, zone: &'static str, replicas: u8, cost: u32) -> Vec<Target> {
    let target = |n| Target {
        place: TargetKey::new("job", &format!("{zone}-{replicas}-{cost}-{n}"), []),
        zone,
        replicas,
        cost,
    };
    (0..count).map(target).collect()
}

fn nodes(count: usize) -> Vec<Node> {
    let node = |number| Node {
        number,
        zone: "",
        weight: 1,
        budget: 0,
    };
    (0..count).map(node).collect()
}

/// The first node tells of all costs; `tells_some`: of every other replica that costs much.
fn view(nodes: &[Node], targets: &[Target], tells_some: bool) -> View {
    let (mut told, mut rest) = (Vec::new(), BTreeMap::<(ZoneId, u8), u32>::new());
    for target in targets {
        for spot in target.spots() {
            let is_told = !tells_some || (spot.key.0 >> 7) % 2 == 0;
            if target.cost >= HEAVY && is_told {
                told.push(HeavyTarget {
                    key: spot.key.0,
                    job: JOB,
                    zone: spot.zone,
                    replica: spot.replica,
                    samples_per_s: target.cost,
                });
            } else {
                *rest.entry((spot.zone, spot.replica.index)).or_default() += target.cost;
            }
        }
    }
    let rest = rest.into_iter();
    told.extend(rest.map(|((zone, index), sum)| HeavyTarget::rest(zone, index, sum)));
    with_told(nodes, &told)
}

/// Nobody tells of costs.
fn plain(nodes: &[Node]) -> View {
    with_told(nodes, &[])
}

fn with_told(nodes: &[Node], told: &[HeavyTarget]) -> View {
    let active = |(place, node): (usize, &Node)| {
        let mut heavy = if place == 0 {
            told.to_vec()
        } else {
            Vec::new()
        };
        heavy.extend((node.budget > 0).then(|| HeavyTarget::budget(node.budget)));
        heavy.sort();
        Active {
            name: format!("node-{}", node.number).into(),
            zone: node.zone.into(),
            stage: Stage {
                from_ms: 0,
                is_active: true,
                weight: node.weight,
                jobs: [JobVersion {
                    job: JOB,
                    config_hash: 1,
                    since_ms: 0,
                }]
                .into(),
                heavy: heavy.into(),
            },
        }
    };
    View::new(nodes.iter().enumerate().map(active).collect())
}

fn owners(view: &View, target: Target) -> Vec<Option<&str>> {
    target
        .spots()
        .map(|spot| view.owner_of(JOB, &spot))
        .collect()
}

/// By node: what it has.
fn loads(view: &View, targets: &[Target]) -> Vec<f64> {
    let mut loads = vec![0.0; view.members().len()];
    for target in targets {
        for owner in owners(view, *target).into_iter().flatten() {
            let index = view.index_of(owner).unwrap();
            loads[index as usize] += f64::from(target.cost);
        }
    }
    loads
}

/// The highest load in parts of the mean.
fn skew(view: &View, targets: &[Target]) -> f64 {
    let loads = loads(view, targets);
    let mean = loads.iter().sum::<f64>() / loads.len() as f64;
    loads.into_iter().fold(0.0, f64::max) / mean
}

/// Replicas whose owner is another one, in parts of what the node that came needs.
fn moved(before: &View, after: &View, targets: &[Target]) -> f64 {
    let (mut moved, mut all) = (0, 0);
    for target in targets {
        let pairs = owners(before, *target)
            .into_iter()
            .zip(owners(after, *target));
        for (before, after) in pairs {
            moved += u32::from(before != after);
            all += 1;
        }
    }
    f64::from(moved) / f64::from(all) * after.members().len() as f64
}

#[test]
fn loads_are_level() {
    for count in [3, 20] {
        let mut all = targets(count as u64 * 1_000, "", 2, 10);
        all.extend(targets(count as u64 * 500, "", 1, 10));
        let worst = skew(&view(&nodes(count), &all, false), &all);
        assert!(worst <= 1.10, "{count} nodes: {worst}");
        // What costs much twice: its owners get less of the rest.
        all.extend(targets(1, "", 2, count as u32 * 500));
        let worst = skew(&view(&nodes(count), &all, false), &all);
        assert!(worst <= 1.10, "{count} nodes, a large one: {worst}");
    }
}

#[test]
fn two_nodes_have_all_of_two_replicas_whatever_their_weights() {
    let mut two = nodes(2);
    two[1].weight = 3;
    let all = targets(1_000, "", 2, 10);
    for view in [plain(&two), view(&two, &all, false)] {
        assert_eq!(loads(&view, &all), [10_000.0, 10_000.0]);
    }
    // But no more than a node may take.
    two[0].budget = 4_000;
    let [limited, whole] = loads(&view(&two, &all, false), &all)[..] else {
        panic!("two nodes");
    };
    assert!((3_500.0..4_400.0).contains(&limited), "{limited}");
    assert_eq!(whole, 10_000.0);
}

#[test]
fn budgets_hold_where_not_even_one_of_each_has_room() {
    for replicas in 2..=3 {
        let mut all_full = nodes(3);
        for node in &mut all_full {
            node.budget = 1_000;
        }
        let all = targets(1_000, "", replicas, 10);
        for load in loads(&view(&all_full, &all, false), &all) {
            assert!((600.0..1_150.0).contains(&load), "{replicas}: {load}");
        }
    }
}

/// What was told when there were fewer replicas is read as it was told.
#[test]
fn a_target_told_of_as_one_of_fewer_shares_no_member() {
    for target in targets(50, "", 3, HEAVY) {
        let told: Vec<HeavyTarget> = target
            .spots()
            .map(|spot| HeavyTarget {
                key: spot.key.0,
                job: JOB,
                zone: spot.zone,
                replica: Replica {
                    index: spot.replica.index,
                    count: spot.replica.index + 1,
                },
                samples_per_s: target.cost,
            })
            .collect();
        let view = with_told(&nodes(3), &told);
        let owners: HashSet<Option<&str>> = owners(&view, target).into_iter().collect();
        assert_eq!(owners.len(), 3, "{owners:?}");
    }
}

#[test]
fn who_is_one_too_many_waits() {
    let target = targets(1, "", 3, 10)[0];
    let spots: Vec<Spot> = target.spots().collect();
    let mut two = nodes(3);
    two[2].weight = 0;
    let view = plain(&two);
    let ring = view.job(JOB).unwrap();
    let by: Vec<PlacedBy> = spots.iter().map(|spot| ring.place(spot).by).collect();
    assert_eq!(by, [PlacedBy::Ring, PlacedBy::Ring, PlacedBy::Spare]);
    assert!(ring.is_spare(&spots[2]) && !ring.is_refused(&spots[2]));
    assert!(
        owners(&plain(&nodes(3)), target)
            .iter()
            .all(Option::is_some)
    );
}

/// Without costs a node that comes takes one replica of a target at most, and the others stay with
/// the nodes that have the target.
#[test]
fn a_join_moves_what_it_must() {
    for (count, replicas, most) in [(2, 2, 1.4), (3, 2, 1.3), (10, 2, 1.3), (10, 3, 1.4)] {
        let (before, after) = (plain(&nodes(count)), plain(&nodes(count + 1)));
        let all = targets(4_000, "", replicas, 10);
        let joined = format!("node-{count}");
        for target in &all {
            let had: HashSet<&str> = owners(&before, *target).into_iter().flatten().collect();
            let have: HashSet<&str> = owners(&after, *target).into_iter().flatten().collect();
            let new: Vec<&&str> = have.difference(&had).collect();
            assert!(
                new.is_empty() || *new == [&joined.as_str()],
                "{had:?} {have:?}"
            );
        }
        let parts = moved(&before, &after, &all);
        assert!(parts <= most, "{count} nodes, {replicas} replicas: {parts}");
        let (before, after) = (
            view(&nodes(count), &all, false),
            view(&nodes(count + 1), &all, false),
        );
        let parts = moved(&before, &after, &all);
        assert!(
            parts <= 2.0,
            "{count} nodes, {replicas} replicas, level: {parts}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn no_member_has_two_of_a_target(
        members in prop::collection::vec(
            (0usize..4, 0u32..3, prop::option::of(500u32..30_000)), 1..9),
        counts in prop::collection::vec((0u64..150, 1u8..=4), 4),
        giants in prop::collection::vec((0usize..4, HEAVY..20_000, 1u8..=REPLICAS_MAX), 0..6),
        has_budgets: bool,
        tells_some: bool,
        turn: usize,
    ) {
        let node = |(number, (zone, weight, budget)): (usize, (usize, u32, Option<u32>))| Node {
            number,
            zone: ZONES[zone],
            weight,
            budget: if has_budgets { budget.unwrap_or(0) } else { 0 },
        };
        let nodes: Vec<Node> = members.into_iter().enumerate().map(node).collect();
        let mut all = Vec::new();
        for (zone, (count, replicas)) in ZONES.into_iter().zip(counts) {
            all.extend(targets(count, zone, replicas, 10));
            all.extend(targets(20, zone, 1, 10));
        }
        for (zone, cost, replicas) in giants {
            all.extend(targets(1, ZONES[zone], replicas, cost));
        }
        let with_weight = nodes.iter().filter(|node| node.weight > 0).count();
        let mut turned = nodes.clone();
        turned.rotate_left(turn % nodes.len());
        let by_cost = view(&nodes, &all, tells_some);
        let again = View::new({
            let mut members = by_cost.members().to_vec();
            members.rotate_left(turn % nodes.len());
            members
        });
        for target in &all {
            for (view, same) in [(&by_cost, &again), (&plain(&nodes), &plain(&turned))] {
                let found = owners(view, *target);
                prop_assert_eq!(&found, &owners(same, *target));
                let owned: Vec<&str> = found.iter().flatten().copied().collect();
                let unique: HashSet<&str> = owned.iter().copied().collect();
                prop_assert_eq!(unique.len(), owned.len(), "{:?}: {:?}", target, found);
                let possible = with_weight.min(target.replicas.into());
                if has_budgets {
                    prop_assert!(owned.len() <= possible);
                } else {
                    prop_assert!(found[..possible].iter().all(Option::is_some), "{:?}", found);
                    prop_assert!(found[possible..].iter().all(Option::is_none), "{:?}", found);
                }
            }
        }
    }

    /// Where a target would be alone, its first replica is, if nobody tells of costs.
    #[test]
    fn the_first_is_where_a_target_alone_would_be(
        members in prop::collection::vec((0usize..4, 0u32..3), 1..9),
        replicas in 1u8..=REPLICAS_MAX,
    ) {
        let node = |(number, (zone, weight)): (usize, (usize, u32))| Node {
            number,
            zone: ZONES[zone],
            weight,
            budget: 0,
        };
        let nodes: Vec<Node> = members.into_iter().enumerate().map(node).collect();
        let view = plain(&nodes);
        for target in targets(100, "a", replicas, 10) {
            let alone = Target { replicas: 1, ..target };
            prop_assert_eq!(owners(&view, target)[0], owners(&view, alone)[0]);
        }
    }
}
