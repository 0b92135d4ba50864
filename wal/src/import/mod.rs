//! The write-ahead log of Prometheus in agent mode, and so of Alloy -> scrapes to send.
//!
//! In reading order: which files (`files`), their pages (`pages`), what is in a record (`bytes`,
//! `histogram`, `record`), records put together as scrapes (`scrapes`), all of it (`agent_log`).
//!
//! Source of the format: <https://github.com/prometheus/prometheus/blob/main/tsdb/docs/format/wal.md>
//! for pages and the record types up to 4, <https://pkg.go.dev/github.com/prometheus/prometheus/tsdb/record>
//! for what has been added since. Everything but `files` and `agent_log` is pure; damage
//! is said and passed over.

pub mod agent_log;
mod bytes;
pub mod files;
mod histogram;
pub mod pages;
pub mod record;
pub mod scrapes;
