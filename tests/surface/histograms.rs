//! Protobuf bodies with native histograms -> the same at the receiver as from the reference, and
//! quantiles in PromQL.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Arc, Mutex};

use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{Exporter, Fault, Page};
use ringscrape_tests::families::{
    CONTENT_TYPE, COUNTER, GAUGE, GAUGE_HISTOGRAM, HISTOGRAM, Message, SUMMARY, UNTYPED, family,
};
use ringscrape_tests::process::Process;
use ringscrape_tests::recorder::{Histogram, Recorder, STALE_BITS};
use ringscrape_tests::{debian, http, net, wait};
use tempfile::TempDir;

use crate::{LIMIT, ringscrape};

/// Scrapes with all families; then one is gone.
const SCRAPES: u64 = 3;
/// `Accept` of a job with native histograms.
const ACCEPT: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
    encoding=delimited;q=0.6,\
    application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
    application/openmetrics-text;version=0.0.1;q=0.4,\
    text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";

fn new() -> Message {
    Message::default()
}

fn span(offset: i64, length: u64) -> Message {
    new().signed(1, offset).number(2, length)
}

/// 100 observations around 1: schema 3, empty buckets, spans that touch, values below zero.
fn native() -> Message {
    let message = new()
        .number(1, 100)
        .double(2, 100.5)
        .signed(5, 3)
        .double(6, 1e-9)
        .number(7, 10);
    let message = message.inner(9, &span(-2, 1)).signed(10, 10);
    let message = message
        .inner(12, &span(-3, 2))
        .inner(12, &span(0, 2))
        .inner(12, &span(4, 3));
    // Counts 20, 0, 30, 10, 0, 15, 5.
    [20, -20, 30, -20, -10, 15, -10]
        .into_iter()
        .fold(message, |message, delta| message.signed(13, delta))
}

fn classic_buckets(message: Message) -> Message {
    let bucket = |count: u64, bound: f64| new().number(1, count).double(2, bound);
    message
        .inner(3, &bucket(40, 1.0))
        .inner(3, &bucket(90, 2.5))
}

fn histogram(name: &str, message: &Message) -> Vec<u8> {
    let metric = new().label("a", "b").inner(7, message);
    family(name, "A histogram.", HISTOGRAM, &[metric])
}

fn body(with_all: bool) -> Vec<u8> {
    let value = |value: f64| new().double(1, value);
    let summary = new()
        .number(1, 7)
        .double(2, 1.5)
        .inner(3, &new().double(1, 0.5).double(2, 0.25))
        .inner(3, &new().double(1, 0.999).double(2, 4.0));
    let classic = classic_buckets(new().number(1, 100).double(2, 3.5));
    let floats = new()
        .double(4, 2.5)
        .double(2, 6.0)
        .signed(5, -1)
        .double(6, 0.5)
        .double(8, 0.5)
        .inner(12, &span(0, 2))
        .double(14, 0.75)
        .double(14, 1.25);
    let mut families = vec![
        family(
            "c_total",
            "A counter.",
            COUNTER,
            &[
                new().label("a", "1").inner(3, &value(41.0)),
                new().label("a", "2").inner(3, &value(0.5)),
            ],
        ),
        family("g", "A gauge.", GAUGE, &[new().inner(2, &value(-1.5))]),
        family("u", "", UNTYPED, &[new().inner(5, &value(f64::INFINITY))]),
        family("s", "A summary.", SUMMARY, &[new().inner(4, &summary)]),
        // A family each: the reference decides by the first of a family what all of it is.
        histogram("h_classic", &classic),
        histogram("h_native", &native()),
        histogram("h_both", &classic_buckets(native())),
    ];
    if with_all {
        let gone = [new().inner(7, &native())];
        families.push(family("gone", "It ends.", HISTOGRAM, &gone));
        families.push(family(
            "gauge_h",
            "",
            GAUGE_HISTOGRAM,
            &[new().inner(7, &floats)],
        ));
    }
    families.concat()
}

/// By series: the distinct values, and the distinct native histograms.
type Outcome = BTreeMap<Vec<(String, String)>, (BTreeSet<u64>, Vec<Histogram>)>;

