//! Starts: alone, together, apart, under a name that is taken.

use super::network::{Network, wish};
use crate::state::snapshot::MemberStatus;
use crate::state::{Death, Delta, Event, MemberState, Refusal};

#[test]
fn who_is_alone_scrapes_at_once() {
    let mut network = Network::new(1);
    network.start("a", 0, &[]);
    network.run(1_000);
    network.wish(0, wish(1, 7));
    network.run(1_000);
    assert_eq!(network.state(0).timeline().views().len(), 1);
    network.join_round_over(0);
    network.run(100);
    assert_eq!(network.active(), [0]);
    let view = network.state(0).timeline().clone();
    assert_eq!(view.view_at(network.now(0).unix_ms).members().len(), 1);
}

/// Nodes that all start at once, each with all others as join addresses, found one cluster.
#[test]
fn nodes_that_start_together_found_one_cluster() {
    for seed in 0..10 {
        let mut network = Network::new(seed);
        for n in 0..4 {
            network.start(&format!("n{n}"), 0, &[]);
        }
        for n in 0..4 {
            network.kill(n);
            network.nodes[n].set_join(&[0, 1, 2, 3]);
        }
        for n in [3, 1, 2, 0] {
            network.restart(n);
            network.run(50);
        }
        network.run(1_000);
        for n in 0..4 {
            network.join_round_over(n);
            network.wish(n, wish(1, 7));
        }
        network.run(20_000);
        assert_eq!(network.active(), [0, 1, 2, 3]);
        let founded = |index| network.has_event(index, |e| matches!(e, Event::Founded(_)));
        assert_eq!((0..4).filter(|index| founded(*index)).count(), 1);
        let from_ms = network.time_ms;
        network.run(10_000);
        assert_eq!(
            network.missed_and_double(from_ms, network.time_ms - 1_000),
            (0, 0)
        );
    }
}

/// The nodes of the younger cluster stop and join the older one, which covers all the time.
#[test]
fn clusters_that_were_founded_apart_become_one() {
    for seed in 0..10 {
        let mut network = Network::new(seed);
        let joins: [&[usize]; 4] = [&[], &[0], &[], &[2]];
        for (n, join) in joins.into_iter().enumerate() {
            network.start(&format!("n{n}"), 0, join);
        }
        network.split(&[0, 1], &[2, 3]);
        for n in 0..4 {
            network.run(500);
            network.join_round_over(n);
            network.wish(n, wish(1, 7));
        }
        network.run(20_000);
        network.cut.clear();
        let from_ms = network.time_ms;
        network.run(30_000);
        assert_eq!(network.active(), [0, 1, 2, 3]);
        let (missed, _) = network.missed_and_double(from_ms, network.time_ms - 1_000);
        assert_eq!(missed, 0);
        let settled_ms = network.time_ms - 10_000;
        let settled = network.missed_and_double(settled_ms, network.time_ms - 1_000);
        assert_eq!(settled, (0, 0));
        assert!(network.deaths(0).is_empty() && network.deaths(1).is_empty());
        for index in 2..4 {
            assert!(matches!(network.deaths(index)[..], [Death::Merged { .. }]));
        }
        assert_eq!(network.digests().len(), 1);
    }
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let mut network = Network::cluster(1, 3);
    let from_ms = network.time_ms;
    let second = network.start("n1", 0, &[0]);
    network.wish(second, wish(1, 7));
    network.run(1_000);
    network.join_round_over(second);
    network.run(10_000);
    let refused = |event: &Event| matches!(event, Event::Refused(Refusal::DuplicateName { .. }));
    assert!(network.has_event(second, refused));
    network.kill(second);
    network.run(10_000);
    assert_eq!(network.active(), [0, 1, 2]);
    assert!((0..3).all(|index| network.deaths(index).is_empty()));
    assert_eq!(
        network.missed_and_double(from_ms, network.time_ms - 1_000),
        (0, 0)
    );
}

/// The same name at another address is no other node if the former address does not answer.
#[test]
fn a_node_may_come_back_at_another_address() {
    let mut network = Network::cluster(1, 3);
    network.kill(1);
    network.run(500);
    let moved = network.start("n1", 0, &[0]);
    network.wish(moved, wish(1, 7));
    network.run(1_000);
    network.join_round_over(moved);
    network.run(20_000);
    assert!(!network.has_event(moved, |event| matches!(event, Event::Refused(_))));
    assert_eq!(network.active().len(), 3);
}

/// A node that founded a cluster of its own, with a clock that is behind, joins the larger one,
/// which has lost nobody.
#[test]
fn who_is_alone_joins_those_who_are_not_whatever_its_clock_says() {
    for seed in 0..5 {
        let mut network = Network::cluster(seed, 3);
        let alone = network.start("z", -600_000, &[]);
        network.split(&[alone], &[0, 1, 2]);
        network.join_round_over(alone);
        network.wish(alone, wish(1, 7));
        network.run(10_000);
        network.cut.clear();
        let from_ms = network.time_ms;
        network.nodes[alone].skew_ms = 0;
        network.run(60_000);
        assert_eq!(network.active(), [0, 1, 2, alone]);
        assert!((0..3).all(|index| network.deaths(index).is_empty()));
        assert!(matches!(network.deaths(alone)[..], [Death::Merged { .. }]));
        let (missed, _) = network.missed_and_double(from_ms, network.time_ms - 1_000);
        assert_eq!(missed, 0);
    }
}

/// An entry of a life that cannot be is not taken: it would shut out the lives that can.
#[test]
fn lives_of_the_far_future_are_not_believed() {
    let mut network = Network::cluster(1, 3);
    let now = network.now(0);
    let cluster = network.state(0).summary(None, now).cluster;
    for name in ["n1", "n2", "never"] {
        let of_them = network.state(1).snapshot(now).members;
        let mut forged = (*of_them[1].member).clone();
        forged.name = name.into();
        forged.incarnation = 1 << 53;
        let mut delta = Delta::nothing(cluster);
        delta.members.push(forged.into());
        for index in 0..2 {
            network.state(index).merge(delta.clone(), now);
            network.state(index).contact(name, 1 << 53, 0, &[], now);
        }
    }
    network.run(20_000);
    assert_eq!(network.active(), [0, 1, 2]);
    for index in 0..3 {
        let now = network.now(index);
        assert!(network.state(index).incarnation() < 1 << 52);
        let snapshot = network.state(index).snapshot(now);
        assert_eq!(snapshot.members.len(), 3);
        let state = |m: &MemberStatus| m.state;
        assert!(
            snapshot
                .members
                .iter()
                .map(state)
                .all(|s| s == MemberState::Active)
        );
    }
}
