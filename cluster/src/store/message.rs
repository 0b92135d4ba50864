//! What members ask each other and answer <-> bytes.

use super::entry::{Entry, Held, Version};
use super::replica::Digest;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The first byte of each question: no other question between members begins with it.
pub const TAG: u8 = 0xc5;
/// The second one; members that have others do not understand each other.
const FORMAT: u8 = 2;

/// What a member asks another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Whether both have the same.
    Compare(Digest),
    /// To store these, and to tell those.
    Exchange {
        /// How far who asks knows: see [`super::Past`].
        mark: Option<u64>,
        /// To be stored.
        entries: Vec<Held>,
        /// To be told.
        wanted: Vec<Arc<str>>,
    },
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Both have the same.
    Equal,
    /// They do not.
    Different {
        /// What it has, in short.
        digest: Digest,
        /// And in detail, where the two differ.
        known: Vec<Known>,
    },
    /// All is on its disk.
    Stored {
        /// What it was to tell.
        entries: Vec<Held>,
        /// Of the names that were to be stored, those that have another entry, which stays.
        beaten: Vec<Known>,
    },
    /// Who asks was away for so long that it has to forget all that it has.
    Stale,
    /// It cannot, for this reason.
    Failed(String),
}

/// Which entry a member has of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The name.
    pub name: Arc<str>,
    /// Its version.
    pub version: Version,
    /// Of the entry.
    pub hash: u64,
    /// About how large the entry is.
    pub bytes: u32,
}

impl Known {
    /// Of an entry.
    pub fn of(entry: &Entry) -> Self {
        Self {
            name: entry.name.clone(),
            version: entry.version.clone(),
            hash: entry.hash(),
            bytes: u32::try_from(entry.bytes()).unwrap_or(u32::MAX),
        }
    }
}

impl Question {
    /// To store what was just written.
    pub fn push(entries: Vec<Arc<Entry>>) -> Self {
        Self::Exchange {
            mark: None,
            entries: entries.into_iter().map(Held::from).collect(),
            wanted: Vec::new(),
        }
    }

    /// As bytes that begin with [`TAG`].
    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    /// `None`: it is none, or of another release.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let question = read(bytes)?;
        match &question {
            Self::Compare(digest) if !digest.is_sound() => None,
            _ => Some(question),
        }
    }
}

impl Answer {
    /// As bytes.
    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    /// `None`: it is none, or of another release.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let answer = read(bytes)?;
        match &answer {
            Self::Different { digest, .. } if !digest.is_sound() => None,
            _ => Some(answer),
        }
    }
}

fn write<T: Serialize>(message: &T) -> Vec<u8> {
    // Fails only if a buffer has an end, which this one has not.
    postcard::to_extend(message, vec![TAG, FORMAT]).unwrap_or_default()
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let bytes = bytes.strip_prefix(&[TAG, FORMAT])?;
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}
