//! What of a target decides who scrapes it: its place, its zone, which of its replicas it is.
//!
//! A target that several nodes scrape is as many replicas. Each has a position of its own on the
//! ring, so that a member that comes or goes moves few of them; and no member gets two.

use crate::key::TargetKey;
use crate::member::ZoneId;
use serde::{Deserialize, Serialize};

/// Most replicas of a target.
pub const REPLICAS_MAX: u8 = 8;

/// How far on along the ring the next replica begins: the part of the golden ratio, so that the
/// positions of a few replicas are far apart.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which of the nodes that scrape a target is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// From 0 on.
    pub index: u8,
    /// How many nodes scrape the target, if there are as many.
    pub count: u8,
}

/// What decides who scrapes a target, or one replica of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spot {
    /// Position on the ring.
    pub key: TargetKey,
    /// Where it is.
    pub zone: ZoneId,
    /// Which one.
    pub replica: Replica,
}

impl Replica {
    /// Of a target that one node scrapes.
    pub const ONLY: Self = Self { index: 0, count: 1 };

    /// Of `count` replicas, at least 1 and at most [`REPLICAS_MAX`].
    pub fn of(count: u8) -> impl Iterator<Item = Self> + Clone {
        let count = count.clamp(1, REPLICAS_MAX);
        (0..count).map(move |index| Self { index, count })
    }
}

impl Default for Replica {
    fn default() -> Self {
        Self::ONLY
    }
}

impl Spot {
    /// `place`: equal for all replicas of a target.
    pub fn new(place: TargetKey, zone: ZoneId, replica: Replica) -> Self {
        Self {
            key: place_of(place, replica.index),
            zone,
            replica,
        }
    }

    /// Of a target that has no zone and that one node scrapes.
    pub fn plain(place: TargetKey) -> Self {
        Self::new(place, ZoneId::NONE, Replica::ONLY)
    }

    /// What all replicas have in common.
    pub fn place(&self) -> TargetKey {
        let back = STEP.wrapping_mul(self.replica.index.into());
        TargetKey(self.key.0.wrapping_sub(back))
    }

    /// Another replica of the same target.
    pub(crate) fn sibling(&self, index: u8) -> Self {
        let replica = Replica {
            index,
            ..self.replica
        };
        Self::new(self.place(), self.zone, replica)
    }

    /// All other replicas; none of a target that one node scrapes.
    pub(crate) fn siblings(self) -> impl Iterator<Item = Self> {
        let all = 0..self.replica.count.min(REPLICAS_MAX);
        all.filter(move |index| *index != self.replica.index)
            .map(move |index| self.sibling(index))
    }
}

/// Where on the ring a replica of a place begins.
pub(crate) fn place_of(place: TargetKey, index: u8) -> TargetKey {
    TargetKey(place.0.wrapping_add(STEP.wrapping_mul(index.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, replicas move when the release changes.
    #[test]
    fn positions_never_change() {
        let place = TargetKey(u64::MAX);
        let keys: Vec<u64> = Replica::of(3)
            .map(|replica| Spot::new(place, ZoneId::NONE, replica).key.0)
            .collect();
        assert_eq!(
            keys,
            [u64::MAX, 0x9e37_79b9_7f4a_7c14, 0x3c6e_f372_fe94_f829]
        );
    }

    #[test]
    fn replicas_know_each_other() {
        for replica in Replica::of(REPLICAS_MAX) {
            let spot = Spot::new(TargetKey(77), ZoneId(3), replica);
            assert_eq!(spot.place(), TargetKey(77));
            let others: Vec<Spot> = spot.siblings().collect();
            assert_eq!(others.len(), usize::from(REPLICAS_MAX) - 1);
            for other in others {
                assert_ne!(other.key, spot.key);
                assert_eq!(other.sibling(replica.index), spot);
            }
        }
        assert_eq!(Spot::plain(TargetKey(5)).siblings().count(), 0);
    }
}
