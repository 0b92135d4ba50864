//! Nodes' states, exchanges that take time and get lost, a plain failure detector -> who scraped
//! which slot.

use super::own;
use crate::key::TargetKey;
use crate::member::{JobId, JobVersion};
use crate::now::Now;
use crate::state::{Death, Delta, Event, Own, Part, Sketch, State, Summary, Wants, Wish};
use core::net::SocketAddr;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) const START_MS: i64 = 1_700_000_000_000;
const STEP_MS: u64 = 10;
const GOSSIP_MS: u64 = 200;
pub(super) const DETECTION_MS: u64 = 2_000;
const INTERVAL_MS: i64 = 500;
const KEYS: u64 = 24;
pub(super) const JOB: JobId = JobId(1);

pub(super) struct Network {
    /// Since the start; the monotonic clock of all.
    pub(super) time_ms: u64,
    pub(super) nodes: Vec<Node>,
    /// Of the steps of exchanges, in percent.
    pub(super) lost_percent: u32,
    /// The failure detector tells a node that others hold it for dead.
    pub(super) tells_defunct: bool,
    /// Who does not hear whom: (from, to).
    pub(super) cut: BTreeSet<(usize, usize)>,
    rng: StdRng,
    messages: BTreeMap<(u64, u64), Message>,
    sent: u64,
    /// By key and slot time: who scraped it.
    pub(super) scrapes: BTreeMap<(u64, i64), Vec<usize>>,
}

pub(super) struct Node {
    pub(super) name: Arc<str>,
    address: SocketAddr,
    pub(super) skew_ms: i64,
    pub(super) state: Option<State>,
    pub(super) is_paused: bool,
    is_stopped: bool,
    pub(super) events: Vec<(u64, Event)>,
    /// By peer: incarnation and when last heard, whether it is held for up.
    detector: BTreeMap<usize, Heard>,
    scraped_until_ms: i64,
    incarnation: u64,
    /// Joins whoever is there as long as it has no cluster.
    join: Vec<usize>,
    wish: Option<Wish>,
    exchanged_ms: BTreeMap<usize, u64>,
}

struct Heard {
    incarnation: u64,
    at_ms: u64,
    is_up: bool,
    defunct_ms: Option<u64>,
}

enum Message {
    Open(usize, usize, u64, Summary, Sketch),
    Answer(usize, usize, u64, Summary, Delta, Part),
    Rest(usize, usize, u64, Summary, Delta, Wants),
    End(usize, usize, u64, Summary, Delta),
}

pub(super) fn wish(weight: u32, config_hash: u64) -> Wish {
    let job = JobVersion {
        job: JOB,
        config_hash,
        since_ms: START_MS,
    };
    Wish {
        is_active: true,
        weight,
        jobs: [job].into(),
        heavy: None,
    }
}

