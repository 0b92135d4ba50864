//! Receivers that are away or refuse -> samples kept and sent later, or dropped, counted and named.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringscrape_tests::engine::{Running, metrics_above_zero};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::recorder::{Answer, Recorder, Sample};
use ringscrape_tests::{net, wait};
use tempfile::TempDir;

use crate::{LIMIT, one_job, ringscrape, subject};

/// A target whose series `x` is the number of the scrape.
fn counting() -> Exporter {
    Exporter::start(|scrape| Page::text(format!("x {}\n", scrape.number)))
}

/// The values of `x` that arrived, in order.
fn numbers(recorder: &Recorder) -> Vec<f64> {
    let is_x = |sample: &&Sample| sample.name() == "x";
    recorder.with("w", |samples| {
        samples.iter().filter(is_x).map(Sample::value).collect()
    })
}

/// Waits until `count` scrapes in a row, from the first one on, have arrived.
fn wait_for_all_from_the_first(running: &mut Running, recorder: &Recorder, count: usize) {
    let wanted: Vec<f64> = (1..=count).map(|n| n as f64).collect();
    let state = || format!("arrived: {:?}", numbers(recorder));
    wait::until("every scrape has arrived", LIMIT, state, || {
        assert!(running.process.is_alive(), "the engine ended");
        (numbers(recorder).get(..count)? == wanted).then_some(())
    });
}

/// Waits until one of the engine's own metrics of that kind is above zero.
fn wait_for_metric(running: &Running, words: &[&str]) {
    let page = || {
        running
            .get("/metrics")
            .map(|page| page.text())
            .unwrap_or_default()
    };
    wait::until(
        &format!("a metric like {words:?} counts"),
        LIMIT,
        page,
        || (!metrics_above_zero(&page(), words).is_empty()).then_some(()),
    );
}

#[test]
fn unreachable_at_first() {
    let Some(engine) = subject() else { return };
    let exporter = counting();
    let address = net::free_address();
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let config = one_job(
        &format!("http://{address}/w"),
        &exporter.address().to_string(),
    );
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    running.wait_ready();
    let scraped = || {
        let host = exporter.address().ip();
        (exporter.count(host, "/metrics") >= 3).then_some(())
    };
    wait::until("three scrapes were made", LIMIT, String::new, scraped);
    wait_for_metric(&running, &["remote", "fail|retri|error|pending"]);
    let tail = || running.process.log_tail();
    wait::until("the log names the receiver", LIMIT, tail, || {
        running
            .process
            .log()
            .contains(&address.to_string())
            .then_some(())
    });
    let recorder = Recorder::scripted_on(address.port(), |_| Answer::status(204));
    wait_for_all_from_the_first(&mut running, &recorder, 5);
    assert!(running.process.terminate(LIMIT).success());
}

/// The first `refusals` requests get `answer`; then all must arrive, from the first scrape on.
fn retried(answer: Answer, refusals: u64) {
    let Some(engine) = subject() else { return };
    let exporter = counting();
    let recorder = Recorder::scripted(move |number| {
        if number <= refusals {
            answer.clone()
        } else {
            Answer::status(200)
        }
    });
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let config = one_job(&recorder.url("w"), &exporter.address().to_string());
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    wait_for_all_from_the_first(&mut running, &recorder, 4);
    assert!(recorder.requests().1 >= refusals);
    assert!(running.process.terminate(LIMIT).success());
}

#[test]
fn answer_500_is_retried() {
    retried(Answer::status(500), 5);
}

#[test]
fn answer_429_is_retried_after_what_it_asks_for() {
    if ringscrape().is_none() {
        return; // The reference drops by default.
    }
    retried(
        Answer {
            retry_after: Some(1),
            ..Answer::status(429)
        },
        2,
    );
}

#[test]
fn a_slow_receiver_delays_nothing_but_itself() {
    retried(
        Answer {
            delay: Duration::from_secs(2),
            ..Answer::status(503)
        },
        1,
    );
}

#[test]
fn answer_400_drops_counts_and_says_why() {
    let Some(engine) = subject() else { return };
    let exporter = counting();
    let refuses = Arc::new(AtomicBool::new(true));
    let script = Arc::clone(&refuses);
    let recorder = Recorder::scripted(move |_| match script.load(Ordering::SeqCst) {
        true => Answer {
            body: "out of bounds: series x{}".to_owned(),
            ..Answer::status(400)
        },
        false => Answer::status(204),
    });
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let config = one_job(&recorder.url("w"), &exporter.address().to_string());
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    wait_for_metric(&running, &["remote", "fail|drop|reject|refus"]);
    refuses.store(false, Ordering::SeqCst);
    let state = || format!("arrived: {:?}", numbers(&recorder));
    wait::until("later scrapes arrive", LIMIT, state, || {
        (numbers(&recorder).len() >= 3).then_some(())
    });
    let log = running.process.log();
    assert!(
        log.contains("400") && log.contains("out of bounds"),
        "{log}"
    );
    assert!(running.process.is_alive());
}

#[test]
fn a_receiver_that_does_not_take_2_0_gets_all_as_1_0() {
    let Some(engine) = ringscrape() else {
        return; // The reference gives the samples up.
    };
    let exporter = counting();
    let recorder = Recorder::scripted(|number| match number {
        1 => Answer::status(415),
        _ => Answer::status(204),
    });
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let second = "protobuf_message: io.prometheus.write.v2.Request";
    let config = one_job(&recorder.url("w"), &exporter.address().to_string())
        .replace("  queue_config", &format!("  {second}\n  queue_config"));
    assert!(config.contains(second));
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    wait_for_all_from_the_first(&mut running, &recorder, 4);
    // The recorder takes nothing but 1.0.
    assert_eq!(recorder.violations(), [""; 0]);
    assert_eq!(recorder.requests().1, 1);
    let log = running.process.log();
    assert!(log.contains("does not take remote write 2.0"), "{log}");
    assert!(running.process.terminate(LIMIT).success());
}

#[test]
fn answer_401_is_shown_as_a_fault_of_the_configuration() {
    let Some(engine) = subject() else { return };
    let exporter = counting();
    let recorder = Recorder::scripted(|_| Answer {
        body: "who are you".to_owned(),
        ..Answer::status(401)
    });
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let config = one_job(&recorder.url("w"), &exporter.address().to_string());
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    wait::until(
        "a refusal is logged",
        LIMIT,
        || running.process.log_tail(),
        || running.process.log().contains("401").then_some(()),
    );
    assert!(running.process.is_alive());
    assert!(
        running
            .get("/-/ready")
            .is_ok_and(|answer| answer.status == 200)
    );
}
