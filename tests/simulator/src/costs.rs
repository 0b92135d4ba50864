//! What targets cost -> what nodes tell of it, and how level the load is.

use crate::network::NodeId;
use crate::simulation::Simulation;
use ringscrape_cluster::member::{HeavyTarget, ZoneId};
use ringscrape_cluster::{Replica, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node tells of each target that costs more than this part of what a node has on average.
const HEAVY_PART: f64 = 300.0;

impl Simulation {
    /// What a node tells of its own targets that cost much, and of all that cost little; `None`: it
    /// does not know.
    pub(crate) fn costs_of(&mut self, id: NodeId) -> Option<Arc<[HeavyTarget]>> {
        let (number, view) = self.agreement.last.clone()?;
        if self
            .owners
            .as_ref()
            .is_none_or(|(known, _)| *known != number)
        {
            self.owners = Some((number, self.owners_by(&view)));
        }
        let (_, owners) = self.owners.as_ref()?;
        let index = view.index_of(&crate::process::name(id))?;
        let total: f64 = self.world.targets.iter().map(|t| t.samples_per_s).sum();
        let least = total / view.members().len() as f64 / HEAVY_PART;
        let mut rest = 0.0;
        let mut heavy = Vec::new();
        let targets = self.world.targets.iter().zip(owners);
        for (target, owner) in targets {
            if target.samples_per_s <= least {
                rest += target.samples_per_s;
                continue;
            }
            if *owner != index {
                continue;
            }
            heavy.push(HeavyTarget {
                job: self.world.jobs[target.job],
                key: target.key.0,
                zone: ZoneId::NONE,
                replica: Replica::ONLY,
                samples_per_s: target.samples_per_s.round() as u32,
            });
        }
        heavy.push(HeavyTarget::rest(ZoneId::NONE, 0, rest.round() as u32));
        heavy.sort_unstable_by_key(|target| target.key);
        self.figures.costs_told += 1;
        Some(heavy.into())
    }

    /// Of each target the index of the member that has it.
    fn owners_by(&self, view: &View) -> Vec<u32> {
        let targets = self.world.targets.iter();
        let owner = |target: &crate::world::Target| {
            let ring = view.job(self.world.jobs[target.job]);
            ring.and_then(|ring| ring.owner_index(target.key))
                .unwrap_or(u32::MAX)
        };
        targets.map(owner).collect()
    }

    /// How level the load is in the end.
    pub(crate) fn measure_skew(&mut self) {
        for process in &mut self.processes {
            if let Some(running) = &process.running {
                self.figures.node_time += self.now - running.started;
            }
        }
        let Some((_, view)) = &self.agreement.last else {
            return;
        };
        let mut loads = BTreeMap::<&str, (f64, f64, f64)>::new();
        for member in view.members() {
            let weight = f64::from(member.stage.weight.max(1));
            loads.insert(&member.name, (0.0, 0.0, weight));
        }
        for (target, owner) in self.world.targets.iter().zip(self.owners_by(view)) {
            let member = view.members().get(owner as usize);
            if let Some(load) = member.and_then(|member| loads.get_mut(&*member.name)) {
                load.0 += target.samples_per_s;
                load.1 += 1.0;
            }
        }
        let weights: f64 = loads.values().map(|load| load.2).sum();
        let level = |load: fn(&(f64, f64, f64)) -> f64| {
            let total: f64 = loads.values().map(load).sum();
            let shares = loads.values().map(|l| load(l) / l.2 / (total / weights));
            shares.fold(0.0, f64::max)
        };
        let (by_samples, by_targets) = (level(|l| l.0), level(|l| l.1));
        self.figures.skew = Some((by_samples, by_targets));
        let have_told = self.figures.costs_told > 0;
        if have_told && by_samples > self.shape.skew_max {
            self.breach(
                format!("a node has {by_samples:.3} of its share of samples"),
                &[],
            );
        }
    }
}
