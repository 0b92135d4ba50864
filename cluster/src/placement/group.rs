//! Members that scrape the same jobs -> who of them gets a target that is not placed by its cost.

use super::fill::{self, Taker, bucket_of};
use super::{Loads, NOBODY};
use crate::key::TargetKey;
use crate::member::ZoneId;
use crate::ring::Ring;
use crate::view::Active;
use std::collections::BTreeMap;

/// The members that scrape the same jobs.
#[derive(Debug)]
pub(crate) struct Group {
    pub(super) whole: Part,
    /// Their zones; none if all are in the same one, or in none.
    pub(super) zones: BTreeMap<ZoneId, Part>,
}

/// Some members, and who of them gets what.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) ring: Ring,
    /// By index in the ring: index in the view's members.
    pub(super) indexes: Vec<u32>,
    /// By bucket: index in the view's members, or `NOBODY`. `None`: costs are not known, the ring
    /// tells.
    pub(super) buckets: Option<Vec<u32>>,
}

/// Whether a target is where its zone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneFit {
    /// It has no zone, or the members are not in different ones.
    Any,
    /// Its owner is in its zone.
    Own,
    /// No member that scrapes its job is in its zone.
    Empty,
    /// Its zone has as much as it can take.
    Full,
}

impl Group {
    pub(crate) fn new(members: &[Active], indexes: &[u32]) -> Self {
        let zone = |index: &u32| ZoneId::new(&members[*index as usize].zone);
        let mut by_zone = BTreeMap::<ZoneId, Vec<u32>>::new();
        for index in indexes {
            by_zone.entry(zone(index)).or_default().push(*index);
        }
        let are_same = by_zone.len() < 2;
        by_zone.retain(|zone, _| !are_same && *zone != ZoneId::NONE);
        let part = |(zone, indexes): (ZoneId, Vec<u32>)| (zone, Part::new(members, &indexes));
        let mut zones: BTreeMap<ZoneId, Part> = by_zone.into_iter().map(part).collect();
        zones.retain(|_, part| !part.indexes.is_empty());
        Self {
            whole: Part::new(members, indexes),
            zones,
        }
    }

    /// Who gets a target that is not placed by its cost; `NOBODY`: no member has room for it.
    pub(crate) fn owner(&self, key: TargetKey, zone: ZoneId) -> Option<u32> {
        match self.zones.get(&zone) {
            None => self.whole.owner(key),
            Some(part) => match part.owner(key) {
                Some(NOBODY) | None => self.whole.owner(elsewhere(key)),
                owner => owner,
            },
        }
    }

    /// Whether an owner in this group is where a target's zone is.
    pub(crate) fn zone_fit(&self, owner: u32, zone: ZoneId) -> ZoneFit {
        if self.zones.is_empty() || zone == ZoneId::NONE {
            return ZoneFit::Any;
        }
        match self.zones.get(&zone) {
            None => ZoneFit::Empty,
            Some(part) if part.indexes.contains(&owner) => ZoneFit::Own,
            Some(_) => ZoneFit::Full,
        }
    }

    /// Whether targets are dealt out by what they cost.
    pub(crate) fn is_level(&self) -> bool {
        self.whole.buckets.is_some() || self.zones.values().any(|part| part.buckets.is_some())
    }

    /// Deals out what costs little: first to each zone its own, as far as it can take it, then all
    /// that is left to everybody.
    pub(super) fn fill(&mut self, rest: &BTreeMap<ZoneId, f64>, loads: &Loads) {
        let mut load = loads.heavy.clone();
        let mut left = 0.0;
        for (zone, rest) in rest {
            left += match self.zones.get_mut(zone) {
                None => *rest,
                Some(part) => part.fill(&mut load, loads, &loads.most_in_zone, *rest),
            };
        }
        self.whole.fill(&mut load, loads, &loads.budgets, left);
    }
}

impl Part {
    fn new(members: &[Active], indexes: &[u32]) -> Self {
        let weight = |index: &u32| members[*index as usize].stage.weight;
        let name = |index: &u32| members[*index as usize].name.to_string();
        // Names are sorted in a view as they are in a ring.
        let with_weight = indexes.iter().copied().filter(|index| weight(index) > 0);
        Self {
            ring: Ring::new(indexes.iter().map(|index| (name(index), weight(index)))),
            indexes: with_weight.collect(),
            buckets: None,
        }
    }

    fn owner(&self, key: TargetKey) -> Option<u32> {
        match &self.buckets {
            Some(buckets) => buckets.get(bucket_of(key)).copied(),
            None => self
                .ring
                .owner_index(key)
                .map(|at| self.indexes[at as usize]),
        }
    }

    /// Deals out an amount and adds it to the members' loads. Returns what nobody has room for.
    fn fill(&mut self, load: &mut [f64], loads: &Loads, most: &[f64], amount: f64) -> f64 {
        if amount <= 0.0 || self.indexes.is_empty() {
            return amount.max(0.0);
        }
        let taker = |index: &u32| Taker {
            weight: loads.weights[*index as usize],
            load: load[*index as usize],
            most: most[*index as usize],
        };
        let takers: Vec<Taker> = self.indexes.iter().map(taker).collect();
        let (mut buckets, rooms) = fill::buckets(&self.ring, &takers, amount);
        for owner in buckets.iter_mut().filter(|owner| **owner != NOBODY) {
            *owner = self.indexes[*owner as usize];
        }
        self.buckets = Some(buckets);
        for (index, room) in self.indexes.iter().zip(&rooms) {
            load[*index as usize] += room;
        }
        (amount - rooms.iter().sum::<f64>()).max(0.0)
    }
}

/// What a zone has no room for has its positions close together, as its buckets are dealt out in
/// order: among all members it is spread anew.
fn elsewhere(key: TargetKey) -> TargetKey {
    TargetKey(key.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
