//! A name, what it stands for, and which of two of them stays.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Higher ones are not taken: there must be room for more.
pub const REVISION_MAX: u64 = 1 << 60;
/// Of a name.
const NAME_BYTES_MAX: usize = 16 << 10;
/// Writers of one name that its entry names.
const KNOWN_MAX: usize = 16;
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
    /// What the writer knew of the name: of each earlier writer the last write, the latest first.
    /// Of more than 16 writers those that wrote last.
    pub knows: Vec<Version>,
    /// When it was written, by the writer's clock, in ms since the Unix epoch. For people: nothing
    /// depends on clocks.
    pub written_ms: i64,
    /// `None`: it was removed.
    pub content: Option<Content>,
}

/// An entry as a member has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The entry.
    pub entry: Arc<Entry>,
    /// Of a removal: for how long members that were in touch with a majority have had it, in ms.
    pub age_ms: u64,
}

impl From<Arc<Entry>> for Held {
    /// Just written.
    fn from(entry: Arc<Entry>) -> Self {
        Self { entry, age_ms: 0 }
    }
}

impl Entry {
    /// Whether it stays, of the two.
    pub fn beats(&self, other: &Self) -> bool {
        // A version is of one write only, unless a node lost its disk: then, too, all decide alike.
        let rank = |entry: &Self| {
            let entry = entry.clone();
            (entry.version, entry.content, entry.written_ms, entry.knows)
        };
        match self.version.cmp(&other.version) {
            core::cmp::Ordering::Equal => rank(self) > rank(other),
            order => order.is_gt(),
        }
    }

    /// Whether its writer, who beats the other one, did not know of it.
    pub fn is_unaware_of(&self, other: &Self) -> bool {
        let of_writer = |known: &&Version| known.node == other.version.node;
        match self.knows.iter().find(of_writer) {
            Some(known) => known.revision < other.version.revision,
            // What was left out is older than the rest.
            None => match self.knows.get(KNOWN_MAX - 1) {
                Some(oldest) => *oldest < other.version,
                None => true,
            },
        }
    }

    /// What the writer of the next entry of this name knows of it.
    pub fn known_by_next(&self) -> Vec<Version> {
        let mut all = vec![self.version.clone()];
        let others = self.knows.iter();
        all.extend(others.filter(|one| one.node != self.version.node).cloned());
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.truncate(KNOWN_MAX);
        all
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
        let known: usize = self.knows.iter().map(|one| one.node.len() + 8).sum();
        self.name.len() + content + self.version.node.len() + known + 64
    }

    /// Whether a member may have written it.
    pub fn is_sound(&self) -> bool {
        let is_sound = |version: &Version| version.revision <= REVISION_MAX;
        !self.name.is_empty()
            && self.name.len() <= NAME_BYTES_MAX
            && is_sound(&self.version)
            && self.knows.len() <= KNOWN_MAX
            && self
                .knows
                .iter()
                .all(|one| is_sound(one) && *one < self.version)
            && self.written_ms.unsigned_abs() <= REVISION_MAX
    }
}
