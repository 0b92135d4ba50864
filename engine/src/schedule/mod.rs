//! Targets with phase and interval -> which one is due when.
//!
//! Pure: no clock, no runtime. [`wheel`] holds the deadlines of a shard, [`slots`] says what the
//! next one of a target is and which time its scrape is stamped with.

pub mod slots;
pub mod wheel;

pub use slots::{Begun, Next, Turns};
pub use wheel::{Due, Timer, Wheel};
