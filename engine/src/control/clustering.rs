//! What the gossip thread says + what shards and people want -> whose targets they are, handovers,
//! and what this node wishes to be.
//!
//! What another node or the gossip thread has to answer is a task of its own. A handover that
//! arrives is waited for until it is decoded and with the shards, which takes milliseconds.

use super::cluster_figures::EventCounts;
use super::costs::{self, Learner};
use super::handover::{self, Outgoing};
use super::jobs::Jobs;
use super::joining;
use super::{Control, Service};
use crate::api::Query;
use crate::api::cluster::MoveView;
use crate::api::cluster::moves::MoveLog;
use crate::api::cluster::peers::{self, Answering, Peers};
use crate::clock;
use crate::gossip::{ClusterOptions, FromGossip, GossipStatus, GossipThread, ToGossip};
use crate::mailbox::{ShardIndex, ToShard};
use crate::run::RunError;
use crate::service::store::GossipLinks;
use ringscrape_cluster::state::{Death, Event, Wish};
use ringscrape_cluster::{Timeline, View};
use ringscrape_wal::scrape::Scrape;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

/// How long an unanswered question to the gossip thread is waited for.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);

/// The cluster, as the control loop sees it.
pub(crate) struct Clustering {
    pub(super) thread: GossipThread,
    pub(super) options: ClusterOptions,
    messages: mpsc::Receiver<FromGossip>,
    /// Without members until this node has found its cluster: it owns nothing.
    pub(super) timeline: Arc<Timeline>,
    /// The jobs know what the timeline says of this time, in ms since the Unix epoch.
    seen_to_ms: i64,
    wished: Option<Wish>,
    pub(super) is_drained: bool,
    pub(super) leaving_since: Option<Instant>,
    /// While it leaves: when to look whether it may stop.
    pub(super) look_at: Instant,
    started: Instant,
    /// The store and discovery of all jobs have answered, or were waited for long enough.
    is_discovered: bool,
    moves: MoveLog,
    /// Who was found dead, and from when on.
    crashes: BTreeSet<(Arc<str>, i64)>,
    events: EventCounts,
    pub(super) outgoing: Outgoing,
    pub(super) learner: Learner,
    /// When to look what targets cost.
    pub(super) costs_at: Instant,
    /// When to say that targets are refused, if they are.
    pub(super) refusals_at: Instant,
}

impl Clustering {
    /// Owns nothing yet.
    pub(crate) fn new(
        thread: GossipThread,
        options: ClusterOptions,
        messages: mpsc::Receiver<FromGossip>,
    ) -> Self {
        let nobody = vec![(i64::MIN, Arc::new(View::default()))];
        Self {
            timeline: Arc::new(Timeline::new(thread.name.clone(), nobody)),
            outgoing: Outgoing::new(thread.mailbox.clone()),
            thread,
            options,
            messages,
            seen_to_ms: i64::MIN,
            wished: None,
            is_drained: false,
            leaving_since: None,
            look_at: Instant::now(),
            started: Instant::now(),
            is_discovered: false,
            moves: MoveLog::default(),
            crashes: BTreeSet::new(),
            events: EventCounts::default(),
            learner: Learner::default(),
            costs_at: Instant::now() + costs::FIRST_LOOK,
            refusals_at: Instant::now(),
        }
    }

    /// The way of this node's store of configurations to the others.
    pub(crate) fn store_links(&self) -> GossipLinks {
        GossipLinks::new(&self.thread)
    }

    /// The next message; pending for ever without a cluster.
    pub(super) async fn receive(clustering: &mut Option<Self>) -> FromGossip {
        match clustering {
            Some(clustering) => match clustering.messages.recv().await {
                Some(message) => message,
                None => FromGossip::Failed("the gossip thread has ended".to_owned()),
            },
            None => std::future::pending().await,
        }
    }

