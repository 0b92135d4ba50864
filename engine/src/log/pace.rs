//! The state of a log and the time -> what is due: a write, a sync, housekeeping.
//!
//! Pure. Each write costs some wake-ups, so there are few while all goes well: what every endpoint
//! has soon acknowledged need not be safe from a crash, and is written with the next sync.

use super::SyncPolicy;
use ringscrape_wal::scrape::Position;
use std::time::{Duration, Instant};

/// How long appended records wait for the next write.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// The same while an endpoint lags behind, or the log is not written at all.
const WRITE_INTERVAL_LAGGING: Duration = Duration::from_millis(250);
/// The same if each write is synced.
const WRITE_INTERVAL_SYNCED: Duration = Duration::from_millis(50);
/// Bytes that are written without waiting for more.
const WRITE_BYTES: u64 = 1 << 20;
/// An endpoint that has not acknowledged what was logged one to two of this ago lags behind.
const LAG: Duration = Duration::from_millis(500);
/// How often cursors are saved and segments deleted.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// The log, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// Bytes gathered and not given to a write.
    pub(super) pending_bytes: u64,
    /// Writing failed: the next write tries again, when its pause is over.
    pub(super) suspended: bool,
    /// Former runs' segments are known.
    pub(super) adopted: bool,
    /// Cursors have moved since they were saved.
    pub(super) cursors_moved: bool,
    /// There are bytes in files that were not synced.
    pub(super) unsynced: bool,
    /// End of the log.
    pub(super) end: Position,
    /// The slowest endpoint's mark.
    pub(super) low_water: Option<Position>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) write: bool,
    pub(super) sync: bool,
    pub(super) housekeep: bool,
    /// When something will be, if nothing changes.
    pub(super) next: Option<Instant>,
}

/// When a log's driver has last done what.
#[derive(Debug)]
pub(super) struct Pace {
    policy: SyncPolicy,
    wrote_at: Instant,
    synced_at: Instant,
    kept_at: Instant,
    /// The log's end a while ago, and when that was.
    mark: (Instant, Position),
    lagging: bool,
}

impl Pace {
    /// A driver that begins at `now`.
    pub(super) fn new(policy: SyncPolicy, now: Instant) -> Self {
        Self {
            policy,
            wrote_at: now,
            synced_at: now,
            kept_at: now,
            mark: (now, Position::default()),
            lagging: true,
        }
    }

    /// What is due at `now`; it counts as done.
    pub(super) fn due(&mut self, now: Instant, view: View) -> Due {
        if now >= self.mark.0 + LAG {
            self.lagging = view.low_water.is_none_or(|mark| mark < self.mark.1);
            self.mark = (now, view.end);
        }
        let write_at = self.write_at(now, view);
        let keep_at = self.kept_at + HOUSEKEEPING_INTERVAL;
        let sync_at = match self.policy {
            SyncPolicy::Every(interval) => view.unsynced.then(|| self.synced_at + interval),
            SyncPolicy::Always | SyncPolicy::Never => None,
        };
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let due = Due {
            write: is_due(write_at),
            sync: is_due(sync_at),
            housekeep: view.adopted && keep_at <= now,
            // That segments grow too old wakes nobody.
            next: [write_at, sync_at, view.cursors_moved.then_some(keep_at)]
                .into_iter()
                .flatten()
                .filter(|at| *at > now)
                .min(),
        };
        if due.write {
            self.wrote_at = now;
        }
        if due.sync {
            self.synced_at = now;
        }
        if due.housekeep {
            self.kept_at = now;
        }
        due
    }

    /// When what the log has gathered is to be written; `None`: there is nothing.
    fn write_at(&self, now: Instant, view: View) -> Option<Instant> {
        let interval = match self.policy {
            SyncPolicy::Always => WRITE_INTERVAL_SYNCED,
            _ if self.lagging || view.suspended => WRITE_INTERVAL_LAGGING,
            _ => WRITE_INTERVAL,
        };
        match view.pending_bytes {
            _ if view.suspended => Some(self.wrote_at + interval),
            0 => None,
            WRITE_BYTES.. => Some(now),
            _ => Some(self.wrote_at + interval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    fn view() -> View {
        View {
            pending_bytes: 100,
            suspended: false,
            adopted: true,
            cursors_moved: false,
            unsynced: false,
            end: position(1_000),
            low_water: Some(position(1_000)),
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Times, in ms after the start, at which writes are due.
    fn writes(view_at: impl Fn(u64) -> View, until_ms: u64) -> Vec<u64> {
        let start = Instant::now();
        let mut pace = Pace::new(SyncPolicy::default(), start);
        (0..until_ms)
            .step_by(10)
            .filter(|at| pace.due(start + ms(*at), view_at(*at)).write)
            .collect()
    }

    #[test]
    fn writes_are_rare_while_endpoints_follow_and_frequent_while_one_lags() {
        let follows = |at: u64| View {
            end: position(at as u32),
            low_water: Some(position(at.saturating_sub(300) as u32)),
            ..view()
        };
        assert_eq!(writes(follows, 5_000), [250, 1_250, 2_250, 3_250, 4_250]);
        let lags = |at: u64| View {
            end: position(at as u32),
            low_water: Some(position(0)),
            ..view()
        };
        // It takes a second to see that one lags.
        assert_eq!(writes(lags, 2_000), [250, 1_000, 1_250, 1_500, 1_750]);
    }

    #[test]
    fn much_is_written_at_once_and_nothing_never() {
        let much = |_| View {
            pending_bytes: WRITE_BYTES,
            ..view()
        };
        assert_eq!(writes(much, 30), [0, 10, 20]);
        let nothing = |_| View {
            pending_bytes: 0,
            ..view()
        };
        assert!(writes(nothing, 5_000).is_empty());
    }

    #[test]
    fn next_is_when_something_will_be_due() {
        let start = Instant::now();
        let mut pace = Pace::new(SyncPolicy::default(), start);
        let idle = View {
            pending_bytes: 0,
            ..view()
        };
        assert_eq!(pace.due(start, idle).next, None);
        let unsynced = View {
            unsynced: true,
            ..idle
        };
        assert_eq!(pace.due(start, unsynced).next, Some(start + ms(1_000)));
        let due = pace.due(start + ms(1_000), unsynced);
        assert!(due.sync && due.housekeep && !due.write);
        assert!(!pace.due(start + ms(1_010), unsynced).sync);
    }
}
