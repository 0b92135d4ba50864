//! One node with a store of its own -> configurations come, change and go; a bad one harms itself.

use std::time::Duration;

use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::http;
use ringscrape_tests::recorder::{Recorder, Sample};

use super::{LIMIT, delete, one_at_a_time, put, status, until};

/// How soon a change has to be effective.
const SOON: Duration = Duration::from_secs(2);

const SERVICE: &str = "scraping_service:
  enabled: true
  kvstore: {store: local}
  limits: {targets: 3, jobs: 2}
  allow_networks: [127.0.0.0/8]
";

fn config(target: &str, receiver: &str, job: &str, more: &str) -> String {
    format!(
        "scrape_configs:
- {{job_name: {job}, scrape_interval: 1s, static_configs: [{{targets: ['{target}']}}]}}
remote_write:
- {{url: '{receiver}', queue_config: {{batch_send_deadline: 100ms}}}}
{more}"
    )
}

fn is_up(job: &'static str) -> impl Fn(&Sample) -> bool {
    move |sample| sample.name() == "up" && sample.label("job") == Some(job) && sample.value() == 1.0
}

#[test]
fn configurations_come_change_and_go_beside_those_of_the_file() {
    let _one = one_at_a_time();
    let dir = tempfile::tempdir().unwrap();
    let target = Exporter::start(|_| Page::text("m 1\n"));
    let target = target.address().to_string();
    let receiver = Recorder::start();
    let file = format!(
        "global: {{external_labels: {{dc: a}}}}
{SERVICE}{}",
        config(&target, &receiver.url("/file"), "of-file", "")
    );
    let mut node = Running::start(Engine::Ringscrape, dir.path(), &file, &[]);
    node.wait_ready();
    let address = node.address;
    let own = |path: &str, job: &str, more: &str| config(&target, &receiver.url(path), job, more);
    assert_eq!(put(address, "x", &own("/x", "jx", "")).0, 201);
    assert_eq!(
        put(address, "y", &own("/y", "jy", "external_labels: {dc: b}\n")).0,
        201
    );
    until("both run", LIMIT, || {
        let x = receiver.count("/x", is_up("jx")) > 0;
        (x && receiver.count("/y", is_up("jy")) > 0).then_some(())
    });
    // Each to its own receiver, with its own labels.
    let wrong = |path, job: &'static str, dc: &'static str| {
        receiver.count(path, move |sample| {
            sample.label("job") != Some(job) || sample.label("dc") != Some(dc)
        })
    };
    assert_eq!((wrong("/x", "jx", "a"), wrong("/y", "jy", "b")), (0, 0));
    assert_eq!(wrong("/file", "of-file", "a"), 0);
    let view = status(address, "x").unwrap();
    assert_eq!(
        (&view["targets"], &view["is_running"]),
        (&1.into(), &true.into())
    );
    assert_eq!(view["jobs"][0], "jx");

    // Another job and another receiver within the time that a change may take.
    assert_eq!(put(address, "x", &own("/x2", "jx2", "")).0, 200);
    until("the change runs", SOON, || {
        let view = status(address, "x")?;
        (view["jobs"][0] == "jx2" && view["targets"] == 1).then_some(())
    });
    until("its samples arrive", LIMIT, || {
        (receiver.count("/x2", is_up("jx2")) > 0).then_some(())
    });
    until(
        "the former series end at the former receiver",
        LIMIT,
        || {
            let ended = |sample: &Sample| sample.name() == "m" && sample.is_stale();
            (receiver.count("/x", ended) > 0).then_some(())
        },
    );
    assert_eq!(delete(address, "x").0, 200);
    until("it is gone", SOON, || {
        status(address, "x").is_none().then_some(())
    });
    assert_eq!(delete(address, "x").0, 404);

    // A name that the file takes at a reload is the file's; the stored one says why it rests.
    let taken = file.replace("of-file", "jy");
    std::fs::write(&node.config, taken).unwrap();
    assert_eq!(http::post(address, "/-/reload").unwrap().status, 200);
    let view = status(address, "y").unwrap();
    assert_eq!(view["is_running"], false);
    let reason = view["refusals"][0].as_str().unwrap();
    assert!(
        reason.contains("taken by a job of the node's file"),
        "{reason}"
    );
    std::fs::write(&node.config, &file).unwrap();
    assert_eq!(http::post(address, "/-/reload").unwrap().status, 200);
    until("it runs again", SOON, || {
        (status(address, "y")?["is_running"] == true).then_some(())
    });
    let none = file.replace(SERVICE, "");
    std::fs::write(&node.config, none).unwrap();
    assert_ne!(
        http::post(address, "/-/reload").unwrap().status,
        200,
        "that needs a restart"
    );
    assert!(
        receiver.violations().is_empty(),
        "{:?}",
        receiver.violations()
    );
}

