//! What the benchmarks of this room work on: exposition bodies, and scrapes as the log takes them.
//!
//! Everything is deterministic: a seed gives the same bytes everywhere.

mod bodies;
mod logged;

pub use bodies::{kube_like, node_like};
pub use logged::Logged;
