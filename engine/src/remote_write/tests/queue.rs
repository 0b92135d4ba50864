//! Single rules of the queue, each in a scenario of a few records and scripted answers.

use super::decode::{TimeSeries, decode_body};
use super::model::{LabelMap, block, endpoint, layout, map, route, target, whole};
use super::simulation::Log;
use crate::config::Endpoint;
use crate::labels::Labels;
use crate::remote_write::{
    DropCause, Notice, Now, Polled, QueueOptions, Request, SendResult, ShardQueue,
};
use ringscrape_wal::definition::{Block, Family, FamilyKind, Target};
use ringscrape_wal::scrape::{Position, Scrape};
use std::sync::Arc;

/// Far from zero, as clocks are.
const START_MS: u64 = 1_000_000;

pub(super) struct Bench {
    log: Log,
    pub(super) queue: ShardQueue,
    now_ms: u64,
    polled: Polled,
}

pub(super) struct Source {
    target: Arc<Target>,
    block: Arc<Block>,
}

pub(super) fn source(key: u64, series: usize) -> Source {
    let labels = map(&[("target", &format!("t{key}"))]);
    let series: Vec<LabelMap> = (0..series)
        .map(|index| map(&[("__name__", &format!("m{index}"))]))
        .collect();
    let family = Family {
        name: "m0".into(),
        kind: FamilyKind::Gauge,
        ..Family::default()
    };
    Source {
        target: target(key, &labels),
        block: block(&["target".to_owned()], &series, &[family]),
    }
}

pub(super) fn status(code: u16, reason: &str) -> SendResult {
    SendResult::Status {
        code,
        retry_after_ms: None,
        reason: reason.to_owned(),
        written: None,
    }
}

pub(super) fn small() -> Endpoint {
    let mut endpoint = endpoint();
    endpoint.queue.samples_per_send_max = 10;
    endpoint
}

impl Bench {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let log = Log::new();
        let now = Now {
            monotonic_ms: START_MS,
            unix_ms: START_MS as i64,
        };
        let options = QueueOptions {
            endpoint: Arc::new(endpoint),
            low_water: log.end(),
            highest_sent: log.end(),
            run_start: log.end(),
            isolation_requests_per_s: 5.0,
        };
        Self {
            queue: ShardQueue::new(options, now),
            log,
            now_ms: START_MS,
            polled: Polled::default(),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            monotonic_ms: self.now_ms,
            unix_ms: self.now_ms as i64,
        }
    }

    pub(super) fn scrape(&mut self, source: &Source) {
        self.log.append(Scrape {
            target: source.target.clone(),
            route: route("test"),
            timestamp_ms: self.now_ms as i64,
            layout: layout(&[whole(&source.block)]),
            values: vec![1.5; source.block.entries.len()],
            stale: Box::default(),
            sides: None,
        });
    }

    fn poll_with(&mut self, free: u32) -> Vec<Request> {
        let mut requests = Vec::new();
        let now = self.now();
        self.polled = self.queue.poll(&mut self.log, now, free, &mut requests);
        requests
    }

    pub(super) fn poll(&mut self) -> Vec<Request> {
        self.poll_with(50)
    }

    pub(super) fn after_ms(&mut self, pause_ms: u64) -> Vec<Request> {
        self.now_ms += pause_ms;
        self.poll()
    }

    pub(super) fn one(&mut self) -> Request {
        let mut requests = self.poll();
        assert_eq!(requests.len(), 1);
        requests.remove(0)
    }

    pub(super) fn answer(&mut self, request: &Request, result: &SendResult) {
        let now = self.now();
        self.queue.on_result(request.id, result, 1_000, now);
    }

    pub(super) fn dropped(&self, cause: DropCause) -> u64 {
        self.queue.stats().samples_dropped[cause as usize]
    }

    /// Answers by `receiver` until nothing more is sent; returns the number of requests.
    pub(super) fn run(&mut self, receiver: impl Fn(&[TimeSeries]) -> SendResult) -> usize {
        let mut count = 0;
        for _ in 0..10_000 {
            for request in self.after_ms(100) {
                count += 1;
                let series = decode_body(&request.body).series;
                self.answer(&request, &receiver(&series));
            }
            if self.queue.is_drained() && self.queue.cursor().0 == self.log.end() {
                return count;
            }
        }
        panic!("not drained: {:?}", self.queue);
    }
}

