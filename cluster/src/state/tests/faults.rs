//! Crashes, splits, standstill: what is not scraped, what is scraped twice, and for how long.

use super::network::{DETECTION_MS, Network, wish};
use crate::state::Event;

#[test]
fn a_crash_is_taken_over() {
    for seed in 0..5 {
        let mut network = Network::cluster(seed, 4);
        network.lost_percent = 33;
        let before_ms = network.time_ms;
        network.kill(2);
        network.run(DETECTION_MS + 1_000);
        assert_eq!(network.active(), [0, 1, 3]);
        let from_ms = network.time_ms;
        network.run(10_000);
        let (missed, double) = network.missed_and_double(before_ms, network.time_ms - 1_000);
        assert!(
            missed > 0 && double == 0,
            "missed {missed}, double {double}"
        );
        assert_eq!(
            network.missed_and_double(from_ms, network.time_ms - 1_000),
            (0, 0)
        );
        // It comes back, and joins by plan.
        network.restart(2);
        network.wish(2, wish(1, 7));
        network.run(1_000);
        network.join_round_over(2);
        network.run(20_000);
        assert_eq!(network.active(), [0, 1, 2, 3]);
        assert_eq!(
            network.missed_and_double(from_ms, network.time_ms - 1_000),
            (0, 0)
        );
        assert!(network.deaths(2).is_empty());
    }
}

#[test]
fn of_two_nodes_either_takes_over() {
    let mut network = Network::cluster(1, 2);
    network.kill(0);
    network.run(DETECTION_MS + 1_000);
    assert_eq!(network.active(), [1]);
}

/// Both halves take over all; when they meet, the better half never stops.
#[test]
fn a_split_in_halves_heals_without_a_gap() {
    for seed in 0..10 {
        let mut network = Network::cluster(seed, 4);
        network.split(&[0, 2], &[1, 3]);
        network.run(20_000);
        let from_ms = network.time_ms - 10_000;
        network.cut.clear();
        network.lost_percent = 20;
        network.run(30_000);
        assert_eq!(network.active(), [0, 1, 2, 3]);
        let (missed, _) = network.missed_and_double(from_ms, network.time_ms - 1_000);
        assert_eq!(missed, 0);
        let settled_ms = network.time_ms - 15_000;
        let (_, double) = network.missed_and_double(settled_ms, network.time_ms - 1_000);
        assert_eq!(double, 0);
        assert!(network.deaths(0).is_empty() && network.deaths(2).is_empty());
        assert!(!network.deaths(1).is_empty() && !network.deaths(3).is_empty());
    }
}

/// The entries of both halves are forgotten after an hour: not one half before the other.
#[test]
fn a_healed_split_stays_healed() {
    let mut network = Network::cluster(3, 2);
    network.tells_defunct = false;
    network.split(&[0], &[1]);
    network.run(10_000);
    network.cut.clear();
    network.run(30_000);
    assert_eq!(network.active(), [0, 1]);
    let deaths = network.deaths(0).len() + network.deaths(1).len();
    assert_eq!(deaths, 1, "of one half");
    network.run(61 * 60_000);
    assert_eq!(network.active(), [0, 1]);
    let after = network.deaths(0).len() + network.deaths(1).len();
    assert_eq!(after, deaths);
}

#[test]
fn who_is_cut_off_keeps_its_share() {
    for seed in 0..10 {
        let mut network = Network::cluster(seed, 3);
        let timeline = network.state(0).timeline().clone();
        network.split(&[0], &[1, 2]);
        network.run(20_000);
        assert!(
            network.state(0).timeline().is_same(&timeline),
            "it takes over nothing"
        );
        assert!(network.has_event(0, |event| *event == Event::Isolated(true)));
        assert!(!network.has_event(1, |event| *event == Event::Isolated(true)));
        let others = network.state(1).timeline().clone();
        let now_ms = network.now(1).unix_ms;
        assert_eq!(others.view_at(now_ms).members().len(), 2);
        let from_ms = network.time_ms - 10_000;
        network.cut.clear();
        network.run(30_000);
        assert_eq!(network.active(), [0, 1, 2]);
        let (missed, _) = network.missed_and_double(from_ms, network.time_ms - 1_000);
        assert_eq!(missed, 0);
        let settled_ms = network.time_ms - 15_000;
        let settled = network.missed_and_double(settled_ms, network.time_ms - 1_000);
        assert_eq!(settled, (0, 0));
        assert!(network.has_event(0, |event| *event == Event::Isolated(false)));
        assert!(network.deaths(1).is_empty() && network.deaths(2).is_empty());
    }
}

