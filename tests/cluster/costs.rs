//! One target that is as large as hundreds of others, or more than all nodes may take -> whether
//! nodes come level by samples, and what they refuse.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use ringscrape_cluster::{Ring, TargetKey};
use ringscrape_tests::wait;
use serde_json::Value;

use crate::Stage;
use crate::load::{Fleet, Size};
use crate::node::{self, Node};
use crate::place::Place;

const SMALL: Size = Size {
    targets: 2_000,
    series: 10,
    interval_s: 5,
};
/// 400 times as many, with the series that each scrape adds.
const GIANT: Size = Size {
    targets: 1,
    series: 5_995,
    interval_s: 5,
};
/// Each scrape adds these.
const ADDED_SERIES: usize = 5;
/// How long nodes may take to learn costs, to tell each other and to settle.
const LIMIT: Duration = Duration::from_secs(150);

/// Samples a second of a target.
fn rate(size: Size) -> f64 {
    (size.series + ADDED_SERIES) as f64 / size.interval_s as f64
}

/// The highest load in parts of the mean.
fn skew(loads: &BTreeMap<String, f64>) -> f64 {
    let mean = loads.values().sum::<f64>() / loads.len() as f64;
    loads.values().copied().fold(0.0, f64::max) / mean
}

fn samples(nodes: &[Node]) -> BTreeMap<String, f64> {
    let total = |node: &Node| node.metric("ringscrape_samples_total", &[]);
    nodes
        .iter()
        .map(|node| (node.name.clone(), total(node)))
        .collect()
}

/// By node: what it logs a second, over some rounds.
fn measured(stage: &Stage, nodes: &[Node], rounds: u64) -> BTreeMap<String, f64> {
    let before = samples(nodes);
    let began = std::time::Instant::now();
    stage.fleet.wait_rounds(rounds);
    let seconds = began.elapsed().as_secs_f64();
    let rate = |(name, total): (String, f64)| {
        let rate = (total - before[&name]) / seconds;
        (name, rate)
    };
    samples(nodes).into_iter().map(rate).collect()
}

#[test]
fn one_giant_among_small_targets_leaves_nodes_level_by_samples() {
    let stage = Stage::new(SMALL, &Place::Loopback);
    let dir = stage.path().join("giant");
    fs::create_dir_all(&dir).expect("cannot make a directory");
    let giant = Fleet::start_from(SMALL.targets, &dir, GIANT, &Place::Loopback);
    let all = SMALL.targets + GIANT.targets;
    let files = dir.join("targets.json");
    let config = stage.config("").replace(
        "targets.json']",
        &format!("targets.json', '{}']", files.display()),
    );
    let mut nodes: Vec<Node> = ["a", "b", "c"]
        .iter()
        .map(|name| Node::new(stage.path(), name, &config, &[], Place::Loopback))
        .collect();
    let peers: Vec<_> = nodes.iter().map(Node::gossip).collect();
    for index in 0..nodes.len() {
        nodes[index].start(&peers);
        node::wait_shared(&nodes[..=index], all);
    }
    stage.fleet.wait_all_scraped();
    giant.wait_all_scraped();

    let text = fs::read_to_string(&files).expect("the fleet has written its targets");
    let listed: Value = serde_json::from_str(&text).expect("targets are JSON");
    let giant_instance = listed[0]["labels"]["instance"].clone();
    assert!(giant_instance.is_string(), "{text}");
    let cost = |target: &Value| match target["labels"]["instance"] == giant_instance {
        true => rate(GIANT),
        false => rate(SMALL),
    };
    // What the ring alone would give.
    let ring = Ring::new(["a", "b", "c"].map(|name| (name, 1)));
    let mut unweighted = BTreeMap::<String, f64>::new();
    for target in nodes[0].fleet() {
        let key = target["key"]
            .as_str()
            .and_then(|key| u64::from_str_radix(key, 16).ok());
        let owner = key.and_then(|key| ring.owner(TargetKey(key)));
        let owner = owner.expect("each target has an owner").to_owned();
        *unweighted.entry(owner).or_default() += cost(&target);
    }
    let planned = || {
        let mut loads = BTreeMap::<String, f64>::new();
        for target in nodes[0].fleet() {
            let owner = target["owner"].as_str().unwrap_or("nobody").to_owned();
            *loads.entry(owner).or_default() += cost(&target);
        }
        loads
    };
    let is_listed = || {
        let listed = nodes
            .iter()
            .map(|n| n.metric("ringscrape_cluster_heavy_targets", &[]));
        listed.sum::<f64>() >= 1.0
    };
    wait::until(
        "the giant is made up for",
        LIMIT,
        || format!("{:?}", planned()),
        || (is_listed() && planned().len() == 3 && skew(&planned()) <= 1.10).then_some(()),
    );
    stage.fleet.wait_rounds(1);
    let weighted = measured(&stage, &nodes, 3);
    eprintln!(
        "samples a second by the ring alone: {unweighted:.0?}, max / mean {:.3}",
        skew(&unweighted)
    );
    eprintln!(
        "placed by cost: {:.0?} planned, {weighted:.0?} measured, max / mean {:.3}",
        planned(),
        skew(&weighted)
    );
    assert!(skew(&weighted) <= 1.10, "{weighted:?}");
    node::wait_shared(&nodes, all);
    stage.assert_flawless("targets were placed by their costs");
    let seen = giant.report();
    assert_eq!(seen["slots_missed"], 0, "{seen}");
    assert_eq!(seen["slots_doubled"], 0, "{seen}");
    stage.assert_received("at the end");
}

