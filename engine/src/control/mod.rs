//! Configuration, discovery, signals and questions -> messages to the shards: one loop over one
//! enum.
//!
//! **Runs on**: control. Nothing here waits long: look-ups, discovery and answers that need the
//! shards are tasks of their own.

mod asking;
mod cluster_figures;
mod clustering;
mod costs;
mod endpoint_figures;
mod endpoints;
mod figures;
mod former;
mod handover;
mod job;
mod jobs;
mod joining;
mod leave;
mod order;
mod ownership;
mod pages;
mod placing;
mod rate;
mod routes;
mod service;
mod stopping;
mod store_figures;
#[cfg(test)]
mod tests;
pub(crate) mod trial;
mod unstable;
mod version;
mod wanted;
mod web_figures;

use crate::api::{self, ApiOptions, Query, TargetsView};
use crate::clock;
use crate::config::Config;
use crate::discovery::{Discovery, JobUpdate};
use crate::gossip::FromGossip;
use crate::mailbox::{CostReport, FromShard, ShardIndex, TARGETS_PER_MESSAGE_MAX, ToShard};
use crate::remote_write::post::PostError;
use crate::resolve::{Answer, Resolver};
use crate::run::{RunError, RunOptions};
use crate::server::{self, Sites};
use crate::shard::ShardThread;
use asking::collect;
pub(crate) use clustering::Clustering;
use endpoints::Endpoints;
use figures::ControlFigures;
use former::FormerLogs;
use jobs::{Change, Jobs};
use pages::Pages;
use routes::Routes;
pub(crate) use service::Service;
use service::Stored;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

/// How long shards may take to finish their logs after the flush deadline: an fsync may be slow.
const STOP_PATIENCE_MS: u64 = 30_000;

/// How long the files of the web configuration may take to be read.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// Questions of the API that may wait.
const QUERIES_MAX: usize = 64;

/// Job updates of discovery that may wait.
const UPDATES_MAX: usize = 64;

/// The control plane.
pub(crate) struct Control {
    options: RunOptions,
    config: Config,
    sites: Arc<Sites>,
    routes: Routes,
    /// `None`: all jobs are in the file.
    service: Option<Service>,
    shards: Vec<ShardThread>,
    ready: Vec<bool>,
    reported: mpsc::Receiver<(ShardIndex, FromShard)>,
    jobs: Jobs,
    endpoints: Endpoints,
    figures: ControlFigures,
    pages: Pages,
    clustering: Option<Clustering>,
    /// What requests about stored configurations share.
    config_changes: Arc<api::configs::Shared>,
    former: FormerLogs,
}

/// Everything that can happen to the control loop.
enum Event {
    Shard(ShardIndex, FromShard),
    Gossip(FromGossip),
    /// A change of the cluster takes effect, or a look is due whether this node may stop, or what
    /// targets cost.
    Wake,
    Costs(Vec<CostReport>),
    Job(JobUpdate),
    /// The store of configurations says something.
    Stored(Stored),
    Resolved(Answer),
    Query(Query),
    Hangup,
    Stop(&'static str),
}

impl Control {
    pub(crate) fn new(
        options: RunOptions,
        config: Config,
        sites: Arc<Sites>,
        shards: Vec<ShardThread>,
        reported: mpsc::Receiver<(ShardIndex, FromShard)>,
        clustering: Option<Clustering>,
        service: Option<Service>,
    ) -> Self {
        let ready = vec![false; shards.len()];
        let jobs = Jobs::new(shards.len());
        let figures = ControlFigures::new(shards.len());
        Self {
            options,
            config,
            sites,
            routes: Routes::default(),
            service,
            shards,
            ready,
            reported,
            jobs,
            endpoints: Endpoints::default(),
            figures,
            pages: Pages::new(clock::now_ms()),
            clustering,
            config_changes: Arc::default(),
            former: FormerLogs::default(),
        }
    }

