//! A target's job, URL and final labels -> its key, the same everywhere and for ever.

use xxhash_rust::xxh3::Xxh3;

/// Stable hash of a target. Its phase and its place on the ring follow from it, and the log names
/// targets by it, so the function behind it never changes (see [`TargetKey::new`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetKey(pub u64);

impl TargetKey {
    /// XXH3-64, seed 0, over these texts in order, each as `[u32 length, little-endian | UTF-8]`:
    /// job name, URL, then name and value of each label.
    ///
    /// `labels`: the final labels, sorted by name in byte order, names unique, no empty values.
    /// Lengths make the form unambiguous: two targets with different parts have different bytes.
    pub fn new<'a>(
        job: &str,
        url: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut hasher = Xxh3::new();
        let mut update = |text: &str| {
            hasher.update(&(text.len() as u32).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        update(job);
        update(url);
        let mut before = None;
        for (name, value) in labels {
            debug_assert!(
                before < Some(name),
                "BUG: labels of a target key are not sorted"
            );
            before = Some(name);
            update(name);
            update(value);
        }
        Self(hasher.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, every target of every user changes its phase, owner and log identity.
    #[test]
    fn keys_never_change() {
        // The published value of XXH3-64 for no input: the hash is the one it says it is.
        assert_eq!(xxhash_rust::xxh3::xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        let golden = [
            (TargetKey::new("", "", []), 0xc77b_3abb_6f87_acd9),
            (
                TargetKey::new(
                    "node",
                    "http://10.0.0.1:9100/metrics",
                    [("instance", "a"), ("job", "node")],
                ),
                0x2e57_95ef_e61b_039a,
            ),
            (
                TargetKey::new("ä", "http://[::1]:80/", [("job", "ä")]),
                0xd352_b279_9fc4_1279,
            ),
        ];
        for (index, (key, expected)) in golden.into_iter().enumerate() {
            assert_eq!(key.0, expected, "golden value {index}: {:#x}", key.0);
        }
    }

    #[test]
    fn parts_do_not_run_together() {
        let keys = [
            TargetKey::new("ab", "c", [("d", "e")]),
            TargetKey::new("a", "bc", [("d", "e")]),
            TargetKey::new("ab", "", [("c", "d")]),
            TargetKey::new("ab", "c", [("de", "")]),
            TargetKey::new("ab", "c", []),
            TargetKey::new("ab", "c", [("d", "e"), ("f", "g")]),
            TargetKey::new("ab", "c", [("d", "e\u{1}\0\0\0f")]),
        ];
        let unique: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(unique.len(), keys.len());
    }
}