/// Scrapes until `gone` is gone; the outcome and what was asked for.
fn run(engine: Engine) -> (Outcome, String) {
    let accepted = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&accepted);
    let exporter = Exporter::start(move |scrape| {
        let accept = scrape.request.header("accept").unwrap_or_default();
        accept.clone_into(&mut seen.lock().expect("BUG: never poisoned"));
        let page = Page {
            content_type: CONTENT_TYPE.to_owned(),
            ..Page::text(body(scrape.number <= SCRAPES))
        };
        match scrape.number % 2 {
            0 => page.with(Fault::Gzip),
            _ => page,
        }
    });
    let recorder = Recorder::start();
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let (own, extra): (_, &[&str]) = match engine {
        Engine::Ringscrape => ("  scrape_native_histograms: true\n", &[]),
        Engine::Agent => ("", &["--enable-feature=native-histograms"]),
    };
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\n\
         remote_write:\n- url: {}\n  send_native_histograms: true\n\
         \x20 queue_config: {{batch_send_deadline: 100ms}}\n\
         scrape_configs:\n- job_name: one\n  static_configs: [{{targets: ['{}']}}]\n\
         \x20 relabel_configs: [{{target_label: instance, replacement: i}}]\n{own}",
        recorder.url("w"),
        exporter.address(),
    );
    let mut running = Running::start(engine, dir.path(), &config, extra);
    let is_marker = |name: &'static str| {
        recorder.count("w", |sample| sample.name() == name && sample.is_stale()) > 0
    };
    wait::until(
        "the last histograms have ended",
        LIMIT,
        || running.process.log_tail(),
        || (is_marker("gone") && is_marker("gauge_h")).then_some(()),
    );
    assert!(running.process.terminate(LIMIT).success());
    assert_eq!(recorder.violations(), [""; 0]);
    let mut outcome = Outcome::new();
    for sample in recorder.samples("w") {
        let changes = ["scrape_duration_seconds", "scrape_series_added"];
        // Markers at the end of the run are as they are.
        let is_end = sample.is_stale() && !["gone", "gauge_h"].contains(&sample.name());
        if !changes.contains(&sample.name()) && !is_end {
            let entry = outcome.entry((*sample.labels).clone()).or_default();
            entry.0.insert(sample.value_bits);
        }
    }
    for (labels, histogram) in recorder.histograms("w") {
        let found = &mut outcome.entry((*labels).clone()).or_default().1;
        if !found.contains(&histogram) {
            found.push(histogram);
        }
    }
    let accepted = accepted.lock().expect("BUG: never poisoned").clone();
    (outcome, accepted)
}

#[test]
fn protobuf_bodies_are_those_of_the_reference() {
    if !Engine::Agent.is_there() || ringscrape().is_none() {
        return;
    }
    let (wanted, _) = run(Engine::Agent);
    let (found, accepted) = run(Engine::Ringscrape);
    assert_eq!(accepted, ACCEPT);
    let names = |outcome: &Outcome| outcome.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&wanted));
    for (series, values) in &wanted {
        assert_eq!(&found[series], values, "{series:?}");
    }
    // What the reference says is not empty itself.
    let native: Vec<_> = wanted
        .values()
        .filter(|(_, native)| !native.is_empty())
        .collect();
    assert_eq!(native.len(), 4);
    let markers = wanted
        .values()
        .filter(|(bits, _)| bits.contains(&STALE_BITS));
    assert_eq!(markers.count(), 2, "floats, also where histograms end");
}

#[test]
fn promql_finds_quantiles_of_native_histograms() {
    let (Some(engine), Some(program)) = (ringscrape(), debian::program("prometheus", "prometheus"))
    else {
        return;
    };
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let config = dir.path().join("receiver.yml");
    std::fs::write(&config, "global: {}\n").expect("cannot write a configuration file");
    let address = net::free_address();
    let mut command = Command::new(program);
    command
        .args([
            "--web.enable-remote-write-receiver",
            "--enable-feature=native-histograms",
        ])
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            dir.path().join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={address}"));
    let receiver = Process::spawn("prometheus", &mut command);
    let is_ready = || http::get(address, "/-/ready").is_ok_and(|answer| answer.status == 200);
    wait::until(
        "prometheus is ready",
        LIMIT,
        || receiver.log_tail(),
        || is_ready().then_some(()),
    );
    let exporter = Exporter::start(|_| Page {
        content_type: CONTENT_TYPE.to_owned(),
        ..Page::text(body(true))
    });
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms, scrape_native_histograms: true}}\n\
         remote_write:\n- url: http://{address}/api/v1/write\n  send_native_histograms: true\n\
         \x20 queue_config: {{batch_send_deadline: 100ms}}\n\
         scrape_configs:\n- job_name: one\n  static_configs: [{{targets: ['{}']}}]\n",
        exporter.address(),
    );
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    // The expression, percent-encoded, and its value.
    let query = |expression: &str| {
        let answer = http::get(address, &format!("/api/v1/query?query={expression}")).ok()?;
        let value = answer.json()["data"]["result"][0]["value"][1].clone();
        value.as_str()?.parse::<f64>().ok()
    };
    let count = "histogram_count(h_native)";
    let state = || format!("{:?}\n{}", query(count), receiver.log_tail());
    wait::until("the histogram has arrived", LIMIT, state, || {
        (query(count) == Some(100.0)).then_some(())
    });
    let sum = query("histogram_sum(h_native)");
    assert_eq!(sum, Some(100.5));
    // Of 100: 10 below zero, 10 at zero, 20 up to 2^(-3/8), then 30 from 2^(-2/8) to 2^(-1/8).
    let median = query("histogram_quantile(0.5%2Ch_native)");
    let (low, high) = (2_f64.powf(-0.25), 2_f64.powf(-0.125));
    assert!(
        median.is_some_and(|median| median > low && median < high),
        "{median:?}"
    );
    assert!(running.process.terminate(LIMIT).success());
}
