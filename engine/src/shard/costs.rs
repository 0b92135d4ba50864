//! Samples of each scrape -> what targets cost, and which of them cost much more than others do.
//!
//! Kept apart from the targets, a few bytes each, so that a look at all of them is short.

use crate::mailbox::{CostReport, JobCost};
use ahash::AHashMap;
use ringscrape_cluster::member::JobId;

/// Targets that a report names at most, the dearest ones.
const DEAR_MAX: usize = 2_000;
/// A target is named if it costs so much more than is usual.
const DEAR_FACTOR: f32 = 2.0;

/// What the targets of one shard cost.
#[derive(Debug, Default)]
pub(super) struct Costs {
    /// By slot.
    costs: Vec<Cost>,
    jobs: Vec<JobId>,
    /// Places in `jobs`.
    places: AHashMap<JobId, u32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    /// Index in `jobs`.
    job: u32,
    /// 0: not known.
    samples_per_s: f32,
}

const UNKNOWN: Cost = Cost {
    job: 0,
    samples_per_s: 0.0,
};

impl Costs {
    /// Takes note of a scrape.
    pub(super) fn set(&mut self, slot: usize, job: JobId, samples: u32, interval_ms: u64) {
        let jobs = &mut self.jobs;
        let job = *self.places.entry(job).or_insert_with(|| {
            jobs.push(job);
            jobs.len() as u32 - 1
        });
        if slot >= self.costs.len() {
            self.costs.resize(slot + 1, UNKNOWN);
        }
        self.costs[slot] = Cost {
            job,
            samples_per_s: samples as f32 * 1e3 / interval_ms.max(1) as f32,
        };
    }

    /// Forgets jobs that have no targets here any more, once they are the most.
    fn forget_jobs(&mut self) {
        let mut is_used = vec![false; self.jobs.len()];
        let known = self.costs.iter().filter(|cost| cost.samples_per_s > 0.0);
        known.for_each(|cost| is_used[cost.job as usize] = true);
        if is_used.iter().filter(|is_used| **is_used).count() * 2 >= self.jobs.len() {
            return;
        }
        let mut fresh = Self::default();
        let mut now_at = vec![0u32; self.jobs.len()];
        for (index, job) in self
            .jobs
            .iter()
            .enumerate()
            .filter(|(index, _)| is_used[*index])
        {
            now_at[index] = fresh.jobs.len() as u32;
            fresh.places.insert(*job, now_at[index]);
            fresh.jobs.push(*job);
        }
        fresh.costs = std::mem::take(&mut self.costs);
        for cost in &mut fresh.costs {
            cost.job = now_at[cost.job as usize];
        }
        *self = fresh;
    }

    /// The target of a slot is gone, or is another one.
    pub(super) fn forget(&mut self, slot: usize) {
        if let Some(cost) = self.costs.get_mut(slot) {
            *cost = UNKNOWN;
        }
    }

    /// What the target of a slot costs, if that is known.
    pub(super) fn of(&self, slot: usize) -> Option<f32> {
        let cost = self.costs.get(slot)?;
        (cost.samples_per_s > 0.0).then_some(cost.samples_per_s)
    }

    /// The sums of the jobs, and the slots of targets that cost much, with their costs.
    pub(super) fn report(&mut self) -> (CostReport, Vec<(usize, f32)>) {
        self.forget_jobs();
        let of_job = |job: &JobId| JobCost {
            job: *job,
            targets: 0,
            samples_per_s: 0.0,
        };
        let mut jobs: Vec<JobCost> = self.jobs.iter().map(of_job).collect();
        let (mut targets, mut sum_of_logs) = (0u64, 0.0f64);
        for cost in self.costs.iter().filter(|cost| cost.samples_per_s > 0.0) {
            let job = &mut jobs[cost.job as usize];
            job.targets += 1;
            job.samples_per_s += f64::from(cost.samples_per_s);
            targets += 1;
            sum_of_logs += f64::from(rough_log2(cost.samples_per_s));
        }
        jobs.retain(|job| job.targets > 0);
        let usual = (sum_of_logs / targets.max(1) as f64).exp2() as f32;
        let each = self.costs.iter().map(|cost| cost.samples_per_s).enumerate();
        let mut dear: Vec<(usize, f32)> = each
            .filter(|(_, cost)| *cost > usual * DEAR_FACTOR)
            .collect();
        if dear.len() > DEAR_MAX {
            dear.select_nth_unstable_by(DEAR_MAX, |a, b| b.1.total_cmp(&a.1));
            dear.truncate(DEAR_MAX);
        }
        let report = CostReport {
            jobs,
            targets,
            sum_of_logs,
            dear: Vec::new(),
        };
        (report, dear)
    }
}

/// Of a positive number, within 0.09: a float's exponent, and its fraction as it is.
fn rough_log2(number: f32) -> f32 {
    number.to_bits() as f32 / (1u32 << 23) as f32 - 127.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId(1);

    #[test]
    fn logarithms_are_about_right() {
        for number in [0.01f32, 0.7, 1.0, 1.5, 33.3, 40_000.0] {
            assert!(
                (rough_log2(number) - number.log2()).abs() < 0.09,
                "{number}"
            );
        }
    }

    #[test]
    fn sums_and_the_dear_ones() {
        let mut costs = Costs::default();
        for slot in 0..1_000 {
            costs.set(slot, JOB, 100, 10_000);
        }
        costs.set(5, JobId(2), 50_000, 10_000);
        costs.set(1_003, JOB, 7, 10_000);
        costs.forget(1_003);
        costs.forget(2_000);
        let (report, dear) = costs.report();
        assert_eq!(dear, [(5, 5_000.0)]);
        assert_eq!(report.targets, 1_000);
        let sums: Vec<_> = report
            .jobs
            .iter()
            .map(|j| (j.job, j.targets, j.samples_per_s))
            .collect();
        assert_eq!(sums, [(JOB, 999, 9_990.0), (JobId(2), 1, 5_000.0)]);
    }

    #[test]
    fn only_the_dearest_are_named() {
        let mut costs = Costs::default();
        for slot in 0..20_000 {
            costs.set(slot, JOB, 1, 1_000);
        }
        for slot in 20_000..20_000 + 2 * DEAR_MAX {
            costs.set(slot, JOB, slot as u32, 1_000);
        }
        let (_, dear) = costs.report();
        assert_eq!(dear.len(), DEAR_MAX);
        assert!(dear.iter().all(|(slot, _)| *slot >= 20_000 + DEAR_MAX));
    }
}
