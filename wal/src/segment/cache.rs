//! Offset -> loaded value, bounded by bytes: two generations, the old one dropped as a whole.

use ahash::AHashMap;

/// A map that forgets what was not asked for lately. `bytes()` stays below twice the cap, plus one
/// value.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    young: AHashMap<u32, (T, usize)>,
    old: AHashMap<u32, (T, usize)>,
    young_bytes: usize,
    cap_bytes: usize,
}

impl<T: Clone> Cache<T> {
    /// `cap_bytes`: of one generation.
    pub(crate) fn new(cap_bytes: usize) -> Self {
        Self {
            young: AHashMap::new(),
            old: AHashMap::new(),
            young_bytes: 0,
            cap_bytes,
        }
    }

    pub(crate) fn get(&mut self, key: u32) -> Option<T> {
        if let Some((value, _)) = self.young.get(&key) {
            return Some(value.clone());
        }
        let (value, bytes) = self.old.remove(&key)?;
        self.insert(key, value.clone(), bytes);
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: u32, value: T, bytes: usize) {
        if self.young_bytes + bytes > self.cap_bytes {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        if let Some((_, before)) = self.young.insert(key, (value, bytes)) {
            self.young_bytes -= before;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut cache = Cache::new(100);
        for key in 0..1000u32 {
            cache.insert(key, key, 10);
            assert_eq!(cache.get(0), Some(0), "at {key}");
            assert!(cache.young.len() + cache.old.len() <= 21);
        }
        assert_eq!(cache.get(999), Some(999));
        assert_eq!(cache.get(500), None);
    }
}
