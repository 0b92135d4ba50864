//! Members with weights -> who owns which key: consistent hashing.
//!
//! Each member puts 128 tokens per unit of weight on a circle of 64-bit positions; a key belongs
//! to the first token at or after it. So a member that comes or goes moves only its own keys, about
//! `1/N` of all.
//!
//! Source: Karger et al., Consistent Hashing and Random Trees, 1997.

use crate::key::TargetKey;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// Tokens per unit of weight.
pub const TOKENS_PER_WEIGHT: u32 = 128;

/// Immutable; the same for the same members in any order, on every node.
#[derive(Debug, Clone)]
pub struct Ring {
    /// Sorted, unique.
    names: Vec<String>,
    /// Sorted by position, equal positions by member. `member` is an index into `names`.
    tokens: Vec<Token>,
    /// `first[b]`: index of the first token whose position's leading bits are at least `b`; one
    /// more entry than there are values of the leading bits. About one token per bucket.
    first: Vec<u32>,
    /// How many low bits of a position are cut off to get its bucket.
    shift: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Token {
    position: u64,
    member: u32,
}

impl Ring {
    /// `members`: name and weight; a weight of 0 owns nothing. Of a repeated name the largest
    /// weight counts.
    pub fn new<N: Into<String>>(members: impl IntoIterator<Item = (N, u32)>) -> Self {
        let mut weights = BTreeMap::<String, u32>::new();
        for (name, weight) in members {
            let have = weights.entry(name.into()).or_default();
            *have = weight.max(*have);
        }
        weights.retain(|_, weight| *weight > 0);
        let mut tokens = Vec::new();
        for (member, (name, weight)) in weights.iter().enumerate() {
            for index in 0..weight.saturating_mul(TOKENS_PER_WEIGHT) {
                let position = token_position(name, index);
                tokens.push(Token {
                    position,
                    member: member as u32,
                });
            }
        }
        tokens.sort_unstable();
        let bits = tokens.len().next_power_of_two().trailing_zeros().max(1);
        let shift = u64::BITS - bits;
        let mut first = Vec::with_capacity((1 << bits) + 1);
        let mut index = 0;
        for bucket in 0..1u64 << bits {
            while index < tokens.len() && tokens[index].position >> shift < bucket {
                index += 1;
            }
            first.push(index as u32);
        }
        first.push(tokens.len() as u32);
        Self {
            names: weights.into_keys().collect(),
            tokens,
            first,
            shift,
        }
    }

    /// Names of the members with a weight above 0, sorted.
    pub fn members(&self) -> &[String] {
        &self.names
    }

    /// The member that owns `key`; `None` if there are no members. Constant time on average.
    pub fn owner(&self, key: TargetKey) -> Option<&str> {
        let index = self.owner_index(key)?;
        Some(&self.names[index as usize])
    }

    /// The same, as the index of its name.
    pub fn owner_index(&self, key: TargetKey) -> Option<u32> {
        let token = self.tokens.get(self.index_of(key));
        token.or(self.tokens.first()).map(|token| token.member)
    }

    /// The members (by the index of their names) at and after `key`, once round the ring; each as
    /// often as it has tokens.
    pub(crate) fn around(&self, key: TargetKey) -> impl Iterator<Item = u32> {
        let start = self.index_of(key);
        let around = self.tokens[start..].iter().chain(&self.tokens[..start]);
        around.map(|token| token.member)
    }

    /// The first `replicas` different members at or after `key`, the owner first; fewer if there
    /// are fewer members.
    pub fn owners(&self, key: TargetKey, replicas: usize) -> Vec<&str> {
        let wanted = replicas.min(self.names.len());
        let mut found = Vec::<u32>::with_capacity(wanted);
        let start = self.index_of(key);
        let around = self.tokens[start..].iter().chain(&self.tokens[..start]);
        for token in around {
            if found.len() == wanted {
                break;
            }
            if !found.contains(&token.member) {
                found.push(token.member);
            }
        }
        found
            .into_iter()
            .map(|member| self.names[member as usize].as_str())
            .collect()
    }

    /// Which part of all positions each member owns, by name, sorted; the parts add up to 1.
    pub fn shares(&self) -> Vec<(&str, f64)> {
        let mut shares: Vec<(&str, f64)> =
            self.names.iter().map(|name| (name.as_str(), 0.0)).collect();
        let Some(last) = self.tokens.last() else {
            return shares;
        };
        let mut before = last.position;
        for token in &self.tokens {
            let part = token.position.wrapping_sub(before) as f64;
            shares[token.member as usize].1 += part / 2f64.powi(64);
            before = token.position;
        }
        shares
    }

    /// Index of the first token at or after `key`; `tokens.len()` if it is the first one again.
    fn index_of(&self, key: TargetKey) -> usize {
        let bucket = (key.0 >> self.shift) as usize;
        let from = self.first[bucket] as usize;
        let to = self.first[bucket + 1] as usize;
        from + self.tokens[from..to].partition_point(|token| token.position < key.0)
    }
}

/// XXH3-64, seed 0, of the name's bytes and the index as u32, little-endian.
fn token_position(name: &str, index: u32) -> u64 {
    let mut bytes = Vec::with_capacity(name.len() + 4);
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&index.to_le_bytes());
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(count: u64) -> impl Iterator<Item = TargetKey> {
        (0..count).map(|n| TargetKey::new("job", &format!("http://host-{n}/metrics"), []))
    }

