//! Messages between the control loop and the gossip thread.
//!
//! Both mailboxes are bounded. Control to gossip: when it is full the control loop waits; the
//! thread empties it at every turn and waits for nothing but the network. Gossip to control: the
//! newest timeline and the events wait in the thread until there is room, a timeline in place of
//! the one before; of events more than [`EVENTS_WAITING_MAX`] the oldest is dropped and counted.
//! Handovers and questions find room at once or are refused, and their senders are told so.
//! Questions of other nodes' stores of configurations have a mailbox of their own.

use ringscrape_cluster::node::Counters;
use ringscrape_cluster::state::{Event, Snapshot, Wish};
use ringscrape_cluster::timeline::Timeline;
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};

/// Messages that fit into one mailbox.
pub(crate) const GOSSIP_MESSAGES_MAX: usize = 256;
/// Events that wait for room in control's mailbox.
pub(crate) const EVENTS_WAITING_MAX: usize = 1_024;

/// What the control loop tells the gossip thread.
#[derive(Debug)]
pub(crate) enum ToGossip {
    /// What this node wants to be from now on.
    Wish(Wish),
    /// Asks for all that a status page shows.
    Status(oneshot::Sender<GossipStatus>),
    /// Hands targets over to another node.
    HandOver {
        /// Its name.
        to: Arc<str>,
        /// At most `HANDOVER_BYTES_MAX` bytes.
        bytes: Vec<u8>,
        /// Whether it has them; an error says why not.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Asks another node something.
    Ask {
        /// Its name.
        to: Arc<str>,
        /// At most `ANSWER_BYTES_MAX` bytes.
        question: Vec<u8>,
        /// What it answers; an error says why it did not.
        answer: oneshot::Sender<Result<Vec<u8>, String>>,
    },
    /// Tell others that this node goes, then end. It has left by plan before, if there was time.
    Stop,
}

/// What the gossip thread tells the control loop.
#[derive(Debug)]
pub(crate) enum FromGossip {
    /// Who owns what from now on.
    Timeline(Arc<Timeline>),
    /// Something happened. `TimelineChanged` is not among them: the timeline itself is sent.
    Event(Event),
    /// Another node hands targets over; it waits for the word that they are taken.
    HandOver {
        /// Its name.
        from: Arc<str>,
        /// What it says of them.
        bytes: Vec<u8>,
        /// Whether they are taken; dropped, they are not.
        taken: oneshot::Sender<Result<(), String>>,
    },
    /// Another node asks something.
    Question {
        /// Its name.
        from: Arc<str>,
        /// What.
        bytes: Vec<u8>,
        /// The answer; dropped, there is none.
        answer: oneshot::Sender<Result<Vec<u8>, String>>,
    },
    /// The cluster does not take this node, or the thread cannot go on: it has ended.
    Failed(String),
}

/// A question of another node's store of configurations.
#[derive(Debug)]
pub(crate) struct StoreQuestion {
    /// What.
    pub(crate) bytes: Vec<u8>,
    /// The answer; dropped, there is none.
    pub(crate) answer: oneshot::Sender<Result<Vec<u8>, String>>,
}

/// Where such questions go, as soon as this node has such a store.
pub(crate) type StoreSlot = Arc<OnceLock<mpsc::Sender<StoreQuestion>>>;

/// All that a status page and metrics show of the gossip.
#[derive(Debug)]
pub(crate) struct GossipStatus {
    /// The table.
    pub(crate) snapshot: Snapshot,
    /// What was sent and received.
    pub(crate) counters: Counters,
    /// What the streams did.
    pub(crate) streams: StreamCounters,
    /// The clock of the status, in ms since the Unix epoch.
    pub(crate) now_ms: i64,
}

/// What the streams of this node did since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StreamCounters {
    /// Open now, of both directions.
    pub(crate) open: u64,
    /// Opened by this node.
    pub(crate) opened: u64,
    /// Opened by others.
    pub(crate) accepted: u64,
    /// That did not get to their end.
    pub(crate) failed: u64,
    /// Not accepted or not opened, because there were too many.
    pub(crate) turned_away: u64,
    /// Datagrams that the system did not take.
    pub(crate) datagrams_unsent: u64,
    /// Events that found no room in control's mailbox for too long.
    pub(crate) events_dropped: u64,
    /// Rounds of join addresses.
    pub(crate) join_rounds: u64,
    /// Rounds in which no address answered.
    pub(crate) join_rounds_failed: u64,
}
