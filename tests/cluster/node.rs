//! A name and some addresses -> a clustered node as a user would start it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringscrape_tests::engine::sum_of_metric;
use ringscrape_tests::process::Process;
use ringscrape_tests::wait;
use serde_json::Value;

use crate::place::Place;

const LIMIT: Duration = Duration::from_secs(60);

/// One node, running or not.
pub(crate) struct Node {
    pub(crate) name: String,
    dir: PathBuf,
    place: Place,
    gossip: SocketAddr,
    web: SocketAddr,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    running: Option<Process>,
}

impl Node {
    /// Not started yet. `config` is its configuration file's text.
    pub(crate) fn new(dir: &Path, name: &str, config: &str, flags: &[&str], place: Place) -> Self {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).expect("cannot make a node's directory");
        fs::write(dir.join("config.yml"), config).expect("cannot write a configuration file");
        Self {
            name: name.to_owned(),
            dir,
            gossip: place.address(7946),
            web: place.address(9095),
            place,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            variables: Vec::new(),
            running: None,
        }
    }

    pub(crate) fn gossip(&self) -> SocketAddr {
        self.gossip
    }

    /// Where its API and pages are.
    pub(crate) fn web(&self) -> SocketAddr {
        self.web
    }

    /// Sets an environment variable of its next start.
    pub(crate) fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it; `peers` are where it joins. Waits until it is ready.
    pub(crate) fn start(&mut self, peers: &[SocketAddr]) {
        let join: Vec<String> = peers.iter().map(ToString::to_string).collect();
        self.start_joining(&join.join(","));
    }

    /// The same; `join`: the value of `--cluster.join-addresses`.
    pub(crate) fn start_joining(&mut self, join: &str) {
        let mut command = self.place.command();
        command.arg("run");
        command.arg(format!(
            "--config.file={}",
            self.dir.join("config.yml").display()
        ));
        command.arg(format!(
            "--storage.path={}",
            self.dir.join("data").display()
        ));
        command.arg(format!("--web.listen-address={}", self.web));
        command.args(["--web.enable-lifecycle", "--shards=1", "--cluster.enabled"]);
        command.arg(format!("--cluster.node-name={}", self.name));
        command.arg(format!("--cluster.listen-address={}", self.gossip));
        command.arg(format!("--cluster.join-addresses={join}"));
        command.args(&self.flags);
        let variables = self.variables.iter();
        command.envs(variables.map(|(name, value)| (name, value)));
        let mut process = Process::spawn(&self.name, &mut command);
        let ready = wait::within(LIMIT, || {
            if !process.is_alive() {
                return Some(false);
            }
            let answer = self.place.get(self.web, "/-/ready");
            answer
                .is_ok_and(|answer| answer.status == 200)
                .then_some(true)
        });
        assert!(
            ready == Some(true),
            "{} is not ready; {}",
            self.name,
            process.log_tail()
        );
        self.running = Some(process);
    }

    fn process(&self) -> &Process {
        self.running.as_ref().expect("the node runs")
    }

    /// Ends it as a service manager would: it leaves by plan. Waits for its end.
    pub(crate) fn stop(&mut self) {
        let mut process = self.running.take().expect("the node runs");
        let status = process.terminate(LIMIT);
        assert!(
            status.success(),
            "{} ended with {status}; {}",
            self.name,
            process.log_tail()
        );
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.running.take().expect("the node runs").kill();
    }

    /// Sends a signal (a `libc::SIG*` number).
    pub(crate) fn signal(&mut self, signal: i32) {
        self.running.as_mut().expect("the node runs").signal(signal);
    }

    /// Takes another configuration into force.
    pub(crate) fn reload(&self, config: &str) {
        fs::write(self.dir.join("config.yml"), config).expect("cannot write a configuration file");
        let answer = self.place.post(self.web, "/-/reload");
        let answer = answer.expect("a reload gives an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn get(&self, path: &str) -> Option<ringscrape_tests::http::Response> {
        let answer = self.place.get(self.web, path).ok()?;
        (answer.status == 200).then_some(answer)
    }

    /// All of its log.
    pub(crate) fn log(&self) -> String {
        self.process().log()
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        self.process().log_tail()
    }

    /// The `instance` of each target that it scrapes.
    pub(crate) fn instances(&self) -> Vec<String> {
        let answer = self.get("/api/v1/targets?state=active");
        let json = answer.expect("the targets are told").json();
        let targets = json["data"]["activeTargets"].as_array().cloned();
        let instance = |target: Value| target["labels"]["instance"].as_str().map(str::to_owned);
        targets.into_iter().flatten().filter_map(instance).collect()
    }

    /// All targets of the fleet, as `/api/v1/cluster/targets` lists them.
    pub(crate) fn fleet(&self) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let path = format!("/api/v1/cluster/targets?limit=1000&offset={}", all.len());
            let answer = self.get(&path).expect("the fleet is told").json();
            let page = answer["data"]["targets"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// How many targets it scrapes.
    pub(crate) fn targets(&self) -> u64 {
        self.metric("prometheus_target_scrape_pool_targets", &[]) as u64
    }

    /// A metric of its own; 0 if there is none, or no answer.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let answer = self.get("/metrics");
        answer.map_or(0.0, |answer| sum_of_metric(&answer.text(), name, labels))
    }
}

/// Waits until the running nodes share all targets, each some.
pub(crate) fn wait_shared(nodes: &[Node], targets: usize) {
    let running: Vec<&Node> = nodes.iter().filter(|node| node.is_running()).collect();
    let state = || {
        let each: Vec<String> = running
            .iter()
            .map(|node| {
                format!(
                    "{}: {} targets; {}",
                    node.name,
                    node.targets(),
                    node.log_tail()
                )
            })
            .collect();
        each.join("\n")
    };
    wait::until("the targets are shared by all", LIMIT, state, || {
        let shares: Vec<u64> = running.iter().map(|node| node.targets()).collect();
        let all = shares.iter().sum::<u64>() == targets as u64;
        (all && shares.iter().all(|share| *share > 0)).then_some(())
    });
}
