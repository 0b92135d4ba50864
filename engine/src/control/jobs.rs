//! Discovered groups of all jobs, and who scrapes what when -> which shard has to add and remove
//! which targets.

use super::job::Job;
use super::ownership::Ownership;
use super::version::Version;
use crate::api::JobView;
use crate::config::Config;
use crate::discovery::JobUpdate;
use crate::mailbox::{Assignment, Removal};
use crate::target::Target;
use ringscrape_cluster::Timeline;
use ringscrape_cluster::member::JobVersion;
use ringscrape_wal::definition::Route;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Per shard: keys to remove, targets to add (or to replace, by key).
pub(super) type Change = Vec<(Vec<Removal>, Vec<Assignment>)>;

/// All jobs and their targets.
pub(super) struct Jobs {
    shard_count: usize,
    /// In file order; then those that are not in the file any more, as long as they are in force.
    jobs: Vec<Job>,
    route: Arc<Route>,
    /// `None`: this node scrapes everything.
    timeline: Option<Arc<Timeline>>,
}

/// Figures of one job for `/metrics`.
#[derive(Debug, Clone)]
pub(super) struct JobFigures {
    pub(super) name: String,
    /// Targets that this node scrapes, or is going to.
    pub(super) active: usize,
    pub(super) dropped: u64,
    pub(super) failed: u64,
    pub(super) limit_exceeded: bool,
}

impl Jobs {
    pub(super) fn new(shard_count: usize) -> Self {
        let route = Arc::new(Route {
            id: 0,
            endpoints: Box::default(),
        });
        Self {
            shard_count,
            jobs: Vec::new(),
            route,
            timeline: None,
        }
    }

    /// Takes over a configuration. Without a cluster targets of jobs that went are removed, and
    /// those of the others are built again from the groups known, so that changed rules take effect
    /// at once; in a cluster both happen when it switches.
    pub(super) fn apply(
        &mut self,
        config: &Config,
        route: &Arc<Route>,
        now_ms: i64,
    ) -> Vec<Change> {
        let before = std::mem::take(&mut self.jobs).into_iter();
        let mut before: HashMap<String, Job> = before.map(|job| (job.name.clone(), job)).collect();
        self.route = route.clone();
        for scrape_config in &config.scrape_configs {
            let fresh = Version::new(scrape_config.clone(), now_ms);
            let job = match before.remove(&scrape_config.job_name) {
                Some(mut job) => {
                    job.is_removed = false;
                    job.take(fresh);
                    job
                }
                None => Job::new(fresh),
            };
            self.jobs.push(job);
        }
        for mut job in before.into_values() {
            job.is_removed = true;
            self.jobs.push(job);
        }
        for job in &mut self.jobs {
            job.build();
        }
        self.reconcile_all(None, now_ms)
    }

    /// Takes over what discovery says of one job.
    pub(super) fn update(&mut self, update: JobUpdate, now_ms: i64) -> Change {
        let found = self.jobs.iter_mut().find(|job| job.name == update.job_name);
        // A job that a reload has just removed.
        let Some(job) = found else {
            return self.no_change();
        };
        job.groups = update.groups;
        job.has_answered |= update.complete;
        job.build();
        let mut change = self.no_change();
        let ownership = Ownership {
            timeline: self.timeline.as_deref(),
            before: None,
            now_ms,
        };
        for job in &mut self.jobs {
            if job.name == update.job_name {
                job.reconcile(ownership, &self.route, &mut change);
            }
        }
        change
    }

    /// Takes over who scrapes what when; to be called again when `Timeline::next_change_ms` has
    /// passed. `None`: everything is this node's. Only what differs is told.
    pub(super) fn set_timeline(
        &mut self,
        timeline: Option<Arc<Timeline>>,
        now_ms: i64,
    ) -> Vec<Change> {
        let before = std::mem::replace(&mut self.timeline, timeline);
        self.reconcile_all(before.as_deref(), now_ms)
    }

    /// The settings that this node has of the jobs that it shares, sorted by job.
    pub(super) fn job_versions(&self) -> Vec<JobVersion> {
        let newest = self.jobs.iter().filter_map(|job| {
            let newest = job.versions.last()?;
            (!job.is_removed && newest.config.is_clustered).then_some(JobVersion {
                job: job.id,
                config_hash: newest.hash,
                since_ms: newest.since_ms,
            })
        });
        let mut versions: Vec<JobVersion> = newest.collect();
        versions.sort_unstable();
        versions
    }

    /// The jobs that this node shares and whose sources have not all answered once: as long as
    /// there are any, it cannot tell which targets it would scrape.
    pub(super) fn unanswered(&self) -> Vec<&str> {
        let is_open = |job: &&Job| {
            let newest = job.versions.last();
            let is_shared = newest.is_some_and(|version| version.config.is_clustered);
            !job.is_removed && is_shared && !job.has_answered
        };
        self.jobs
            .iter()
            .filter(is_open)
            .map(|job| job.name.as_str())
            .collect()
    }

    pub(super) fn active_count(&self) -> usize {
        self.jobs.iter().map(|job| job.told.len()).sum()
    }

    /// All discovered targets, whoever scrapes them, in no order.
    pub(super) fn targets(&self) -> Vec<Arc<Target>> {
        let newest = self.configured().filter_map(|job| job.versions.last());
        let targets = newest.flat_map(|version| version.found.values());
        targets.cloned().collect()
    }

    /// Names of the jobs of the configuration.
    pub(super) fn names(&self) -> Vec<String> {
        self.configured().map(|job| job.name.clone()).collect()
    }

    /// Names of those among them that each node scrapes for itself.
    pub(super) fn local_names(&self) -> BTreeSet<String> {
        let newest = self.configured().filter_map(|job| job.versions.last());
        let local = newest.filter(|version| !version.config.is_clustered);
        local
            .map(|version| version.config.job_name.clone())
            .collect()
    }

    fn configured(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(|job| !job.is_removed)
    }

    pub(super) fn views(&self) -> Vec<JobView> {
        let newest = |job: &Job| {
            job.versions.last().map(|version| JobView {
                name: job.name.clone(),
                dropped: version.dropped.clone(),
                dropped_count: version.dropped_count,
            })
        };
        self.jobs.iter().filter_map(newest).collect()
    }

    pub(super) fn figures(&self) -> Vec<JobFigures> {
        let newest = |job: &Job| {
            job.versions.last().map(|version| JobFigures {
                name: job.name.clone(),
                active: job.told.len(),
                dropped: version.dropped_count,
                failed: version.failed_count,
                limit_exceeded: version.limit_exceeded,
            })
        };
        self.jobs.iter().filter_map(newest).collect()
    }

    fn reconcile_all(&mut self, before: Option<&Timeline>, now_ms: i64) -> Vec<Change> {
        let ownership = Ownership {
            timeline: self.timeline.as_deref(),
            before,
            now_ms,
        };
        let mut changes = Vec::new();
        for job in &mut self.jobs {
            let mut change = no_change(self.shard_count);
            job.reconcile(ownership, &self.route, &mut change);
            changes.push(change);
        }
        self.jobs
            .retain(|job| !job.is_removed || !job.told.is_empty() || job.versions.len() > 1);
        changes
    }

    fn no_change(&self) -> Change {
        no_change(self.shard_count)
    }
}

fn no_change(shard_count: usize) -> Change {
    (0..shard_count).map(|_| (Vec::new(), Vec::new())).collect()
}
