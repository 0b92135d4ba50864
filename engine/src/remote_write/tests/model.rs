//! Plain targets and series -> the shared types of the log; and what must leave for them.

use super::decode::TimeSeries;
use crate::config::{CompressionChoice, Endpoint, ProtobufMessage, QueueConfig, StartAt};
use crate::labels::Labels;
use crate::relabel::Rules;
use proptest::prelude::*;
use ringscrape_wal::definition::{
    Block, BlockEntry, Family, Hole, Layout, Route, Run, Target, next_id,
};
use ringscrape_wal::scrape::{STALE_NAN_BITS, Scrape, Sides};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) type LabelMap = BTreeMap<String, String>;

pub(super) fn map(pairs: &[(&str, &str)]) -> LabelMap {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

pub(super) fn endpoint() -> Endpoint {
    Endpoint {
        identity: "test".to_owned(),
        former_identities: Vec::new(),
        start_at: StartAt::Now,
        url: "http://127.0.0.1:9/".to_owned(),
        headers: Vec::new(),
        remote_timeout_ms: 30_000,
        write_relabel_configs: Rules::default(),
        external_labels: Labels::default(),
        protobuf_message: ProtobufMessage::Version1,
        compression: CompressionChoice::Snappy,
        send_exemplars: false,
        send_native_histograms: true,
        send_metadata: false,
        metadata_interval_ms: 60_000,
        queue: QueueConfig {
            requests_in_flight_min: 1,
            requests_in_flight_max: 50,
            samples_per_send_max: 10_000,
            batch_send_deadline_ms: 5_000,
            backoff_min_ms: 30,
            backoff_max_ms: 5_000,
            retry_on_http_429: true,
            sample_age_limit_ms: 0,
        },
        networks: None,
    }
}

pub(super) fn target(key: u64, labels: &LabelMap) -> Arc<Target> {
    Arc::new(Target {
        id: next_id(),
        key,
        labels: labels
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
            .collect(),
    })
}

pub(super) fn route(endpoint: &str) -> Arc<Route> {
    Arc::new(Route {
        id: next_id(),
        endpoints: [endpoint.into()].into(),
    })
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let mut len = content.len();
    while len >= 128 {
        bytes.push((len % 128) as u8 + 128);
        len /= 128;
    }
    bytes.push(len as u8);
    bytes.extend_from_slice(content);
    bytes
}

/// A block of series with these labels of their own, for targets with these label names: a label
/// of the target is a hole where the series has none of that name.
pub(super) fn block(
    target_names: &[String],
    series: &[LabelMap],
    families: &[Family],
) -> Arc<Block> {
    let (mut bytes, mut holes, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    for own in series {
        let mut parts: BTreeMap<&str, Result<&str, usize>> = BTreeMap::new();
        for (index, name) in target_names.iter().enumerate() {
            parts.insert(name, Err(index));
        }
        for (name, value) in own {
            parts.insert(name, Ok(value));
        }
        for (name, part) in parts {
            match part {
                Ok(value) => {
                    let label = [field(0x0a, name.as_bytes()), field(0x12, value.as_bytes())];
                    bytes.extend(field(0x0a, &label.concat()));
                }
                Err(index) => holes.push(Hole {
                    offset: bytes.len() as u32,
                    target_label: index as u16,
                }),
            }
        }
        entries.push(BlockEntry {
            bytes_end: bytes.len() as u32,
            holes_end: holes.len() as u32,
        });
    }
    Arc::new(Block {
        id: next_id(),
        bytes: bytes.into(),
        entries: entries.into(),
        holes: holes.into(),
        families: families.into(),
    })
}

pub(super) fn layout(runs: &[Run]) -> Arc<Layout> {
    Arc::new(Layout {
        id: next_id(),
        runs: runs.into(),
        len: runs.iter().map(|run| run.to - run.from).sum(),
    })
}

pub(super) fn whole(block: &Arc<Block>) -> Run {
    Run {
        block: block.clone(),
        from: 0,
        to: block.entries.len() as u32,
    }
}

/// A scrape and the plain form it was made of.
#[derive(Debug, Clone)]
pub(super) struct Plain {
    pub(super) scrape: Scrape,
    /// Labels by position: series of the values, then those of the staleness markers.
    pub(super) labels: Vec<LabelMap>,
}

impl Plain {
    /// What a receiver must get, in order, without write relabelling.
    pub(super) fn expected(&self, exemplars: bool) -> Vec<TimeSeries> {
        let scrape = &self.scrape;
        let none = Sides::default();
        let sides = scrape.sides.as_deref().unwrap_or(&none);
        let mut series = Vec::new();
        for (position, labels) in self.labels.iter().enumerate() {
            let index = position as u32;
            if sides.skipped.contains(&index) {
                continue;
            }
            let explicit = sides.timestamps.iter().find(|side| side.index == index);
            let timestamp_ms = explicit.map_or(scrape.timestamp_ms, |side| side.timestamp_ms);
            let mut one = TimeSeries {
                labels: labels.clone().into_iter().collect(),
                ..TimeSeries::default()
            };
            let histogram = sides.histograms.iter().find(|side| side.index == index);
            match (histogram, scrape.values.get(position)) {
                (Some(side), _) => one.histograms.push((side.bytes.to_vec(), timestamp_ms)),
                (None, Some(value)) => one.samples.push((value.to_bits(), timestamp_ms)),
                (None, None) => one.samples.push((STALE_NAN_BITS, scrape.timestamp_ms)),
            }
            let own = sides.exemplars.iter().filter(|side| side.index == index);
            one.exemplars = own
                .filter(|_| exemplars)
                .map(|side| super::decode::Exemplar {
                    labels: side
                        .labels
                        .iter()
                        .map(|(name, value)| (name.to_string(), value.to_string()))
                        .collect(),
                    value: side.value,
                    timestamp_ms: side.timestamp_ms,
                })
                .collect();
            series.push(one);
        }
        series
    }
}

/// Labels from a small alphabet, so that series and targets meet; some values are long.
pub(super) fn label_map(
    len: impl Into<prop::collection::SizeRange>,
) -> impl Strategy<Value = LabelMap> {
    let name = prop::sample::select(vec![
        "__name__", "a", "b", "code", "instance", "job", "le", "zone", "ü",
    ]);
    let value = prop_oneof![
        4 => "[a-c]{1,2}",
        1 => "[a-zé]{100,300}",
    ];
    prop::collection::btree_map(name.prop_map(str::to_owned), value, len)
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        Just(0.0),
        Just(-0.0),
        Just(f64::from_bits(0x7ff8_0000_0000_0001)),
    ]
}

fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![Just(1_700_000_000_000_i64), any::<i64>(), -10_i64..10]
}

