//! The shard's log -> requests to the control thread, answers -> cursors: all endpoints' queues.

use super::former::{Former, Named, Stage};
use super::sender::{Sender, reader};
use crate::clock;
use crate::config::{Endpoint, StartAt};
use crate::mailbox::EndpointLink;
use crate::metrics::EndpointFigures;
use crate::remote_write::post::ShardRequest;
use crate::remote_write::progress::Progress;
use crate::remote_write::{Notice, Now, QueueOptions, Request, ShardQueue};
use ringscrape_wal::log::ShardLog;
use ringscrape_wal::scrape::Position;
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Context, Poll};
use tracing::{error, info, warn};

/// Requests per second with which one endpoint's refused batches are taken apart, all shards
/// together.
const ISOLATION_REQUESTS_PER_S: f64 = 5.0;

/// How soon requests that found no place with the control thread are offered again.
const HELD_RETRY_MS: u64 = 10;

/// The queues of one log: one per endpoint.
pub(crate) struct Sending {
    shard: usize,
    shard_count: usize,
    run_start: Position,
    dir: PathBuf,
    former: Rc<RefCell<Former>>,
    /// Segments of the log that were passed over because they are gone.
    skipped: u64,
    queues: Vec<Sender>,
    polled: Vec<Request>,
}

impl Sending {
    /// Queues of the log whose records of this run begin at `run_start`.
    pub(crate) fn new(
        shard: usize,
        shard_count: usize,
        run_start: Position,
        dir: PathBuf,
        former: Rc<RefCell<Former>>,
    ) -> Self {
        Self {
            shard,
            shard_count,
            run_start,
            dir,
            former,
            skipped: 0,
            queues: Vec::new(),
            polled: Vec::new(),
        }
    }

    /// Takes over the endpoints in force, once the log is recovered: each goes on at its cursor, or
    /// at that of an identity that it had before. A new one begins at the start of the log, where
    /// the records' routes say what is for it, or all is, if it asks for the oldest. Those that
    /// went are forgotten here; their cursors are kept for a day.
    pub(crate) fn set_endpoints(&mut self, links: Vec<EndpointLink>, log: &mut ShardLog) {
        let now = now();
        let start = log.begin();
        let identities: Vec<&str> = links
            .iter()
            .map(|link| link.endpoint.identity.as_str())
            .collect();
        let former = former_identities(&links, &identities);
        let in_force: Vec<Box<str>> = identities.iter().map(|one| Box::from(*one)).collect();
        let renamed = rename_cursors(&links, &former, log);
        for link in &links {
            let identity = link.endpoint.identity.as_str();
            let is_new = log.cursors().get(identity).is_none();
            if is_new && link.endpoint.start_at == StartAt::Oldest && start < log.end() {
                let end = log.end();
                log.cursors_mut().begin_backfill(identity, end);
            }
        }
        log.cursors_mut().configure(identities, start, now.unix_ms);
        let mut logs = self.former.borrow_mut();
        let named = |(link, former): (&EndpointLink, &Vec<Box<str>>)| Named {
            identity: link.endpoint.identity.clone(),
            former: former.clone(),
        };
        logs.set_endpoints(links.iter().zip(&former).map(named).collect());
        let mut before = std::mem::take(&mut self.queues);
        for ((link, former), renamed) in links.into_iter().zip(former).zip(renamed) {
            let identity = link.endpoint.identity.as_str();
            let known = before.iter().position(|sender| {
                let have = sender.endpoint.identity.as_str();
                have == identity || renamed.as_deref() == Some(have)
            });
            let mut sender = match known.map(|index| before.swap_remove(index)) {
                Some(mut sender) => {
                    if renamed.is_some() {
                        let dir = match sender.stage {
                            Stage::Reading(dir) => logs.path(dir),
                            _ => &self.dir,
                        };
                        sender.reader = reader(identity, dir);
                    }
                    if *sender.endpoint != *link.endpoint {
                        sender.queue.reconfigure(link.endpoint.clone(), now);
                        sender.endpoint = link.endpoint;
                    }
                    if let Some(channel) = link.channel {
                        sender.requests = channel.requests;
                        sender.answers.insert(0, channel.answers);
                    }
                    sender
                }
                None => {
                    let Some(channel) = link.channel else {
                        error!(endpoint = identity, "BUG: a new endpoint without a channel");
                        continue;
                    };
                    let Some(cursor) = log.cursors().get(identity) else {
                        continue;
                    };
                    let options = QueueOptions {
                        endpoint: link.endpoint.clone(),
                        low_water: cursor.low_water,
                        highest_sent: cursor.highest_sent,
                        run_start: self.run_start,
                        isolation_requests_per_s: ISOLATION_REQUESTS_PER_S
                            / self.shard_count as f64,
                    };
                    Sender {
                        queue: ShardQueue::new(options, now),
                        reader: reader(identity, &self.dir),
                        stage: logs.first_stage(),
                        requests: channel.requests,
                        answers: vec![channel.answers],
                        allowance: 1,
                        bound: link.endpoint.queue.requests_in_flight_min,
                        held: Vec::new(),
                        read_error_quiet_until_ms: 0,
                        stuck: None,
                        progress: Progress::default(),
                        at_end: false,
                        backfill_until: None,
                        former: Vec::new(),
                        endpoint: link.endpoint,
                    }
                }
            };
            let identity = sender.endpoint.identity.as_str();
            let mut former = former;
            former.extend(log.cursors().former(identity));
            former.retain(|former| !in_force.contains(former));
            sender.former = former;
            sender.backfill_until = log.cursors().backfill_until(identity);
            sender.set_wanted(&logs);
            self.queues.push(sender);
        }
        for gone in before {
            self.skipped += gone.reader.segments_missing();
            let identity = &gone.endpoint.identity;
            if gone.is_drained() {
                log.cursors_mut().let_go(identity);
            } else {
                warn!(
                    endpoint = identity.as_str(),
                    "the endpoint left the configuration before it had everything: what it lacks \
                     is kept on disk for 24 h, should it come back"
                );
            }
        }
    }

