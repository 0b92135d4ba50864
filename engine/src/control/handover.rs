//! What shards know of targets that leave <-> bytes between nodes -> messages to the shards.
//!
//! What shards say for one node within a moment goes in one stream, which is tried again a few
//! times: the next owner needs it before its first slot, which is at most an interval away.

use super::shard_of;
use crate::gossip::ToGossip;
use crate::mailbox::{ShardIndex, TARGETS_PER_MESSAGE_MAX, ToShard};
use ringscrape_cluster::exchange::HANDOVER_BYTES_MAX;
use ringscrape_wal::handover::{self, HandoverError};
use ringscrape_wal::scrape::Scrape;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

/// How long more targets for the same node are waited for.
const GATHER: Duration = Duration::from_millis(50);
/// Targets in one stream.
const TARGETS_PER_STREAM_MAX: usize = 2_000;
/// How often a stream is tried, and the pause between.
const TRIES: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The way to the next owners of targets.
pub(super) struct Outgoing {
    gossip: mpsc::Sender<ToGossip>,
    /// By node: the task that gathers and sends. It ends with this value.
    nodes: HashMap<Arc<str>, mpsc::UnboundedSender<Vec<Arc<Scrape>>>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Targets that are not with the next owner yet.
    under_way: AtomicU64,
    /// Targets that the next owner did not get.
    failed: AtomicU64,
}

impl Outgoing {
    pub(super) fn new(gossip: mpsc::Sender<ToGossip>) -> Self {
        Self {
            gossip,
            nodes: HashMap::new(),
            counts: Arc::default(),
        }
    }

    /// Sends what is known of targets to their next owner. Bounded by the targets that there are:
    /// shards hand each one over once.
    pub(super) fn send(&mut self, to: Arc<str>, scrapes: Vec<Arc<Scrape>>) {
        self.counts
            .under_way
            .fetch_add(scrapes.len() as u64, Relaxed);
        let (gossip, counts) = (&self.gossip, &self.counts);
        let node = self.nodes.entry(to).or_insert_with_key(|name| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let sending = Sending {
                to: name.clone(),
                gossip: gossip.clone(),
                counts: counts.clone(),
            };
            tokio::spawn(sending.run(receiver));
            sender
        });
        // Its task ends with this value only.
        let _ = node.send(scrapes);
    }

    /// Whether some targets are not with their next owner yet.
    pub(super) fn is_busy(&self) -> bool {
        self.counts.under_way.load(Relaxed) > 0
    }

    /// Targets that their next owners did not get what was known of.
    pub(super) fn failed(&self) -> u64 {
        self.counts.failed.load(Relaxed)
    }
}

/// The task of one next owner.
struct Sending {
    to: Arc<str>,
    gossip: mpsc::Sender<ToGossip>,
    counts: Arc<Counts>,
}

impl Sending {
    async fn run(self, mut scrapes: mpsc::UnboundedReceiver<Vec<Arc<Scrape>>>) {
        while let Some(mut all) = scrapes.recv().await {
            tokio::time::sleep(GATHER).await;
            while let Ok(more) = scrapes.try_recv() {
                all.extend(more);
            }
            for some in all.chunks(TARGETS_PER_STREAM_MAX) {
                self.send(some).await;
                self.counts.under_way.fetch_sub(some.len() as u64, Relaxed);
            }
        }
    }

    async fn send(&self, scrapes: &[Arc<Scrape>]) {
        let mut waiting = vec![scrapes];
        while let Some(some) = waiting.pop() {
            let bytes = handover::encode(some);
            match some {
                [_, _, ..] if bytes.len() > HANDOVER_BYTES_MAX => {
                    let (first, second) = some.split_at(some.len() / 2);
                    waiting.extend([second, first]);
                }
                _ => self.send_bytes(some.len() as u64, bytes).await,
            }
        }
    }

    async fn send_bytes(&self, targets: u64, bytes: Vec<u8>) {
        let mut tries = 0;
        let reason = loop {
            tries += 1;
            match self.try_send(bytes.clone()).await {
                Ok(()) => return,
                Err(reason) if tries == TRIES => break reason,
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        };
        self.counts.failed.fetch_add(targets, Relaxed);
        warn!(
            node = %self.to, targets, reason,
            "the next owner of targets does not get what is known of them: it begins anew with \
             their series"
        );
    }

    async fn try_send(&self, bytes: Vec<u8>) -> Result<(), String> {
        let (done, is_done) = oneshot::channel();
        let message = ToGossip::HandOver {
            to: self.to.clone(),
            bytes,
            done,
        };
        let ended = || "the gossip thread has ended".to_owned();
        self.gossip.send(message).await.map_err(|_| ended())?;
        is_done.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// What another node sent -> what the shards are to be told. Takes milliseconds for many targets.
///
/// # Errors
/// The bytes are not all of what `ringscrape_wal::handover::encode` made.
pub(super) fn restore(
    bytes: &[u8],
    shard_count: usize,
) -> Result<Vec<(ShardIndex, ToShard)>, HandoverError> {
    let mut of_shards = vec![Vec::new(); shard_count];
    for scrape in handover::decode(bytes)? {
        of_shards[shard_of(scrape.target.key, shard_count)].push(Arc::new(scrape));
    }
    let messages = of_shards.iter().enumerate().flat_map(|(shard, scrapes)| {
        scrapes
            .chunks(TARGETS_PER_MESSAGE_MAX)
            .map(move |some| (shard, ToShard::Restore(some.to_vec())))
    });
    Ok(messages.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringscrape_wal::definition::{Layout, Route, Target, next_id};

    #[test]
    fn each_shard_gets_its_targets() {
        let scrape = |n: u64| {
            Arc::new(Scrape {
                target: Arc::new(Target {
                    id: next_id(),
                    key: n << 53,
                    labels: [].into(),
                }),
                route: Arc::new(Route {
                    id: next_id(),
                    endpoints: [].into(),
                }),
                timestamp_ms: n as i64,
                layout: Arc::new(Layout {
                    id: next_id(),
                    runs: [].into(),
                    len: 0,
                }),
                values: Vec::new(),
                stale: [].into(),
                sides: None,
            })
        };
        let scrapes: Vec<_> = (0..2_000).map(scrape).collect();
        let bytes = handover::encode(&scrapes);
        let mut came = 0;
        for (shard, message) in restore(&bytes, 3).unwrap() {
            let ToShard::Restore(scrapes) = message else {
                panic!("{message:?}");
            };
            assert!(scrapes.len() <= TARGETS_PER_MESSAGE_MAX);
            assert!(scrapes.iter().all(|s| shard_of(s.target.key, 3) == shard));
            came += scrapes.len();
        }
        assert_eq!(came, 2_000);
        assert!(restore(&bytes[1..], 3).is_err());
    }
}
