//! Each target scraped by two of three nodes -> two series that go on when a node dies.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use ringscrape_tests::engine::ringscrape;
use ringscrape_tests::recorder::{Recorder, Sample};

use crate::Turn;
use crate::load::{Fleet, Size};
use crate::node::{self, Node};
use crate::place::Place;

const TARGETS: usize = 12;
const INTERVAL_MS: i64 = 4_000;
/// Most that a phase may be off from half of the interval: places of the grid.
const GRID_MS: i64 = 2 * 15;

/// Times of the scrapes of each replica, by `instance` and number.
type Times = BTreeMap<(String, String), Vec<i64>>;

fn scrapes(recorder: &Recorder) -> Times {
    let mut times = Times::new();
    let text = |sample: &Sample, name| sample.label(name).unwrap_or_default().to_owned();
    recorder.with("write", |samples| {
        for sample in samples.iter().filter(|sample| sample.name() == "up") {
            let replica = (text(sample, "instance"), text(sample, "__replica__"));
            assert!(!sample.is_stale(), "{replica:?} ended");
            times.entry(replica).or_default().push(sample.timestamp_ms);
        }
    });
    for times in times.values_mut() {
        times.sort_unstable();
    }
    times
}

/// Where in the interval the slots are: what most scrapes are stamped with.
fn phase_ms(times: &[i64]) -> i64 {
    let mut counts = BTreeMap::<i64, usize>::new();
    for at in times {
        *counts.entry(at.rem_euclid(INTERVAL_MS)).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.expect("there are scrapes").0
}

/// Slots missed and doubled. A scrape that is late is stamped later than its slot.
fn slots(times: &[i64]) -> (i64, i64) {
    let phase_ms = phase_ms(times);
    let slot = |at: &i64| (at - phase_ms).div_euclid(INTERVAL_MS);
    let steps = times.windows(2).map(|pair| slot(&pair[1]) - slot(&pair[0]));
    let (mut missed, mut doubled) = (0, 0);
    for step in steps {
        missed += (step - 1).max(0);
        doubled += i64::from(step == 0);
    }
    (missed, doubled)
}

/// By `instance` and number of the replica: who scrapes it.
fn owners(node: &Node) -> BTreeMap<(String, String), String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let owner = |target: serde_json::Value| {
        let labels = &target["labels"];
        let replica = (text(&labels["instance"]), text(&labels["__replica__"]));
        (replica, text(&target["owner"]))
    };
    node.fleet().into_iter().map(owner).collect()
}

#[test]
fn replicas_go_on_when_a_node_dies() {
    let _turn = Turn::beside_others();
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    // Two replicas are two scrapes in an interval, evenly spread. What is scraped is sent at once:
    // a node that is killed keeps the rest.
    let size = Size {
        targets: TARGETS,
        series: 5,
        interval_s: INTERVAL_MS as u64 / 2_000,
    };
    let fleet = Fleet::start(dir.path(), size, &Place::Loopback);
    let recorder = Recorder::start();
    let config = format!(
        "global:\n  scrape_interval: 4s\n  scrape_timeout: 4s\n\
         scrape_configs:\n  - job_name: fleet\n\
         \x20   clustering: {{replication_factor: 2, replica_label: __replica__}}\n\
         \x20   file_sd_configs:\n      - files: ['{}']\n\
         remote_write:\n  - url: {}\n    queue_config: {{batch_send_deadline: 100ms}}\n",
        dir.path().join("targets.json").display(),
        recorder.url("write"),
    );
    let mut nodes: Vec<Node> = ["a", "b", "c"]
        .iter()
        .map(|name| Node::new(dir.path(), name, &config, &[], Place::Loopback))
        .collect();
    let peers: Vec<_> = nodes.iter().map(Node::gossip).collect();
    nodes[0].start(&peers);
    node::wait_shared(&nodes, TARGETS);
    for index in 1..nodes.len() {
        nodes[index].start(&peers);
        node::wait_shared(&nodes, 2 * TARGETS);
    }
    fleet.wait_rounds(6);

    let before = owners(&nodes[0]);
    assert_eq!(before.len(), 2 * TARGETS);
    for ((instance, replica), owner) in before.iter().filter(|(one, _)| one.1 == "0") {
        let other = &before[&(instance.clone(), "1".to_owned())];
        assert_ne!(
            owner, other,
            "{instance}: both are one node's, as {replica}"
        );
    }
    let instance = &before.keys().next().expect("there are targets").0;
    let answer = Command::new(ringscrape())
        .args(["cluster", "owner", instance, "--address"])
        .arg(format!("http://{}", nodes[0].web()))
        .output()
        .expect("the program runs");
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    for replica in ["replica 0 (of 2): ", "replica 1 (of 2): "] {
        assert!(answer.contains(replica), "{answer}");
    }
    let times = scrapes(&recorder);
    assert_eq!(times.len(), 2 * TARGETS);
    for (replica, times) in &times {
        assert_eq!(
            slots(times),
            (0, 0),
            "{replica:?} before the kill: {times:?}"
        );
    }
    for ((instance, replica), first) in times.iter().filter(|(one, _)| one.1 == "0") {
        let second = &times[&(instance.clone(), "1".to_owned())];
        let apart_ms = (phase_ms(second) - phase_ms(first)).rem_euclid(INTERVAL_MS);
        let off_ms = (apart_ms - INTERVAL_MS / 2).abs();
        assert!(
            off_ms <= GRID_MS,
            "{instance}, {replica}: {apart_ms} ms apart"
        );
    }

    let killed_at = Instant::now();
    nodes[1].kill();
    node::wait_shared(&nodes, 2 * TARGETS);
    let taken_over_ms = killed_at.elapsed().as_millis() as i64;
    let missed_max = 1 + taken_over_ms / INTERVAL_MS;
    fleet.wait_rounds(8);
    let (mut missed_of_dead, mut orphans) = (0, 0);
    for (replica, times) in &scrapes(&recorder) {
        let (missed, doubled) = slots(times);
        if before[replica] == "b" {
            orphans += 1;
            // Nobody has heard of what it scraped in its last moment.
            assert!(doubled <= 1, "{replica:?}: {times:?}");
            missed_of_dead += missed;
            assert!(
                missed <= missed_max,
                "{replica:?} after the kill, taken over after {taken_over_ms} ms: {times:?}"
            );
        } else {
            let found = (missed, doubled);
            assert_eq!(found, (0, 0), "{replica:?}, whose node lives: {times:?}");
        }
    }
    eprintln!("{orphans} replicas taken over, {missed_of_dead} slots missed");
    assert!(orphans > 0);
    let after = owners(&nodes[0]);
    assert!(after.values().all(|owner| owner == "a" || owner == "c"));
    assert_eq!(recorder.violations(), Vec::<String>::new());
}
