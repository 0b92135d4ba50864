//! Nodes that learn what their targets cost and tell each other, round after round -> loads come to
//! one level, and then nobody has anything to say.

use super::{CHANGE_MS, Learner, Look};
use crate::config::Config;
use crate::discovery::TargetGroup;
use crate::labels::Labels;
use crate::mailbox::{CostReport, JobCost};
use crate::target::{self, Target};
use proptest::prelude::*;
use ringscrape_cluster::View;
use ringscrape_cluster::member::{HeavyTarget, JobId, JobVersion, Stage, ZoneId};
use ringscrape_cluster::view::Active;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

struct Fleet {
    targets: Vec<(Arc<Target>, f32)>,
    counts: BTreeMap<(JobId, ZoneId, u8), u64>,
    places: HashSet<u64>,
}

impl Fleet {
    fn new(costs: &[f32]) -> Self {
        let text = "scrape_configs:\n- job_name: j\n";
        let config = Config::parse(Path::new("/r.yml"), text, &|_| None).unwrap();
        let address = |n| Labels::from_pairs([("__address__", format!("h{n}:1"))]);
        let group = TargetGroup {
            source: "0".into(),
            targets: (0..costs.len()).map(address).collect(),
            labels: Labels::default(),
        };
        let built = target::targets(&config.scrape_configs[0], &[Arc::new(group)]);
        let mut fleet = Self {
            targets: built
                .targets
                .into_iter()
                .zip(costs.iter().copied())
                .collect(),
            counts: BTreeMap::new(),
            places: HashSet::new(),
        };
        for (target, _) in &fleet.targets {
            let spot = &target.spot;
            fleet.places.insert(spot.key.0);
            let of = (target.job, spot.zone, spot.replica.index);
            *fleet.counts.entry(of).or_default() += 1;
        }
        fleet
    }

    fn owner<'a>(&self, view: &'a View, target: &Target) -> Option<&'a str> {
        view.owner_of(target.job, &target.spot)
    }

    /// What a shard would say that has scraped all of its targets.
    fn report(&self, view: &View, node: &str, asked: &[u64]) -> CostReport {
        let mine = self
            .targets
            .iter()
            .filter(|(target, _)| self.owner(view, target) == Some(node));
        let mine: Vec<&(Arc<Target>, f32)> = mine.collect();
        let logs: f64 = mine.iter().map(|(_, cost)| f64::from(cost.log2())).sum();
        let usual = (logs / mine.len().max(1) as f64).exp2() as f32;
        let dear = mine
            .iter()
            .filter(|(target, cost)| *cost > 2.0 * usual || asked.contains(&target.key.0));
        CostReport {
            jobs: vec![JobCost {
                job: JobId::new("j"),
                targets: mine.len() as u64,
                samples_per_s: mine.iter().map(|(_, cost)| f64::from(*cost)).sum(),
            }],
            targets: mine.len() as u64,
            sum_of_logs: logs,
            dear: dear.map(|one| (*one).clone()).collect(),
        }
    }

    /// The highest load in parts of the mean, and the most that one target costs.
    fn skew(&self, view: &View) -> (f64, f64) {
        let mut loads = vec![0.0; view.members().len()];
        let mut dearest = 0.0f64;
        for (target, cost) in &self.targets {
            if let Some(owner) = self.owner(view, target) {
                loads[view.index_of(owner).unwrap() as usize] += f64::from(*cost);
            }
            dearest = dearest.max(f64::from(*cost));
        }
        let mean = loads.iter().sum::<f64>() / loads.len() as f64;
        let most = loads.iter().copied().fold(0.0, f64::max);
        (most / mean, dearest / mean)
    }
}

struct Cluster {
    fleet: Fleet,
    nodes: BTreeMap<String, (Learner, Stage)>,
    now_ms: i64,
    budget: u32,
}

impl Cluster {
    fn new(fleet: Fleet, nodes: usize) -> Self {
        let mut cluster = Self {
            fleet,
            nodes: BTreeMap::new(),
            now_ms: 1_000_000,
            budget: 0,
        };
        for node in 0..nodes {
            cluster.join(node);
        }
        cluster
    }

    fn join(&mut self, node: usize) {
        let job = JobVersion {
            job: JobId::new("j"),
            config_hash: 1,
            since_ms: 0,
        };
        let stage = Stage {
            from_ms: self.now_ms,
            is_active: true,
            weight: 1,
            jobs: [job].into(),
            heavy: [].into(),
        };
        self.nodes
            .insert(format!("n{node}"), (Learner::default(), stage));
    }

    fn view(&self) -> View {
        let active = |(name, (_, stage)): (&String, &(Learner, Stage))| Active {
            name: name.as_str().into(),
            zone: "".into(),
            stage: stage.clone(),
        };
        View::new(self.nodes.iter().map(active).collect())
    }

    /// Each node looks in turn, and what it tells takes effect before the next one looks. Returns
    /// how many had something to tell.
    fn round(&mut self) -> usize {
        let mut told = 0;
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        self.now_ms += CHANGE_MS;
        for name in names {
            self.now_ms += 1_000;
            let view = self.view();
            let (learner, stage) = self.nodes.get_mut(&name).unwrap();
            learner.observe(&name, &view);
            let report = self.fleet.report(&view, &name, &learner.asked());
            let look = Look {
                me: &name,
                view: &view,
                counts: &self.fleet.counts,
                exists: &|(_, place)| self.fleet.places.contains(&place),
                budget: self.budget,
                now_ms: self.now_ms,
            };
            if learner.look(&[report], &look) {
                stage.heavy = learner.told(self.budget).unwrap();
                stage.from_ms = self.now_ms;
                assert!(stage.heavy.is_sorted());
                told += 1;
            }
        }
        told
    }

