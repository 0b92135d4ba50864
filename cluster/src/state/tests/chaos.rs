//! Whatever happens: when it is over the nodes agree, and each slot is scraped once.

use super::network::{Network, wish};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Happening {
    Start,
    Kill(prop::sample::Index),
    Restart(prop::sample::Index),
    Leave(prop::sample::Index),
    Wish(prop::sample::Index, u32),
    Pause(prop::sample::Index),
    GoOn,
    /// Each node is on the side that its bit says.
    Split(u8),
    CutOneWay(prop::sample::Index, prop::sample::Index),
    Heal,
    Lose(u32),
}

fn happening() -> impl Strategy<Value = Happening> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        Just(Happening::Start),
        index().prop_map(Happening::Kill),
        index().prop_map(Happening::Restart),
        index().prop_map(Happening::Leave),
        (index(), 1u32..4).prop_map(|(index, weight)| Happening::Wish(index, weight)),
        index().prop_map(Happening::Pause),
        Just(Happening::GoOn),
        any::<u8>().prop_map(Happening::Split),
        (index(), index()).prop_map(|(from, to)| Happening::CutOneWay(from, to)),
        Just(Happening::Heal),
        (0u32..50).prop_map(Happening::Lose),
    ]
}

fn apply(network: &mut Network, happening: Happening) {
    let count = network.nodes.len();
    let all: Vec<usize> = (0..count).collect();
    match happening {
        Happening::Start if count < 8 => {
            let new = network.start(&format!("n{count}"), 0, &all);
            network.wish(new, wish(1, 7));
        }
        Happening::Start | Happening::GoOn => {
            network
                .nodes
                .iter_mut()
                .for_each(|node| node.is_paused = false);
        }
        Happening::Kill(index) => network.kill(index.index(count)),
        Happening::Restart(index) => {
            let index = index.index(count);
            network.nodes[index].set_join(&all);
            network.restart(index);
            network.wish(index, wish(1, 7));
        }
        Happening::Leave(index) => {
            let index = index.index(count);
            if network.nodes[index].state.is_some() {
                network.leave(index);
            }
        }
        Happening::Wish(index, weight) => {
            let index = index.index(count);
            if network.nodes[index].state.is_some() {
                network.wish(index, wish(weight, 7));
            }
        }
        Happening::Pause(index) => network.nodes[index.index(count)].is_paused = true,
        Happening::Split(bits) => {
            let side = |one: bool| {
                all.iter()
                    .copied()
                    .filter(move |n| (bits >> n & 1 == 1) == one)
            };
            let (a, b): (Vec<_>, Vec<_>) = (side(false).collect(), side(true).collect());
            network.split(&a, &b);
        }
        Happening::CutOneWay(from, to) => {
            network.cut.insert((from.index(count), to.index(count)));
        }
        Happening::Heal => network.cut.clear(),
        Happening::Lose(percent) => network.lost_percent = percent,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn all_agree_when_it_is_over(
        seed in any::<u64>(),
        happenings in prop::collection::vec((happening(), 10u64..12_000), 1..14),
    ) {
        let mut network = Network::cluster(seed, 4);
        for (happening, for_ms) in happenings {
            apply(&mut network, happening);
            network.run(for_ms);
            for index in 0..network.nodes.len() {
                if network.nodes[index].state.is_some() && !network.nodes[index].is_paused {
                    network.join_round_over(index);
                }
            }
        }
        network.cut.clear();
        network.lost_percent = 0;
        let all: Vec<usize> = (0..network.nodes.len()).collect();
        for index in &all {
            network.nodes[*index].is_paused = false;
            if network.nodes[*index].state.is_none() {
                network.nodes[*index].set_join(&all);
                network.restart(*index);
            }
            network.wish(*index, wish(1, 7));
        }
        network.run(3_000);
        for index in &all {
            network.join_round_over(*index);
        }
        network.run(120_000);
        prop_assert_eq!(network.active(), all);
        prop_assert_eq!(network.digests().len(), 1);
        let from_ms = network.time_ms;
        network.run(20_000);
        prop_assert_eq!(network.missed_and_double(from_ms, network.time_ms - 1_000), (0, 0));
    }
}
