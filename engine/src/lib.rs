//! The scrape engine: a Prometheus configuration in, remote write out; every core works alone.

pub mod config;
pub mod discovery;
pub mod labels;
mod protobuf;
pub mod relabel;
pub mod target;

pub mod service;

mod control;
mod gossip;
mod mailbox;
mod resolve;
mod run;
mod server;
mod storage;
pub mod tls;

mod shard;

pub mod schedule;

pub mod fetch;

pub mod parse;

pub mod matcher;

pub mod scrape;

pub mod log;

pub mod remote_write;

pub mod import;

pub mod api;
mod clock;
pub mod memory;
pub mod metrics;
mod web;

pub mod fuzz;

pub use control::trial::ConfigTrial;
pub use gossip::{ClusterOptions, GOSSIP_PORT, GossipError};
pub use log::SyncPolicy;
pub use run::{RunError, RunOptions, run};
pub use server::check_web_config;
pub use storage::{Storage, StorageError};
