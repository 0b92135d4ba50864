//! Questions of the pages -> what the control loop and the shards know.

use super::cluster_figures::ClusterFigures;
use super::rate::Rate;
use super::{Control, collect};
use crate::api::TargetStatus;
use crate::api::cluster::{ClusterView, EndpointView, Fleet, OverviewView, status};
use crate::clock;
use crate::discovery::Discovery;
use crate::gossip::StreamCounters;
use crate::mailbox::ToShard;
use crate::metrics::ShardFigures;
use crate::remote_write::DropCause;
use crate::remote_write::progress::seconds_left;
use ringscrape_cluster::node::Counters;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// What pages need beside the figures.
#[derive(Debug)]
pub(super) struct Pages {
    /// This node's name if it runs without a cluster.
    host: Arc<str>,
    samples: Arc<Mutex<Rate>>,
}

impl Pages {
    pub(super) fn new(now_ms: i64) -> Self {
        Self {
            host: host_name(),
            samples: Arc::new(Mutex::new(Rate::new(now_ms))),
        }
    }
}

/// The host's name; `localhost` if the system does not tell.
fn host_name() -> Arc<str> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".into(),
        name => name.into(),
    }
}

impl Control {
    /// All targets and who owns them.
    pub(super) fn fleet(&self) -> Fleet {
        Fleet {
            me: self.node_name().unwrap_or(&self.pages.host).clone(),
            now_ms: clock::now_ms(),
            targets: self.jobs.targets(),
            timeline: self.timeline().cloned(),
            local_jobs: self.jobs.local_names(),
            peers: self.peers(),
        }
    }

    /// The members, without counts of targets, and what these are counted from.
    pub(super) fn cluster(&self, answer: oneshot::Sender<(ClusterView, Fleet)>) {
        let fleet = self.fleet();
        if self.cluster_facts().is_none() {
            let _ = answer.send((status::alone(&fleet), fleet));
            return;
        }
        let found = self.cluster_view();
        tokio::spawn(async move {
            // Without an answer the one who asked is told that none came.
            if let Some((view, _, _)) = found.await {
                let _ = answer.send((view, fleet));
            }
        });
    }

    /// The cluster's metrics; `None`: no cluster, or no answer of the gossip thread.
    pub(super) fn cluster_figures(
        &self,
    ) -> impl Future<Output = Option<Box<ClusterFigures>>> + Send + use<> {
        let facts = self.cluster_facts();
        let fleet = facts.as_ref().map(|_| self.fleet());
        let found = self.cluster_view();
        async move {
            let (facts, fleet) = (facts?, fleet?);
            let (mut view, packets, streams) = found.await?;
            let count = move || {
                status::count_targets(&mut view, &fleet);
                view
            };
            Some(Box::new(ClusterFigures {
                view: tokio::task::spawn_blocking(count).await.ok()?,
                moved: facts.moved,
                packets,
                streams,
                events: facts.events,
            }))
        }
    }

    /// The members, and what the gossip thread counted.
    fn cluster_view(
        &self,
    ) -> impl Future<Output = Option<(ClusterView, Counters, StreamCounters)>> + Send + use<> {
        let facts = self.cluster_facts();
        let jobs = self.jobs.names();
        let asked = self.gossip_status();
        async move {
            let (facts, found) = (facts?, asked.await?);
            let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
            let setup = status::Setup {
                name: &facts.name,
                minimum_size: facts.minimum_size,
                jobs: &jobs,
            };
            let now_ms = found.now_ms;
            let view = facts.timeline.view_at(now_ms);
            let page = status::of_snapshot(&found.snapshot, view, setup, facts.moves, now_ms);
            Some((page, found.counters, found.streams))
        }
    }

    /// The state of this node's targets.
    pub(super) async fn health(
        &self,
        keys: Option<Vec<u64>>,
        answer: oneshot::Sender<Vec<TargetStatus>>,
    ) {
        let asked = match keys {
            None => self.ask_shards(ToShard::Statuses).await,
            Some(keys) => self.ask_statuses(keys).await,
        };
        tokio::spawn(async move {
            if let Some(answers) = collect(asked).await {
                let _ = answer.send(answers.into_iter().flatten().collect());
            }
        });
    }

