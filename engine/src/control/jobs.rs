//! Discovered groups of all jobs -> which shard has to add and remove which targets.

use super::{assignment, shard_of};
use crate::api::JobView;
use crate::config::{Config, ScrapeConfig};
use crate::discovery::{JobUpdate, TargetGroup};
use crate::labels::Labels;
use crate::mailbox::{Assignment, ForcedError, Removal};
use crate::target::{self, JobTargets, Target};
use ringscrape_wal::definition::Route;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tracing::{info, warn};

/// Per shard: keys to remove, targets to add (or to replace, by key).
pub(super) type Change = Vec<(Vec<Removal>, Vec<Assignment>)>;

/// Failed targets that are logged one by one after a change; the rest is counted.
const FAILED_LOGGED_MAX: usize = 3;

/// All jobs and their targets.
pub(super) struct Jobs {
    shard_count: usize,
    /// In file order.
    jobs: Vec<Job>,
    route: Arc<Route>,
}

struct Job {
    config: Arc<ScrapeConfig>,
    groups: Vec<Arc<TargetGroup>>,
    active: HashMap<u64, Arc<Target>>,
    /// What the shards were last told of all active targets beside the targets themselves.
    route: Arc<Route>,
    forced: Option<ForcedError>,
    dropped: Vec<Labels>,
    dropped_count: u64,
    failed_count: u64,
    limit_exceeded: bool,
}

/// Figures of one job for `/metrics`.
#[derive(Debug, Clone)]
pub(super) struct JobFigures {
    pub(super) name: String,
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
        }
    }

    /// Takes over a configuration. Targets of jobs that went are removed; those of the others are
    /// built again from the groups known, so that changed rules take effect at once.
    pub(super) fn apply(&mut self, config: &Config, route: &Arc<Route>) -> Vec<Change> {
        let mut before: HashMap<String, Job> = self
            .jobs
            .drain(..)
            .map(|job| (job.config.job_name.clone(), job))
            .collect();
        self.route = route.clone();
        for scrape_config in &config.scrape_configs {
            let job = match before.remove(&scrape_config.job_name) {
                Some(job) => Job {
                    config: scrape_config.clone(),
                    ..job
                },
                None => Job::new(scrape_config.clone()),
            };
            self.jobs.push(job);
        }
        let mut changes = Vec::new();
        for job in before.into_values() {
            let mut change = self.no_change();
            for key in job.active.keys() {
                let removal = Removal {
                    key: *key,
                    succeeded: false,
                };
                change[shard_of(*key, self.shard_count)].0.push(removal);
            }
            changes.push(change);
        }
        for index in 0..self.jobs.len() {
            changes.push(self.rebuild(index));
        }
        changes
    }

    /// Takes over what discovery says of one job.
    pub(super) fn update(&mut self, update: JobUpdate) -> Change {
        let found = self
            .jobs
            .iter()
            .position(|job| job.config.job_name == update.job_name);
        // A job that a reload has just removed.
        let Some(index) = found else {
            return self.no_change();
        };
        self.jobs[index].groups = update.groups;
        self.rebuild(index)
    }

    pub(super) fn active_count(&self) -> usize {
        self.jobs.iter().map(|job| job.active.len()).sum()
    }

    pub(super) fn views(&self) -> Vec<JobView> {
        let view = |job: &Job| JobView {
            name: job.config.job_name.clone(),
            dropped: job.dropped.clone(),
            dropped_count: job.dropped_count,
        };
        self.jobs.iter().map(view).collect()
    }

    pub(super) fn figures(&self) -> Vec<JobFigures> {
        let figures = |job: &Job| JobFigures {
            name: job.config.job_name.clone(),
            active: job.active.len(),
            dropped: job.dropped_count,
            failed: job.failed_count,
            limit_exceeded: job.limit_exceeded,
        };
        self.jobs.iter().map(figures).collect()
    }

    fn no_change(&self) -> Change {
        (0..self.shard_count)
            .map(|_| (Vec::new(), Vec::new()))
            .collect()
    }

    fn rebuild(&mut self, index: usize) -> Change {
        let mut change = self.no_change();
        let shard_count = self.shard_count;
        let route = &self.route;
        let job = &mut self.jobs[index];
        let built = target::targets(&job.config, &job.groups);
        job.report(&built);
        let forced = built.target_limit_exceeded.then(|| ForcedError {
            cause: "target_limit",
            message: format!(
                "target_limit exceeded (number of targets: {}, limit: {})",
                built.targets.len(),
                job.config.target_limit
            )
            .into(),
        });
        let all_change = !Arc::ptr_eq(&job.route, route) || job.forced != forced;
        let mut active = HashMap::with_capacity(built.targets.len());
        for target in built.targets {
            let key = target.key.0;
            let known = job.active.get(&key).filter(|known| same(known, &target));
            match known {
                Some(known) if !all_change => {
                    active.insert(key, known.clone());
                    continue;
                }
                _ => {}
            }
            let blocked = target.blocked.as_deref().map(|reason| ForcedError {
                cause: "blocked",
                message: reason.into(),
            });
            let assignment = assignment(&target, route, forced.clone().or(blocked));
            change[shard_of(key, shard_count)].1.push(assignment);
            active.insert(key, target);
        }
        job.route = route.clone();
        job.forced = forced;
        let gone: Vec<&Arc<Target>> = job
            .active
            .iter()
            .filter(|(key, _)| !active.contains_key(*key))
            .map(|(_, target)| target)
            .collect();
        if !gone.is_empty() {
            let labels: HashSet<&Labels> = active.values().map(|target| &target.labels).collect();
            for target in gone {
                let succeeded = labels.contains(&target.labels);
                let removal = Removal {
                    key: target.key.0,
                    succeeded,
                };
                change[shard_of(removal.key, shard_count)].0.push(removal);
            }
        }
        job.active = active;
        change
    }
}

