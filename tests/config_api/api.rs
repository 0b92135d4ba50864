//! What a client of Grafana Agent does, against a real node.

use crate::{LIMIT, Node, with_job};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::recorder::Recorder;
use ringscrape_tests::wait;

#[test]
fn a_configuration_is_put_scraped_updated_and_deleted() {
    let exporter = Exporter::start(|_| Page::text("x 1\n".to_owned()));
    let recorder = Recorder::start();
    let node = Node::start(&["--config.enable-read-api"]);
    let text = |job: &str| {
        format!(
            "scrape_configs:\n- job_name: {job}\n  static_configs: [{{targets: ['{}']}}]\n\
             remote_write:\n- url: {}\n  queue_config: {{batch_send_deadline: 100ms}}\n",
            exporter.address(),
            recorder.url("w")
        )
    };
    let of = |job: &'static str| {
        recorder.count("w", |sample| {
            sample.name() == "x" && sample.label("job") == Some(job)
        })
    };
    assert_eq!(
        node.ask("PUT", "config/team%2Fa", &text("one"), &[]).status,
        201
    );
    assert!(wait::within(LIMIT, || (of("one") > 1).then_some(())).is_some());
    assert_eq!(node.names(), ["team/a"]);
    let instances = node.ask("GET", "metrics/instances", "", &[]).json();
    assert_eq!(instances["data"][0], "team/a");
    node.wait_for("metrics/targets", |targets| {
        targets[0]["instance"] == "team/a" && targets[0]["state"] == "up"
    });

    node.wait_for("configs/team%2Fa/status", |status| {
        status["up"] == 1 && status["is_running"] == true && status["jobs"][0] == "one"
    });
    node.wait_for("configs?status=true", |list| {
        let status = &list["items"][0]["status"];
        status["targets"] == 1
            && status["owners"]
                .as_object()
                .is_some_and(|all| all.len() == 1)
    });
    assert_eq!(
        node.ask("POST", "config/team%2Fa", &text("two"), &[])
            .status,
        200
    );
    assert!(wait::within(LIMIT, || (of("two") > 1).then_some(())).is_some());
    let shown = node.ask("GET", "configs/team%2Fa", "", &[]);
    assert!(shown.text().contains("job_name: two"), "{}", shown.text());
    assert_eq!(node.ask("DELETE", "config/team%2Fa", "", &[]).status, 200);
    assert_eq!(node.ask("DELETE", "config/team%2Fa", "", &[]).status, 404);
    node.wait_for("metrics/targets", |targets| {
        *targets == serde_json::json!([])
    });
    for (name, count) in [("created", 1.0), ("updated", 1.0), ("deleted", 1.0)] {
        let metric = format!("agent_metrics_ha_configs_{name}_total");
        assert_eq!(node.running.metric(&metric, &[]), count, "{metric}");
    }
    let log = node.running.process.log();
    for part in [
        "audit: configuration changed",
        "config=\"team/a\"",
        "who=\"127.0.0.1\"",
    ] {
        assert!(log.contains(part), "{part} is not in the log:\n{log}");
    }
}

#[test]
fn what_is_stored_outlives_the_process() {
    let mut node = Node::start(&[]);
    assert_eq!(node.ask("PUT", "config/a", &with_job("a"), &[]).status, 201);
    node.running.process.kill();
    let file = node.running.config.clone();
    let address = node.running.address;
    node.running = ringscrape_tests::engine::Running::start_on(
        ringscrape_tests::engine::Engine::Ringscrape,
        node.dir.path(),
        &file,
        address,
        &[],
    );
    node.running.wait_ready();
    assert_eq!(node.names(), ["a"]);
}

#[test]
fn tokens_are_read_again_on_a_reload() {
    let dir = tempfile::TempDir::new().expect("cannot make a temporary directory");
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, "# nobody yet\n").expect("written");
    let mut node = Node::start(&[&format!("--config-api.tokens-file={}", tokens.display())]);
    let headers = [("Authorization", "Bearer abc")];
    let put = |node: &Node| node.ask("PUT", "config/a", &with_job("a"), &headers).status;
    assert_eq!(put(&node), 401);
    // SHA-256 of `abc`, from FIPS 180-2, appendix B.1.
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    std::fs::write(&tokens, format!("ci write {hash}\n")).expect("written");
    node.running.process.signal(libc::SIGHUP);
    assert!(wait::within(LIMIT, || (put(&node) == 201).then_some(())).is_some());
}

#[test]
fn the_page_of_configurations_is_served() {
    let node = Node::start(&[]);
    for path in ["/configs", "/web/configs.js"] {
        assert_eq!(
            node.running.get(path).expect("an answer").status,
            200,
            "{path}"
        );
    }
}
