//! One endpoint in one shard: which log it reads, what it has on its way, where it stands.

use super::former::{Former, PATIENCE_MS, Stage};
use crate::config::Endpoint;
use crate::remote_write::from_log::EndpointReader;
use crate::remote_write::post::{ShardRequest, ToShard};
use crate::remote_write::progress::{self, Left, Progress};
use crate::remote_write::{Now, Polled, Request, ShardQueue};
use ringscrape_wal::error::ReadError;
use ringscrape_wal::log::ShardLog;
use ringscrape_wal::scrape::Position;
use ringscrape_wal::segments::Segments;
use ringscrape_wal::storage::FsStorage;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tracing::{error, warn};

/// One endpoint's queue, with what it reads and what it sends through.
pub(super) struct Sender {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) queue: ShardQueue,
    pub(super) reader: EndpointReader,
    /// Which log that is.
    pub(super) stage: Stage,
    pub(super) requests: mpsc::Sender<ShardRequest>,
    /// Of the network side in force first, then of former ones that have requests on their way.
    pub(super) answers: Vec<mpsc::UnboundedReceiver<ToShard>>,
    pub(super) allowance: u32,
    /// Requests that all shards together may have on their way.
    pub(super) bound: u32,
    /// Requests that the control thread had no place for; sent first at the next poll.
    pub(super) held: Vec<ShardRequest>,
    pub(super) read_error_quiet_until_ms: u64,
    /// Where nothing can be read, and since when.
    pub(super) stuck: Option<(Position, u64)>,
    pub(super) progress: Progress,
    /// The last poll read all there is.
    pub(super) at_end: bool,
    /// Before it every record of this run's log is for this endpoint.
    pub(super) backfill_until: Option<Position>,
    /// Identities that it had before.
    pub(super) former: Vec<Box<str>>,
}

impl Sender {
    /// What is still to be sent of all logs.
    pub(super) fn left(&self, log: &ShardLog, former: &Former) -> Left {
        let cursor = self.queue.cursor().0;
        match self.stage {
            Stage::Reading(dir) if let Some(segments) = former.segments(dir) => {
                progress::left(segments.iter(), cursor)
            }
            _ => progress::left(log.segments().iter(), cursor),
        }
    }

    /// Tells the reader which records are for this endpoint. A former log has marks of its own.
    pub(super) fn set_wanted(&mut self, former: &Former) {
        let mut identities = self.former.clone();
        let mut until = self.backfill_until;
        if let Stage::Reading(dir) = self.stage {
            let (marked, marked_until) = former.marks(dir, &self.endpoint.identity);
            identities.extend(marked);
            until = marked_until;
        }
        self.reader.set_former(identities);
        self.reader.set_all_until(until.unwrap_or_default());
    }

    /// Everything logged, in this run and before, has been acknowledged.
    pub(super) fn is_drained(&self) -> bool {
        self.stage == Stage::Live && self.at_end && self.queue.is_drained()
    }

    /// Reads the log that is due.
    pub(super) fn read(
        &mut self,
        log: &ShardLog,
        former: &Former,
        now: Now,
        free: u32,
        out: &mut Vec<Request>,
    ) -> Polled {
        match self.stage {
            Stage::Live => {
                if self.backfill_until.is_some() {
                    // It moves with records that are written again.
                    self.backfill_until = log.cursors().backfill_until(&self.endpoint.identity);
                    self.set_wanted(former);
                }
                self.queue.poll(&mut self.reader.over(log), now, free, out)
            }
            Stage::Reading(dir) if let Some(segments) = former.segments(dir) => {
                self.queue
                    .poll(&mut self.reader.over_files(segments), now, free, out)
            }
            // Nothing is left to read; what is in batches still goes.
            Stage::Reading(dir) if former.is_gone(dir) => {
                let nothing = Segments::default();
                self.queue
                    .poll(&mut self.reader.over_files(&nothing), now, free, out)
            }
            _ => Polled {
                more: false,
                at_end: false,
                wake_at_ms: None,
            },
        }
    }

    pub(super) fn move_cursor(&mut self, log: &mut ShardLog, former: &mut Former) {
        let (low_water, highest_sent) = self.queue.cursor();
        let endpoint = &self.endpoint.identity;
        match self.stage {
            Stage::Live => {
                log.cursors_mut().advance(endpoint, low_water, highest_sent);
                let place = log.place_of(low_water);
                if self.backfill_until.is_some_and(|until| place >= until) {
                    self.backfill_until = None;
                    log.cursors_mut().end_backfill(endpoint);
                }
            }
            Stage::Reading(dir) => former.advance(dir, endpoint, (low_water, highest_sent)),
            Stage::Opening(_) | Stage::Waiting(_) => {}
        }
    }

