//! Scrapes from elsewhere, one after the other -> one endpoint, until it has acknowledged them all.
//!
//! The endpoint's own queue and network side do the work: relabelling, batches, retries, pauses,
//! the search for a series that the receiver refuses. Nothing is logged: what is to be sent is in
//! the caller's hands still, and can be sent again.

use crate::clock;
use crate::config::Endpoint;
use crate::remote_write::post::{PostError, Poster, ShardRequest, ToShard};
use crate::remote_write::source::{LogSource, Next};
use crate::remote_write::{Notice, Now, QueueOptions, QueueStats, ShardQueue};
use ringscrape_wal::error::ReadError;
use ringscrape_wal::scrape::{Position, Scrape};
use ringscrape_wal::tail::Entry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Requests that may wait for the network side.
const REQUESTS_WAITING_MAX: usize = 16;
/// How often the caller is told how far it is, at least.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// Requests per second with which refused batches are taken apart.
const ISOLATION_REQUESTS_PER_S: f64 = 5.0;
/// Scrapes that get positions in one segment, as if they were in a log.
const SCRAPES_PER_SEGMENT: u64 = 1 << 20;

/// Why scrapes were not sent to the end.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The endpoint's settings.
    #[error(transparent)]
    Endpoint(#[from] PostError),
    /// What was to be sent cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No thread or timer for the network.
    #[error("cannot start the network side: {0}")]
    Start(#[source] std::io::Error),
    /// The network side has ended without being told to.
    #[error("BUG: the network side has ended")]
    Ended,
}

/// Gives scrapes; `None` at the end. Those of one target are sent in the order given.
pub trait Supply {
    /// The next one.
    ///
    /// # Errors
    /// It cannot be read; sending ends then.
    fn next_scrape(&mut self) -> Result<Option<Arc<Scrape>>, ReadError>;
    /// How far sending is, several times a second, and what an operator should know.
    fn watch(&mut self, stats: &QueueStats, notices: &[Notice]);
}

/// Sends all that `supply` gives; returns when it is acknowledged, or given up as `QueueStats`
/// says. Retries for as long as the receiver takes nothing. Blocking.
///
/// A receiver that says a sample is out of order, a duplicate or too old has it already, as far as
/// can be known: that counts as `samples_resent`, and is not searched for.
///
/// # Errors
/// The endpoint cannot be used, or what is to be sent cannot be read.
pub fn send(endpoint: &Arc<Endpoint>, supply: &mut dyn Supply) -> Result<QueueStats, ImportError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ImportError::Start)?;
    runtime.block_on(send_all(endpoint, supply))
}

async fn send_all(
    endpoint: &Arc<Endpoint>,
    supply: &mut dyn Supply,
) -> Result<QueueStats, ImportError> {
    let poster = Poster::new(endpoint, env!("CARGO_PKG_VERSION"))?;
    let (requests, received) = mpsc::channel(REQUESTS_WAITING_MAX);
    let (answers, mut answered) = mpsc::unbounded_channel();
    let network = tokio::spawn(poster.run(received, vec![answers]));
    // Behind any scrape that there can be.
    let everything = Position {
        segment: u64::MAX / 2,
        offset: 0,
    };
    let options = QueueOptions {
        endpoint: endpoint.clone(),
        low_water: Position::default(),
        // Any of it may have arrived before.
        highest_sent: everything,
        run_start: everything,
        isolation_requests_per_s: ISOLATION_REQUESTS_PER_S,
    };
    let mut queue = ShardQueue::new(options, now());
    let mut flushing = false;
    let mut source = Source::new(supply);
    let mut allowance = 1;
    let mut polled_requests = Vec::new();
    loop {
        let stats = queue.stats();
        let free = allowance_left(allowance, &stats);
        let polled = queue.poll(&mut source, now(), free, &mut polled_requests);
        if let Some(error) = source.error.take() {
            return Err(error.into());
        }
        for request in polled_requests.drain(..) {
            let request = ShardRequest {
                shard: 0,
                request,
                backlog_samples: 1,
            };
            requests
                .send(request)
                .await
                .map_err(|_| ImportError::Ended)?;
        }
        source.supply.watch(&stats, &queue.take_notices());
        if polled.at_end && queue.is_drained() {
            break;
        }
        if polled.at_end && !flushing {
            // What is open goes now.
            flushing = true;
            queue.flush();
        } else if polled.more && free > 0 {
            // The network side runs on the same thread.
            tokio::task::yield_now().await;
        } else {
            let _ = tokio::time::timeout(wait(polled.wake_at_ms), async {
                if let Some(message) = answered.recv().await {
                    take(&mut queue, &mut allowance, message);
                }
            })
            .await;
        }
        while let Ok(message) = answered.try_recv() {
            take(&mut queue, &mut allowance, message);
        }
    }
    drop(requests);
    network.await.map_err(|_| ImportError::Ended)?;
    let stats = queue.stats();
    source.supply.watch(&stats, &queue.take_notices());
    Ok(stats)
}

