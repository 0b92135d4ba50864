//! One scrape's body or failure + what is known of the target -> one record for the log.
//!
//! `Walk` takes a body in windows and ends in an [`Outcome`]; [`fail`] makes one of a scrape that
//! yielded no body. Both decide as Prometheus does what is logged, which series are stale, and
//! what the automatic series say. Source of the semantics: Prometheus scrape/scrape.go
//! (`scrapeAndReport`, `append`, `scrapeCache`) and tsdb/agent/db.go.
//!
//! **Deviations**, each on purpose:
//! 1. Series that collide after relabelling: the first is logged, the others are counted as
//!    duplicates. Prometheus' agent sends them all, and its receiver keeps one.
//! 2. What the labels of a series are depends on this body alone. Prometheus keeps what it parsed
//!    first even if the TYPE line goes away, as long as the series' text stays.
//! 3. The last explicit timestamp of a series is forgotten when a successful scrape lacks it, or
//!    when other rules come.
//! 4. An automatic series that the target exposes itself is not written a second time at the same
//!    timestamp, and gets no marker as long as the target is scraped.
//! 5. A repeated line is a duplicate even if the first one was dropped for its timestamp.
//!
//! **Not here**: fetching, windows, slot times, the log.

mod change;
mod exemplars;
mod finish;
pub(crate) mod fuzz;
mod handover;
mod limits;
pub mod model;
mod outcome;
mod protobuf;
mod report;
mod rollback;
mod series_added;
mod sides;
mod staleness;
mod target_state;
mod timestamps;

#[cfg(test)]
mod tests;

pub use finish::Walk;
pub use outcome::{Failure, Outcome, Report, ScrapeError, Stats};
pub use report::{end_of_run, fail};
pub use target_state::TargetState;