pub(super) fn name(series: &TimeSeries) -> &str {
    &series.labels[0].1
}

#[test]
fn a_small_batch_waits_for_the_deadline_and_a_full_one_does_not() {
    let mut bench = Bench::new(small());
    let (a, b) = (source(1, 4), source(2, 6));
    bench.scrape(&a);
    assert!(bench.poll().is_empty());
    assert_eq!(bench.polled.wake_at_ms, Some(START_MS + 5_000));
    assert!(bench.after_ms(4_999).is_empty());
    assert_eq!(bench.after_ms(1).len(), 1);

    bench.scrape(&b);
    assert!(bench.poll().is_empty());
    // `a` is on its way: full, but it must wait for the answer.
    bench.scrape(&a);
    assert!(bench.poll().is_empty());
    assert_eq!(bench.queue.stats().samples_pending, 14);
}

#[test]
fn a_batch_worth_a_request_waits_200_ms() {
    let mut large = endpoint();
    large.queue.samples_per_send_max = 20_000;
    let mut bench = Bench::new(large);
    // 15,000 samples of some 53 bytes: more than 64 KiB.
    let big = source(1, 15_000);
    bench.scrape(&big);
    assert!(bench.poll().is_empty());
    assert_eq!(bench.polled.wake_at_ms, Some(START_MS + 200));
    assert_eq!(bench.after_ms(200).len(), 1);
}

#[test]
fn a_small_batch_goes_soon_when_targets_have_moved() {
    let mut bench = Bench::new(small());
    bench.scrape(&source(1, 4));
    assert!(bench.poll().is_empty());
    assert!(bench.after_ms(1_000).is_empty());
    bench.queue.hurry(bench.now());
    assert_eq!(bench.poll().len(), 1);

    bench.scrape(&source(2, 4));
    assert!(bench.poll().is_empty());
    assert_eq!(bench.after_ms(200).len(), 1);

    // Later ones wait as ever.
    assert!(bench.after_ms(2_000).is_empty());
    bench.scrape(&source(3, 4));
    assert!(bench.poll().is_empty());
    assert!(bench.after_ms(4_999).is_empty());
    assert_eq!(bench.after_ms(1).len(), 1);
}

#[test]
fn a_batch_goes_on_filling_while_no_request_is_free() {
    let mut bench = Bench::new(small());
    let sources: Vec<Source> = (0..5).map(|key| source(key, 3)).collect();
    bench.scrape(&sources[0]);
    bench.now_ms += 6_000;
    assert!(bench.poll_with(0).is_empty());
    bench.scrape(&sources[1]);
    bench.scrape(&sources[2]);
    assert!(bench.poll_with(0).is_empty());
    // The fourth would be 12 samples: it goes to the next batch.
    bench.scrape(&sources[3]);
    let request = bench.one();
    assert_eq!(request.samples, 9);
    bench.queue.flush();
    assert_eq!(bench.one().samples, 3);
}

#[test]
fn a_large_record_goes_in_slices_that_may_be_on_their_way_together() {
    let mut bench = Bench::new(small());
    let large = source(1, 25);
    bench.scrape(&large);
    bench.queue.flush();
    let requests = bench.poll();
    let sizes: Vec<u32> = requests.iter().map(|request| request.samples).collect();
    assert_eq!(sizes, [10, 10, 5]);
    let begin = Position {
        segment: 1,
        offset: 0,
    };
    for at in [2, 1, 0] {
        assert_eq!(bench.queue.cursor().0, begin);
        bench.answer(&requests[at], &status(200, ""));
    }
    assert_eq!(bench.queue.cursor().0, bench.log.end());
}