    /// When something is to be looked at again; `None`: not by time.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let look_at = self.leaving_since.map(|_| self.look_at);
        let look_after = || joining::look_after(self.started.elapsed());
        let join_at = (!self.is_discovered).then(|| self.started + look_after());
        // A change that has passed since is still to be looked at.
        let change_at = self
            .timeline
            .next_change_ms(self.seen_to_ms)
            .map(|next_ms| {
                let wait_ms = (next_ms - clock::now_ms()).clamp(0, 60_000).unsigned_abs();
                Instant::now() + Duration::from_millis(wait_ms)
            });
        let all = look_at.into_iter().chain(join_at).chain(change_at);
        all.chain([self.costs_at]).min()
    }

    /// Whether the store and discovery have answered, once for all; or have been waited for long
    /// enough: what they do find is scraped, as a node alone would do.
    fn may_scrape(&mut self, jobs: &Jobs, knows_stored: bool) -> bool {
        if !self.is_discovered && joining::joins(self.started.elapsed(), jobs, knows_stored) {
            self.is_discovered = true;
            if !knows_stored {
                warn!(
                    "the store of configurations has not answered: this node joins with what it \
                     knows of them, and takes over the rest as soon as it does"
                );
            }
            let unanswered = jobs.unanswered(true);
            if !unanswered.is_empty() {
                warn!(
                    jobs = unanswered.join(", "),
                    "discovery of some jobs has not answered: this node joins without their \
                     targets, and scrapes them as soon as they are found"
                );
            }
        }
        self.is_discovered
    }

    /// Whether the views have changed since the jobs were told.
    pub(super) fn is_behind(&self) -> bool {
        let next_ms = self.timeline.next_change_ms(self.seen_to_ms);
        next_ms.is_some_and(|next_ms| next_ms <= clock::now_ms())
    }

    /// Whether this node has its share of the targets at `now_ms`.
    pub(super) fn has_share(&self, now_ms: i64) -> bool {
        self.is_in(self.timeline.view_at(now_ms))
    }

    /// Whether this node scrapes, or will, after `now_ms`.
    pub(super) fn is_active(&self, now_ms: i64) -> bool {
        let mut views = self.timeline.views().iter();
        self.has_share(now_ms) || views.any(|(from_ms, view)| *from_ms > now_ms && self.is_in(view))
    }

    fn is_in(&self, view: &View) -> bool {
        let mut members = view.members().iter();
        members.any(|member| member.name == *self.timeline.me())
    }
}

impl Control {
    /// Takes a message of the gossip thread.
    ///
    /// # Errors
    /// This node cannot be a part of its cluster: the process has to end.
    pub(super) async fn take_gossip(
        &mut self,
        message: FromGossip,
        queries: &mpsc::Sender<Query>,
    ) -> Result<(), RunError> {
        match message {
            FromGossip::Timeline(timeline) => {
                if let Some(clustering) = &mut self.clustering {
                    clustering.timeline = timeline;
                }
                self.see_to_cluster().await;
            }
            FromGossip::Event(event) => self.take_event(event).await,
            FromGossip::HandOver { from, bytes, taken } => {
                let result = self.take_handover(&from, bytes).await;
                let _ = taken.send(result);
            }
            FromGossip::Question {
                from,
                bytes,
                answer,
            } => {
                debug!(node = %from, "another node asks");
                let queries = queries.clone();
                tokio::spawn(async move {
                    let _ = answer.send(Ok(peers::answer(&queries, &bytes).await));
                });
            }
            FromGossip::Failed(reason) => return Err(RunError::Cluster { reason }),
        }
        Ok(())
    }

    /// Owners, as the timeline says by now.
    pub(super) async fn see_to_cluster(&mut self) {
        let now_ms = clock::now_ms();
        let Some(clustering) = &mut self.clustering else {
            return;
        };
        clustering.seen_to_ms = now_ms;
        let timeline = clustering.timeline.clone();
        clustering.observe_costs();
        let changes = self.jobs.set_timeline(Some(timeline.clone()), now_ms);
        let crashes = &clustering.crashes;
        let has_crashed = |name: &str, at_ms: i64| {
            let mut crashes = crashes.iter();
            crashes.any(|(dead, until_ms)| **dead == *name && *until_ms == at_ms)
        };
        let targets = || self.jobs.targets();
        clustering
            .moves
            .observe(&timeline, has_crashed, targets, now_ms);
        for change in changes {
            self.send(change).await;
        }
    }

