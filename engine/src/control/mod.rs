//! Configuration, discovery, signals and questions -> messages to the shards: one loop over one
//! enum.
//!
//! **Runs on**: control. Nothing here waits long: look-ups, discovery and answers that need the
//! shards are tasks of their own.

mod cluster_figures;
mod clustering;
mod endpoints;
mod figures;
mod handover;
mod job;
mod jobs;
mod leave;
mod ownership;
mod pages;
mod rate;
#[cfg(test)]
mod tests;
mod version;

use crate::api::{self, ApiOptions, Query, TargetsView};
use crate::config::Config;
use crate::discovery::{Discovery, JobUpdate};
use crate::gossip::FromGossip;
use crate::mailbox::{FromShard, ShardIndex, TARGETS_PER_MESSAGE_MAX, ToShard};
use crate::remote_write::post::PostError;
use crate::resolve::{Answer, Resolver};
use crate::run::{RunError, RunOptions};
use crate::shard::ShardThread;
pub(crate) use clustering::Clustering;
use endpoints::Endpoints;
use figures::ControlFigures;
use jobs::{Change, Jobs};
use pages::Pages;
use ringscrape_wal::definition::{Route, next_id};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

/// How long shards may take to finish their logs after the flush deadline: an fsync may be slow.
const STOP_PATIENCE_MS: u64 = 30_000;

/// Questions of the API that may wait.
const QUERIES_MAX: usize = 64;

/// Job updates of discovery that may wait.
const UPDATES_MAX: usize = 64;

/// The control plane.
pub(crate) struct Control {
    options: RunOptions,
    config: Config,
    route: Arc<Route>,
    shards: Vec<ShardThread>,
    ready: Vec<bool>,
    reported: mpsc::Receiver<(ShardIndex, FromShard)>,
    jobs: Jobs,
    endpoints: Endpoints,
    figures: ControlFigures,
    pages: Pages,
    clustering: Option<Clustering>,
}

/// Everything that can happen to the control loop.
enum Event {
    Shard(ShardIndex, FromShard),
    Gossip(FromGossip),
    /// A change of the cluster takes effect, or a look is due whether this node may stop.
    Wake,
    Job(JobUpdate),
    Resolved(Answer),
    Query(Query),
    Hangup,
    Stop(&'static str),
}

impl Control {
    pub(crate) fn new(
        options: RunOptions,
        config: Config,
        shards: Vec<ShardThread>,
        reported: mpsc::Receiver<(ShardIndex, FromShard)>,
        clustering: Option<Clustering>,
    ) -> Self {
        let ready = vec![false; shards.len()];
        let route = route_of(&config);
        let jobs = Jobs::new(shards.len());
        let figures = ControlFigures::new(shards.len());
        Self {
            options,
            config,
            route,
            shards,
            ready,
            reported,
            jobs,
            endpoints: Endpoints::default(),
            figures,
            pages: Pages::new(crate::clock::now_ms()),
            clustering,
        }
    }

