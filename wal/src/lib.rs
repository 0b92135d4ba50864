//! Scrapes -> an append-only log, one directory per shard -> scrapes.

pub mod definition;
pub mod scrape;
