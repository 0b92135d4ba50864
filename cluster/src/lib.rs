//! Who scrapes what, and when: target keys, slot times and the ring, as pure functions.
//!
//! Nothing here knows a socket, a file or a clock: times are given as milliseconds since the Unix
//! epoch. All results are the same on every node and after every restart.

pub mod key;
pub mod ring;
pub mod slot;

pub use key::TargetKey;
pub use ring::Ring;
pub use slot::Slots;
