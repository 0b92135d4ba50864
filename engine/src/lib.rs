//! The scrape engine: a Prometheus configuration in, remote write out; every core works alone.

pub mod config;
pub mod discovery;
pub mod labels;
pub mod relabel;
pub mod target;

mod control;
#[allow(dead_code, unused_imports)] // until the control loop starts it
mod gossip;
mod mailbox;
mod resolve;
mod run;
mod storage;

mod shard;

pub mod schedule;

pub mod fetch;

pub mod parse;

pub mod matcher;

pub mod scrape;

pub mod log;

pub mod remote_write;

pub mod api;
mod clock;
pub mod memory;
pub mod metrics;
mod web;

pub mod fuzz;

pub use gossip::{ClusterOptions, GOSSIP_PORT, GossipError};
pub use log::SyncPolicy;
pub use run::{RunError, RunOptions, run};
