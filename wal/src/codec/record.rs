//! One scrape, with the frames it refers to <-> the payload of a record.

use super::archive::{ArchivedRecordDisk, RecordDisk, RunDisk, SidesDisk, access, archive_into};
use super::columns::{ColumnSource, Columns, decode};
use super::sides::in_order;
use crate::error::DamageKind;
use crate::scrape::Scrape;

/// Frames of the same segment that a record refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct References {
    pub(crate) target: u32,
    pub(crate) layout: u32,
    pub(crate) route: u32,
    /// 0 if the record is a keyframe itself.
    pub(crate) keyframe: u32,
}

/// What an index says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordSummary {
    pub(crate) references: References,
    pub(crate) timestamp_ms: i64,
    /// Values and staleness markers.
    pub(crate) samples: u32,
}

/// Codes records; keeps its buffers.
#[derive(Debug, Default)]
pub(crate) struct RecordEncoder {
    columns: Columns,
    stale: Vec<RunDisk>,
}

impl RecordEncoder {
    /// Appends the payload of `scrape` to `out`. `base`: what the values are coded against, zeros
    /// for a keyframe. `stale_blocks`: the frame of each stale run's block, in order.
    pub(crate) fn archive(
        &mut self,
        scrape: &Scrape,
        references: References,
        base: Option<&[f64]>,
        stale_blocks: &[u32],
        out: &mut Vec<u8>,
    ) -> bool {
        debug_assert!(
            scrape
                .sides
                .as_ref()
                .is_none_or(|sides| in_order(sides, scrape.layout.len)),
            "BUG: side columns out of order"
        );
        self.columns.encode(base, &scrape.values);
        self.stale.clear();
        self.stale.extend(
            scrape
                .stale
                .iter()
                .zip(stale_blocks)
                .map(|(run, block)| RunDisk {
                    block: *block,
                    from: run.from,
                    to: run.to,
                }),
        );
        let disk = RecordDisk {
            timestamp_ms: scrape.timestamp_ms,
            target: references.target,
            layout: references.layout,
            route: references.route,
            keyframe: references.keyframe,
            values: scrape.values.len() as u32,
            stale_count: stale_count(scrape),
            codes: std::mem::take(&mut self.columns.codes),
            diffs16: std::mem::take(&mut self.columns.diffs16),
            diffs32: std::mem::take(&mut self.columns.diffs32),
            raw: std::mem::take(&mut self.columns.raw),
            stale: std::mem::take(&mut self.stale),
            sides: scrape.sides.as_deref().map(SidesDisk::from),
        };
        let done = archive_into!(&disk, out);
        self.columns = Columns {
            codes: disk.codes,
            diffs16: disk.diffs16,
            diffs32: disk.diffs32,
            raw: disk.raw,
        };
        self.stale = disk.stale;
        done
    }
}

/// Sum of the stale runs' lengths.
pub(crate) fn stale_count(scrape: &Scrape) -> u32 {
    scrape.stale.iter().map(|run| run.to - run.from).sum()
}

/// A record's payload, read in place.
pub(crate) fn access_record(bytes: &[u8]) -> Result<&ArchivedRecordDisk, DamageKind> {
    access!(ArchivedRecordDisk, bytes)
}

impl ArchivedRecordDisk {
    pub(crate) fn references(&self) -> References {
        References {
            target: self.target.to_native(),
            layout: self.layout.to_native(),
            route: self.route.to_native(),
            keyframe: self.keyframe.to_native(),
        }
    }

    pub(crate) fn summary(&self) -> RecordSummary {
        RecordSummary {
            references: self.references(),
            timestamp_ms: self.timestamp_ms.to_native(),
            samples: self
                .values
                .to_native()
                .saturating_add(self.stale_count.to_native()),
        }
    }

    /// Values coded in 16, 32 and 64 bits.
    pub(crate) fn column_lens(&self) -> [u64; 3] {
        self.lens().map(|len| len as u64)
    }

    /// Turns `values` from base values into this record's. `values.len()` must be the layout's.
    pub(crate) fn decode_values(&self, values: &mut [f64]) -> Result<(), DamageKind> {
        if self.values.to_native() as usize != values.len() {
            return Err(DamageKind::Content);
        }
        decode(&self.codes, self, values)
    }
}

impl ColumnSource for ArchivedRecordDisk {
    fn diff16(&self, index: usize) -> Option<i16> {
        self.diffs16.get(index).map(|diff| diff.to_native())
    }
    fn diff32(&self, index: usize) -> Option<i32> {
        self.diffs32.get(index).map(|diff| diff.to_native())
    }
    fn raw(&self, index: usize) -> Option<u64> {
        self.raw.get(index).map(|bits| bits.to_native())
    }
    fn lens(&self) -> [usize; 3] {
        [self.diffs16.len(), self.diffs32.len(), self.raw.len()]
    }
}
