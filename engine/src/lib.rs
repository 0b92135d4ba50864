//! The scrape engine: a Prometheus configuration in, remote write out; every core works alone.

pub mod config;
pub mod labels;
pub mod parse;
pub mod relabel;
