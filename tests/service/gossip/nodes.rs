//! Hosts of a network of the test's own -> nodes that keep the store themselves, and a fleet that
//! knows its slots.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use ringscrape_tests::engine::{ringscrape, sum_of_metric};
use ringscrape_tests::http::{self, Response};
use ringscrape_tests::lan::{Lan, Wire};
use ringscrape_tests::process::Process;
use ringscrape_tests::wait;
use serde_json::{Value, json};

use crate::LIMIT;

/// Most nodes; each has a host, and so has the fleet, from which everything is asked.
const NODES: usize = 4;
const FLEET: usize = NODES;
pub(super) const TARGETS: usize = 60;
pub(super) const CONFIGS: usize = 12;
const INTERVAL_S: u64 = 5;

/// Nodes by number, running or not.
pub(super) struct Net {
    // Dropped in this order: processes before their hosts.
    nodes: Vec<Option<Process>>,
    fleet: Process,
    fleet_address: SocketAddr,
    dir: tempfile::TempDir,
    pub(super) lan: Lan,
}

/// What became of a change.
pub(super) struct Changed {
    pub(super) status: u16,
    pub(super) text: String,
    /// The revision that the answer names; 0: none.
    pub(super) revision: u64,
}

/// Scrapes that were not one a slot, by `instance`.
pub(super) struct Slots {
    pub(super) missed: BTreeMap<String, u64>,
    pub(super) doubled: BTreeMap<String, u64>,
}

pub(super) fn name(node: usize) -> String {
    format!("n{node}")
}

impl Net {
    /// A fleet, and no nodes yet. `None`: no namespaces can be made here.
    pub(super) fn new() -> Option<Self> {
        let lan = match Lan::new(NODES + 1) {
            Ok(lan) => lan,
            Err(error) => {
                eprintln!("skipped: no network namespaces here: {error}");
                return None;
            }
        };
        let dir = tempfile::tempdir().expect("cannot make a temporary directory");
        let ready = dir.path().join("ready.json");
        let mut command = lan.command(FLEET, ringscrape());
        command
            .args(["load", "fleet", "--series=3"])
            .arg(format!("--listen-ip={}", lan.address(FLEET)))
            .arg(format!("--targets={TARGETS}"))
            .arg(format!("--scrape-interval={INTERVAL_S}s"))
            .arg(format!(
                "--file-sd={}",
                dir.path().join("targets").display()
            ))
            .arg(format!("--report={}", dir.path().join("report").display()))
            .arg(format!("--ready-file={}", ready.display()));
        let fleet = Process::spawn("fleet", &mut command);
        let fleet_address = wait::until(
            "the fleet serves",
            LIMIT,
            || fleet.log_tail(),
            || {
                let text = std::fs::read_to_string(&ready).ok()?;
                first_address(&serde_json::from_str(&text).ok()?)
            },
        );
        let nodes = (0..NODES).map(|_| None).collect();
        Some(Self {
            nodes,
            fleet,
            fleet_address,
            dir,
            lan,
        })
    }

    fn web(&self, node: usize) -> SocketAddr {
        (self.lan.address(node), 9095).into()
    }

    /// Starts a node on what is on its disk, and waits until it is ready.
    pub(super) fn start(&mut self, node: usize) {
        let dir: PathBuf = self.dir.path().join(name(node));
        std::fs::create_dir_all(&dir).expect("cannot make a folder");
        let config = dir.join("config.yml");
        let text = "scraping_service: {enabled: true, kvstore: {store: gossip}}\n";
        std::fs::write(&config, text).expect("cannot write a file");
        let gossip = |node| SocketAddr::from((self.lan.address(node), 7946));
        let join: Vec<String> = (0..NODES).map(|node| gossip(node).to_string()).collect();
        let mut command: Command = self.lan.command(node, ringscrape());
        command
            .arg("run")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={}", self.web(node)))
            .args(["--web.enable-lifecycle", "--shards=1"])
            .args(["--cluster.enabled", "--cluster.insecure"])
            .arg(format!("--cluster.node-name={}", name(node)))
            .arg(format!("--cluster.listen-address={}", gossip(node)))
            .arg(format!("--cluster.join-addresses={}", join.join(",")));
        let mut process = Process::spawn(&name(node), &mut command);
        let is_ready = wait::within(LIMIT, || {
            if !process.is_alive() {
                return Some(false);
            }
            let answer = self.get(self.web(node), "/-/ready");
            answer.is_some_and(|a| a.status == 200).then_some(true)
        });
        assert!(is_ready == Some(true), "not ready; {}", process.log_tail());
        self.nodes[node] = Some(process);
    }

