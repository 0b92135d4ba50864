//! Planned changes: every slot is scraped exactly once, whatever gets lost.

use super::network::{JOB, Network, START_MS, wish};
use crate::member::JobVersion;
use crate::state::Event;
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

/// What is agreed lies ahead of all clocks, also of one that is minutes ahead and that the others
/// have not met yet.
#[test]
fn no_change_holds_in_the_past_of_anybody() {
    for seed in 0..5 {
        let mut network = Network::cluster(seed, 3);
        network.nodes[2].skew_ms = 200_000;
        let from_ms = network.time_ms;
        let new = network.start("new", 0, &[0, 1]);
        network.run(1_000);
        network.join_round_over(new);
        network.wish(new, wish(1, 7));
        network.run(900_000);
        let skew_ms = network.nodes[2].skew_ms;
        let mut agreed = 0;
        for index in [0, 1, new] {
            for (at_ms, event) in &network.nodes[index].events {
                if let Event::Agreed {
                    from_ms: effect_ms, ..
                } = event
                    && *at_ms > from_ms
                {
                    agreed += 1;
                    let clock_ms = START_MS + *at_ms as i64 + skew_ms;
                    assert!(*effect_ms > clock_ms, "{} ms late", clock_ms - effect_ms);
                }
            }
        }
        assert!(agreed > 0);
        assert_eq!(network.active(), [0, 1, 2, new]);
    }
}

/// A node that is restarted has not changed its settings: a tie stays as it was decided.
#[test]
fn a_restart_is_no_newer_setting() {
    let mut network = Network::cluster(8, 2);
    network.run(5_000);
    let newer = |hash, since_ms| {
        let mut wish = wish(1, hash);
        wish.jobs = wish
            .jobs
            .iter()
            .map(|job| JobVersion { since_ms, ..*job })
            .collect();
        wish
    };
    let changed_ms = network.now(1).unix_ms;
    network.wish(1, newer(8, changed_ms));
    network.run(15_000);
    let hash = |network: &mut Network| {
        let now_ms = network.now(0).unix_ms;
        let view = network.state(0).timeline().view_at(now_ms).clone();
        view.job(JOB).map(|ring| ring.config_hash)
    };
    assert_eq!(hash(&mut network), Some(8), "the newer of two");
    for is_quick in [true, false] {
        network.kill(0);
        network.run(if is_quick { 300 } else { 20_000 });
        network.nodes[0].set_join(&[1]);
        network.restart(0);
        let started_ms = network.now(0).unix_ms;
        network.wish(0, newer(7, started_ms));
        network.run(300);
        network.join_round_over(0);
        network.run(20_000);
        assert_eq!(network.active(), [0, 1]);
        assert_eq!(hash(&mut network), Some(8));
    }
}
