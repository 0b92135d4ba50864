//! Records -> a log, its driver and a reader, from a start to a stop or a power cut, and all over
//! again: what must be kept is remembered, and what comes back is compared with it.

use super::disk::TestDisk;
use super::files::{Source, now_ms};
use super::image::{Faults, Random};
use crate::log::driver::{Driver, DriverOptions};
use crate::log::{SyncPolicy, prepare_in, shard_dir};
use crate::remote_write::from_log::EndpointReader;
use crate::remote_write::source::{LogSource, Next};
use ringscrape_wal::log::{LogOptions, ShardLog};
use ringscrape_wal::recovery;
use ringscrape_wal::scrape::Position;
use ringscrape_wal::stats::LogStats;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

/// Turns after which whatever was to happen has happened.
const TURNS_MAX: usize = 5_000;

pub(super) fn dir() -> PathBuf {
    shard_dir(Path::new("/data"), 0)
}

/// What was logged in all lives of a log, what of it must never be lost, what was received.
pub(super) struct Model {
    sources: Vec<Source>,
    /// Sources of records for an endpoint that has everything at once.
    others: Vec<Source>,
    /// How many numbers of each eight are of those.
    pub(super) others_share: u32,
    /// How many records were appended; each is named by its number.
    pub(super) appended: u32,
    /// Records that the log said are on disk.
    promised: BTreeSet<u32>,
    pub(super) received: BTreeSet<u32>,
    /// Records received more than once.
    pub(super) again: u32,
    /// The mark that was on disk at the end of the life before.
    saved: Option<Position>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            sources: (0..3).map(|index| Source::new(40 + index * 30)).collect(),
            others: (0..3)
                .map(|index| Source::of("o", 50 + index * 30))
                .collect(),
            others_share: 0,
            appended: 0,
            promised: BTreeSet::new(),
            received: BTreeSet::new(),
            again: 0,
            saved: None,
        }
    }

    /// Records that were promised to be kept and are not received, in short.
    pub(super) fn lost(&self) -> Vec<u32> {
        self.promised.difference(&self.received).copied().collect()
    }

    fn source(&self, number: u32) -> &Source {
        let sources = match self.is_other(number) {
            true => &self.others,
            false => &self.sources,
        };
        &sources[number as usize % sources.len()]
    }

    /// The record is not for the endpoint that receives here.
    fn is_other(&self, number: u32) -> bool {
        number % 8 < self.others_share
    }
}

/// One life of a log: from a start on.
pub(super) struct Life {
    pub(super) disk: TestDisk,
    pub(super) log: Rc<RefCell<ShardLog>>,
    driver: Driver<TestDisk>,
    running: Pin<Box<dyn Future<Output = ()>>>,
    ended: bool,
    reader: EndpointReader,
    /// Where the reader stands, once cursors are known.
    from: Option<Position>,
    last_received: Option<u32>,
    /// The reader has read all there is.
    at_end: bool,
    /// Numbers and places of this life's records.
    places: Vec<(u32, Position)>,
    saved: Option<Position>,
}

impl Life {
    /// Starts on what `disk` holds; `None`: power went before it had begun.
    pub(super) fn start(disk: &TestDisk, sync: SyncPolicy, options: LogOptions) -> Option<Self> {
        let dir = dir();
        let first_segment = match prepare_in(disk, &dir) {
            Ok(first_segment) => first_segment,
            Err(_) if disk.is_cut() => return None,
            Err(error) => panic!("{error}"),
        };
        let log = Rc::new(RefCell::new(ShardLog::new(options, first_segment)));
        let driver_options = DriverOptions {
            dir: dir.clone(),
            first_segment,
            sync,
            cursor_keep_ms: 1_000,
            now_ms,
        };
        let driver = Driver::over(disk.clone(), log.clone(), driver_options);
        let task = driver.clone();
        Some(Self {
            disk: disk.clone(),
            log,
            driver,
            running: Box::pin(async move { task.run().await }),
            ended: false,
            reader: EndpointReader::new("e", Arc::new(disk.clone()), dir),
            from: None,
            last_received: None,
            at_end: false,
            places: Vec::new(),
            saved: None,
        })
    }

    pub(super) fn append(&mut self, model: &mut Model) {
        let number = model.appended;
        model.appended += 1;
        let scrape = model.source(number).scrape(number);
        let position = self.log.borrow_mut().append(scrape, now_ms());
        if let Some((_, before)) = self.places.last() {
            assert!(*before < position, "places rise");
        }
        self.places.push((number, position));
    }

    /// The endpoint reads up to `count` records, and acknowledges them if it is to.
    pub(super) fn receive(&mut self, model: &mut Model, count: u64, acknowledges: bool) {
        let mut log = self.log.borrow_mut();
        let mut from = match self.from {
            Some(from) => from,
            None if log.adopted() => {
                let begin = log.begin();
                log.cursors_mut().configure(["e", "o"], begin, now_ms());
                let mark = log.cursors().get("e").unwrap().low_water;
                assert!(
                    model.saved <= Some(mark),
                    "{mark:?} was recovered, but {:?} had been saved",
                    model.saved
                );
                mark
            }
            None => return,
        };
        self.at_end = false;
        for _ in 0..count {
            match self.reader.over(&log).next(from) {
                Next::Record(entry) => {
                    let number = u32::try_from(entry.scrape.timestamp_ms).unwrap();
                    assert!(number < model.appended, "nobody appended {number}");
                    assert!(!model.is_other(number), "{number} is for another");
                    assert!(
                        self.last_received < Some(number),
                        "{number} after {:?}",
                        self.last_received
                    );
                    let written = model.source(number).scrape(number);
                    let bits = |values: &[f64]| -> Vec<u64> {
                        values.iter().map(|value| value.to_bits()).collect()
                    };
                    assert_eq!(bits(&entry.scrape.values), bits(&written.values));
                    assert_eq!(entry.scrape.target.labels, written.target.labels);
                    self.last_received = Some(number);
                    model.again += u32::from(!model.received.insert(number));
                    from = entry.end;
                }
                Next::Skip { next } => {
                    assert!(next > from);
                    from = next;
                }
                Next::End => {
                    self.at_end = true;
                    break;
                }
                Next::Pending => break,
            }
        }
        let low_water = if acknowledges {
            from
        } else {
            Position::default()
        };
        log.cursors_mut().advance("e", low_water, from);
        let end = log.end();
        log.cursors_mut().advance("o", end, end);
        self.from = Some(from);
    }

