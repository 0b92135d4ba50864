//! What nodes tell each other of their tables.

use crate::member::{Founder, Member};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::sync::Arc;

/// Who speaks in an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The node that says it.
    pub name: Arc<str>,
    /// Of that node.
    pub incarnation: u64,
    /// Where that node takes gossip.
    pub gossip_address: SocketAddr,
    /// The cluster that it belongs to; `None` as long as it looks for one.
    pub cluster: Option<Cluster>,
    /// The writer's clock.
    pub unix_ms: i64,
    /// Whether its table has an entry of this life of it.
    pub is_published: bool,
    /// Of its table.
    pub digest: u64,
    /// Incarnation and version of the entry that it has of the reader, for planned changes to wait
    /// for; `None`: it has none, or one that it has heard of too late.
    pub has_of_you: Option<(u64, u64)>,
}

/// A cluster, and how large it once was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cluster {
    /// Which.
    pub founder: Founder,
    /// The logarithm, to the base of 2, of the most members that ever scraped at once. It only
    /// rises, so that who has to join whom does not change back when two clusters meet.
    pub size_class: u8,
}

impl Cluster {
    /// Of two that meet the one that was larger stays, then the older one.
    pub fn is_before(&self, other: &Self) -> bool {
        let rank = |one: &Self| (Reverse(one.size_class), one.founder);
        rank(self) < rank(other)
    }
}

/// Hashes of the parts of a table, four bytes each, as many as a power of two: each is of the
/// names whose hash begins with its place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketch(pub Vec<u8>);

/// What a node has in those parts of its table that differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// A bit for each part, as many as the sketch has: whether it differs. Empty: nothing does.
    pub differs: Vec<u8>,
    /// The entries of members, sorted by the hash of the name.
    pub members: Vec<Known>,
    /// Hashes of the crash entries, sorted.
    pub crashes: Vec<u64>,
}

/// An entry of a member, by its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Known {
    /// Hash of the member's name.
    pub place: u64,
    /// Of the member.
    pub incarnation: u64,
    /// Of its entry.
    pub version: u64,
    /// Of its entry: two that differ under one version are told apart.
    pub hash: u64,
}

/// What a node asks for of what the other one has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants {
    /// Hashes of members' names, sorted.
    pub members: Vec<u64>,
    /// Hashes of crash entries, sorted.
    pub crashes: Vec<u64>,
}

impl Wants {
    /// Nothing is asked for.
    pub fn is_nothing(&self) -> bool {
        self.members.is_empty() && self.crashes.is_empty()
    }
}

/// What one node has and another lacks or has in an older version, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// What all of this belongs to; `None` from a node that has no cluster: nothing in it.
    pub cluster: Option<Cluster>,
    /// In any order.
    pub members: Vec<Arc<Member>>,
    /// In any order.
    pub crashes: Vec<Arc<Crash>>,
}

impl Delta {
    /// Nothing.
    pub fn nothing(cluster: Option<Cluster>) -> Self {
        Self {
            cluster,
            members: Vec::new(),
            crashes: Vec::new(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_nothing(&self) -> bool {
        self.members.is_empty() && self.crashes.is_empty()
    }
}

/// One node says that an incarnation of another is dead.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Crash {
    /// Who is dead.
    pub name: Arc<str>,
    /// Of the one that is dead: a later one is not meant.
    pub incarnation: u64,
    /// The first slot time that it does not scrape: when the accuser last heard of it.
    pub until_ms: i64,
    /// When the accuser said so, by its clock.
    pub made_ms: i64,
    /// The accuser.
    pub by: Arc<str>,
    /// Of the accuser.
    pub by_incarnation: u64,
    /// Whom the accuser spoke for.
    pub side: Side,
}

/// The members that an accuser still reached: of two sides that accuse each other the one with
/// more members is right, then the one with the lower name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Side {
    /// How many, the accuser among them.
    pub members: u32,
    /// The lowest name among them.
    pub lowest: Arc<str>,
}
