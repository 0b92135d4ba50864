//! Series, samples, histograms and exemplars of an agent's log -> scrapes, each series in order.
//!
//! Samples of one `job` and `instance` that were appended together become one scrape, so a series
//! always belongs to the same target, and who sends one target after the other in order sends each
//! series in order.

use super::histogram::{put_bytes, put_varint};
use super::record::{self, Kind, RecordFault, Sample, Visitor};
use crate::definition::{Block, BlockEntry, Layout, Route, Run, Target, next_id};
use crate::scrape::{Exemplar, Scrape, SideBytes, SideTimestamp, Sides};
use ahash::AHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// Series of one block at most.
const BLOCK_SERIES_MAX: usize = 1_000;

/// What was read, and what was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Series declared.
    pub series: u64,
    /// Float samples and histograms given out.
    pub samples: u64,
    /// Of these, histograms.
    pub histograms: u64,
    /// Exemplars given out.
    pub exemplars: u64,
    /// Samples and histograms older than asked for.
    pub too_old: u64,
    /// Samples, histograms and exemplars of series that no readable record declares.
    pub without_series: u64,
    /// Exemplars whose sample was not beside them.
    pub without_sample: u64,
    /// Series with labels that cannot be sent.
    pub series_malformed: u64,
    /// Records that break the rules of their type.
    pub records_malformed: u64,
    /// Records of unknown types.
    pub records_unknown: u64,
}

/// From which time on a target's samples are wanted, by `job` and `instance` (milliseconds since
/// the Unix epoch).
pub type Since = Box<dyn Fn(&str, &str) -> i64>;

/// Puts records together.
pub struct Scrapes {
    since: Since,
    series: AHashMap<u64, Series>,
    targets: Vec<TargetState>,
    by_name: AHashMap<(Box<str>, Box<str>), usize>,
    route: Arc<Route>,
    /// Series of the record that is being read: number, target, label bytes.
    declared: Vec<(u64, usize, Vec<u8>)>,
    /// Which record of samples is being read.
    append: u64,
    ready: VecDeque<Arc<Scrape>>,
    counts: Counts,
}

struct Series {
    target: usize,
    block: Arc<Block>,
    entry: u32,
}

struct TargetState {
    target: Arc<Target>,
    since_ms: i64,
    pending: Pending,
    /// Of the last scrape.
    layout: Option<KnownLayout>,
}

/// A layout, and the blocks (by id) and entries that it is made of.
struct KnownLayout {
    entries: Vec<(u64, u32)>,
    layout: Arc<Layout>,
}

/// A scrape that may get more.
#[derive(Default)]
struct Pending {
    append: u64,
    timestamp_ms: i64,
    /// Series by number, with their place.
    places: AHashMap<u64, u32>,
    entries: Vec<(Arc<Block>, u32)>,
    values: Vec<f64>,
    sides: Sides,
}

