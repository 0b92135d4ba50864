//! A receiver that fails in every way at once -> all but what it refuses arrives, once each.
//!
//! What it has stored without saying so may come again; what it has acknowledged may not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringscrape_tests::engine::Running;
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::recorder::{Labels, Series, decode};
use ringscrape_tests::server::{After, Server, answer};
use ringscrape_tests::wait;
use tempfile::TempDir;

use crate::ringscrape;

const TARGETS: u64 = 20;
const SERIES: u64 = 30;
/// Scrapes of each target that must arrive.
const SCRAPES: u64 = 12;
/// `remote_timeout`, and how long an answer takes that is to come too late.
const TIMEOUT: Duration = Duration::from_secs(1);
const TOO_LATE: Duration = Duration::from_millis(1300);
/// The series that the receiver does not like.
const POISON: &str = "poison";

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// 500.
    Fails,
    /// 429 with Retry-After.
    Limited,
    /// Taken or not, but not answered in time.
    Late(bool),
    /// Taken or not, and the connection closed instead of an answer.
    Closed(bool),
    /// Taken, or 400 for the series that is not liked.
    Answered,
}

/// In a hundred: 20 of 500, 10 of 429, 5 too late, 5 closed.
fn fate(number: u64) -> Fate {
    // Source of the constants: SplitMix64, Steele, Lea, Flood 2014.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let taken = mixed & 1 == 0;
    match (mixed >> 32) % 100 {
        0..20 => Fate::Fails,
        20..30 => Fate::Limited,
        30..35 => Fate::Late(taken),
        35..40 => Fate::Closed(taken),
        _ => Fate::Answered,
    }
}

/// A sample: series, timestamp, value bits; and whether its request was acknowledged.
#[derive(Default)]
struct Stored {
    samples: Vec<(Labels, i64, u64, bool)>,
    fates: BTreeMap<Fate, u64>,
    refused: u64,
    malformed: Vec<String>,
}

impl Stored {
    fn take(&mut self, series: Vec<Series>, acknowledged: bool) {
        for series in series {
            for (bits, timestamp_ms) in series.samples {
                let labels = series.labels.clone();
                self.samples
                    .push((labels, timestamp_ms, bits, acknowledged));
            }
        }
    }
}

fn label<'a>(labels: &'a Labels, name: &str) -> &'a str {
    let found = labels.iter().find(|(have, _)| have == name);
    found.map_or("", |(_, value)| value)
}

fn receiver(stored: Arc<Mutex<Stored>>) -> Server {
    let numbers = AtomicU64::new(0);
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Server::start(&[host], 0, move |request, stream| {
        let lock = || stored.lock().map_err(|_| io::Error::other("poisoned"));
        let series = match decode(request) {
            Ok(series) => series,
            Err(error) => {
                lock()?.malformed.push(error);
                return answer(stream, 400, &[], b"malformed");
            }
        };
        let fate = fate(numbers.fetch_add(1, Ordering::Relaxed));
        *lock()?.fates.entry(fate).or_default() += 1;
        let poisoned = series
            .iter()
            .any(|one| label(&one.labels, "__name__") == POISON);
        // It looks at the content only when it takes a request.
        let takes = !poisoned;
        match fate {
            Fate::Fails => answer(stream, 500, &[], b"on purpose"),
            Fate::Limited => answer(stream, 429, &[("Retry-After", "1")], b"slowly"),
            Fate::Late(taken) => {
                if taken && takes {
                    lock()?.take(series, false);
                }
                std::thread::sleep(TOO_LATE);
                Ok(After::Close)
            }
            Fate::Closed(taken) => {
                if taken && takes {
                    lock()?.take(series, false);
                }
                Ok(After::Close)
            }
            Fate::Answered if poisoned => {
                lock()?.refused += 1;
                answer(stream, 400, &[], b"a label of poison is not liked")
            }
            Fate::Answered => {
                lock()?.take(series, true);
                answer(stream, 204, &[], b"")
            }
        }
    })
}

/// The series that have the first scrapes.
fn complete(stored: &Stored) -> usize {
    let mut numbers: HashMap<&Labels, BTreeSet<u64>> = HashMap::new();
    for (labels, _, bits, _) in &stored.samples {
        if label(labels, "__name__") == "x" {
            let number = f64::from_bits(*bits) as u64;
            numbers.entry(labels).or_default().insert(number);
        }
    }
    let all: BTreeSet<u64> = (1..=SCRAPES).collect();
    let have_all = |numbers: &&BTreeSet<u64>| all.is_subset(numbers);
    numbers.values().filter(have_all).count()
}

