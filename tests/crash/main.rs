//! kill -9 at random moments under load -> nothing synced is lost, nothing is out of order.
//!
//! The value of each series tells the target and the number of its scrape, so that the receiver can
//! see which scrapes arrived, and that none arrived under the labels of another target. In every
//! other round the receiver refuses for a while before the kill, so that what must survive is in
//! the log alone.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{Exporter, Page, Served};
use ringscrape_tests::recorder::{Answer, Labels, Recorder, Sample};
use ringscrape_tests::{net, wait};

const ROUNDS: usize = 20;
const TARGETS: usize = 100;
const SERIES: usize = 50;
/// What was scraped at least that long before a kill must arrive: the sync interval of 1 s, and
/// half a second for the scrape and the sync themselves.
const SYNCED_AFTER: Duration = Duration::from_millis(1500);
/// How long a round lasts at least.
const ROUND_MIN: Duration = Duration::from_millis(1600);
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn synced_samples_survive_kill_9() {
    let engine = Engine::subject();
    if !engine.is_there() {
        return;
    }
    let mut random = Random::new();
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    let exporter = Exporter::start(|scrape| {
        let mut body = String::with_capacity(SERIES * 24);
        let target: u64 = scrape
            .request
            .path()
            .trim_start_matches('/')
            .parse()
            .unwrap_or(0);
        for series in 0..SERIES {
            let value = value_of(target, scrape.number);
            let _ = writeln!(body, "load{{i=\"{series}\"}} {value}");
        }
        Page::text(body)
    });
    let refuses = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&refuses);
    let recorder = Recorder::scripted(move |_| {
        Answer::status(if script.load(Ordering::SeqCst) {
            503
        } else {
            204
        })
    });
    let config = configuration(&exporter, &recorder);
    let path = dir.path().join("config.yml");
    std::fs::write(&path, config).expect("cannot write a configuration file");

    let mut kills = Vec::new();
    for round in 0..ROUNDS {
        let mut running = start(engine, dir.path(), &path, &exporter);
        if round % 2 == 1 {
            refuses.store(true, Ordering::SeqCst);
        }
        // The moment is random on purpose; nothing is expected of what happens until then.
        std::thread::sleep(ROUND_MIN + Duration::from_millis(random.below(2500)));
        running.process.kill();
        kills.push(Instant::now());
        refuses.store(false, Ordering::SeqCst);
    }
    let mut running = start(engine, dir.path(), &path, &exporter);
    let required: Vec<Served> = exporter
        .served()
        .into_iter()
        .filter(|scrape| kills.iter().all(|kill| !is_unsynced(scrape.at, *kill)))
        .collect();
    // Looking through everything takes a while, so not at every turn.
    let mut looked = Instant::now();
    let arrived = wait::within(LIMIT, || {
        let is_due = looked.elapsed() > Duration::from_secs(1);
        let lacks = |samples: &[Sample]| !missing(&required, samples).is_empty();
        let is_complete = is_due && !recorder.with("w", lacks);
        if is_due {
            looked = Instant::now();
        }
        is_complete.then_some(())
    });
    let status = running.process.terminate(LIMIT);

    let samples = recorder.samples("w");
    let missing = missing(&required, &samples);
    let order = Order::of(&samples);
    eprintln!(
        "seed {}: {} scrapes served, {} of them synced before a kill, {} lost; {} samples \
         received, {} of them again, {} out of order, {} under labels of another target",
        random.seed,
        exporter.served().len(),
        required.len(),
        missing.len(),
        samples.len(),
        order.again,
        order.faults.len(),
        order.mislabelled.len(),
    );
    let round_of = |at: Instant| kills.iter().filter(|kill| **kill < at).count();
    let mut by_round = [(0, 0); ROUNDS + 1];
    for scrape in &required {
        let name = scrape.target.1.trim_start_matches('/').to_owned();
        let round = &mut by_round[round_of(scrape.at)];
        round.0 += 1;
        round.1 += usize::from(missing.contains(&(name, scrape.number)));
    }
    eprintln!("required and lost by round: {by_round:?}; odd rounds end with refusals");
    for fault in order.mislabelled.iter().take(5) {
        eprintln!("mislabelled: {fault}");
    }
    for fault in order.faults.iter().take(5) {
        eprintln!("out of order: {fault}");
    }
    let failed = recorder.count("w", |s| s.name() == "up" && s.value() == 0.0);
    eprintln!("{failed} scrapes failed by the engine's own account");
    assert!(
        arrived.is_some() && missing.is_empty(),
        "{} synced scrapes lost, such as {:?}",
        missing.len(),
        missing.iter().take(5).collect::<Vec<_>>()
    );
    assert!(
        order.faults.is_empty(),
        "{:?}",
        order.faults.iter().take(5).collect::<Vec<_>>()
    );
    assert!(
        order.mislabelled.is_empty(),
        "samples under labels of another target"
    );
    assert_eq!(recorder.violations(), Vec::<String>::new());
    assert!(status.success(), "the last engine ended with {status}");
}

fn configuration(exporter: &Exporter, recorder: &Recorder) -> String {
    let mut text = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\n\
         remote_write:\n- url: {}\n  queue_config: {{batch_send_deadline: 100ms}}\n\
         scrape_configs:\n- job_name: load\n  static_configs:\n",
        recorder.url("w")
    );
    for target in 0..TARGETS {
        let address = exporter.address();
        let _ = writeln!(
            text,
            "  - {{targets: ['{address}'], labels: {{t: '{target}', __metrics_path__: /{target}}}}}"
        );
    }
    text
}

