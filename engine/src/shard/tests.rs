//! Targets whose slots begin and end: what is scraped, counted and handed over. No target is asked:
//! each scrape fails at once by `forced_error`, which is a scrape like any other here.

use super::scrapes::{self, Scrapes};
use super::targets::Slot;
use crate::config::Config;
use crate::discovery::TargetGroup;
use crate::fetch::{Fetcher, FetcherLimits, Now};
use crate::labels::Labels;
use crate::mailbox::{
    Assignment, Ending, ForcedError, FromShard, OwnSlots, Removal, ShardIndex, Until,
};
use ringscrape_wal::definition::Route;
use ringscrape_wal::log::{LogOptions, ShardLog};
use ringscrape_wal::scrape::Scrape;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;

const HOUR_MS: i64 = 3_600_000;

/// A shard without a thread, whose time is what a test says.
struct Shard {
    scrapes: Scrapes,
    fetcher: Fetcher,
    reports: mpsc::Receiver<(ShardIndex, FromShard)>,
    start: Now,
}

impl Shard {
    fn new(standstill_ms: u64) -> Self {
        let (sender, reports) = mpsc::channel(2);
        let log = Rc::new(RefCell::new(ShardLog::new(LogOptions::default(), 1)));
        Self {
            scrapes: Scrapes::new(0, log, sender, standstill_ms),
            fetcher: Fetcher::new(FetcherLimits::default()).unwrap(),
            reports,
            start: scrapes::now(),
        }
    }

    fn now_ms(&self) -> i64 {
        self.start.unix_ns / 1_000_000
    }

    fn add(&mut self, assignment: Assignment) {
        let now_ms = self.now_ms();
        let (index, to_schedule) = self.scrapes.targets.add(assignment, now_ms);
        if to_schedule {
            self.scrapes.schedule(index);
        }
    }

    /// Goes on to a time of the wall clock.
    fn at(&mut self, unix_ms: i64) {
        let ahead_ns = (unix_ms * 1_000_000 - self.start.unix_ns).max(0);
        let now = Now {
            unix_ns: self.start.unix_ns + ahead_ns,
            monotonic_ns: self.start.monotonic_ns + ahead_ns as u64 + 2_000_000,
        };
        self.scrapes.advance(&mut self.fetcher, now);
        while self.scrapes.hand_over_some() {}
    }

    fn at_once(&mut self) {
        self.at(self.now_ms());
    }

    fn slot(&self) -> &Slot {
        let mut slots = self.scrapes.targets.slab.iter();
        slots.next().expect("a target").1
    }

    fn scraped(&self) -> u64 {
        self.scrapes.figures.scrapes.values().sum()
    }

    fn handed_over(&mut self) -> Option<(Arc<str>, Vec<Arc<Scrape>>)> {
        match self.reports.try_recv().ok()?.1 {
            FromShard::HandOver { to, scrapes } => Some((to, scrapes)),
            other => panic!("{other:?}"),
        }
    }
}

fn slots(from_ms: i64, until: Option<(i64, Ending)>) -> OwnSlots {
    OwnSlots {
        from_ms,
        after_crash: false,
        until: until.map(|(at_ms, series)| Until { at_ms, series }),
    }
}

fn move_to(node: &str) -> Ending {
    Ending::Move(Some(node.into()))
}

fn assignment(interval: &str, slots: OwnSlots) -> Assignment {
    let text = format!("scrape_configs: [{{job_name: j, scrape_interval: {interval}}}]");
    let config = Config::parse(Path::new("/r.yml"), &text, &|_| None).unwrap();
    let group = TargetGroup {
        source: String::new(),
        targets: vec![Labels::from_pairs([("__address__", "127.0.0.1:1")])],
        labels: Labels::default(),
    };
    let built = crate::target::targets(&config.scrape_configs[0], &[Arc::new(group)]);
    Assignment {
        target: built.targets[0].clone(),
        route: Arc::new(Route {
            id: 1,
            endpoints: Box::default(),
        }),
        forced_error: Some(ForcedError {
            cause: "test",
            message: "as told".into(),
        }),
        slots,
    }
}

/// Time of the slot that is current, of a target that is scraped once an hour.
fn current_ms(shard: &Shard) -> i64 {
    let target = assignment("1h", slots(0, None)).target;
    let slots = target.slots();
    slots.time_ms(slots.number_at(shard.now_ms()))
}