    /// Takes answers, reads the log, hands requests over, moves the cursors. Returns the monotonic
    /// time at which it must be called again; answers and new records may need it earlier.
    pub(crate) fn poll(&mut self, log: &mut ShardLog) -> u64 {
        let now = now();
        let mut wake_at_ms = u64::MAX;
        let former = &mut *self.former.borrow_mut();
        for sender in &mut self.queues {
            sender.take_answers(now);
            sender.send_held();
            let in_flight = sender.queue.stats().requests_in_flight;
            let free = match sender.held.is_empty() {
                true => sender.allowance.saturating_sub(in_flight),
                false => 0,
            };
            let polled = sender.read(log, former, now, free, &mut self.polled);
            for request in self.polled.drain(..) {
                let backlog_samples = sender.queue.stats().samples_pending;
                sender.held.push(ShardRequest {
                    shard: self.shard,
                    request,
                    backlog_samples,
                });
            }
            sender.send_held();
            sender.move_cursor(log, former);
            let dir = match sender.stage {
                Stage::Reading(dir) => former.path(dir),
                _ => &self.dir,
            };
            for damage in sender.reader.take_damage() {
                log.count_damage(std::slice::from_ref(&damage));
                warn!(
                    dir = %dir.display(), segment = damage.segment, from = damage.from,
                    to = damage.to, kind = ?damage.kind, "passed over a damaged place of the log"
                );
            }
            let error = sender.reader.take_error();
            sender.note_read_error(error.as_ref(), former, now);
            for notice in sender.queue.take_notices() {
                report(&sender.endpoint, &notice);
            }
            sender.at_end = polled.at_end;
            if sender.progress.is_due(now.monotonic_ms) {
                let left = sender.left(log, former);
                sender.progress.read(now.monotonic_ms, left.samples);
            }
            let missing = sender.reader.segments_missing();
            if sender.go_on(log, former, self.run_start, &self.dir) {
                self.skipped += missing;
                wake_at_ms = now.monotonic_ms;
            }
            if !sender.held.is_empty() {
                wake_at_ms = wake_at_ms.min(now.monotonic_ms + HELD_RETRY_MS);
            } else if polled.more {
                wake_at_ms = now.monotonic_ms;
            }
            wake_at_ms = wake_at_ms.min(polled.wake_at_ms.unwrap_or(u64::MAX));
        }
        wake_at_ms
    }

    /// Ready when an answer has arrived without which nothing more can be sent; it is taken in by
    /// the next `poll`, as are all others.
    pub(crate) fn poll_answers(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        let now = now();
        for sender in &mut self.queues {
            if !sender.at_end && sender.poll_answers(context, now) {
                ready = Poll::Ready(());
            }
        }
        ready
    }

    /// From now on batches go at once: the process is to stop.
    pub(crate) fn flush(&mut self) {
        for sender in &mut self.queues {
            sender.queue.flush();
        }
    }

    /// For a while batches go soon: targets have moved to another node.
    pub(crate) fn hurry(&mut self) {
        let now = now();
        for sender in &mut self.queues {
            sender.queue.hurry(now);
        }
    }

