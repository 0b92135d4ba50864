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
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
}

/// All jobs and their targets.
pub(super) struct Jobs {
    shard_count: usize,
    /// In the order of the configurations; then those that are in none any more, as long as they
    /// are in force.
    jobs: Vec<Job>,
    /// By name.
    index: HashMap<String, usize>,
    /// The jobs of stored configurations, by their names.
    of_config: HashMap<Arc<str>, Vec<usize>>,
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
        let before = std::mem::take(&mut self.jobs);
        let mut before: Vec<Option<Job>> = before.into_iter().map(Some).collect();
        let mut touched = Vec::new();
        self.jobs.reserve(configured.len());
        for wanted in configured {
            let known = self.index.get(&wanted.config.job_name);
            let known = known.and_then(|index| before[*index].take());
            let job = match known {
                Some(job) if job.is_as(wanted) => job,
                Some(mut job) => {
                    touched.push(self.jobs.len());
                    job.is_removed = false;
                    job.take(Version::new(wanted.config.clone(), now_ms));
                    job.configure(wanted);
                    job
                }
                None => {
                    touched.push(self.jobs.len());
                    let mut job = Job::new(Version::new(wanted.config.clone(), now_ms));
                    job.configure(wanted);
                    job
                }
            };
            self.jobs.push(job);
        }
        for mut job in before.into_iter().flatten() {
            if !job.is_removed {
                touched.push(self.jobs.len());
                job.is_removed = true;
            }
            self.jobs.push(job);
        }
        self.reindex();
        for index in &touched {
            self.jobs[*index].build();
        }
        let limits_changed = self.targets_max != targets_max;
        self.targets_max = targets_max;
        let mut configs: BTreeSet<Arc<str>> = touched
            .iter()
            .filter_map(|index| self.jobs[*index].of.clone())
            .collect();
        if limits_changed {
            configs.extend(self.of_config.keys().cloned());
        }
        for config in &configs {
            touched.extend(self.limit(config));
        }
        touched.sort_unstable();
        touched.dedup();
        self.versions = self.current_versions();
        let changes = self.reconcile(&touched, now_ms);
        self.drop_ended();
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
        let of_config = self.of_config.get(config).map_or(&[][..], Vec::as_slice);
        let found = |index: &usize| {
            self.jobs[*index]
                .versions
                .last()
                .map_or(0, |v| v.found.len())
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

    fn reindex(&mut self) {
        self.index.clear();
        self.of_config.clear();
        for (index, job) in self.jobs.iter().enumerate() {
            self.index.insert(job.name.clone(), index);
            if let Some(config) = job.of.as_ref().filter(|_| !job.is_removed) {
                let of_config = self.of_config.entry(config.clone()).or_default();
                of_config.push(index);
            }
        }
    }

    fn drop_ended(&mut self) {
        let before = self.jobs.len();
        self.jobs
            .retain(|job| !job.is_removed || !job.told.is_empty() || job.versions.len() > 1);
        if self.jobs.len() < before {
            self.reindex();
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

    fn current_versions(&self) -> Arc<[JobVersion]> {
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
        versions.into()
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

    /// Keys of the targets of a stored configuration that this node scrapes, or is going to.
    pub(super) fn keys_of(&self, config: &str) -> impl Iterator<Item = u64> {
        let jobs = self.of_config.get(config).into_iter().flatten();
        jobs.flat_map(|index| self.jobs[*index].told.keys().copied())
    }

    /// All discovered targets, whoever scrapes them, in no order.
    pub(super) fn targets(&self) -> Vec<Arc<Target>> {
        let newest = self.configured().filter_map(|job| job.versions.last());
        let targets = newest.flat_map(|version| version.found.values());
        targets.cloned().collect()
    }

    /// How many targets the shared jobs have, by job and zone, whoever scrapes them.
    pub(super) fn counts(&self) -> BTreeMap<(JobId, ZoneId), u64> {
        let shared = self.configured().filter_map(|job| {
            let newest = job.versions.last()?;
            newest.config.is_clustered.then_some((job.id, newest))
        });
        let counts = shared.flat_map(|(job, newest)| {
            let zones = newest.zones.iter();
            zones.map(move |(zone, count)| ((job, *zone), *count))
        });
        counts.collect()
    }

    /// Whether a job of the configuration has a target with this place.
    pub(super) fn has_place(&self, id: JobId, place: u64) -> bool {
        let mut jobs = self.configured().filter(|job| job.id == id);
        jobs.any(|job| {
            let newest = job.versions.last();
            newest.is_some_and(|version| version.has_place(place))
        })
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
            changes.extend(reconcile(job, ownership, self.shard_count));
        }
        self.drop_ended();
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
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::discovery::TargetGroup;
    use crate::labels::Labels;
    use crate::mailbox::Ending;
    use std::path::Path;

    fn configured(job: &str, of: Option<&str>) -> Configured {
        let text = format!("scrape_configs: [{{job_name: {job}}}]");
        let config = Config::parse(Path::new("/r.yml"), &text, &|_| None).unwrap();
        Configured {
            config: config.scrape_configs[0].clone(),
            route: Arc::new(Route {
                id: 1,
                endpoints: Box::default(),
            }),
            of: of.map(Arc::from),
        }
    }

    fn found(job: &str, targets: usize) -> JobUpdate {
        let address = |n| Labels::from_pairs([("__address__", format!("h{n}:1"))]);
        JobUpdate {
            job_name: job.into(),
            groups: vec![Arc::new(TargetGroup {
                source: "0".into(),
                targets: (0..targets).map(address).collect(),
                labels: Labels::default(),
            })],
            complete: true,
        }
    }

    /// What the shards are told: added targets by job, with whether they fail, and removals.
    fn told(changes: Vec<Change>) -> (Vec<(String, bool)>, Vec<Ending>) {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for (gone, new) in changes.into_iter().flatten() {
            removed.extend(gone.into_iter().map(|one| one.series));
            added.extend(new.into_iter().map(|one| {
                let job = one.target.scrape_config.job_name.clone();
                (job, one.forced_error.is_some())
            }));
        }
        added.sort();
        (added, removed)
    }

    #[test]
    fn a_configuration_that_comes_or_goes_touches_no_other_one() {
        let mut jobs = Jobs::new(2);
        let (a, b) = (configured("a", None), configured("b", Some("x")));
        let c = configured("c", Some("y"));
        assert!(jobs.apply(&[a.clone(), b.clone()], 0, 0).is_empty());
        for job in ["a", "b"] {
            let (added, _) = told(jobs.update(found(job, 3), 1));
            assert_eq!(added.len(), 3);
        }
        let before = jobs.job_versions();
        assert!(
            jobs.apply(&[a.clone(), b.clone(), c.clone()], 0, 2)
                .is_empty()
        );
        assert_eq!(jobs.job_versions().len(), before.len() + 1);
        assert_eq!(
            told(jobs.update(found("c", 1), 3)).0,
            [("c".to_owned(), false)]
        );
        assert_eq!(jobs.keys_of("x").count(), 3);
        let (added, removed) = told(jobs.apply(&[a.clone(), c.clone()], 0, 4));
        assert_eq!((added.len(), removed), (0, vec![Ending::End; 3]));
        assert_eq!(jobs.keys_of("x").count(), 0);
        // Another route concerns the job that has it.
        let other = Configured {
            route: Arc::new(Route {
                id: 2,
                endpoints: Box::default(),
            }),
            ..c
        };
        let (added, removed) = told(jobs.apply(&[a, other], 0, 5));
        assert_eq!((added, removed.len()), (vec![("c".to_owned(), false)], 0));
    }

    #[test]
    fn too_many_targets_fail_all_jobs_of_their_configuration_and_only_those() {
        let mut jobs = Jobs::new(2);
        let of = [
            ("a", None),
            ("b", Some("x")),
            ("c", Some("x")),
            ("d", Some("y")),
        ];
        let all: Vec<Configured> = of.map(|(job, of)| configured(job, of)).into();
        jobs.apply(&all, 4, 0);
        for job in ["a", "d"] {
            jobs.update(found(job, 4), 1);
        }
        jobs.update(found("b", 2), 1);
        let fails = |added: &[(String, bool)]| added.iter().filter(|(_, fails)| *fails).count();
        let (added, _) = told(jobs.update(found("c", 3), 2));
        assert_eq!((added.len(), fails(&added)), (5, 5), "{added:?}");
        assert!(
            added
                .iter()
                .all(|(job, _)| ["b", "c"].contains(&job.as_str()))
        );
        assert!(
            told(jobs.update(found("a", 9), 3))
                .0
                .iter()
                .all(|(_, fails)| !fails)
        );
        let (added, removed) = told(jobs.update(found("c", 2), 4));
        assert_eq!((added.len(), fails(&added), removed.len()), (4, 0, 1));
        let (added, _) = told(jobs.apply(&all, 3, 5));
        assert_eq!(
            (added.len(), fails(&added)),
            (8, 8),
            "a lower limit for all"
        );
    }
}