#[test]
fn a_takeover_scrapes_the_current_slot_and_counts_those_before() {
    let mut shard = Shard::new(0);
    let current_ms = current_ms(&shard);
    let mut own = slots(current_ms - 3 * HOUR_MS, None);
    own.after_crash = true;
    shard.add(assignment("1h", own));
    shard.at_once();
    assert_eq!(shard.scraped(), 1);
    let figures = &shard.scrapes.figures;
    assert_eq!(
        (figures.slots_missed_takeover, figures.slots_missed_late),
        (3, 0)
    );
    let after_ms = (shard.now_ms() - current_ms + 3 * HOUR_MS) as u64;
    assert_eq!(figures.takeover.sum_us() / 1_000, after_ms);
    shard.at(current_ms + 2 * HOUR_MS);
    let figures = &shard.scrapes.figures;
    assert_eq!(figures.takeover.histogram().len(), 1, "the first only");
    assert_eq!(figures.slots_missed_takeover, 3);
}

#[test]
fn a_target_is_handed_over_after_its_last_slot_and_goes_when_it_is_anothers() {
    let mut shard = Shard::new(0);
    let current_ms = current_ms(&shard);
    let until_ms = current_ms + HOUR_MS;
    shard.add(assignment(
        "1h",
        slots(current_ms, Some((until_ms, move_to("b")))),
    ));
    assert!(shard.handed_over().is_none());
    shard.at_once();
    assert_eq!(shard.scraped(), 1);
    let (to, scrapes) = shard.handed_over().unwrap();
    assert_eq!((&*to, scrapes.len()), ("b", 1));
    assert_eq!(
        scrapes[0].timestamp_ms,
        shard.slot().last_scrape_ms.unwrap()
    );
    assert!(shard.slot().is_resting);
    shard.at(until_ms - 1_000);
    assert_eq!(shard.scrapes.targets.slab.len(), 1);
    shard.at(until_ms + 1);
    assert!(shard.scrapes.targets.slab.is_empty());
    assert_eq!(shard.scraped(), 1);
    assert_eq!(shard.scrapes.figures.stale_markers, 0);
    assert!(shard.handed_over().is_none(), "once");
    assert_eq!(shard.scrapes.figures.handovers_sent, 1);
}

#[test]
fn a_target_that_rests_goes_on_when_its_end_is_lifted() {
    let mut shard = Shard::new(0);
    let current_ms = current_ms(&shard);
    let until_ms = current_ms + HOUR_MS;
    let ending = slots(current_ms, Some((until_ms, move_to("b"))));
    shard.add(assignment("1h", ending));
    shard.at_once();
    assert!(shard.slot().is_resting);
    shard.add(assignment("1h", slots(current_ms, None)));
    assert!(!shard.slot().is_resting);
    shard.at_once();
    assert_eq!(shard.scraped(), 1, "its slot was scraped");
    shard.at(until_ms + 1);
    assert_eq!(shard.scraped(), 2);
    assert_eq!(shard.scrapes.figures.slots_missed_late, 0);
}

#[test]
fn a_replacement_goes_on_with_the_series_at_its_time() {
    let mut shard = Shard::new(0);
    let current_ms = current_ms(&shard);
    let until_ms = current_ms + HOUR_MS;
    let ending = slots(current_ms, Some((until_ms, Ending::Move(None))));
    shard.add(assignment("1h", ending));
    shard.add(assignment("10m", slots(until_ms, None)));
    assert!(shard.slot().replacement.is_some());
    shard.at_once();
    // Its slots under the settings before are over.
    assert_eq!(shard.slot().target.interval_ms, 600_000);
    assert_eq!(shard.scraped(), 1);
    let id = shard.slot().log_target.id;
    shard.at(until_ms - 1_000);
    assert_eq!(shard.scraped(), 1, "not before its time");
    shard.at(until_ms + 599_000);
    assert_eq!(shard.scraped(), 2);
    assert_eq!(shard.slot().log_target.id, id);
    assert_eq!(shard.scrapes.figures.slots_missed_late, 0);
    assert!(shard.handed_over().is_none());
}

