//! What a node does not find out by reading its timeline.

use crate::member::Founder;
use core::net::SocketAddr;
use serde::Serialize;
use std::sync::Arc;

/// Told once, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Event {
    /// There is another `timeline()`.
    TimelineChanged,
    /// Others hold the targets of this node now: it stops scraping at once. It goes on under the
    /// new incarnation, and joins as if it had just started.
    Died {
        /// Why.
        reason: Death,
        /// The new one, to be stored and to be told to the failure detector.
        incarnation: u64,
    },
    /// The incarnation rose without a death; to be stored and told to the failure detector.
    IncarnationRaised(u64),
    /// A cluster was founded: nobody answered.
    Founded(Founder),
    /// A cluster was found.
    Joined(Founder),
    /// The entry of the former incarnation of this node still held: this one goes on with it.
    Resumed {
        /// The former incarnation.
        former: u64,
    },
    /// Whether the node reaches too few to judge who is dead: it keeps its share and takes over
    /// nothing.
    Isolated(bool),
    /// The node itself stood still for so long that others may hold its targets: it scrapes
    /// nothing until `GoOn`.
    StoodStill {
        /// How late the clock tick was.
        late_ms: u64,
    },
    /// A peer has answered, or there is none: scrape again.
    GoOn,
    /// The cluster does not take this node: it ends with this as the reason.
    Refused(Refusal),
    /// The clock of a peer is far from this node's.
    SkewWarning {
        /// The peer.
        name: Arc<str>,
        /// Its clock minus this one's.
        skew_ms: i64,
    },
    /// A change of this node was proposed to the others; not agreed in time it is again, later.
    Proposed {
        /// When it shall take effect.
        from_ms: i64,
        /// How many have to know of it.
        others: u32,
    },
    /// All know of the change.
    Agreed {
        /// When it takes effect.
        from_ms: i64,
        /// How long it took since it was first proposed.
        after_ms: u64,
    },
    /// A node was found dead, by this one or another one, and that counts.
    Crashed {
        /// Who.
        name: Arc<str>,
        /// Of the dead.
        incarnation: u64,
        /// From when on it is not counted on.
        until_ms: i64,
        /// Who says so.
        by: Arc<str>,
    },
    /// This node found another one dead.
    Accused {
        /// The other one.
        name: Arc<str>,
        /// Of the other one.
        incarnation: u64,
        /// From when on it is not counted on.
        until_ms: i64,
    },
}

/// Why an incarnation of this node ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Death {
    /// Others had not heard of it.
    Accused {
        /// Who said so.
        by: Arc<str>,
        /// From when on they did not count on it.
        until_ms: i64,
    },
    /// Its cluster met an older one.
    Merged {
        /// The older one.
        into: Founder,
    },
}

/// Why a cluster does not take a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub enum Refusal {
    /// Names have to be unique.
    #[error("another node, at {address}, has the name {name:?}: node names have to be unique")]
    DuplicateName {
        /// The name.
        name: Arc<str>,
        /// Where the other node is.
        address: SocketAddr,
    },
}