    /// Lets time pass and the driver work.
    pub(super) fn turn(&mut self, time: Duration, polls: u64) {
        self.disk.advance(time);
        self.driver.poll(crate::log::disk::Disk::now(&self.disk));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..polls {
            if !self.ended {
                self.ended = self.running.as_mut().poll(&mut context).is_ready();
            }
            self.note_saved();
        }
    }

    fn note_saved(&mut self) {
        let log = self.log.borrow();
        if !log.cursors().dirty()
            && let Some(cursor) = log.cursors().get("e")
            && !self.disk.is_cut()
        {
            self.saved = Some(cursor.low_water);
        }
    }

    /// Turns until it holds.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if holds(self) {
                return;
            }
            self.turn(Duration::from_millis(50), 8);
        }
        panic!("never happened: {what}; {:?}", self.stats());
    }

    pub(super) fn stats(&self) -> LogStats {
        self.log.borrow().stats()
    }

    /// Segments and offsets of the records.
    pub(super) fn places(&self) -> Vec<(u64, usize)> {
        let places = self.places.iter();
        places
            .map(|(_, at)| (at.segment, at.offset as usize))
            .collect()
    }

    /// Damaged places that the reader has passed over since the last call.
    pub(super) fn passed_over(&mut self) -> usize {
        self.reader.take_damage().len()
    }

    /// Whether everything has been read.
    pub(super) fn is_drained(&self) -> bool {
        self.at_end
    }

    /// Remembers what was promised until now.
    fn remember(&mut self, model: &mut Model) {
        let log = self.log.borrow();
        let synced = log.synced_end();
        let promised = self
            .places
            .iter()
            .filter(|(number, place)| !model.is_other(*number) && log.place_of(*place) < synced);
        let promised: Vec<u32> = promised.map(|(number, _)| *number).collect();
        model.promised.extend(promised);
        model.saved = model.saved.max(self.saved);
    }

    /// Stops, and ends in the middle of that if power goes.
    pub(super) fn stop(mut self, model: &mut Model) {
        self.driver.stop();
        for _ in 0..TURNS_MAX {
            self.turn(Duration::from_millis(20), 8);
            if self.ended || self.disk.is_cut() {
                self.remember(model);
                return;
            }
        }
        panic!("never stopped: {:?}", self.stats());
    }

    /// Ends as it stands.
    pub(super) fn drop_dead(mut self, model: &mut Model) {
        self.remember(model);
    }
}

/// A life that appends and receives at random, until it stops or power goes.
pub(super) fn live(
    life: &mut Life,
    model: &mut Model,
    random: &mut Random,
    turns: usize,
    faults: Option<Faults>,
) {
    let deaf_until = random.below(2) * random.below(turns as u64);
    let (fails_from, fails_until) = (turns / 5, turns * 3 / 4);
    for turn in 0..turns {
        if let Some(mut faults) = faults {
            if turn == fails_from {
                faults.space_bytes = faults.space_bytes.map(|more| life.disk.used_bytes() + more);
                life.disk.set_faults(faults);
            } else if turn == fails_until {
                life.disk.set_faults(Faults::default());
            }
        }
        for _ in 0..random.below(4) {
            life.append(model);
        }
        if turn as u64 >= deaf_until {
            let (count, acknowledges) = (random.below(6), !random.one_in(3));
            life.receive(model, count, acknowledges);
        } else if model.others_share > 0 {
            // It is down, and the other one is not.
            life.receive(model, 0, false);
        }
        life.turn(
            Duration::from_millis(5 + random.below(300)),
            1 + random.below(6),
        );
        if life.disk.is_cut() {
            return;
        }
    }
    life.disk.set_faults(Faults::default());
}

/// The last life: without faults, until the endpoint has everything.
pub(super) fn drain(disk: &TestDisk, model: &mut Model, sync: SyncPolicy) -> LogStats {
    disk.set_faults(Faults::default());
    let options = LogOptions::default();
    let mut life = Life::start(disk, sync, options).expect("power stays");
    life.until("recovered", |life| life.log.borrow().adopted());
    for _ in 0..TURNS_MAX {
        life.receive(model, 100, true);
        if life.is_drained() {
            break;
        }
    }
    assert!(life.is_drained());
    let stats = life.stats();
    life.stop(model);
    stats
}

/// The number of segments in the directory.
pub(super) fn segments(disk: &TestDisk) -> usize {
    ringscrape_wal::tools::segments(disk, &dir()).unwrap().len()
}

/// What recovery says of the directory.
pub(super) fn recovered(disk: &TestDisk) -> recovery::Recovered {
    recovery::recover(disk, &dir(), u64::MAX).unwrap()
}
