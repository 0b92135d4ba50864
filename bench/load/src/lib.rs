//! Fake exporters, a verifying remote write receiver, and the runs that use both.
//!
//! Depends on no other crate of the workspace and talks HTTP only, so what it measures and verifies
//! may be any scraper that reads a Prometheus configuration and remote-writes. The value scheme
//! that
//! makes every sample verifiable is in [`scheme`].

pub mod error;
pub mod units;

// Values: what is exposed and what must arrive.
mod body;
pub mod gofloat;
mod profile;
pub mod scheme;

// The machine: sockets, processes, files.
mod http;
mod output;
mod process;
mod sys;

// The two ends.
pub mod fleet;
pub mod sink;

// The runs that use both.
pub mod compare;
pub mod demo;
pub mod portrait;

pub use compare::CompareArgs;
pub use compare::breakdown::BreakdownArgs;
pub use compare::drill::DrillArgs;
pub use compare::saturate::SaturateArgs;
pub use demo::DemoArgs;
pub use error::Error;
pub use fleet::FleetArgs;
pub use portrait::ProfileArgs;
pub use profile::Profile;
pub use sink::SinkArgs;
