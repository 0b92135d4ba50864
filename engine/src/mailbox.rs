//! Bounded messages between the control thread and the shards: the only crossing between threads.
//!
//! Control to shard: when a mailbox is full the control loop waits; a shard empties its mailbox at
//! every tick. Shard to control: when it is full the shard tries again at its next tick.

use crate::api::TargetStatus;
use crate::config::Endpoint;
use crate::metrics::ShardFigures;
use crate::remote_write::post::{self, ShardRequest};
use crate::target::Target;
use ringscrape_cluster::member::JobId;
use ringscrape_wal::definition::Route;
use ringscrape_wal::scrape::Scrape;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Addresses of one host, in the resolver's order; not empty.
pub(crate) type Addresses = Arc<[SocketAddr]>;

/// Messages that fit into one mailbox.
pub(crate) const MAILBOX_MESSAGES_MAX: usize = 256;

/// Targets in one message, so that a large change is spread over ticks.
pub(crate) const TARGETS_PER_MESSAGE_MAX: usize = 500;

/// Targets in one `FromShard::HandOver`: what a shard prepares in one turn.
pub(crate) const HANDOVERS_PER_MESSAGE_MAX: usize = 64;

/// Number of a shard, from 0.
pub(crate) type ShardIndex = usize;

/// What the control loop tells a shard.
#[derive(Debug)]
pub(crate) enum ToShard {
    /// Scrape these in the slots that are this node's. A target with a known key replaces the one
    /// before, at once or, if its slots begin where those of the one before end, then; it keeps its
    /// state.
    Add(Vec<Assignment>),
    /// Stop scraping these targets.
    Remove(Vec<Removal>),
    /// What the nodes before knew of targets that are scraped here, or will be.
    Restore(Vec<Arc<Scrape>>),
    /// What targets of this shard had last in the log of a former number of shards.
    FormerScrapes(Vec<Arc<Scrape>>),
    /// All shards have sent this endpoint what they have of former logs of that age.
    FormerSent {
        /// Its identity.
        endpoint: String,
        /// Which change of the number of shards they are from.
        generation: u64,
    },
    /// Begin no scrape until told to go on.
    Hold,
    /// Begin scrapes again, after `Hold` or `FromShard::StoodStill`: also those of slots that are
    /// current still.
    GoOn,
    /// The endpoints in force, with their network sides.
    Endpoints(Vec<EndpointLink>),
    /// Answer to `FromShard::Resolve`.
    Resolved(HostPort, Result<Addresses, String>),
    /// Asks for the figures of `/metrics`.
    Figures(oneshot::Sender<ShardFigures>),
    /// Asks for the state of all targets.
    Statuses(oneshot::Sender<Vec<TargetStatus>>),
    /// Asks for the state of the targets with these keys.
    StatusesOf(Vec<u64>, oneshot::Sender<Vec<TargetStatus>>),
    /// Asks what targets cost: those with these places, and the dear ones.
    Costs(Arc<[u64]>, oneshot::Sender<CostReport>),
    /// Asks how many targets there are whose slots end, those included whose last scrape here is
    /// under way, or of which another node is still to be told.
    Remaining(oneshot::Sender<usize>),
    /// Finish: flush until the deadline (milliseconds since the Unix epoch), then end.
    Stop {
        /// When to give up sending; what is left stays in the log.
        deadline_ms: i64,
    },
}

/// What a shard's targets cost, by the last scrape of each that went well.
#[derive(Debug, Default)]
pub(crate) struct CostReport {
    /// Each once.
    pub(crate) jobs: Vec<JobCost>,
    /// Targets whose cost is known.
    pub(crate) targets: u64,
    /// Of what these cost in samples a second: the sum of the logarithms to base 2.
    pub(crate) sum_of_logs: f64,
    /// Those asked for whose costs are known, and those that cost at least twice of what is usual
    /// in the shard, at most some 1,000.
    pub(crate) dear: Vec<(Arc<Target>, f32)>,
}

/// What a job's targets cost together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct JobCost {
    /// The job.
    pub(crate) job: JobId,
    /// How many of its targets are known.
    pub(crate) targets: u64,
    /// What these cost.
    pub(crate) samples_per_s: f64,
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
    /// Which slots are this node's.
    pub(crate) slots: OwnSlots,
}

/// The slots of a target that a node scrapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnSlots {
    /// The first slot time, in ms since the Unix epoch. A slot that is current and not before it is
    /// scraped at once; those between it and the first scrape are missed.
    pub(crate) from_ms: i64,
    /// The node before did not give it away: what was missed is counted apart.
    pub(crate) after_crash: bool,
    /// Where they end; `None`: as far as is known, nowhere.
    pub(crate) until: Option<Until>,
}

/// The end of a node's slots of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Until {
    /// Slots at or after this time, in ms since the Unix epoch, are not this node's.
    pub(crate) at_ms: i64,
    /// What becomes of the target's series.
    pub(crate) series: Ending,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removal {
    /// Its key.
    pub(crate) key: u64,
    /// What becomes of its series.
    pub(crate) series: Ending,
}

/// What becomes of the series of a target that is not scraped here any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// They get end markers two slots later, unless the target comes back until then.
    End,
    /// A target with the same labels and another URL takes its place: its series go on there, and
    /// end markers would come between their samples.
    Succeeded,
    /// Another node goes on with them; if its name is given, it gets what is known of them.
    Move(Option<Arc<str>>),
}

/// What a shard tells the control loop.
#[derive(Debug)]
pub(crate) enum FromShard {
    /// The shard runs.
    Ready,
    /// A host name is to be resolved; the answer is `ToShard::Resolved`.
    Resolve(HostPort),
    /// For another node: what is known of targets that it is going to scrape. At most
    /// `HANDOVERS_PER_MESSAGE_MAX`, without values.
    HandOver {
        /// The node's name.
        to: Arc<str>,
        /// One a target.
        scrapes: Vec<Arc<Scrape>>,
    },
    /// What targets of any shard had last in the log of a former number of shards. At most
    /// `HANDOVERS_PER_MESSAGE_MAX`.
    FormerScrapes(Vec<Arc<Scrape>>),
    /// The shard has sent this endpoint what it has of former logs of that age.
    FormerSent {
        /// Its identity.
        endpoint: String,
        /// Which change of the number of shards they are from.
        generation: u64,
    },
    /// The shard did not run for longer than `standstill_ms`: others may have taken its targets. It
    /// begins no scrape until `ToShard::GoOn`.
    StoodStill,
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