/// A split into single nodes: nobody takes over anything, and when they meet nothing has moved.
#[test]
fn a_network_that_is_gone_moves_nothing() {
    let mut network = Network::cluster(9, 5);
    let from_ms = network.time_ms;
    for index in 0..5 {
        let others: Vec<usize> = (0..5).filter(|other| *other != index).collect();
        network.split(&[index], &others);
    }
    network.run(60_000);
    network.cut.clear();
    network.run(30_000);
    assert_eq!(network.active(), [0, 1, 2, 3, 4]);
    assert_eq!(
        network.missed_and_double(from_ms, network.time_ms - 1_000),
        (0, 0)
    );
}

#[test]
fn who_stood_still_scrapes_nothing_twice() {
    for seed in 0..10 {
        let mut network = Network::cluster(seed, 3);
        let before_ms = network.time_ms;
        network.nodes[1].is_paused = true;
        network.run(30_000);
        assert_eq!(network.active(), [0, 2]);
        network.nodes[1].is_paused = false;
        network.run(30_000);
        assert_eq!(network.active(), [0, 1, 2]);
        let (missed, double) = network.missed_and_double(before_ms, network.time_ms - 1_000);
        assert_eq!(double, 0);
        assert!(missed > 0);
        let from_ms = before_ms + DETECTION_MS + 1_000;
        let since = network.missed_and_double(from_ms, network.time_ms - 1_000);
        assert_eq!(since, (0, 0));
        assert_eq!(network.deaths(1).len(), 1);
        let still = |event: &Event| matches!(event, Event::StoodStill { .. });
        assert!(network.has_event(1, still) && network.has_event(1, |e| *e == Event::GoOn));
        assert!(network.deaths(0).is_empty() && network.deaths(2).is_empty());
    }
}

/// The accuser of one node dies later, when the cluster is larger: the first one stays dead.
#[test]
fn an_accuser_that_dies_later_was_right() {
    let mut network = Network::cluster(4, 3);
    network.kill(2);
    network.run(5_000);
    for n in 3..6 {
        let index = network.start(&format!("n{n}"), 0, &[0, 1]);
        network.wish(index, wish(1, 7));
        network.run(1_000);
        network.join_round_over(index);
    }
    network.run(20_000);
    assert_eq!(network.active(), [0, 1, 3, 4, 5]);
    network.kill(0);
    network.run(10_000);
    assert_eq!(network.active(), [1, 3, 4, 5]);
    network.kill(1);
    network.run(10_000);
    assert_eq!(network.active(), [3, 4, 5]);
}

/// Nobody may ever answer: then its share is not left alone for ever.
#[test]
fn who_stood_still_and_is_cut_off_goes_on() {
    let mut network = Network::cluster(2, 3);
    network.nodes[1].is_paused = true;
    network.run(30_000);
    network.split(&[1], &[0, 2]);
    network.nodes[1].is_paused = false;
    network.run(5_000);
    assert!(!network.has_event(1, |event| *event == Event::GoOn));
    network.run(25_000);
    assert!(network.has_event(1, |event| *event == Event::Isolated(true)));
    assert!(network.has_event(1, |event| *event == Event::GoOn));
    network.cut.clear();
    network.run(40_000);
    assert_eq!(network.active(), [0, 1, 2]);
}

/// Also who did not find the dead itself knows that it did not leave.
#[test]
fn all_are_told_of_a_crash() {
    let mut network = Network::cluster(5, 4);
    let killed_ms = network.now(2).unix_ms;
    network.kill(2);
    network.run(10_000);
    for index in [0, 1, 3] {
        let is_told = |event: &Event| match event {
            Event::Crashed { name, until_ms, .. } => {
                &**name == "n2" && (until_ms - killed_ms).abs() < 1_000
            }
            _ => false,
        };
        assert!(network.has_event(index, is_told), "n{index}");
        let count = network.nodes[index].events.iter();
        let count = count
            .filter(|(_, event)| matches!(event, Event::Crashed { .. }))
            .count();
        assert_eq!(count, 1);
    }
}

/// A side that is a little smaller must not take itself for the larger one.
#[test]
fn the_smaller_side_of_many_takes_over_nothing() {
    let mut network = Network::cluster(6, 44);
    let (small, large): (Vec<usize>, Vec<usize>) = ((0..21).collect(), (21..44).collect());
    network.split(&small, &large);
    network.run(20_000);
    for index in small.clone() {
        let is_accuser = |event: &Event| matches!(event, Event::Accused { .. });
        assert!(!network.has_event(index, is_accuser), "n{index}");
        assert!(network.has_event(index, |event| *event == Event::Isolated(true)));
    }
    let now_ms = network.now(30).unix_ms;
    let of_large = network.state(30).timeline().view_at(now_ms).members().len();
    assert_eq!(of_large, large.len());
    network.cut.clear();
    network.run(60_000);
    assert_eq!(network.active().len(), 44);
    assert!(large.iter().all(|index| network.deaths(*index).is_empty()));
}
