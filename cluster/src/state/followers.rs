//! What nodes say of their tables in datagrams -> who is known to have the table that this node
//! has, or had.
//!
//! Each datagram carries the digest of its sender's table and a bit for each member of that table,
//! in the order of names: whether the member is known to have had a table with that digest, in the
//! life that the table tells of. A node sets its own bit, and takes over those of others whose
//! digest it has itself: equal tables have equal orders. So a set bit always comes from the member
//! itself, by way of nodes that had the same table, and says that it knows all that is in it. In a
//! few rounds all know it of all, and nobody has to ask everybody.
//!
//! A node that a proposal has reached too late, by its own clock, does not set its bit for a table
//! with that proposal.

use std::collections::VecDeque;
use std::sync::Arc;

/// Tables that this node had are remembered, the newest first: others may be behind.
const EPOCHS_MAX: usize = 16;

/// A name and its life.
pub(super) type Life = (Arc<str>, u64);

/// Who has which of the tables that this node has had.
#[derive(Debug, Default)]
pub(super) struct Followers {
    epochs: VecDeque<Epoch>,
}

/// A table that this node has or had.
#[derive(Debug)]
struct Epoch {
    digest: u64,
    /// Incarnation and version of this node's entry in it.
    own: (u64, u64),
    /// The members in it, sorted by name.
    roster: Arc<[Life]>,
    bits: Vec<u8>,
}

impl Followers {
    /// Of the present table.
    pub(super) fn digest(&self) -> Option<u64> {
        self.epochs.front().map(|epoch| epoch.digest)
    }

    /// Of the present table; a bit for each member.
    pub(super) fn bits(&self) -> &[u8] {
        self.epochs.front().map_or(&[], |epoch| &epoch.bits)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.epochs.clear();
    }

    /// The table is another one. `me`: the place of this node, if it may say that it follows.
    pub(super) fn turn(
        &mut self,
        digest: u64,
        own: (u64, u64),
        roster: Arc<[Life]>,
        me: Option<usize>,
    ) {
        let mut bits = vec![0; roster.len().div_ceil(8)];
        if let Some(me) = me {
            bits[me / 8] |= 1 << (me % 8);
        }
        let epoch = Epoch {
            digest,
            own,
            roster,
            bits,
        };
        self.epochs.push_front(epoch);
        self.epochs.truncate(EPOCHS_MAX);
    }

    /// What a datagram says. Calls `follows` with each life that is now known to have seen the
    /// entry of this node of that incarnation and version.
    pub(super) fn learn(
        &mut self,
        digest: u64,
        bits: &[u8],
        mut follows: impl FnMut(&Life, (u64, u64)),
    ) {
        let mut epochs = self.epochs.iter_mut();
        let epoch = epochs.find(|epoch| epoch.digest == digest);
        let Some(epoch) = epoch.filter(|epoch| epoch.bits.len() == bits.len()) else {
            return;
        };
        for (index, (have, theirs)) in epoch.bits.iter_mut().zip(bits).enumerate() {
            let new = theirs & !*have;
            *have |= new;
            for bit in (0..8).filter(|bit| new >> bit & 1 == 1) {
                if let Some(life) = epoch.roster.get(index * 8 + bit) {
                    follows(life, epoch.own);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn roster(count: usize) -> Arc<[Life]> {
        (0..count).map(|n| (format!("n{n:03}").into(), 1)).collect()
    }

    proptest! {
        /// Whatever datagrams are passed on in whatever order: who is known to follow has itself
        /// had the table; and when all have heard all, all are known.
        #[test]
        fn only_who_follows_is_known_to(
            count in 2usize..40,
            steps in prop::collection::vec((any::<u16>(), any::<u16>(), any::<bool>()), 0..300),
        ) {
            let mut nodes: Vec<Followers> = (0..count).map(|_| Followers::default()).collect();
            let mut digests = vec![1u64; count];
            for (index, node) in nodes.iter_mut().enumerate() {
                node.turn(1, (1, 1), roster(count), Some(index));
            }
            for (from, to, is_change) in steps {
                let (from, to) = (from as usize % count, to as usize % count);
                if is_change && digests[from] == 1 && from != 0 {
                    // Its clock says that it is too late for what is new.
                    digests[from] = 2;
                    nodes[from].turn(2, (1, 2), roster(count), None);
                }
                let (digest, bits) = (nodes[from].digest().unwrap(), nodes[from].bits().to_vec());
                nodes[to].learn(digest, &bits, |(name, _), own| {
                    let who: usize = name[1..].parse().unwrap();
                    assert!(own == (1, 1), "node {who} has not said so");
                });
            }
            let mut known = vec![1; count];
            for _ in 0..2 {
                for from in 0..count {
                    let bits = nodes[from].bits().to_vec();
                    let digest = nodes[from].digest().unwrap();
                    nodes[0].learn(digest, &bits, |_, _| {});
                }
            }
            for (bit, known) in known.iter_mut().enumerate() {
                *known = nodes[0].bits()[bit / 8] >> (bit % 8) & 1;
            }
            let still = digests.iter().filter(|digest| **digest == 1).count();
            prop_assert!(known.iter().filter(|bit| **bit == 1).count() >= still);
        }
    }

    #[test]
    fn another_order_says_nothing() {
        let mut followers = Followers::default();
        followers.turn(1, (1, 1), roster(20), Some(0));
        let never = |_: &Life, _| panic!("said something");
        followers.learn(2, &[u8::MAX; 3], never);
        followers.learn(1, &[u8::MAX; 2], never);
        let mut count = 0;
        followers.learn(1, &[u8::MAX; 3], |_, _| count += 1);
        assert_eq!(count, 19, "of the bits past the last member none");
    }
}
