//! Losses, delays, cuts and standstills on a network of the test's own -> what is missed and what
//! is doubled.
//!
//! Nodes that cannot hear each other cannot agree: in a partition a side that is half of the
//! cluster or more takes over the rest, which then is scraped twice as long as the cut lasts. That
//! nothing is missed and that a healed cluster doubles nothing is asserted; the rest is printed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringscrape_tests::lan::{Lan, Wire};
use ringscrape_tests::wait;

use crate::Stage;
use crate::load::Size;
use crate::node::{self, Node};
use crate::place::Place;

const SIZE: Size = Size {
    targets: 600,
    series: 10,
    interval_s: 5,
};
/// Where a dead node is taken over: its slots are still current when that is found out.
const SIZE_OF_CRASHES: Size = Size {
    interval_s: 10,
    ..SIZE
};

/// Nodes on hosts of their own, the fleet and the receiver on another one.
struct Network {
    nodes: Vec<Node>,
    stage: Stage,
    lan: Arc<Lan>,
}

impl Network {
    /// `None`: no namespaces can be made here.
    fn start(nodes: usize, size: Size) -> Option<Self> {
        let lan = match Lan::new(nodes + 1) {
            Ok(lan) => Arc::new(lan),
            Err(error) => {
                eprintln!("skipped: no network namespaces here: {error}");
                return None;
            }
        };
        let stage = Stage::new(size, &Place::Host(Arc::clone(&lan), nodes));
        let nodes = (0..nodes)
            .map(|host| {
                let name = format!("node-{host}");
                let flags = ["--cluster.insecure"];
                stage.node(&name, &flags, Place::Host(Arc::clone(&lan), host))
            })
            .collect();
        let mut network = Self { lan, stage, nodes };
        network.start_all();
        Some(network)
    }

    fn start_all(&mut self) {
        let peers: Vec<_> = self.nodes.iter().map(Node::gossip).collect();
        for node in &mut self.nodes {
            node.start(&peers);
        }
        node::wait_shared(&self.nodes, SIZE.targets);
        self.stage.fleet.wait_all_scraped();
        self.stage.fleet.wait_rounds(1);
        self.stage.assert_flawless("started");
    }

    fn cut(&self, some: &[usize], others: &[usize]) {
        self.lan.set_between(some, others, Wire::CUT);
    }

    fn heal(&self) {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.lan.set_between(&all, &all, Wire::default());
    }

    /// Waits until nobody scrapes what another one scrapes, then that nothing more is doubled.
    fn assert_heals(&self, when: &str) {
        node::wait_shared(&self.nodes, SIZE.targets);
        let (doubled, _) = self.stage.assert_none_missed(&format!("{when}, healed"));
        self.stage.fleet.wait_rounds(2);
        self.stage.assert_all_scraped(when);
        let (after, first) = self
            .stage
            .assert_none_missed(&format!("{when}, two rounds on"));
        assert_eq!(
            after, doubled,
            "{when}: doubled after the cluster had healed; {first}"
        );
    }
}

/// Lets what was set last for a while: nothing is expected of the time itself.
fn lasts(time: Duration) {
    std::thread::sleep(time);
}

#[test]
fn loss_and_delay_miss_and_double_nothing() {
    let Some(mut network) = Network::start(3, SIZE) else {
        return;
    };
    let all = [0, 1, 2];
    let delay = Duration::from_millis(30);
    network
        .lan
        .set_between(&all, &all, Wire { loss: 0.1, delay });
    network.nodes[1].stop();
    node::wait_shared(&network.nodes, SIZE.targets);
    let peers: Vec<_> = network.nodes.iter().map(Node::gossip).collect();
    network.nodes[1].start(&peers);
    node::wait_shared(&network.nodes, SIZE.targets);
    network.stage.fleet.wait_rounds(2);
    network
        .stage
        .assert_flawless("a restart with a tenth of all packets lost, 30 ms late");
}

#[test]
fn partitions_miss_nothing_and_heal() {
    let Some(network) = Network::start(3, SIZE) else {
        return;
    };
    network.cut(&[0], &[1, 2]);
    let majority = |node: &Node| node.targets() as usize * 2 > SIZE.targets / 2;
    wait::until(
        "the majority takes over",
        Duration::from_secs(20),
        || network.nodes[1].log_tail(),
        || {
            let taken = network.nodes[1].targets() + network.nodes[2].targets();
            (taken == SIZE.targets as u64 && majority(&network.nodes[1])).then_some(())
        },
    );
    network.stage.fleet.wait_rounds(2);
    let alone = network.nodes[0].targets() as usize;
    assert!(
        alone > 0 && alone < SIZE.targets,
        "the minority keeps its share: {alone}"
    );
    network.heal();
    network.assert_heals("one of three was cut off");

    network.cut(&[0], &[1, 2]);
    network.cut(&[1], &[2]);
    network.stage.fleet.wait_rounds(2);
    network.heal();
    network.assert_heals("all were cut off from each other");
}

#[test]
fn one_way_cuts_and_flapping_links_miss_nothing() {
    let Some(network) = Network::start(3, SIZE) else {
        return;
    };
    for other in [1, 2] {
        network.lan.set_path(other, 0, Wire::CUT);
    }
    network.stage.fleet.wait_rounds(2);
    network.heal();
    network.assert_heals("the first one could send and not receive");

    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        network.cut(&[0], &[1, 2]);
        lasts(Duration::from_millis(1_500));
        network.heal();
        lasts(Duration::from_millis(700));
    }
    network.assert_heals("a link that flapped for 20 s");
}

#[test]
fn a_paused_node_doubles_nothing_when_it_wakes() {
    let Some(mut network) = Network::start(3, SIZE_OF_CRASHES) else {
        return;
    };
    network.nodes[0].signal(libc::SIGSTOP);
    lasts(Duration::from_secs(30));
    let (before, _) = network
        .stage
        .assert_none_missed("a node stood still for 30 s");
    network.nodes[0].signal(libc::SIGCONT);
    network.assert_heals("it woke");
    let (_, after, first) = network.stage.slots("at the end");
    assert_eq!(after, before, "doubled by the one that woke; {first}");
}

#[test]
fn one_of_two_takes_over_when_the_other_is_killed() {
    let Some(mut network) = Network::start(2, SIZE_OF_CRASHES) else {
        return;
    };
    network.nodes[0].kill();
    node::wait_shared(&network.nodes, SIZE.targets);
    network.stage.fleet.wait_rounds(2);
    network.stage.assert_none_missed("one of two was killed");
}
