//! A seed -> the targets: keys, jobs, intervals and costs.

use crate::random::Random;
use ringscrape_cluster::member::JobId;
use ringscrape_cluster::{Slots, TargetKey};

/// A target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// Its place on the ring, and its phase.
    pub(crate) key: TargetKey,
    /// Index into [`World::jobs`].
    pub(crate) job: usize,
    /// Between two slots.
    pub(crate) interval_ms: u64,
    /// What it costs, in samples a second.
    pub(crate) samples_per_s: f64,
}

/// All targets. The first ones are followed slot by slot, the others are only counted.
#[derive(Debug)]
pub(crate) struct World {
    /// The jobs that all nodes have, sorted.
    pub(crate) jobs: Vec<JobId>,
    /// All targets.
    pub(crate) targets: Vec<Target>,
    /// How many of them are followed.
    pub(crate) followed: usize,
    /// The longest interval of all.
    pub(crate) interval_ms_max: u64,
}

/// Intervals of the targets: short ones show a gap sooner, long ones are what users have.
const INTERVALS_MS: [u64; 5] = [1_000, 2_000, 5_000, 10_000, 15_000];
const JOBS: usize = 3;
/// Series of the smallest targets.
const SERIES_MIN: f64 = 20.0;
/// How heavy the tail of the costs is (Pareto's exponent).
const TAIL: f64 = 1.2;

impl World {
    /// `nodes`: a target costs at most a quarter of what one of that many has on average, or it
    /// could not be placed evenly at all.
    pub(crate) fn new(random: &mut Random, targets: usize, followed: usize, nodes: usize) -> Self {
        let mut jobs: Vec<JobId> = (0..JOBS).map(|n| JobId::new(&format!("job-{n}"))).collect();
        jobs.sort_unstable();
        let mut targets: Vec<Target> = (0..targets)
            .map(|_| {
                let interval_ms = INTERVALS_MS[random.below(INTERVALS_MS.len() as u64) as usize];
                let series = SERIES_MIN * (1.0 - random.unit()).powf(-1.0 / TAIL);
                Target {
                    key: TargetKey(random.next()),
                    job: random.below(JOBS as u64) as usize,
                    interval_ms,
                    samples_per_s: series * 1_000.0 / interval_ms as f64,
                }
            })
            .collect();
        let total: f64 = targets.iter().map(|target| target.samples_per_s).sum();
        let most = total / nodes.max(1) as f64 / 4.0;
        for target in &mut targets {
            target.samples_per_s = target.samples_per_s.min(most);
        }
        Self {
            jobs,
            followed: followed.min(targets.len()),
            targets,
            interval_ms_max: INTERVALS_MS.into_iter().max().unwrap_or_default(),
        }
    }

    /// Those that are followed.
    pub(crate) fn followed(&self) -> &[Target] {
        &self.targets[..self.followed]
    }
}

impl Target {
    /// When it is scraped.
    pub(crate) fn slots(&self) -> Slots {
        Slots::new(self.key, self.interval_ms)
    }
}