/// Whether two targets with one key, so with equal labels and URL, are equal in all else too.
fn same(known: &Target, target: &Target) -> bool {
    (Arc::ptr_eq(&known.scrape_config, &target.scrape_config)
        || known.scrape_config == target.scrape_config)
        && known.interval_ms == target.interval_ms
        && known.timeout_ms == target.timeout_ms
        && known.blocked == target.blocked
        && known.discovered == target.discovered
}

impl Job {
    fn new(config: Arc<ScrapeConfig>) -> Self {
        Self {
            config,
            groups: Vec::new(),
            active: HashMap::new(),
            route: Arc::new(Route {
                id: 0,
                endpoints: Box::default(),
            }),
            forced: None,
            dropped: Vec::new(),
            dropped_count: 0,
            failed_count: 0,
            limit_exceeded: false,
        }
    }

    /// Remembers and logs what became of the discovered targets.
    fn report(&mut self, built: &JobTargets) {
        let name = &self.config.job_name;
        if built.failed_count > self.failed_count {
            for failed in built.failed.iter().take(FAILED_LOGGED_MAX) {
                warn!(job = name, reason = %failed.reason, labels = ?failed.discovered.as_slice(),
                    "a discovered target cannot be scraped");
            }
            warn!(
                job = name,
                targets = built.failed_count,
                "discovered targets cannot be scraped"
            );
        }
        if built.target_limit_exceeded && !self.limit_exceeded {
            warn!(
                job = name,
                targets = built.targets.len(),
                limit = self.config.target_limit,
                "target_limit exceeded: all targets of the job fail"
            );
        }
        if built.targets.len() != self.active.len() {
            info!(
                job = name,
                targets = built.targets.len(),
                dropped = built.dropped_count,
                "targets of the job changed"
            );
        }
        self.dropped.clone_from(&built.dropped);
        self.dropped_count = built.dropped_count;
        self.failed_count = built.failed_count;
        self.limit_exceeded = built.target_limit_exceeded;
    }
}
