//! Who is there, who scrapes what, and when: membership, target keys, slot times and rings, as
//! pure state machines and functions.
//!
//! Nothing here knows a socket, a file or a clock: times are given as milliseconds since the Unix
//! epoch. Equal tables give equal owners on every node and after every restart.
//!
//! In reading order: a target's `key`, its `slot`s and its `spot`; what a node says of itself
//! (`member`); who is active from when to when (`timeline`, `view`); who owns a key among them
//! (`ring`); how nodes come to know the same (`state`). Then how they talk: sealed datagrams and
//! frames (`packet`), who is alive (`membership`), what goes over a stream (`exchange`), and all of
//! it as one (`node`).

pub mod exchange;
pub mod fuzz;
pub mod key;
pub mod limits;
pub mod member;
pub mod membership;
pub mod name;
pub mod node;
pub mod now;
pub mod packet;
mod placement;
pub mod ring;
pub mod slot;
pub mod spot;
pub mod state;
pub mod store;
pub mod timeline;
pub mod view;

pub use key::TargetKey;
pub use member::Member;
pub use node::Node;
pub use now::Now;
pub use ring::Ring;
pub use slot::Slots;
pub use spot::{Replica, Spot};
pub use state::State;
pub use timeline::Timeline;
pub use view::View;