fn sides(values: u32) -> impl Strategy<Value = Sides> {
    use ringscrape_wal::scrape::{Exemplar, SideBytes, SideTimestamp};
    let exemplar = (0..values.max(1), timestamp(), value(), label_map(0..3));
    (
        prop::collection::btree_map(0..values.max(1), timestamp(), 0..4),
        prop::collection::vec(exemplar, 0..4),
        // Field 1, a varint: as good as any content.
        prop::collection::btree_map(0..values.max(1), 0_u8..128, 0..2),
        prop::collection::btree_set(0..values.max(1), 0..3),
    )
        .prop_map(move |(timestamps, mut exemplars, histograms, skipped)| {
            exemplars.sort_by_key(|exemplar| exemplar.0);
            let mut sides = Sides {
                timestamps: timestamps
                    .into_iter()
                    .map(|(index, timestamp_ms)| SideTimestamp {
                        index,
                        timestamp_ms,
                    })
                    .collect(),
                exemplars: exemplars
                    .into_iter()
                    .map(|(index, timestamp_ms, value, labels)| Exemplar {
                        index,
                        timestamp_ms,
                        value,
                        labels: labels
                            .into_iter()
                            .map(|(name, value)| (name.into(), value.into()))
                            .collect(),
                    })
                    .collect(),
                histograms: histograms
                    .into_iter()
                    .map(|(index, byte)| SideBytes {
                        index,
                        bytes: [0x08, byte].into(),
                    })
                    .collect(),
                skipped: skipped.into_iter().collect(),
                ..Sides::default()
            };
            if values == 0 {
                sides = Sides::default();
            }
            sides
        })
}

/// A target, some blocks, and a scrape that takes runs of them, some as staleness markers.
pub(super) fn plain() -> impl Strategy<Value = Plain> {
    let blocks = prop::collection::vec(prop::collection::vec(label_map(1..5), 1..8), 1..4);
    let cuts = prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 4);
    (label_map(0..4), blocks, cuts, timestamp()).prop_flat_map(
        |(target_labels, blocks, cuts, timestamp_ms)| {
            let names: Vec<String> = target_labels.keys().cloned().collect();
            let (mut runs, mut stale) = (Vec::new(), Vec::new());
            let (mut labels, mut stale_labels) = (Vec::new(), Vec::new());
            for (series, (cut, is_stale)) in blocks.iter().zip(&cuts) {
                let shared = block(&names, series, &[]);
                let cut = cut.index(series.len() + 1);
                for (from, to, is_stale) in [(0, cut, *is_stale), (cut, series.len(), false)] {
                    if from == to {
                        continue;
                    }
                    let filled = series[from..to].iter().map(|own| {
                        let mut all = target_labels.clone();
                        all.extend(own.clone());
                        all
                    });
                    let run = Run {
                        block: shared.clone(),
                        from: from as u32,
                        to: to as u32,
                    };
                    if is_stale {
                        stale_labels.extend(filled);
                        stale.push(run);
                    } else {
                        labels.extend(filled);
                        runs.push(run);
                    }
                }
            }
            let values = prop::collection::vec(value(), labels.len());
            let sides = prop::option::of(sides(labels.len() as u32));
            labels.extend(stale_labels);
            let target = target(1, &target_labels);
            (values, sides).prop_map(move |(values, sides)| Plain {
                scrape: Scrape {
                    target: target.clone(),
                    route: route("test"),
                    timestamp_ms,
                    layout: layout(&runs),
                    values,
                    stale: stale.clone().into(),
                    sides: sides.map(Box::new),
                },
                labels: labels.clone(),
            })
        },
    )
}
