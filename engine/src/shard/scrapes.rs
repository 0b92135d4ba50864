//! Due slots -> fetches; bodies -> scrapes in the log. The part of a shard that takes bodies.

use super::moves::Moves;
use super::names::Names;
use super::shown;
use super::targets::{Flight, Host, Slot, Targets};
use crate::api::Health;
use crate::clock;
use crate::fetch::{BodySink, FetchError, FetchStats, Fetcher, Now, Phase};
use crate::mailbox::{Addresses, FromShard, HostPort, ShardIndex};
use crate::matcher::Tables;
use crate::metrics::ShardFigures;
use crate::parse::Dialect;
use crate::schedule::{Due, Wheel};
use crate::scrape::{Failure, Outcome, Report, ScrapeError, Walk, end_of_run, fail};
use ringscrape_wal::log::ShardLog;
use ringscrape_wal::scrape::Scrape;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::mpsc;
use tracing::error;

/// How long nothing more is said of a clock that was set back.
const CLOCK_QUIET_NS: u64 = 60_000_000_000;
/// Everything a scrape touches but the fetcher.
pub(super) struct Scrapes {
    pub(super) targets: Targets,
    pub(super) tables: Tables,
    pub(super) wheel: Wheel,
    pub(super) log: Rc<RefCell<ShardLog>>,
    pub(super) figures: ShardFigures,
    /// What is known of targets from former runs and from other nodes, and for other nodes.
    pub(super) moves: Moves,
    pub(super) names: Names,
    /// No scrape begins.
    pub(super) is_held: bool,
    /// A scrape that begins later than this after its turn did shows that the shard stood still, in
    /// ms; 0 = it is not looked at.
    standstill_ms: u64,
    due: Vec<Due>,
    pub(super) now: Now,
    /// A clock that was set back is not spoken of before.
    clock_quiet_until_ns: u64,
}

impl Scrapes {
    pub(super) fn new(
        shard: ShardIndex,
        log: Rc<RefCell<ShardLog>>,
        reports: mpsc::Sender<(ShardIndex, FromShard)>,
        standstill_ms: u64,
    ) -> Self {
        let now = now();
        let tables = Tables::with_pool(log.borrow().pool().clone());
        Self {
            targets: Targets::default(),
            tables,
            wheel: Wheel::new(now.monotonic_ns / 1_000_000),
            log,
            figures: ShardFigures::default(),
            moves: Moves::new(shard, reports.clone()),
            names: Names::new(shard, reports),
            is_held: false,
            standstill_ms,
            due: Vec::new(),
            now,
            clock_quiet_until_ns: 0,
        }
    }

