//! The pages in a real browser, at 10,000 targets -> what they show, and that scraping does not
//! notice.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ringscrape_tests::debian;
use ringscrape_tests::process::Process;

use crate::Stage;
use crate::load::Size;
use crate::node::{self, Node};
use crate::place::Place;

const SIZE: Size = Size {
    targets: 10_000,
    series: 5,
    interval_s: 10,
};

const LIMIT: Duration = Duration::from_secs(60);

/// A page after its script has run for a while: what it shows, and what the browser complained of.
struct Seen {
    page: String,
    complaints: Vec<String>,
}

/// Opens a page of a node, lets it refresh itself for some seconds and gives its elements.
fn look(chromium: &Path, node: &Node, path: &str, dir: &Path) -> Seen {
    let mut command = Command::new(chromium);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--no-proxy-server",
        "--enable-logging=stderr",
        "--virtual-time-budget=8000",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", dir.join("browser").display()));
    command.arg(format!("http://{}{path}", node.web()));
    let mut browser = Process::spawn("chromium", &mut command);
    let status = browser.wait(LIMIT);
    let log = browser.log();
    assert!(status.success(), "{log}");
    Seen {
        complaints: log
            .lines()
            .filter(|line| line.contains(":CONSOLE"))
            .map(str::to_owned)
            .collect(),
        page: log,
    }
}

#[test]
fn pages_at_10_000_targets_do_not_stall_scraping() {
    let Some(chromium) = debian::program("chromium", "chromium") else {
        return;
    };
    let stage = Stage::alone(SIZE, &Place::Loopback);
    let mut nodes: Vec<Node> = ["a", "b", "c"]
        .iter()
        .map(|name| stage.node(name, &[], Place::Loopback))
        .collect();
    let peers: Vec<_> = nodes.iter().map(Node::gossip).collect();
    for node in &mut nodes {
        node.start(&peers);
    }
    node::wait_shared(&nodes, SIZE.targets);
    stage.fleet.wait_all_scraped();
    stage.fleet.wait_rounds(1);

    let some = "node-001234";
    let search = format!("/targets?search={some}");
    for (path, shown) in [
        ("/", &["Remote write", "Samples per second"][..]),
        ("/cluster", &["10,000", ">a<", ">b<", ">c<"]),
        ("/targets", &["of 10,000", "/metrics"]),
        (search.as_str(), &[some]),
    ] {
        for node in &nodes[..2] {
            let seen = look(&chromium, node, path, stage.path());
            for words in shown {
                assert!(
                    seen.page.contains(words),
                    "{path} of {} does not show {words:?}: {}",
                    node.name,
                    seen.page
                );
            }
            assert!(seen.page.contains(">live<"), "{path} is not live");
            assert!(seen.complaints.is_empty(), "{path}: {:?}", seen.complaints);
        }
    }
    stage.fleet.wait_rounds(1);
    stage.assert_flawless("the pages were looked at");
    let report = stage.fleet.report();
    eprintln!("distance from the slot: {}", report["jitter"]);
}