    /// Tells the gossip thread what this node wishes to be, if that is something new.
    pub(super) async fn wish(&mut self) {
        let Some(clustering) = &mut self.clustering else {
            return;
        };
        let service = self.service.as_ref();
        let is_active = !clustering.is_drained
            && clustering.leaving_since.is_none()
            && clustering.may_scrape(&self.jobs, service.is_none_or(Service::has_answered));
        let wish = Wish {
            is_active,
            weight: clustering.options.weight,
            jobs: self.jobs.job_versions(),
            heavy: clustering
                .learner
                .told(clustering.options.budget_samples_per_s),
        };
        if clustering.wished.as_ref() == Some(&wish) {
            return;
        }
        clustering.wished = Some(wish.clone());
        // A thread that has ended says so itself.
        let _ = clustering.thread.mailbox.send(ToGossip::Wish(wish)).await;
    }

    async fn take_event(&mut self, event: Event) {
        match event {
            Event::TimelineChanged | Event::Refused(_) => {}
            Event::Died {
                reason,
                incarnation,
            } => {
                if let Some(clustering) = &mut self.clustering {
                    clustering.events.deaths += 1;
                }
                say_why(&reason, incarnation);
            }
            Event::IncarnationRaised(incarnation) => debug!(incarnation, "incarnation raised"),
            Event::Founded(founder) => {
                info!(id = format_args!("{:016x}", founder.id), "cluster founded");
            }
            Event::Joined(founder) => {
                info!(id = format_args!("{:016x}", founder.id), "cluster found");
            }
            Event::Resumed { former } => {
                info!(former, "this node goes on where it was before its restart");
            }
            Event::Isolated(true) => warn!(
                "this node reaches less than half of the members of the last hour: it keeps its \
                 targets and takes over none"
            ),
            Event::Isolated(false) => info!("this node reaches its cluster again"),
            Event::StoodStill { late_ms } => {
                if let Some(clustering) = &mut self.clustering {
                    clustering.events.standstills += 1;
                }
                warn!(
                    late_ms,
                    "the process stood still: it scrapes nothing until another node has answered"
                );
                self.tell_shards(|| ToShard::Hold).await;
            }
            Event::GoOn => {
                info!("scraping goes on");
                self.tell_shards(|| ToShard::GoOn).await;
            }
            Event::SkewWarning { name, skew_ms } => warn!(
                node = %name, skew_ms,
                "the clock of another node is off: when targets move between the two, slots are as \
                 far apart as the clocks are; let both follow the same time servers"
            ),
            Event::Proposed { from_ms, others } => {
                debug!(from_ms, others, "change proposed to the cluster");
            }
            Event::Agreed { from_ms, after_ms } => {
                info!(
                    from_ms,
                    after_ms, "the cluster has agreed on a change of this node"
                );
            }
            Event::Accused {
                name,
                incarnation,
                until_ms,
            } => {
                warn!(node = %name, incarnation, until_ms, "another node is dead");
            }
            Event::Crashed { name, until_ms, .. } => {
                if let Some(clustering) = &mut self.clustering {
                    clustering.crashes.insert((name, until_ms));
                    let oldest_ms = clock::now_ms() - 3_600_000;
                    clustering
                        .crashes
                        .retain(|(_, until_ms)| *until_ms > oldest_ms);
                }
            }
        }
    }

    async fn tell_shards(&self, message: impl Fn() -> ToShard) {
        for shard in &self.shards {
            // A shard that has ended says so in its own report.
            let _ = shard.mailbox.send(message()).await;
        }
    }

    /// A shard stood still. If the whole process did, others may have its targets by now: the
    /// gossip thread knows, and says when to go on; else the shard goes on at once.
    pub(super) fn shard_stood_still(&self, shard: ShardIndex) {
        let mailbox = self.shards[shard].mailbox.clone();
        let status = self.gossip_status();
        tokio::spawn(async move {
            let stands_still = match status.await {
                Some(status) => status.snapshot.is_standing_still,
                None => false,
            };
            if !stands_still {
                let _ = mailbox.send(ToShard::GoOn).await;
            }
        });
    }

    /// Targets of a shard go to another node: it is told what is known of them.
    pub(super) fn hand_over(&mut self, to: Arc<str>, scrapes: Vec<Arc<Scrape>>) {
        if let Some(clustering) = &mut self.clustering {
            clustering.outgoing.send(to, scrapes);
        }
    }

