//! A node whose clock is 2 s ahead -> what it says of it, and that planned changes stay right.
//!
//! Each node takes the slots by its own clock, so a target that moves to a node whose clock is
//! ahead is scraped that much sooner once; its samples are stamped with their slot all the same.

use std::path::PathBuf;
use std::time::Duration;

use ringscrape_tests::debian;
use ringscrape_tests::wait;

use crate::Stage;
use crate::load::Size;
use crate::node::{self, Node};
use crate::place::Place;

const SIZE: Size = Size {
    targets: 1_000,
    series: 10,
    interval_s: 10,
};

const LIMIT: Duration = Duration::from_secs(30);

/// The library that shifts the wall clock of one process.
fn faketime() -> Option<PathBuf> {
    let directories = ["x86_64", "aarch64"].map(|cpu| format!("/usr/lib/{cpu}-linux-gnu/faketime"));
    let library = directories
        .iter()
        .map(|dir| PathBuf::from(dir).join("libfaketimeMT.so.1"))
        .find(|path| path.is_file());
    if library.is_none() {
        debian::skip("libfaketime is not installed (`cargo xtask test` installs it)");
    }
    library
}

#[test]
fn clocks_2_s_apart_are_warned_of_and_miss_and_double_nothing() {
    let Some(library) = faketime() else {
        return;
    };
    let stage = Stage::new(SIZE, &Place::Loopback);
    let mut nodes: Vec<Node> = ["a", "b", "ahead"]
        .iter()
        .map(|name| stage.node(name, &[], Place::Loopback))
        .collect();
    for (name, value) in [
        ("LD_PRELOAD", library.to_str().expect("the path is text")),
        ("FAKETIME", "+2.0"),
        // Only the wall clock: it is what hosts disagree about.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ] {
        nodes[2].set_variable(name, value);
    }
    let peers: Vec<_> = nodes.iter().map(Node::gossip).collect();
    for node in &mut nodes[..2] {
        node.start(&peers);
    }
    node::wait_shared(&nodes, SIZE.targets);
    stage.fleet.wait_all_scraped();
    nodes[2].start(&peers);
    node::wait_shared(&nodes, SIZE.targets);
    stage.fleet.wait_rounds(1);
    stage.assert_flawless("one whose clock is 2 s ahead joined");

    let skew = || nodes[0].metric("ringscrape_cluster_clock_skew_seconds", &["node=\"ahead\""]);
    wait::until(
        "the skew is measured",
        LIMIT,
        || format!("{} s", skew()),
        || (1.8..2.2).contains(&skew()).then_some(()),
    );
    let log = nodes[0].log();
    assert!(
        log.lines()
            .any(|line| line.contains("WARN") && line.contains("clock") && line.contains("ahead")),
        "no warning: {log}"
    );

    nodes[2].stop();
    node::wait_shared(&nodes, SIZE.targets);
    stage.fleet.wait_rounds(1);
    stage.assert_flawless("it left");
    nodes[2].start(&peers);
    node::wait_shared(&nodes, SIZE.targets);
    nodes[0].stop();
    node::wait_shared(&nodes, SIZE.targets);
    stage.fleet.wait_rounds(2);
    stage.assert_flawless("it came back, and another one left");
    stage.assert_received("at the end");

    nodes[2].kill();
    node::wait_shared(&nodes, SIZE.targets);
    stage.fleet.wait_rounds(2);
    let (missed, doubled, _) = stage.slots("it was killed");
    let share = SIZE.targets as u64;
    assert!(
        missed + doubled <= share,
        "more than one slot of its targets: {missed} missed, {doubled} doubled"
    );
}
