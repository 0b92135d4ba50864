//! Planned changes: joins, leaves, restarts, another configuration -> no slot missed or doubled.
//!
//! After a change all targets are scraped once before the next one. What a change has missed or
//! doubled shows in all later reports, and at the latest two rounds after it.

use std::net::SocketAddr;

use crate::Stage;
use crate::load::Size;
use crate::node::{self, Node};
use crate::place::Place;

pub(crate) const SIZE: Size = Size {
    targets: 3_000,
    series: 10,
    interval_s: 5,
};

/// A third of all exchanges of state fail.
const DROPS: &[&str] = &["--cluster.test-drop-exchanges=0.33"];

/// Three nodes that share the fleet; the first one began alone.
pub(crate) fn three(stage: &Stage, flags: &[&str]) -> Vec<Node> {
    let mut nodes: Vec<Node> = ["a", "b", "c"]
        .iter()
        .map(|name| stage.node(name, flags, Place::Loopback))
        .collect();
    let peers = addresses(&nodes);
    for index in 0..nodes.len() {
        nodes[index].start(&peers);
        node::wait_shared(&nodes[..=index], stage.fleet.size.targets);
    }
    stage.fleet.wait_all_scraped();
    nodes
}

fn addresses(nodes: &[Node]) -> Vec<SocketAddr> {
    nodes.iter().map(Node::gossip).collect()
}

#[test]
fn joins_leaves_and_another_configuration_miss_and_double_nothing() {
    let stage = Stage::new(SIZE, &Place::Loopback);
    let mut nodes = three(&stage, DROPS);
    stage.assert_flawless("three nodes began one after another");

    nodes.push(stage.node("d", DROPS, Place::Loopback));
    let peers = addresses(&nodes);
    nodes[3].start(&peers);
    node::wait_shared(&nodes, SIZE.targets);
    stage.fleet.wait_rounds(1);
    stage.assert_flawless("a fourth one joined");

    nodes[1].stop();
    node::wait_shared(&nodes, SIZE.targets);
    stage.fleet.wait_rounds(1);
    stage.assert_flawless("the second one left");
    nodes[1].start(&peers);
    node::wait_shared(&nodes, SIZE.targets);
    stage.fleet.wait_rounds(1);
    stage.assert_flawless("the second one came back");

    let changed = stage.config("    scrape_timeout: 4s\n");
    for node in &nodes {
        node.reload(&changed);
        stage.fleet.wait_rounds(1);
    }
    node::wait_shared(&nodes, SIZE.targets);
    stage.fleet.wait_rounds(2);
    stage.assert_flawless("another configuration was rolled out");
    stage.assert_received("at the end");
}

#[test]
fn restarts_of_all_miss_and_double_nothing() {
    let stage = Stage::new(SIZE, &Place::Loopback);
    let mut nodes: Vec<Node> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| stage.node(name, DROPS, Place::Loopback))
        .collect();
    let peers = addresses(&nodes);
    for node in &mut nodes {
        node.start(&peers);
    }
    node::wait_shared(&nodes, SIZE.targets);
    stage.fleet.wait_all_scraped();
    stage.assert_flawless("four nodes began at once");

    for index in 0..nodes.len() {
        nodes[index].stop();
        node::wait_shared(&nodes, SIZE.targets);
        nodes[index].start(&peers);
        node::wait_shared(&nodes, SIZE.targets);
    }
    stage.fleet.wait_rounds(2);
    stage.assert_flawless("all were restarted, one after another");
    stage.assert_received("at the end");
}
