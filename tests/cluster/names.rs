//! `--cluster.join-addresses` by names of a DNS server of the test's own -> nodes that find each
//! other, also when the server is down for a time, or answers something else.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringscrape_tests::debian;
use ringscrape_tests::lan::Lan;
use ringscrape_tests::process::Process;
use ringscrape_tests::wait;

use crate::Turn;
use crate::node::Node;
use crate::place::Place;

/// The host of the server; the others are nodes.
const SERVER: usize = 0;
/// Address of no host.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);
const LIMIT: Duration = Duration::from_secs(40);
/// By then a node that could join would have.
const ROUNDS: Duration = Duration::from_secs(4);

/// `dnsmasq` on a host, which knows the names of the test only.
struct Server {
    program: PathBuf,
    lan: Arc<Lan>,
    running: Option<Process>,
}

impl Server {
    /// Answers from now on: each record as an argument of `dnsmasq`.
    fn start(&mut self, dir: &Path, hosts: &[(Ipv4Addr, &str)], services: &[&str]) {
        self.stop();
        let file = dir.join("hosts");
        let lines = hosts.iter().map(|(ip, name)| format!("{ip} {name}\n"));
        fs::write(&file, lines.collect::<String>()).expect("cannot write the names");
        let mut command = self.lan.command(SERVER, &self.program);
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
        ]);
        command.args([
            "--no-hosts",
            "--bind-interfaces",
            "--user=root",
            "--pid-file=",
        ]);
        command.args(["--local=/test/", "--local-ttl=0", "--log-facility=-"]);
        command.arg(format!("--listen-address={}", self.lan.address(SERVER)));
        command.arg(format!("--addn-hosts={}", file.display()));
        command.args(services.iter().map(|one| format!("--srv-host={one}")));
        self.running = Some(Process::spawn("dnsmasq", &mut command));
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }
}

/// Members that the node sees, itself among them.
fn members(node: &Node) -> u64 {
    node.metric("cluster_node_gossip_alive_peers", &[]) as u64
}

fn wait_members(nodes: &[&Node], count: u64, server: &Server) {
    let seen = || nodes.iter().map(|node| members(node)).collect::<Vec<_>>();
    let state = || {
        let logs = nodes.iter().map(|node| node.log_tail());
        let server = server.running.as_ref().map(Process::log_tail);
        format!("{:?}; {server:?}\n{}", seen(), logs.collect::<String>())
    };
    wait::until("the nodes find each other", LIMIT, state, || {
        seen().iter().all(|seen| *seen == count).then_some(())
    });
}

#[test]
fn nodes_find_each_other_by_names() {
    let _turn = Turn::beside_others();
    let Some(program) = debian::program("dnsmasq", "dnsmasq-base") else {
        return;
    };
    let lan = match Lan::new(5) {
        Ok(lan) => Arc::new(lan),
        Err(error) => return debian::skip(&format!("no network namespaces here: {error}")),
    };
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    let mut server = Server {
        program,
        lan: Arc::clone(&lan),
        running: None,
    };
    let flags = ["--cluster.insecure", "--cluster.rejoin-interval=1s"];
    let mut nodes: Vec<Node> = (1..5)
        .map(|host| {
            lan.set_resolver(host, IpAddr::V4(lan.address(SERVER)))
                .expect("a host may have a resolver");
            let place = Place::Host(Arc::clone(&lan), host);
            let config = "scrape_configs: []\n";
            Node::new(dir.path(), &format!("node-{host}"), config, &flags, place)
        })
        .collect();
    let [first, second, third, fourth] = &mut nodes[..] else {
        panic!("four nodes");
    };
    let address = |host: usize| lan.address(host);

    // Nobody answers: a node is a cluster of its own.
    first.start_joining("dnssrv+_gossip._udp.peers.test");
    let failed = || first.log().contains("a join address is not found");
    wait::until(
        "the look-up fails",
        LIMIT,
        || first.log_tail(),
        || failed().then_some(()),
    );
    assert_eq!(members(first), 1);

    // A service leads to a host and its port.
    let service = "_gossip._udp.peers.test,first.test,7946";
    server.start(dir.path(), &[(address(1), "first.test")], &[service]);
    second.start_joining("dnssrv+_gossip._udp.peers.test");
    wait_members(&[first, second], 2, &server);

    // The server is down, then a name leads to nobody, then to nodes: addresses are looked up anew.
    server.stop();
    third.start_joining("dns+all.test");
    std::thread::sleep(ROUNDS);
    assert_eq!((members(third), members(first)), (1, 2));
    server.start(dir.path(), &[(NOBODY, "all.test")], &[]);
    std::thread::sleep(ROUNDS);
    assert_eq!((members(third), members(first)), (1, 2));
    let both = [(address(2), "all.test"), (address(1), "all.test")];
    server.start(dir.path(), &both, &[]);
    wait_members(&[first, second, third], 3, &server);

    // Down, it parts nobody, and who comes back is found by those who know where it was.
    server.stop();
    third.stop();
    third.start_joining("dns+all.test:7946");
    wait_members(&[first, second, third], 3, &server);

    // The service leads to other hosts now: one without an address, one that is away, and a node.
    let services = [
        "_gossip._udp.peers.test,lost.test,7946",
        "_gossip._udp.peers.test,gone.test,7000",
        "_gossip._udp.peers.test,third.test,7946",
    ];
    let hosts = [(NOBODY, "gone.test"), (address(3), "third.test")];
    server.start(dir.path(), &hosts, &services);
    fourth.start_joining("dnssrv+_gossip._udp.peers.test");
    wait_members(&[first, second, third, fourth], 4, &server);
}