    /// Turns to the next log if it has everything of this one; true if it does.
    pub(super) fn go_on(
        &mut self,
        log: &ShardLog,
        former: &mut Former,
        run_start: Position,
        live_dir: &Path,
    ) -> bool {
        let is_read = match self.stage {
            Stage::Reading(dir) => self.at_end || former.is_gone(dir),
            Stage::Live => self.at_end,
            Stage::Opening(_) | Stage::Waiting(_) => true,
        };
        let reads = matches!(self.stage, Stage::Reading(_) | Stage::Live);
        if !is_read || (reads && !(self.queue.is_drained() && self.held.is_empty())) {
            return false;
        }
        let endpoint = &self.endpoint.identity;
        let stage = former.next_stage(self.stage, endpoint);
        if stage == self.stage {
            return false;
        }
        let (cursor, run_start, dir) = match stage {
            // Any of a former log may have been sent by the run that wrote it.
            Stage::Reading(dir) => (
                former.cursor(dir, endpoint),
                Position {
                    segment: u64::MAX,
                    offset: 0,
                },
                former.path(dir),
            ),
            Stage::Live => {
                let cursor = log.cursors().get(endpoint);
                let marks = cursor.map(|cursor| (cursor.low_water, cursor.highest_sent));
                (marks, run_start, live_dir)
            }
            Stage::Opening(_) | Stage::Waiting(_) => (None, run_start, live_dir),
        };
        if let Some(cursor) = cursor {
            self.queue.go_on_in(cursor, run_start);
            self.reader = reader(endpoint, dir);
        }
        self.stage = stage;
        self.set_wanted(former);
        self.at_end = false;
        true
    }

    /// Reading fails, does not, or was not tried in this turn. What cannot be read of a former log
    /// for long is passed over, as all that comes after it waits.
    pub(super) fn note_read_error(
        &mut self,
        error: Option<&ReadError>,
        former: &mut Former,
        now: Now,
    ) {
        // Turns in which nothing is asked for, as while the log is worked on, change nothing.
        let stuck_at = self.reader.stuck_at();
        if self.stuck.map(|(at, _)| at) != stuck_at {
            self.stuck = stuck_at.map(|at| (at, now.monotonic_ms));
        }
        let Some(error) = error else {
            return;
        };
        self.report_read_error(error, now);
        if let Stage::Reading(dir) = self.stage
            && let Some((_, since_ms)) = self.stuck
            && now.monotonic_ms >= since_ms + PATIENCE_MS
            && !is_for_lack(&error.source)
            && let Some(segment) = self.reader.give_up()
        {
            former.set_aside(dir, segment);
            error!(
                endpoint = self.endpoint.identity, %error,
                "cannot read a part of the log of a former number of shards: it is passed over \
                 and counted, and its file goes to the quarantine folder"
            );
        }
    }

    /// At most one line in ten seconds: reading is tried again all the time.
    pub(super) fn report_read_error(&mut self, error: &ReadError, now: Now) {
        if now.monotonic_ms >= self.read_error_quiet_until_ms {
            self.read_error_quiet_until_ms = now.monotonic_ms + 10_000;
            warn!(endpoint = self.endpoint.identity, %error,
                "cannot read the log for this endpoint; trying again");
        }
    }

    pub(super) fn take_answers(&mut self, now: Now) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.poll_answers(&mut context, now);
    }

    /// Takes all answers there are; whether there was one.
    pub(super) fn poll_answers(&mut self, context: &mut Context<'_>, now: Now) -> bool {
        let mut any = false;
        let (queue, allowance, bound) = (&mut self.queue, &mut self.allowance, &mut self.bound);
        let mut first = true;
        self.answers.retain_mut(|answers| {
            let in_force = std::mem::take(&mut first);
            loop {
                match answers.poll_recv(context) {
                    Poll::Ready(Some(ToShard::Ended {
                        id,
                        result,
                        elapsed_us,
                    })) => {
                        any = true;
                        queue.on_result(id, &result, elapsed_us, now);
                    }
                    Poll::Ready(Some(ToShard::Allowance {
                        requests,
                        bound: of_all,
                    })) if in_force => {
                        any = true;
                        (*allowance, *bound) = (requests, of_all);
                    }
                    Poll::Ready(Some(ToShard::Allowance { .. })) => {}
                    // The network side has ended: it was replaced, or the process stops.
                    Poll::Ready(None) => return in_force,
                    Poll::Pending => return true,
                }
            }
        });
        any
    }

    pub(super) fn send_held(&mut self) {
        while !self.held.is_empty() {
            let request = self.held.remove(0);
            match self.requests.try_send(request) {
                Ok(()) => {}
                Err(TrySendError::Full(request) | TrySendError::Closed(request)) => {
                    self.held.insert(0, request);
                    return;
                }
            }
        }
    }
}

/// Whether an error says that the process lacks something, and nothing of the file.
fn is_for_lack(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    )
}

/// A reader of one directory's log.
pub(super) fn reader(identity: &str, dir: &Path) -> EndpointReader {
    EndpointReader::new(identity, Arc::new(FsStorage), dir.to_path_buf())
}
