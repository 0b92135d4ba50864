//! Costs, budgets and zones -> are loads level, is little moved, do all agree.

use crate::key::TargetKey;
use crate::member::{HeavyTarget, JobId, JobVersion, Stage, ZoneId};
use crate::spot::{Replica, Spot};
use crate::view::{Active, PlacedBy, View, ZoneFit};
use proptest::prelude::*;
use std::collections::BTreeMap;

const JOB: JobId = JobId(9);
const NODES: usize = 50;

/// Costs with a heavy tail: a few targets make up much of all.
fn targets(count: u64, seed: u64) -> Vec<(TargetKey, u32)> {
    let target = |n: u64| {
        let key = TargetKey::new("job", &format!("{seed}-{n}"), []);
        let unit = (key.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 53) as f64;
        let cost = 50.0 * (1.0 - unit).powf(-1.0 / 1.5);
        (key, cost.min(50_000.0) as u32)
    };
    (0..count).map(target).collect()
}

fn member(node: usize, zone: &str, weight: u32, heavy: Vec<HeavyTarget>) -> Active {
    let job = JobVersion {
        job: JOB,
        config_hash: 1,
        since_ms: 0,
    };
    Active {
        name: format!("node-{node}").into(),
        zone: zone.into(),
        stage: Stage {
            from_ms: 0,
            is_active: true,
            weight,
            jobs: [job].into(),
            heavy: heavy.into(),
        },
    }
}