    /// Serves until a signal asks to stop. `Ok`: all shards have stopped as asked.
    pub(crate) async fn run(mut self, listener: TcpListener) -> Result<(), RunError> {
        let (queries, mut asked) = mpsc::channel(QUERIES_MAX);
        let api = api::router(
            queries.clone(),
            ApiOptions {
                lifecycle: self.options.lifecycle,
                reads_configs: self.options.reads_configs,
            },
            self.config_changes.clone(),
            self.sites.clone(),
        );
        let server = tokio::spawn(server::serve(listener, api, self.sites.clone()));
        let followed = tokio::spawn(self.sites.clone().follow());
        let (updates, mut updated) = mpsc::channel(UPDATES_MAX);
        let mut discovery = Discovery::new(updates);
        let mailboxes = self
            .shards
            .iter()
            .map(|shard| shard.mailbox.clone())
            .collect();
        let (mut resolver, mut resolved) = Resolver::new(mailboxes);
        tokio::spawn(ShardThread::keep_awake(&self.shards));
        let signal_error = |error: std::io::Error| RunError::Start {
            what: "signal handling".to_owned(),
            reason: error.to_string(),
        };
        let mut hangup = signal(SignalKind::hangup()).map_err(signal_error)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(signal_error)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(signal_error)?;

        if let Some(service) = &mut self.service {
            service.take(&Stored::Changed);
        }
        self.see_to_cluster().await;
        let (costs, mut reported_costs) = mpsc::channel(1);
        self.apply(&mut discovery)
            .await
            .map_err(|error| RunError::Start {
                what: "remote write".to_owned(),
                reason: error.to_string(),
            })?;
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
                stored = Service::next(&mut self.service) => Event::Stored(stored),
                Some(answer) = resolved.recv() => Event::Resolved(answer),
                Some(reports) = reported_costs.recv() => Event::Costs(reports),
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
                Event::Shard(
                    shard,
                    FromShard::FormerSent {
                        endpoint,
                        generation,
                    },
                ) => {
                    self.former_sent(shard, endpoint, generation).await;
                }
                Event::Shard(_, FromShard::FormerScrapes(scrapes)) => {
                    self.former_scrapes(scrapes).await;
                }
                Event::Gossip(message) => {
                    if let Err(error) = self.take_gossip(message, &queries).await {
                        break Err(error);
                    }
                }
                Event::Costs(reports) => self.learn_costs(&reports).await,
                Event::Wake => {
                    if self.clustering.as_ref().is_some_and(Clustering::is_behind) {
                        self.see_to_cluster().await;
                    }
                    self.ask_costs(&costs).await;
                    self.wish().await;
                    if self.has_left().await {
                        break Ok(());
                    }
                }
                Event::Job(update) => {
                    for change in self.jobs.update(update, clock::now_ms()) {
                        self.send(change).await;
                    }
                    self.wish().await;
                }
                Event::Stored(stored) => self.take_stored(&stored, &mut discovery).await,
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
        followed.abort();
        // Questions that come now are answered: the process is stopping.
        drop(asked);
        drop(discovery);
        self.end_cluster().await;
        let has_ended = matches!(outcome, Err(RunError::Shard { .. }));
        let stopped_already = usize::from(has_ended);
        let stopped = self.stop(stopped_already).await;
        outcome.and(stopped)
    }

    /// Reads all files again; what a bad one says leaves the old in force.
    async fn reload(&mut self, discovery: &mut Discovery) -> Result<(), String> {
        let web = self.reload_web().await;
        let config = self.reload_config(discovery).await;
        match (config, web) {
            (Err(config), Err(web)) => Err(format!("{config}; {web}")),
            (config, web) => config.and(web),
        }
    }