    /// Another node hands targets over.
    async fn take_handover(&self, from: &str, bytes: Vec<u8>) -> Result<(), String> {
        let shard_count = self.shards.len();
        let decode = move || handover::restore(&bytes, shard_count);
        let messages = match tokio::task::spawn_blocking(decode).await {
            Ok(Ok(messages)) => messages,
            Ok(Err(error)) => {
                error!(node = from, %error, "what another node handed over cannot be read");
                return Err(error.to_string());
            }
            Err(_) => return Err("this node is stopping".to_owned()),
        };
        for (shard, message) in messages {
            let _ = self.shards[shard].mailbox.send(message).await;
        }
        Ok(())
    }

    /// Targets that their next owners did not get what was known of.
    pub(super) fn handovers_failed(&self) -> u64 {
        let clustering = self.clustering.as_ref();
        clustering.map_or(0, |one| one.outgoing.failed())
    }

    /// Asks the gossip thread; `None`: no cluster, or no answer.
    pub(super) fn gossip_status(
        &self,
    ) -> impl Future<Output = Option<GossipStatus>> + Send + use<> {
        let mailbox = self.clustering.as_ref().map(|c| c.thread.mailbox.clone());
        async move {
            let (answer, answered) = oneshot::channel();
            mailbox?.send(ToGossip::Status(answer)).await.ok()?;
            tokio::time::timeout(STATUS_PATIENCE, answered)
                .await
                .ok()?
                .ok()
        }
    }

    /// Name of this node in its cluster.
    pub(super) fn node_name(&self) -> Option<&Arc<str>> {
        self.clustering
            .as_ref()
            .map(|clustering| &clustering.thread.name)
    }

    /// Who owns what.
    pub(super) fn timeline(&self) -> Option<&Arc<Timeline>> {
        self.clustering
            .as_ref()
            .map(|clustering| &clustering.timeline)
    }

    /// The way to other nodes.
    pub(super) fn peers(&self) -> Option<Arc<dyn Peers>> {
        let mailbox = self.clustering.as_ref()?.thread.mailbox.clone();
        Some(Arc::new(Gossips { mailbox }))
    }

    /// What the page and the metrics show of the cluster.
    pub(super) fn cluster_facts(&self) -> Option<ClusterFacts> {
        let clustering = self.clustering.as_ref()?;
        Some(ClusterFacts {
            name: clustering.options.cluster_name.clone(),
            minimum_size: clustering.options.wait_for_size,
            moves: clustering.moves.moves(),
            moved: clustering.moves.totals().clone(),
            timeline: clustering.timeline.clone(),
            events: clustering.events,
        })
    }
}

fn say_why(reason: &Death, incarnation: u64) {
    match reason {
        Death::Accused { by, until_ms } => warn!(
            %by, until_ms, incarnation,
            "other nodes believed this one dead and took its targets over: it stops scraping and \
             joins again"
        ),
        Death::Merged { into } => warn!(
            founded_ms = into.founded_ms,
            incarnation, "an older cluster was found: this node joins it"
        ),
    }
}

/// What the control loop knows of the cluster at one moment.
pub(super) struct ClusterFacts {
    pub(super) name: String,
    pub(super) minimum_size: u32,
    pub(super) moves: Vec<MoveView>,
    pub(super) moved: BTreeMap<String, u64>,
    pub(super) timeline: Arc<Timeline>,
    pub(super) events: EventCounts,
}

/// Other nodes, by the gossip thread's streams.
#[derive(Debug)]
struct Gossips {
    mailbox: mpsc::Sender<ToGossip>,
}

impl Peers for Gossips {
    fn ask(&self, node: &str, question: Vec<u8>) -> Answering {
        let (mailbox, to) = (self.mailbox.clone(), Arc::from(node));
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let ask = ToGossip::Ask {
                to,
                question,
                answer,
            };
            let ended = || "the gossip thread has ended".to_owned();
            mailbox.send(ask).await.map_err(|_| ended())?;
            answered.await.unwrap_or_else(|_| Err(ended()))
        })
    }
}
