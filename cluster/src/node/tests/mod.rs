//! Whole nodes against each other, and against hostile packets.

mod hostile;
mod network;

use crate::state::{Death, Event, Refusal};
use network::Network;

const KEY: [u8; 32] = [1; 32];

fn is_death(event: &Event) -> bool {
    matches!(event, Event::Died { .. })
}

#[test]
fn nodes_find_each_other() {
    for count in [1, 2, 3, 7] {
        let network = Network::joined(count, count as u64);
        for host in &network.hosts {
            assert!(!host.has_seen(is_death), "{:?}", host.events);
        }
        let founded = |host: &&network::Host| host.has_seen(|e| matches!(e, Event::Founded(_)));
        assert_eq!(network.hosts.iter().filter(founded).count(), 1);
    }
}

#[test]
fn a_join_is_agreed_on_in_spite_of_loss() {
    for seed in 0..5 {
        let mut network = Network::joined(4, seed);
        network.loss = 0.1;
        network.broken = 0.33;
        let index = network.add("n4", &[KEY]);
        network.start(index, &[0, 1, 2]);
        let took_ms = network.run_until("five are active", 30_000, |network| {
            let active = |host: &network::Host| host.active(network.unix_ms()).len() == 5;
            network.hosts.iter().all(active)
        });
        assert!(took_ms < 15_000, "{took_ms} ms");
        network.run_for(30_000);
        for host in &network.hosts {
            assert!(!host.has_seen(is_death), "{:?}", host.events);
            assert!(!host.has_seen(|e| matches!(e, Event::Accused { .. })));
        }
    }
}

#[test]
fn a_dead_node_is_dropped_in_time() {
    for seed in 0..10 {
        let mut network = Network::joined(3, seed);
        network.run_for(1_000 + 133 * seed);
        let killed_ms = network.unix_ms();
        network.kill(1);
        let took_ms = network.run_until("it is dropped", 10_000, |network| {
            let others = [&network.hosts[0], &network.hosts[2]];
            let without = |host: &&network::Host| host.active(network.unix_ms()) == ["n0", "n2"];
            others.iter().all(without)
        });
        assert!(took_ms < 3_000, "{took_ms} ms");
        // Not counted on from when it was last heard, which is not after its death.
        let timeline = network.hosts[0].node.as_ref().unwrap().timeline().clone();
        let (from_ms, _) = timeline.views().last().unwrap();
        assert!(*from_ms <= killed_ms && *from_ms > killed_ms - 2_000);
    }
}

#[test]
fn a_quick_restart_moves_nothing() {
    let mut network = Network::joined(3, 1);
    network.run_for(5_000);
    network.kill(2);
    network.run_for(300);
    network.start(2, &[0, 1]);
    network.run_for(10_000);
    for host in &network.hosts {
        assert_eq!(host.active(network.unix_ms()).len(), 3);
        assert!(
            !host.has_seen(|e| matches!(e, Event::Accused { .. })),
            "{:?}",
            host.events
        );
    }
    assert!(network.hosts[2].has_seen(|e| matches!(e, Event::Resumed { .. })));
}

#[test]
fn the_second_of_a_name_is_refused() {
    let mut network = Network::joined(3, 1);
    let index = network.add("n1", &[KEY]);
    network.start(index, &[0, 1]);
    network.run_for(10_000);
    let refused = |e: &Event| {
        matches!(e, Event::Refused(Refusal::DuplicateName { address, .. })
            if *address == network::address(1))
    };
    assert!(
        network.hosts[3].has_seen(refused),
        "{:?}",
        network.hosts[3].events
    );
    for host in &network.hosts[..3] {
        assert_eq!(host.active(network.unix_ms()), ["n0", "n1", "n2"]);
        assert!(!host.has_seen(is_death) && !host.has_seen(|e| matches!(e, Event::Refused(_))));
    }
}

