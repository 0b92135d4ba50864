//! Debian's node exporter -> the engine -> Debian's prometheus as receiver: every value that was
//! exposed is found by a query, at the scrape's time, and a stopped exporter ends every series.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::process::Process;
use ringscrape_tests::{debian, exposition, http, net, wait};
use serde_json::Value;

/// Scrapes before the share of matched samples is measured, and scrapes over which it is.
const SCRAPES_FIRST: usize = 4;
const SCRAPES_MEASURED: usize = 10;
const LIMIT: Duration = Duration::from_secs(60);
/// The series that the engine adds to each scrape.
const AUTOMATIC: [&str; 5] = [
    "scrape_duration_seconds",
    "scrape_samples_post_metric_relabeling",
    "scrape_samples_scraped",
    "scrape_series_added",
    "up",
];

#[test]
fn every_sample_of_node_exporter_is_found_by_a_query() {
    let engine = Engine::subject();
    if debian::program("prometheus", "prometheus").is_none()
        || debian::program("prometheus-node-exporter", "prometheus-node-exporter").is_none()
    {
        return;
    }
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    let (mut node, node_address) = start_node_exporter();
    let (_receiver, receiver) = start_receiver(dir.path());

    // The target is a page that repeats what node exporter says, so that the text is known.
    let pages: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&pages);
    let mut target = Exporter::start(move |_| match http::get(node_address, "/metrics") {
        Ok(page) => {
            kept.lock().expect("BUG: not poisoned").push(page.text());
            Page::text(page.body)
        }
        Err(error) => Page {
            status: 502,
            ..Page::text(error.to_string())
        },
    });
    let folder = dir.path().join("engine");
    std::fs::create_dir(&folder).expect("cannot make a directory");
    let instance = target.address();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\n\
         remote_write:\n- url: http://{receiver}/api/v1/write\n\
         \x20 queue_config: {{batch_send_deadline: 100ms}}\n\
         scrape_configs:\n- job_name: node\n  static_configs: [{{targets: ['{instance}']}}]\n"
    );
    let mut running = Running::start(engine, &folder, &config, &[]);
    running.wait_ready();

    let state = || format!("up at the receiver: {:?}", ups(receiver));
    let good = |count| move || (ups(receiver).len() >= count).then_some(());
    wait::until(
        "the first scrapes are stored",
        LIMIT,
        state,
        good(SCRAPES_FIRST),
    );
    let before = match_counts(&running);
    let all = SCRAPES_FIRST + SCRAPES_MEASURED;
    wait::until("more scrapes are stored", LIMIT, state, good(all));
    let after = match_counts(&running);

    node.kill();
    target.stop();
    let failed = wait::until("a failed scrape is stored", LIMIT, state, || {
        ups(receiver)
            .into_iter()
            .find(|(_, up)| *up == 0.0)
            .map(|(time, _)| time)
    });
    let status = running.process.terminate(LIMIT);
    assert!(status.success(), "the engine ended with {status}");

    let times: Vec<i64> = ups(receiver)
        .into_iter()
        .filter(|(_, up)| *up == 1.0)
        .map(|(time, _)| time)
        .collect();
    let pages = pages.lock().expect("BUG: not poisoned").clone();
    assert!(
        times.len() >= all && pages.len() >= times.len(),
        "{times:?}, {} pages",
        pages.len()
    );
    for (time, page) in times.iter().zip(&pages) {
        compare(
            receiver,
            *time,
            &expected(page, engine, instance),
            *time == times[0],
        );
    }
    let count = |time| number(&instant(receiver, "count({job=\"node\"})", time));
    let series = count(failed - 1).expect("all series before the failed scrape");
    assert!(
        series > 100.0,
        "only {series} series before the failed scrape"
    );
    assert_eq!(
        count(failed),
        Some(5.0),
        "at the failed scrape only the automatic series are left"
    );
    assert_eq!(
        number(&instant(receiver, "up{job=\"node\"}", failed)),
        Some(0.0)
    );

    if engine == Engine::Ringscrape {
        let (matched, parsed) = (after.0 - before.0, after.1 - before.1);
        let share = matched / (matched + parsed);
        eprintln!(
            "matched share of samples on node exporter: {:.3} %",
            share * 100.0
        );
        assert!(share > 0.99, "matched {matched}, parsed {parsed}");
    }
}

fn start_node_exporter() -> (Process, SocketAddr) {
    let address = net::free_address();
    let mut command = Command::new("prometheus-node-exporter");
    command.arg(format!("--web.listen-address={address}"));
    let mut process = Process::spawn("node exporter", &mut command);
    wait_for("node exporter answers", &mut process, address, "/metrics");
    (process, address)
}

fn start_receiver(dir: &Path) -> (Process, SocketAddr) {
    let address = net::free_address();
    let config = dir.join("receiver.yml");
    std::fs::write(&config, "global: {}\n").expect("cannot write a configuration file");
    let mut command = Command::new("prometheus");
    command
        .arg("--web.enable-remote-write-receiver")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            dir.join("receiver").display()
        ))
        .arg(format!("--web.listen-address={address}"));
    let mut process = Process::spawn("receiver", &mut command);
    wait_for("the receiver is ready", &mut process, address, "/-/ready");
    (process, address)
}

