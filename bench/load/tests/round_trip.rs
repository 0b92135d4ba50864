//! Fleet -> a scraper of few lines -> sink: what is served is verified, what is spoilt is found.

// The helpers are outside of test functions, where clippy would not know them for tests.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringscrape_load::Profile;
use ringscrape_load::demo::{self, DemoArgs};
use ringscrape_load::fleet::{Fleet, FleetArgs};
use ringscrape_load::scheme::STALE_NAN;
use ringscrape_load::sink::{Protocol, Sink, SinkArgs};

const INTERVAL_MS: i64 = 10_000;
const START_MS: i64 = 1_700_000_000_000;

type Labels = BTreeMap<String, String>;

/// Sends one request on a connection of its own and gives status, headers and body as they came.
fn http(address: SocketAddr, request: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return (0, String::new(), answer);
    };
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer.split_off(end + 4))
}

fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
    let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    http(address, request.as_bytes())
}

/// One target as service discovery gives it.
struct Target {
    address: SocketAddr,
    path: String,
    instance: String,
}

fn targets(fleet: &Fleet) -> Vec<Target> {
    let (status, _, body) = get(fleet.addresses()[0], "/sd", "");
    assert_eq!(status, 200);
    let groups: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let target = |group: &serde_json::Value| Target {
        address: group["targets"][0].as_str().unwrap().parse().unwrap(),
        path: group["labels"]["__metrics_path__"]
            .as_str()
            .unwrap()
            .to_owned(),
        instance: group["labels"]["instance"].as_str().unwrap().to_owned(),
    };
    groups.as_array().unwrap().iter().map(target).collect()
}

/// Scrapes one target; `None` when the scrape fails.
fn scrape(target: &Target, headers: &str) -> Option<Vec<(Labels, f64)>> {
    let (status, head, body) = get(target.address, &target.path, headers);
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))?
        .parse()
        .unwrap();
    if status != 200 || body.len() != length {
        return None;
    }
    let mut text = String::new();
    if head.contains("Content-Encoding: gzip") {
        flate2::read::GzDecoder::new(&body[..])
            .read_to_string(&mut text)
            .unwrap();
    } else {
        text = String::from_utf8(body).unwrap();
    }
    assert_eq!(head.contains("openmetrics"), text.ends_with("# EOF\n"));
    let samples = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
            let mut labels = Labels::from([
                ("__name__".to_owned(), name.to_owned()),
                ("instance".to_owned(), target.instance.clone()),
                ("job".to_owned(), "fleet".to_owned()),
            ]);
            for pair in rest
                .strip_suffix('}')
                .unwrap()
                .split("\",")
                .filter(|pair| !pair.is_empty())
            {
                let (name, value) = pair.split_once("=\"").unwrap();
                labels.insert(name.to_owned(), value.trim_end_matches('"').to_owned());
            }
            (labels, value.parse().unwrap())
        });
    Some(samples.collect())
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut left: u64) {
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// Samples of one time as one remote write 1.0 request.
fn message(samples: &[(Labels, f64)], ms: i64) -> Vec<u8> {
    let mut request = Vec::new();
    for (labels, value) in samples {
        let mut series = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut series, 1, &label);
        }
        field(&mut series, 2, &sample(*value, ms));
        field(&mut request, 1, &series);
    }
    request
}

/// The same as a 2.0 request.
fn message_v2(samples: &[(Labels, f64)], ms: i64) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut all = Vec::new();
    for (labels, value) in samples {
        let mut references = Vec::new();
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            let known = symbols.iter().position(|symbol| symbol == text);
            let index = known.unwrap_or_else(|| {
                symbols.push(text.clone());
                symbols.len() - 1
            });
            varint(&mut references, index as u64);
        }
        let mut series = Vec::new();
        field(&mut series, 1, &references);
        field(&mut series, 2, &sample(*value, ms));
        all.push(series);
    }
    let mut request = Vec::new();
    for symbol in symbols {
        field(&mut request, 4, symbol.as_bytes());
    }
    for series in all {
        field(&mut request, 5, &series);
    }
    request
}

