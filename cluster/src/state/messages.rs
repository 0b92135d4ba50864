//! What nodes tell each other of their tables.

use crate::member::{Founder, Member};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a node knows, without the contents: enough to find out what it lacks.
///
/// What it says of the reader's own entry is the evidence that a planned change waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The node that says it.
    pub name: Arc<str>,
    /// Of that node.
    pub incarnation: u64,
    /// Where that node takes gossip.
    pub gossip_address: SocketAddr,
    /// The cluster that it belongs to; `None` as long as it looks for one.
    pub founder: Option<Founder>,
    /// The writer's clock.
    pub unix_ms: i64,
    /// The entries of its table, sorted by name.
    pub members: Vec<Known>,
    /// Hashes of its crash entries, sorted.
    pub crashes: Vec<u64>,
}

/// An entry of a member, by its version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Known {
    /// Of the member.
    pub name: Arc<str>,
    /// Of the member.
    pub incarnation: u64,
    /// Of its entry.
    pub version: u64,
    /// Of its entry: two that differ under one version are told apart.
    pub hash: u64,
}

/// What one node has and another lacks or has in an older version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The cluster that all of this belongs to; `None` from a node that has none: nothing in it.
    pub founder: Option<Founder>,
    /// In any order.
    pub members: Vec<Arc<Member>>,
    /// In any order.
    pub crashes: Vec<Arc<Crash>>,
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
