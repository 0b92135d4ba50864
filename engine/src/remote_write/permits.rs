//! What is allowed for an endpoint in the whole process + each shard's backlog -> requests that
//! each shard may have on their way.
//!
//! Every shard may have at least one, so that none needs to ask before it sends its first; where
//! that alone is more than the endpoint's maximum, requests wait their turn at the network side,
//! which holds the maximum strictly.

/// Deals out `in_flight_max` by backlog: `allowances[i] >= 1`, and their sum is at most
/// `max(in_flight_max, backlogs.len())`.
///
/// What is left after one for each shard goes in proportion to `backlogs` (samples waiting), the
/// rest of the division to the largest; without any backlog it is dealt out evenly.
pub fn deal(in_flight_max: u32, backlogs: &[u64]) -> Vec<u32> {
    let shards = backlogs.len() as u64;
    let spare = u64::from(in_flight_max).saturating_sub(shards);
    let total: u128 = backlogs.iter().map(|backlog| u128::from(*backlog)).sum();
    let share = |backlog: u64| match total {
        0 => spare / shards.max(1),
        _ => (u128::from(spare) * u128::from(backlog) / total) as u64,
    };
    let mut allowances: Vec<u32> = backlogs
        .iter()
        .map(|backlog| 1 + share(*backlog) as u32)
        .collect();
    let dealt: u64 = allowances
        .iter()
        .map(|allowance| u64::from(*allowance))
        .sum();
    let rest = u64::from(in_flight_max).saturating_sub(dealt) as usize;
    let mut order: Vec<usize> = (0..backlogs.len()).collect();
    order.sort_by_key(|shard| std::cmp::Reverse(backlogs[*shard]));
    for shard in order.into_iter().take(rest) {
        allowances[shard] += 1;
    }
    allowances
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn examples() {
        assert_eq!(deal(50, &[0]), [50]);
        assert_eq!(deal(8, &[0, 0, 0]), [3, 3, 2]);
        assert_eq!(deal(10, &[900, 100]), [9, 1]);
        assert_eq!(deal(1, &[5, 7, 0]), [1, 1, 1]);
        assert_eq!(deal(4, &[0, 7]), [1, 3]);
        assert_eq!(deal(4, &[]), Vec::<u32>::new());
    }

    proptest! {
        #[test]
        fn everyone_has_one_and_the_maximum_is_used_up(
            max in 1_u32..200,
            backlogs in prop::collection::vec(prop_oneof![Just(0), any::<u64>()], 1..20),
        ) {
            let allowances = deal(max, &backlogs);
            prop_assert!(allowances.iter().all(|allowance| *allowance >= 1));
            let sum: u32 = allowances.iter().sum();
            prop_assert_eq!(sum, max.max(backlogs.len() as u32));
        }
    }
}