/// Each node lists what costs more than a 300th of a share.
fn view(nodes: &[usize], targets: &[(TargetKey, u32)], weight: impl Fn(usize) -> u32) -> View {
    let total: u64 = targets.iter().map(|(_, cost)| u64::from(*cost)).sum();
    let least = total / NODES as u64 / 300;
    let mut heavy = vec![Vec::new(); nodes.len()];
    for (n, (key, cost)) in targets.iter().enumerate() {
        if u64::from(*cost) > least {
            heavy[n % nodes.len()].push(HeavyTarget {
                key: key.0,
                job: JOB,
                zone: ZoneId::NONE,
                replica: Replica::ONLY,
                samples_per_s: *cost,
            });
        }
    }
    let listed: u64 = heavy
        .iter()
        .flatten()
        .map(|t| u64::from(t.samples_per_s))
        .sum();
    let rest = (total - listed) as u32;
    let active = |(node, mut heavy): (&usize, Vec<HeavyTarget>)| {
        heavy.push(HeavyTarget::rest(ZoneId::NONE, 0, rest));
        heavy.sort();
        member(*node, "", weight(*node), heavy)
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

/// A target of a fleet with zones.
#[derive(Debug, Clone, Copy)]
struct Zoned {
    key: TargetKey,
    zone: &'static str,
    cost: u32,
}

/// Members of zones with budgets (0 = none); the first one tells of all costs, and lists what costs
/// at least `least`.
fn zoned_view(members: &[(&str, u32)], targets: &[Zoned], least: u32) -> View {
    let mut told = Vec::new();
    let mut rest = BTreeMap::<ZoneId, u32>::new();
    for target in targets {
        let zone = ZoneId::new(target.zone);
        match target.cost >= least {
            true => told.push(HeavyTarget {
                key: target.key.0,
                job: JOB,
                zone,
                replica: Replica::ONLY,
                samples_per_s: target.cost,
            }),
            false => *rest.entry(zone).or_default() += target.cost,
        }
    }
    told.extend(
        rest.into_iter()
            .map(|(zone, sum)| HeavyTarget::rest(zone, 0, sum)),
    );
    let active = |(node, (zone, budget)): (usize, &(&str, u32))| {
        let mut heavy = if node == 0 { told.clone() } else { Vec::new() };
        heavy.extend((*budget > 0).then(|| HeavyTarget::budget(*budget)));
        heavy.sort();
        member(node, zone, 1, heavy)
    };
    View::new(members.iter().enumerate().map(active).collect())
}

fn spot(target: &Zoned) -> Spot {
    Spot::new(target.key, ZoneId::new(target.zone), Replica::ONLY)
}

fn zoned(count: u64, zone: &'static str, cost: u32) -> Vec<Zoned> {
    let key = |n| TargetKey::new("job", &format!("{zone}-{n}"), []);
    let target = |n| Zoned {
        key: key(n),
        zone,
        cost,
    };
    (0..count).map(target).collect()
}

/// By member: its load; and how much is refused.
fn loads(view: &View, targets: &[Zoned]) -> (Vec<f64>, f64) {
    let (mut loads, mut refused) = (vec![0.0; view.members().len()], 0.0);
    let ring = view.job(JOB).unwrap();
    for target in targets {
        let place = ring.place(&spot(target));
        match place.owner {
            Some(owner) => loads[owner as usize] += f64::from(target.cost),
            None => {
                assert_eq!(place.by, PlacedBy::Budget);
                refused += f64::from(target.cost);
            }
        }
    }
    (loads, refused)
}

#[test]
fn equal_costs_are_leveller_than_on_the_ring_and_a_join_moves_little() {
    for nodes in [3, 50] {
        let targets = zoned(nodes as u64 * 1_000, "", 10);
        let of = |count: usize| zoned_view(&vec![("", 0); count], &targets, 1_000);
        let (before, after) = (of(nodes), of(nodes + 1));
        let (level, _) = loads(&before, &targets);
        let worst = level.iter().copied().fold(0.0, f64::max) / 10_000.0;
        assert!(worst <= 1.10, "{worst}");
        let owner = |view: &View, target: &Zoned| view.owner(JOB, target.key).map(str::to_owned);
        let moved = targets
            .iter()
            .filter(|t| owner(&before, t) != owner(&after, t));
        let parts = moved.count() as f64 / targets.len() as f64 * (nodes + 1) as f64;
        assert!(parts < 2.0, "moved {parts} of what the new node needs");
    }
}

#[test]
fn a_zone_scrapes_its_own_until_it_is_full() {
    let members = [("a", 0), ("a", 0), ("b", 0), ("b", 0)];
    let mut targets = zoned(4_000, "a", 10);
    targets.extend(zoned(3_000, "b", 10));
    targets.extend(zoned(3_000, "", 10));
    let view = zoned_view(&members, &targets, 1_000);
    let ring = view.job(JOB).unwrap();
    for target in targets.iter().filter(|target| !target.zone.is_empty()) {
        let place = ring.place(&spot(target));
        assert_eq!(place.zone, ZoneFit::Own);
        assert_eq!(
            &*view.members()[place.owner.unwrap() as usize].zone,
            target.zone
        );
    }
    let (level, _) = loads(&view, &targets);
    assert!(
        level.iter().all(|load| (load / 25_000.0 - 1.0).abs() < 0.1),
        "{level:?}"
    );

    // Nine of ten targets are in one zone: its members come to half more than a level load.
    let mut targets = zoned(9_000, "a", 10);
    targets.extend(zoned(1_000, "b", 10));
    targets.extend(zoned(10, "c", 10));
    let view = zoned_view(&members, &targets, 1_000);
    let (level, _) = loads(&view, &targets);
    for (load, expected) in level.iter().zip([37_500.0, 37_500.0, 12_500.0, 12_500.0]) {
        assert!((load / expected - 1.0).abs() < 0.1, "{level:?}");
    }
    let fit = |target: &Zoned| {
        let place = view.job(JOB).unwrap().place(&spot(target));
        place.zone
    };
    assert!(
        targets[..9_000]
            .iter()
            .any(|target| fit(target) == ZoneFit::Full)
    );
    assert_eq!(fit(&targets[10_000]), ZoneFit::Empty);
}

#[test]
fn heavy_targets_stay_in_their_zone_too() {
    let members = [("a", 0), ("b", 0), ("b", 0)];
    let mut targets = zoned(1_000, "", 30);
    targets.extend(zoned(4, "b", 2_000));
    let view = zoned_view(&members, &targets, 1_000);
    let in_b = |target: &&Zoned| {
        let owner = view.owner_of(JOB, &spot(target));
        owner != Some("node-0")
    };
    assert_eq!(targets[1_000..].iter().filter(in_b).count(), 4);
    // More than a share: at home all the same.
    targets.extend(zoned(1, "a", 90_000));
    let view = zoned_view(&members, &targets, 1_000);
    assert_eq!(view.owner_of(JOB, &spot(&targets[1_004])), Some("node-0"));
}

#[test]
fn without_costs_zones_keep_their_own_and_nothing_is_refused() {
    let targets = zoned(1_000, "b", 10);
    let view = zoned_view(&[("a", 5), ("b", 5), ("", 5)], &[], 1);
    let mut owners = targets.iter().map(|t| view.owner_of(JOB, &spot(t)));
    assert!(owners.all(|owner| owner == Some("node-1")));
    assert_eq!(
        view.job(JOB).unwrap().place(&Spot::plain(TargetKey(1))).by,
        PlacedBy::Ring
    );
}

#[test]
fn a_join_moves_no_target_out_of_a_zone_that_has_room() {
    let targets = [zoned(5_000, "a", 10), zoned(5_000, "b", 10)].concat();
    let before = [("a", 0), ("a", 0), ("b", 0), ("b", 0)];
    let after = [("a", 0), ("a", 0), ("b", 0), ("b", 0), ("b", 0)];
    let (before, after) = (
        zoned_view(&before, &targets, 1_000),
        zoned_view(&after, &targets, 1_000),
    );
    let moved = |targets: &[Zoned]| {
        let owner = |view: &View, target: &Zoned| {
            let owner = view.owner_of(JOB, &spot(target));
            owner.map(str::to_owned)
        };
        let moved = targets
            .iter()
            .filter(|t| owner(&before, t) != owner(&after, t));
        moved.count()
    };
    assert_eq!(moved(&targets[..5_000]), 0);
    // The new one's share is a third of its zone's.
    let of_b = moved(&targets[5_000..]);
    assert!((1_500..4 * 1_667).contains(&of_b), "{of_b}");
}

#[test]
fn what_is_above_all_budgets_is_refused() {
    let mut targets = zoned(10_000, "", 10);
    targets.extend(zoned(1, "x", 50_000));
    let view = zoned_view(&[("", 40_000), ("", 40_000), ("", 60_000)], &targets, 1_000);
    let (loads, refused) = loads(&view, &targets);
    // The large one fits into one budget only, and leaves it little room.
    assert!(loads.iter().sum::<f64>() + refused == 150_000.0);
    for (load, budget) in loads.iter().zip([40_000.0, 40_000.0, 60_000.0]) {
        assert!((0.9..1.04).contains(&(load / budget)), "{loads:?}");
    }
    let view = zoned_view(&[("", 30_000), ("", 40_000)], &targets, 1_000);
    let huge = targets[10_000];
    let place = view.job(JOB).unwrap().place(&spot(&huge));
    assert_eq!((place.owner, place.by), (None, PlacedBy::Budget));
}

proptest! {
    #[test]
    fn any_table_has_one_meaning_and_no_budget_is_exceeded(
        members in prop::collection::vec((0usize..4, prop::option::of(1_000u32..60_000)), 1..7),
        counts in prop::collection::vec(0u64..1_500, 4),
        giants in prop::collection::vec((0usize..4, 1_000u32..50_000), 0..6),
        seed: u64,
    ) {
        const ZONES: [&str; 4] = ["", "a", "b", "c"];
        let members: Vec<(&str, u32)> =
            members.into_iter().map(|(zone, most)| (ZONES[zone], most.unwrap_or(0))).collect();
        let mut targets = Vec::new();
        for (zone, count) in ZONES.into_iter().zip(&counts) {
            targets.extend(zoned(*count, zone, 10));
        }
        for (number, (zone, cost)) in giants.into_iter().enumerate() {
            let key = TargetKey(seed.wrapping_mul(number as u64 * 2 + 3));
            targets.push(Zoned { key, zone: ZONES[zone], cost });
        }
        let view = zoned_view(&members, &targets, 1_000);
        let (loads, refused) = loads(&view, &targets);
        let sum: f64 = targets.iter().map(|target| f64::from(target.cost)).sum();
        prop_assert!((loads.iter().sum::<f64>() + refused - sum).abs() < 1e-6);
        // Buckets are as even as hashes are: within three deviations, and a few targets.
        for (load, (_, budget)) in loads.iter().zip(&members).filter(|(_, m)| m.1 > 0) {
            let most = f64::from(*budget);
            let spread = 3.0 * (most * 10.0).sqrt() + 50.0;
            prop_assert!(*load <= most * 1.02 + spread, "{load} of {budget}");
        }
        if members.iter().any(|(_, budget)| *budget == 0) {
            prop_assert_eq!(refused, 0.0);
        }
        // Whoever computes it, in whatever order it was heard.
        let mut shuffled = view.members().to_vec();
        shuffled.rotate_left(seed as usize % members.len());
        let again = View::new(shuffled);
        for target in &targets {
            let spot = spot(target);
            prop_assert_eq!(view.owner_of(JOB, &spot), again.owner_of(JOB, &spot));
        }
    }
}

#[test]
fn a_job_that_few_members_have_is_not_refused_as_if_all_were_theirs() {
    let of_few = JobId(10);
    let members = (0..10).map(|node| {
        let mut heavy = vec![
            HeavyTarget::rest(ZoneId::NONE, 0, 1_000_000),
            HeavyTarget::budget(120_000),
        ];
        heavy.sort();
        let mut member = member(node, "", 1, heavy);
        if node < 2 {
            let more = JobVersion {
                job: of_few,
                config_hash: 1,
                since_ms: 0,
            };
            let jobs = member.stage.jobs.iter().copied().chain([more]);
            member.stage.jobs = jobs.collect();
        }
        member
    });
    let view = View::new(members.collect());
    for (key, _) in targets(2_000, 1) {
        assert!(view.owner(JOB, key).is_some());
        let owner = view.owner(of_few, key);
        assert!(matches!(owner, Some("node-0" | "node-1")), "{owner:?}");
    }
}
