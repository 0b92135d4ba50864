//! A join while the new node's discovery takes long -> no slot missed or doubled.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringscrape_tests::server::{Server, answer};

use crate::Stage;
use crate::node::{self, Node};
use crate::place::Place;
use crate::planned::SIZE;

/// How long discovery takes.
const SLOW: Duration = Duration::from_secs(20);

#[test]
fn a_node_whose_discovery_takes_20_s_joins_when_it_knows_its_targets() {
    let stage = Stage::new(SIZE, &Place::Loopback);
    let file = stage.path().join("targets.json");
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = Arc::clone(&is_slow);
    let server = Server::start(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0, move |_, stream| {
        if slow.load(Ordering::SeqCst) {
            std::thread::sleep(SLOW);
        }
        let json = std::fs::read(&file)?;
        answer(stream, 200, &[("Content-Type", "application/json")], &json)
    });
    let discovery = format!(
        "    http_sd_configs:\n      - url: http://{}/targets\n",
        server.address()
    );
    let config = stage.config_with(&discovery, "");
    let mut nodes: Vec<Node> = ["a", "b", "c", "late"]
        .iter()
        .map(|name| Node::new(stage.path(), name, &config, &[], Place::Loopback))
        .collect();
    let peers: Vec<_> = nodes.iter().map(Node::gossip).collect();
    for node in &mut nodes[..3] {
        node.start(&peers);
    }
    node::wait_shared(&nodes[..3], SIZE.targets);
    stage.fleet.wait_all_scraped();
    stage.fleet.wait_rounds(1);

    is_slow.store(true, Ordering::SeqCst);
    let began = Instant::now();
    nodes[3].start(&peers);
    node::wait_shared(&nodes, SIZE.targets);
    let joined = began.elapsed();
    eprintln!("discovery took {SLOW:?}, the node had its share after {joined:.1?}");
    assert!(joined >= SLOW, "it cannot have known its targets");
    stage.fleet.wait_rounds(2);
    stage.assert_flawless("a node whose discovery took 20 s joined");
    stage.assert_received("at the end");
}
