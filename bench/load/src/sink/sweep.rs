//! The state of all series and targets -> what only shows when a target is seen as a whole.

use super::labels::Class;
use super::report::{Completeness, Findings};
use super::table::Series;
use super::targets::Target;
use super::verify::{CHANGING, ENDED, Verifier};

/// Samples that a constant series lacks between its first and its last one.
pub(super) fn shortfall(state: &Series, target: &Target) -> u64 {
    if state.flags & CHANGING != 0 || state.first == 0 {
        return 0;
    }
    let due = Target::between(&target.scrapes, state.first - 1, state.last + 1) as u64;
    due.saturating_sub(u64::from(state.samples))
}

impl Verifier {
    /// All findings so far, with those that take a look at whole targets.
    ///
    /// A series that lacks samples at its end counts as ended without a marker only if at least two
    /// later scrapes of its target arrived, the first of them before `settled_ms`: requests of one
    /// scrape arrive in any order. Costs a pass over all series.
    pub fn sweep(&self, settled_ms: i64) -> Findings {
        let mut findings = self.findings;
        let settled = self
            .base_ms
            .and_then(|base| u32::try_from(settled_ms.saturating_sub(base)).ok())
            .unwrap_or(if self.base_ms.is_some_and(|base| settled_ms > base) {
                u32::MAX
            } else {
                0
            });
        for state in self.table.iter() {
            if Class::ALL[state.class as usize].shape().is_none() || state.last == 0 {
                continue;
            }
            let target = self.targets.get(state.target);
            findings.gaps += shortfall(state, target);
            if state.flags & ENDED == 0 {
                let scrapes = &target.scrapes;
                let next = scrapes.partition_point(|at| *at <= state.last);
                let ended = scrapes.len() - next >= 2 && scrapes[next] < settled;
                findings.missing_markers += u64::from(ended);
            }
        }
        for ((target, last, at), series) in &self.suspects {
            if !self.targets.get(*target).explains_absence(*last, *at) {
                findings.false_markers += series;
            }
        }
        findings
    }

    /// What arrived of what was to be expected; 0 for what the caller cannot tell.
    pub fn completeness(&self, targets_expected: u64, series_expected: u64) -> Completeness {
        let interval = f64::from(self.expect.scrape_interval_ms.max(1));
        let mut all = Completeness {
            targets_expected,
            samples_seen: self.totals.fleet,
            ..Completeness::default()
        };
        for target in &self.targets.list {
            let (Some(first), Some(last)) = (target.scrapes.first(), target.scrapes.last()) else {
                continue;
            };
            all.targets_seen += 1;
            all.slots_expected += (f64::from(last - first) / interval).round() as u64 + 1;
            all.slots_seen += target.scrapes.len() as u64;
            all.slots_failed += Target::between(&target.failures, *first, *last) as u64;
        }
        all.samples_expected = all.slots_seen * series_expected;
        let missing = targets_expected.saturating_sub(all.targets_seen);
        let mean = all.slots_expected as f64 / all.targets_seen.max(1) as f64;
        let due = all.slots_expected as f64 + missing as f64 * mean.max(1.0);
        all.share = if due > 0.0 {
            (all.slots_seen as f64 / due).min(1.0)
        } else {
            0.0
        };
        all
    }

    /// Sum of `up` samples with value 1 and with value 0.
    pub fn ups_and_downs(&self) -> (u64, u64) {
        let sum = |count: fn(&Target) -> u64| self.targets.list.iter().map(count).sum();
        (
            sum(|target| target.ups),
            sum(|target| target.failures.len() as u64),
        )
    }

    /// Series seen and the heap bytes of their table.
    pub fn series(&self) -> (u64, u64) {
        (self.table.len() as u64, self.table.heap_bytes() as u64)
    }
}