impl Scrapes {
    /// Nothing read yet.
    pub fn new(since: Since) -> Self {
        Self {
            since,
            series: AHashMap::new(),
            targets: Vec::new(),
            by_name: AHashMap::new(),
            route: Arc::new(Route {
                id: next_id(),
                endpoints: [].into(),
            }),
            declared: Vec::new(),
            append: 0,
            ready: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Takes in one record.
    pub fn record(&mut self, bytes: &[u8]) {
        if record::kind(bytes) == Some(Kind::Samples) {
            self.append += 1;
        }
        match record::read(bytes, self) {
            Ok(_) => {}
            Err(RecordFault::Unknown(_)) => self.counts.records_unknown += 1,
            Err(RecordFault::Malformed) => self.counts.records_malformed += 1,
        }
        self.declare();
    }

    /// The next scrape that is complete.
    pub fn take(&mut self) -> Option<Arc<Scrape>> {
        self.ready.pop_front()
    }

    /// There is no further record: what waited for more is complete.
    pub fn end(&mut self) {
        for target in 0..self.targets.len() {
            self.finish(target);
        }
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// `job` and `instance` of every target seen.
    pub fn target_count(&self) -> usize {
        self.targets.len()
    }

    /// Makes blocks of the series that a record has declared.
    fn declare(&mut self) {
        let mut declared = std::mem::take(&mut self.declared);
        declared.sort_by_key(|(_, target, _)| *target);
        for of_target in declared.chunk_by(|a, b| a.1 == b.1) {
            for some in of_target.chunks(BLOCK_SERIES_MAX) {
                let mut bytes = Vec::new();
                let mut entries = Vec::with_capacity(some.len());
                for (_, _, labels) in some {
                    bytes.extend_from_slice(labels);
                    entries.push(BlockEntry {
                        bytes_end: bytes.len() as u32,
                        holes_end: 0,
                    });
                }
                let block = Arc::new(Block {
                    id: next_id(),
                    bytes: bytes.into(),
                    entries: entries.into(),
                    holes: [].into(),
                    families: [].into(),
                });
                for (entry, (number, target, _)) in some.iter().enumerate() {
                    let series = Series {
                        target: *target,
                        block: block.clone(),
                        entry: entry as u32,
                    };
                    self.series.insert(*number, series);
                }
            }
        }
        declared.clear();
        self.declared = declared;
    }

    fn target(&mut self, job: &str, instance: &str) -> usize {
        let name = (Box::from(job), Box::from(instance));
        if let Some(index) = self.by_name.get(&name) {
            return *index;
        }
        let index = self.targets.len();
        self.targets.push(TargetState {
            target: Arc::new(Target {
                id: next_id(),
                key: index as u64 + 1,
                labels: [].into(),
            }),
            since_ms: (self.since)(job, instance),
            pending: Pending::default(),
            layout: None,
        });
        self.by_name.insert(name, index);
        index
    }

    /// Adds a sample to its target's scrape, or to a new one; its place there.
    fn add(
        &mut self,
        number: u64,
        timestamp_ms: i64,
        value: f64,
        is_sample: bool,
    ) -> Option<(usize, u32)> {
        let Some(series) = self.series.get(&number) else {
            self.counts.without_series += 1;
            return None;
        };
        let (index, block, entry) = (series.target, series.block.clone(), series.entry);
        if timestamp_ms < self.targets[index].since_ms {
            self.counts.too_old += 1;
            return None;
        }
        let pending = &self.targets[index].pending;
        let is_other_append = is_sample && pending.append != self.append;
        if is_other_append || pending.places.contains_key(&number) {
            self.finish(index);
        }
        let pending = &mut self.targets[index].pending;
        if pending.values.is_empty() {
            pending.timestamp_ms = timestamp_ms;
            pending.append = self.append;
        }
        let place = pending.values.len() as u32;
        if timestamp_ms != pending.timestamp_ms {
            pending.sides.timestamps.push(SideTimestamp {
                index: place,
                timestamp_ms,
            });
        }
        pending.places.insert(number, place);
        pending.entries.push((block, entry));
        pending.values.push(value);
        self.counts.samples += 1;
        Some((index, place))
    }

    fn finish(&mut self, index: usize) {
        let state = &mut self.targets[index];
        if state.pending.values.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut state.pending);
        let names: Vec<(u64, u32)> = pending
            .entries
            .iter()
            .map(|(block, entry)| (block.id, *entry))
            .collect();
        let layout = match &state.layout {
            Some(known) if known.entries == names => known.layout.clone(),
            _ => {
                let layout = layout_of(&pending.entries);
                state.layout = Some(KnownLayout {
                    entries: names,
                    layout: layout.clone(),
                });
                layout
            }
        };
        let mut sides = pending.sides;
        sides.exemplars.sort_by_key(|exemplar| exemplar.index);
        self.ready.push_back(Arc::new(Scrape {
            target: state.target.clone(),
            route: self.route.clone(),
            timestamp_ms: pending.timestamp_ms,
            layout,
            values: pending.values,
            stale: [].into(),
            sides: (sides != Sides::default()).then(|| Box::new(sides)),
        }));
    }
}

fn layout_of(entries: &[(Arc<Block>, u32)]) -> Arc<Layout> {
    let mut runs: Vec<Run> = Vec::new();
    for (block, entry) in entries {
        match runs.last_mut() {
            Some(run) if run.block.id == block.id && run.to == *entry => run.to += 1,
            _ => runs.push(Run {
                block: block.clone(),
                from: *entry,
                to: entry + 1,
            }),
        }
    }
    Arc::new(Layout {
        id: next_id(),
        runs: runs.into(),
        len: entries.len() as u32,
    })
}

/// Labels in the wire form of remote write 1.0, sorted, those without a value left out.
fn label_bytes(labels: &[(&str, &str)]) -> Option<Vec<u8>> {
    let mut labels: Vec<_> = labels
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    labels.sort_unstable();
    let is_twice = labels.windows(2).any(|pair| pair[0].0 == pair[1].0);
    if labels.is_empty() || is_twice || labels.iter().any(|(name, _)| name.is_empty()) {
        return None;
    }
    let mut bytes = Vec::new();
    let mut label = Vec::new();
    for (name, value) in labels {
        label.clear();
        put_bytes(&mut label, 1, name.as_bytes());
        put_bytes(&mut label, 2, value.as_bytes());
        bytes.push(0x0a);
        put_varint(&mut bytes, label.len() as u64);
        bytes.extend_from_slice(&label);
    }
    Some(bytes)
}

impl Visitor for Scrapes {
    fn series(&mut self, number: u64, labels: &[(&str, &str)]) {
        let Some(bytes) = label_bytes(labels) else {
            self.counts.series_malformed += 1;
            return;
        };
        // A checkpoint and a restart declare it again.
        if let Some(known) = self.series.get(&number) {
            let (range, _) = known.block.entry(known.entry);
            if known.block.bytes.get(range) == Some(&bytes) {
                return;
            }
        }
        let label = |wanted: &str| {
            let found = labels.iter().find(|(name, _)| *name == wanted);
            found.map_or("", |(_, value)| *value)
        };
        let target = self.target(label("job"), label("instance"));
        self.declared.push((number, target, bytes));
        self.counts.series += 1;
    }

    fn sample(&mut self, sample: Sample) {
        let Some((index, place)) = self.add(sample.number, sample.timestamp_ms, sample.value, true)
        else {
            return;
        };
        if let Some(start_ms) = sample.start_ms {
            let starts = &mut self.targets[index].pending.sides.start_timestamps;
            starts.push(SideTimestamp {
                index: place,
                timestamp_ms: start_ms,
            });
        }
    }

    fn histogram(&mut self, number: u64, timestamp_ms: i64, bytes: &[u8]) {
        if let Some((index, place)) = self.add(number, timestamp_ms, 0.0, false) {
            self.counts.histograms += 1;
            self.targets[index]
                .pending
                .sides
                .histograms
                .push(SideBytes {
                    index: place,
                    bytes: bytes.into(),
                });
        }
    }

    fn exemplar(&mut self, sample: Sample, labels: &[(&str, &str)]) {
        let Some(series) = self.series.get(&sample.number) else {
            self.counts.without_series += 1;
            return;
        };
        let pending = &mut self.targets[series.target].pending;
        let Some(place) = pending.places.get(&sample.number) else {
            self.counts.without_sample += 1;
            return;
        };
        let mut labels: Vec<(Box<str>, Box<str>)> = labels
            .iter()
            .map(|(name, value)| (Box::from(*name), Box::from(*value)))
            .collect();
        labels.sort_unstable();
        pending.sides.exemplars.push(Exemplar {
            index: *place,
            timestamp_ms: sample.timestamp_ms,
            value: sample.value,
            labels: labels.into(),
        });
        self.counts.exemplars += 1;
    }
}

impl std::fmt::Debug for Scrapes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrapes")
            .field("series", &self.series.len())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