    /// Starts what is due and ends what has run out of time.
    pub(super) fn advance(&mut self, fetcher: &mut Fetcher, now: Now) {
        self.now = now;
        self.names.ask();
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now.monotonic_ns / 1_000_000, &mut due);
        for due in due.drain(..) {
            let index = due.id as usize;
            let Some(slot) = self.targets.slab.get_mut(index) else {
                continue;
            };
            slot.timer = None;
            match &slot.flight {
                Some(flight) if flight.resolving => {
                    self.finish(index, Err(FetchError::Timeout(Phase::Resolve)))
                }
                Some(_) => {
                    fetcher.timeout(due.id, self);
                    // Whatever the fetcher knows of it: a scrape ends when its time is up.
                    self.finish(index, Err(FetchError::Timeout(Phase::Wait)));
                }
                None if slot.ends_at_ms.is_some() => self.end_series(fetcher, index),
                None if slot.is_resting => self.leave(index),
                None => self.begin(fetcher, index),
            }
        }
        self.due = due;
    }

    /// Schedules a target's next slot; if it has none here, it rests.
    pub(super) fn schedule(&mut self, index: usize) {
        let now_ms = self.now.unix_ns / 1_000_000;
        let slot = &mut self.targets.slab[index];
        let Some(next) = slot.turns.next_before(&slot.slots, now_ms, slot.until_ms()) else {
            return self.rest(index);
        };
        let ahead_ms = next.at_ms.saturating_sub(now_ms.max(slot.from_ms));
        if ahead_ms > 2 * slot.slots.interval_ms() as i64
            && self.now.monotonic_ns >= self.clock_quiet_until_ns
        {
            self.clock_quiet_until_ns = self.now.monotonic_ns + CLOCK_QUIET_NS;
            error!(
                ahead_s = ahead_ms / 1_000,
                "the system clock was set back: no target is scraped twice for one time, so \
                 scraping goes on when the clock has caught up; restart to scrape at once"
            );
        }
        self.set_timer(index, next.at_ms);
    }

    /// Sets the target's timer to a time of the wall clock.
    pub(super) fn set_timer(&mut self, index: usize, at_ms: i64) {
        // The wheel runs on the monotonic clock: a step of the wall clock must not stop it.
        // In ns, and rounded up: so that all targets of one place of the grid come due in the same
        // millisecond, at one wake-up, and none too early.
        let ahead_ns = at_ms
            .saturating_mul(1_000_000)
            .saturating_sub(self.now.unix_ns)
            .max(0)
            .unsigned_abs();
        let deadline_ms = (self.now.monotonic_ns + ahead_ns).div_ceil(1_000_000);
        let slot = &mut self.targets.slab[index];
        if let Some(timer) = slot.timer.take() {
            self.wheel.cancel(timer);
        }
        slot.timer = Some(self.wheel.set(index as u32, deadline_ms));
    }

    /// Drops what is under way: the process stops, and a scrape cut short says nothing.
    pub(super) fn drop_flights(&mut self, fetcher: &mut Fetcher) {
        for (index, slot) in &mut self.targets.slab {
            if slot.flight.take().is_some() {
                fetcher.forget(index as u32);
            }
        }
    }

    fn end_series(&mut self, fetcher: &mut Fetcher, index: usize) {
        fetcher.forget(index as u32);
        let slot = &mut self.targets.slab[index];
        let end_ms = slot.ends_at_ms.unwrap_or_default();
        if slot.last_scrape_ms.is_none() {
            self.moves.restore(&mut slot.state);
        }
        if !slot.succeeded
            && let Some(outcome) = end_of_run(&mut self.tables, &mut slot.state, end_ms)
        {
            self.log_outcome(index, outcome, end_ms);
        }
        let id = self.targets.slab[index].log_target.id;
        self.log.borrow_mut().forget_target(id);
        self.targets.remove(index);
    }

    /// A slot is due.
    fn begin(&mut self, fetcher: &mut Fetcher, index: usize) {
        let now_ms = self.now.unix_ns / 1_000_000;
        let started_us = clock::monotonic_us();
        let stood_ms = started_us.saturating_sub(self.now.monotonic_ns / 1_000) / 1_000;
        if self.standstill_ms > 0 && stood_ms > self.standstill_ms {
            self.stand_still();
        }
        let slot = &mut self.targets.slab[index];
        if self.is_held {
            slot.was_held = true;
            return;
        }
        let own = slot.turns.next_before(&slot.slots, now_ms, slot.until_ms());
        let Some(begun) = own.and_then(|_| slot.turns.begin(&slot.slots, now_ms)) else {
            return self.schedule(index);
        };
        self.count_missed(index, begun.missed);
        self.figures.slot_lateness.record(begun.late_ms * 1_000);
        let slot = &mut self.targets.slab[index];
        if let Some(crashed_ms) = slot.taken_over_ms.take() {
            let after_ms = now_ms.saturating_sub(crashed_ms).max(0).unsigned_abs();
            self.figures.takeover.record(after_ms * 1_000);
        }
        if slot.last_scrape_ms.is_none() {
            self.figures.handovers_used += u64::from(self.moves.restore(&mut slot.state));
        }
        slot.last_scrape_ms = Some(begun.timestamp_ms);
        slot.flight = Some(Flight {
            timestamp_ms: begun.timestamp_ms,
            started_us,
            walk: None,
            resolving: false,
        });
        if let Some(reason) = slot.forced_error.clone() {
            let (cause, message) = (reason.cause, reason.message.to_string());
            let error = FetchError::Body { cause, message };
            return self.finish(index, Err(error));
        }
        let timeout_ms = slot.target.timeout_ms as i64;
        self.set_timer(index, now_ms + timeout_ms);
        let slot = &mut self.targets.slab[index];
        match &slot.host {
            Host::Address(addresses) => {
                let addresses = addresses.clone();
                self.fetch(fetcher, index, addresses);
            }
            Host::Name(name) => {
                let name = name.clone();
                match self
                    .names
                    .addresses(&name, index, self.now.monotonic_ns / 1_000_000)
                {
                    Some(addresses) => self.fetch(fetcher, index, addresses),
                    None => {
                        if let Some(flight) = &mut self.targets.slab[index].flight {
                            flight.resolving = true;
                        }
                    }
                }
            }
        }
    }

    fn fetch(&mut self, fetcher: &mut Fetcher, index: usize, addresses: Addresses) {
        match &self.targets.slab[index].request {
            Ok(request) => {
                let request = request.clone();
                let now = self.now;
                fetcher.start(index as u32, request, addresses, now, self);
            }
            Err(reason) => {
                let error = FetchError::Body {
                    cause: "url",
                    message: reason.clone(),
                };
                self.finish(index, Err(error));
            }
        }
    }

    /// The answer to a question: scrapes that wait for it go on.
    pub(super) fn resolved(
        &mut self,
        fetcher: &mut Fetcher,
        name: &HostPort,
        result: Result<Addresses, String>,
    ) {
        let waiting = self
            .names
            .answered(name, &result, self.now.monotonic_ns / 1_000_000);
        for index in waiting {
            let Some(slot) = self.targets.slab.get_mut(index) else {
                continue;
            };
            let own = matches!(&slot.host, Host::Name(own) if own == name);
            match &mut slot.flight {
                Some(flight) if flight.resolving && !own => {}
                Some(flight) if flight.resolving => {
                    flight.resolving = false;
                    match &result {
                        Ok(addresses) => self.fetch(fetcher, index, addresses.clone()),
                        Err(reason) => {
                            let (host, reason) = (name.host.to_string(), reason.clone());
                            self.finish(index, Err(FetchError::Resolve { host, reason }));
                        }
                    }
                }
                Some(_) => {
                    let addresses = result.clone().map(|addresses| addresses.to_vec());
                    let now = self.now;
                    fetcher.resolved(index as u32, &name.host, addresses, now, self);
                }
                None => {}
            }
        }
    }

    /// A scrape has ended: its outcome goes into the log, and the next slot is scheduled.
    fn finish(&mut self, index: usize, result: Result<FetchStats, FetchError>) {
        let Some(slot) = self.targets.slab.get_mut(index) else {
            return;
        };
        let Some(flight) = slot.flight.take() else {
            return;
        };
        let now_ms = clock::now_ms();
        let duration_us = match &result {
            Ok(stats) => stats.duration_ns / 1_000,
            Err(_) => clock::monotonic_us().saturating_sub(flight.started_us),
        };
        let body_bytes = match &result {
            Ok(stats) => stats.body_bytes,
            Err(FetchError::ContentType { body_bytes, .. }) => *body_bytes,
            Err(_) => 0,
        };
        let report = Report {
            timestamp_ms: flight.timestamp_ms,
            now_ms,
            duration_s: duration_us as f64 / 1e6,
            timeout_s: slot.target.timeout_ms as f64 / 1e3,
            body_bytes,
        };
        if let Ok(stats) = &result {
            self.figures.scrape_duration.record(duration_us);
            self.figures.wire_bytes += stats.wire_bytes;
            self.figures.body_bytes += stats.body_bytes;
            self.figures.connections_opened += u64::from(!stats.connection_reused);
        }
        let (outcome, cause) = outcome(&mut self.tables, slot, flight.walk, result, report);
        slot.last_duration_s = duration_us as f64 / 1e6;
        slot.health = if cause == "ok" {
            Health::Up
        } else {
            Health::Down
        };
        *self.figures.scrapes.entry(cause).or_insert(0) += 1;
        self.figures.exceeded_sample_limit += u64::from(cause == "sample_limit");
        self.figures.exceeded_body_limit += u64::from(cause == "body_size_limit");
        if cause == "ok" {
            self.targets.note_cost(index, outcome.layout.len);
        }
        self.log_outcome(index, outcome, now_ms);
        let slot = &mut self.targets.slab[index];
        let until_ms = slot.until_ms();
        let finished = slot.turns.finish_before(&slot.slots, now_ms, until_ms);
        self.figures.slots_missed_overrun += finished.overrun;
        match finished.next {
            Some(next) => self.set_timer(index, next.at_ms),
            None => self.rest(index),
        }
    }

    fn log_outcome(&mut self, index: usize, outcome: Outcome, now_ms: i64) {
        let slot = &self.targets.slab[index];
        let figures = &mut self.figures;
        let stats = &outcome.stats;
        figures.matched += u64::from(stats.matched);
        figures.parsed += u64::from(stats.parsed);
        figures.duplicates += u64::from(stats.duplicates);
        figures.out_of_order += u64::from(stats.out_of_order);
        figures.out_of_bounds += u64::from(stats.out_of_bounds);
        figures.relabel_dropped += u64::from(
            stats
                .samples_scraped
                .saturating_sub(stats.samples_post_relabel),
        );
        figures.exemplars_dropped += u64::from(stats.exemplars_dropped);
        figures.stale_markers += u64::from(stats.stale_markers);
        figures.samples += u64::from(outcome.layout.len);
        figures.highest_timestamp_ms = figures.highest_timestamp_ms.max(outcome.timestamp_ms);
        let scrape = Scrape {
            target: slot.log_target.clone(),
            route: slot.route.clone(),
            timestamp_ms: outcome.timestamp_ms,
            layout: outcome.layout,
            values: outcome.values,
            stale: outcome.stale,
            sides: outcome.sides,
        };
        let mut log = self.log.borrow_mut();
        let scrape = log.pool().share(scrape);
        log.append(scrape, now_ms);
    }
}

