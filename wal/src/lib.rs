//! Scrapes -> an append-only log, one directory per shard -> scrapes.
//!
//! In reading order: what is logged (`definition`, `scrape`), the live log of a shard (`log`),
//! where endpoints stand in it (`cursor`), the files (`storage`, `segments`, `reader`, `thin`),
//! what a start finds (`recovery`, `backlog`), what goes to another node (`handover`), and what
//! looks at all this from outside (`tools`, `fuzz`, `stats`).

mod codec;
pub mod format;
mod frame;
pub mod segment;

pub mod definition;
pub mod scrape;

pub mod caps;
pub mod cursor;
pub mod log;
mod moved;
pub mod pool;
pub mod segments;
pub mod tail;
pub mod thin;

pub mod handover;
pub mod reader;
pub mod storage;

pub mod backlog;
pub mod error;
pub mod recovery;
pub mod stats;

pub mod import;

pub mod fuzz;
pub mod tools;