const BUDGETED: Size = Size {
    targets: 600,
    series: 10,
    interval_s: 5,
};
/// Of each node, in samples a second: two nodes have room for two thirds of the targets.
const BUDGET: f64 = 600.0;

#[test]
fn what_no_budget_has_room_for_is_refused_loudly_by_all_alike() {
    let stage = Stage::new(BUDGETED, &Place::Loopback);
    let flag = format!("--cluster.samples-per-second-max={BUDGET}");
    let mut nodes: Vec<Node> = ["a", "b"]
        .iter()
        .map(|name| stage.node(name, &[&flag], Place::Loopback))
        .collect();
    let peers: Vec<_> = nodes.iter().map(Node::gossip).collect();
    for node in &mut nodes {
        node.start(&peers);
    }
    // As long as costs are not known, everything is scraped.
    stage.fleet.wait_all_scraped();
    let refused = |node: &Node| {
        let labels = ["cause=\"budget\""];
        node.metric("ringscrape_cluster_refused_targets", &labels)
    };
    let state = || format!("{:?}", nodes.iter().map(refused).collect::<Vec<_>>());
    wait::until("a third is refused", LIMIT, state, || {
        let expected = BUDGETED.targets as f64 / 3.0;
        let is_third = |node: &Node| (refused(node) / expected - 1.0).abs() < 0.2;
        nodes.iter().all(is_third).then_some(())
    });
    stage.fleet.wait_rounds(1);
    let measured = measured(&stage, &nodes, 2);
    eprintln!(
        "{} and {} targets refused, {measured:.0?} samples a second of {BUDGET} each",
        refused(&nodes[0]),
        refused(&nodes[1])
    );
    for (node, load) in &measured {
        assert!((0.8..1.1).contains(&(load / BUDGET)), "{node}: {load}");
    }
    let fleets = [nodes[0].fleet(), nodes[1].fleet()];
    for (one, other) in fleets[0].iter().zip(&fleets[1]) {
        assert_eq!(
            (&one["key"], &one["owner"]),
            (&other["key"], &other["owner"])
        );
        let why = one["whyUnowned"].as_str().unwrap_or_default();
        let is_said = why.contains("--cluster.samples-per-second-max");
        assert_eq!(one["owner"].is_null(), is_said, "{one}");
    }
    let said = |node: &Node| {
        node.log_tail()
            .contains("no node has room for some targets")
    };
    let tail = || nodes[0].log_tail();
    wait::until("it is in the log", LIMIT, tail, || {
        nodes.iter().all(said).then_some(())
    });
    let doubled = stage.fleet.report()["slots_doubled"].clone();
    assert_eq!(doubled, 0);
}