    /// Somebody else may be reading the files already, and wait for a disk that does not answer.
    async fn reload_web(&self) -> Result<(), String> {
        let sites = self.sites.clone();
        let reading = tokio::task::spawn_blocking(move || sites.reload());
        let Ok(read) = tokio::time::timeout(DISK_PATIENCE, reading).await else {
            let reason = format!("the web configuration was not read within {DISK_PATIENCE:?}");
            error!(reason, "it is in force as soon as it is read");
            return Err(reason);
        };
        read.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn reload_config(&mut self, discovery: &mut Discovery) -> Result<(), String> {
        let config = match self.options.load_config() {
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
        if let Err(reason) = Service::reload(self.service.as_mut(), &config) {
            self.figures.reloaded(false);
            error!(
                reason,
                "cannot use the configuration; the old one stays in force"
            );
            return Err(reason);
        }
        let before = std::mem::replace(&mut self.config, config);
        if let Err(error) = self.apply(discovery).await {
            self.config = before;
            // Its rules were in force until now.
            let _ = Service::reload(self.service.as_mut(), &self.config);
            self.figures.reloaded(false);
            error!(%error, "cannot use the configuration; the old one stays in force");
            return Err(error.to_string());
        }
        self.figures.reloaded(true);
        info!(file = %self.options.config_file.display(), "configuration reloaded");
        Ok(())
    }

    async fn take_stored(&mut self, stored: &Stored, discovery: &mut Discovery) {
        let service = self.service.as_mut();
        let changed = service.map_or_else(Vec::new, |service| service.take(stored));
        // A listing, even one that failed, is also when endpoints that nobody has any more are let
        // go.
        if matches!(stored, Stored::Changed) {
            if changed.is_empty() {
                // It may be that it has answered at last.
                return self.wish().await;
            }
            if let Some(wanted) = self.wanted_of(&changed) {
                return self.apply_stored(&changed, wanted, discovery).await;
            }
        }
        if let Err(error) = self.apply(discovery).await {
            // The file's endpoints were good before.
            error!(%error, "BUG: the endpoints in force cannot be used");
        }
    }

    /// Makes all jobs and endpoints of the file and of what is stored those that run. What is the
    /// same goes on undisturbed.
    async fn apply(&mut self, discovery: &mut Discovery) -> Result<(), PostError> {
        let now_ms = clock::now_ms();
        let wanted = self.wanted();
        let links = self.endpoints.apply(
            &self.config.remote_write,
            &wanted.endpoints,
            self.shards.len(),
            now_ms,
        )?;
        for (shard, links) in self.shards.iter().zip(links.into_iter().flatten()) {
            // A shard that has ended says so in its own report.
            let _ = shard.mailbox.send(ToShard::Endpoints(links)).await;
        }
        self.routes.link(&wanted.routes);
        discovery.apply(&wanted.scrape_configs);
        let targets_max = self.config_targets_max();
        for change in self.jobs.apply(&wanted.jobs, targets_max, now_ms) {
            self.send(change).await;
        }
        drop(wanted);
        self.routes.sweep();
        self.wish().await;
        Ok(())
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
                let has_share = |clustering: &Clustering| clustering.has_share(clock::now_ms());
                let is_ready = self.ready.iter().all(|ready| *ready)
                    && self.clustering.as_ref().is_none_or(has_share);
                let _ = answer.send(is_ready);
            }
            Query::Reload(answer) => {
                let result = self.reload(discovery).await;
                let _ = answer.send(result);
            }
            Query::Fleet(answer) => {
                let _ = answer.send(self.fleet());
            }
            Query::Cluster(answer) => self.cluster(answer),
            Query::Service(answer) => {
                let _ = answer.send(self.service.as_ref().map(Service::for_api));
            }
            Query::Health { keys, answer } => self.health(keys, answer).await,
            Query::Configs { names, answer } => self.configs(names, answer).await,
            Query::Overview(answer) => self.overview(discovery, answer).await,
            Query::Drain { is_drained, answer } => {
                let _ = answer.send(self.drain(is_drained).await);
            }
            Query::Metrics(answer) => {
                let mut control = self.figures.snapshot(&self.jobs, discovery);
                control.handovers_failed = self.handovers_failed();
                control.config_changes = self.config_changes.counters.read();
                let service = self.service.as_ref();
                control.store = service.map(|service| service.store.figures());
                control.web = self.sites.figures_now();
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
}

/// Which shard scrapes a target: a pure function of its key and the shard count.
pub(crate) fn shard_of(key: u64, shard_count: usize) -> ShardIndex {
    // The high bits: the low ones decide the phase.
    ((u128::from(key) * shard_count as u128) >> 64) as usize
}
