//! Starts with other numbers of shards while the receiver refuses -> nothing is lost, and each
//! target's samples arrive in order.

use super::*;

/// How long before a stop a scrape may have been answered that had not been read then.
const UNDER_WAY: Duration = Duration::from_millis(300);
/// How long each engine scrapes.
const ROUND: Duration = Duration::from_secs(3);

#[test]
fn another_number_of_shards_loses_nothing_and_keeps_order() {
    let engine = Engine::subject();
    if engine != Engine::Ringscrape {
        return;
    }
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    let exporter = exporter();
    let (recorder, refuses) = receiver();
    let path = dir.path().join("config.yml");
    std::fs::write(&path, configuration(&exporter, &recorder.url("w"), TARGETS))
        .expect("cannot write a file");
    let begin = |shards: &str| {
        let extra = [shards, "--remote.flush-deadline=1"];
        start(engine, dir.path(), &path, &exporter, &extra)
    };

    // Some arrives before the receiver refuses, so that there are cursors to go on at.
    let mut running = begin("--shards=3");
    wait::until(
        "samples arrive",
        LIMIT,
        || "none".to_owned(),
        || (recorder.count("w", |sample| sample.name() == "load") > 0).then_some(()),
    );
    refuses.store(true, Ordering::SeqCst);
    std::thread::sleep(ROUND);
    let stop = Instant::now();
    assert!(running.process.terminate(LIMIT).success());
    let stopped = Instant::now();

    let mut running = begin("--shards=2");
    std::thread::sleep(ROUND);
    let from = Instant::now();
    running.process.kill();
    let kill = Dealt::new(Blow::Kill, from, &[]);

    let mut running = begin("--shards=4");
    let wal = dir.path().join("data/wal");
    let former = || {
        let names = std::fs::read_dir(&wal).expect("cannot list the log");
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.starts_with("former-")).count()
    };
    assert_eq!(former(), 2, "each former number of shards has its folder");
    std::thread::sleep(ROUND);
    let refused = recorder.samples("w").len();
    refuses.store(false, Ordering::SeqCst);

    let required: Vec<Served> = exporter
        .served()
        .into_iter()
        .filter(|scrape| !kill.excuses(scrape.at))
        // What is under way at a stop is given up.
        .filter(|scrape| scrape.at + UNDER_WAY < stop || scrape.at > stopped)
        .collect();
    let arrived = wait::within(LIMIT, || {
        std::thread::sleep(Duration::from_millis(200));
        let lacks = |samples: &[Sample]| !missing(&required, samples).is_empty();
        (!recorder.with("w", lacks)).then_some(())
    });
    let gone = wait::within(LIMIT, || (former() == 0).then_some(()));
    let log = running.process.log();
    let status = running.process.terminate(LIMIT);

    let samples = recorder.samples("w");
    let missing = missing(&required, &samples);
    let order = Order::of(&samples);
    eprintln!(
        "{} scrapes required, {} lost; {} samples received, {refused} of them before the receiver \
         was back, {} again, {} out of order",
        required.len(),
        missing.len(),
        samples.len(),
        order.again.len(),
        order.faults.len(),
    );
    assert!(
        arrived.is_some() && missing.is_empty(),
        "{} scrapes lost, such as {:?}\n{log}",
        missing.len(),
        missing.iter().take(5).collect::<Vec<_>>()
    );
    assert!(
        order.faults.is_empty(),
        "{:?}",
        &order.faults[..order.faults.len().min(5)]
    );
    assert!(
        order.mislabelled.is_empty(),
        "{:?}",
        order.mislabelled.first()
    );
    assert!(gone.is_some(), "former logs are still there\n{log}");
    assert_eq!(recorder.violations(), Vec::<String>::new());
    assert!(status.success(), "the last engine ended with {status}");
}

#[test]
fn a_stop_sends_what_other_shards_have_logged_before() {
    let engine = Engine::subject();
    if engine != Engine::Ringscrape {
        return;
    }
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    let exporter = exporter();
    let (recorder, refuses) = receiver();
    refuses.store(true, Ordering::SeqCst);
    let path = dir.path().join("config.yml");
    std::fs::write(&path, configuration(&exporter, &recorder.url("w"), TARGETS))
        .expect("cannot write a file");
    let begin = |extra: &[&str]| start(engine, dir.path(), &path, &exporter, extra);

    let mut running = begin(&["--shards=2", "--remote.flush-deadline=1"]);
    std::thread::sleep(ROUND);
    let first_stop = Instant::now();
    assert!(running.process.terminate(LIMIT).success());
    let stopped = Instant::now();

    let deadline = format!("--remote.flush-deadline={}", LIMIT.as_secs());
    let mut running = begin(&["--shards=3", &deadline]);
    std::thread::sleep(ROUND);
    let back = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        refuses.store(false, Ordering::SeqCst);
    });
    let stop = Instant::now();
    // A shard that waited for the others until the deadline would take longer than that.
    let status = running.process.terminate(LIMIT - Duration::from_secs(10));
    back.join().expect("the receiver is back");
    let log = running.process.log();
    assert!(status.success(), "{status}\n{log}");

    let samples = recorder.samples("w");
    let is_required = |scrape: &Served| {
        let before = |moment: Instant| scrape.at + UNDER_WAY < moment;
        before(first_stop) || (scrape.at > stopped && before(stop))
    };
    let mut required = exporter.served();
    required.retain(is_required);
    let missing = missing(&required, &samples);
    assert!(
        !required.is_empty() && missing.is_empty(),
        "{} of {} scrapes lost, such as {:?}\n{log}",
        missing.len(),
        required.len(),
        missing.iter().take(5).collect::<Vec<_>>()
    );
    let order = Order::of(&samples);
    assert!(order.faults.is_empty(), "{:?}", order.faults.first());
    let names = std::fs::read_dir(dir.path().join("data/wal")).expect("cannot list the log");
    let names: Vec<_> = names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("former-"))
        .collect();
    assert!(names.is_empty(), "{names:?} are still there\n{log}");
}