    /// Rounds until nobody has anything to tell.
    fn settle(&mut self, most: usize) -> usize {
        for round in 0..most {
            if self.round() == 0 {
                return round;
            }
        }
        panic!(
            "after {most} rounds there is still something new: {:?}",
            self.fleet.skew(&self.view())
        );
    }

    fn assert_level(&self, what: &str) {
        let (skew, dearest) = self.fleet.skew(&self.view());
        // A target that is more than a share is one node's alone.
        let best = dearest.max(1.0);
        // What costs little is spread by hashes: as even as these are.
        assert!(skew <= 1.13 * best, "{what}: {skew}, at best {best}");
    }
}

#[test]
fn one_giant_among_many_is_made_up_for() {
    let mut costs = vec![20.0; 2_000];
    costs[77] = 2_000.0 * 4.0;
    let mut cluster = Cluster::new(Fleet::new(&costs), 3);
    let rounds = cluster.settle(6);
    assert!(rounds <= 3, "{rounds}");
    cluster.assert_level("three nodes");

    // The lister leaves, and so does its word: who gets the target knows its cost.
    let view = cluster.view();
    let giant = cluster.fleet.targets[77].0.clone();
    let owner = cluster.fleet.owner(&view, &giant).unwrap().to_owned();
    cluster.nodes.retain(|name, (learner, _)| {
        learner.observe(name, &view);
        *name != owner
    });
    let view = cluster.view();
    let heir = cluster.fleet.owner(&view, &giant).unwrap().to_owned();
    let is_listed = view.job(giant.job).unwrap().is_heavy(giant.spot.key);
    let (learner, _) = cluster.nodes.get_mut(&heir).unwrap();
    assert_eq!(learner.observe(&heir, &view), !is_listed);
    cluster.settle(6);
    cluster.assert_level("one left");
    cluster.join(5);
    cluster.settle(6);
    cluster.assert_level("another one joined");

    // It becomes one like the others: nobody lists it any more.
    cluster.fleet.targets[77].1 = 20.0;
    cluster.settle(6);
    cluster.assert_level("it has shrunk");
    assert!(
        !cluster
            .view()
            .job(giant.job)
            .unwrap()
            .is_heavy(giant.spot.key)
    );
}

#[test]
fn noise_is_not_told() {
    let mut costs = vec![20.0; 2_000];
    costs[5] = 9_000.0;
    let mut cluster = Cluster::new(Fleet::new(&costs), 4);
    cluster.settle(6);
    for step in 0..20u32 {
        for (index, (_, cost)) in cluster.fleet.targets.iter_mut().enumerate() {
            let noise = ((index as u32 + step) % 7) as f32 / 7.0 - 0.5;
            *cost = costs[index] * (1.0 + 0.08 * noise);
        }
        assert_eq!(cluster.round(), 0, "step {step}");
    }
}

#[test]
fn equal_targets_are_told_of_once() {
    let mut cluster = Cluster::new(Fleet::new(&[7.0; 900]), 3);
    assert_eq!(cluster.round(), 3);
    for node in 3..8 {
        cluster.join(node);
        assert_eq!(cluster.round(), 1, "the new one only");
    }
    assert_eq!(cluster.settle(1), 0);
    let view = cluster.view();
    assert!(
        view.members()
            .iter()
            .all(|one| one.stage.heavy.iter().all(|t| !t.is_target()))
    );
}

#[test]
fn a_budget_is_told_at_once_and_kept_to() {
    let mut costs = vec![20.0; 3_000];
    costs[9] = 5_000.0;
    let mut cluster = Cluster::new(Fleet::new(&costs), 3);
    cluster.budget = 15_000;
    assert_eq!(
        *Learner::default().told(15_000).unwrap(),
        [HeavyTarget::budget(15_000)]
    );
    cluster.settle(8);
    let view = cluster.view();
    let mut loads = BTreeMap::<&str, f64>::new();
    let mut refused = 0.0;
    for (target, cost) in &cluster.fleet.targets {
        match cluster.fleet.owner(&view, target) {
            Some(owner) => *loads.entry(owner).or_default() += f64::from(*cost),
            None => refused += f64::from(*cost),
        }
    }
    assert!(
        loads
            .values()
            .all(|load| (14_000.0..16_000.0).contains(load)),
        "{loads:?}"
    );
    assert!((18_000.0..22_000.0).contains(&refused), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn any_costs_settle_at_one_level(
        seed: u64,
        nodes in 2usize..7,
        tail in 1.3f64..4.0,
        per_node in 2_000usize..3_000,
    ) {
        let unit = |n: u64| {
            let mixed = (seed ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (seed >> 7);
            (mixed.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 11) as f64 / (1u64 << 53) as f64
        };
        let cost = |n: usize| {
            let cost = 20.0 * (1.0 - unit(n as u64)).powf(-1.0 / tail);
            cost.min(20_000.0) as f32
        };
        let costs: Vec<f32> = (0..nodes * per_node).map(cost).collect();
        let mut cluster = Cluster::new(Fleet::new(&costs), nodes);
        cluster.settle(12);
        cluster.assert_level("at first");
        cluster.join(nodes);
        cluster.settle(12);
        cluster.assert_level("after a join");
    }
}