#[test]
fn two_clusters_become_one() {
    let mut network = Network::joined(3, 1);
    for name in ["x", "y"] {
        let index = network.add(name, &[KEY]);
        network.start(index, &[3]);
    }
    network.run_until("two clusters", 20_000, |network| {
        network.hosts[4].active(network.unix_ms()) == ["x", "y"]
    });
    network.join(3, &[0]);
    network.run_until("one cluster", 30_000, |network| {
        let all = |host: &network::Host| host.active(network.unix_ms()).len() == 5;
        network.hosts.iter().all(all)
    });
    let merged = |e: &Event| {
        matches!(
            e,
            Event::Died {
                reason: Death::Merged { .. },
                ..
            }
        )
    };
    for host in &network.hosts[3..] {
        assert!(host.has_seen(merged), "{:?}", host.events);
    }
    assert!(
        !network.hosts[..3]
            .iter()
            .any(|host| host.has_seen(is_death))
    );
}

#[test]
fn a_paused_node_dies_and_comes_back() {
    let mut network = Network::joined(4, 1);
    network.hosts[1].is_paused = true;
    let others = |network: &Network| {
        let without = |host: &network::Host| host.active(network.unix_ms()).len() == 3;
        [0, 2, 3]
            .iter()
            .all(|index| without(&network.hosts[*index]))
    };
    network.run_until("it is dropped", 5_000, others);
    network.run_for(30_000);
    let woke_ms = network.now_ms;
    network.hosts[1].is_paused = false;
    network.run_until("it is back", 20_000, |network| {
        let all = |host: &network::Host| host.active(network.unix_ms()).len() == 4;
        network.hosts.iter().all(all)
    });
    let events = &network.hosts[1].events;
    let after_ms = |event: fn(&Event) -> bool| {
        let found = events.iter().find(|(at, e)| *at >= woke_ms && event(e));
        found.map(|(at, _)| at - woke_ms)
    };
    // It stops as soon as it runs again, and hears of its death at once.
    assert!(after_ms(|e| matches!(e, Event::StoodStill { .. })).is_some_and(|ms| ms < 50));
    assert!(
        after_ms(is_death).is_some_and(|ms| ms < 2_000),
        "{events:?}"
    );
    assert!(!network.hosts[1].has_seen(|e| matches!(e, Event::Accused { .. })));
    assert!(!network.hosts[0].has_seen(is_death));
}

/// Most streams break, and many datagrams are lost.
#[test]
fn who_cannot_hear_kills_nobody() {
    for seed in 0..40 {
        one_cannot_hear(seed, 0.9);
    }
}

fn one_cannot_hear(seed: u64, broken: f64) {
    let mut network = Network::joined(4, seed);
    // Nothing comes to node 2, and all that it says arrives.
    network.cut = vec![(0, 2), (1, 2), (3, 2)];
    network.broken = broken;
    network.loss = broken / 4.0;
    network.run_for(30_000);
    for index in [0, 1, 3] {
        let host = &network.hosts[index];
        assert!(
            !host.has_seen(is_death),
            "seed {seed}, node {index}: {:?}",
            host.events
        );
        let mutual = |e: &Event| matches!(e, Event::Accused { name, .. } if **name != *"n2");
        assert!(!host.has_seen(mutual), "node {index}: {:?}", host.events);
    }
}

#[test]
fn a_planned_leave_kills_nobody() {
    let mut network = Network::joined(3, 1);
    network.with(1, |node, now, out| {
        node.wish(network::wish(false), now, out)
    });
    network.run_until("it has left", 20_000, |network| {
        let without = |host: &network::Host| host.active(network.unix_ms()) == ["n0", "n2"];
        network.hosts.iter().all(without)
    });
    network.with(1, |node, now, out| node.leave(now, out));
    network.kill(1);
    network.run_for(10_000);
    for host in &network.hosts {
        assert!(!host.has_seen(is_death));
        assert!(!host.has_seen(|e| matches!(e, Event::Accused { .. })));
    }
}
