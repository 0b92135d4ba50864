//! Small simulated clusters with random changes and faults: what the cluster promises holds, and
//! a seed decides everything.
//!
//! A failure names its seed; `replay` in the message of a failed run of the program with the same
//! flags shows it alone.

use ringscrape_simulator::time::{MILLI, SECOND};
use ringscrape_simulator::{Figures, Links, Round, Shape, Simulation};

fn run(shape: Shape) -> Figures {
    match Simulation::new(shape).run(|_, _| {}) {
        Ok(figures) => figures,
        Err(breach) => panic!("{breach}"),
    }
}

fn with_rounds(seed: u64, nodes: usize, rounds: &[Round]) -> Shape {
    Shape {
        rounds: rounds.to_vec(),
        ..Shape::small(seed, nodes)
    }
}

#[test]
fn a_seed_decides_everything() {
    let shape = |seed| {
        let rounds = [Round::Planned { changes: 3 }, Round::Chaos { faults: 10 }];
        with_rounds(seed, 5, &rounds)
    };
    let first = run(shape(1));
    assert_eq!(first.trace, run(shape(1)).trace);
    assert_ne!(first.trace, run(shape(2)).trace);
    assert!(first.slots() > 3_000, "{first}");
}

/// Joins, leaves, weights and settings in a network that loses, copies and delays packets and
/// breaks streams, with clocks up to two seconds apart.
#[test]
fn planned_changes_miss_and_double_nothing() {
    for seed in 0..12 {
        let rounds = [Round::Planned { changes: 6 }; 2];
        let nodes = 5 + seed as usize % 3;
        let shape = Shape {
            links: Links::poor(),
            skew_ms: 1_000,
            start_gap: 700 * MILLI,
            ..with_rounds(seed, nodes, &rounds)
        };
        let figures = run(shape);
        assert_eq!(figures.missed_and_doubled(), (0, 0), "{figures}");
        assert!(figures.slots() > 3_000, "{figures}");
    }
}

#[test]
fn a_crash_costs_only_what_was_not_noticed_yet() {
    for seed in 0..10 {
        let rounds = [
            Round::Crash { nodes: 1 },
            Round::QuickRestart,
            Round::Crash { nodes: 2 },
        ];
        let figures = run(with_rounds(seed, 6, &rounds));
        let (_, longest) = figures.takeovers.middle_and_longest().unwrap();
        assert!(longest < 4 * SECOND, "{figures}");
    }
}

#[test]
fn a_node_that_stood_still_scrapes_nothing_of_others() {
    for seed in 0..10 {
        let rounds = [1_000, 3_000, 30_000].map(|for_ms| Round::Standstill { for_ms });
        run(with_rounds(seed, 5, &rounds));
    }
}

#[test]
fn all_is_well_again_after_anything() {
    for seed in 0..25 {
        let rounds = [Round::Chaos { faults: 20 }; 2];
        let nodes = 5 + seed as usize % 3;
        let figures = run(with_rounds(seed, nodes, &rounds));
        let (_, longest) = figures.agreed.middle_and_longest().unwrap();
        assert!(longest < 60 * SECOND, "{figures}");
    }
}

#[test]
fn fifty_nodes_change_and_crash() {
    let rounds = [Round::Planned { changes: 4 }, Round::Crash { nodes: 1 }];
    let shape = Shape {
        targets: 50_000,
        ..with_rounds(1, 50, &rounds)
    };
    let figures = run(shape);
    let bytes_per_s = figures.datagram_bytes as f64 / (figures.node_time / SECOND) as f64;
    assert!(bytes_per_s < 10_000.0, "{figures}");
}

/// All at once, each tells of what its targets cost: these are as many changes as there are nodes.
/// Costs have a heavy tail; the run fails if a node then has more than 1.10 of its share.
#[test]
fn load_is_level_by_samples_when_all_have_told_of_costs() {
    let shape = Shape {
        targets: 50_000,
        ..with_rounds(3, 40, &[Round::Costs])
    };
    let figures = run(shape);
    assert_eq!(figures.costs_told, 40);
    let (samples, _) = figures.skew.unwrap();
    assert!(samples <= 1.10, "{figures}");
    assert_eq!(figures.missed_and_doubled(), (0, 0), "{figures}");
}

/// What a start of many at once costs each of them does not grow with how many they are, but for
/// the table itself.
#[test]
fn many_nodes_join_at_once() {
    let start = |nodes| {
        let shape = Shape {
            targets: 20_000,
            after: SECOND,
            ..with_rounds(2, nodes, &[])
        };
        let figures = run(shape);
        let (_, longest) = figures.agreed.middle_and_longest().unwrap();
        assert!(longest < 40 * SECOND, "{figures}");
        let (_, stream_bytes, node_time) = figures.start;
        stream_bytes as f64 * longest as f64 / node_time as f64 / nodes as f64
    };
    let (few, many) = (start(40), start(120));
    // Bytes of exchanges by each node for each node: squared if all had to ask all.
    assert!(many < few * 2.0, "{few} {many} bytes per node and node");
}
