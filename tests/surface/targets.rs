//! Targets that misbehave -> `up` 0 and a reason for each, and the others unharmed.

use std::time::Duration;

use ringscrape_tests::engine::{Engine, Running, metrics_above_zero};
use ringscrape_tests::exporter::{Exporter, Fault, Page};
use ringscrape_tests::recorder::{Recorder, Sample};
use ringscrape_tests::wait;
use serde_json::Value;
use tempfile::TempDir;

use crate::{LIMIT, resident_bytes, ringscrape, subject};

/// What the engine may hold while hostile bodies pour in, bytes.
const RESIDENT_BYTES_MAX: u64 = 1 << 30;

/// Job, further keys, words of the reason (the reference's own words differ, so ours only).
const BAD: &[(&str, &str, &[&str])] = &[
    (
        "endless",
        "body_size_limit: 1MB",
        &["body size limit|body_size_limit"],
    ),
    ("endless_without_limit", "", &[]),
    (
        "bomb",
        "body_size_limit: 10MB",
        &["body size limit|body_size_limit"],
    ),
    ("no_value", "", &["line 2"]),
    ("duplicate_label", "", &["twin"]),
    ("wrong_type", "", &["text/html"]),
    ("status", "", &["503"]),
    ("cut", "", &[]),
    ("hang", "", &["timeout|timed out|deadline"]),
    ("bad_gzip", "", &[]),
    (
        "too_many",
        "sample_limit: 1",
        &["sample_limit|sample limit"],
    ),
];

fn serve() -> Exporter {
    Exporter::start(|scrape| {
        let line = "endless{label=\"value\"} 1\n";
        match scrape.request.path().trim_start_matches('/') {
            "endless" | "endless_without_limit" => Page::text(line).with(Fault::Endless),
            "bomb" => Page::text(line).with(Fault::Bomb(1 << 30)),
            "no_value" => Page::text("fine 1\nbroken\n"),
            "duplicate_label" => Page::text("x{twin=\"1\",twin=\"2\"} 1\n"),
            "wrong_type" => Page {
                content_type: "text/html".to_owned(),
                ..Page::text("x 1\n")
            },
            "status" => Page {
                status: 503,
                ..Page::text("busy\n")
            },
            "cut" => Page::text("x 1\ny 2\n").with(Fault::CloseAfter(5)),
            "hang" => Page::text("x 1\n").with(Fault::Hang),
            "bad_gzip" => Page::text("x 1\n").with(Fault::FalseGzip),
            "too_many" => Page::text("x 1\ny 1\n"),
            _ => Page::text("x 1\n"),
        }
    })
}

#[test]
fn each_hostile_target_fails_alone_and_says_why() {
    let Some(engine) = subject() else { return };
    let exporter = serve();
    let recorder = Recorder::start();
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let address = exporter.address();
    let mut config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 700ms}}\n\
         remote_write:\n- url: {}\n  queue_config: {{batch_send_deadline: 100ms}}\n\
         scrape_configs:\n",
        recorder.url("w")
    );
    for (job, keys, _) in BAD.iter().chain(&[("good", "", [].as_slice())]) {
        config.push_str(&format!(
            "- job_name: {job}\n  metrics_path: /{job}\n  {keys}\n  \
             static_configs: [{{targets: ['{address}']}}]\n"
        ));
    }
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    running.wait_ready();
    let ups = |job: &str, value: f64| {
        recorder.count("w", |sample: &Sample| {
            sample.name() == "up" && sample.label("job") == Some(job) && sample.value() == value
        })
    };
    let mut resident = 0;
    for (job, _, _) in BAD {
        // The reference takes what it can read of any type.
        let bad_value = f64::from(u8::from(engine == Engine::Agent && *job == "wrong_type"));
        let state = || {
            format!(
                "{job}: {} times 0, {} times 1",
                ups(job, 0.0),
                ups(job, 1.0)
            )
        };
        wait::until("three scrapes have failed", LIMIT, state, || {
            assert!(running.process.is_alive(), "the engine ended");
            resident = resident.max(resident_bytes(running.process.id()));
            (ups(job, bad_value) >= 3).then_some(())
        });
    }
    let healthy = ups("good", 1.0);
    assert!(
        healthy >= 3 && ups("good", 0.0) == 0,
        "the good target was up {healthy} times"
    );
    eprintln!("resident at most {} MiB", resident >> 20);
    if engine == Engine::Ringscrape {
        assert!(resident < RESIDENT_BYTES_MAX, "resident {resident} bytes");
        check_reasons(&running);
    }
}

/// Each failed target's `lastError` has its words, and quotes no byte of a body.
fn check_reasons(running: &Running) {
    let list = running.get("/api/v1/targets").expect("targets").json();
    let active = list["data"]["activeTargets"]
        .as_array()
        .expect("a list")
        .clone();
    for (job, _, words) in BAD {
        let target = active.iter().find(|target| target["scrapePool"] == *job);
        let target = target.unwrap_or_else(|| panic!("{job} is not listed"));
        let reason = target["lastError"].as_str().unwrap_or_default().to_owned();
        assert_eq!(target["health"], "down", "{job}");
        assert!(!reason.is_empty(), "{job}: no reason");
        for word in *words {
            let found = word.split('|').any(|word| reason.contains(word));
            assert!(found, "{job}: {word:?} is not in {reason:?}");
        }
    }
    let good = active
        .iter()
        .find(|target| target["scrapePool"] == "good")
        .expect("good");
    assert_eq!(
        (&good["health"], &good["lastError"]),
        (&"up".into(), &Value::from(""))
    );
    let page = running.get("/metrics").expect("metrics").text();
    let names = ["exceeded_body_size_limit", "exceeded_sample_limit"];
    for name in names {
        assert!(
            !metrics_above_zero(&page, &[name]).is_empty(),
            "{name} is not counted"
        );
    }
}