fn take(queue: &mut ShardQueue, allowance: &mut u32, message: ToShard) {
    match message {
        ToShard::Ended {
            id,
            result,
            elapsed_us,
        } => queue.on_result(id, &result, elapsed_us, now()),
        ToShard::Allowance { requests, .. } => *allowance = requests,
    }
}

fn allowance_left(allowance: u32, stats: &QueueStats) -> u32 {
    allowance.saturating_sub(stats.requests_in_flight)
}

fn wait(wake_at_ms: Option<u64>) -> Duration {
    let until = wake_at_ms.map(|at| at.saturating_sub(clock::monotonic_ms()).max(1));
    until
        .map_or(WATCH_INTERVAL, Duration::from_millis)
        .min(WATCH_INTERVAL)
}

fn now() -> Now {
    Now {
        monotonic_ms: clock::monotonic_ms(),
        unix_ms: clock::now_ms(),
    }
}

/// Scrapes as the records of a log that is as long as they are many.
struct Source<'a> {
    supply: &'a mut dyn Supply,
    /// Scrapes taken.
    taken: u64,
    current: Option<Entry>,
    ended: bool,
    error: Option<ReadError>,
}

impl<'a> Source<'a> {
    fn new(supply: &'a mut dyn Supply) -> Self {
        Self {
            supply,
            taken: 0,
            current: None,
            ended: false,
            error: None,
        }
    }
}

fn position(number: u64) -> Position {
    Position {
        segment: 1 + number / SCRAPES_PER_SEGMENT,
        offset: 16 * (number % SCRAPES_PER_SEGMENT) as u32,
    }
}

impl LogSource for Source<'_> {
    fn next(&mut self, from: Position) -> Next {
        if let Some(entry) = &self.current
            && from <= entry.position
        {
            return Next::Record(entry.clone());
        }
        if self.ended {
            return Next::End;
        }
        match self.supply.next_scrape() {
            Ok(Some(scrape)) => {
                let position = position(self.taken);
                self.taken += 1;
                let entry = Entry {
                    position,
                    end: Position {
                        offset: position.offset + 8,
                        ..position
                    },
                    scrape,
                };
                self.current = Some(entry.clone());
                Next::Record(entry)
            }
            Ok(None) => {
                self.ended = true;
                Next::End
            }
            Err(error) => {
                self.error = Some(error);
                Next::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringscrape_wal::definition::{Layout, Route, Target, next_id};

    struct Three(u32);

    impl Supply for Three {
        fn next_scrape(&mut self) -> Result<Option<Arc<Scrape>>, ReadError> {
            self.0 += 1;
            Ok((self.0 <= 3).then(|| {
                Arc::new(Scrape {
                    target: Arc::new(Target {
                        id: next_id(),
                        key: 1,
                        labels: [].into(),
                    }),
                    route: Arc::new(Route {
                        id: next_id(),
                        endpoints: [].into(),
                    }),
                    timestamp_ms: i64::from(self.0),
                    layout: Arc::new(Layout {
                        id: next_id(),
                        runs: [].into(),
                        len: 0,
                    }),
                    values: vec![],
                    stale: [].into(),
                    sides: None,
                })
            }))
        }

        fn watch(&mut self, _: &QueueStats, _: &[Notice]) {}
    }

    #[test]
    fn scrapes_have_rising_positions_and_can_be_asked_for_twice() {
        let mut supply = Three(0);
        let mut source = Source::new(&mut supply);
        let mut from = Position::default();
        for wanted in 1..=3 {
            for _ in 0..2 {
                let Next::Record(entry) = source.next(from) else {
                    panic!("no record {wanted}");
                };
                assert_eq!(entry.scrape.timestamp_ms, wanted);
                assert!(entry.position >= from && entry.end > entry.position);
                from = entry.position;
            }
            from.offset += 8;
        }
        for _ in 0..2 {
            assert!(matches!(source.next(from), Next::End));
        }
        let at = SCRAPES_PER_SEGMENT;
        assert!(position(at) > position(at - 1));
        assert_eq!(position(at).segment, 2);
    }
}
