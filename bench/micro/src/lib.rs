//! What the benchmarks of this room work on: exposition bodies, and scrapes as the log takes them.
//!
//! Everything is deterministic: a seed gives the same bytes everywhere.

mod bodies;
mod logged;
mod scraper;
mod sender;
mod writer;

pub use bodies::{kube_like, node_like};
pub use logged::Logged;
pub use scraper::{START_MS, Scraper, churned, unknown_target};
pub use sender::KeptEdits;
pub use writer::{log_without_files, write_pending};