#[test]
fn a_bad_configuration_harms_only_itself() {
    let _one = one_at_a_time();
    let dir = tempfile::tempdir().unwrap();
    let target = Exporter::start(|_| Page::text("m 1\n"));
    let target = target.address().to_string();
    let receiver = Recorder::start();
    let mut node = Running::start(Engine::Ringscrape, dir.path(), SERVICE, &[]);
    node.wait_ready();
    let address = node.address;
    let url = receiver.url("/good");
    assert_eq!(
        put(address, "good", &config(&target, &url, "good", "")).0,
        201
    );
    for (yaml, reason) in [
        (config(&target, &url, "good", ""), "good"),
        (
            config(&target, "http://192.0.2.1/", "bad", ""),
            "none of the networks",
        ),
        (
            config(&target, &url, "bad", "host_filter: true\n"),
            "line 5",
        ),
        (
            "scrape_configs: [{job_name: a, file_sd_configs: [{files: [/etc/x.yml]}]}]".into(),
            "file_sd_configs",
        ),
        (
            "scrape_configs: [{job_name: a}, {job_name: b}, {job_name: c}]".into(),
            "3 jobs",
        ),
    ] {
        let (status, text) = put(address, "bad", &yaml);
        assert_eq!(status, 400, "{text}");
        assert!(text.contains(reason), "{text}");
    }
    // Too many targets, an endpoint that takes nothing, and a target outside of the networks.
    let many = "scrape_configs:
- job_name: many
  scrape_interval: 1s
  http_sd_configs: [{url: 'http://TARGET/sd', refresh_interval: 1s}]
remote_write: [{url: 'http://127.0.0.1:1/'}]
";
    let list = Exporter::start(|_| Page {
        content_type: "application/json".to_owned(),
        ..Page::text(
            r#"[{"targets": ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"]}]"#,
        )
    });
    let many = many.replace("TARGET", &list.address().to_string());
    assert_eq!(put(address, "many", &many).0, 201);
    let outside = config("192.0.2.1:80", &receiver.url("/outside"), "outside", "");
    assert_eq!(put(address, "outside", &outside).0, 201);
    until("both fail, and say why", LIMIT, || {
        let error = |name| {
            status(address, name)?["last_error"]
                .as_str()
                .map(str::to_owned)
        };
        let many = error("many")?.contains("too many targets (4, limit: 3)");
        (many && error("outside")?.contains("none of the networks")).then_some(())
    });
    receiver.clear();
    until("the good one goes on", LIMIT, || {
        (receiver.count("/good", is_up("good")) >= 2).then_some(())
    });
    // The node starts again with all of it.
    node.process.terminate(LIMIT);
    receiver.clear();
    let mut node = Running::start_on(
        Engine::Ringscrape,
        dir.path(),
        &node.config,
        address,
        &["--web.enable-lifecycle"],
    );
    node.wait_ready();
    until("the good one runs after the restart", LIMIT, || {
        (receiver.count("/good", is_up("good")) > 0).then_some(())
    });
    assert!(
        receiver.violations().is_empty(),
        "{:?}",
        receiver.violations()
    );
}
