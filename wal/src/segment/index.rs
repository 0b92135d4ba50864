//! Frames of a segment, one after the other -> its index <-> the payload of the index frame.

use crate::codec::archive::{ArchivedIndexDisk, IndexDisk, RouteIndexDisk, access, archive_into};
use crate::codec::record::RecordSummary;
use crate::error::DamageKind;
use crate::format::Kind;
use ahash::AHashMap;
use std::collections::BTreeMap;

/// For more records than these no memory is taken in advance.
const EXPECTED_MAX: u64 = 1 << 16;

/// What a segment holds. All offsets are those of frames, rising.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Target definitions.
    pub targets: Vec<u32>,
    /// Block definitions.
    pub blocks: Vec<u32>,
    /// Layout definitions.
    pub layouts: Vec<u32>,
    /// Records that are keyframes.
    pub keyframes: Vec<u32>,
    /// The records of each route, in the order of the routes' frames.
    pub routes: Vec<RouteIndex>,
    /// Each target's frame and its last record, sorted.
    pub last_records: Vec<(u32, u32)>,
    /// Earliest time of a record, milliseconds since the Unix epoch; `i64::MAX` without records.
    pub timestamp_ms_min: i64,
    /// Latest time of a record; `i64::MIN` without records.
    pub timestamp_ms_max: i64,
}

/// The records of one route in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteIndex {
    /// Frame of the route's definition.
    pub route: u32,
    /// Its records, rising.
    pub offsets: Vec<u32>,
    /// Samples (values and staleness markers) of each; same length.
    pub samples: Vec<u32>,
}

impl Index {
    /// Number of records.
    pub fn records(&self) -> u64 {
        self.routes
            .iter()
            .map(|route| route.offsets.len() as u64)
            .sum()
    }

    /// Number of samples in the records that begin at or after `offset`.
    pub fn samples_from(&self, offset: u32) -> u64 {
        self.routes
            .iter()
            .map(|route| route.samples_from(offset))
            .sum()
    }

    /// Appends the archive to `out`.
    pub(crate) fn archive(&self, out: &mut Vec<u8>) -> bool {
        let disk = IndexDisk {
            targets: self.targets.clone(),
            blocks: self.blocks.clone(),
            layouts: self.layouts.clone(),
            keyframes: self.keyframes.clone(),
            routes: self
                .routes
                .iter()
                .map(|route| RouteIndexDisk {
                    route: route.route,
                    offsets: route.offsets.clone(),
                    samples: route.samples.clone(),
                })
                .collect(),
            last_records: self.last_records.clone(),
            timestamp_ms_min: self.timestamp_ms_min,
            timestamp_ms_max: self.timestamp_ms_max,
        };
        archive_into!(&disk, out)
    }

    /// Reads an archive.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, DamageKind> {
        let disk = access!(ArchivedIndexDisk, bytes)?;
        let list = |column: &[rkyv::rend::u32_le]| -> Result<Vec<u32>, DamageKind> {
            let list: Vec<u32> = column.iter().map(|offset| offset.to_native()).collect();
            if list.is_sorted() {
                Ok(list)
            } else {
                Err(DamageKind::Content)
            }
        };
        let mut routes = Vec::with_capacity(disk.routes.len());
        for route in disk.routes.iter() {
            if route.offsets.len() != route.samples.len() {
                return Err(DamageKind::Content);
            }
            routes.push(RouteIndex {
                route: route.route.to_native(),
                offsets: list(&route.offsets)?,
                samples: route
                    .samples
                    .iter()
                    .map(|count| count.to_native())
                    .collect(),
            });
        }
        Ok(Self {
            targets: list(&disk.targets)?,
            blocks: list(&disk.blocks)?,
            layouts: list(&disk.layouts)?,
            keyframes: list(&disk.keyframes)?,
            routes,
            last_records: disk
                .last_records
                .iter()
                .map(|pair| (pair.0.to_native(), pair.1.to_native()))
                .collect(),
            timestamp_ms_min: disk.timestamp_ms_min.to_native(),
            timestamp_ms_max: disk.timestamp_ms_max.to_native(),
        })
    }
}

