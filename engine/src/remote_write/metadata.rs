//! Metric families of the blocks that pass -> metadata requests of remote write 1.0, now and then;
//! or the family of a series, for 2.0, which sends them with the series.
//!
//! Families are collected where they are seen anyway (one set lookup a record) and sent every
//! `metadata_interval_ms` in requests of their own. A family that was not seen for some rounds is
//! forgotten. If two targets differ about a family, the one seen last wins.

use super::encode::put_metadata;
use ahash::{AHashMap, AHashSet};
use ringscrape_wal::definition::{Family, FamilyKind, Layout};

/// Families in one request: Prometheus' `metadata_config.max_samples_per_send`.
pub const FAMILIES_PER_REQUEST_MAX: usize = 2_000;
/// Families kept; more are ignored and counted.
const FAMILIES_MAX: usize = 100_000;
/// Rounds after which a family that was not seen is forgotten. Scrape intervals may be longer
/// than the metadata interval.
const ROUNDS_KEPT: u64 = 10;

/// The families that one queue has seen lately.
#[derive(Debug, Default)]
pub struct Metadata {
    families: AHashMap<Box<str>, (Family, u64)>,
    layouts_seen: AHashSet<u64>,
    blocks_seen: AHashSet<u64>,
    round: u64,
    refused: u64,
}

impl Metadata {
    /// Takes note of the families of a record's layout.
    pub fn observe(&mut self, layout: &Layout) {
        if !self.layouts_seen.insert(layout.id) {
            return;
        }
        for run in &layout.runs {
            if !self.blocks_seen.insert(run.block.id) {
                continue;
            }
            for family in &run.block.families {
                self.insert(family);
            }
        }
    }

    fn insert(&mut self, family: &Family) {
        let round = self.round;
        if let Some((known, seen)) = self.families.get_mut(&family.name) {
            *seen = round;
            if known != family {
                *known = family.clone();
            }
        } else if self.families.len() < FAMILIES_MAX {
            self.families
                .insert(family.name.clone(), (family.clone(), round));
        } else {
            self.refused += 1;
        }
    }

    /// The family that a metric belongs to, going by its name: among those of the metric's block,
    /// or those seen lately, as blocks of large families after the first have no comments.
    pub fn family<'a>(&'a self, own: &'a [Family], metric: &str) -> Option<&'a Family> {
        let named = |name: &str| {
            let found = own.iter().find(|family| *family.name == *name);
            found.or_else(|| self.families.get(name).map(|(family, _)| family))
        };
        if let Some(family) = named(metric) {
            return Some(family);
        }
        let (base, suffix) = metric.rsplit_once('_')?;
        let family = named(base)?;
        let belongs = match family.kind {
            FamilyKind::Counter => matches!(suffix, "total" | "created"),
            FamilyKind::Histogram => matches!(suffix, "bucket" | "sum" | "count" | "created"),
            FamilyKind::GaugeHistogram => matches!(suffix, "bucket" | "gsum" | "gcount"),
            FamilyKind::Summary => matches!(suffix, "sum" | "count" | "created"),
            FamilyKind::Info => suffix == "info",
            FamilyKind::Unknown | FamilyKind::Gauge | FamilyKind::StateSet => false,
        };
        belongs.then_some(family)
    }

    /// Whether no family is known.
    pub fn is_empty(&self) -> bool {
        self.families.is_empty()
    }

    /// Families that were ignored because too many are known.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Ends a round: forgets what was not seen for long.
    pub fn end_round(&mut self) {
        self.families
            .retain(|_, (_, seen)| *seen + ROUNDS_KEPT > self.round);
        self.round += 1;
        self.layouts_seen.clear();
        self.blocks_seen.clear();
    }

    /// All families as requests, uncompressed, each with its number of families.
    pub fn requests(&self) -> Vec<(Vec<u8>, u32)> {
        let mut families: Vec<&Family> = self.families.values().map(|(family, _)| family).collect();
        families.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        families
            .chunks(FAMILIES_PER_REQUEST_MAX)
            .map(|chunk| {
                let mut raw = Vec::new();
                for family in chunk {
                    put_metadata(&mut raw, family);
                }
                (raw, chunk.len() as u32)
            })
            .collect()
    }
}
