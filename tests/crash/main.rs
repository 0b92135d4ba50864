//! Kills at random moments under load -> nothing synced is lost, nothing is out of order.
//!
//! The value of each series tells the target and the number of its scrape, so that the receiver can
//! see which scrapes arrived, and that none arrived under the labels of another target. In every
//! other round the receiver refuses for a while before the kill, so that what must survive is in
//! the log alone. A round ends with kill -9, with SIGTERM, or with kill -9 of a process that was
//! stopped (SIGSTOP); or it goes on after SIGSTOP and SIGCONT.
//!
//! `RINGSCRAPE_TEST_KILLS=200` makes more rounds than the few that are the default.

mod order;
mod prometheus;
mod shards;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use order::Order;
use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{Exporter, Page, Served};
use ringscrape_tests::recorder::{Answer, Recorder, Sample};
use ringscrape_tests::{net, wait};

const KILLS: usize = 40;
const TARGETS: usize = 100;
const SERIES: usize = 50;
/// What was scraped at least that long before a kill must arrive: the sync interval of 1 s, and
/// half a second for the scrape and the sync themselves. What was sent at least that long before it
/// must not arrive again: cursors are saved as often.
const SYNCED_AFTER: Duration = Duration::from_millis(1500);
/// What was asked for that shortly before a stop may be unread: `scrape_timeout`.
const SCRAPE_MAX: Duration = Duration::from_millis(900);
/// How long a round lasts, and how much longer it may.
const ROUND_MIN: Duration = Duration::from_millis(300);
const ROUND_MORE_MS: u64 = 2400;
/// How long a process is stopped at most.
const STOPPED_MS: u64 = 700;
const LIMIT: Duration = Duration::from_secs(60);

/// What happens to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    Kill,
    Terminate,
    /// SIGSTOP, then SIGKILL.
    StopKill,
    /// SIGSTOP, then SIGCONT: the round goes on.
    StopGoOn,
}

/// A blow, from its beginning to its end.
#[derive(Debug, Clone, Copy)]
struct Dealt {
    blow: Blow,
    from: Instant,
    to: Instant,
    /// How long before it a process that runs has done what it is to do.
    before: Duration,
    /// Since when the process had batches that the receiver refused. A cursor is the place of the
    /// oldest of them: what went after it and was taken comes again.
    held_since: Option<Instant>,
}

impl Dealt {
    /// `blows`: those before. While a process is stopped it saves nothing.
    fn new(blow: Blow, from: Instant, blows: &[Self]) -> Self {
        let before = match blow {
            Blow::Kill | Blow::StopKill => SYNCED_AFTER,
            Blow::Terminate | Blow::StopGoOn => SCRAPE_MAX,
        };
        let stops = blows.iter().filter(|dealt| {
            let reach = before + Duration::from_millis(STOPPED_MS);
            dealt.blow == Blow::StopGoOn && dealt.to + reach > from
        });
        let stopped: Duration = stops.map(|dealt| dealt.to - dealt.from).sum();
        Self {
            blow,
            from,
            to: Instant::now(),
            before: before + stopped,
            held_since: None,
        }
    }

    /// Whether a scrape at this moment need not be in the log.
    fn excuses(&self, scrape: Instant) -> bool {
        scrape <= self.to && scrape + self.before > self.from
    }

    /// Whether it may be the reason why what was sent then was sent again later.
    fn repeats(&self, first: Instant, again: Instant) -> bool {
        matches!(self.blow, Blow::Kill | Blow::StopKill)
            && (first..=again).contains(&self.to)
            && first + self.before > self.held_since.unwrap_or(self.from)
    }
}