impl RouteIndex {
    /// Number of samples in its records that begin at or after `offset`.
    pub fn samples_from(&self, offset: u32) -> u64 {
        let first = self.offsets.partition_point(|record| *record < offset);
        self.samples[first..]
            .iter()
            .map(|count| u64::from(*count))
            .sum()
    }

    /// Its first record at or after `offset`.
    pub fn next(&self, offset: u32) -> Option<u32> {
        let first = self.offsets.partition_point(|record| *record < offset);
        self.offsets.get(first).copied()
    }
}

/// Collects an index while frames are written or scanned, in order.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    targets: Vec<u32>,
    blocks: Vec<u32>,
    layouts: Vec<u32>,
    keyframes: Vec<u32>,
    routes: BTreeMap<u32, RouteIndex>,
    last_records: AHashMap<u32, u32>,
    timestamp_ms_min: i64,
    timestamp_ms_max: i64,
    records: u64,
    samples: u64,
    /// How many records there will be, about.
    expected: usize,
}

impl IndexBuilder {
    pub(crate) fn new() -> Self {
        Self {
            targets: Vec::new(),
            blocks: Vec::new(),
            layouts: Vec::new(),
            keyframes: Vec::new(),
            routes: BTreeMap::new(),
            last_records: AHashMap::new(),
            timestamp_ms_min: i64::MAX,
            timestamp_ms_max: i64::MIN,
            records: 0,
            samples: 0,
            expected: 0,
        }
    }

    /// Same, with memory for about so many records.
    pub(crate) fn for_records(expected: u64) -> Self {
        let expected = expected.min(EXPECTED_MAX) as usize;
        Self {
            keyframes: Vec::with_capacity(expected / 8),
            expected,
            ..Self::new()
        }
    }

    /// Notes a definition.
    pub(crate) fn definition(&mut self, kind: Kind, offset: u32) {
        match kind {
            Kind::Target => self.targets.push(offset),
            Kind::Block => self.blocks.push(offset),
            Kind::Layout => self.layouts.push(offset),
            Kind::Route => {
                self.route(offset);
            }
            Kind::Record | Kind::Index | Kind::Trailer | Kind::Map => {}
        }
    }

    /// Notes a record.
    pub(crate) fn record(&mut self, offset: u32, record: &RecordSummary) {
        if record.references.keyframe == 0 {
            self.keyframes.push(offset);
        }
        let route = self.route(record.references.route);
        route.offsets.push(offset);
        route.samples.push(record.samples);
        self.last_records.insert(record.references.target, offset);
        self.timestamp_ms_min = self.timestamp_ms_min.min(record.timestamp_ms);
        self.timestamp_ms_max = self.timestamp_ms_max.max(record.timestamp_ms);
        self.records += 1;
        self.samples += u64::from(record.samples);
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    pub(crate) fn timestamp_ms_max(&self) -> i64 {
        self.timestamp_ms_max
    }

    pub(crate) fn finish(self) -> Index {
        let mut last_records: Vec<_> = self.last_records.into_iter().collect();
        last_records.sort_unstable();
        Index {
            targets: self.targets,
            blocks: self.blocks,
            layouts: self.layouts,
            keyframes: self.keyframes,
            routes: self.routes.into_values().collect(),
            last_records,
            timestamp_ms_min: self.timestamp_ms_min,
            timestamp_ms_max: self.timestamp_ms_max,
        }
    }

    fn route(&mut self, offset: u32) -> &mut RouteIndex {
        let expected = self.expected / (self.routes.len() + 1);
        self.routes.entry(offset).or_insert_with(|| RouteIndex {
            route: offset,
            offsets: Vec::with_capacity(expected),
            samples: Vec::with_capacity(expected),
        })
    }
}