    /// Serves until a signal asks to stop. `Ok`: all shards have stopped as asked.
    pub(crate) async fn run(mut self, listener: TcpListener) -> Result<(), RunError> {
        let (queries, mut asked) = mpsc::channel(QUERIES_MAX);
        let api = api::router(
            queries.clone(),
            ApiOptions {
                lifecycle: self.options.lifecycle,
            },
        );
        let server = tokio::spawn(async move { axum::serve(listener, api).await });
        let (updates, mut updated) = mpsc::channel(UPDATES_MAX);
        let mut discovery = Discovery::new(updates);
        let mailboxes = self
            .shards
            .iter()
            .map(|shard| shard.mailbox.clone())
            .collect();
        let (mut resolver, mut resolved) = Resolver::new(mailboxes);
        let signal_error = |error: std::io::Error| RunError::Start {
            what: "signal handling".to_owned(),
            reason: error.to_string(),
        };
        let mut hangup = signal(SignalKind::hangup()).map_err(signal_error)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(signal_error)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(signal_error)?;

        self.send_endpoints()
            .await
            .map_err(|error| RunError::Start {
                what: "remote write".to_owned(),
                reason: error.to_string(),
            })?;
        discovery.apply(&self.config);
        self.see_to_cluster().await;
        self.apply_jobs().await;
        self.wish().await;
        let outcome = loop {
            let wake_at = self.clustering.as_ref().and_then(Clustering::wake_at);
            let wake = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                Some((shard, message)) = self.reported.recv() => Event::Shard(shard, message),
                message = Clustering::receive(&mut self.clustering) => Event::Gossip(message),
                () = wake => Event::Wake,
                Some(update) = updated.recv() => Event::Job(update),
                Some(answer) = resolved.recv() => Event::Resolved(answer),
                Some(query) = asked.recv() => Event::Query(query),
                _ = hangup.recv() => Event::Hangup,
                _ = terminate.recv() => Event::Stop("SIGTERM"),
                _ = interrupt.recv() => Event::Stop("SIGINT"),
            };
            match event {
                Event::Shard(shard, FromShard::Ready) => self.ready[shard] = true,
                Event::Shard(shard, FromShard::Resolve(name)) => resolver.ask(shard, name),
                Event::Shard(shard, FromShard::Stopped(result)) => {
                    let reason = result.err().unwrap_or_else(|| "not asked to".to_owned());
                    error!(shard, reason, "a shard has ended; the process stops");
                    break Err(RunError::Shard { shard, reason });
                }
                Event::Shard(shard, FromShard::StoodStill) => self.shard_stood_still(shard),
                Event::Shard(_, FromShard::HandOver { to, scrapes }) => {
                    self.hand_over(to, scrapes);
                }
                Event::Gossip(message) => {
                    if let Err(error) = self.take_gossip(message, &queries).await {
                        break Err(error);
                    }
                }
                Event::Wake => {
                    if self.clustering.as_ref().is_some_and(Clustering::is_behind) {
                        self.see_to_cluster().await;
                    }
                    self.wish().await;
                    if self.has_left().await {
                        break Ok(());
                    }
                }
                Event::Job(update) => {
                    let change = self.jobs.update(update, crate::clock::now_ms());
                    self.send(change).await;
                    self.wish().await;
                }
                Event::Resolved(answer) => resolver.answered(answer).await,
                Event::Query(query) => self.answer(query, &mut discovery).await,
                Event::Hangup => {
                    // The reason has been logged.
                    let _ = self.reload(&mut discovery).await;
                }
                Event::Stop(signal) if self.begin_to_leave().await => {
                    info!(
                        signal,
                        "stopping: other nodes take the targets over; a second signal does not wait"
                    );
                }
                Event::Stop(signal) => {
                    info!(
                        signal,
                        "stopping: sending what is logged, the rest stays in the log"
                    );
                    break Ok(());
                }
            }
        };
        server.abort();
        // Questions that come now are answered: the process is stopping.
        drop(asked);
        drop(discovery);
        self.end_cluster().await;
        let has_ended = matches!(outcome, Err(RunError::Shard { .. }));
        let stopped_already = usize::from(has_ended);
        let stopped = self.stop(stopped_already).await;
        outcome.and(stopped)
    }

    /// Reads the configuration again; a bad file leaves the old one in force.
    async fn reload(&mut self, discovery: &mut Discovery) -> Result<(), String> {
        let file = &self.options.config_file;
        let config = match Config::load(file) {
            Ok(config) => config,
            Err(error) => {
                let reason = error.to_string();
                error!(
                    reason,
                    "cannot load the configuration; the old one stays in force"
                );
                self.figures.reloaded(false);
                return Err(reason);
            }
        };
        let before = std::mem::replace(&mut self.config, config);
        if let Err(error) = self.send_endpoints().await {
            self.config = before;
            self.figures.reloaded(false);
            error!(%error, "cannot use the configuration; the old one stays in force");
            return Err(error.to_string());
        }
        self.figures.reloaded(true);
        let route = route_of(&self.config);
        if route.endpoints != self.route.endpoints {
            self.route = route;
        }
        discovery.apply(&self.config);
        self.apply_jobs().await;
        self.wish().await;
        info!(file = %self.options.config_file.display(), "configuration reloaded");
        Ok(())
    }

    async fn send_endpoints(&mut self) -> Result<(), PostError> {
        let links = self
            .endpoints
            .apply(&self.config.remote_write, self.shards.len())?;
        for (shard, links) in self.shards.iter().zip(links) {
            // A shard that has ended says so in its own report.
            let _ = shard.mailbox.send(ToShard::Endpoints(links)).await;
        }
        Ok(())
    }

    async fn apply_jobs(&mut self) {
        let changes = self
            .jobs
            .apply(&self.config, &self.route, crate::clock::now_ms());
        for change in changes {
            self.send(change).await;
        }
    }

    async fn send(&mut self, change: Change) {
        for (shard, (removed, mut added)) in change.into_iter().enumerate() {
            let mailbox = &self.shards[shard].mailbox;
            for keys in removed.chunks(TARGETS_PER_MESSAGE_MAX) {
                let _ = mailbox.send(ToShard::Remove(keys.to_vec())).await;
            }
            while !added.is_empty() {
                let rest = added.split_off(added.len().min(TARGETS_PER_MESSAGE_MAX));
                let _ = mailbox
                    .send(ToShard::Add(std::mem::replace(&mut added, rest)))
                    .await;
            }
        }
        self.warn_if_too_many();
    }

