//! Which entries of a layout a walk has used, and where in the layout a line stands.

use super::layout::Layout;

/// How many slots of the index are tried; a line that collides more often counts as new.
const PROBES_MAX: usize = 64;

/// A set of raw indices. Empty as long as a body follows its layout.
#[derive(Debug, Default)]
pub(crate) struct Used {
    words: Vec<u64>,
}

impl Used {
    /// Removes all and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.words.clear();
    }

    /// Bytes of memory that this holds.
    pub(super) fn memory_bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// Adds `from..to`.
    pub(crate) fn insert(&mut self, from: u32, to: u32) {
        let words = (to as usize).div_ceil(64);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        let (mut at, to) = (from as usize, to as usize);
        while at < to {
            let end = (at | 63).min(to - 1);
            let count = end - at + 1;
            let ones = if count == 64 {
                u64::MAX
            } else {
                (1 << count) - 1
            };
            self.words[at / 64] |= ones << (at % 64);
            at = end + 1;
        }
    }

    /// Whether `index` is in the set.
    pub(crate) fn contains(&self, index: u32) -> bool {
        let word = self.words.get(index as usize / 64).copied().unwrap_or(0);
        word >> (index % 64) & 1 == 1
    }

    /// How many indices from `index` on are surely not in the set: at most 64.
    pub(crate) fn free_from(&self, index: u32) -> u32 {
        let word = self.words.get(index as usize / 64).copied().unwrap_or(0);
        (word >> (index % 64)).trailing_zeros().min(64 - index % 64)
    }

    /// The first index from `index` on that is not in the set; looks at 64 words at most.
    pub(crate) fn next_free(&self, index: u32) -> Option<u32> {
        let first = index as usize / 64;
        for at in first..first + 64 {
            let mut word = self.words.get(at).copied().unwrap_or(0);
            if at == first {
                word |= (1 << (index % 64)) - 1;
            }
            if word != u64::MAX {
                return Some(at as u32 * 64 + word.trailing_ones());
            }
        }
        None
    }
}

/// Prefix hash -> raw index, over one layout. Built when a line is neither the expected one nor
/// near it.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Hash and raw index plus one; zero is free. The length is a power of two.
    slots: Vec<(u32, u32)>,
}

impl Index {
    /// Removes all and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
    }

    /// Bytes of memory that this holds.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<(u32, u32)>()
    }

    /// Whether `build` was called since the last `clear`.
    pub(crate) fn is_built(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Indexes all entries of `layout`.
    pub(crate) fn build(&mut self, layout: &Layout) {
        let capacity = (layout.len() as usize * 2).next_power_of_two().max(16);
        self.slots.clear();
        self.slots.resize(capacity, (0, 0));
        let mut raw = 0;
        for run in &layout.runs {
            for index in run.from..run.to {
                raw += 1;
                let hash = run.block.hashes[index as usize] as u32;
                let free = self.probe(hash).find(|&slot| self.slots[slot].1 == 0);
                if let Some(slot) = free {
                    self.slots[slot] = (hash, raw);
                }
            }
        }
    }

    /// The first entry for which `accept` holds among those with this hash.
    pub(crate) fn find(&self, hash: u32, mut accept: impl FnMut(u32) -> bool) -> Option<u32> {
        for slot in self.probe(hash) {
            let (have, raw) = self.slots[slot];
            if raw == 0 {
                return None;
            }
            if have == hash && accept(raw - 1) {
                return Some(raw - 1);
            }
        }
        None
    }

    fn probe(&self, hash: u32) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        (0..PROBES_MAX).map(move |step| (hash as usize + step) & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn used_is_a_set(
            ranges in prop::collection::vec((0u32..500, 0u32..200), 0..8),
            probes in prop::collection::vec(0u32..700, 0..40),
        ) {
            let mut used = Used::default();
            let mut model = BTreeSet::new();
            for (from, len) in ranges {
                if len > 0 {
                    used.insert(from, from + len);
                }
                model.extend(from..from + len);
            }
            for index in probes {
                prop_assert_eq!(used.contains(index), model.contains(&index));
                let free = used.free_from(index);
                prop_assert!(free <= 64);
                prop_assert!((index..index + free).all(|at| !model.contains(&at)));
                prop_assert_eq!(free == 0, model.contains(&index));
                let next = (index..).find(|at| !model.contains(at));
                prop_assert_eq!(used.next_free(index), next);
            }
        }
    }
}
