//! The shard's log -> requests to the control thread, answers -> cursors: all endpoints' queues.

use crate::clock;
use crate::config::Endpoint;
use crate::mailbox::EndpointLink;
use crate::metrics::EndpointFigures;
use crate::remote_write::from_log::EndpointReader;
use crate::remote_write::post::{ShardRequest, ToShard};
use crate::remote_write::{Notice, Now, QueueOptions, Request, ShardQueue};
use ringscrape_wal::error::ReadError;
use ringscrape_wal::log::ShardLog;
use ringscrape_wal::scrape::Position;
use ringscrape_wal::storage::FsStorage;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
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
    /// Places of the log that were passed over because they are damaged or gone.
    skipped: u64,
    queues: Vec<Sender>,
    polled: Vec<Request>,
}

struct Sender {
    endpoint: Arc<Endpoint>,
    queue: ShardQueue,
    reader: EndpointReader,
    requests: mpsc::Sender<ShardRequest>,
    /// Of the network side in force first, then of former ones that have requests on their way.
    answers: Vec<mpsc::UnboundedReceiver<ToShard>>,
    allowance: u32,
    /// Requests that the control thread had no place for; sent first at the next poll.
    held: Vec<ShardRequest>,
    read_error_quiet_until_ms: u64,
    /// The last poll read all there is.
    at_end: bool,
}

impl Sending {
    /// Queues of the log whose records of this run begin at `run_start`.
    pub(crate) fn new(shard: usize, shard_count: usize, run_start: Position, dir: PathBuf) -> Self {
        Self {
            shard,
            shard_count,
            run_start,
            dir,
            skipped: 0,
            queues: Vec::new(),
            polled: Vec::new(),
        }
    }

    /// Takes over the endpoints in force, once the log is recovered: each goes on at its cursor. A
    /// new one begins at the start of the log, where the records' routes say what is for it. Those
    /// that went are forgotten here; their cursors are kept for a day.
    pub(crate) fn set_endpoints(&mut self, links: Vec<EndpointLink>, log: &mut ShardLog) {
        let now = now();
        let start = log.begin();
        let identities = links.iter().map(|link| link.endpoint.identity.as_str());
        log.cursors_mut().configure(identities, start, now.unix_ms);
        let mut before = std::mem::take(&mut self.queues);
        for link in links {
            let identity = link.endpoint.identity.as_str();
            let known = before
                .iter()
                .position(|sender| sender.endpoint.identity == identity);
            let sender = match known.map(|index| before.swap_remove(index)) {
                Some(mut sender) => {
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
                        reader: EndpointReader::new(
                            identity,
                            Arc::new(FsStorage),
                            self.dir.clone(),
                        ),
                        requests: channel.requests,
                        answers: vec![channel.answers],
                        allowance: 1,
                        held: Vec::new(),
                        read_error_quiet_until_ms: 0,
                        at_end: false,
                        endpoint: link.endpoint,
                    }
                }
            };
            self.queues.push(sender);
        }
        for gone in before {
            self.skipped += gone.reader.segments_missing();
            let identity = &gone.endpoint.identity;
            if gone.at_end && gone.queue.is_drained() {
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
        for sender in &mut self.queues {
            sender.take_answers(now);
            sender.send_held();
            let in_flight = sender.queue.stats().requests_in_flight;
            let free = match sender.held.is_empty() {
                true => sender.allowance.saturating_sub(in_flight),
                false => 0,
            };
            let mut source = sender.reader.over(log);
            let polled = sender.queue.poll(&mut source, now, free, &mut self.polled);
            for request in self.polled.drain(..) {
                let backlog_samples = sender.queue.stats().samples_pending;
                sender.held.push(ShardRequest {
                    shard: self.shard,
                    request,
                    backlog_samples,
                });
            }
            sender.send_held();
            let (low_water, highest_sent) = sender.queue.cursor();
            log.cursors_mut()
                .advance(&sender.endpoint.identity, low_water, highest_sent);
            for damage in sender.reader.take_damage() {
                self.skipped += 1;
                warn!(
                    dir = %self.dir.display(), segment = damage.segment, from = damage.from,
                    to = damage.to, kind = ?damage.kind, "passed over a damaged place of the log"
                );
            }
            if let Some(error) = sender.reader.take_error() {
                sender.report_read_error(&error, now);
            }
            for notice in sender.queue.take_notices() {
                report(&sender.endpoint, &notice);
            }
            sender.at_end = polled.at_end;
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

    /// Whether everything logged has been acknowledged.
    pub(crate) fn is_drained(&self) -> bool {
        self.queues
            .iter()
            .all(|sender| sender.at_end && sender.queue.is_drained())
    }

    /// Figures per endpoint.
    pub(crate) fn figures(&self, now_ms: i64) -> Vec<EndpointFigures> {
        let figures = |sender: &Sender| {
            let stats = sender.queue.stats();
            EndpointFigures {
                identity: sender.endpoint.identity.clone(),
                url: sender.endpoint.display_url(),
                lag_ms: stats.lag_ms(now_ms),
                stats,
            }
        };
        self.queues.iter().map(figures).collect()
    }

    /// Damaged places of the log that were skipped.
    pub(crate) fn skipped(&self) -> u64 {
        let missing = self
            .queues
            .iter()
            .map(|sender| sender.reader.segments_missing());
        self.skipped + missing.sum::<u64>()
    }
}

impl Sender {
    /// At most one line in ten seconds: reading is tried again all the time.
    fn report_read_error(&mut self, error: &ReadError, now: Now) {
        if now.monotonic_ms >= self.read_error_quiet_until_ms {
            self.read_error_quiet_until_ms = now.monotonic_ms + 10_000;
            warn!(endpoint = self.endpoint.identity, %error,
                "cannot read the log for this endpoint; trying again");
        }
    }

    fn take_answers(&mut self, now: Now) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.poll_answers(&mut context, now);
    }

    /// Takes all answers there are; whether there was one.
    fn poll_answers(&mut self, context: &mut Context<'_>, now: Now) -> bool {
        let mut any = false;
        let (queue, allowance) = (&mut self.queue, &mut self.allowance);
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
                    Poll::Ready(Some(ToShard::Allowance(requests))) if in_force => {
                        any = true;
                        *allowance = requests;
                    }
                    Poll::Ready(Some(ToShard::Allowance(_))) => {}
                    // The network side has ended: it was replaced, or the process stops.
                    Poll::Ready(None) => return in_force,
                    Poll::Pending => return true,
                }
            }
        });
        any
    }

    fn send_held(&mut self) {
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