#[test]
fn the_mark_waits_for_the_oldest_and_the_sent_mark_does_not() {
    let mut bench = Bench::new(small());
    let sources: Vec<Source> = (0..3).map(|key| source(key, 10)).collect();
    for source in &sources {
        bench.scrape(source);
    }
    let requests = bench.poll();
    assert_eq!(requests.len(), 3);
    let start = bench.log.entries[0].position;
    assert_eq!(bench.queue.cursor(), (start, bench.log.end()));
    bench.answer(&requests[2], &status(200, ""));
    bench.answer(&requests[1], &status(200, ""));
    assert_eq!(bench.queue.cursor().0, start);
    assert_eq!(bench.queue.stats().batches_pending, 1);
    bench.now_ms += 7_000;
    let stats = bench.queue.stats();
    assert_eq!(stats.lag_ms(bench.now_ms as i64), 7_000);
    bench.answer(&requests[0], &status(200, ""));
    assert_eq!(bench.queue.cursor().0, bench.log.end());
    assert_eq!(bench.queue.stats().lag_ms(bench.now_ms as i64), 0);
    assert!(bench.queue.is_drained());
}

#[test]
fn a_failure_is_retried_for_ever_with_growing_pauses() {
    let mut bench = Bench::new(small());
    bench.scrape(&source(1, 10));
    let mut request = bench.one();
    let failures = [
        SendResult::TimedOut,
        SendResult::Failed("refused".to_owned()),
        status(500, ""),
        status(429, ""),
    ];
    let mut pause_ms = 30;
    for attempt in 1..100 {
        let failure = &failures[attempt as usize % failures.len()];
        bench.answer(&request, failure);
        assert!(bench.after_ms(pause_ms - 1).is_empty());
        bench.now_ms += 1;
        let again = bench.one();
        assert_eq!(again.attempt, attempt);
        assert_eq!(again.body, request.body);
        assert_ne!(again.id, request.id);
        request = again;
        pause_ms = (pause_ms * 2).min(5_000);
    }
    bench.answer(&request, &status(204, ""));
    let stats = bench.queue.stats();
    assert_eq!((stats.samples_sent, stats.samples_failed()), (10, 0));
    assert_eq!(stats.samples_retried, 990);
    assert_eq!(stats.timestamp_ms_highest_sent, START_MS as i64);
}

#[test]
fn retry_after_and_configuration_faults_hold_everything_back() {
    let mut bench = Bench::new(small());
    let sources: Vec<Source> = (0..2).map(|key| source(key, 10)).collect();
    bench.scrape(&sources[0]);
    let request = bench.one();
    let busy = SendResult::Status {
        code: 503,
        retry_after_ms: Some(20_000),
        reason: String::new(),
        written: None,
    };
    bench.answer(&request, &busy);
    bench.scrape(&sources[1]);
    assert!(bench.after_ms(19_999).is_empty());
    assert_eq!(bench.polled.wake_at_ms, Some(START_MS + 20_000));
    let requests = bench.after_ms(1);
    assert_eq!(requests.len(), 2);
    let retrying = Notice::Retrying {
        answer: "503:".to_owned(),
    };
    assert_eq!(bench.queue.take_notices(), [retrying]);

    bench.answer(&requests[0], &status(401, "who\nare you"));
    assert!(bench.after_ms(29_999).is_empty());
    let notice = Notice::ConfigFault {
        code: 401,
        reason: "who are you".to_owned(),
    };
    assert_eq!(bench.queue.take_notices(), [notice]);
    assert_eq!(bench.after_ms(1).len(), 1);
    assert_eq!(bench.queue.stats().config_faults, 1);
}

#[test]
fn a_413_makes_requests_smaller_until_a_single_series_is_too_large() {
    let mut bench = Bench::new(small());
    bench.scrape(&source(1, 10));
    let count = bench.run(|series| match series.len() {
        0..=3 => status(200, ""),
        _ => status(413, ""),
    });
    // 10, 5, 3, 2, 5, 3, 2
    assert_eq!(count, 7);
    let stats = bench.queue.stats();
    assert_eq!((stats.samples_sent, stats.samples_failed()), (10, 0));
    assert!(stats.samples_per_send <= 5, "{}", stats.samples_per_send);

    bench.scrape(&source(2, 4));
    bench.queue.flush();
    bench.run(|_| status(413, ""));
    assert_eq!(bench.dropped(DropCause::TooLarge), 4);
    assert_eq!(bench.queue.stats().samples_per_send, 1);
}

