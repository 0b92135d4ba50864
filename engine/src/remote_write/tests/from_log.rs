//! A queue on a real log: what was appended is what is sent, across tail, files and restarts.

use super::decode::{TimeSeries, decode_body};
use super::model::{LabelMap, Plain, block, endpoint, layout, map, target, whole};
use super::simulation::Rng;
use crate::remote_write::from_log::EndpointReader;
use crate::remote_write::{Now, QueueOptions, SendResult, ShardQueue};
use proptest::prelude::*;
use ringscrape_wal::definition::{Block, Route, Target, next_id};
use ringscrape_wal::log::{LogOptions, ShardLog, Write};
use ringscrape_wal::recovery::{next_segment, recover};
use ringscrape_wal::scrape::{Position, Scrape};
use ringscrape_wal::storage::{MemoryStorage, Storage};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn dir() -> &'static Path {
    Path::new("/wal/shard-000")
}

fn options() -> LogOptions {
    LogOptions {
        segment_bytes_max: 20_000,
        segment_bytes_min: 5_000,
        definition_ratio: 2,
        keyframe_every: 4,
        // A few records only: who is behind reads files.
        tail_bytes_max: 3_000,
        salt: 5,
        ..LogOptions::default()
    }
}

struct World {
    rng: Rng,
    storage: Arc<MemoryStorage>,
    log: ShardLog,
    queue: ShardQueue,
    reader: EndpointReader,
    sources: Vec<(Arc<Target>, Arc<Block>, Vec<LabelMap>)>,
    routes: [Arc<Route>; 2],
    now_ms: i64,
    logged: Vec<TimeSeries>,
    sent: Vec<TimeSeries>,
    /// Records of the other route are expected as well.
    wants_other: bool,
    read_files: bool,
    at_end: bool,
    /// Record of which a slice was acknowledged when the process ended: target and timestamp.
    cut: Vec<(String, i64)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let sources = (0..3).map(|key| {
            let labels = map(&[("target", &format!("t{key}"))]);
            let own: Vec<LabelMap> = (0..5 + 10 * key)
                .map(|index| map(&[("__name__", &format!("m{index}"))]))
                .collect();
            let shared = block(&["target".to_owned()], &own, &[]);
            let filled = own.into_iter().map(|mut series| {
                series.extend(labels.clone());
                series
            });
            (target(key, &labels), shared, filled.collect())
        });
        let storage = Arc::new(MemoryStorage::new());
        let log = ShardLog::new(options(), 1);
        let start = log.end();
        Self {
            rng: Rng(seed),
            queue: new_queue((start, start), start),
            reader: new_reader(&storage),
            storage,
            sources: sources.collect(),
            routes: [&["other", "test"][..], &["other"]].map(|endpoints| {
                Arc::new(Route {
                    id: next_id(),
                    endpoints: endpoints.iter().map(|e| (*e).into()).collect(),
                })
            }),
            log,
            now_ms: 1_000_000,
            logged: Vec::new(),
            sent: Vec::new(),
            wants_other: false,
            read_files: false,
            at_end: false,
            cut: Vec::new(),
        }
    }

    fn append(&mut self) {
        self.now_ms += 1;
        let (target, shared, labels) = &self.sources[self.rng.below(3) as usize];
        let other = self.rng.chance(20);
        let scrape = Scrape {
            target: target.clone(),
            route: self.routes[usize::from(other)].clone(),
            timestamp_ms: self.now_ms,
            layout: layout(&[whole(shared)]),
            values: labels.iter().map(|_| self.rng.below(100) as f64).collect(),
            stale: Box::default(),
            sides: None,
        };
        if !other || self.wants_other {
            let plain = Plain {
                scrape: scrape.clone(),
                labels: labels.clone(),
            };
            self.logged.extend(plain.expected(false));
        }
        self.log.append(Arc::new(scrape), self.now_ms);
    }

    fn write(&mut self) {
        for write in self.log.take_writes(self.now_ms) {
            if let Write::Bytes {
                segment,
                offset,
                bytes,
            } = write
            {
                let path: PathBuf = dir().join(format!("{segment:020}.wal"));
                self.storage.write_at(&path, offset.into(), &bytes).unwrap();
                let end = Position {
                    segment,
                    offset: offset + bytes.len() as u32,
                };
                self.log.written(end);
                self.log.synced(end);
            }
        }
    }

    /// Sends everything that may be sent; the receiver takes all.
    fn send(&mut self) {
        let now = Now {
            monotonic_ms: self.now_ms as u64,
            unix_ms: self.now_ms,
        };
        let mut requests = Vec::new();
        let mut source = self.reader.over(&self.log);
        let polled = self.queue.poll(&mut source, now, 50, &mut requests);
        self.at_end = polled.at_end;
        self.read_files |= self.reader.is_behind();
        let ok = SendResult::Status {
            code: 200,
            retry_after_ms: None,
            reason: String::new(),
            written: None,
        };
        for request in requests {
            for series in decode_body(&request.body).series {
                // Of a record in slices, those acknowledged before a restart come again.
                let record = (series.labels[1].1.clone(), series.samples[0].1);
                if self.cut.contains(&record) && self.sent.contains(&series) {
                    continue;
                }
                self.sent.push(series);
            }
            self.queue.on_result(request.id, &ok, 1, now);
        }
        assert!(self.reader.take_error().is_none());
        assert!(self.reader.take_damage().is_empty());
        let (low_water, highest_sent) = self.queue.cursor();
        self.log
            .cursors_mut()
            .advance("test", low_water, highest_sent);
        self.log.release(low_water);
    }

    /// A stop with all in files, and a start; recovery comes later.
    fn restart(&mut self) {
        self.log.close();
        self.write();
        if let Some(last) = self.sent.last() {
            let record = (last.labels[1].1.clone(), last.samples[0].1);
            self.cut.push(record);
        }
        let first = next_segment(&*self.storage, dir()).unwrap();
        let mut recovered = Some(recover(&*self.storage, dir(), first).unwrap());
        self.log = ShardLog::new(options(), first);
        self.queue = new_queue(self.queue.cursor(), self.log.end());
        self.reader = new_reader(&self.storage);
        for _ in 0..self.rng.below(3) {
            self.append();
            self.write();
            self.send();
        }
        self.log.adopt(recovered.take().unwrap());
    }
}