    /// How this process is doing.
    pub(super) async fn overview(
        &self,
        discovery: &Discovery,
        answer: oneshot::Sender<OverviewView>,
    ) {
        let control = self.figures.snapshot(&self.jobs, discovery);
        let samples = self.pages.samples.clone();
        let asked = self.ask_shards(ToShard::Figures).await;
        tokio::spawn(async move {
            let Some(shards) = collect(asked).await else {
                return;
            };
            let targets = control.jobs.iter().map(|job| job.active as u64).sum();
            let mut view = overview(&shards);
            (view.started_ms, view.targets) = (control.started_ms, targets);
            view.now_ms = clock::now_ms();
            let mut rate = samples.lock().unwrap_or_else(PoisonError::into_inner);
            view.samples_per_second = rate.reading(view.now_ms, view.samples_total);
            let _ = answer.send(view);
        });
    }
}

fn overview(shards: &[ShardFigures]) -> OverviewView {
    let sum = |value: fn(&ShardFigures) -> u64| shards.iter().map(value).sum::<u64>();
    let mut scrapes = BTreeMap::new();
    for (result, count) in shards.iter().flat_map(|shard| &shard.scrapes) {
        *scrapes.entry((*result).to_owned()).or_default() += count;
    }
    let mut endpoints = BTreeMap::<&str, EndpointView>::new();
    let mut fewer_per_s = BTreeMap::<&str, f64>::new();
    for part in shards.iter().flat_map(|shard| &shard.endpoints) {
        let endpoint = endpoints.entry(&part.identity).or_default();
        endpoint.name.clone_from(&part.identity);
        endpoint.url.clone_from(&part.url);
        endpoint.lag_ms = endpoint.lag_ms.max(part.lag_ms);
        endpoint.left_bytes += part.left.bytes;
        endpoint.left_samples += part.left.samples;
        let fewer_per_s = fewer_per_s.entry(&part.identity).or_default();
        *fewer_per_s += part.samples_fewer_per_s;
        endpoint.left_seconds = seconds_left(endpoint.lag_ms, endpoint.left_samples, *fewer_per_s);
        endpoint.pending += part.stats.samples_pending;
        endpoint.sent += part.stats.samples_sent;
        endpoint.retried += part.stats.samples_retried;
        endpoint.failed += (DropCause::ALL.iter())
            .filter(|cause| cause.is_failure())
            .map(|cause| part.stats.samples_dropped[*cause as usize])
            .sum::<u64>();
    }
    OverviewView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        shards: shards.len() as u64,
        samples_total: sum(|shard| shard.samples),
        scrapes,
        slots_missed: sum(|shard| shard.slots_missed_overrun + shard.slots_missed_late),
        samples_lost: sum(|shard| {
            shard.log.samples_dropped_bytes
                + shard.log.samples_dropped_age
                + shard.log.samples_dropped_not_durable
        }),
        endpoints: endpoints.into_values().collect(),
        ..OverviewView::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::EndpointFigures;
    use crate::remote_write::QueueStats;
    use crate::remote_write::progress::Left;

    #[test]
    fn shards_add_up() {
        let shard = |samples, lag_ms| {
            let mut stats = QueueStats {
                samples_sent: samples,
                ..QueueStats::default()
            };
            stats.samples_dropped[DropCause::TooLarge as usize] = 2;
            stats.samples_dropped[DropCause::TooOld as usize] = 4;
            ShardFigures {
                samples,
                scrapes: [("ok", 3), ("timeout", 1)].into(),
                endpoints: vec![EndpointFigures {
                    identity: "one".to_owned(),
                    url: "http://a/".to_owned(),
                    stats,
                    lag_ms,
                    left: Left {
                        bytes: 100,
                        samples,
                    },
                    samples_fewer_per_s: 1.5,
                    ..EndpointFigures::default()
                }],
                ..ShardFigures::default()
            }
        };
        let view = overview(&[shard(10, 70_000), shard(20, 5)]);
        assert_eq!((view.samples_total, view.shards), (30, 2));
        assert_eq!(view.scrapes["ok"], 6);
        let [endpoint] = &view.endpoints[..] else {
            panic!("{:?}", view.endpoints);
        };
        assert_eq!((endpoint.lag_ms, endpoint.sent), (70_000, 30));
        assert_eq!((endpoint.left_bytes, endpoint.left_samples), (200, 30));
        assert_eq!(endpoint.left_seconds, Some(10.0));
        assert_eq!(endpoint.failed, 4, "what is too old was not refused");
    }
}