impl Node {
    pub(super) fn set_join(&mut self, join: &[usize]) {
        self.join = join.to_vec();
    }
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            time_ms: 0,
            nodes: Vec::new(),
            lost_percent: 0,
            tells_defunct: true,
            cut: BTreeSet::new(),
            rng: StdRng::seed_from_u64(seed),
            messages: BTreeMap::new(),
            sent: 0,
            scrapes: BTreeMap::new(),
        }
    }

    /// Adds a node that starts now and joins those given.
    pub(super) fn start(&mut self, name: &str, skew_ms: i64, join: &[usize]) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node {
            name: name.into(),
            address: ([10, 0, 0, 1], 1_000 + index as u16).into(),
            skew_ms,
            state: None,
            is_paused: false,
            is_stopped: false,
            events: Vec::new(),
            detector: BTreeMap::new(),
            scraped_until_ms: 0,
            incarnation: 0,
            join: join.to_vec(),
            wish: None,
            exchanged_ms: BTreeMap::new(),
        });
        self.restart(index);
        index
    }

    pub(super) fn restart(&mut self, index: usize) {
        let now = self.now(index);
        let seed = self.rng.random();
        let node = &mut self.nodes[index];
        let incarnation = (node.incarnation + 1).max(now.unix_ms as u64);
        let own = Own {
            gossip_address: node.address,
            incarnation,
            seed,
            ..own(&node.name)
        };
        node.state = Some(State::new(own, now));
        node.is_stopped = false;
        node.detector.clear();
        node.exchanged_ms.clear();
        node.scraped_until_ms = now.unix_ms;
        let join = node.join.clone();
        for to in join {
            self.open(index, to);
        }
    }

    pub(super) fn kill(&mut self, index: usize) {
        self.nodes[index].state = None;
    }

    pub(super) fn wish(&mut self, index: usize, wish: Wish) {
        let now = self.now(index);
        self.nodes[index].wish = Some(wish.clone());
        self.state(index).wish(wish, now);
    }

    pub(super) fn leave(&mut self, index: usize) {
        let mut wish = self.nodes[index].wish.clone().unwrap();
        wish.is_active = false;
        self.wish(index, wish);
    }

    pub(super) fn state(&mut self, index: usize) -> &mut State {
        self.nodes[index].state.as_mut().unwrap()
    }

    pub(super) fn now(&self, index: usize) -> Now {
        Now {
            unix_ms: START_MS + self.time_ms as i64 + self.nodes[index].skew_ms,
            monotonic_ms: 1_000_000 + self.time_ms,
        }
    }

    /// Nobody in `a` hears anybody in `b`, nor the other way round.
    pub(super) fn split(&mut self, a: &[usize], b: &[usize]) {
        for (x, y) in a.iter().flat_map(|x| b.iter().map(move |y| (*x, *y))) {
            self.cut.extend([(x, y), (y, x)]);
        }
    }

    pub(super) fn run(&mut self, for_ms: u64) {
        let until_ms = self.time_ms + for_ms;
        while self.time_ms < until_ms {
            self.time_ms += STEP_MS;
            self.step();
        }
    }

    fn step(&mut self) {
        while let Some(entry) = self.messages.first_entry() {
            if entry.key().0 > self.time_ms {
                break;
            }
            let message = entry.remove();
            self.deliver(message);
        }
        if self.time_ms.is_multiple_of(GOSSIP_MS) {
            self.gossip();
        }
        for index in 0..self.nodes.len() {
            if !self.nodes[index].is_paused && self.nodes[index].state.is_some() {
                self.act(index);
            }
        }
    }

    fn act(&mut self, index: usize) {
        let now = self.now(index);
        let state = self.state(index);
        if state.next_due_ms() <= now.monotonic_ms {
            state.tick(now);
        }
        let to: Vec<SocketAddr> = state.to_exchange_with(now).iter().map(|to| to.1).collect();
        let events = state.take_events();
        for event in events {
            let node = &mut self.nodes[index];
            match event {
                Event::StoodStill { .. } => node.is_stopped = true,
                Event::GoOn => node.is_stopped = false,
                _ => {}
            }
            node.events.push((self.time_ms, event));
        }
        let incarnation = self.state(index).incarnation();
        self.nodes[index].incarnation = incarnation;
        for address in to {
            let to = self.nodes.iter().position(|node| node.address == address);
            self.open(index, to.unwrap());
        }
        self.scrape(index, now);
    }

    /// The slots that came since the last time, by the timeline of this moment.
    fn scrape(&mut self, index: usize, now: Now) {
        let node = &mut self.nodes[index];
        let (from_ms, until_ms) = (node.scraped_until_ms, now.unix_ms);
        node.scraped_until_ms = until_ms;
        if node.is_stopped {
            return;
        }
        let timeline = node.state.as_ref().unwrap().timeline();
        for key in 0..KEYS {
            let phase_ms = key as i64 * INTERVAL_MS / KEYS as i64;
            let mut slot = (from_ms - phase_ms).div_euclid(INTERVAL_MS) + 1;
            while slot * INTERVAL_MS + phase_ms <= until_ms {
                let slot_ms = slot * INTERVAL_MS + phase_ms;
                let key = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                if timeline.view_at(slot_ms).owner(JOB, TargetKey(key)) == Some(&node.name) {
                    self.scrapes.entry((key, slot_ms)).or_default().push(index);
                }
                slot += 1;
            }
        }
    }

    /// Slots between two times that were not scraped exactly once: missed ones, double ones.
    pub(super) fn missed_and_double(&self, from_ms: u64, until_ms: u64) -> (usize, usize) {
        let (mut missed, mut double) = (0, 0);
        for key in 0..KEYS {
            let phase_ms = key as i64 * INTERVAL_MS / KEYS as i64;
            let first = (START_MS + from_ms as i64 - phase_ms).div_euclid(INTERVAL_MS) + 1;
            let last = (START_MS + until_ms as i64 - phase_ms).div_euclid(INTERVAL_MS);
            let key = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for slot in first..=last {
                let by = self.scrapes.get(&(key, slot * INTERVAL_MS + phase_ms));
                missed += usize::from(by.is_none());
                double += usize::from(by.is_some_and(|by| by.len() > 1));
            }
        }
        (missed, double)
    }

    fn is_reachable(&self, from: usize, to: usize) -> bool {
        let is_there = |index: usize| {
            let node = &self.nodes[index];
            node.state.is_some() && !node.is_paused
        };
        is_there(from) && is_there(to) && !self.cut.contains(&(from, to))
    }

    /// What the failure detector does: packets to all, silence is death.
    fn gossip(&mut self) {
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if from != to && self.is_reachable(from, to) {
                    self.packet(from, to);
                }
            }
        }
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_paused || self.nodes[index].state.is_none() {
                continue;
            }
            if self.state(index).digest() == 0 {
                for to in self.nodes[index].join.clone() {
                    self.open(index, to);
                }
            }
            let now = self.now(index);
            let time_ms = self.time_ms;
            let node = &mut self.nodes[index];
            let silent = node
                .detector
                .iter_mut()
                .filter(|(_, heard)| heard.is_up && time_ms - heard.at_ms >= DETECTION_MS);
            let mut down = Vec::new();
            for (peer, heard) in silent {
                heard.is_up = false;
                down.push((*peer, heard.incarnation));
            }
            for (peer, incarnation) in down {
                let name = self.nodes[peer].name.clone();
                self.state(index).down(&name, incarnation, now);
            }
        }
    }

    fn packet(&mut self, from: usize, to: usize) {
        let sender = self.nodes[from].state.as_ref().unwrap();
        let (incarnation, digest) = (sender.incarnation(), sender.digest());
        let followers = sender.followers().to_vec();
        let name = self.nodes[from].name.clone();
        let (now, time_ms) = (self.now(to), self.time_ms);
        if !sender.may_gossip() {
            return;
        }
        let heard = self.nodes[to].detector.entry(from).or_insert(Heard {
            incarnation: 0,
            at_ms: time_ms,
            is_up: false,
            defunct_ms: None,
        });
        heard.at_ms = time_ms;
        let is_new = heard.incarnation < incarnation;
        if is_new {
            heard.incarnation = incarnation;
            heard.is_up = true;
            heard.defunct_ms = None;
        }
        let is_defunct = self.tells_defunct && !heard.is_up && {
            let since_ms = *heard.defunct_ms.get_or_insert(time_ms);
            time_ms - since_ms >= 1_000
        };
        self.state(to)
            .contact(&name, incarnation, digest, &followers, now);
        if is_new {
            self.state(to).up(&name, incarnation, now);
        }
        if is_defunct && self.is_reachable(to, from) {
            let now = self.now(from);
            if self.state(from).incarnation() == incarnation {
                self.state(from).renew(now);
            }
        }
        let last_ms = self.nodes[to].exchanged_ms.get(&from).copied().unwrap_or(0);
        if self.state(to).digest() != digest && time_ms - last_ms >= GOSSIP_MS {
            self.nodes[to].exchanged_ms.insert(from, time_ms);
            self.open(to, from);
        }
    }

    fn open(&mut self, from: usize, to: usize) {
        let now = self.now(from);
        let summary = self.state(from).summary(None, now);
        let sketch = self.state(from).sketch();
        self.send(Message::Open(from, to, self.time_ms, summary, sketch));
    }

    fn send(&mut self, message: Message) {
        if self.rng.random_range(0..100) < self.lost_percent {
            return;
        }
        self.sent += 1;
        let delay_ms = self.rng.random_range(1..40);
        self.messages
            .insert((self.time_ms + delay_ms, self.sent), message);
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Open(from, to, at_ms, theirs, sketch) if self.is_reachable(from, to) => {
                let now = self.now(to);
                let state = self.state(to);
                let (delta, part) = state.answer(&theirs, &sketch);
                state.heard(&theirs, None, now);
                let own = state.summary(Some(&theirs.name), now);
                self.send(Message::Answer(to, from, at_ms, own, delta, part));
            }
            Message::Answer(from, to, at_ms, theirs, delta, part)
                if self.is_reachable(from, to) =>
            {
                let (now, round_trip_ms) = (self.now(to), self.time_ms - at_ms);
                let state = self.state(to);
                state.merge(delta, now);
                state.heard(&theirs, Some(round_trip_ms), now);
                let (delta, wants) = state.counter(&theirs, &part);
                if wants.is_nothing() {
                    state.answered(round_trip_ms, now);
                }
                let own = state.summary(Some(&theirs.name), now);
                self.send(Message::Rest(to, from, self.time_ms, own, delta, wants));
            }
            Message::Rest(from, to, at_ms, theirs, delta, wants) if self.is_reachable(from, to) => {
                let (now, round_trip_ms) = (self.now(to), self.time_ms - at_ms);
                let state = self.state(to);
                state.merge(delta, now);
                state.heard(&theirs, Some(round_trip_ms), now);
                state.answered(round_trip_ms, now);
                let delta = state.requested(&theirs, &wants);
                let own = state.summary(Some(&theirs.name), now);
                self.send(Message::End(to, from, self.time_ms, own, delta));
            }
            Message::End(from, to, at_ms, theirs, delta) if self.is_reachable(from, to) => {
                let (now, round_trip_ms) = (self.now(to), self.time_ms - at_ms);
                self.state(to).merge(delta, now);
                self.state(to).heard(&theirs, Some(round_trip_ms), now);
                self.state(to).answered(round_trip_ms, now);
            }
            _ => {}
        }
    }

    /// The join round of a node ends: the time for answers is over.
    pub(super) fn join_round_over(&mut self, index: usize) {
        let now = self.now(index);
        self.state(index).join_round_over(now);
    }

    /// A cluster of as many nodes, all active, and 10 s old.
    pub(super) fn cluster(seed: u64, nodes: usize) -> Self {
        let mut network = Self::new(seed);
        for index in 0..nodes {
            network.start(&format!("n{index}"), 0, &[0][..index.min(1)]);
            network.run(100);
            network.join_round_over(index);
            network.wish(index, wish(1, 7));
        }
        network.run(15_000);
        let mut active = network.active();
        active.sort_unstable();
        assert_eq!(active, (0..nodes).collect::<Vec<_>>());
        network
    }

    /// Who is active now by all that are alive; fails if they do not agree.
    pub(super) fn active(&self) -> Vec<usize> {
        let mut views = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(state) = node.state.as_ref().filter(|_| !node.is_paused) else {
                continue;
            };
            let view = state.timeline().view_at(self.now(index).unix_ms);
            views.push(
                view.members()
                    .iter()
                    .map(|m| m.name.clone())
                    .collect::<Vec<_>>(),
            );
        }
        assert!(views.windows(2).all(|two| two[0] == two[1]), "{views:?}");
        let index = |name: &Arc<str>| self.nodes.iter().position(|node| node.name == *name);
        views[0].iter().filter_map(index).collect()
    }

    pub(super) fn digests(&self) -> BTreeSet<u64> {
        let states = self.nodes.iter().filter_map(|node| node.state.as_ref());
        states.map(State::digest).collect()
    }

    pub(super) fn deaths(&self, index: usize) -> Vec<&Death> {
        let events = self.nodes[index].events.iter();
        let deaths = events.filter_map(|(_, event)| match event {
            Event::Died { reason, .. } => Some(reason),
            _ => None,
        });
        deaths.collect()
    }

    pub(super) fn has_event(&self, index: usize, wanted: impl Fn(&Event) -> bool) -> bool {
        self.nodes[index]
            .events
            .iter()
            .any(|(_, event)| wanted(event))
    }
}