fn wait_for(what: &str, process: &mut Process, address: SocketAddr, path: &str) {
    let found = wait::within(LIMIT, || {
        assert!(process.is_alive(), "ended before {what}");
        http::get(address, path)
            .is_ok_and(|answer| answer.status == 200)
            .then_some(())
    });
    assert!(found.is_some(), "waited {LIMIT:?} in vain until {what}");
}

/// Samples that took the fast path and those that took the slow one.
fn match_counts(running: &Running) -> (f64, f64) {
    let count = |path| running.metric("ringscrape_match_samples_total", &[path]);
    (count("path=\"matched\""), count("path=\"parsed\""))
}

/// Labels (name included, sorted) and value of each sample that a scrape must yield, without the
/// automatic series.
fn expected(page: &str, engine: Engine, instance: SocketAddr) -> BTreeMap<Vec<String>, f64> {
    let lines = exposition::parse(page).expect("node exporter writes plain text format");
    lines
        .into_iter()
        .map(|line| {
            let mut labels = vec![
                format!("__name__={}", line.name),
                format!("instance={instance}"),
                "job=node".to_owned(),
            ];
            for (name, value) in line.labels {
                let is_bound = name == "le" || name == "quantile";
                let is_integer = value.bytes().all(|byte| byte.is_ascii_digit());
                // Bounds are floats in Prometheus 3; see corpus/DIFFERENCES.md.
                let normalised = engine == Engine::Ringscrape && is_bound && is_integer;
                labels.push(format!(
                    "{name}={value}{}",
                    if normalised { ".0" } else { "" }
                ));
            }
            labels.sort();
            (labels, line.value)
        })
        .collect()
}

/// Compares all that is stored at one scrape's time with what the scrape must have yielded.
fn compare(receiver: SocketAddr, time: i64, expected: &BTreeMap<Vec<String>, f64>, is_first: bool) {
    let mut found = at(receiver, time);
    let total = number_of(expected.len());
    for name in AUTOMATIC {
        let key = found
            .keys()
            .find(|key| key.contains(&format!("__name__={name}")))
            .cloned();
        let value = key.and_then(|key| found.remove(&key));
        let value = value.unwrap_or_else(|| panic!("{name} is missing at {time}"));
        match name {
            "up" => assert!(value == 1.0, "up is {value} at {time}"),
            "scrape_duration_seconds" => assert!(value > 0.0 && value < 1.0, "{value}"),
            "scrape_series_added" if is_first => assert!(value == total, "{value} of {total}"),
            "scrape_series_added" => {}
            _ => assert!(value == total, "{name} is {value}, not {total}, at {time}"),
        }
    }
    let mut faults = Vec::new();
    for (labels, value) in expected {
        match found.remove(labels) {
            Some(stored) if same(stored, *value) => {}
            stored => faults.push(format!("{labels:?}: exposed {value}, stored {stored:?}")),
        }
    }
    faults.extend(
        found
            .into_keys()
            .map(|labels| format!("{labels:?}: never exposed")),
    );
    let count = faults.len();
    faults.truncate(10);
    assert!(
        faults.is_empty(),
        "{count} faults at {time}:\n{}",
        faults.join("\n")
    );
}

fn same(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan())
}

fn number_of(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("BUG: a page has fewer lines than that"))
}

/// Every sample stored with exactly that timestamp.
fn at(receiver: SocketAddr, time: i64) -> BTreeMap<Vec<String>, f64> {
    let answer = instant(receiver, "{job=\"node\"}[500ms]", time);
    let mut found = BTreeMap::new();
    for series in answer.as_array().expect("a list of series") {
        let mut labels: Vec<String> = series["metric"]
            .as_object()
            .expect("labels")
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
            .collect();
        labels.sort();
        for (stored, value) in values(series) {
            assert_eq!(stored, time, "{labels:?} has a time of its own");
            assert!(
                found.insert(labels.clone(), value).is_none(),
                "{labels:?} twice at {time}"
            );
        }
    }
    found
}

/// Times (ms) and values of `up` over the last minutes.
fn ups(receiver: SocketAddr) -> Vec<(i64, f64)> {
    let path = "/api/v1/query?query=up%7Bjob%3D%22node%22%7D%5B10m%5D";
    let Ok(answer) = http::get(receiver, path) else {
        return Vec::new();
    };
    answer.json()["data"]["result"]
        .get(0)
        .map(values)
        .unwrap_or_default()
}

/// The result of an instant query at a time in ms.
fn instant(receiver: SocketAddr, query: &str, time: i64) -> Value {
    let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let time = format!("{}.{:03}", time / 1000, time % 1000);
    let answer = http::get(
        receiver,
        &format!("/api/v1/query?query={query}&time={time}"),
    )
    .expect("the receiver answers queries");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]["result"].clone()
}

/// The only value of an instant query's result.
fn number(result: &Value) -> Option<f64> {
    result.get(0)?["value"][1].as_str()?.parse().ok()
}

fn values(series: &Value) -> Vec<(i64, f64)> {
    let values = series["values"].as_array().map_or(&[][..], Vec::as_slice);
    values
        .iter()
        .map(|pair| {
            let seconds = pair[0].as_f64().expect("a time");
            let text = pair[1].as_str().expect("a value");
            let value = text.trim_start_matches('+').parse().expect("a float");
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds fit")]
            let time = (seconds * 1000.0).round() as i64;
            (time, value)
        })
        .collect()
}
