//! Several members on a virtual network with a virtual clock.

use super::*;
use core::net::SocketAddr;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;

const DETECTION_MS: u64 = 2_000;

struct Network {
    members: Vec<Membership>,
    /// Those that do not run; what is sent to the paused waits, what is sent to the dead is lost.
    is_dead: Vec<bool>,
    is_paused: Vec<bool>,
    waiting: Vec<(u64, usize, Vec<u8>)>,
    findings: Vec<(u64, usize, Finding)>,
    now_ms: u64,
    loss: f64,
    rng: StdRng,
}

fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, index as u8], 7_946))
}

fn identity(index: usize, incarnation: u64) -> Identity {
    Identity {
        name: format!("node-{index}").into(),
        address: address(index),
        incarnation,
        renewal: 0,
    }
}

fn membership(index: usize, incarnation: u64) -> Membership {
    let detection = Detection::within_ms(DETECTION_MS);
    let rng = StdRng::seed_from_u64(100 * incarnation + index as u64);
    Membership::new(identity(index, incarnation), detection, rng)
}

impl Network {
    fn joined(count: usize, loss: f64, seed: u64) -> Self {
        let mut network = Self {
            members: (0..count).map(|index| membership(index, 1)).collect(),
            is_dead: vec![false; count],
            is_paused: vec![false; count],
            waiting: Vec::new(),
            findings: Vec::new(),
            now_ms: 0,
            loss: 0.0,
            rng: StdRng::seed_from_u64(seed),
        };
        for index in 1..count {
            network.members[index].announce(Identity::unknown(address(0)), 0);
        }
        network.run_for(10_000);
        for (index, member) in network.members.iter().enumerate() {
            assert_eq!(member.alive().count(), count - 1, "seen by {index}");
        }
        network.findings.clear();
        network.loss = loss;
        network
    }

    fn run_for(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            let now_ms = self.now_ms;
            let due = |(at, to, _): &(u64, usize, Vec<u8>)| *at <= now_ms && !self.is_paused[*to];
            let (now, later) = core::mem::take(&mut self.waiting)
                .into_iter()
                .partition(due);
            self.waiting = later;
            let now: Vec<_> = now;
            for (_, to, payload) in now {
                if !self.is_dead[to] {
                    self.members[to].receive(&payload, self.now_ms);
                }
            }
            for index in 0..self.members.len() {
                if !self.is_dead[index] && !self.is_paused[index] {
                    self.members[index].tick(self.now_ms);
                }
                self.collect(index);
            }
        }
    }

    fn collect(&mut self, index: usize) {
        for message in self.members[index].take_messages() {
            assert!(message.payload.len() <= PAYLOAD_BYTES_MAX);
            let to = (0..self.members.len()).find(|to| address(*to) == message.to.address);
            let is_lost = self.rng.random::<f64>() < self.loss;
            if let (Some(to), false) = (to, is_lost) {
                self.waiting.push((self.now_ms + 1, to, message.payload));
            }
        }
        for finding in self.members[index].take_findings() {
            self.findings.push((self.now_ms, index, finding));
        }
    }

    /// When each saw it first.
    fn seen(&self, finding: &Finding) -> Vec<(u64, usize)> {
        let mut of = BTreeSet::new();
        let found = self.findings.iter().filter(|(_, _, f)| f == finding);
        let seen = found.filter(|(_, index, _)| of.insert(*index));
        seen.map(|(at, index, _)| (*at, *index)).collect()
    }
}

#[test]
fn the_dead_are_found_in_time() {
    for seed in 0..10 {
        let mut network = Network::joined(3, 0.0, seed);
        network.run_for(seed * 137);
        let killed_ms = network.now_ms;
        network.is_dead[1] = true;
        network.run_for(3_000);
        let seen = network.seen(&Finding::Down(identity(1, 1)));
        assert_eq!(seen.len(), 2, "by both others: {seen:?}");
        assert!(
            seen.iter().all(|(at, _)| at - killed_ms < 3_000),
            "{seen:?}"
        );
        assert_eq!(network.findings.len(), 2, "and nobody else");
    }
}

#[test]
fn loss_alone_kills_nobody() {
    for seed in 0..5 {
        let mut network = Network::joined(5, 0.1, seed);
        network.run_for(60_000);
        assert_eq!(network.findings, []);
    }
}

#[test]
fn who_stood_still_accuses_nobody() {
    for paused_ms in [1_000, 10_000, 30_000] {
        let mut network = Network::joined(4, 0.0, paused_ms);
        network.is_paused[2] = true;
        network.run_for(paused_ms);
        network.is_paused[2] = false;
        network.run_for(5_000);
        let by_paused = network.findings.iter().filter(|(_, index, _)| *index == 2);
        assert_eq!(
            by_paused.count(),
            0,
            "after {paused_ms} ms: {:?}",
            network.findings
        );
        // It is back with all, as another identity if they had thought it dead.
        for (index, member) in network.members.iter().enumerate() {
            assert_eq!(member.alive().count(), 3, "seen by {index}");
        }
        assert_eq!(network.members[2].identity().incarnation, 1);
    }
}

#[test]
fn a_restart_is_seen_at_once() {
    let mut network = Network::joined(3, 0.0, 1);
    let restarted_ms = network.now_ms;
    network.members[1] = membership(1, 2);
    let now_ms = network.now_ms;
    network.members[1].announce(Identity::unknown(address(0)), now_ms);
    network.run_for(1_000);
    let seen = network.seen(&Finding::Up(identity(1, 2)));
    assert_eq!(seen.len(), 2, "{:?}", network.findings);
    assert!(seen.iter().all(|(at, _)| at - restarted_ms < 1_000));
}

#[test]
fn a_new_life_is_seen_by_all() {
    let mut network = Network::joined(4, 0.05, 1);
    let now_ms = network.now_ms;
    network.members[3].begin_life(9, now_ms);
    network.run_for(2_000);
    assert_eq!(network.seen(&Finding::Up(identity(3, 9))).len(), 3);
    let mut left = Network::joined(4, 0.0, 1);
    let now_ms = left.now_ms;
    left.members[3].leave(now_ms);
    left.is_dead[3] = true;
    left.collect(3);
    left.run_for(1_000);
    assert_eq!(left.seen(&Finding::Down(identity(3, 1))).len(), 3);
}

#[test]
fn garbage_does_no_harm() {
    let mut network = Network::joined(3, 0.0, 1);
    let mut rng = StdRng::seed_from_u64(3);
    for _ in 0..100_000 {
        let len = rng.random_range(0..200);
        let bytes: Vec<u8> = (0..len).map(|_| rng.random_range(0..12_u8)).collect();
        network.members[0].receive(&bytes, network.now_ms);
    }
    assert!(network.members[0].errors() > 50_000);
}