#[test]
fn halving_finds_the_refused_series_and_remembers_it() {
    let mut bench = Bench::new(endpoint());
    let big = source(1, 1_000);
    let receiver = |series: &[TimeSeries]| {
        if series.iter().any(|series| name(series) == "m777") {
            status(400, "label value too long")
        } else {
            status(200, "")
        }
    };
    bench.queue.flush();
    bench.scrape(&big);
    let first = bench.run(receiver);
    assert!(first <= 21, "{first}");
    assert_eq!(bench.queue.stats().samples_sent, 999);
    assert_eq!(bench.dropped(DropCause::Refused), 1);
    let notices = bench.queue.take_notices();
    let [Notice::Dropped { series, answer, .. }] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!(series, "{__name__=\"m777\", target=\"t1\"}");
    assert_eq!(answer, "400: label value too long");

    bench.scrape(&big);
    // All, all but the suspect, the suspect.
    assert_eq!(bench.run(receiver), 3);
    assert_eq!(bench.queue.stats().samples_sent, 2 * 999);
    // Forgotten after ten minutes.
    bench.now_ms += 11 * 60_000;
    bench.scrape(&big);
    assert!(bench.run(receiver) > 3);
}

#[test]
fn what_the_budget_of_halving_leaves_is_dropped_and_counted() {
    let mut bench = Bench::new(endpoint());
    bench.scrape(&source(1, 10_000));
    bench.queue.flush();
    let count = bench.run(|_| status(400, "no"));
    let (single, whole) = (
        bench.dropped(DropCause::Refused),
        bench.dropped(DropCause::BudgetSpent),
    );
    assert_eq!(single + whole, 10_000);
    assert!(whole > 0 && count < 64 + 30, "{count}");
    assert_eq!(bench.queue.stats().samples_failed(), 10_000);
    assert_eq!(bench.queue.cursor().0, bench.log.end());
}

#[test]
fn the_search_is_limited_in_requests_a_second() {
    let mut bench = Bench::new(endpoint());
    bench.scrape(&source(1, 10_000));
    bench.queue.flush();
    let request = bench.one();
    bench.answer(&request, &status(400, "no"));
    let mut count = 0;
    for _ in 0..20 {
        for request in bench.after_ms(100) {
            count += 1;
            bench.answer(&request, &status(400, "no"));
        }
    }
    // 5 saved up and 5 a second.
    assert!((10..=16).contains(&count), "{count}");
}

#[test]
fn a_rate_limit_not_to_be_waited_for_drops_the_request() {
    let mut endpoint = small();
    endpoint.queue.retry_on_http_429 = false;
    let mut bench = Bench::new(endpoint);
    bench.scrape(&source(1, 10));
    bench.run(|_| status(429, "slow down"));
    assert_eq!(bench.dropped(DropCause::RateLimited), 10);
}

#[test]
fn mimir_is_believed_that_it_stored_the_rest() {
    let mut bench = Bench::new(small());
    bench.scrape(&source(1, 10));
    let count = bench.run(|_| status(400, "too old (err-mimir-sample-timestamp-too-old)"));
    assert_eq!(count, 1);
    assert_eq!(bench.queue.stats().requests_partly_stored, 1);
    assert_eq!(bench.queue.stats().samples_failed(), 0);
}

#[test]
fn an_age_limit_drops_what_waited_too_long() {
    let mut endpoint = small();
    endpoint.queue.sample_age_limit_ms = 60_000;
    let mut bench = Bench::new(endpoint);
    bench.scrape(&source(1, 10));
    bench.scrape(&source(2, 10));
    let requests = bench.poll();
    bench.answer(&requests[0], &status(500, ""));
    bench.answer(&requests[1], &status(200, ""));
    // Not read yet when it is too old.
    bench.scrape(&source(3, 4));
    assert!(bench.after_ms(60_001).is_empty());
    assert_eq!(bench.dropped(DropCause::TooOld), 14);
    assert!(bench.queue.is_drained());
    assert_eq!(bench.queue.cursor().0, bench.log.end());
}

