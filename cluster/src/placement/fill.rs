//! Loads and bounds of members + an amount -> how much each takes, and which buckets of positions.
//!
//! Positions are cut into equal buckets, and each bucket goes to the first member at or after it on
//! the ring that still has room.
//!
//! Source: Mirrokni, Thorup, Zadimoghaddam, Consistent Hashing with Bounded Loads, 2016.

use super::NOBODY;
use crate::key::TargetKey;
use crate::ring::Ring;
use crate::spot::place_of;

/// By how much a member's share may be exceeded in buckets.
const BUCKET_SLACK: f64 = 0.02;
/// Leading bits of a position that tell its bucket.
const BUCKET_BITS: u32 = 16;
pub(super) const BUCKETS: usize = 1 << BUCKET_BITS;
/// Steps to the common level: each halves what is not known of it.
const LEVEL_STEPS: u32 = 100;

/// A member that takes a part of an amount.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taker {
    /// Above 0.
    pub(super) weight: f64,
    /// What it has already.
    pub(super) load: f64,
    /// What it has at most, in all.
    pub(super) most: f64,
}

impl Taker {
    /// How much it takes if it is filled up to a level by weight.
    fn room(&self, level: f64) -> f64 {
        let least = level * self.weight;
        (least.min(self.most) - self.load).max(0.0)
    }
}

/// How much of `amount` each takes: all whose load is not above it come to one level by weight, as
/// far as they may. Less than all of it if no more has room.
pub(super) fn rooms(takers: &[Taker], amount: f64) -> Vec<f64> {
    let at = |level: f64| takers.iter().map(move |taker| taker.room(level));
    let alone = |taker: &Taker| (taker.load.max(0.0) + amount) / taker.weight;
    // At this level one of them would take all of it, if it may.
    let (mut low, mut high) = (0.0, takers.iter().map(alone).fold(0.0, f64::max));
    if at(f64::INFINITY).sum::<f64>() <= amount {
        return at(f64::INFINITY).collect();
    }
    if at(high).sum::<f64>() < amount {
        // Who may take no more leaves it to others, who come to a higher level.
        high *= takers.len() as f64 + 1.0;
    }
    for _ in 0..LEVEL_STEPS {
        let middle = low + (high - low) / 2.0;
        match at(middle).sum::<f64>() < amount {
            true => low = middle,
            false => high = middle,
        }
    }
    at(high).collect()
}

/// Which member of a ring, by its place among `takers`, gets each bucket of `amount`; `NOBODY`
/// where none has room. And how much each takes.
///
/// `index`: of the replicas that are dealt out. `has_lower`: whether a member has a lower one of a
/// bucket. Who has none gets the bucket if need be, even if that is more than a level load, but
/// not more than it may.
pub(super) fn buckets(
    ring: &Ring,
    takers: &[Taker],
    amount: f64,
    index: u8,
    has_lower: impl Fn(usize, u32) -> bool,
) -> (Vec<u32>, Vec<f64>) {
    let mut rooms = rooms(takers, amount);
    let of_all = BUCKETS as f64 / amount;
    let is_enough = rooms.iter().sum::<f64>() >= amount * (1.0 - 1e-9);
    let most = |taker: &Taker| ((taker.most - taker.load).max(0.0) * of_all).floor();
    let count = |(taker, room): (&Taker, &f64)| {
        let wanted = match is_enough {
            true => (room * of_all * (1.0 + BUCKET_SLACK)).ceil(),
            false => (room * of_all).floor(),
        };
        wanted.min(most(taker)) as u32
    };
    let left: Vec<u32> = takers.iter().zip(&rooms).map(count).collect();
    let above = |(taker, left): (&Taker, &u32)| (most(taker) - f64::from(*left)) as u32;
    let mut above = Left::new(takers.iter().zip(&left).map(above).collect());
    let mut left = Left::new(left);
    let mut owners = vec![NOBODY; BUCKETS];
    for number in 0..BUCKETS as u64 {
        // Neighbours in turn would fill up the members one after the other.
        let number = number.reverse_bits() >> (u64::BITS - BUCKET_BITS);
        let position = place_of(TargetKey(number << (u64::BITS - BUCKET_BITS)), index);
        if left.open.is_empty() {
            break;
        }
        let may = |at: u32| index == 0 || !has_lower(number as usize, at);
        let mut owner = left.take(ring, position, may);
        if owner.is_none() && index > 0 {
            owner = above.take(ring, position, may);
        }
        owners[number as usize] = owner.unwrap_or(NOBODY);
    }
    if index > 0 {
        // What members that have no lower one had to take is not level.
        rooms.fill(0.0);
        for at in owners.iter().filter(|at| **at != NOBODY) {
            rooms[*at as usize] += 1.0 / of_all;
        }
    }
    (owners, rooms)
}

/// How many buckets each member of a ring may still get.
struct Left {
    counts: Vec<u32>,
    /// The members that may get any.
    open: Vec<u32>,
}

impl Left {
    fn new(counts: Vec<u32>) -> Self {
        let all = 0..counts.len() as u32;
        Self {
            open: all.filter(|at| counts[*at as usize] > 0).collect(),
            counts,
        }
    }

    /// Gives a bucket to the first at or after a position that may have it.
    fn take(&mut self, ring: &Ring, position: TargetKey, may: impl Fn(u32) -> bool) -> Option<u32> {
        // Few have lower replicas of a bucket, so this is soon known, and a way once round the ring
        // is long.
        if !self.open.iter().any(|at| may(*at)) {
            return None;
        }
        let mut members = ring.around(position);
        let at = members.find(|at| self.counts[*at as usize] > 0 && may(*at))?;
        self.counts[at as usize] -= 1;
        if self.counts[at as usize] == 0 {
            self.open.retain(|open| *open != at);
        }
        Some(at)
    }
}

/// The bucket of a target.
pub(super) fn bucket_of(key: TargetKey) -> usize {
    (key.0 >> (u64::BITS - BUCKET_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_amount_fills_up_to_one_level(
            members in prop::collection::vec((1u32..9, 0u32..1_000, 0u32..2_000), 1..9),
            amount in 1u32..5_000,
            is_bounded: bool,
        ) {
            let taker = |(weight, load, most): (u32, u32, u32)| Taker {
                weight: weight.into(),
                load: load.into(),
                most: if is_bounded { most.into() } else { f64::INFINITY },
            };
            let takers: Vec<Taker> = members.into_iter().map(taker).collect();
            let rooms = rooms(&takers, amount.into());
            let most: f64 = takers.iter().map(|t| (t.most - t.load).max(0.0)).sum();
            let sum: f64 = rooms.iter().sum();
            prop_assert!((sum - f64::from(amount).min(most)).abs() < 1e-6, "{sum}");
            let after = |at: usize| (takers[at].load + rooms[at]) / takers[at].weight;
            let is_full = |at: usize| takers[at].load + rooms[at] >= takers[at].most - 1e-6;
            for at in 0..takers.len() {
                let filled = takers[at].load + rooms[at];
                prop_assert!(rooms[at] == 0.0 || filled <= takers[at].most + 1e-6);
                // Nobody is above one that has room left, unless it was before.
                for other in (0..takers.len()).filter(|other| !is_full(*other)) {
                    prop_assert!(rooms[at] == 0.0 || after(at) <= after(other) + 1e-6);
                }
            }
        }
    }
}
