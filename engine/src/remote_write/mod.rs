//! Records of the log -> remote write 1.0 requests, and answers -> cursors.
//!
//! In reading order: what is read (`from_log`, `source`), its bytes (`derive`, `encode`,
//! `metadata`, `wire`), requests (`batch`, `window`), the state machine that joins them (`queue`,
//! `fill`), what an answer means (`retry`, `answer`), what it counts (`stats`); then the network
//! side, on the control thread: how many requests a shard may have (`permits`) and HTTP (`post`).
//!
//! Everything but `post` and `from_log` is pure: no runtime, socket, file or clock.

pub mod from_log;
pub mod source;

pub mod derive;
pub mod encode;
pub mod metadata;
mod wire;

mod batch;
mod window;

mod answer;
mod fill;
pub mod queue;
pub mod retry;
pub mod stats;

pub mod permits;
pub mod post;

#[cfg(test)]
mod tests;

pub use queue::{Notice, Now, Polled, QueueOptions, Request, ShardQueue};
pub use retry::SendResult;
pub use stats::{DropCause, QueueStats};
pub use window::RequestId;