#[test]
fn synced_samples_survive_kills() {
    let engine = Engine::subject();
    if !engine.is_there() {
        return;
    }
    let rounds = std::env::var("RINGSCRAPE_TEST_KILLS").ok();
    let rounds = rounds.and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    let mut random = Random::new();
    eprintln!("seed {}, {rounds} kills", random.seed);
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    let exporter = exporter();
    let (recorder, refuses) = receiver();
    let path = dir.path().join("config.yml");
    let config = configuration(&exporter, &recorder.url("w"), TARGETS);
    std::fs::write(&path, config).expect("cannot write a configuration file");

    let mut blows = Vec::new();
    let mut running = start(engine, dir.path(), &path, &exporter, &[]);
    let mut held_since = None;
    for round in 0..rounds {
        if round % 2 == 1 {
            held_since = held_since.or(Some(Instant::now()));
            refuses.store(true, Ordering::SeqCst);
        }
        // The moment is random on purpose; nothing is expected of what happens until then.
        std::thread::sleep(ROUND_MIN + Duration::from_millis(random.below(ROUND_MORE_MS)));
        let mut dealt = deal(&mut random, &mut running, &blows);
        dealt.held_since = held_since;
        blows.push(dealt);
        refuses.store(false, Ordering::SeqCst);
        if dealt.blow != Blow::StopGoOn {
            held_since = None;
            running = start(engine, dir.path(), &path, &exporter, &[]);
        }
    }
    let is_required = |scrape: &Served| !blows.iter().any(|dealt| dealt.excuses(scrape.at));
    let mut required = exporter.served();
    let served = required.len();
    required.retain(is_required);
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
    let (late, earliest) = repeated_without_cause(&order, &recorder.arrivals("w"), &blows);
    eprintln!(
        "seed {}: {served} scrapes served, {} of them required, {} lost; {} samples received, {} \
         of them again ({} not explained by a kill within {SYNCED_AFTER:?}; sent {earliest:?} \
         before the kill or the refusals at most), {} out of order, {} under labels of another \
         target",
        random.seed,
        required.len(),
        missing.len(),
        samples.len(),
        order.again.len(),
        late.len(),
        order.faults.len(),
        order.mislabelled.len(),
    );
    for blow in [Blow::Kill, Blow::Terminate, Blow::StopKill, Blow::StopGoOn] {
        let count = blows.iter().filter(|dealt| dealt.blow == blow).count();
        eprintln!("{blow:?}: {count}");
    }
    let failed = recorder.count("w", |s| s.name() == "up" && s.value() == 0.0);
    eprintln!("{failed} scrapes failed by the engine's own account");
    assert!(
        arrived.is_some() && missing.is_empty(),
        "{} synced scrapes lost, such as {:?}",
        missing.len(),
        missing.iter().take(5).collect::<Vec<_>>()
    );
    let first = |faults: &[String]| faults.iter().take(5).cloned().collect::<Vec<_>>();
    assert_eq!(first(&order.faults), [""; 0], "out of order");
    assert_eq!(first(&order.mislabelled), [""; 0], "of another target");
    assert_eq!(first(&late), [""; 0], "sent again without a reason");
    assert_eq!(recorder.violations(), [""; 0]);
    assert!(status.success(), "the last engine ended with {status}");
}

/// Deals a random blow.
fn deal(random: &mut Random, running: &mut Running, blows: &[Dealt]) -> Dealt {
    let blow = match random.below(10) {
        0..6 => Blow::Kill,
        6 => Blow::Terminate,
        7 => Blow::StopKill,
        _ => Blow::StopGoOn,
    };
    let from = Instant::now();
    if matches!(blow, Blow::StopKill | Blow::StopGoOn) {
        running.process.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(random.below(STOPPED_MS)));
    }
    match blow {
        Blow::Kill | Blow::StopKill => {
            running.process.kill();
        }
        Blow::Terminate => {
            let status = running.process.terminate(LIMIT);
            assert!(status.success(), "ended with {status}");
        }
        Blow::StopGoOn => running.process.signal(libc::SIGCONT),
    }
    Dealt::new(blow, from, blows)
}

/// Samples that came again though no kill explains it; and how long before the kill that does those
/// were sent at most that one explains.
fn repeated_without_cause(
    order: &Order,
    arrivals: &[(Instant, usize)],
    blows: &[Dealt],
) -> (Vec<String>, Duration) {
    let arrival = |place: usize| {
        let request = arrivals.partition_point(|(_, samples)| *samples <= place);
        arrivals[request].0
    };
    let (mut without, mut longest) = (Vec::new(), Duration::ZERO);
    for (first, again) in &order.again {
        let (first, again) = (arrival(*first), arrival(*again));
        match blows.iter().find(|dealt| dealt.repeats(first, again)) {
            Some(dealt) => {
                let end = dealt.held_since.unwrap_or(dealt.from);
                longest = longest.max(end.saturating_duration_since(first));
            }
            None => {
                let between = blows
                    .iter()
                    .filter(|dealt| (first..=again).contains(&dealt.to));
                let between: Vec<_> = between
                    .map(|dealt| (dealt.blow, dealt.from.saturating_duration_since(first)))
                    .collect();
                let after = again - first;
                without.push(format!(
                    "again after {after:?}, and since the first: {between:?}"
                ));
            }
        }
    }
    (without, longest)
}