#[test]
fn targets_in_the_json_of_prometheus() {
    if subject().is_none() || !Engine::Agent.is_there() {
        return;
    }
    let exporter = serve();
    let recorder = Recorder::start();
    let address = exporter.address();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 700ms}}\n\
         remote_write: [{{url: '{}'}}]\nscrape_configs:\n\
         - job_name: a\n  params: {{x: [y]}}\n  static_configs:\n\
         \x20 - {{targets: ['{address}'], labels: {{l: v, __meta_m: n}}}}\n\
         \x20 - {{targets: ['gone:1'], labels: {{drop: me}}}}\n\
         \x20 relabel_configs: [{{source_labels: [drop], regex: me, action: drop}}]\n\
         - job_name: b\n  metrics_path: /status\n  static_configs: [{{targets: ['{address}']}}]\n",
        recorder.url("w")
    );
    let subject = Engine::subject();
    let lists: Vec<Value> = [Engine::Agent, subject]
        .into_iter()
        .map(|engine| list_of(engine, &config))
        .collect();
    assert_eq!(plain(&lists[0]), plain(&lists[1]));
}

/// The target list of an engine once both targets were scraped, and its filtered variants checked.
fn list_of(engine: Engine, config: &str) -> Value {
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let mut running = Running::start(engine, dir.path(), config, &[]);
    running.wait_ready();
    let list = |query: &str| Some(running.get(&format!("/api/v1/targets{query}")).ok()?.json());
    let state = || format!("{:?}", list(""));
    let whole = wait::until(
        "both targets were scraped",
        Duration::from_secs(20),
        state,
        || {
            let whole = list("")?;
            let active = whole["data"]["activeTargets"].as_array()?.clone();
            let done =
                active.len() == 2 && active.iter().all(|target| target["health"] != "unknown");
            done.then_some(whole)
        },
    );
    let count = |query: &str, key: &str| {
        list(query)
            .and_then(|list| Some(list["data"][key].as_array()?.len()))
            .unwrap_or(0)
    };
    assert_eq!(count("?state=active", "activeTargets"), 2);
    assert_eq!(count("?state=active", "droppedTargets"), 0);
    assert_eq!(count("?state=dropped", "activeTargets"), 0);
    assert_eq!(count("?state=dropped", "droppedTargets"), 1);
    assert_eq!(count("?state=any", "droppedTargets"), 1);
    whole
}

/// What must be equal: all but times, and the labels and texts that differ by version.
fn plain(list: &Value) -> Value {
    let mut list = list.clone();
    assert_eq!(list["status"], "success");
    let data = &mut list["data"];
    if let Some(data) = data.as_object_mut() {
        data.remove("droppedTargetCounts");
    }
    for group in ["activeTargets", "droppedTargets"] {
        let targets = data[group].as_array_mut().expect("a list");
        for target in targets.iter_mut().filter_map(Value::as_object_mut) {
            if group == "activeTargets" {
                for key in ["lastScrape", "lastScrapeDuration", "globalUrl", "lastError"] {
                    let value = target.remove(key);
                    assert!(value.is_some(), "{key} is missing");
                }
            }
            if let Some(labels) = target["discoveredLabels"].as_object_mut() {
                labels.retain(|name, _| !name.contains("histograms"));
                labels.retain(|name, _| !name.contains("_to_nhcb"));
            }
            // Later versions say of a dropped target which job it belongs to.
            if group == "droppedTargets" {
                target.remove("scrapePool");
            }
        }
        targets.sort_by_key(|target| target["scrapePool"].to_string());
    }
    list
}

#[test]
fn a_target_that_recovers_is_up_again_with_no_error() {
    let Some(engine) = ringscrape() else { return };
    let exporter = Exporter::start(|scrape| match scrape.number {
        1 | 2 => Page {
            status: 500,
            ..Page::text("no\n")
        },
        _ => Page::text("x 1\n"),
    });
    let recorder = Recorder::start();
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let config = crate::one_job(&recorder.url("w"), &exporter.address().to_string());
    let running = Running::start(engine, dir.path(), &config, &[]);
    let target =
        || Some(running.get("/api/v1/targets").ok()?.json()["data"]["activeTargets"][0].clone());
    let health =
        |wanted: &'static str| move |target: Value| (target["health"] == wanted).then_some(target);
    let state = || format!("{:?}", target());
    let down = wait::until("it is down", LIMIT, state, || {
        target().and_then(health("down"))
    });
    assert!(
        down["lastError"]
            .as_str()
            .is_some_and(|reason| reason.contains("500")),
        "{down}"
    );
    let up = wait::until("it is up", LIMIT, state, || target().and_then(health("up")));
    assert_eq!(up["lastError"], "");
}
