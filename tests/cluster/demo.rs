//! The three-node example, as the README names it -> its own verdict.

use std::process::Command;
use std::time::Duration;

use ringscrape_tests::engine::ringscrape;
use ringscrape_tests::process::Process;

#[test]
fn the_example_of_three_nodes_verifies_itself() {
    let _turn = crate::Turn::beside_others();
    let mut command = Command::new(ringscrape());
    command.args(["demo", "--nodes=3", "--targets=60", "--series=10"]);
    command.args(["--scrape-interval=2s", "--duration=8s"]);
    let mut demo = Process::spawn("demo", &mut command);
    let status = demo.wait(Duration::from_secs(120));
    assert!(status.success(), "{}", demo.log_tail());
    assert!(demo.log().contains("\nverified: "), "{}", demo.log_tail());
}
