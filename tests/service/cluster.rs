//! Three nodes that keep the store themselves -> each change is effective on all within 2 s, and
//! each target is one node's.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::net;
use ringscrape_tests::recorder::Recorder;

use super::{LIMIT, delete, one_at_a_time, put, status, until};

/// How soon a change has to be effective on all nodes.
const SOON: Duration = Duration::from_secs(2);
const TARGETS: usize = 12;

fn start(dir: &Path, name: &str, gossip: SocketAddr, join: SocketAddr) -> Running {
    let dir = dir.join(name);
    std::fs::create_dir(&dir).expect("cannot make a folder");
    let file = "scraping_service: {enabled: true, kvstore: {store: gossip}}\n";
    Running::start(
        Engine::Ringscrape,
        &dir,
        file,
        &[
            "--cluster.enabled",
            &format!("--cluster.node-name={name}"),
            &format!("--cluster.listen-address={gossip}"),
            &format!("--cluster.join-addresses={join}"),
            "--cluster.wait-for-size=3",
        ],
    )
}

/// A job with targets that differ in their path.
fn config(target: SocketAddr, url: &str, job: &str, more: &str) -> String {
    let groups: Vec<String> = (0..TARGETS)
        .map(|n| format!("{{targets: ['{target}'], labels: {{__metrics_path__: /{job}/{n}}}}}"))
        .collect();
    format!(
        "{more}scrape_configs:
- job_name: {job}
  scrape_interval: 1s
  static_configs: [{}]
remote_write: [{{url: '{url}'}}]
",
        groups.join(", ")
    )
}

/// All nodes run the text of this revision or a later one, and all its targets have an owner.
fn is_effective(nodes: &[Running], name: &str, job: &str) -> Option<usize> {
    let view = status(nodes[0].address, name)?;
    let applied = view["applied"].as_object()?;
    let revisions: Vec<_> = applied
        .values()
        .map(|one| one["revision"].as_u64())
        .collect();
    let is_same = revisions.windows(2).all(|pair| pair[0] == pair[1]);
    let all = view["targets"] == TARGETS && view["jobs"][0] == job;
    (revisions.len() == nodes.len() && revisions[0].is_some() && is_same && all)
        .then(|| view["owners"].as_object().map_or(0, |owners| owners.len()))
}

#[test]
fn each_change_is_effective_on_all_nodes_within_two_seconds() {
    let _one = one_at_a_time();
    let dir = tempfile::tempdir().unwrap();
    let gossip: Vec<SocketAddr> = (0..3).map(|_| net::free_address()).collect();
    let target = Exporter::start(|_| Page::text("m 1\n"));
    let receiver = Recorder::start();
    let mut nodes: Vec<Running> = (0..3)
        .map(|n| start(dir.path(), &format!("n{n}"), gossip[n], gossip[(n + 1) % 3]))
        .collect();
    for node in &mut nodes {
        node.wait_ready();
    }
    let text = |job: &str, more: &str| config(target.address(), &receiver.url("/w"), job, more);
    until("the members are there", LIMIT, || {
        (put(nodes[1].address, "first", &text("first", "")).0 == 201).then_some(())
    });
    until("the first one runs on all", LIMIT, || {
        is_effective(&nodes, "first", "first").filter(|owners| *owners > 1)
    });
    let soon = |what: &str, name: &str, job: &str| -> usize {
        let began = Instant::now();
        let owners = until(what, SOON, || is_effective(&nodes, name, job));
        eprintln!("{what}: {:?}", began.elapsed());
        owners
    };
    assert_eq!(put(nodes[2].address, "a", &text("ja", "")).0, 201);
    assert!(soon("a new one", "a", "ja") > 1, "its targets are shared");
    assert_eq!(put(nodes[0].address, "a", &text("jb", "")).0, 200);
    soon("another job", "a", "jb");
    let unit = text("jb", "distribute_by: config\n");
    assert_eq!(put(nodes[1].address, "a", &unit).0, 200);
    until("one node has all of it", LIMIT, || {
        (is_effective(&nodes, "a", "jb")? == 1).then_some(())
    });
    assert_eq!(delete(nodes[2].address, "a").0, 200);
    until("it is gone from all nodes", SOON, || {
        status(nodes[0].address, "a").is_none().then_some(())
    });
    assert!(
        receiver.violations().is_empty(),
        "{:?}",
        receiver.violations()
    );
}