    fn warn_if_too_many(&mut self) {
        let (limit, _) = crate::metrics::nofile_limits();
        let targets = self.jobs.active_count() as u64;
        let usable = limit.saturating_sub(crate::run::FILES_RESERVED);
        if targets > usable && self.figures.first_time_too_many(targets) {
            warn!(
                targets,
                limit,
                "more targets than open files allow: connections beyond the limit are closed \
                 after each scrape, and scrapes may fail; raise the limit (ulimit -n, or \
                 LimitNOFILE= in a systemd unit) above the number of targets"
            );
        }
    }

    async fn answer(&mut self, query: Query, discovery: &mut Discovery) {
        match query {
            Query::Ready(answer) => {
                let _ = answer.send(self.ready.iter().all(|ready| *ready));
            }
            Query::Reload(answer) => {
                let result = self.reload(discovery).await;
                let _ = answer.send(result);
            }
            Query::Fleet(answer) => {
                let _ = answer.send(self.fleet());
            }
            Query::Cluster(answer) => self.cluster(answer),
            Query::Health { keys, answer } => self.health(keys, answer).await,
            Query::Overview(answer) => self.overview(discovery, answer).await,
            Query::Drain { is_drained, answer } => {
                let _ = answer.send(self.drain(is_drained).await);
            }
            Query::Metrics(answer) => {
                let mut control = self.figures.snapshot(&self.jobs, discovery);
                control.handovers_failed = self.handovers_failed();
                let cluster = self.cluster_figures();
                let asked = self.ask_shards(ToShard::Figures).await;
                tokio::spawn(async move {
                    control.cluster = cluster.await;
                    // Without an answer the one who asked is told that none came.
                    if let Some(shards) = collect(asked).await {
                        let _ = answer.send(figures::render(&control, &shards));
                    }
                });
            }
            Query::Targets(answer) => {
                let jobs = self.jobs.views();
                let asked = self.ask_shards(ToShard::Statuses).await;
                tokio::spawn(async move {
                    let Some(answers) = collect(asked).await else {
                        return;
                    };
                    let mut statuses: Vec<_> = answers.into_iter().flatten().collect();
                    statuses.sort_by(|a: &api::TargetStatus, b| {
                        (a.job(), &a.target.scrape_url).cmp(&(b.job(), &b.target.scrape_url))
                    });
                    let _ = answer.send(TargetsView { statuses, jobs });
                });
            }
        }
    }

    async fn ask_shards<T>(
        &self,
        question: impl Fn(oneshot::Sender<T>) -> ToShard,
    ) -> Vec<oneshot::Receiver<T>> {
        let mut asked = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let (answer, answered) = oneshot::channel();
            let _ = shard.mailbox.send(question(answer)).await;
            asked.push(answered);
        }
        asked
    }

    /// Tells all shards to finish and waits for them, as long as they may take plus a second.
    async fn stop(mut self, stopped_already: usize) -> Result<(), RunError> {
        let flush_ms = i64::try_from(self.options.flush_deadline_ms).unwrap_or(i64::MAX / 2);
        let deadline_ms = crate::clock::now_ms() + flush_ms;
        for shard in &self.shards {
            let _ = shard.mailbox.send(ToShard::Stop { deadline_ms }).await;
        }
        let mut running = self.shards.len() - stopped_already;
        let mut result = Ok(());
        let patience =
            std::time::Duration::from_millis(self.options.flush_deadline_ms + STOP_PATIENCE_MS);
        let reported = &mut self.reported;
        let all = async {
            while running > 0 {
                match reported.recv().await {
                    Some((shard, FromShard::Stopped(Err(reason)))) => {
                        error!(shard, reason, "a shard did not stop cleanly");
                        result = Err(RunError::Shard { shard, reason });
                        running -= 1;
                    }
                    Some((_, FromShard::Stopped(Ok(())))) => running -= 1,
                    Some(_) => {}
                    None => break,
                }
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            return Err(RunError::Stop { running });
        }
        for shard in self.shards {
            shard.join();
        }
        info!("stopped");
        result
    }
}

/// Waits for the answers of all shards. `None`: one gave none in time, and a part of the figures
/// would look like counters that were reset.
async fn collect<T>(asked: Vec<oneshot::Receiver<T>>) -> Option<Vec<T>> {
    let mut answers = Vec::with_capacity(asked.len());
    for answered in asked {
        let limit = std::time::Duration::from_secs(5);
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answer)) => answers.push(answer),
            _ => return None,
        }
    }
    Some(answers)
}

fn route_of(config: &Config) -> Arc<Route> {
    let mut endpoints: Vec<Box<str>> = config
        .remote_write
        .iter()
        .map(|endpoint| endpoint.identity.as_str().into())
        .collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    Arc::new(Route {
        id: next_id(),
        endpoints: endpoints.into(),
    })
}

/// Which shard scrapes a target: a pure function of its key and the shard count.
pub(crate) fn shard_of(key: u64, shard_count: usize) -> ShardIndex {
    // The high bits: the low ones decide the phase.
    ((u128::from(key) * shard_count as u128) >> 64) as usize
}