    /// Whether everything logged has been acknowledged.
    pub(crate) fn is_drained(&self) -> bool {
        self.queues.iter().all(Sender::is_drained)
    }

    /// Figures per endpoint.
    pub(crate) fn figures(&self, log: &ShardLog, now_ms: i64) -> Vec<EndpointFigures> {
        let figures = |sender: &Sender| {
            let stats = sender.queue.stats();
            let queue = &sender.endpoint.queue;
            EndpointFigures {
                left: sender.left(log, &self.former.borrow()),
                samples_fewer_per_s: sender.progress.samples_fewer_per_s(),
                requests_bound: sender.bound,
                requests_bounds: (queue.requests_in_flight_min, queue.requests_in_flight_max),
                identity: sender.endpoint.identity.clone(),
                url: sender.endpoint.display_url(),
                lag_ms: stats.lag_ms(now_ms),
                stats,
            }
        };
        self.queues.iter().map(figures).collect()
    }

    /// Whether an endpoint that read files came up to what is in memory, since the last call.
    pub(crate) fn take_caught_up(&mut self) -> bool {
        self.queues
            .iter_mut()
            .fold(false, |any, sender| any | sender.reader.take_caught_up())
    }

    /// Segments that were passed over because they are gone.
    pub(crate) fn skipped(&self) -> u64 {
        let missing = self
            .queues
            .iter()
            .map(|sender| sender.reader.segments_missing());
        self.skipped + missing.sum::<u64>()
    }
}

/// Of each endpoint the identities it had before, that no other endpoint has now, and no earlier
/// one of the list claims.
fn former_identities(links: &[EndpointLink], in_force: &[&str]) -> Vec<Vec<Box<str>>> {
    let mut claimed: Vec<Box<str>> = Vec::new();
    let mut all = Vec::with_capacity(links.len());
    for link in links {
        let former = link.endpoint.former_identities.iter().map(String::as_str);
        let free: Vec<Box<str>> = former
            .filter(|former| !in_force.contains(former))
            .filter(|former| !claimed.iter().any(|taken| **taken == **former))
            .map(Box::from)
            .collect();
        claimed.extend(free.iter().cloned());
        all.push(free);
    }
    all
}

/// Gives an endpoint without a cursor that of a former identity; says which one it was.
fn rename_cursors(
    links: &[EndpointLink],
    former: &[Vec<Box<str>>],
    log: &mut ShardLog,
) -> Vec<Option<Box<str>>> {
    let mut rename = |(link, former): (&EndpointLink, &Vec<Box<str>>)| {
        let identity = link.endpoint.identity.as_str();
        let found = former
            .iter()
            .find(|from| log.cursors_mut().rename(from, identity))?;
        info!(
            endpoint = identity,
            before = &**found,
            "the endpoint has another name: it goes on where it stood"
        );
        Some(found.clone())
    };
    links.iter().zip(former).map(&mut rename).collect()
}

/// Tells the operator what a queue has noticed.
fn report(endpoint: &Endpoint, notice: &Notice) {
    let (name, url) = (endpoint.identity.as_str(), endpoint.display_url());
    match notice {
        Notice::ConfigFault { code, reason } => warn!(
            endpoint = name,
            url,
            code,
            reason,
            "the receiver refuses our requests: check the URL, credentials and tenant of this \
             remote_write; sending is tried again every 30 s and nothing is lost meanwhile"
        ),
        Notice::Retrying { answer } => warn!(
            endpoint = name,
            url,
            answer,
            "the receiver takes no requests now; they are repeated, and what is logged meanwhile \
             waits on disk"
        ),
        Notice::Recovered => info!(endpoint = name, url, "the receiver takes requests again"),
        Notice::FellBack { answer } => warn!(
            endpoint = name,
            url,
            answer,
            "the receiver does not take remote write 2.0: the same samples, and all further ones, \
             are sent as 1.0 until a restart or new settings; set its protobuf_message to \
             prometheus.WriteRequest, or see that it takes 2.0"
        ),
        Notice::NotWritten {
            samples,
            of,
            answer,
        } => warn!(
            endpoint = name,
            url,
            samples,
            of,
            answer,
            "the receiver says that it has not written all samples of a request"
        ),
        Notice::Dropped {
            cause,
            samples,
            series,
            answer,
        } => warn!(
            endpoint = name,
            url,
            cause = cause.name(),
            samples,
            series,
            answer,
            "samples were given up"
        ),
    }
}

/// Both clocks now.
pub(crate) fn now() -> Now {
    Now {
        monotonic_ms: clock::monotonic_ms(),
        unix_ms: clock::now_ms(),
    }
}
