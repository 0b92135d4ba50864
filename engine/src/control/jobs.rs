//! Discovered groups of all jobs, and who scrapes what when -> which shard has to add and remove
//! which targets.

use super::job::Job;
use super::ownership::Ownership;
use super::version::Version;
use crate::api::JobView;
use crate::config::ScrapeConfig;
use crate::discovery::JobUpdate;
use crate::mailbox::{Assignment, ForcedError, Removal};
use crate::target::Target;
use ringscrape_cluster::Timeline;
use ringscrape_cluster::member::{JobId, JobVersion, ZoneId};
use ringscrape_wal::definition::Route;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tracing::warn;

/// Per shard: keys to remove, targets to add (or to replace, by key).
pub(super) type Change = Vec<(Vec<Removal>, Vec<Assignment>)>;

/// A job as the configurations have it.
#[derive(Debug, Clone)]
pub(super) struct Configured {
    pub(super) config: Arc<ScrapeConfig>,
    /// Where its samples go; the same `Arc` as long as the endpoints are the same.
    pub(super) route: Arc<Route>,
    /// The stored configuration that it comes from; `None`: the file.
    pub(super) of: Option<Arc<str>>,
    /// Which one of its configuration or of the file it is: the order in which jobs are shown.
    pub(super) nth: usize,
}

