//! Members that scrape the same jobs -> who of them gets a target that is not placed by its cost.

use super::fill::{self, Taker, bucket_of};
use super::{Loads, NOBODY};
use crate::key::TargetKey;
use crate::member::ZoneId;
use crate::ring::Ring;
use crate::spot::{REPLICAS_MAX, Spot, place_of};
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
    /// By index of the replica, by bucket: index in the view's members, or `NOBODY`. None for an
    /// index: costs are not known, the ring tells.
    pub(super) buckets: BTreeMap<u8, Vec<u32>>,
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
    /// `taken`: who has other replicas of it.
    pub(crate) fn owner(&self, spot: &Spot, taken: &[u32]) -> Option<u32> {
        let (place, index) = (spot.place(), spot.replica.index);
        match self.zones.get(&spot.zone) {
            None => self.whole.owner(place, index, taken),
            Some(part) => match part.owner(place, index, taken) {
                Some(NOBODY) | None => self.whole.owner(elsewhere(place), index, taken),
                owner => owner,
            },
        }
    }

    /// Whether there are enough members for a replica with this index.
    pub(crate) fn has_member_for(&self, index: u8) -> bool {
        usize::from(index) < self.whole.indexes.len()
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
        let mut parts = self.zones.values().chain([&self.whole]);
        parts.any(|part| !part.buckets.is_empty())
    }

    /// Deals out what costs little: first to each zone its own, as far as it can take it, then all
    /// that is left to everybody.
    pub(super) fn fill(&mut self, rest: &BTreeMap<(u8, ZoneId), f64>, loads: &Loads) {
        let mut load = loads.heavy.clone();
        for index in 0..REPLICAS_MAX {
            let mut left = 0.0;
            for ((_, zone), rest) in rest.range((index, ZoneId(0))..=(index, ZoneId(u64::MAX))) {
                left += match self.zones.get_mut(zone) {
                    None => *rest,
                    Some(part) => part.fill(&mut load, loads, &loads.most_in_zone, *rest, index),
                };
            }
            self.whole
                .fill(&mut load, loads, &loads.budgets, left, index);
        }
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
            buckets: BTreeMap::new(),
        }
    }

    fn owner(&self, place: TargetKey, index: u8, taken: &[u32]) -> Option<u32> {
        let member = |at: u32| self.indexes[at as usize];
        let key = place_of(place, index);
        let owner = match self.buckets.get(&index) {
            Some(buckets) => buckets.get(bucket_of(place)).copied(),
            None => self.ring.owner_index(key).map(member),
        };
        match owner {
            Some(owner) if taken.contains(&owner) => {
                let mut members = self.ring.around(key).map(member);
                members.find(|other| !taken.contains(other))
            }
            owner => owner,
        }
    }

    /// Deals out an amount and adds it to the members' loads. Returns what nobody has room for.
    fn fill(
        &mut self,
        load: &mut [f64],
        loads: &Loads,
        most: &[f64],
        amount: f64,
        index: u8,
    ) -> f64 {
        if amount <= 0.0 || self.indexes.is_empty() {
            return amount.max(0.0);
        }
        let taker = |index: &u32| Taker {
            weight: loads.weights[*index as usize],
            load: load[*index as usize],
            most: most[*index as usize],
        };
        let takers: Vec<Taker> = self.indexes.iter().map(taker).collect();
        let has_lower = |bucket: usize, at: u32| {
            let mut lower = self.buckets.values();
            lower.any(|buckets| buckets[bucket] == self.indexes[at as usize])
        };
        let (mut buckets, rooms) = fill::buckets(&self.ring, &takers, amount, index, has_lower);
        for owner in buckets.iter_mut().filter(|owner| **owner != NOBODY) {
            *owner = self.indexes[*owner as usize];
        }
        self.buckets.insert(index, buckets);
        for (member, room) in self.indexes.iter().zip(&rooms) {
            load[*member as usize] += room;
        }
        (amount - rooms.iter().sum::<f64>()).max(0.0)
    }
}

/// What a zone has no room for has its positions close together, as its buckets are dealt out in
/// order: among all members it is spread anew.
fn elsewhere(key: TargetKey) -> TargetKey {
    TargetKey(key.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