/// What came again after an acknowledgement, or with a time before that of a sample before it.
fn disorder(stored: &Stored) -> Vec<String> {
    let mut found = Vec::new();
    // By series: the times, with whether the sample was acknowledged.
    let mut seen: HashMap<&Labels, BTreeMap<i64, bool>> = HashMap::new();
    for (labels, timestamp_ms, _, acknowledged) in &stored.samples {
        let times = seen.entry(labels).or_default();
        let newest = times.last_key_value().map(|(time, _)| *time);
        match times.get(timestamp_ms) {
            Some(true) => found.push(format!("again at {timestamp_ms}: {labels:?}")),
            None if newest > Some(*timestamp_ms) => {
                found.push(format!("{timestamp_ms} after {newest:?}: {labels:?}"));
            }
            _ => {}
        }
        *times.entry(*timestamp_ms).or_default() |= acknowledged;
    }
    found
}

#[test]
fn all_but_the_poison_arrives_once_through_every_fault() {
    let Some(engine) = ringscrape() else {
        return; // The reference gives up what gets a 429 or a 400.
    };
    let exporter = Exporter::start(|scrape| {
        let mut body = String::new();
        for series in 0..SERIES {
            let _ = writeln!(body, "x{{i=\"{series}\"}} {}", scrape.number);
        }
        if scrape.request.path() == "/7" {
            let _ = writeln!(body, "{POISON} 1");
        }
        Page::text(body)
    });
    let stored = Arc::new(Mutex::new(Stored::default()));
    let server = receiver(stored.clone());
    let mut config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\n\
         remote_write:\n- url: http://{}/w\n  remote_timeout: {}s\n  send_exemplars: true\n\
         \x20 metadata_config: {{send: false}}\n\
         \x20 queue_config: {{batch_send_deadline: 100ms, max_samples_per_send: 300, \
         max_backoff: 500ms}}\n\
         scrape_configs:\n- job_name: one\n  static_configs:\n",
        server.address(),
        TIMEOUT.as_secs(),
    );
    for target in 0..TARGETS {
        let address = exporter.address();
        let _ = writeln!(
            config,
            "  - {{targets: ['{address}'], labels: {{t: '{target}', __metrics_path__: /{target}}}}}"
        );
    }
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    let look = || stored.lock().expect("BUG: never poisoned");
    let expected = (TARGETS * SERIES) as usize;
    let state = || {
        let stored = look();
        let done = complete(&stored);
        format!("{done} of {expected} series complete; {:?}", stored.fates)
    };
    let limit = Duration::from_secs(180);
    wait::until("every scrape has arrived", limit, state, || {
        assert!(running.process.is_alive(), "the engine ended");
        std::thread::sleep(Duration::from_millis(200));
        let stored = look();
        (complete(&stored) == expected && stored.refused > 0).then_some(())
    });
    let refused = running.metric(
        "prometheus_remote_storage_samples_failed_total",
        &["cause=\"refused\""],
    );
    let other = running.metric("prometheus_remote_storage_samples_failed_total", &[]) - refused;
    let log = running.process.log();
    assert!(running.process.terminate(Duration::from_secs(60)).success());
    let stored = look();
    eprintln!(
        "{} samples stored, requests: {:?}, {refused} samples refused",
        stored.samples.len(),
        stored.fates
    );
    assert_eq!(stored.malformed, [""; 0]);
    let disorder = disorder(&stored);
    assert_eq!(
        disorder.iter().take(5).collect::<Vec<_>>(),
        [""; 0],
        "{} in all",
        disorder.len()
    );
    assert!(refused >= 1.0, "the poison is counted");
    assert_eq!(other, 0.0, "nothing else is given up");
    assert!(log.contains(POISON), "{log}");
    for kind in [
        Fate::Fails,
        Fate::Limited,
        Fate::Late(true),
        Fate::Closed(true),
    ] {
        assert!(stored.fates.contains_key(&kind), "{kind:?} never happened");
    }
}

#[test]
fn repetition_and_disorder_are_seen() {
    let labels = || vec![("__name__".to_owned(), "x".to_owned())];
    let found = |samples: &[(i64, bool)]| {
        let samples = samples.iter();
        let samples = samples.map(|(time, acknowledged)| (labels(), *time, 0, *acknowledged));
        disorder(&Stored {
            samples: samples.collect(),
            ..Stored::default()
        })
        .len()
    };
    assert_eq!(found(&[(1, true), (2, false), (2, true), (3, true)]), 0);
    assert_eq!(found(&[(1, true), (1, true)]), 1);
    assert_eq!(found(&[(1, false), (1, true), (1, false)]), 1);
    assert_eq!(found(&[(2, true), (1, true)]), 1);
}