/// All jobs and their targets.
pub(super) struct Jobs {
    shard_count: usize,
    /// In no order; those that are in no configuration any more, too, as long as they are in force.
    jobs: Vec<Job>,
    /// By name.
    index: HashMap<String, usize>,
    /// The jobs of stored configurations, by the configurations' names; never empty.
    of_config: HashMap<Arc<str>, BTreeSet<usize>>,
    /// Targets that one stored configuration may have; 0 = no limit.
    targets_max: u64,
    /// `None`: this node scrapes everything.
    timeline: Option<Arc<Timeline>>,
    /// What `job_versions` gives, as long as nothing has changed.
    versions: Arc<[JobVersion]>,
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
        Self {
            shard_count,
            jobs: Vec::new(),
            index: HashMap::new(),
            of_config: HashMap::new(),
            targets_max: 0,
            timeline: None,
            versions: Arc::from([]),
        }
    }

    /// Takes over what is configured; names are unique. Jobs that are the same `Arc`s as before are
    /// not looked at. Without a cluster targets of jobs that went are removed, and those of changed
    /// ones are built again from the groups known, so that changed rules take effect at once; in a
    /// cluster both happen when it switches. `targets_max`: what one stored configuration may have.
    pub(super) fn apply(
        &mut self,
        configured: &[Configured],
        targets_max: u64,
        now_ms: i64,
    ) -> Vec<Change> {
        let mut configs = BTreeSet::new();
        if self.targets_max != targets_max {
            self.targets_max = targets_max;
            let stored = configured.iter().filter_map(|job| job.of.clone());
            configs.extend(stored);
        }
        let before = (0..self.jobs.len()).collect();
        self.replace(before, configured, configs, now_ms)
    }

    /// As [`Jobs::apply`], where only these stored configurations have changed: `configured` is all
    /// that they have now. Costs what they have, however many jobs there are besides.
    pub(super) fn apply_stored(
        &mut self,
        configs: &[Arc<str>],
        configured: &[Configured],
        now_ms: i64,
    ) -> Vec<Change> {
        let before = configs.iter().filter_map(|name| self.of_config.get(name));
        let before = before.flatten().copied().collect();
        self.replace(before, configured, BTreeSet::new(), now_ms)
    }

    /// Puts `configured` in the place of the jobs `before`. `configs`: of which the number of
    /// targets is to be looked at besides.
    fn replace(
        &mut self,
        mut before: BTreeSet<usize>,
        configured: &[Configured],
        mut configs: BTreeSet<Arc<str>>,
        now_ms: i64,
    ) -> Vec<Change> {
        let mut touched = Vec::new();
        for wanted in configured {
            let index = match self.index.get(&wanted.config.job_name) {
                Some(index) => {
                    before.remove(index);
                    let job = &mut self.jobs[*index];
                    job.nth = wanted.nth;
                    if job.is_as(wanted) {
                        continue;
                    }
                    job.take(Version::new(wanted.config.clone(), now_ms));
                    *index
                }
                None => {
                    let job = Job::new(Version::new(wanted.config.clone(), now_ms));
                    let index = self.jobs.len();
                    self.index.insert(job.name.clone(), index);
                    self.jobs.push(job);
                    index
                }
            };
            configs.extend(self.jobs[index].of.clone());
            self.leave_config(index);
            let job = &mut self.jobs[index];
            job.is_removed = false;
            job.configure(wanted);
            if let Some(config) = &job.of {
                let of_config = self.of_config.entry(config.clone()).or_default();
                of_config.insert(index);
                configs.insert(config.clone());
            }
            touched.push(index);
        }
        for index in before {
            if !self.jobs[index].is_removed {
                configs.extend(self.jobs[index].of.clone());
                self.leave_config(index);
                self.jobs[index].is_removed = true;
                touched.push(index);
            }
        }
        for index in &touched {
            self.jobs[*index].build();
        }
        for config in &configs {
            touched.extend(self.limit(config));
        }
        touched.sort_unstable();
        touched.dedup();
        self.note_versions(&touched);
        let changes = self.reconcile(&touched, now_ms);
        self.drop_ended(touched.into_iter());
        changes
    }

    /// Takes over what discovery says of one job.
    pub(super) fn update(&mut self, update: JobUpdate, now_ms: i64) -> Vec<Change> {
        // It may be of a job that a reload has just removed.
        let Some(&index) = self.index.get(&update.job_name) else {
            return Vec::new();
        };
        let job = &mut self.jobs[index];
        job.groups = update.groups;
        job.has_answered |= update.complete;
        job.build();
        let config = job.of.clone();
        let mut touched = vec![index];
        if let Some(config) = config {
            touched.extend(self.limit(&config).into_iter().filter(|one| *one != index));
        }
        self.reconcile(&touched, now_ms)
    }

    /// Whether a stored configuration has more targets than it may. Returns its jobs for which the
    /// answer has changed.
    fn limit(&mut self, config: &Arc<str>) -> Vec<usize> {
        let Some(of_config) = self.of_config.get(config) else {
            return Vec::new();
        };
        let found = |index: &usize| {
            let newest = self.jobs[*index].versions.last();
            newest.map_or(0, |version| version.found.len())
        };
        let targets: usize = of_config.iter().map(found).sum();
        let is_over = self.targets_max > 0 && targets as u64 > self.targets_max;
        let over = is_over.then(|| ForcedError {
            cause: "config_target_limit",
            message: format!(
                "the stored configuration has too many targets ({targets}, limit: {})",
                self.targets_max
            )
            .into(),
        });
        let mut changed = Vec::new();
        for index in of_config {
            let job = &mut self.jobs[*index];
            // The number of a limit that was exceeded before is not worth telling all shards.
            if job.over.is_some() != over.is_some() {
                job.over.clone_from(&over);
                job.tells_all = true;
                changed.push(*index);
            }
        }
        if is_over && !changed.is_empty() {
            warn!(
                config = &**config,
                targets,
                limit = self.targets_max,
                "too many targets: every scrape of the stored configuration fails"
            );
        }
        changed
    }

    /// The job is not among those of its configuration any more.
    fn leave_config(&mut self, index: usize) {
        let job = &self.jobs[index];
        let Some(config) = job.of.as_ref().filter(|_| !job.is_removed) else {
            return;
        };
        if let Some(of_config) = self.of_config.get_mut(config) {
            of_config.remove(&index);
            if of_config.is_empty() {
                self.of_config.remove(config);
            }
        }
    }

    /// Drops those of these jobs, in rising order, of which nothing is in force.
    fn drop_ended(&mut self, indexes: impl DoubleEndedIterator<Item = usize>) {
        for index in indexes.rev() {
            let job = &self.jobs[index];
            if !job.is_removed || !job.told.is_empty() || job.versions.len() > 1 {
                continue;
            }
            self.index.remove(&job.name);
            self.jobs.swap_remove(index);
            // The last one is here now.
            let (Some(moved), last) = (self.jobs.get(index), self.jobs.len()) else {
                continue;
            };
            if let Some(place) = self.index.get_mut(&moved.name) {
                *place = index;
            }
            let of = moved.of.as_ref().filter(|_| !moved.is_removed);
            if let Some(of_config) = of.and_then(|config| self.of_config.get_mut(config)) {
                of_config.remove(&last);
                of_config.insert(index);
            }
        }
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
    pub(super) fn job_versions(&self) -> Arc<[JobVersion]> {
        self.versions.clone()
    }

    /// Takes over what these jobs say in the cluster now.
    fn note_versions(&mut self, touched: &[usize]) {
        let jobs = || touched.iter().map(|index| &self.jobs[*index]);
        let ids: HashSet<JobId> = jobs().map(|job| job.id).collect();
        let kept = self.versions.iter().filter(|one| !ids.contains(&one.job));
        let mut versions: Vec<JobVersion> = kept.copied().collect();
        versions.extend(jobs().filter_map(Job::shared_version));
        // Nearly sorted, which this one makes use of.
        versions.sort();
        self.versions = versions.into();
    }

    /// The jobs that this node shares and whose sources have not all answered once: as long as
    /// there are any, it cannot tell which targets it would scrape. Sorted by name; those of stored
    /// configurations only if `with_stored`.
    pub(super) fn unanswered(&self, with_stored: bool) -> Vec<&str> {
        let is_open = |job: &&Job| {
            let is_asked = with_stored || job.of.is_none();
            is_asked && !job.has_answered && job.shared_version().is_some()
        };
        let open = self.jobs.iter().filter(is_open);
        let mut names: Vec<&str> = open.map(|job| job.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn active_count(&self) -> usize {
        self.jobs.iter().map(|job| job.told.len()).sum()
    }

    /// Keys of the targets of a stored configuration that this node scrapes, or is going to.
    pub(super) fn keys_of(&self, config: &str) -> impl Iterator<Item = u64> {
        let jobs = self.of_config.get(config).into_iter().flatten();
        jobs.flat_map(|index| self.jobs[*index].told.keys().copied())
    }

    /// Names of the jobs of these stored configurations.
    pub(super) fn names_of(&self, configs: &[Arc<str>]) -> impl Iterator<Item = &str> {
        let jobs = configs.iter().filter_map(|name| self.of_config.get(name));
        jobs.flatten().map(|index| self.jobs[*index].name.as_str())
    }

    /// All discovered targets, whoever scrapes them, in no order.
    pub(super) fn targets(&self) -> Vec<Arc<Target>> {
        let newest = self.configured().filter_map(|job| job.versions.last());
        let targets = newest.flat_map(|version| version.found.values());
        targets.cloned().collect()
    }

    /// How many targets the shared jobs have, by job, zone and index of the replica, whoever
    /// scrapes them.
    pub(super) fn counts(&self) -> BTreeMap<(JobId, ZoneId, u8), u64> {
        let shared = self.configured().filter_map(|job| {
            let newest = job.versions.last()?;
            newest.config.is_clustered.then_some((job.id, newest))
        });
        let counts = shared.flat_map(|(job, newest)| {
            let zones = newest.zones.iter();
            zones.map(move |((zone, index), count)| ((job, *zone, *index), *count))
        });
        counts.collect()
    }

    /// Whether a job of the configuration has a target with this position on the ring.
    pub(super) fn has_place(&self, id: JobId, place: u64) -> bool {
        let mut jobs = self.configured().filter(|job| job.id == id);
        jobs.any(|job| {
            let newest = job.versions.last();
            newest.is_some_and(|version| version.has_place(place))
        })
    }

    /// Names of the jobs of the configuration, in its order.
    pub(super) fn names(&self) -> Vec<String> {
        let configured = self.in_order().into_iter().filter(|job| !job.is_removed);
        configured.map(|job| job.name.clone()).collect()
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

    /// In the order of the file, then of the stored configurations by name; then those that are in
    /// none any more.
    fn in_order(&self) -> Vec<&Job> {
        let mut jobs: Vec<&Job> = self.jobs.iter().collect();
        jobs.sort_by(|a, b| (a.is_removed, &a.of, a.nth).cmp(&(b.is_removed, &b.of, b.nth)));
        jobs
    }

    pub(super) fn views(&self) -> Vec<JobView> {
        let newest = |job: &Job| {
            job.versions.last().map(|version| JobView {
                name: job.name.clone(),
                dropped: version.dropped.clone(),
                dropped_count: version.dropped_count,
            })
        };
        self.in_order().into_iter().filter_map(newest).collect()
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
        self.in_order().into_iter().filter_map(newest).collect()
    }

    fn reconcile_all(&mut self, before: Option<&Timeline>, now_ms: i64) -> Vec<Change> {
        let ownership = Ownership {
            timeline: self.timeline.as_deref(),
            before,
            now_ms,
        };
        let mut changes = Vec::new();
        for job in &mut self.jobs {
            changes.extend(reconcile(job, ownership, self.shard_count));
        }
        self.drop_ended(0..self.jobs.len());
        changes
    }

    fn reconcile(&mut self, touched: &[usize], now_ms: i64) -> Vec<Change> {
        let ownership = Ownership {
            timeline: self.timeline.as_deref(),
            before: None,
            now_ms,
        };
        let mut changes = Vec::new();
        for index in touched {
            changes.extend(reconcile(
                &mut self.jobs[*index],
                ownership,
                self.shard_count,
            ));
        }
        changes
    }
}

/// What the shards have to be told of a job, if anything.
fn reconcile(job: &mut Job, ownership: Ownership<'_>, shard_count: usize) -> Option<Change> {
    let mut change: Change = (0..shard_count).map(|_| (Vec::new(), Vec::new())).collect();
    job.reconcile(ownership, &mut change);
    let is_empty = |(removed, added): &(Vec<_>, Vec<_>)| removed.is_empty() && added.is_empty();
    (!change.iter().all(is_empty)).then_some(change)
}

#[cfg(test)]
pub(super) mod tests;
