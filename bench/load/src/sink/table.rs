//! A series' key -> its state, in some 50 bytes a series.
//!
//! States lie in chunks in order of first sight, so nothing moves when the table grows; the index
//! over them is open-addressed with one tag byte and one u32 per place. Senders repeat the order of
//! the scrape, so the state after the last one found is tried before the index.

/// Hash of a series' encoded labels. 64 bits: a million series collide with probability 3e-8.
pub(super) type Key = u64;

/// What is known about one series. Times are in ms above the verifier's base; 0 is none.
#[derive(Clone, Copy, Default)]
pub(super) struct Series {
    pub(super) key: Key,
    /// Identity in the value scheme.
    pub(super) identity: u64,
    /// Its first sample since it appeared, or appeared again.
    pub(super) first: u32,
    /// Its last sample that is no marker.
    pub(super) last: u32,
    /// Its last marker, if flag `ENDED` is set.
    pub(super) marked: u32,
    /// Samples since `first`, markers not counted.
    pub(super) samples: u32,
    pub(super) target: u32,
    /// Place in the cycle of its last sample, if flag `PLACED` is set.
    pub(super) place: u8,
    pub(super) class: u8,
    pub(super) flags: u8,
}

const _: () = assert!(size_of::<Series>() == 40);

const CHUNK: usize = 4096;
/// How many states after the last one found are tried first.
const AHEAD: usize = 4;

/// All series.
pub(super) struct Table {
    chunks: Vec<Box<[Series]>>,
    len: usize,
    tags: Vec<u8>,
    slots: Vec<u32>,
    last: usize,
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            chunks: Vec::new(),
            len: 0,
            tags: vec![0; 1024],
            slots: vec![0; 1024],
            last: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that the table holds on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Series>() + self.slots.len() * 5
    }

    pub(super) fn get(&self, index: usize) -> &Series {
        &self.chunks[index / CHUNK][index % CHUNK]
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut Series {
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Series> {
        self.chunks.iter().flatten().take(self.len)
    }

    /// The place of the series with this key.
    pub(super) fn find(&mut self, key: Key) -> Option<usize> {
        for index in self.last + 1..(self.last + 1 + AHEAD).min(self.len) {
            if self.get(index).key == key {
                self.last = index;
                return Some(index);
            }
        }
        let mask = self.slots.len() - 1;
        let mut slot = key as usize & mask;
        while self.tags[slot] != 0 {
            if self.tags[slot] == tag(key) {
                let index = self.slots[slot] as usize;
                if self.get(index).key == key {
                    self.last = index;
                    return Some(index);
                }
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    /// Adds a series that [`Table::find`] did not find; at most 2^32 of them.
    pub(super) fn insert(&mut self, series: Series) -> usize {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let index = self.len;
        if index.is_multiple_of(CHUNK) {
            self.chunks
                .push(vec![Series::default(); CHUNK].into_boxed_slice());
        }
        self.len += 1;
        *self.get_mut(index) = series;
        self.place(series.key, index as u32);
        self.last = index;
        index
    }

    fn place(&mut self, key: Key, index: u32) {
        let mask = self.slots.len() - 1;
        let mut slot = key as usize & mask;
        while self.tags[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        self.tags[slot] = tag(key);
        self.slots[slot] = index;
    }

    fn grow(&mut self) {
        let size = self.slots.len() * 2;
        self.tags = vec![0; size];
        self.slots = vec![0; size];
        for index in 0..self.len {
            self.place(self.get(index).key, index as u32);
        }
    }
}

/// The upper bits of a key, never 0.
fn tag(key: Key) -> u8 {
    (key >> 56) as u8 | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Few distinct keys, with colliding low bits, against a plain map.
        #[test]
        fn like_a_map(keys in proptest::collection::vec((0..40u64, 0..3u64), 0..4000)) {
            let mut table = Table::new();
            let mut model = HashMap::new();
            for (low, high) in keys {
                let key = low | high << 56;
                let found = table.find(key);
                prop_assert_eq!(found, model.get(&key).copied());
                if found.is_none() {
                    let index = table.insert(Series { key, ..Series::default() });
                    model.insert(key, index);
                }
            }
            prop_assert_eq!(table.len(), model.len());
        }
    }

    #[test]
    fn grows_and_stays_lean() {
        let mut table = Table::new();
        let keys = 0..200_000u64;
        let key = |i: u64| crate::scheme::identity(i);
        for i in keys.clone() {
            assert_eq!(table.find(key(i)), None);
            table.insert(Series {
                key: key(i),
                ..Series::default()
            });
        }
        for i in keys.rev() {
            assert_eq!(table.find(key(i)), Some(i as usize));
        }
        assert_eq!(table.iter().count(), 200_000);
        assert!(
            table.heap_bytes() < 200_000 * 60,
            "{}",
            table.heap_bytes() / 200_000
        );
    }
}
