//! Side columns of a scrape <-> their archived shapes.

use super::archive::{
    ArchivedSidesDisk, ExemplarDisk, SideBytesDisk, SideTimestampDisk, SidesDisk,
};
use crate::error::DamageKind;
use crate::scrape::{Exemplar, SideBytes, SideTimestamp, Sides};

impl From<&Sides> for SidesDisk {
    fn from(sides: &Sides) -> Self {
        let timestamps = |column: &[SideTimestamp]| {
            column
                .iter()
                .map(|side| SideTimestampDisk {
                    timestamp_ms: side.timestamp_ms,
                    index: side.index,
                })
                .collect()
        };
        let exemplar = |exemplar: &Exemplar| ExemplarDisk {
            timestamp_ms: exemplar.timestamp_ms,
            value_bits: exemplar.value.to_bits(),
            index: exemplar.index,
            labels: exemplar
                .labels
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
        };
        let histogram = |side: &SideBytes| SideBytesDisk {
            index: side.index,
            bytes: side.bytes.to_vec(),
        };
        Self {
            timestamps: timestamps(&sides.timestamps),
            start_timestamps: timestamps(&sides.start_timestamps),
            exemplars: sides.exemplars.iter().map(exemplar).collect(),
            histograms: sides.histograms.iter().map(histogram).collect(),
            skipped: sides.skipped.clone(),
        }
    }
}

/// Reads the side columns of a record with `values` values.
///
/// # Errors
/// `Content`: an index that is too large or out of order.
pub(crate) fn read_sides(disk: &ArchivedSidesDisk, values: u32) -> Result<Sides, DamageKind> {
    let timestamps = |column: &[super::archive::ArchivedSideTimestampDisk]| -> Vec<SideTimestamp> {
        column
            .iter()
            .map(|side| SideTimestamp {
                index: side.index.to_native(),
                timestamp_ms: side.timestamp_ms.to_native(),
            })
            .collect()
    };
    let sides = Sides {
        timestamps: timestamps(&disk.timestamps),
        start_timestamps: timestamps(&disk.start_timestamps),
        exemplars: disk
            .exemplars
            .iter()
            .map(|exemplar| Exemplar {
                index: exemplar.index.to_native(),
                timestamp_ms: exemplar.timestamp_ms.to_native(),
                value: f64::from_bits(exemplar.value_bits.to_native()),
                labels: exemplar
                    .labels
                    .iter()
                    .map(|label| (label.0.as_str().into(), label.1.as_str().into()))
                    .collect(),
            })
            .collect(),
        histograms: disk
            .histograms
            .iter()
            .map(|side| SideBytes {
                index: side.index.to_native(),
                bytes: side.bytes.as_slice().into(),
            })
            .collect(),
        skipped: disk.skipped.iter().map(|index| index.to_native()).collect(),
    };
    if in_order(&sides, values) {
        Ok(sides)
    } else {
        Err(DamageKind::Content)
    }
}

/// True if every column is sorted by index (rising strictly, but for exemplars) and below `values`.
pub(crate) fn in_order(sides: &Sides, values: u32) -> bool {
    fn rising<T>(column: &[T], values: u32, strictly: bool, index: impl Fn(&T) -> u32) -> bool {
        column.last().is_none_or(|last| index(last) < values)
            && column.windows(2).all(|pair| {
                index(&pair[0]) < index(&pair[1])
                    || (!strictly && index(&pair[0]) == index(&pair[1]))
            })
    }
    rising(&sides.timestamps, values, true, |side| side.index)
        && rising(&sides.start_timestamps, values, true, |side| side.index)
        && rising(&sides.exemplars, values, false, |side| side.index)
        && rising(&sides.histograms, values, true, |side| side.index)
        && rising(&sides.skipped, values, true, |index| *index)
}