    /// kill -9.
    pub(super) fn kill(&mut self, node: usize) {
        self.nodes[node].take().expect("the node runs").kill();
    }

    /// From now on these nodes and all others do not reach each other; all reach the fleet.
    pub(super) fn cut(&self, node: usize) {
        let others: Vec<usize> = (0..NODES).filter(|other| *other != node).collect();
        self.lan.set_between(&[node], &others, Wire::CUT);
    }

    /// From now on a node can ask others for a little, and tell them little.
    pub(super) fn narrow(&self, node: usize, packet_bytes_max: usize) {
        for other in (0..NODES).filter(|other| *other != node) {
            self.lan.set_packet_bytes_max(node, other, packet_bytes_max);
        }
    }

    pub(super) fn heal(&self) {
        let all: Vec<usize> = (0..NODES).collect();
        self.lan.set_between(&all, &all, Wire::default());
        all.iter().for_each(|node| self.narrow(*node, usize::MAX));
    }

    fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (0..NODES).filter(|node| self.nodes[*node].is_some())
    }

    /// All that the running nodes have logged since they started.
    pub(super) fn log(&self, node: usize) -> String {
        self.nodes[node].as_ref().expect("the node runs").log()
    }

    fn get(&self, address: SocketAddr, path: &str) -> Option<Response> {
        let asked = self.lan.within(FLEET, || http::get(address, path));
        asked.expect("the fleet's host is there").ok()
    }

    fn json(&self, node: usize, path: &str) -> Option<Value> {
        let answer = self.get(self.web(node), path)?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Changes a configuration by way of a node.
    pub(super) fn change(&self, by: usize, method: &str, name: &str, text: &str) -> Changed {
        let path = format!("/agent/api/v1/config/{name}");
        self.send(by, method, &path, text)
    }

    /// Puts several at once.
    pub(super) fn put_all(&self, by: usize, configs: &[(String, String)]) -> Changed {
        let change =
            |(name, text): &(String, String)| json!({"action": "put", "name": name, "value": text});
        let changes: Vec<Value> = configs.iter().map(change).collect();
        let batch = json!({"changes": changes}).to_string();
        self.send(by, "POST", "/agent/api/v1/configs", &batch)
    }

    fn send(&self, by: usize, method: &str, path: &str, body: &str) -> Changed {
        let web = self.web(by);
        let sent = self
            .lan
            .within(FLEET, || http::send(web, method, path, &[], body));
        let answer = sent.expect("the fleet's host is there");
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let tag = answer.headers.iter().find(|(name, _)| name == "etag");
        let revision = tag.and_then(|(_, tag)| tag.trim_matches('"').parse().ok());
        Changed {
            status: answer.status,
            text: answer.text(),
            revision: revision.unwrap_or(0),
        }
    }

    /// What a node knows, whether its store answers or not: revisions by name, and what the store
    /// says if it does not answer.
    pub(super) fn list(&self, node: usize) -> Option<(BTreeMap<String, u64>, Option<String>)> {
        let path = "/agent/api/v1/configs?details=true&stale=true&limit=10000";
        let mut view = self.json(node, path)?;
        let items = view["data"]["items"].as_array_mut()?;
        let name = |one: &Value| one["name"].as_str().map(str::to_owned);
        let item = |one: &Value| Some((name(one)?, one["revision"].as_u64()?));
        let items = items.iter().filter_map(item).collect();
        let error = view["data"]["store_error"].as_str().map(str::to_owned);
        Some((items, error))
    }

    /// Waits until all running nodes have the same and their stores answer; what they have.
    pub(super) fn converged(&self, what: &str) -> BTreeMap<String, u64> {
        let lists = || -> Vec<_> { self.running().map(|node| self.list(node)).collect() };
        wait::until(
            what,
            LIMIT,
            || format!("{:?}", lists()),
            || {
                let mut lists = lists().into_iter();
                let first = lists.next()?.filter(|(_, error)| error.is_none())?;
                lists
                    .all(|list| list.as_ref() == Some(&first))
                    .then_some(first.0)
            },
        )
    }

    /// How a configuration is doing on all nodes, as one says.
    pub(super) fn status(&self, node: usize, name: &str) -> Option<Value> {
        let path = format!("/api/v1/cluster/configs?name={name}");
        let mut view = self.json(node, &path)?;
        view["data"]["configs"].as_array_mut()?.pop()
    }

    /// A metric of a node; 0 if there is none, or no answer.
    pub(super) fn metric(&self, node: usize, name: &str, labels: &[&str]) -> f64 {
        let answer = self.get(self.web(node), "/metrics");
        answer.map_or(0.0, |answer| sum_of_metric(&answer.text(), name, labels))
    }

    fn targets(&self, node: usize) -> u64 {
        self.metric(node, "prometheus_target_scrape_pool_targets", &[]) as u64
    }

    /// The `instance` of each target that a node scrapes.
    pub(super) fn instances(&self, node: usize) -> BTreeSet<String> {
        let view = self.json(node, "/api/v1/targets?state=active");
        let view = view.expect("the targets are told");
        let targets = view["data"]["activeTargets"].as_array().cloned();
        let instance = |target: Value| target["labels"]["instance"].as_str().map(str::to_owned);
        targets.into_iter().flatten().filter_map(instance).collect()
    }

    /// Waits until these nodes share the fleet's targets, each some.
    pub(super) fn shared(&self, what: &str, nodes: &[usize]) {
        let each = || -> Vec<u64> { nodes.iter().map(|node| self.targets(*node)).collect() };
        wait::until(
            what,
            LIMIT,
            || format!("{:?}", each()),
            || {
                let each = each();
                let is_all = each.iter().sum::<u64>() == TARGETS as u64;
                (is_all && each.iter().all(|share| *share > 0)).then_some(())
            },
        );
    }

    /// The fleet's targets in so many configurations.
    pub(super) fn fleet_configs(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.dir.path().join("targets"));
        let text = text.expect("the targets are there");
        let groups: Vec<Value> = serde_json::from_str(&text).expect("they are JSON");
        let mut targets = Vec::new();
        for group in &groups {
            for target in group["targets"].as_array().expect("a group has targets") {
                targets.push(json!({"targets": [target], "labels": group["labels"]}));
            }
        }
        assert_eq!(targets.len(), TARGETS);
        let parts = targets.chunks(TARGETS / CONFIGS).enumerate();
        let config = |(number, part): (usize, &[Value])| {
            let name = format!("fleet-{number:02}");
            let interval = format!("{INTERVAL_S}s");
            let job = json!({
                "job_name": name,
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "static_configs": part,
            });
            let text = json!({"scrape_configs": [job]}).to_string();
            (name, text)
        };
        parts.map(config).collect()
    }

    fn report(&self) -> Value {
        let answer = self.get(self.fleet_address, "/report");
        let answer = answer.unwrap_or_else(|| panic!("no report; {}", self.fleet.log_tail()));
        answer.json()
    }

    /// Waits until every target has been scraped so many more times, on average.
    pub(super) fn rounds(&self, rounds: u64) {
        let scrapes = || self.report()["scrapes"].as_u64().unwrap_or_default();
        let enough = scrapes() + rounds * TARGETS as u64;
        let state = || format!("{} scrapes of {enough}", scrapes());
        let scraped = || {
            let all = self.report()["targets_scraped"].as_u64() == Some(TARGETS as u64);
            (all && scrapes() >= enough).then_some(())
        };
        wait::until("the fleet is scraped", 2 * LIMIT, state, scraped);
    }

    /// Slots of the whole time.
    pub(super) fn slots(&self) -> Slots {
        let report = self.report();
        let off = report["off_grid"].as_array().cloned().unwrap_or_default();
        let of = |field: &str| -> BTreeMap<String, u64> {
            let count = |one: &Value| {
                let instance = one["instance"].as_str()?.to_owned();
                Some((instance, one[field].as_u64().filter(|count| *count > 0)?))
            };
            off.iter().filter_map(count).collect()
        };
        Slots {
            missed: of("missed"),
            doubled: of("doubled"),
        }
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