    fn named(count: u32) -> Vec<(String, u32)> {
        (0..count).map(|n| (format!("node-{n}"), 1)).collect()
    }

    /// If this fails, targets move when the release changes.
    #[test]
    fn owners_never_change() {
        let ring = Ring::new([("a", 1), ("b", 2), ("c", 1)]);
        let owners: String = keys(32).filter_map(|key| ring.owner(key)).collect();
        assert_eq!(owners, "ccbacbacbbaccaccbcbcaabbbccabcab");
        assert_eq!(token_position("a", 1), 10_018_989_734_678_488_518);
    }

    #[test]
    fn an_empty_ring_owns_nothing() {
        let ring = Ring::new([("a", 0)]);
        assert_eq!(ring.owner(TargetKey(1)), None);
        assert!(ring.owners(TargetKey(1), 2).is_empty());
        assert!(Ring::new(Vec::<(String, u32)>::new()).members().is_empty());
    }

    #[test]
    fn shares_are_what_keys_see() {
        let ring = Ring::new([("a", 1), ("b", 3)]);
        let shares = ring.shares();
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        for (name, share) in shares {
            let owned = keys(20_000).filter(|key| ring.owner(*key) == Some(name));
            let seen = owned.count() as f64 / 20_000.0;
            assert!((seen - share).abs() < 0.02, "{name}: {seen}, share {share}");
        }
        assert!(Ring::new([("a", 0)]).shares().is_empty());
    }

    #[test]
    fn members_are_balanced_by_weight() {
        let mut members = named(10);
        members.push(("large".into(), 4));
        let ring = Ring::new(members);
        let mut counts = BTreeMap::<&str, u32>::new();
        let total = 50_000u32;
        for key in keys(total.into()) {
            *counts.entry(ring.owner(key).unwrap()).or_default() += 1;
        }
        for (name, count) in counts {
            let fair = total / 14 * if name == "large" { 4 } else { 1 };
            let share = f64::from(count) / f64::from(fair);
            assert!((0.7..1.3).contains(&share), "{name}: {share}");
        }
    }

    /// Plain model of a lookup: the smallest position at or after the key, else the smallest.
    fn model(members: &[(String, u32)], key: TargetKey) -> Option<String> {
        let mut tokens = Vec::new();
        for (name, weight) in members {
            for index in 0..weight * TOKENS_PER_WEIGHT {
                tokens.push((token_position(name, index), name.clone()));
            }
        }
        tokens.sort();
        let at = tokens
            .iter()
            .find(|(position, _)| *position >= key.0)
            .or(tokens.first());
        at.map(|(_, name)| name.clone())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn lookups_agree_with_the_model(
            members in prop::collection::btree_map("[a-e]{1,3}", 0u32..4, 0..8),
            raw in prop::collection::vec(any::<u64>(), 1..20),
        ) {
            let members: Vec<_> = members.into_iter().collect();
            let ring = Ring::new(members.clone());
            let mut reversed = members.clone();
            reversed.reverse();
            let same = Ring::new(reversed);
            let edges = ring.tokens.iter().take(5).flat_map(|t| {
                [t.position, t.position.wrapping_add(1), t.position.wrapping_sub(1)]
            });
            for key in raw.into_iter().chain(edges).chain([0, u64::MAX]).map(TargetKey) {
                prop_assert_eq!(ring.owner(key).map(str::to_owned), model(&members, key));
                prop_assert_eq!(ring.owner(key), same.owner(key));
                let owners = ring.owners(key, 3);
                prop_assert_eq!(owners.first().copied(), ring.owner(key));
                prop_assert_eq!(owners.len(), ring.members().len().min(3));
                let unique: std::collections::BTreeSet<_> = owners.iter().collect();
                prop_assert_eq!(unique.len(), owners.len());
            }
        }

        /// A member that joins takes keys from others and moves none between them; its share is
        /// about 1/N. Leaving is the same read backwards.
        #[test]
        fn a_change_moves_only_what_it_must(count in 1u32..20, name in "[a-z]{1,8}") {
            let before = Ring::new(named(count));
            let mut members = named(count);
            members.push((name.clone(), 1));
            let after = Ring::new(members);
            let total = 4_000u32;
            let mut moved = 0u32;
            for key in keys(total.into()) {
                if before.owner(key) != after.owner(key) {
                    prop_assert_eq!(after.owner(key), Some(name.as_str()));
                    moved += 1;
                }
                let (two_before, two_after) = (before.owners(key, 2), after.owners(key, 2));
                let kept = two_after.iter().filter(|owner| two_before.contains(owner)).count();
                prop_assert!(kept + 1 >= two_after.len());
            }
            let fair = f64::from(total) / f64::from(count + 1);
            prop_assert!(f64::from(moved) < fair * 1.6 + 20.0, "moved {moved} of {total}, fair {fair}");
        }

        #[test]
        fn more_weight_only_attracts(count in 2u32..10, weight in 1u32..4) {
            let ring = |weight| {
                let mut members = named(count);
                members.push(("x".into(), weight));
                Ring::new(members)
            };
            let (before, after) = (ring(weight), ring(weight + 1));
            for key in keys(1_000) {
                prop_assert!(
                    before.owner(key) == after.owner(key) || after.owner(key) == Some("x")
                );
            }
        }
    }
}
