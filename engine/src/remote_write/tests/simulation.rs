//! A queue against a simulated log, network and receiver: nothing lost, nothing out of order.
//!
//! Everything is drawn from one seed. The receiver behaves as Prometheus does: it refuses a whole
//! request if one sample is older than what it has, or if a series is one that it does not like.

use super::decode::{TimeSeries, decode_body};
use super::model::{LabelMap, block, endpoint, layout, map, route, target, whole};
use crate::config::{CompressionChoice, ProtobufMessage};
use crate::remote_write::request::Form;
use crate::remote_write::retry::Written;
use crate::remote_write::source::{LogSource, Next};
use crate::remote_write::{
    Compression, DropCause, Message, Notice, Now, QueueOptions, Request, RequestId, SendResult,
    ShardQueue,
};
use proptest::prelude::*;
use ringscrape_wal::definition::{Block, Target};
use ringscrape_wal::scrape::{Position, Scrape};
use ringscrape_wal::tail::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators".
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A log in memory; each run of the process begins a segment.
#[derive(Default)]
pub(super) struct Log {
    pub(super) entries: Vec<Entry>,
    pub(super) segment: u64,
    /// Asked for, and not given at once, every so often.
    pub(super) pending_every: u64,
    asked: u64,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            segment: 1,
            ..Self::default()
        }
    }

    pub(super) fn end(&self) -> Position {
        let end = self.entries.last().map_or(Position::default(), |e| e.end);
        end.max(Position {
            segment: self.segment,
            offset: 0,
        })
    }

    /// End of the last record.
    pub(super) fn records_end(&self) -> Position {
        self.entries.last().map_or(Position::default(), |e| e.end)
    }

    pub(super) fn append(&mut self, scrape: Scrape) {
        let position = self.end();
        let end = Position {
            offset: position.offset + 100,
            ..position
        };
        self.entries.push(Entry {
            position,
            end,
            scrape: Arc::new(scrape),
        });
    }
}

impl LogSource for Log {
    fn next(&mut self, from: Position) -> Next {
        self.asked += 1;
        if self.pending_every > 0 && self.asked.is_multiple_of(self.pending_every) {
            return Next::Pending;
        }
        let at = self.entries.partition_point(|entry| entry.position < from);
        match self.entries.get(at) {
            None => Next::End,
            Some(entry) if &*entry.scrape.route.endpoints[0] == "test" => {
                Next::Record(entry.clone())
            }
            Some(entry) => Next::Skip { next: entry.end },
        }
    }
}

/// Series by labels: timestamps and value bits, rising.
pub(super) type Stored = BTreeMap<Vec<(String, String)>, Vec<(i64, u64)>>;

#[derive(Default)]
struct Receiver {
    stored: Stored,
    poisoned: BTreeSet<Vec<(String, String)>>,
    series_max: usize,
    /// Answer to zstd, if it is not taken.
    refuses_zstd: Option<u16>,
    /// Answer to 2.0 messages, if they are not taken.
    refuses_second: Option<u16>,
}

impl Receiver {
    /// What Prometheus would do: all or nothing.
    fn take(&mut self, form: Form, request: &[TimeSeries]) -> (u16, &'static str) {
        let zstd = form.compression == Compression::Zstd;
        if let Some(code) = self.refuses_zstd.filter(|_| zstd) {
            return (code, "snappy: corrupt input");
        }
        if let Some(code) = self.refuses_second.filter(|_| form.message == Message::V2) {
            return (code, "what is it?");
        }
        if request.len() > self.series_max {
            return (413, "too large");
        }
        let mut new = Stored::new();
        for series in request {
            if self.poisoned.contains(&series.labels) {
                return (400, "label value too long");
            }
            let stored = self.stored.get(&series.labels);
            let new = new.entry(series.labels.clone()).or_default();
            for (bits, timestamp_ms) in &series.samples {
                let last = new.last().or(stored.and_then(|stored| stored.last()));
                match last {
                    Some((last_ms, _)) if last_ms > timestamp_ms => {
                        return (400, "out of order sample");
                    }
                    Some((last_ms, last)) if last_ms == timestamp_ms => {
                        if last != bits {
                            return (400, "duplicate sample for timestamp");
                        }
                    }
                    _ => new.push((*timestamp_ms, *bits)),
                }
            }
        }
        for (labels, samples) in new {
            self.stored.entry(labels).or_default().extend(samples);
        }
        (204, "")
    }
}

