//! Targets with phase and interval -> which one is due when.
//!
//! Pure: no clock, no runtime. [`wheel`] holds the deadlines of a shard, [`slots`] says what the
//! next one of a target is and which time its scrape is stamped with, [`window`] where this node's
//! slots end.

pub mod slots;
pub mod wheel;
pub mod window;

pub use slots::{Begun, Next, Turns};
pub use wheel::{Due, Timer, Wheel};
pub use window::Finished;
