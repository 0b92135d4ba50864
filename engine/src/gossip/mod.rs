//! UDP, TCP, a clock and look-ups -> a cluster node that runs: timelines and events for the control
//! loop.
//!
//! **Runs on**: a thread of its own with a tokio runtime, so that neither a busy control loop nor
//! a stalled shard makes this node look dead. The protocol itself is the `cluster` crate's; here
//! are its sockets, its clock and its files.
//!
//! Bounded: the mailboxes (see `mailbox`), streams ([`streams::STREAMS_MAX`] of each direction,
//! each with time-outs), and what is read of a frame.

mod address;
mod driver;
mod incarnation;
mod join;
mod key_file;
mod mailbox;
mod options;
mod sockets;
mod streams;
mod thread;

pub use options::{ClusterOptions, GOSSIP_PORT, GossipError};

pub(crate) use mailbox::{
    FromGossip, GOSSIP_MESSAGES_MAX, GossipStatus, StoreQuestion, StoreSlot, StreamCounters,
    ToGossip,
};
pub(crate) use thread::{GossipThread, Place};

#[cfg(test)]
mod tests;
