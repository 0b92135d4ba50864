//! Random numbers -> changes and faults, of all kinds, at their times.

use crate::actions::Action;
use crate::director::{CHAOS, STEP_MS};
use crate::network::{Group, Harm, NodeId, Rule};
use crate::random::Random;
use crate::simulation::Simulation;
use crate::time::{MILLI, Micros, SECOND};

/// Kinds of planned changes: joins and leaves, and all there are.
pub(crate) const MOVES: u64 = 2;
pub(crate) const CHANGES: u64 = 4;

impl Simulation {
    /// Returns when the change is over, from now. `kinds`: [`MOVES`] or [`CHANGES`].
    pub(crate) fn plan_change(
        &mut self,
        random: &mut Random,
        kinds: u64,
        within: Micros,
    ) -> Micros {
        let after = random.below(within);
        let actives = self.actives();
        let idle = self.processes.iter().filter(|p| !p.is_wanted).map(|p| p.id);
        let idle: Vec<NodeId> = idle.collect();
        let Some(node) = random.pick(&actives).copied() else {
            return 0;
        };
        match random.below(kinds) {
            0 if !idle.is_empty() => {
                let node = random.pick(&idle).copied().unwrap_or(node);
                self.schedule(after, Action::Start(node));
            }
            0 | 1 => self.schedule(after, Action::Leave(node)),
            2 => {
                let weight = random.between(1, 3) as u32;
                self.schedule(after, Action::Weight(node, weight));
            }
            _ => {
                self.director.config_hash += 1;
                let hash = self.director.config_hash;
                let job = random.below(self.world.jobs.len() as u64) as usize;
                self.director.config_hashes.insert(job, hash);
                // One after another, with a rest on the way.
                let first = random.between(1, actives.len() as u64) as usize;
                let gap = random.below(2 * SECOND / actives.len() as u64);
                for (index, node) in actives.into_iter().enumerate() {
                    let rest = if index < first { 0 } else { 3 * SECOND };
                    let at = after + gap * index as Micros + rest;
                    self.schedule(at, Action::Job(node, job, hash));
                }
                return after + 5 * SECOND;
            }
        }
        after
    }

    pub(crate) fn plan_fault(&mut self, random: &mut Random) {
        let count = self.processes.len();
        let after = random.below(CHAOS);
        let lasts = 200 * MILLI + random.below((CHAOS - after).max(SECOND));
        let node = random.below(count as u64) as NodeId;
        let mut some: Vec<NodeId> = (0..count).collect();
        random.shuffle(&mut some);
        some.truncate(random.between(1, count as u64 / 2) as usize);
        let group = Group::new(count, some);
        let harm = match random.below(13) {
            0 | 1 => {
                self.schedule(after, Action::Kill(node));
                self.schedule(after + lasts, Action::Start(node));
                return;
            }
            2 | 3 => {
                self.schedule(after, Action::Pause(node));
                self.schedule(after + lasts, Action::Resume(node));
                return;
            }
            4 => {
                let by_ms = random.below(2 * STEP_MS) as i64 - STEP_MS as i64;
                self.schedule(after, Action::Step(node, by_ms));
                self.schedule(after + lasts, Action::Step(node, -by_ms));
                return;
            }
            5 | 6 => {
                self.plan_change(random, CHANGES, CHAOS);
                return;
            }
            7 | 8 => Harm::Cut,
            9 => Harm::Flapping {
                period: 100 * MILLI + random.below(3 * SECOND),
            },
            10 | 11 => Harm::Loss(0.2 + random.unit() * 0.6),
            _ => Harm::Slow(50 * MILLI + random.below(SECOND)),
        };
        let is_single = random.chance(0.5);
        let from = if is_single {
            Group::new(count, [node])
        } else {
            group
        };
        let rule = Rule {
            to: from.others(),
            from,
            is_both_ways: random.chance(0.6),
            harm,
        };
        self.director.rules += 1;
        let id = self.director.rules;
        self.schedule(after, Action::Break(id, Box::new(rule)));
        self.schedule(after + lasts, Action::Mend(id));
    }
}
