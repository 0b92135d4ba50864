//! The bodies of a target, one after the other -> its scrapes, as the matcher makes them.

use std::hint::black_box;
use std::sync::Arc;

use ringscrape_engine::config::model::ScrapeRules;
use ringscrape_engine::matcher::Tables;
use ringscrape_engine::parse::Dialect;
use ringscrape_engine::scrape::{Report, TargetState, Walk};
use ringscrape_wal::definition::{Target, next_id};

use crate::logged::target_labels;

/// The time of the first scrape of a target, in Unix milliseconds.
pub const START_MS: i64 = 1_700_000_000_000;
const INTERVAL_MS: i64 = 15_000;

/// A target, scraped again and again.
#[derive(Debug)]
pub struct Scraper {
    /// What it shares with other targets.
    pub tables: Tables,
    /// What is known of it; another one may take its place.
    pub state: TargetState,
    timestamp_ms: i64,
}

impl Default for Scraper {
    fn default() -> Self {
        Self {
            tables: Tables::new(),
            state: unknown_target(),
            timestamp_ms: START_MS,
        }
    }
}

impl Scraper {
    /// One scrape of `body`; gives how many lines took the fast path.
    ///
    /// # Panics
    /// `BUG:` if `body` does not parse.
    pub fn scrape(&mut self, body: &str) -> u32 {
        self.timestamp_ms += INTERVAL_MS;
        let report = Report {
            timestamp_ms: self.timestamp_ms,
            now_ms: self.timestamp_ms,
            duration_s: 0.01,
            timeout_s: 10.0,
            body_bytes: body.len() as u64,
        };
        let mut walk = Walk::begin(&mut self.tables, &self.state, Dialect::Text);
        walk.feed(body.as_bytes(), true)
            .expect("BUG: the body is fine");
        let outcome = walk.finish(&mut self.tables, &mut self.state, &report);
        black_box(&outcome.values);
        outcome.stats.matched
    }
}

/// A target that was never scraped.
pub fn unknown_target() -> TargetState {
    let target = Target {
        id: next_id(),
        key: 1,
        labels: target_labels(),
    };
    TargetState::new(Arc::new(target), Arc::new(ScrapeRules::default()))
}

/// `body` with every 20th sample's first label value changed, from line `first` on.
pub fn churned(body: &str, first: usize) -> String {
    let mut samples = 0;
    let mut out = String::with_capacity(body.len() * 2);
    for line in body.lines() {
        samples += usize::from(!line.starts_with('#'));
        if !line.starts_with('#') && samples % 20 == first {
            out += &line.replacen("=\"", "=\"churned-", 1);
        } else {
            out += line;
        }
        out.push('\n');
    }
    out
}
