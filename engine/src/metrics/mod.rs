//! Counters of all threads -> the program's own exposition.

mod exposition;
mod latency;
mod process;
mod shard_figures;
pub mod table;

pub use exposition::Exposition;
pub use latency::Latency;
pub use process::{ProcessFigures, nofile_limits, raise_nofile_limit};
pub use shard_figures::{EndpointFigures, ShardFigures};