/// Starts an engine and waits until it has scraped.
fn start(engine: Engine, dir: &Path, config: &Path, exporter: &Exporter) -> Running {
    let before = exporter.served().len();
    let mut running = Running::start_on(engine, dir, config, net::free_address(), &[]);
    let found = wait::within(LIMIT, || {
        assert!(running.process.is_alive(), "{} ended early", engine.name());
        (exporter.served().len() > before).then_some(())
    });
    assert!(found.is_some(), "no scrape within {LIMIT:?} of a start");
    running
}

/// Whether a scrape came so shortly before a kill that it need not be on disk.
fn is_unsynced(scrape: Instant, kill: Instant) -> bool {
    scrape <= kill && kill.duration_since(scrape) < SYNCED_AFTER
}

/// What a target exposes in its scrape of that number.
fn value_of(target: u64, number: u64) -> u64 {
    target * 1_000_000 + number
}

/// The target and the number that a sample's value tells.
fn told_by(sample: &Sample) -> (u64, u64) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small counts"
    )]
    let value = sample.value() as u64;
    (value / 1_000_000, value % 1_000_000)
}

/// Required scrapes of which a sample has not arrived, as target and number.
fn missing(required: &[Served], samples: &[Sample]) -> Vec<(String, u64)> {
    let mut arrived: HashMap<(&str, u64), BTreeSet<&str>> = HashMap::new();
    for sample in samples
        .iter()
        .filter(|sample| sample.name() == "load" && !sample.is_stale())
    {
        let (target, series) = (sample.label("t"), sample.label("i"));
        let (Some(target), Some(series)) = (target, series) else {
            continue;
        };
        let number = told_by(sample).1;
        arrived.entry((target, number)).or_default().insert(series);
    }
    required
        .iter()
        .map(|scrape| {
            (
                scrape.target.1.trim_start_matches('/').to_owned(),
                scrape.number,
            )
        })
        .filter(|(target, number)| {
            arrived
                .get(&(target.as_str(), *number))
                .is_none_or(|series| series.len() < SERIES)
        })
        .collect()
}

/// What the order of arrival says.
#[derive(Debug, Default)]
struct Order {
    /// Samples that had arrived before, unchanged.
    again: usize,
    faults: Vec<String>,
    /// Values of one target under the labels of another.
    mislabelled: Vec<String>,
}

impl Order {
    fn of(samples: &[Sample]) -> Self {
        let mut order = Self::default();
        // By series: the newest time, and the value of each time.
        let mut seen: HashMap<*const Labels, (i64, HashMap<i64, u64>)> = HashMap::new();
        for sample in samples {
            if sample.name() == "load" && !sample.is_stale() {
                let target = told_by(sample).0.to_string();
                if sample.label("t").is_some_and(|label| label != target) {
                    order
                        .mislabelled
                        .push(format!("{sample:?} is of target {target}"));
                }
            }
            let (newest, values) = seen
                .entry(Arc::as_ptr(&sample.labels))
                .or_insert((i64::MIN, HashMap::new()));
            match values.get(&sample.timestamp_ms) {
                Some(bits) if *bits == sample.value_bits => order.again += 1,
                Some(bits) => order.faults.push(format!("{sample:?} was {bits:x} before")),
                None if sample.timestamp_ms < *newest => {
                    order
                        .faults
                        .push(format!("{sample:?} after one at {newest}"));
                }
                None if sample.name() == "load" && sample.is_stale() => {
                    order
                        .faults
                        .push(format!("{sample:?}: marked, though it never vanished"));
                }
                None => {
                    *newest = sample.timestamp_ms;
                    values.insert(sample.timestamp_ms, sample.value_bits);
                }
            }
        }
        order
    }
}

/// Numbers from a seed; `RINGSCRAPE_TEST_SEED` repeats a run's moments.
struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    fn new() -> Self {
        let given = std::env::var("RINGSCRAPE_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            u64::from(now.subsec_nanos()) + 1
        });
        Self { seed, state: seed }
    }

    /// A number below `limit`. Source: xorshift64*, Vigna 2016.
    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % limit
    }
}

#[test]
fn losses_and_disorder_are_seen() {
    let sample = |time: i64, value: f64| Sample {
        labels: Arc::clone(&LABELS),
        value_bits: value.to_bits(),
        timestamp_ms: time,
    };
    static LABELS: std::sync::LazyLock<Arc<Labels>> =
        std::sync::LazyLock::new(|| Arc::new(vec![("__name__".into(), "load".into())]));
    let faults = |samples: &[Sample]| {
        let order = Order::of(samples);
        (order.again, order.faults.len())
    };
    let (a, b, c) = (sample(1, 1.0), sample(2, 2.0), sample(3, 3.0));
    assert_eq!(
        faults(&[a.clone(), b.clone(), a.clone(), b.clone(), c.clone()]),
        (2, 0)
    );
    assert_eq!(faults(&[a.clone(), c.clone(), b]), (0, 1));
    assert_eq!(faults(&[a, sample(1, 9.0), c]), (0, 1));
    let now = Instant::now();
    assert!(is_unsynced(now, now + Duration::from_millis(1400)));
    assert!(!is_unsynced(now, now + Duration::from_millis(1600)));
    assert!(!is_unsynced(now + Duration::from_millis(1), now));
}
