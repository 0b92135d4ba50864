//! Nodes on a virtual network with a virtual clock: datagrams and streams with delay and loss.

use crate::exchange::{Purpose, Stream, Then};
use crate::member::{JobId, JobVersion};
use crate::membership::Detection;
use crate::node::{Node, Outbox, Settings};
use crate::now::Now;
use crate::packet::{Key, Keys};
use crate::state::{Event, Own, Wish};
use core::net::SocketAddr;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const DETECTION_MS: u64 = 2_000;
const START_MS: i64 = 1_700_000_000_000;
const LATENCY_MS: u64 = 1;
const CONNECT_PATIENCE_MS: u64 = 2_000;

pub(super) struct Network {
    pub(super) hosts: Vec<Host>,
    queue: BTreeMap<(u64, u64), Delivery>,
    streams: BTreeMap<u64, Pair>,
    serial: u64,
    pub(super) now_ms: u64,
    /// Share of datagrams that are lost, and of streams that break.
    pub(super) loss: f64,
    pub(super) broken: f64,
    /// Datagrams from the first to the second are lost.
    pub(super) cut: Vec<(usize, usize)>,
    rng: StdRng,
    /// All datagrams that were ever sent, if they are kept.
    pub(super) recorded: Option<Vec<Vec<u8>>>,
}

/// A process at an address, which may come and go.
pub(super) struct Host {
    pub(super) node: Option<Node>,
    pub(super) is_paused: bool,
    pub(super) events: Vec<(u64, Event)>,
    settings: Settings,
    join: Vec<SocketAddr>,
    joins_left: usize,
    /// Rounds that may follow one in which nobody answered, as a process has them in its first
    /// seconds.
    rounds_left: u32,
    lives: u64,
}

enum Delivery {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Frame {
        stream: u64,
        to_answerer: bool,
        bytes: Vec<u8>,
    },
    Broken {
        stream: u64,
    },
}

/// Both ends of a stream.
struct Pair {
    asker: usize,
    asking: Stream,
    answerer: Option<usize>,
    answering: Stream,
    is_join: bool,
    breaks: bool,
    /// Lives of the processes at its ends: a stream ends with them.
    lives: (u64, u64),
}

pub(super) fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, index as u8 + 1], 7_946))
}

pub(super) fn settings(index: usize, name: &str, keys: &[Key]) -> Settings {
    Settings {
        own: Own {
            name: name.into(),
            gossip_address: address(index),
            http_address: format!("10.0.0.{}:9090", index + 1).into(),
            zone: "".into(),
            software: "1".into(),
            incarnation: 1,
            detection_ms: DETECTION_MS,
            seed: index as u64 + 77,
            wait_for_size: 0,
            wait_timeout_ms: 0,
        },
        detection: Detection::within_ms(DETECTION_MS),
        keys: Keys::new("test", keys),
        random: [index as u8; 32],
    }
}