fn sample(value: f64, ms: i64) -> Vec<u8> {
    let mut sample = vec![9];
    sample.extend_from_slice(&value.to_bits().to_le_bytes());
    sample.push(16);
    varint(&mut sample, ms as u64);
    sample
}

fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

fn write(address: SocketAddr, samples: &[(Labels, f64)], ms: i64) -> u16 {
    post(address, &snappy(&message(samples, ms)))
}

fn post(address: SocketAddr, body: &[u8]) -> u16 {
    post_as(address, "Content-Encoding: snappy\r\n", body).0
}

/// Posts a body and gives the status and the headers of the answer.
fn post_as(address: SocketAddr, headers: &str, body: &[u8]) -> (u16, String) {
    let mut request = format!(
        "POST /api/v1/write HTTP/1.1\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    let (status, headers, _) = http(address, &request);
    (status, headers)
}

/// The scraper: keeps what it scraped last to write markers, as Prometheus does.
fn agent(fleet: &Fleet, sink: &Sink, slots: i64, headers: &str) {
    let targets = targets(fleet);
    let mut last: Vec<BTreeSet<Labels>> = targets.iter().map(|_| BTreeSet::new()).collect();
    for slot in 0..slots {
        let ms = START_MS + slot * INTERVAL_MS;
        for (target, last) in targets.iter().zip(&mut last) {
            let scraped = scrape(target, headers);
            let up = if scraped.is_some() { 1.0 } else { 0.0 };
            let mut samples = scraped.unwrap_or_default();
            let now: BTreeSet<Labels> = samples.iter().map(|(labels, _)| labels.clone()).collect();
            for gone in last.difference(&now) {
                samples.push((gone.clone(), f64::from_bits(STALE_NAN)));
            }
            let labels = [
                ("__name__", "up"),
                ("instance", &target.instance),
                ("job", "fleet"),
            ];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
            samples.push((Labels::from(labels), up));
            while write(sink.address(), &samples, ms) != 204 {}
            *last = now;
        }
    }
}

fn fleet_args() -> FleetArgs {
    FleetArgs {
        targets: 6,
        series: 60,
        ports: 2,
        ..FleetArgs::default()
    }
}

fn sink_args() -> SinkArgs {
    SinkArgs {
        listen: "127.0.0.1:0".parse().unwrap(),
        expect_targets: 6,
        expect_series: 60,
        ..SinkArgs::default()
    }
}

const GZIP: &str = "Accept-Encoding: gzip\r\n";
const OPENMETRICS: &str =
    "Accept: application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3\r\n";

#[test]
fn every_profile_and_encoding_is_verified() {
    for (profile, unlike, headers) in [
        (Profile::Node, false, String::new()),
        (Profile::Node, true, GZIP.to_owned()),
        (Profile::Ksm, false, OPENMETRICS.to_owned()),
        (Profile::Churn, false, format!("{GZIP}{OPENMETRICS}")),
    ] {
        let fleet = Fleet::start(&FleetArgs {
            profile,
            unlike,
            ..fleet_args()
        })
        .unwrap();
        let sink = Sink::start(&sink_args()).unwrap();
        agent(&fleet, &sink, 30, &headers);
        let (sent, got) = (fleet.stop().unwrap(), sink.stop().unwrap());
        assert!(
            got.verified,
            "{profile:?}: {} {:?}",
            got.reason, got.defects
        );
        assert_eq!((sent.completed, sent.scrapes, sent.faults), (180, 180, 0));
        assert_eq!(got.completeness.samples_seen, 180 * 60);
        assert_eq!(got.completeness.share, 1.0);
        assert_eq!(got.markers > 0, profile == Profile::Churn);
        assert_eq!(got.ups, 180);
    }
}

#[test]
fn churned_series_come_back_after_a_cycle() {
    // The smallest cache gives the shortest cycle, so that it goes round more than once.
    let args = FleetArgs {
        targets: 1,
        series: 4000,
        profile: Profile::Churn,
        churn_percent: 50.0,
        cache_mib: 1,
        ..fleet_args()
    };
    let fleet = Fleet::start(&args).unwrap();
    let sink = Sink::start(&SinkArgs {
        expect_targets: 1,
        expect_series: 4000,
        ..sink_args()
    });
    let sink = sink.unwrap();
    agent(&fleet, &sink, 90, GZIP);
    let got = sink.stop().unwrap();
    assert!(got.verified, "{} {:?}", got.reason, got.defects);
    // Fewer series than there were replacements: some have come back.
    assert!(got.series < 90 * 2000, "{}", got.series);
}

#[test]
fn faults_do_not_count_as_responses() {
    let mut args = fleet_args();
    (
        args.faults.status_500,
        args.faults.truncate,
        args.faults.every,
    ) = (50.0, 50.0, 3);
    let fleet = Fleet::start(&args).unwrap();
    let sink = Sink::start(&sink_args()).unwrap();
    agent(&fleet, &sink, 12, GZIP);
    let (sent, got) = (fleet.stop().unwrap(), sink.stop().unwrap());
    assert!(got.verified, "{} {:?}", got.reason, got.defects);
    assert_eq!((sent.scrapes, sent.faults, sent.completed), (72, 24, 48));
    assert_eq!((got.ups, got.downs), (48, 24));
    // Every third scrape fails and the last one is such: each leaves a marker for each series.
    assert_eq!(got.markers, 24 * 60);
}

#[test]
fn refused_requests_are_not_stored_unless_told() {
    for stored in [false, true] {
        let fleet = Fleet::start(&fleet_args()).unwrap();
        let args = SinkArgs {
            fault_share: 40.0,
            fault_stored: stored,
            ..sink_args()
        };
        let sink = Sink::start(&args).unwrap();
        agent(&fleet, &sink, 10, "");
        let got = sink.stop().unwrap();
        assert!(got.faults > 0);
        assert_eq!(got.verified, !stored, "{}", got.reason);
        assert_eq!(got.findings.duplicates_identical > 0, stored);
        assert_eq!(got.findings.gaps + got.findings.lost_scrapes, 0);
    }
}

#[test]
fn a_lost_scrape_is_found() {
    let fleet = Fleet::start(&fleet_args()).unwrap();
    let sink = Sink::start(&sink_args()).unwrap();
    agent(&fleet, &sink, 3, "");
    let targets = targets(&fleet);
    scrape(&targets[2], "").unwrap();
    for (slot, target) in (3..6).flat_map(|slot| targets.iter().map(move |target| (slot, target))) {
        let samples = scrape(target, "").unwrap();
        assert_eq!(
            write(sink.address(), &samples, START_MS + slot * INTERVAL_MS),
            204
        );
    }
    let got = sink.stop().unwrap();
    assert!(!got.verified);
    assert_eq!(got.findings.lost_scrapes, 1);
    assert_eq!(
        (got.lost_scrapes[0].from_n, got.lost_scrapes[0].to_n),
        (4, 4)
    );
    assert_eq!(got.lost_scrapes[0].instance, targets[2].instance);
}

const ZSTD: &str = "Content-Type: application/x-protobuf\r\nContent-Encoding: zstd\r\n\
    X-VictoriaMetrics-Remote-Write-Version: 1\r\n";
const V2: &str = "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request\r\n\
    Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 2.0.0\r\n";

#[test]
fn a_series_goes_on_from_one_protocol_to_the_next() {
    for first in 0..3 {
        let fleet = Fleet::start(&fleet_args()).unwrap();
        let sink = Sink::start(&sink_args()).unwrap();
        let targets = targets(&fleet);
        for slot in 0..9i64 {
            for target in &targets {
                let samples = scrape(target, "").unwrap();
                let ms = START_MS + slot * INTERVAL_MS;
                let (v1, v2) = (message(&samples, ms), message_v2(&samples, ms));
                let (headers, body) = match (slot + first) % 3 {
                    0 => ("", snappy(&v1)),
                    1 => (ZSTD, zstd::bulk::compress(&v1, 1).unwrap()),
                    _ => (V2, snappy(&v2)),
                };
                let (status, answer) = post_as(sink.address(), headers, &body);
                assert_eq!(status, 204);
                let written = format!(
                    "X-Prometheus-Remote-Write-Samples-Written: {}",
                    samples.len()
                );
                assert_eq!(answer.contains(&written), headers == V2, "{answer}");
            }
        }
        let got = sink.stop().unwrap();
        assert!(got.verified, "{} {:?}", got.reason, got.defects);
        let names: Vec<_> = got.protocols.iter().map(|it| &*it.protocol).collect();
        assert_eq!(names, ["snappy 1.0", "zstd 1.0", "snappy 2.0"]);
        assert!(got.protocols.iter().all(|it| it.samples == got.samples / 3));
    }
}

#[test]
fn protocols_that_are_not_taken_are_answered_with_415() {
    let sink = Sink::start(&SinkArgs {
        accept: vec![Protocol::Snappy1],
        ..sink_args()
    })
    .unwrap();
    for headers in [
        ZSTD,
        V2,
        "Content-Type: text/plain\r\n",
        "Content-Encoding: gzip\r\n",
    ] {
        assert_eq!(post_as(sink.address(), headers, b"").0, 415, "{headers}");
    }
    let got = sink.stop().unwrap();
    assert_eq!((got.requests, got.findings.bad_requests), (0, 0));
}

#[test]
fn bad_requests_are_refused_and_counted() {
    let sink = Sink::start(&sink_args()).unwrap();
    assert_eq!(post(sink.address(), b"not snappy"), 400);
    let broken = snap::raw::Encoder::new()
        .compress_vec(&[0x0a, 0x05, 0x0a])
        .unwrap();
    assert_eq!(post(sink.address(), &broken), 400);
    // A snappy header that promises 4 GiB.
    assert_eq!(
        post(sink.address(), &[0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]),
        400
    );
    assert_eq!(
        http(
            sink.address(),
            b"POST / HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n"
        )
        .0,
        413
    );
    assert_eq!(http(sink.address(), b"nonsense\r\n\r\n").0, 400);
    assert_eq!(get(sink.address(), "/nothing", "").0, 404);
    let got = sink.stop().unwrap();
    assert_eq!(got.findings.bad_requests, 3);
    assert!(!got.verified);
}

#[test]
fn a_client_that_gives_up_on_a_late_answer_has_not_been_answered() {
    let mut args = FleetArgs {
        targets: 1,
        ..fleet_args()
    };
    (args.faults.slow, args.faults.slow_delay) = (100.0, Duration::from_millis(300));
    let fleet = Fleet::start(&args).unwrap();
    let target = &targets(&fleet)[0];
    let mut stream = TcpStream::connect(target.address).unwrap();
    write!(stream, "GET {} HTTP/1.1\r\n\r\n", target.path).unwrap();
    while fleet.report(None).unwrap().scrapes == 0 {}
    drop(stream);
    // The next one is answered late, but in full, and only it counts.
    scrape(target, GZIP).unwrap();
    let report = fleet.stop().unwrap();
    assert_eq!((report.scrapes, report.completed), (2, 1));
}

#[test]
fn a_demo_whose_engine_dies_says_so() {
    let args = DemoArgs {
        targets: 2,
        series: 10,
        engine: Some("/bin/false".into()),
        ..DemoArgs::default()
    };
    let error = demo::run(args).unwrap_err().to_string();
    assert!(error.contains("the engine ended by itself"), "{error}");
}

#[test]
fn too_many_targets_for_the_limit_of_open_files() {
    let args = FleetArgs {
        targets: 1_000_000,
        series: 3,
        ..fleet_args()
    };
    // Where the limit allows a million files there is nothing to refuse.
    if let Err(error) = Fleet::start(&args) {
        let text = error.to_string();
        assert!(
            text.contains("open files") && text.contains("1000066"),
            "{text}"
        );
    }
}
