//! The sources of one job -> updates with all its groups, not too many of them.

use super::source::{AbortOnDrop, Answer, Source, SourceConfig};
use super::{Counters, JobUpdate, TargetGroup, groups};
use crate::config::ScrapeConfig;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Shortest time between two updates of a job.
const UPDATE_PAUSE: Duration = Duration::from_millis(250);

/// After a change of a job's sources: how long the former targets stay while new sources haven't
/// answered. Without it a reload would make targets vanish for a moment.
const HOLD: Duration = Duration::from_secs(5);

/// A job whose targets are being looked for.
#[derive(Debug)]
pub(super) struct Job {
    config: Arc<ScrapeConfig>,
    statics: Vec<Arc<TargetGroup>>,
    sources: Vec<Source>,
    layout: watch::Sender<Layout>,
    wake: Arc<Notify>,
    _collector: AbortOnDrop,
}

/// What the collector puts together.
#[derive(Debug, Clone, Default)]
struct Layout {
    /// Rises with each change of the settings.
    generation: u64,
    statics: Vec<Arc<TargetGroup>>,
    answers: Vec<watch::Receiver<Answer>>,
}

impl Job {
    pub(super) fn start(
        config: &Arc<ScrapeConfig>,
        updates: mpsc::Sender<JobUpdate>,
        counters: &Arc<Counters>,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        let (layout, receiver) = watch::channel(Layout::default());
        let collector = Collector {
            job_name: config.job_name.clone(),
            layout: receiver,
            wake: wake.clone(),
            updates,
            counters: counters.clone(),
        };
        let mut job = Self {
            config: config.clone(),
            statics: Vec::new(),
            sources: Vec::new(),
            layout,
            wake,
            _collector: AbortOnDrop(tokio::spawn(collector.run())),
        };
        job.apply(config, counters, true);
        job
    }

    /// Starts, stops and keeps sources as the settings say.
    pub(super) fn reconfigure(&mut self, config: &Arc<ScrapeConfig>, counters: &Arc<Counters>) {
        if !Arc::ptr_eq(&self.config, config) {
            self.config = config.clone();
            self.apply(config, counters, false);
        }
    }

    fn apply(&mut self, config: &ScrapeConfig, counters: &Arc<Counters>, first: bool) {
        let mut wanted = Vec::<SourceConfig>::new();
        let files = config
            .file_sd_configs
            .iter()
            .cloned()
            .map(SourceConfig::File);
        let services = config
            .http_sd_configs
            .iter()
            .cloned()
            .map(SourceConfig::Http);
        for source in files.chain(services) {
            if !wanted.contains(&source) {
                wanted.push(source);
            }
        }
        let statics = static_groups(config);
        let same = self.statics == statics
            && self
                .sources
                .iter()
                .map(|source| &source.config)
                .eq(wanted.iter());
        if same && !first {
            return;
        }
        let mut running = std::mem::take(&mut self.sources);
        for config in wanted {
            let source = match running.iter().position(|source| source.config == config) {
                Some(index) => running.swap_remove(index),
                None => Source::start(config, self.wake.clone(), counters.clone()),
            };
            self.sources.push(source);
        }
        self.statics = statics;
        self.layout.send_modify(|layout| {
            layout.generation += 1;
            layout.statics = self.statics.clone();
            layout.answers = self
                .sources
                .iter()
                .map(|source| source.answer.clone())
                .collect();
        });
        self.wake.notify_one();
    }
}

fn static_groups(config: &ScrapeConfig) -> Vec<Arc<TargetGroup>> {
    let groups = config
        .static_configs
        .iter()
        .enumerate()
        .map(|(index, group)| {
            Arc::new(TargetGroup {
                source: index.to_string(),
                targets: groups::addresses(&group.targets),
                labels: group.labels.clone(),
            })
        });
    groups.collect()
}

struct Collector {
    job_name: String,
    layout: watch::Receiver<Layout>,
    wake: Arc<Notify>,
    updates: mpsc::Sender<JobUpdate>,
    counters: Arc<Counters>,
}

impl Collector {
    /// Sends an update whenever something is new. Ends when nobody receives updates.
    async fn run(self) {
        let mut sent = None::<JobUpdate>;
        let mut generation = 1;
        let mut hold_until = None::<Instant>;
        loop {
            match hold_until {
                None => self.wake.notified().await,
                Some(end) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = sleep_until(end) => {}
                    }
                }
            }
            let layout = self.layout.borrow().clone();
            if layout.generation != generation {
                generation = layout.generation;
                // A job that has sent nothing yet has nothing to lose.
                hold_until = sent.is_some().then(|| Instant::now() + HOLD);
            }
            let update = self.update(&layout);
            let held = hold_until.is_some_and(|end| Instant::now() < end) && !update.complete;
            let nothing_yet = sent.is_none() && update.groups.is_empty() && !update.complete;
            if held || nothing_yet {
                continue;
            }
            hold_until = None;
            if sent.as_ref() == Some(&update) {
                continue;
            }
            if self.updates.send(update.clone()).await.is_err() {
                return;
            }
            self.counters.updates.fetch_add(1, Relaxed);
            sent = Some(update);
            tokio::time::sleep(UPDATE_PAUSE).await;
        }
    }

    fn update(&self, layout: &Layout) -> JobUpdate {
        let mut groups = layout.statics.clone();
        let mut complete = true;
        for answer in &layout.answers {
            match &*answer.borrow() {
                Some(found) => groups.extend(found.iter().cloned()),
                None => complete = false,
            }
        }
        JobUpdate {
            job_name: self.job_name.clone(),
            groups,
            complete,
        }
    }
}