#[test]
fn a_replacement_of_a_target_without_another_slot_goes_on_at_its_time() {
    let mut shard = Shard::new(0);
    let now_ms = shard.now_ms();
    let until_ms = now_ms + 1_000;
    // It rests at once: its next slot is behind the end.
    let ending = slots(now_ms, Some((until_ms, Ending::Move(None))));
    shard.add(assignment("1h", ending));
    assert!(shard.slot().is_resting);
    shard.add(assignment("10m", slots(until_ms, None)));
    shard.at(until_ms + 600_000);
    assert_eq!(shard.scraped(), 1);
    assert!(shard.handed_over().is_none());
}

#[test]
fn a_replacement_that_is_due_is_not_lost_to_the_one_after_it() {
    let mut shard = Shard::new(0);
    let (now_ms, current_ms) = (shard.now_ms(), current_ms(&shard));
    let until = |at_ms| Some((at_ms, Ending::Move(None)));
    shard.add(assignment("1h", slots(current_ms, until(now_ms))));
    let index = shard.scrapes.targets.find(shard.slot().target.key.0);
    let next = assignment("10m", slots(now_ms, until(now_ms + HOUR_MS)));
    // As while a scrape is under way.
    shard.scrapes.targets.slab[index.unwrap()].replacement = Some(Box::new(next));
    shard.add(assignment("20m", slots(now_ms + HOUR_MS, None)));
    assert_eq!(shard.slot().target.interval_ms, 600_000);
    let after = shard.slot().replacement.as_ref().unwrap();
    assert_eq!(after.target.interval_ms, 1_200_000);
}

#[test]
fn series_end_with_the_slots_of_a_target_that_nobody_goes_on_with() {
    for (series, markers) in [(Ending::End, 5), (Ending::Succeeded, 0)] {
        let mut shard = Shard::new(0);
        let current_ms = current_ms(&shard);
        let until_ms = current_ms + HOUR_MS;
        shard.add(assignment(
            "1h",
            slots(current_ms, Some((until_ms, series))),
        ));
        shard.at_once();
        assert_eq!(shard.slot().ends_at_ms, Some(until_ms));
        shard.at(until_ms + HOUR_MS);
        assert_eq!(shard.scrapes.figures.stale_markers, 0, "it may come back");
        shard.at(until_ms + 2 * HOUR_MS);
        assert_eq!(shard.scrapes.figures.stale_markers, markers);
        assert!(shard.scrapes.targets.slab.is_empty());
        assert_eq!(shard.scraped(), 1);
    }
}

#[test]
fn nothing_begins_while_held() {
    let mut shard = Shard::new(0);
    let current_ms = current_ms(&shard);
    shard.scrapes.is_held = true;
    shard.add(assignment("1h", slots(current_ms - 2 * HOUR_MS, None)));
    shard.at_once();
    assert_eq!(shard.scraped(), 0);
    shard.scrapes.go_on();
    shard.at(shard.now_ms() + 10);
    assert_eq!(shard.scraped(), 1, "its slot is current still");
    let figures = &shard.scrapes.figures;
    assert_eq!(
        (figures.slots_missed_held, figures.slots_missed_late),
        (2, 0)
    );
}

#[test]
fn slots_that_end_while_held_are_counted() {
    let mut shard = Shard::new(0);
    let current_ms = current_ms(&shard);
    shard.scrapes.is_held = true;
    let own = slots(
        current_ms,
        Some((current_ms + 2 * HOUR_MS, Ending::Move(None))),
    );
    shard.add(assignment("1h", own));
    shard.at_once();
    shard.at(current_ms + 3 * HOUR_MS);
    shard.scrapes.go_on();
    shard.at(current_ms + 3 * HOUR_MS + 10);
    assert_eq!(shard.scraped(), 0, "they are another's");
    assert_eq!(shard.scrapes.figures.slots_missed_held, 2);
    assert!(shard.scrapes.targets.slab.is_empty());
}

#[test]
fn a_shard_that_stood_still_begins_nothing_and_says_so() {
    let mut shard = Shard::new(1_000);
    // The turn began long ago, and only now a scrape would begin.
    shard.start.monotonic_ns -= 5_000_000_000;
    let current_ms = current_ms(&shard);
    shard.scrapes.wheel = crate::schedule::Wheel::new(shard.start.monotonic_ns / 1_000_000);
    shard.scrapes.now = shard.start;
    shard.add(assignment("1h", slots(current_ms, None)));
    shard.at_once();
    assert_eq!(shard.scraped(), 0);
    assert!(shard.scrapes.is_held);
    assert!(matches!(
        shard.reports.try_recv(),
        Ok((0, FromShard::StoodStill))
    ));
    shard.start = scrapes::now();
    shard.scrapes.go_on();
    shard.at_once();
    assert_eq!(shard.scraped(), 1);
}

