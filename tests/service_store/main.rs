//! Three nodes, a real etcd that fails in all ways, and a fleet that knows its slots -> whether
//! what runs goes on, and all nodes come to run the same.

mod etcd;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use etcd::{Etcd, Way};
use ringscrape_tests::engine::{Engine, Running, ringscrape};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::process::Process;
use ringscrape_tests::recorder::Recorder;
use ringscrape_tests::{http, net, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
/// How soon a change has to be effective on all nodes.
const SOON: Duration = Duration::from_secs(2);
const CONFIGS: usize = 200;
const TARGETS: usize = 5_000;
const INTERVAL_S: u64 = 10;

/// `ringscrape load fleet`: the targets that nobody changes.
struct Fleet {
    process: Process,
    address: SocketAddr,
}

impl Fleet {
    fn start(dir: &Path) -> Self {
        let ready = dir.join("fleet-ready.json");
        let mut command = Command::new(ringscrape());
        command
            .args(["load", "fleet", "--listen-ip=127.0.0.1", "--series=3"])
            .arg(format!("--targets={TARGETS}"))
            .arg(format!("--scrape-interval={INTERVAL_S}s"))
            .arg(format!("--file-sd={}", dir.join("targets.json").display()))
            .arg(format!("--ready-file={}", ready.display()))
            .arg(format!("--report={}", dir.join("fleet.json").display()));
        let process = Process::spawn("fleet", &mut command);
        let address = wait::until(
            "the fleet serves",
            LIMIT,
            || process.log_tail(),
            || {
                let text = std::fs::read_to_string(&ready).ok()?;
                first_address(&serde_json::from_str(&text).ok()?)
            },
        );
        Self { process, address }
    }

    fn report(&self) -> Value {
        let answer = http::get(self.address, "/report");
        answer
            .unwrap_or_else(|error| panic!("no report: {error}; {}", self.process.log_tail()))
            .json()
    }

    fn wait_all_scraped(&self) {
        let scraped = || self.report()["targets_scraped"].as_u64();
        wait::until(
            "all are scraped",
            LIMIT,
            || format!("{:?}", scraped()),
            || (scraped() == Some(TARGETS as u64)).then_some(()),
        );
    }

    /// Slots that were missed, and that were doubled, since it began.
    fn off_slots(&self) -> (u64, u64) {
        let report = self.report();
        let slots = |name: &str| report[name].as_u64().unwrap_or(u64::MAX);
        (slots("slots_missed"), slots("slots_doubled"))
    }
}

fn first_address(json: &Value) -> Option<SocketAddr> {
    match json {
        Value::String(text) => text.parse().ok(),
        Value::Array(list) => list.iter().find_map(first_address),
        Value::Object(map) => map.values().find_map(first_address),
        _ => None,
    }
}

/// The fleet's targets in so many configurations.
fn fleet_configs(dir: &Path, receiver: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(dir.join("targets.json")).expect("the targets are there");
    let groups: Value = serde_json::from_str(&text).expect("they are JSON");
    let mut targets = Vec::new();
    for group in groups.as_array().expect("they are a list") {
        for target in group["targets"].as_array().expect("a group has targets") {
            targets.push(json!({"targets": [target], "labels": group["labels"]}));
        }
    }
    assert_eq!(targets.len(), TARGETS);
    let parts = targets.chunks(TARGETS / CONFIGS).enumerate();
    let config = |(number, part): (usize, &[Value])| {
        let config = json!({
            "scrape_configs": [{
                "job_name": format!("fleet-{number:03}"),
                "scrape_interval": format!("{INTERVAL_S}s"),
                "scrape_timeout": format!("{INTERVAL_S}s"),
                "static_configs": part,
            }],
            "remote_write": [{"url": receiver}],
        });
        (format!("fleet-{number:03}"), config.to_string())
    };
    parts.map(config).collect()
}

struct Nodes(Vec<Running>);

impl Nodes {
    fn start(dir: &Path, endpoints: &[SocketAddr]) -> Self {
        let gossip: Vec<SocketAddr> = endpoints.iter().map(|_| net::free_address()).collect();
        let join: Vec<String> = gossip.iter().map(ToString::to_string).collect();
        let start = |(index, endpoint): (usize, &SocketAddr)| {
            let dir = dir.join(format!("n{index}"));
            std::fs::create_dir(&dir).expect("cannot make a folder");
            let file = format!(
                "scraping_service: {{enabled: true, kvstore: {{store: etcd, etcd: {{endpoints: \
                 ['{endpoint}']}}}}}}\n"
            );
            let flags = [
                "--shards=1".to_owned(),
                "--cluster.enabled".to_owned(),
                "--cluster.wait-for-size=3".to_owned(),
                format!("--cluster.node-name=n{index}"),
                format!("--cluster.listen-address={}", gossip[index]),
                format!("--cluster.join-addresses={}", join.join(",")),
            ];
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            Running::start(Engine::Ringscrape, &dir, &file, &flags)
        };
        let mut nodes: Vec<Running> = endpoints.iter().enumerate().map(start).collect();
        for node in &mut nodes {
            node.wait_ready();
        }
        Self(nodes)
    }

    /// Changes a configuration by way of a node; the status.
    fn change(
        &self,
        by: usize,
        method: &str,
        name: &str,
        headers: &[(&str, &str)],
        text: &str,
    ) -> u16 {
        let path = format!("/agent/api/v1/config/{name}");
        let answer = http::send(self.0[by].address, method, &path, headers, text);
        answer.expect("a node answers").status
    }

    /// By node the revision of a configuration that it has taken over.
    fn applied(&self, by: usize, name: &str) -> Option<BTreeMap<String, u64>> {
        let path = format!("/api/v1/cluster/configs?name={name}");
        let mut view = http::get(self.0[by].address, &path).ok()?.json();
        let view = view["data"]["configs"].as_array_mut()?.pop()?;
        let applied = view["applied"].as_object()?;
        let revision =
            |(node, one): (&String, &Value)| Some((node.clone(), one["revision"].as_u64()?));
        applied.iter().map(revision).collect()
    }

    /// Waits until all nodes run a later revision than `before`; which it is.
    fn effective(&self, what: &str, limit: Duration, name: &str, before: u64) -> u64 {
        let began = Instant::now();
        let state = || format!("{:?}", self.applied(0, name));
        let revision = wait::until(what, limit, state, || {
            let applied = self.applied(0, name)?;
            let first = *applied.values().next()?;
            let is_all = applied.len() == self.0.len() && applied.values().all(|one| *one == first);
            (is_all && first > before).then_some(first)
        });
        eprintln!("{what}: {:?}", began.elapsed());
        revision
    }

    fn is_gone(&self, what: &str, name: &str) {
        let nobody = || (0..self.0.len()).all(|node| self.applied(node, name).is_none());
        wait::until(what, SOON, String::new, || nobody().then_some(()));
    }

    /// What a node knows, whether its store answers or not: revisions by name.
    fn list(&self, node: usize) -> BTreeMap<String, u64> {
        let path = "/agent/api/v1/configs?details=true&stale=true&limit=10000";
        let answer = http::get(self.0[node].address, path)
            .expect("a node answers")
            .json();
        let items = answer["data"]["items"].as_array().expect("a list").clone();
        let item = |one: Value| Some((one["name"].as_str()?.to_owned(), one["revision"].as_u64()?));
        items.into_iter().filter_map(item).collect()
    }
}

#[test]
fn etcd_that_fails_stops_nothing_and_all_nodes_converge() {
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    let Some(mut etcd) = Etcd::start(dir.path()) else {
        return;
    };
    let way = Way::to(etcd.address);
    let fleet = Fleet::start(dir.path());
    let receiver = Recorder::start();
    let other = Exporter::start(|_| Page::text("m 1\n"));
    let text = |job: &str| {
        format!(
            "scrape_configs: [{{job_name: {job}, scrape_interval: 1s, static_configs: [{{targets: \
             ['{}']}}]}}]\nremote_write: [{{url: '{}'}}]\n",
            other.address(),
            receiver.url("/other")
        )
    };
    let nodes = Nodes::start(dir.path(), &[etcd.address, etcd.address, way.address]);
    let changes: Vec<Value> = fleet_configs(dir.path(), &receiver.url("/fleet"))
        .into_iter()
        .map(|(name, value)| json!({"action": "put", "name": name, "value": value}))
        .collect();
    let batch = json!({"changes": changes}).to_string();
    let path = "/agent/api/v1/configs";
    let made = http::send(nodes.0[1].address, "POST", path, &[], &batch).expect("an answer");
    assert_eq!(made.status, 200, "{}", made.text());
    nodes.effective("a batch of 200", LIMIT, "fleet-199", 0);
    fleet.wait_all_scraped();
    let (missed, _) = fleet.off_slots();

    assert_eq!(nodes.change(0, "PUT", "a", &[], &text("a")), 201);
    let first = nodes.effective("a put", SOON, "a", 0);
    let condition = format!("\"{first}\"");
    let if_match = [("If-Match", condition.as_str())];
    assert_eq!(nodes.change(2, "PUT", "a", &if_match, &text("b")), 200);
    assert_eq!(nodes.change(1, "PUT", "a", &if_match, &text("c")), 412);
    let mut last = nodes.effective("an update", SOON, "a", first);

    etcd.kill();
    assert_eq!(
        nodes.change(0, "PUT", "a", &[], &text("d")) / 100,
        5,
        "etcd is not there"
    );
    etcd.run();
    wait::until("etcd takes changes again", LIMIT, String::new, || {
        (nodes.change(0, "PUT", "a", &[], &text("e")) == 200).then_some(())
    });
    last = nodes.effective("after a restart", LIMIT, "a", last);

    etcd.signal(libc::SIGSTOP);
    assert_eq!(
        nodes.change(1, "PUT", "a", &[], &text("f")) / 100,
        5,
        "etcd stands still"
    );
    etcd.signal(libc::SIGCONT);
    wait::until("etcd takes changes again", LIMIT, String::new, || {
        (nodes.change(1, "PUT", "a", &[], &text("g")) == 200).then_some(())
    });
    last = nodes.effective("after a pause", LIMIT, "a", last);

    way.cut(true);
    assert_eq!(nodes.change(0, "PUT", "b", &[], &text("x")), 201);
    assert_eq!(nodes.change(1, "PUT", "a", &[], &text("h")), 200);
    etcd.compact();
    way.cut(false);
    nodes.effective("what a node missed", LIMIT, "a", last);
    nodes.effective("what a node missed", LIMIT, "b", 0);
    assert_eq!(nodes.change(2, "DELETE", "a", &[], ""), 200);
    nodes.is_gone("a removal", "a");

    let lists: Vec<_> = (0..3).map(|node| nodes.list(node)).collect();
    assert_eq!(lists[0].len(), CONFIGS + 1);
    assert!(lists.iter().all(|list| *list == lists[0]), "{lists:?}");
    let after = fleet.off_slots();
    eprintln!(
        "slots missed: {missed} before, {} after; {} doubled",
        after.0, after.1
    );
    assert_eq!(
        after.0, missed,
        "slots of unchanged configurations were missed"
    );
    assert_eq!(after.1, 0, "slots of unchanged configurations were doubled");
}