impl Receiver {
    /// What a 2.0 receiver says beside the status.
    fn written(&self, code: u16, flight: &Flight) -> Option<Written> {
        let second = flight.request.form.message == Message::V2;
        let says = second && self.refuses_second.is_none() && !matches!(code, 429 | 500..);
        says.then(|| Written {
            samples: match code {
                204 => flight.series.len() as u64,
                _ => 0,
            },
            ..Written::default()
        })
    }
}

/// A request on its way: when it arrives, when its answer does, whether either is lost.
struct Flight {
    request: Request,
    series: Vec<TimeSeries>,
    arrives_ms: Option<u64>,
    answers_ms: u64,
    answer: Option<SendResult>,
}

struct World {
    rng: Rng,
    log: Log,
    receiver: Receiver,
    message: ProtobufMessage,
    queue: ShardQueue,
    flights: Vec<Flight>,
    now_ms: u64,
    faults_percent: u64,
    saved: (Position, Position),
    saved_at_ms: u64,
    /// The mark that was checked last.
    checked: Position,
    targets: Vec<(Arc<Target>, Arc<Block>)>,
    /// Samples that are in the log for this endpoint.
    logged: Stored,
    restarts: u64,
    fell_back: u64,
}

const REQUESTS_MAX: u32 = 6;