impl BodySink for Scrapes {
    fn head(&mut self, id: u32, dialect: Dialect) -> Result<(), FetchError> {
        if let Some(slot) = self.targets.slab.get_mut(id as usize)
            && let Some(flight) = &mut slot.flight
        {
            flight.walk = Some(Walk::begin(&mut self.tables, &slot.state, dialect));
        }
        Ok(())
    }

    fn window(&mut self, id: u32, bytes: &[u8], last: bool) -> Result<usize, FetchError> {
        let slot = self.targets.slab.get_mut(id as usize);
        let walk = slot
            .and_then(|slot| slot.flight.as_mut())
            .and_then(|f| f.walk.as_mut());
        // A body that goes wrong is taken to its end all the same: whether it arrives whole decides
        // what the failure means, and the connection can be kept.
        Ok(walk
            .and_then(|walk| walk.feed(bytes, last).ok())
            .unwrap_or(bytes.len()))
    }

    fn done(&mut self, id: u32, result: Result<FetchStats, FetchError>) {
        self.finish(id as usize, result);
    }

    fn need_address(&mut self, id: u32, host: &str, port: u16) {
        let name = HostPort {
            host: host.into(),
            port,
        };
        let now_ms = self.now.monotonic_ns / 1_000_000;
        self.names.look_up_for(&name, id as usize, now_ms);
    }
}

