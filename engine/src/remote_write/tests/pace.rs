//! The control of requests against a modelled receiver: workers, a queue, limits, an outage.

use crate::remote_write::pace::{CEILING_US, DELAY_US, Ended, Load, Pace};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A receiver that serves some requests at once, each in about the same time; what comes beyond
/// waits. A sender that always has another request.
struct Model {
    pace: Pace,
    workers: usize,
    service_us: u64,
    /// With more than so many on their way it answers 429 to the last.
    limit: usize,
    /// It fails at once until then.
    down_until_us: u64,
    now_us: u64,
    /// When each worker is free.
    free_at_us: Vec<u64>,
    /// Ends of requests on their way: time, start, load.
    flights: BinaryHeap<Reverse<(u64, u64, u8)>>,
    random: u64,
    retry_after_us: Option<u64>,
}

/// What a stretch of time saw.
#[derive(Debug, Default)]
struct Seen {
    taken: u64,
    limited: u64,
    failed: u64,
    slowest_us: u64,
    bound_max: u32,
    /// Requests sent while a pause was in force.
    sent_in_pause: u64,
}

impl Model {
    fn new(pace: Pace, workers: usize, service_us: u64, seed: u64) -> Self {
        Self {
            pace,
            workers,
            service_us,
            limit: usize::MAX,
            down_until_us: 0,
            now_us: 0,
            free_at_us: vec![0; workers],
            flights: BinaryHeap::new(),
            random: seed,
            retry_after_us: None,
        }
    }

    /// A number below `bound`. Source: Knuth's MMIX generator.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound.max(1)
    }

    fn send(&mut self, seen: &mut Seen) {
        while self.pace.may_start(self.now_us, self.flights.len()) {
            seen.sent_in_pause += u64::from(self.now_us < self.pace.paused_until_us());
            let jitter_us = self.below(self.service_us / 4);
            let (ends_us, load) = if self.now_us < self.down_until_us {
                (self.now_us + 500, 2)
            } else if self.flights.len() >= self.limit {
                (self.now_us + 500, 1)
            } else {
                let worker = (0..self.workers).min_by_key(|at| self.free_at_us[*at]);
                let free_at_us = &mut self.free_at_us[worker.unwrap_or(0)];
                *free_at_us = self.now_us.max(*free_at_us) + self.service_us + jitter_us;
                (*free_at_us, 0)
            };
            self.flights.push(Reverse((ends_us, self.now_us, load)));
            self.pace.started(self.flights.len());
        }
    }

    fn run(&mut self, time_us: u64) -> Seen {
        let mut seen = Seen::default();
        let end_us = self.now_us + time_us;
        while self.now_us < end_us {
            self.send(&mut seen);
            let Some(Reverse((ends_us, started_us, load))) = self.flights.pop() else {
                self.now_us = self.pace.paused_until_us().max(self.now_us + 1);
                continue;
            };
            self.now_us = ends_us;
            let load = [Load::Fine, Load::Limited, Load::Failing][usize::from(load)];
            match load {
                Load::Fine => seen.taken += 1,
                Load::Limited => seen.limited += 1,
                _ => seen.failed += 1,
            }
            if load == Load::Fine {
                seen.slowest_us = seen.slowest_us.max(ends_us - started_us);
            }
            let ended = Ended {
                started_us,
                ended_us: ends_us,
                bytes: 50_000 + self.below(10_000),
                load,
                retry_after_us: self.retry_after_us.filter(|_| load == Load::Limited),
            };
            self.pace.ended(ended);
            seen.bound_max = seen.bound_max.max(self.pace.bound());
        }
        seen
    }
}

const SECOND_US: u64 = 1_000_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_receiver_is_kept_busy_and_no_long_queue_is_built(
        workers in 1_usize..20,
        service_us in 500_u64..400_000,
        seed in any::<u64>(),
    ) {
        let mut model = Model::new(Pace::new(1, 50), workers, service_us, seed);
        // Time enough to grow, whatever the speed.
        model.run(200 * service_us);
        let time_us = 200 * service_us;
        let seen = model.run(time_us);
        let possible = time_us * workers as u64 / (service_us + service_us / 8);
        prop_assert!(seen.taken * 10 >= possible * 8, "{seen:?} of {possible}");
        // What is not too long, and what a bound that is one too high adds.
        let longest_us = 3 * (service_us + DELAY_US.max(service_us));
        prop_assert!(seen.slowest_us <= longest_us, "{seen:?}, allowed {longest_us}");
    }

    #[test]
    fn bounds_are_kept_whatever_is_answered(
        min in 0_u32..10,
        max in 0_u32..60,
        answers in prop::collection::vec((0_u64..5, 0_u64..3_000_000, 0_u64..1 << 40), 0..400),
    ) {
        let mut pace = Pace::new(min, max);
        let (min, max) = (min.clamp(1, max.max(1)), max.max(1));
        let mut now_us = 0;
        for (load, took_us, bytes) in answers {
            let loads = [Load::Fine, Load::Fine, Load::Limited, Load::Failing, Load::Unknown];
            let load = loads[load as usize];
            let before = pace.bound();
            let started_us = now_us;
            now_us += took_us;
            pace.started(before as usize);
            let ended = Ended { started_us, ended_us: now_us, bytes, load, retry_after_us: None };
            pace.ended(ended);
            prop_assert!((min..=max).contains(&pace.bound()));
            if matches!(load, Load::Limited | Load::Failing) {
                prop_assert!(pace.bound() <= before, "grown by a failure");
            }
        }
    }

    #[test]
    fn a_limit_is_touched_seldom(limit in 2_usize..30, seed in any::<u64>()) {
        let mut model = Model::new(Pace::new(1, 50), 50, 20_000, seed);
        model.limit = limit;
        model.run(40 * SECOND_US);
        let seen = model.run(300 * SECOND_US);
        // Once in half a minute, by one request, or by two: that a request was refused is not known
        // at once.
        let probes = 300 * SECOND_US / CEILING_US + 1;
        prop_assert!(seen.limited <= 2 * probes, "{seen:?}");
        let possible = 300 * SECOND_US * limit as u64 / 22_500;
        prop_assert!(seen.taken * 10 >= possible * 8, "{seen:?} of {possible}");
    }
}