fn series_of(target: usize, index: usize) -> Vec<(String, String)> {
    vec![
        ("__name__".to_owned(), format!("m{index}")),
        ("target".to_owned(), format!("t{target}")),
    ]
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let mut targets = Vec::new();
        let mut poisoned = BTreeSet::new();
        for key in 0..2 + rng.below(8) as usize {
            let labels = map(&[("target", &format!("t{key}"))]);
            // Some have more than fits in a request.
            let len_max = if rng.chance(30) { 60 } else { 8 };
            let len = 1 + rng.below(len_max) as usize;
            let series: Vec<LabelMap> = (0..len)
                .map(|index| map(&[("__name__", &format!("m{index}"))]))
                .collect();
            if rng.chance(20) {
                poisoned.insert(series_of(key, rng.below(len as u64) as usize));
            }
            let names = ["target".to_owned()];
            targets.push((target(key as u64, &labels), block(&names, &series, &[])));
        }
        let series_max = if rng.chance(30) { 7 } else { 1_000 };
        let refuses_zstd = [None, Some(400), Some(406), Some(415)][rng.below(4) as usize];
        let message = match rng.chance(50) {
            true => ProtobufMessage::Version2,
            false => ProtobufMessage::Version1,
        };
        let refusals = [None, None, Some(204), Some(400), Some(406), Some(415)];
        let refuses_second = refusals[rng.below(6) as usize];
        let mut log = Log::new();
        if rng.chance(50) {
            log.pending_every = 7;
        }
        let now = Now::default();
        let queue = new_queue(message, (log.end(), log.end()), log.end(), now);
        Self {
            log,
            message,
            receiver: Receiver {
                poisoned,
                series_max,
                refuses_zstd,
                refuses_second,
                ..Receiver::default()
            },
            queue,
            flights: Vec::new(),
            now_ms: 0,
            faults_percent: [0, 5, 30][rng.below(3) as usize],
            saved: Default::default(),
            saved_at_ms: 0,
            checked: Position::default(),
            targets,
            logged: Stored::new(),
            restarts: 0,
            fell_back: 0,
            rng,
        }
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.now_ms,
            unix_ms: self.now_ms as i64,
        }
    }

    fn scrape(&mut self, key: usize) {
        let (target, block) = &self.targets[key];
        let other = self.rng.chance(15);
        let timestamp_ms = self.now_ms as i64;
        let values: Vec<f64> = block
            .entries
            .iter()
            .map(|_| self.rng.below(1_000) as f64)
            .collect();
        if !other {
            for (index, value) in values.iter().enumerate() {
                let series = self.logged.entry(series_of(key, index)).or_default();
                series.push((timestamp_ms, value.to_bits()));
            }
        }
        self.log.append(Scrape {
            target: target.clone(),
            route: route(if other { "other" } else { "test" }),
            timestamp_ms,
            layout: layout(&[whole(block)]),
            values,
            stale: Box::default(),
            sides: None,
        });
    }

    fn poll(&mut self) {
        let on_their_way = self.flights.len() as u32;
        let mut requests = Vec::new();
        let free = REQUESTS_MAX - on_their_way;
        self.queue
            .poll(&mut self.log, now_of(self.now_ms), free, &mut requests);
        assert!(requests.len() <= free as usize);
        for notice in self.queue.take_notices() {
            if matches!(notice, Notice::Retrying { .. } | Notice::Recovered) {
                continue;
            }
            if let Notice::FellBack { .. } = notice {
                self.fell_back += 1;
                continue;
            }
            let Notice::Dropped { cause, series, .. } = &notice else {
                panic!("{notice:?}")
            };
            let shown = |labels: &Vec<(String, String)>| {
                format!("{{__name__={:?}, target={:?}}}", labels[0].1, labels[1].1)
            };
            let poisoned = self.receiver.poisoned.iter().map(shown);
            assert_eq!(*cause, DropCause::Refused);
            assert!(
                poisoned.into_iter().any(|text| text == *series),
                "{notice:?}"
            );
        }
        for request in requests {
            let series = decode_body(&request.body).series;
            assert_eq!(series.len(), request.samples as usize);
            self.check_no_target_twice(&series);
            let arrives_ms = self.now_ms + 1 + self.rng.below(500);
            let answers_ms = arrives_ms + 1 + self.rng.below(500);
            let lost = self.rng.chance(self.faults_percent);
            self.flights.push(Flight {
                request,
                series,
                arrives_ms: (!lost).then_some(arrives_ms),
                answers_ms,
                answer: lost.then(|| SendResult::Failed("lost".to_owned())),
            });
        }
    }

    /// Two requests hold one target only if they hold other series at the same time.
    fn check_no_target_twice(&self, series: &[TimeSeries]) {
        let identity = |series: &TimeSeries| (series.labels[1].1.clone(), series.samples[0].1);
        for flight in &self.flights {
            for there in &flight.series {
                for here in series {
                    let (a, b) = (identity(there), identity(here));
                    assert!(a.0 != b.0 || a.1 == b.1, "{a:?} and {b:?} on their way");
                    assert!(there.labels != here.labels, "{:?}", here.labels);
                }
            }
        }
    }

    fn network(&mut self) {
        for flight in &mut self.flights {
            if flight.arrives_ms.is_some_and(|at| at <= self.now_ms) {
                flight.arrives_ms = None;
                let faulty = self.rng.chance(self.faults_percent);
                let refused_unseen = faulty && self.rng.chance(50);
                let (mut code, mut reason) = (503, "");
                let mut retry_after_ms = None;
                if refused_unseen {
                    code = [429, 500, 503][self.rng.below(3) as usize];
                    retry_after_ms = self.rng.chance(30).then(|| self.rng.below(2_000));
                } else {
                    (code, reason) = match self.receiver.take(flight.request.form, &flight.series) {
                        // Stored, and the answer is another.
                        (204, _) if faulty => (code, ""),
                        answer => answer,
                    };
                }
                flight.answer = Some(SendResult::Status {
                    code,
                    retry_after_ms,
                    reason: reason.to_owned(),
                    written: self.receiver.written(code, flight),
                });
            }
        }
        let (ended, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.flights)
            .into_iter()
            .partition(|flight| flight.answers_ms <= self.now_ms);
        self.flights = rest;
        for flight in ended {
            let answer = flight.answer.expect("it has arrived or is lost");
            let now = self.now();
            self.queue.on_result(flight.request.id, &answer, 1_000, now);
            self.queue
                .on_result(RequestId(u64::MAX), &answer, 1_000, now);
        }
    }

    /// Everything before the low-water mark is at the receiver, or was given up.
    fn check_mark(&mut self) {
        let (low_water, highest_sent) = self.queue.cursor();
        assert!(low_water <= self.log.end() && highest_sent <= self.log.end());
        assert!(low_water >= self.checked, "the mark went back");
        let from = self.checked;
        let at = |position| self.log.entries.partition_point(|e| e.position < position);
        self.checked = low_water;
        for entry in &self.log.entries[at(from)..at(low_water)] {
            if &*entry.scrape.route.endpoints[0] != "test" {
                continue;
            }
            let key = entry.scrape.target.key as usize;
            for (index, value) in entry.scrape.values.iter().enumerate() {
                let series = series_of(key, index);
                let sample = (entry.scrape.timestamp_ms, value.to_bits());
                let stored = self.receiver.stored.get(&series);
                let there = stored.is_some_and(|stored| stored.binary_search(&sample).is_ok());
                let poisoned = self.receiver.poisoned.contains(&series);
                assert!(there || poisoned, "{series:?} {sample:?} before the mark");
            }
        }
    }

    fn restart(&mut self) {
        self.restarts += 1;
        // What is on its way arrives or does not; no answer is heard.
        for flight in std::mem::take(&mut self.flights) {
            if flight.arrives_ms.is_some() && self.rng.chance(50) {
                self.receiver.take(flight.request.form, &flight.series);
            }
        }
        self.log.segment += 1;
        let saved = if self.rng.chance(50) {
            self.queue.cursor()
        } else {
            self.saved
        };
        self.checked = saved.0;
        let now = self.now();
        self.queue = new_queue(self.message, saved, self.log.end(), now);
    }

    fn run(&mut self) {
        self.saved = self.queue.cursor();
        let restarts = self.rng.below(4);
        let steps = 400 + self.rng.below(400);
        for step in 0..20_000 {
            let drained =
                self.queue.is_drained() && self.queue.cursor().0 >= self.log.records_end();
            if step > steps && drained {
                return;
            }
            self.now_ms += 1 + self.rng.below(100);
            if step < steps {
                for key in 0..self.targets.len() {
                    if self.rng.chance(5) {
                        self.scrape(key);
                    }
                }
                if self.restarts < restarts && self.rng.chance(1) {
                    self.restart();
                }
            } else {
                self.faults_percent = 0;
                self.queue.flush();
            }
            self.network();
            self.poll();
            self.check_mark();
            if self.now_ms >= self.saved_at_ms + 1_000 {
                self.saved = self.queue.cursor();
                self.saved_at_ms = self.now_ms;
            }
        }
        panic!("not drained: {:?}", self.queue);
    }
}