#[test]
fn metadata_goes_in_requests_of_its_own_again_and_again() {
    let mut endpoint = endpoint();
    endpoint.send_metadata = true;
    let mut bench = Bench::new(endpoint);
    bench.scrape(&source(1, 3));
    assert_eq!(bench.after_ms(5_000).len(), 0);
    assert_eq!(bench.after_ms(5_000).len(), 2);
    let mut rounds = 0;
    for _ in 0..120 {
        bench.scrape(&source(1, 3));
        for request in bench.after_ms(1_000) {
            let decoded = decode_body(&request.body);
            if request.samples == 0 {
                assert!(decoded.series.is_empty());
                assert_eq!(decoded.metadata[0].name, "m0");
                rounds += 1;
                bench.answer(&request, &status(500, ""));
            } else {
                bench.answer(&request, &status(200, ""));
            }
        }
    }
    // The first has no answer, and nothing goes beside it.
    assert_eq!(rounds, 0);
    assert_eq!(bench.queue.stats().requests_in_flight, 2);
}

#[test]
fn metadata_that_fails_is_sent_in_the_next_round() {
    let mut endpoint = endpoint();
    endpoint.send_metadata = true;
    let mut bench = Bench::new(endpoint);
    let source = source(1, 3);
    let mut rounds = 0;
    for _ in 0..200 {
        bench.scrape(&source);
        for request in bench.after_ms(1_000) {
            let is_metadata = request.samples == 0;
            rounds += u64::from(is_metadata);
            let answer = if is_metadata && rounds == 1 {
                status(500, "")
            } else {
                status(200, "")
            };
            bench.answer(&request, &answer);
        }
    }
    // At 10, 70, 130 and 190 s.
    assert_eq!(rounds, 4);
    let stats = bench.queue.stats();
    assert_eq!((stats.metadata_failed, stats.metadata_sent), (1, 3));
    assert_eq!(stats.samples_failed(), 0);
}

#[test]
fn one_poll_does_a_bounded_amount_of_work() {
    let mut bench = Bench::new(endpoint());
    let source = source(1, 1_000);
    for _ in 0..100 {
        bench.scrape(&source);
    }
    let request = bench.one();
    assert!(bench.polled.more);
    assert_eq!(bench.queue.stats().samples_pending, 10_000);
    // The next batch holds the same target: it is read, and then waits.
    assert!(bench.poll().is_empty());
    assert!(bench.poll().is_empty());
    assert!(!bench.polled.more);
    assert_eq!(bench.queue.stats().samples_pending, 20_000);
    bench.answer(&request, &status(200, ""));
    assert_eq!(bench.run(|_| status(200, "")), 9);
}

#[test]
fn new_settings_end_the_pause_of_a_configuration_fault() {
    let mut bench = Bench::new(small());
    bench.scrape(&source(1, 10));
    let request = bench.one();
    bench.answer(&request, &status(403, ""));
    assert!(bench.after_ms(1_000).is_empty());
    let now = bench.now();
    bench.queue.reconfigure(Arc::new(small()), now);
    assert_eq!(bench.one().attempt, 1);
}

#[test]
fn new_settings_hold_for_what_is_read_after() {
    let mut bench = Bench::new(small());
    bench.scrape(&source(1, 10));
    let old = bench.one();
    let mut changed = small();
    changed.external_labels = Labels::from_pairs([("cluster", "eu")]);
    let now = bench.now();
    bench.queue.reconfigure(Arc::new(changed), now);
    bench.scrape(&source(2, 10));
    let new = bench.one();
    assert_eq!(decode_body(&old.body).series[0].labels.len(), 2);
    let labels = &decode_body(&new.body).series[0].labels;
    assert_eq!(labels[1], ("cluster".to_owned(), "eu".to_owned()));
    bench.answer(&old, &status(200, ""));
    bench.answer(&new, &status(200, ""));
    assert!(bench.queue.is_drained());
}

/// What is scraped seldom is not there yet when metadata is first due.
#[test]
fn metadata_comes_soon_after_a_start_though_the_first_scrape_comes_late() {
    let mut endpoint = endpoint();
    endpoint.send_metadata = true;
    let mut bench = Bench::new(endpoint);
    assert!(bench.after_ms(10_000).is_empty());
    bench.scrape(&source(1, 3));
    assert!(bench.poll().is_empty());
    let requests = bench.after_ms(10_000);
    let metadata = requests.iter().filter(|request| request.samples == 0);
    assert_eq!((requests.len(), metadata.count()), (2, 1));
}
