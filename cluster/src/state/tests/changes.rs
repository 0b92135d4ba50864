//! Planned changes: every slot is scraped exactly once, whatever gets lost.

use super::network::{Network, wish};
use proptest::prelude::*;

fn changes(seed: u64, lost_percent: u32, skew_ms: i64) {
    let mut network = Network::cluster(seed, 3);
    let from_ms = network.time_ms;
    network.lost_percent = lost_percent;
    network.nodes[1].skew_ms = 0;
    let new = network.start("new", skew_ms, &[0, 1]);
    network.run(2_000);
    network.join_round_over(new);
    network.run(3_000);
    network.wish(new, wish(1, 7));
    network.run(20_000);
    assert_eq!(network.active(), [0, 1, 2, new]);
    network.wish(1, wish(3, 7));
    network.run(500);
    network.wish(2, wish(1, 8));
    network.run(20_000);
    network.leave(0);
    network.run(20_000);
    assert_eq!(network.active(), [1, 2, new]);
    for index in [1, 2, new] {
        network.wish(index, wish(2, 8));
    }
    network.run(20_000);
    network.kill(0);
    network.run(10_000);
    assert_eq!(network.active(), [1, 2, new]);
    let until_ms = network.time_ms - 3_000;
    assert_eq!(network.missed_and_double(from_ms, until_ms), (0, 0));
    for index in 1..4 {
        assert!(network.deaths(index).is_empty());
    }
    network.lost_percent = 0;
    network.run(2_000);
    assert_eq!(network.digests().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn each_slot_once_with_losses(seed in any::<u64>()) {
        changes(seed, 33, 0);
    }

    #[test]
    fn each_slot_once_with_clocks_apart(seed in any::<u64>(), skew_ms in -1_500i64..1_500) {
        changes(seed, 10, skew_ms);
    }

    #[test]
    fn many_join_at_once(seed in any::<u64>(), lost_percent in 0u32..40) {
        let mut network = Network::cluster(seed, 2);
        let from_ms = network.time_ms;
        network.lost_percent = lost_percent;
        for n in 0..5 {
            let index = network.start(&format!("new{n}"), 0, &[0, 1]);
            network.run(n * 137);
            network.wish(index, wish(1, 7));
        }
        for index in 2..7 {
            network.run(400);
            network.join_round_over(index);
        }
        network.run(60_000);
        prop_assert_eq!(network.active(), [0, 1, 2, 3, 4, 5, 6]);
        let until_ms = network.time_ms - 3_000;
        prop_assert_eq!(network.missed_and_double(from_ms, until_ms), (0, 0));
    }

    /// A process that is back before it was missed moves nothing; its own slots meanwhile are
    /// missed.
    #[test]
    fn a_quick_restart_moves_nothing(seed in any::<u64>()) {
        let mut network = Network::cluster(seed, 3);
        let before = network.state(0).timeline().clone();
        network.kill(1);
        network.run(500);
        network.restart(1);
        network.wish(1, wish(1, 7));
        network.run(300);
        network.join_round_over(1);
        network.run(1_000);
        let from_ms = network.time_ms;
        network.run(20_000);
        prop_assert!(network.state(0).timeline().is_same(&before));
        prop_assert_eq!(network.active(), [0, 1, 2]);
        let until_ms = network.time_ms - 1_000;
        prop_assert_eq!(network.missed_and_double(from_ms, until_ms), (0, 0));
    }
}

/// All nodes are restarted one after another, by plan.
#[test]
fn a_rolling_restart_misses_nothing() {
    let mut network = Network::cluster(3, 3);
    network.lost_percent = 33;
    let from_ms = network.time_ms;
    for index in 0..3 {
        network.leave(index);
        network.run(15_000);
        network.kill(index);
        network.run(2_500);
        network.restart(index);
        network.run(2_000);
        network.join_round_over(index);
        network.wish(index, wish(1, 7));
        network.run(15_000);
        assert_eq!(network.active(), [0, 1, 2]);
    }
    let until_ms = network.time_ms - 3_000;
    assert_eq!(network.missed_and_double(from_ms, until_ms), (0, 0));
}
