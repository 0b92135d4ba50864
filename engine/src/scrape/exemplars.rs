//! Exemplars as exposed -> those that are new, for the log.
//!
//! Source: Prometheus tsdb/agent/db.go `AppendExemplar`, model/exemplar/exemplar.go `Equals`.

use crate::matcher::{Layout, RawExemplar};
use crate::parse;
use ahash::RandomState;
use ringscrape_wal::scrape::Exemplar;
use std::collections::HashMap;

/// Longest label set, in characters of names and values. Source: OpenMetrics 1.0.0, "Exemplars".
const LABEL_SET_CHARS_MAX: usize = 128;

/// What became of the exemplars of one scrape.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// With raw indices instead of positions, rising.
    pub(super) exemplars: Vec<Exemplar>,
    /// How many were dropped.
    pub(super) dropped: u32,
}

/// Drops those that repeat the last one of their series. `last`: hash of the last one by canonical
/// index of `layout`; kept up to date. `timestamp_ms`: of a sample.
pub(super) fn take(
    layout: &Layout,
    found: &[RawExemplar],
    arena: &[u8],
    last: &mut HashMap<u32, u64>,
    hasher: &RandomState,
    rejected: &[u32],
    timestamp_ms: impl Fn(u32) -> i64,
) -> Taken {
    let mut taken = Taken::default();
    for exemplar in found {
        if layout.kept(exemplar.raw).is_none() {
            continue;
        }
        let (from, to) = exemplar.labels;
        let mut labels = parse::exemplar_labels(&arena[from..to]);
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort();
        let repeated = labels.windows(2).any(|pair| pair[0].0 == pair[1].0);
        let chars = labels
            .iter()
            .map(|(name, value)| name.chars().count() + value.chars().count());
        let too_long = chars.sum::<usize>() > LABEL_SET_CHARS_MAX;
        if repeated || too_long || rejected.binary_search(&exemplar.raw).is_ok() {
            taken.dropped += 1;
            continue;
        }
        let key = (&labels, exemplar.value.to_bits(), exemplar.timestamp_ms);
        let hash = hasher.hash_one(key);
        let series = layout.canonical(exemplar.raw);
        if last.insert(series, hash) == Some(hash) {
            continue;
        }
        let index = match layout.is_duplicate(exemplar.raw) {
            true => series,
            false => exemplar.raw,
        };
        taken.exemplars.push(Exemplar {
            index,
            timestamp_ms: exemplar
                .timestamp_ms
                .unwrap_or_else(|| timestamp_ms(exemplar.raw)),
            value: exemplar.value,
            labels: labels
                .into_iter()
                .map(|(n, v)| (n.into(), v.into()))
                .collect(),
        });
    }
    taken.exemplars.sort_by_key(|exemplar| exemplar.index);
    taken
}
