//! Records of the log -> remote write 1.0 or 2.0 requests, and answers -> cursors.
//!
//! In reading order: what is read (`from_log`, `source`), its bytes (`derive`, `encode`,
//! `metadata`, `wire`), the same bytes compressed as they are made (`edits`, `construct`, `record`,
//! `places`, then `sink` in two forms: `snappy`, `zstd_sequences` on `zstd_context`), the same
//! samples with symbols for labels (`v2`), all as `request`; requests (`batch`, `cut`, `window`),
//! the state machine that joins them (`queue`, `fill`), what an answer means (`retry`, `offer`,
//! `answer`), what it counts (`stats`) and has before it (`progress`); then the network side, on
//! the control thread: how many requests the receiver bears (`pace`) and a shard may have
//! (`permits`), and HTTP (`post`).
//!
//! Everything but `post` and `from_log` is pure: no runtime, socket, file or clock.

pub mod from_log;
pub mod source;

pub mod derive;
pub mod encode;
pub mod metadata;
mod wire;

pub mod construct;
mod diff;
pub mod edits;
mod places;
mod record;
pub mod request;
mod rows;
mod sink;
mod snappy;
mod zstd_context;
mod zstd_sequences;

mod v2;

mod batch;
mod cut;
mod window;

mod answer;
mod fill;
mod offer;
pub mod progress;
pub mod queue;
pub mod retry;
pub mod stats;

pub mod pace;
pub mod permits;
pub mod post;

#[cfg(test)]
mod tests;

pub use queue::{Notice, Now, Polled, QueueOptions, Request, ShardQueue};
pub use request::{Compression, Message};
pub use retry::SendResult;
pub use stats::{DropCause, QueueStats};
pub use v2::references;
pub use window::RequestId;