fn now_of(now_ms: u64) -> Now {
    Now {
        monotonic_ms: now_ms,
        unix_ms: now_ms as i64,
    }
}

fn new_queue(
    message: ProtobufMessage,
    cursor: (Position, Position),
    run_start: Position,
    now: Now,
) -> ShardQueue {
    let mut endpoint = endpoint();
    endpoint.protobuf_message = message;
    endpoint.compression = CompressionChoice::Auto;
    endpoint.queue.samples_per_send_max = 10;
    endpoint.queue.batch_send_deadline_ms = 500;
    endpoint.queue.requests_in_flight_max = REQUESTS_MAX;
    // Short pauses: a search that many failures hold up must not come to the end of its time.
    endpoint.queue.backoff_max_ms = 200;
    let options = QueueOptions {
        endpoint: Arc::new(endpoint),
        low_water: cursor.0,
        highest_sent: cursor.1,
        run_start,
        // Enough that the budget of a batch is never spent.
        isolation_requests_per_s: 1_000.0,
    };
    ShardQueue::new(options, now)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn everything_logged_arrives_in_order_but_what_is_poisoned(seed: u64) {
        let mut world = World::new(seed);
        world.run();
        let mut expected = world.logged.clone();
        for series in &world.receiver.poisoned {
            expected.remove(series);
        }
        prop_assert_eq!(&world.receiver.stored, &expected);
        let stats = world.queue.stats();
        prop_assert_eq!(stats.samples_dropped[DropCause::BudgetSpent as usize], 0);
        prop_assert_eq!(stats.samples_pending, 0);
        let second = world.message == ProtobufMessage::Version2;
        let refused = second && world.receiver.refuses_second.is_some();
        if stats.samples_sent > 0 {
            let message = match second && !refused {
                true => Message::V2,
                false => Message::V1,
            };
            prop_assert_eq!(stats.form.message, message);
            if world.receiver.refuses_zstd.is_some() {
                prop_assert_eq!(stats.form.compression, Compression::Snappy);
            }
        }
        // Once in each run of the process, however many requests were refused.
        let fell_back_max = u64::from(refused) * (1 + world.restarts);
        prop_assert!(world.fell_back <= fell_back_max, "{}", world.fell_back);
        if world.restarts == 0 {
            // Halving gave up exactly the samples of the poisoned series.
            let samples = |stored: &Stored| stored.values().map(Vec::len).sum::<usize>() as u64;
            let lost = samples(&world.logged) - samples(&expected);
            prop_assert_eq!(stats.samples_dropped[DropCause::Refused as usize], lost);
            prop_assert_eq!(stats.samples_sent + stats.samples_resent, samples(&expected));
        }
    }
}