/// Targets by path, `/0` and so on; each of their series tells target and scrape.
fn exporter() -> Exporter {
    Exporter::start(|scrape| {
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
    })
}

/// A receiver that refuses everything while the flag is set.
fn receiver() -> (Recorder, Arc<AtomicBool>) {
    let refuses = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&refuses);
    let recorder = Recorder::scripted(move |_| {
        Answer::status(if script.load(Ordering::SeqCst) {
            503
        } else {
            204
        })
    });
    (recorder, refuses)
}

fn configuration(exporter: &Exporter, url: &str, targets: usize) -> String {
    let mut text = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\n\
         remote_write:\n- url: {url}\n  queue_config: {{batch_send_deadline: 100ms}}\n\
         scrape_configs:\n- job_name: load\n  static_configs:\n"
    );
    for target in 0..targets {
        let address = exporter.address();
        let _ = writeln!(
            text,
            "  - {{targets: ['{address}'], labels: {{t: '{target}', __metrics_path__: /{target}}}}}"
        );
    }
    text
}

/// Starts an engine and waits until it has scraped.
fn start(
    engine: Engine,
    dir: &Path,
    config: &Path,
    exporter: &Exporter,
    extra: &[&str],
) -> Running {
    let before = exporter.served().len();
    let mut running = Running::start_on(engine, dir, config, net::free_address(), extra);
    let found = wait::within(LIMIT, || {
        assert!(running.process.is_alive(), "{} ended early", engine.name());
        (exporter.served().len() > before).then_some(())
    });
    assert!(found.is_some(), "no scrape within {LIMIT:?} of a start");
    running
}

/// What a target exposes in its scrape of that number.
fn value_of(target: u64, number: u64) -> u64 {
    target * 1_000_000 + number
}

/// The target and the number that a sample's value tells.
fn told_by(sample: &Sample) -> (u64, u64) {
    told_by_value(sample.value())
}

fn told_by_value(value: f64) -> (u64, u64) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small counts"
    )]
    let value = value as u64;
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
fn what_a_blow_excuses_and_explains() {
    let from = Instant::now() + Duration::from_secs(10);
    let ms = Duration::from_millis;
    let dealt = |blow| Dealt {
        blow,
        to: from + ms(500),
        ..Dealt::new(blow, from, &[])
    };
    let (kill, end) = (dealt(Blow::Kill), dealt(Blow::Terminate));
    assert!(kill.excuses(from - ms(1400)) && !kill.excuses(from - ms(1600)));
    assert!(end.excuses(from - ms(800)) && !end.excuses(from - ms(1000)));
    assert!(kill.excuses(from + ms(400)) && !kill.excuses(from + ms(600)));
    let later = from + ms(2000);
    assert!(kill.repeats(from - ms(1400), later) && !kill.repeats(from - ms(1600), later));
    assert!(
        !kill.repeats(from - ms(100), from + ms(100)),
        "before its end"
    );
    assert!(
        !end.repeats(from - ms(100), later),
        "cursors are saved at a stop"
    );
    let held = Dealt {
        held_since: Some(from - ms(900)),
        ..kill
    };
    assert!(held.repeats(from - ms(2300), later) && !held.repeats(from - ms(2500), later));
    let stopped = Dealt {
        to: from - ms(200),
        ..Dealt::new(Blow::StopGoOn, from - ms(600), &[])
    };
    let after = Dealt {
        to: from,
        ..Dealt::new(Blow::Kill, from, &[stopped, kill])
    };
    assert!(after.excuses(from - ms(1800)) && !after.excuses(from - ms(2000)));
}
