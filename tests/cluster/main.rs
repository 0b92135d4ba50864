//! Real nodes, a fleet that knows its slots and a receiver that knows every sample -> whether a
//! cluster that changes misses, doubles or loses anything.

mod clocks;
mod costs;
mod crash;
mod demo;
mod discovery;
mod faults;
mod load;
mod names;
mod node;
mod pages;
mod place;
mod planned;
mod replicas;

use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use load::{Fleet, Sink, Size};
use node::Node;
use place::Place;
use serde_json::Value;

/// Most tests wait most of their time: as many run side by side as the harness has threads, which
/// is one for each core. What keeps the cores busy by itself runs alone.
static TURN: RwLock<()> = RwLock::new(());

/// Beside whom a test runs. Held to its end.
#[expect(dead_code, reason = "held, never read")]
enum Turn {
    Beside(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Turn {
    /// Beside others.
    fn beside_others() -> Self {
        Self::Beside(TURN.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When no other one runs.
    fn alone() -> Self {
        Self::Alone(TURN.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A fleet, a receiver, and the configuration of the nodes between them.
struct Stage {
    dir: tempfile::TempDir,
    fleet: Fleet,
    sink: Sink,
    /// Dropped last: what the stage has started is gone then.
    _turn: Turn,
}

impl Stage {
    /// `place`: where the fleet and the receiver are.
    fn new(size: Size, place: &Place) -> Self {
        Self::of(Turn::beside_others(), size, place)
    }

    /// The same, with the machine for itself.
    fn alone(size: Size, place: &Place) -> Self {
        Self::of(Turn::alone(), size, place)
    }

    fn of(turn: Turn, size: Size, place: &Place) -> Self {
        let dir = tempfile::tempdir().expect("cannot make a temporary directory");
        let fleet = Fleet::start(dir.path(), size, place);
        let sink = Sink::start(dir.path(), size, place);
        Self {
            dir,
            fleet,
            sink,
            _turn: turn,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A node's configuration; `settings` are further lines of its one job, indented by 4.
    fn config(&self, settings: &str) -> String {
        let file = self.path().join("targets.json");
        let discovery = format!(
            "    file_sd_configs:\n      - files: ['{}']\n",
            file.display()
        );
        self.config_with(&discovery, settings)
    }

    /// Same; `discovery` are the lines that say where the targets are.
    fn config_with(&self, discovery: &str, settings: &str) -> String {
        format!(
            "global:\n  scrape_interval: {0}s\n  scrape_timeout: {0}s\n\
             scrape_configs:\n  - job_name: fleet\n{discovery}{settings}\
             remote_write:\n  - url: {1}\n",
            self.fleet.size.interval_s,
            self.sink.url(),
        )
    }

    fn node(&self, name: &str, flags: &[&str], place: Place) -> Node {
        Node::new(self.path(), name, &self.config(""), flags, place)
    }

    /// Everything has been scraped once a slot, up to now.
    fn assert_flawless(&self, when: &str) {
        self.assert_all_scraped(when);
        let (doubled, first) = self.assert_none_missed(when);
        assert_eq!(doubled, 0, "{when}: slots doubled; {first}");
    }

    /// Everything has been scraped in each slot; gives the slots doubled so far, and examples.
    fn assert_none_missed(&self, when: &str) -> (u64, String) {
        let (missed, doubled, first) = self.slots(when);
        assert_eq!(missed, 0, "{when}: slots missed; {first}");
        (doubled, first)
    }

    /// Slots missed and doubled so far, printed, and some of the targets.
    fn slots(&self, when: &str) -> (u64, u64, String) {
        let seen = self.fleet.report();
        let slots = |name: &str| seen[name].as_u64().unwrap_or(u64::MAX);
        let (missed, doubled) = (slots("slots_missed"), slots("slots_doubled"));
        let scrapes = &seen["scrapes"];
        eprintln!("{when}: {scrapes} scrapes, {missed} slots missed, {doubled} doubled");
        let off = seen["off_grid"].as_array().cloned().unwrap_or_default();
        let first: Vec<String> = off.iter().take(5).map(Value::to_string).collect();
        (missed, doubled, first.join(", "))
    }

    /// Nobody has been forgotten: each target was scraped in the last two rounds.
    fn assert_all_scraped(&self, when: &str) {
        let span = Duration::from_millis(self.fleet.size.interval_s * 2_500);
        let arrivals = self.fleet.arrivals_ago_ms(span);
        let forgotten = arrivals.iter().filter(|(_, ago)| ago.is_empty());
        let forgotten: Vec<&String> = forgotten.map(|(instance, _)| instance).collect();
        let first = &forgotten[..forgotten.len().min(5)];
        assert!(
            forgotten.is_empty(),
            "{when}: {} targets, as {first:?}",
            forgotten.len()
        );
    }

    /// What arrived is what was exposed: no gap, no duplicate, no false or missing marker.
    fn assert_received(&self, when: &str) {
        let report = self.sink.report();
        eprintln!(
            "{when}: received {} samples: {}",
            report["samples"], report["reason"]
        );
        let findings = report["findings"]
            .as_object()
            .expect("a report has findings");
        let wrong: Vec<_> = findings
            .iter()
            .filter(|(_, n)| n.as_u64() != Some(0))
            .collect();
        assert!(
            wrong.is_empty(),
            "{when}: {wrong:?}; {:?}",
            report["defects"]
                .as_array()
                .map(|list| &list[..list.len().min(5)])
        );
    }
}