fn new_reader(storage: &Arc<MemoryStorage>) -> EndpointReader {
    EndpointReader::new("test", storage.clone(), dir().into())
}

fn new_queue(cursor: (Position, Position), run_start: Position) -> ShardQueue {
    let mut endpoint = endpoint();
    endpoint.queue.samples_per_send_max = 20;
    let options = QueueOptions {
        endpoint: Arc::new(endpoint),
        low_water: cursor.0,
        highest_sent: cursor.1,
        run_start,
        isolation_requests_per_s: 5.0,
    };
    let mut queue = ShardQueue::new(options, Now::default());
    queue.flush();
    queue
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..40 {
        world.now_ms += 1_000;
        for _ in 0..world.rng.below(12) {
            world.append();
        }
        if world.rng.chance(70) {
            world.write();
        }
        for _ in 0..world.rng.below(3) {
            world.send();
        }
        if world.rng.chance(5) {
            world.restart();
        }
    }
    world.write();
    for _ in 0..2_000 {
        world.now_ms += 1;
        world.send();
        if world.at_end && world.queue.is_drained() {
            return world;
        }
    }
    panic!(
        "not drained: {:?} of {:?}",
        world.queue.cursor(),
        world.log.end()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_appended_is_sent_once_and_in_order(seed: u64) {
        let world = run(seed);
        prop_assert_eq!(&world.sent, &world.logged);
    }
}

/// Some records, then what `change` does, then more, and all sent.
fn run_with(seed: u64, wants_other: [bool; 2], change: impl Fn(&mut World)) -> World {
    let mut world = World::new(seed);
    for wanted in wants_other {
        world.wants_other = wanted;
        for _ in 0..100 {
            world.append();
            if world.rng.chance(60) {
                world.write();
            }
        }
        change(&mut world);
    }
    world.write();
    for _ in 0..2_000 {
        world.now_ms += 1;
        world.send();
        if world.at_end && world.queue.is_drained() {
            return world;
        }
    }
    panic!("not drained: {:?}", world.queue.cursor());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn until_a_position_all_is_sent_and_behind_it_by_route(seed: u64) {
        let first = std::cell::Cell::new(true);
        let world = run_with(seed, [true, false], |world| {
            if first.replace(false) {
                let end = world.log.end();
                world.reader.set_all_until(end);
            }
        });
        prop_assert_eq!(&world.sent, &world.logged);
    }

    #[test]
    fn records_for_a_former_identity_are_sent(seed: u64) {
        let world = run_with(seed, [true, true], |world| {
            world.reader.set_former(["gone".into(), "other".into()]);
        });
        prop_assert_eq!(&world.sent, &world.logged);
    }
}

#[test]
fn files_and_memory_are_both_read() {
    let worlds: Vec<World> = (0..20).map(run).collect();
    assert!(worlds.iter().any(|world| world.read_files));
    assert!(worlds.iter().all(|world| !world.sent.is_empty()));
    assert!(worlds.iter().all(|world| !world.reader.is_behind()));
}

#[test]
fn a_file_that_cannot_be_read_holds_back_and_one_that_is_gone_is_passed_over() {
    let mut world = World::new(3);
    let begin = world.log.end();
    for _ in 0..600 {
        world.now_ms += 1;
        world.append();
        world.write();
    }
    let first = dir().join(format!("{:020}.wal", begin.segment));
    world.storage.remove(&first).unwrap();
    let mut sent = Vec::new();
    for _ in 0..2_000 {
        let now = Now {
            monotonic_ms: 1,
            unix_ms: world.now_ms,
        };
        let mut requests = Vec::new();
        let mut source = world.reader.over(&world.log);
        world.queue.poll(&mut source, now, 50, &mut requests);
        for request in requests {
            sent.extend(decode_body(&request.body).series);
            let ok = SendResult::Status {
                code: 200,
                retry_after_ms: None,
                reason: String::new(),
                written: None,
            };
            world.queue.on_result(request.id, &ok, 1, now);
        }
    }
    assert_eq!(world.queue.cursor().0, world.log.end());
    assert_eq!(world.reader.segments_missing(), 1);
    assert!(world.reader.take_error().is_some());
    assert!(!sent.is_empty() && sent.len() < world.logged.len());
    assert!(world.logged.ends_with(&sent));
}