#[test]
fn an_outage_ends_at_the_minimum_and_what_follows_at_full_speed() {
    let mut model = Model::new(Pace::new(1, 50), 10, 20_000, 1);
    let before = model.run(30 * SECOND_US);
    assert!(before.bound_max >= 10, "{before:?}");
    model.down_until_us = model.now_us + 30 * SECOND_US;
    let falling = model.run(SECOND_US);
    assert_eq!(model.pace.bound(), 1, "{falling:?}");
    let down = model.run(28 * SECOND_US);
    assert_eq!((down.bound_max, down.taken), (1, 0));
    model.run(3 * SECOND_US);
    let after = model.run(20 * SECOND_US);
    assert!(after.taken * 10 >= before.taken * 6, "{after:?}");
    assert_eq!(after.failed, 0);
}

#[test]
fn the_minimum_holds_in_an_outage() {
    let mut model = Model::new(Pace::new(4, 50), 10, 20_000, 1);
    model.down_until_us = 10 * SECOND_US;
    let seen = model.run(9 * SECOND_US);
    assert_eq!((seen.bound_max, seen.taken), (4, 0));
}

#[test]
fn a_receiver_that_became_slower_is_used_in_full_again() {
    let mut model = Model::new(Pace::new(1, 50), 8, 20_000, 7);
    model.run(30 * SECOND_US);
    model.service_us = 600_000;
    model.run(120 * SECOND_US);
    let seen = model.run(60 * SECOND_US);
    let possible = 60 * SECOND_US * 8 / 675_000;
    assert!(seen.taken * 10 >= possible * 7, "{seen:?} of {possible}");
}

#[test]
fn retry_after_stops_everything_for_that_long() {
    let mut model = Model::new(Pace::new(1, 50), 50, 20_000, 3);
    model.limit = 6;
    model.retry_after_us = Some(5 * SECOND_US);
    let seen = model.run(60 * SECOND_US);
    assert!(seen.limited >= 1);
    assert_eq!(seen.sent_in_pause, 0);
    let ended = Ended {
        started_us: 0,
        ended_us: 1_000,
        bytes: 1,
        load: Load::Failing,
        retry_after_us: Some(2_000),
    };
    let mut pace = Pace::new(3, 9);
    pace.ended(ended);
    assert!(!pace.may_start(2_999, 0) && pace.may_start(3_000, 0));
    // A shorter wish does not take back a longer one.
    pace.ended(Ended {
        retry_after_us: Some(1),
        ..ended
    });
    assert!(!pace.may_start(2_999, 0));
}

#[test]
fn requests_of_one_moment_halve_the_bound_once() {
    let mut pace = Pace::new(1, 40);
    while pace.bound() < 40 {
        pace.started(40);
        pace.ended(Ended {
            started_us: 0,
            ended_us: 1,
            bytes: 1,
            load: Load::Fine,
            retry_after_us: None,
        });
    }
    let failed = |ended_us| Ended {
        started_us: 5,
        ended_us,
        bytes: 1,
        load: Load::Failing,
        retry_after_us: None,
    };
    for ended_us in 10..30 {
        pace.ended(failed(ended_us));
    }
    assert_eq!(pace.bound(), 20);
    pace.ended(Ended {
        started_us: 11,
        ..failed(40)
    });
    assert_eq!(pace.bound(), 10);
}

#[test]
fn what_is_not_asked_for_does_not_grow() {
    let mut pace = Pace::new(4, 50);
    for turn in 0..1_000 {
        pace.started(2);
        pace.ended(Ended {
            started_us: turn * 1_000,
            ended_us: turn * 1_000 + 500,
            bytes: 1_000,
            load: Load::Fine,
            retry_after_us: None,
        });
    }
    assert_eq!(pace.bound(), 4);
}
