//! Packets of somebody without the key -> nothing.

use super::network::Network;
use crate::node::Outbox;
use crate::packet::{Cause, Keys, Kind, seal};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const PACKETS: usize = 1_000_000;

#[test]
fn a_million_hostile_packets_change_nothing() {
    let mut network = Network::joined(3, 1);
    network.recorded = Some(Vec::new());
    network.run_for(20_000);
    let recorded = network.recorded.take().unwrap_or_default();
    assert!(recorded.len() > 100);
    let node = network.hosts[0].node.as_mut().unwrap();
    let now = crate::now::Now {
        unix_ms: 1_700_000_000_000 + network.now_ms as i64,
        monotonic_ms: network.now_ms,
    };
    let seen = |node: &crate::node::Node| {
        let snapshot = node.snapshot(now);
        let members: Vec<_> = snapshot
            .members
            .iter()
            .map(|m| (m.member.clone(), m.state))
            .collect();
        let alive: Vec<_> = node.membership.alive().cloned().collect();
        (members, alive, snapshot.digest, snapshot.incarnation)
    };
    let before = seen(node);
    let refused_before: u64 = node.counters().refusals().map(|(_, count)| count).sum();
    let mut rng = StdRng::seed_from_u64(1);
    let other_key = Keys::new("test", &[[9; 32]]);
    for index in 0..PACKETS {
        let mut packet = recorded[rng.random_range(0..recorded.len())].clone();
        match index % 5 {
            // Random, with a header that fits or not.
            0 => {
                let from = [0, 2, 12, 36][rng.random_range(0..4)];
                rng.fill(&mut packet[from..]);
            }
            1 => {
                let bit = rng.random_range(0..packet.len() * 8);
                packet[bit / 8] ^= 1 << (bit % 8);
            }
            2 => packet.truncate(rng.random_range(0..packet.len())),
            // As it was.
            3 => {}
            _ => packet = seal(&other_key, Kind::Datagram, &rng.random(), &packet),
        }
        let from = super::network::address(rng.random_range(0..5));
        let mut out = Outbox::default();
        node.receive(from, &packet, now, &mut out);
        assert_eq!(out.datagrams, [], "an answer to packet {index}");
    }
    assert_eq!(seen(node), before);
    let refused = node
        .counters()
        .refusals()
        .map(|(_, count)| count)
        .sum::<u64>();
    assert_eq!(refused - refused_before, PACKETS as u64);
    for cause in [
        Cause::Length,
        Cause::Magic,
        Cause::Key,
        Cause::Forged,
        Cause::Replayed,
    ] {
        let of = node.counters().refusals().find(|(c, _)| *c == cause);
        assert!(of.is_some_and(|(_, count)| count > 0), "{cause}");
    }
    let events = node.take_events();
    assert_eq!(events, []);
}
