//! Bounded messages between the control thread and the shards: the only crossing between threads.
//!
//! Control to shard: when a mailbox is full the control loop waits; a shard empties its mailbox at
//! every tick. Shard to control: when it is full the shard tries again at its next tick.

use crate::api::TargetStatus;
use crate::config::Endpoint;
use crate::metrics::ShardFigures;
use crate::remote_write::post::{self, ShardRequest};
use crate::target::Target;
use ringscrape_wal::definition::Route;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Addresses of one host, in the resolver's order; not empty.
pub(crate) type Addresses = Arc<[SocketAddr]>;

/// Messages that fit into one mailbox.
pub(crate) const MAILBOX_MESSAGES_MAX: usize = 256;

/// Targets in one message, so that a large change is spread over ticks.
pub(crate) const TARGETS_PER_MESSAGE_MAX: usize = 500;

/// Number of a shard, from 0.
pub(crate) type ShardIndex = usize;

/// What the control loop tells a shard.
#[derive(Debug)]
pub(crate) enum ToShard {
    /// Scrape these from their next slot on. A target with a known key replaces the one before
    /// and keeps its state.
    Add(Vec<Assignment>),
    /// Stop scraping these targets.
    Remove(Vec<Removal>),
    /// The endpoints in force, with their network sides.
    Endpoints(Vec<EndpointLink>),
    /// Answer to `FromShard::Resolve`.
    Resolved(HostPort, Result<Addresses, String>),
    /// Asks for the figures of `/metrics`.
    Figures(oneshot::Sender<ShardFigures>),
    /// Asks for the state of all targets.
    Statuses(oneshot::Sender<Vec<TargetStatus>>),
    /// Finish: flush until the deadline (milliseconds since the Unix epoch), then end.
    Stop {
        /// When to give up sending; what is left stays in the log.
        deadline_ms: i64,
    },
}

/// An endpoint, and how a shard reaches its network side.
#[derive(Debug)]
pub(crate) struct EndpointLink {
    /// The settings.
    pub(crate) endpoint: Arc<Endpoint>,
    /// The channels; `None`: those that the shard has stay in force.
    pub(crate) channel: Option<EndpointChannel>,
}

/// The channels between one shard and one endpoint's network side.
#[derive(Debug)]
pub(crate) struct EndpointChannel {
    /// Requests to send. Bounded: what finds no place is kept by the shard.
    pub(crate) requests: mpsc::Sender<ShardRequest>,
    /// Answers. At most one per request sent, and allowances.
    pub(crate) answers: mpsc::UnboundedReceiver<post::ToShard>,
}

/// A target and where its samples go.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    /// The target.
    pub(crate) target: Arc<Target>,
    /// The endpoints of its configuration.
    pub(crate) route: Arc<Route>,
    /// An error that fails every scrape without a request (`target_limit` exceeded).
    pub(crate) forced_error: Option<ForcedError>,
}

/// Why every scrape of a target fails without a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForcedError {
    /// For metrics.
    pub(crate) cause: &'static str,
    /// For people.
    pub(crate) message: Arc<str>,
}

/// A target that is no longer to be scraped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Removal {
    /// Its key.
    pub(crate) key: u64,
    /// A target with the same labels and another URL takes its place: its series go on there, and
    /// end markers would come between their samples.
    pub(crate) succeeded: bool,
}

/// What a shard tells the control loop.
#[derive(Debug)]
pub(crate) enum FromShard {
    /// The shard runs.
    Ready,
    /// A host name is to be resolved; the answer is `ToShard::Resolved`.
    Resolve(HostPort),
    /// The shard has ended; `Err` says why if it was not asked to.
    Stopped(Result<(), String>),
}

/// A host name, and the port that the addresses are to have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    /// Host name.
    pub(crate) host: Arc<str>,
    /// TCP port.
    pub(crate) port: u16,
}
