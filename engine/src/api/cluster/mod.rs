//! The members' table, the timeline and the discovered targets -> what people ask of a cluster.
//!
//! `view` is the JSON, as types that the command line reads, too; `fleet` is what the control loop
//! hands over; `ownership`, `pages` and `status` turn the one into the other and are pure.

mod find;
mod fleet;
pub(crate) mod moves;
mod ownership;
mod pages;
pub(crate) mod peers;
mod routes;
pub(crate) mod status;
#[cfg(test)]
pub(crate) mod tests;
mod view;

pub(crate) use find::TargetQuery;
pub(crate) use fleet::{Fleet, refused_targets};
pub(crate) use ownership::{owners, what_if};
pub(crate) use pages::{PageQuery, StateWord, page};
pub(in crate::api) use routes::routes;
pub use view::*;
