//! Places to look for targets -> target groups, and updates when they change.
//!
//! Each source of a job (a `file_sd_configs` or `http_sd_configs` entry) is a task that keeps its
//! latest groups in a cell; the job's collector puts all of them together and sends them on. **Runs
//! on** the control thread's tokio runtime. Nothing queues up: a slow receiver gets fewer updates,
//! each the latest.

mod file;
mod groups;
mod http;
mod job;
mod source;
#[cfg(test)]
mod tests;

use crate::config::ScrapeConfig;
use crate::labels::Labels;
pub(crate) use http::causes;
use job::Job;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::mpsc;

/// Targets that came from one place, with what they have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetGroup {
    /// Where it came from: the index of a static group, else file or URL and index.
    pub source: String,
    /// Labels of each target; `__address__` among them.
    pub targets: Vec<Labels>,
    /// Labels of all of them, where a target has none of that name.
    pub labels: Labels,
}

/// All groups of a job, as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobUpdate {
    /// The job. It may have been removed since: then the update is to be ignored.
    pub job_name: String,
    /// In the order of the configuration; they replace those of the update before. Groups that
    /// haven't changed are the same `Arc`s.
    pub groups: Vec<Arc<TargetGroup>>,
    /// Whether every source of the job has answered at least once.
    pub complete: bool,
}

/// What discovery counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Files that could not be read or parsed (`prometheus_sd_file_read_errors_total`).
    pub file_read_errors: AtomicU64,
    /// Requests to services that failed (`prometheus_sd_http_failures_total`).
    pub http_failures: AtomicU64,
    /// Updates sent (`prometheus_sd_updates_total`).
    pub updates: AtomicU64,
}

/// Looks for the targets of all jobs. Its tasks end when it is dropped.
#[derive(Debug)]
pub struct Discovery {
    jobs: HashMap<String, Job>,
    updates: mpsc::Sender<JobUpdate>,
    counters: Arc<Counters>,
}

impl Discovery {
    /// `updates`: gets the first update of a job as soon as a source has answered, later ones at
    /// most four times a second per job. If it is full, jobs wait and send what is newest then.
    pub fn new(updates: mpsc::Sender<JobUpdate>) -> Self {
        Self {
            jobs: HashMap::new(),
            updates,
            counters: Arc::default(),
        }
    }

    /// Starts jobs that are new, stops those that are gone. A source whose settings are the same
    /// goes on undisturbed, also if other settings of its job changed; then no update comes, and
    /// the receiver uses the groups it has. Must be called inside a tokio runtime.
    pub fn apply(&mut self, jobs: &[Arc<ScrapeConfig>]) {
        let wanted: HashSet<&str> = jobs.iter().map(|job| job.job_name.as_str()).collect();
        self.jobs.retain(|name, _| wanted.contains(name.as_str()));
        self.change(jobs, std::iter::empty());
    }

    /// The same, where all other jobs stay as they are: these are new or changed, those are gone.
    pub fn change<'a>(&mut self, jobs: &[Arc<ScrapeConfig>], gone: impl Iterator<Item = &'a str>) {
        for name in gone {
            self.jobs.remove(name);
        }
        for config in jobs {
            match self.jobs.get_mut(&config.job_name) {
                Some(job) => job.reconfigure(config, &self.counters),
                None => {
                    let job = Job::start(config, self.updates.clone(), &self.counters);
                    self.jobs.insert(config.job_name.clone(), job);
                }
            }
        }
    }

    /// Counts since the start, of all jobs.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}
