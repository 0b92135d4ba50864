//! Names of configurations <-> keys in etcd, and the few keys beside them.
//!
//! A configuration's key is the prefix and its name. Below the prefix, [`RESERVED`] begins what
//! belongs to no configuration:
//! - `changed`: written with each change, so that a removal is seen, too, by whoever compares;
//! - `pending`: a batch that is decided but not yet in its keys;
//! - `batch/ID/N`: the parts of such a batch.

/// The first bytes of a name that no configuration may have.
pub(super) const RESERVED: &str = ".ringscrape/";

/// The keys of one prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

/// What a key stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// The configuration of that name.
    Config(&'a str),
    /// The batch that is decided.
    Pending,
    /// No configuration.
    Other,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        Self { prefix }
    }

    /// Of all.
    pub(super) fn prefix(&self) -> &[u8] {
        self.prefix.as_bytes()
    }

    pub(super) fn config(&self, name: &str) -> Vec<u8> {
        [self.prefix(), name.as_bytes()].concat()
    }

    pub(super) fn reserved(&self) -> Vec<u8> {
        self.config(RESERVED)
    }

    pub(super) fn changed(&self) -> Vec<u8> {
        self.own("changed")
    }

    pub(super) fn pending(&self) -> Vec<u8> {
        self.own("pending")
    }

    /// The beginning of the keys of all batches whose number is not lower.
    pub(super) fn batches(&self, from: &str) -> Vec<u8> {
        self.own(&format!("batch/{from}"))
    }

    /// The beginning of the keys of one batch.
    pub(super) fn batch(&self, id: &str) -> Vec<u8> {
        self.own(&format!("batch/{id}/"))
    }

    pub(super) fn part(&self, id: &str, number: usize) -> Vec<u8> {
        self.own(&format!("batch/{id}/{number:06}"))
    }

    fn own(&self, name: &str) -> Vec<u8> {
        self.config(&format!("{RESERVED}{name}"))
    }

    pub(super) fn read<'a>(&self, key: &'a [u8]) -> Key<'a> {
        let name = key.strip_prefix(self.prefix());
        let name = name.and_then(|name| std::str::from_utf8(name).ok());
        match name {
            Some(name) if name.starts_with(RESERVED) => match &name[RESERVED.len()..] {
                "pending" => Key::Pending,
                _ => Key::Other,
            },
            Some(name) if !name.is_empty() => Key::Config(name),
            _ => Key::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_names_and_names_of_keys() {
        let keys = Keys::new("configurations/");
        for name in ["a", "hello/world", "ä", ".ringscrape"] {
            assert_eq!(keys.read(&keys.config(name)), Key::Config(name));
        }
        assert_eq!(keys.read(&keys.pending()), Key::Pending);
        for other in [keys.changed(), keys.part("1", 2), keys.batches("1")] {
            assert_eq!(keys.read(&other), Key::Other);
        }
        assert_eq!(keys.read(b"configurations/"), Key::Other);
        assert_eq!(keys.read(b"configurations/\xff"), Key::Other);
        assert_eq!(keys.read(b"collectors/a"), Key::Other);
        assert!(keys.part("1", 2).starts_with(&keys.batch("1")));
    }
}
