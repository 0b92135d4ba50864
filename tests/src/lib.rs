//! Real processes and scripted peers -> what was scraped, sent and answered, sample by sample.
//!
//! The harness under the suites of this crate. It knows nothing of the engine's code: every suite
//! drives the built binary as a user would, so each one can also be run against Debian's
//! `prometheus` (see [`engine::Engine`]), which proves the suite itself.
//!
//! **Invariants**
//! 1. Traffic stays on loopback.
//! 2. A process started here is ended by its own id, at the latest when its value is dropped.
//! 3. Waiting is for a condition, with a deadline and a description of what was missing.

pub mod certificates;
pub mod debian;
pub mod engine;
pub mod exporter;
pub mod exposition;
pub mod families;
pub mod http;
pub mod lan;

pub mod net;
pub mod process;
pub mod recorder;
pub mod server;
pub mod wait;
mod write_request;
pub mod write_request_v2;