/// What a scrape comes to, and its result for metrics.
fn outcome(
    tables: &mut Tables,
    slot: &mut Slot,
    walk: Option<Walk>,
    result: Result<FetchStats, FetchError>,
    report: Report,
) -> (Outcome, &'static str) {
    let is_stored = slot.target.scrape_config.rules.is_stored();
    let outcome = match (result, walk) {
        (Ok(_), Some(walk)) => walk.finish(tables, &mut slot.state, &report),
        (Ok(_), None) => {
            let failure = Failure::Other("BUG: a body without a head".to_owned());
            fail(tables, &mut slot.state, failure, &report)
        }
        (Err(error), _) => {
            let failure = match &error {
                FetchError::BodySizeLimit => Failure::BodySizeLimit {
                    limit_bytes: slot.target.scrape_config.rules.body_size_limit_bytes,
                },
                other => Failure::Other(other.to_string()),
            };
            slot.last_error = shown::fetch_error(&error, is_stored);
            return (
                fail(tables, &mut slot.state, failure, &report),
                error.cause(),
            );
        }
    };
    let cause = match &outcome.error {
        None => "ok",
        Some(ScrapeError::Parse { .. } | ScrapeError::Protobuf { .. }) => "parse",
        Some(ScrapeError::Histogram(_)) => "histogram",
        Some(ScrapeError::BucketLimit { .. }) => "bucket_limit",
        Some(ScrapeError::Series(_)) => "series",
        Some(ScrapeError::LabelLimit(_)) => "label_limit",
        Some(ScrapeError::SampleLimit { .. }) => "sample_limit",
        Some(ScrapeError::Incomplete) => "closed",
        Some(ScrapeError::Failed(_)) => "failed",
    };
    slot.last_error = outcome
        .error
        .as_ref()
        .map(|error| shown::scrape_error(error, is_stored))
        .unwrap_or_default();
    (outcome, cause)
}

/// Both clocks now.
pub(super) fn now() -> Now {
    Now {
        monotonic_ns: clock::monotonic_us() * 1_000,
        unix_ns: clock::now_us() as i64 * 1_000,
    }
}