pub(super) fn wish(is_active: bool) -> Wish {
    let job = JobVersion {
        job: JobId(1),
        config_hash: 1,
        since_ms: 1,
    };
    Wish {
        is_active,
        weight: 1,
        jobs: [job].into(),
        heavy: None,
    }
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            hosts: Vec::new(),
            queue: BTreeMap::new(),
            streams: BTreeMap::new(),
            serial: 0,
            now_ms: 1_000,
            loss: 0.0,
            broken: 0.0,
            cut: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            recorded: None,
        }
    }

    /// That many nodes that have all joined.
    pub(super) fn joined(count: usize, seed: u64) -> Self {
        let mut network = Self::new(seed);
        for index in 0..count {
            network.add(&format!("n{index}"), &[[1; 32]]);
            network.start(index, &[0]);
        }
        let names: Vec<String> = (0..count).map(|index| format!("n{index}")).collect();
        let all = |network: &Self| {
            let is_complete = |host: &Host| host.active(network.unix_ms()) == names;
            network.hosts.iter().all(is_complete)
        };
        network.run_until("all have joined", 60_000, all);
        network
    }

    pub(super) fn add(&mut self, name: &str, keys: &[Key]) -> usize {
        let index = self.hosts.len();
        self.hosts.push(Host {
            node: None,
            is_paused: false,
            events: Vec::new(),
            settings: settings(index, name, keys),
            join: Vec::new(),
            joins_left: 0,
            rounds_left: 0,
            lives: 0,
        });
        index
    }

    /// Starts a process, and gives it addresses to join.
    pub(super) fn start(&mut self, index: usize, join: &[usize]) {
        let now = self.now();
        let mut out = Outbox::default();
        let host = &mut self.hosts[index];
        host.lives += 1;
        host.settings.own.incarnation = now.unix_ms as u64;
        host.settings.random[1] = host.lives as u8;
        let mut node = Node::new(host.settings.clone(), now).unwrap();
        node.wish(wish(true), now, &mut out);
        host.node = Some(node);
        self.collect(index, out);
        self.join(index, join);
    }

    pub(super) fn join(&mut self, index: usize, join: &[usize]) {
        let now = self.now();
        let mut out = Outbox::default();
        let addresses: Vec<SocketAddr> = join.iter().map(|index| address(*index)).collect();
        let host = &mut self.hosts[index];
        let node = host.node.as_mut().unwrap();
        node.join(&addresses, now, &mut out);
        (host.join, host.rounds_left) = (addresses, 5);
        host.joins_left = out.exchanges.iter().filter(|(n, _)| n.is_empty()).count();
        if host.joins_left == 0 {
            node.join_round_over(now, &mut out);
        }
        self.collect(index, out);
    }

    pub(super) fn kill(&mut self, index: usize) {
        self.hosts[index].node = None;
    }

    pub(super) fn with<T>(
        &mut self,
        index: usize,
        action: impl FnOnce(&mut Node, Now, &mut Outbox) -> T,
    ) -> T {
        let now = self.now();
        let mut out = Outbox::default();
        let node = self.hosts[index].node.as_mut().unwrap();
        let result = action(node, now, &mut out);
        self.collect(index, out);
        result
    }

    pub(super) fn unix_ms(&self) -> i64 {
        START_MS + self.now_ms as i64
    }

    pub(super) fn now(&self) -> Now {
        Now {
            unix_ms: self.unix_ms(),
            monotonic_ms: self.now_ms,
        }
    }

    pub(super) fn run_for(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.step(until_ms) {}
        self.now_ms = until_ms;
    }

    /// Runs until a condition holds; returns how long that took.
    pub(super) fn run_until(
        &mut self,
        what: &str,
        patience_ms: u64,
        condition: impl Fn(&Self) -> bool,
    ) -> u64 {
        let from_ms = self.now_ms;
        while !condition(self) {
            if self.now_ms >= from_ms + patience_ms {
                let seen: Vec<_> = self
                    .hosts
                    .iter()
                    .map(|h| h.active(self.unix_ms()))
                    .collect();
                panic!("not within {patience_ms} ms: {what}; active: {seen:?}");
            }
            self.run_for(10);
        }
        self.now_ms - from_ms
    }

    /// Does what is due next, if it is due until then.
    fn step(&mut self, until_ms: u64) -> bool {
        let runs = |host: &Host| host.node.is_some() && !host.is_paused;
        let due = |host: &Host| host.node.as_ref().map_or(u64::MAX, Node::next_due_ms);
        let hosts = self.hosts.iter().enumerate();
        let next_tick = hosts
            .filter(|(_, host)| runs(host))
            .map(|(index, host)| (due(host), index))
            .min();
        let next_delivery = self.queue.keys().next().map(|(at, _)| *at);
        let tick_ms = next_tick.map_or(u64::MAX, |(at, _)| at);
        if next_delivery.is_some_and(|at| at <= tick_ms && at <= until_ms) {
            if let Some(((at, _), delivery)) = self.queue.pop_first() {
                self.now_ms = self.now_ms.max(at);
                self.deliver(delivery);
            }
            return true;
        }
        match next_tick {
            Some((at, index)) if at <= until_ms => {
                self.now_ms = self.now_ms.max(at);
                self.with(index, |node, now, out| node.tick(now, out));
                true
            }
            _ => false,
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Datagram { from, to, bytes } => {
                let Some(index) = (0..self.hosts.len()).find(|index| address(*index) == to) else {
                    return;
                };
                if self.hosts[index].is_paused {
                    let at_ms = self.now_ms + 10;
                    self.later(at_ms, Delivery::Datagram { from, to, bytes });
                } else if self.hosts[index].node.is_some() {
                    self.with(index, |node, now, out| node.receive(from, &bytes, now, out));
                }
            }
            Delivery::Frame {
                stream,
                to_answerer,
                bytes,
            } => self.deliver_frame(stream, to_answerer, bytes),
            Delivery::Broken { stream } => self.end_stream(stream),
        }
    }

    fn deliver_frame(&mut self, stream: u64, to_answerer: bool, bytes: Vec<u8>) {
        let Some(mut pair) = self.streams.remove(&stream) else {
            return;
        };
        let index = match (to_answerer, pair.answerer) {
            (true, Some(answerer)) => answerer,
            _ => pair.asker,
        };
        let lives = (self.lives(Some(pair.asker)), self.lives(pair.answerer));
        if lives != pair.lives || self.hosts[index].node.is_none() {
            self.streams.insert(stream, pair);
            return self.end_stream(stream);
        }
        if self.hosts[index].is_paused {
            self.streams.insert(stream, pair);
            let at_ms = self.now_ms + 10;
            let frame = Delivery::Frame {
                stream,
                to_answerer,
                bytes,
            };
            return self.later(at_ms, frame);
        }
        let end = if to_answerer {
            &mut pair.answering
        } else {
            &mut pair.asking
        };
        let taken = self.with(index, |node, now, out| node.take(end, &bytes, now, out));
        self.streams.insert(stream, pair);
        if let Some(bytes) = taken.send {
            self.send_frame(stream, !to_answerer, bytes);
        }
        let is_over = !matches!(taken.then, Then::Wait);
        if is_over && !to_answerer {
            self.end_stream(stream);
        }
    }

    fn end_stream(&mut self, stream: u64) {
        let Some(pair) = self.streams.remove(&stream) else {
            return;
        };
        let is_alive = self.hosts[pair.asker].lives == pair.lives.0;
        if !is_alive || self.hosts[pair.asker].node.is_none() {
            return;
        }
        let host = &mut self.hosts[pair.asker];
        let is_last = pair.is_join && host.joins_left == 1;
        if pair.is_join {
            host.joins_left = host.joins_left.saturating_sub(1);
        }
        let is_alone = |node: &Node| node.alive_count() == 0;
        let in_vain = is_last && host.node.as_ref().is_some_and(is_alone);
        if in_vain && host.rounds_left > 0 {
            host.rounds_left -= 1;
            let again = host.join.clone();
            host.joins_left = again.len();
            return self.with(pair.asker, |node, now, out| node.join(&again, now, out));
        }
        self.with(pair.asker, |node, now, out| {
            if is_last {
                node.join_round_over(now, out);
            }
        });
    }

    fn send_frame(&mut self, stream: u64, to_answerer: bool, bytes: Vec<u8>) {
        let breaks = self.streams.get(&stream).is_some_and(|pair| pair.breaks);
        let at_ms = self.now_ms + LATENCY_MS;
        if breaks && self.rng.random() {
            return self.later(at_ms, Delivery::Broken { stream });
        }
        let frame = Delivery::Frame {
            stream,
            to_answerer,
            bytes,
        };
        self.later(at_ms, frame);
    }

    fn later(&mut self, at_ms: u64, delivery: Delivery) {
        self.serial += 1;
        self.queue.insert((at_ms, self.serial), delivery);
    }

    fn lives(&self, index: Option<usize>) -> u64 {
        index.map_or(0, |index| self.hosts[index].lives)
    }

    fn collect(&mut self, index: usize, out: Outbox) {
        let at_ms = self.now_ms;
        let host = &mut self.hosts[index];
        if let Some(node) = &mut host.node {
            host.events
                .extend(node.take_events().into_iter().map(|event| (at_ms, event)));
        }
        for (to, bytes) in out.datagrams {
            assert!(bytes.len() <= 1_400);
            if let Some(recorded) = &mut self.recorded {
                recorded.push(bytes.clone());
            }
            let is_cut = self
                .cut
                .iter()
                .any(|(f, t)| *f == index && address(*t) == to);
            if !is_cut && self.rng.random::<f64>() >= self.loss {
                let from = address(index);
                self.later(at_ms + LATENCY_MS, Delivery::Datagram { from, to, bytes });
            }
        }
        for (name, to) in out.exchanges {
            self.open(index, &name, to);
        }
    }

    fn open(&mut self, asker: usize, name: &Arc<str>, to: SocketAddr) {
        let now = self.now();
        let answerer = (0..self.hosts.len()).find(|index| address(*index) == to);
        let (is_up, is_cut) = match answerer {
            Some(index) => (
                self.hosts[index].node.is_some(),
                self.cut.contains(&(asker, index)) || self.cut.contains(&(index, asker)),
            ),
            None => (false, true),
        };
        let Some(node) = &mut self.hosts[asker].node else {
            return;
        };
        let (asking, first) = node.ask(Purpose::Exchange, now);
        self.serial += 1;
        let stream = self.serial;
        let lives = (self.lives(Some(asker)), self.lives(answerer));
        let breaks = self.rng.random::<f64>() < self.broken;
        let pair = Pair {
            asker,
            asking,
            answerer,
            answering: Stream::answering(),
            is_join: name.is_empty(),
            breaks,
            lives,
        };
        self.streams.insert(stream, pair);
        if is_cut {
            self.later(
                self.now_ms + CONNECT_PATIENCE_MS,
                Delivery::Broken { stream },
            );
        } else if !is_up {
            self.later(self.now_ms + LATENCY_MS, Delivery::Broken { stream });
        } else {
            self.send_frame(stream, true, first);
        }
    }
}

impl Host {
    /// The names of those that scrape at a time, as this node sees it.
    pub(super) fn active(&self, at_ms: i64) -> Vec<String> {
        let node = self.node.as_ref();
        let timeline = node.map(Node::timeline);
        let members = timeline.map(|timeline| timeline.view_at(at_ms).members().to_vec());
        let members = members.unwrap_or_default();
        members
            .iter()
            .map(|active| active.name.to_string())
            .collect()
    }

    pub(super) fn has_seen(&self, event: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(|(_, seen)| event(seen))
    }
}
