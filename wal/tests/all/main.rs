//! Tests of the log through its public surface, in one binary.
#![allow(unreachable_pub, clippy::unwrap_used, dead_code)]

mod backlog;
mod common;
mod damage;
mod import;
mod live;
mod roundtrip;
mod thin;
mod tools;