/// What another node knows of the target.
fn handed(stamp_ms: i64) -> Arc<Scrape> {
    let mut other = Shard::new(0);
    let current_ms = current_ms(&other);
    let ending = slots(current_ms, Some((current_ms + HOUR_MS, move_to("here"))));
    other.add(assignment("1h", ending));
    other.at_once();
    let scrape = &other.handed_over().unwrap().1[0];
    Arc::new(Scrape {
        timestamp_ms: stamp_ms,
        ..Scrape::clone(scrape)
    })
}

#[test]
fn what_comes_in_time_is_used_and_what_comes_late_is_counted() {
    let mut shard = Shard::new(0);
    let current_ms = current_ms(&shard);
    let scrape = handed(current_ms);
    shard.scrapes.restore(vec![scrape.clone()]);
    shard.add(assignment("1h", slots(current_ms, None)));
    let figures = &shard.scrapes.figures;
    assert_eq!((figures.handovers_used, figures.handovers_late), (0, 0));
    // It waits as long as the first slot does.
    shard.scrapes.sweep_moves(u64::MAX);
    shard.at_once();
    assert_eq!(shard.scrapes.figures.handovers_used, 1);
    shard.scrapes.restore(vec![scrape.clone()]);
    assert_eq!(shard.scrapes.figures.handovers_late, 1);
    // For a target that does not come it waits ten minutes.
    let mut idle = Shard::new(0);
    idle.scrapes.restore(vec![scrape]);
    let came_ms = idle.scrapes.now.monotonic_ns / 1_000_000;
    idle.scrapes.sweep_moves(came_ms + 599_999);
    assert_eq!(idle.scrapes.figures.handovers_unused, 0);
    idle.scrapes.sweep_moves(came_ms + 600_000);
    assert_eq!(idle.scrapes.figures.handovers_unused, 1);
}

#[test]
fn a_target_that_moves_on_before_its_first_slot_takes_its_series_along() {
    let mut shard = Shard::new(0);
    let next_ms = current_ms(&shard) + HOUR_MS;
    let scrape = handed(next_ms - HOUR_MS);
    shard.scrapes.restore(vec![scrape.clone()]);
    let none = slots(next_ms - 2_000, Some((next_ms - 1_000, move_to("c"))));
    shard.add(assignment("1h", none));
    shard.at_once();
    let (to, scrapes) = shard.handed_over().unwrap();
    assert_eq!(&*to, "c");
    assert!(Arc::ptr_eq(&scrapes[0], &scrape));
}

#[test]
fn a_target_that_was_taken_away_goes_at_once() {
    let mut shard = Shard::new(0);
    let current_ms = current_ms(&shard);
    shard.add(assignment("1h", slots(current_ms, None)));
    shard.at_once();
    let removal = Removal {
        key: shard.slot().target.key.0,
        series: Ending::Move(None),
    };
    let (scrapes, fetcher) = (&mut shard.scrapes, &mut shard.fetcher);
    scrapes.remove(fetcher, &removal);
    assert!(shard.scrapes.targets.slab.is_empty());
    shard.at(current_ms + 5 * HOUR_MS);
    assert_eq!(shard.scrapes.figures.stale_markers, 0);
    assert!(shard.handed_over().is_none());
}

#[test]
fn a_full_mailbox_keeps_handovers_waiting() {
    let mut shard = Shard::new(0);
    let current_ms = current_ms(&shard);
    shard.scrapes.stand_still();
    shard.scrapes.hand_over_some();
    shard.scrapes.stand_still();
    shard.scrapes.hand_over_some();
    shard.scrapes.go_on();
    let until_ms = current_ms + HOUR_MS;
    let ending = slots(current_ms, Some((until_ms, move_to("b"))));
    shard.add(assignment("1h", ending));
    shard.at_once();
    assert!(shard.scrapes.moves.is_waiting());
    assert!(!shard.scrapes.hand_over_some());
    while shard.reports.try_recv().is_ok() {}
    shard.scrapes.hand_over_some();
    assert!(shard.handed_over().is_some());
    assert!(!shard.scrapes.moves.is_waiting());
}
