//! A name, what it stands for, and which of two of them stays.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Higher ones are not taken: there must be room for more.
pub const REVISION_MAX: u64 = 1 << 60;
/// Of a name.
const NAME_BYTES_MAX: usize = 16 << 10;
/// Revisions of different nodes differ in these lowest digits, with a high probability.
const SALT: u64 = 1_024;

/// When an entry was written, and by whom. Of two the higher one counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Higher than all that the writer knew.
    pub revision: u64,
    /// The writer.
    pub node: Arc<str>,
}

impl Version {
    /// Of the next write of a node that knows of `revision`.
    ///
    /// Two nodes that do not know of each other hardly ever give the same revision: so whoever
    /// names a revision means one content.
    pub fn after(revision: u64, node: &Arc<str>) -> Self {
        let mut hash = Xxh3::new();
        hash.update(node.as_bytes());
        let salt = hash.digest() % SALT;
        Self {
            revision: (revision / SALT + 1) * SALT + salt,
            node: node.clone(),
        }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Content {
    /// The text.
    pub text: Arc<str>,
    /// Who keeps it.
    pub managed_by: String,
    /// Who changed it.
    pub changed_by: String,
    /// When, in ms since the Unix epoch.
    pub changed_ms: i64,
}

/// One name as one write left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name.
    pub name: Arc<str>,
    /// Which write.
    pub version: Version,
    /// What the writer found there; `None`: nothing that it knew of.
    pub parent: Option<Version>,
    /// When it was written, by the writer's clock, in ms since the Unix epoch.
    pub written_ms: i64,
    /// `None`: it was removed.
    pub content: Option<Content>,
}

impl Entry {
    /// Whether it stays, of the two.
    pub fn beats(&self, other: &Self) -> bool {
        // A version is of one write only, unless a node lost its disk: then, too, all decide alike.
        let rank = |entry: &Self| {
            let entry = entry.clone();
            (entry.version, entry.content, entry.written_ms, entry.parent)
        };
        match self.version.cmp(&other.version) {
            core::cmp::Ordering::Equal => rank(self) > rank(other),
            order => order.is_gt(),
        }
    }

    /// Whether its writer, who beats the other one, did not know of it.
    pub fn is_unaware_of(&self, other: &Self) -> bool {
        self.parent.as_ref() < Some(&other.version)
    }

    /// Equal for equal entries, and hardly ever for others.
    pub fn hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        let mut add = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        add(self.name.as_bytes());
        add(&self.version.revision.to_le_bytes());
        add(self.version.node.as_bytes());
        add(&self.written_ms.to_le_bytes());
        if let Some(content) = &self.content {
            add(content.text.as_bytes());
            add(content.managed_by.as_bytes());
            add(content.changed_by.as_bytes());
            add(&content.changed_ms.to_le_bytes());
        }
        hash.digest()
    }

    /// About how many bytes it has in a message.
    pub fn bytes(&self) -> usize {
        let content = self.content.as_ref().map_or(0, |content| {
            content.text.len() + content.managed_by.len() + content.changed_by.len()
        });
        self.name.len() + content + self.version.node.len() * 2 + 64
    }

    /// Whether a member may have written it.
    pub fn is_sound(&self) -> bool {
        let is_sound = |version: &Version| version.revision <= REVISION_MAX;
        !self.name.is_empty()
            && self.name.len() <= NAME_BYTES_MAX
            && is_sound(&self.version)
            && self.parent.as_ref().is_none_or(is_sound)
            && self
                .parent
                .as_ref()
                .is_none_or(|parent| *parent < self.version)
            && self.written_ms.unsigned_abs() <= REVISION_MAX
    }
}
