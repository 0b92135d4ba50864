//! Targets, blocks, layouts, routes <-> payloads, compressed where that helps.

use super::archive::{
    ArchivedBlockDisk, ArchivedLayoutDisk, ArchivedRouteDisk, ArchivedTargetDisk, BlockDisk,
    FamilyDisk, LayoutDisk, RouteDisk, RunDisk, TargetDisk, access, archive_into,
};
use crate::definition::{
    Block, BlockEntry, Family, FamilyKind, Hole, Layout, Route, Target, next_id,
};
use crate::error::DamageKind;
use crate::format::{DEFINITION_BYTES_MAX, FLAG_ZSTD, Kind};
use crate::frame::append_frame;
use rkyv::util::AlignedVec;

/// zstd's fastest ordinary level: definitions are written while scrapes wait.
const ZSTD_LEVEL: i32 = 1;
/// Payloads below this are not worth the compressor's time (bytes).
const ZSTD_BYTES_MIN: usize = 128;
/// A zstd block of 128 KiB takes at least 4 bytes; a higher claim is not a zstd frame's.
const ZSTD_RATIO_MAX: u64 = 32 << 10;

/// Archives and compresses; keeps its buffers.
pub(crate) struct DefinitionEncoder {
    plain: Vec<u8>,
    packed: Vec<u8>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl std::fmt::Debug for DefinitionEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DefinitionEncoder").finish_non_exhaustive()
    }
}

impl DefinitionEncoder {
    pub(crate) fn new() -> Self {
        Self {
            plain: Vec::new(),
            packed: Vec::new(),
            // Without memory for a compressor, definitions are written as they are.
            zstd: zstd::bulk::Compressor::new(ZSTD_LEVEL).ok(),
        }
    }

    /// Appends a frame of what `archive` puts into the (empty) buffer it is given. False: it does
    /// not fit a frame, nothing appended.
    pub(crate) fn append(
        &mut self,
        out: &mut Vec<u8>,
        seed: u32,
        kind: Kind,
        seq: u32,
        archive: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> bool {
        self.plain.clear();
        if !archive(&mut self.plain) || self.plain.len() > DEFINITION_BYTES_MAX {
            self.plain = Vec::new();
            return false;
        }
        let mut packed = false;
        if self.plain.len() >= ZSTD_BYTES_MIN
            && let Some(zstd) = &mut self.zstd
        {
            self.packed.clear();
            self.packed
                .reserve(zstd::zstd_safe::compress_bound(self.plain.len()));
            packed = zstd
                .compress_to_buffer(&self.plain, &mut self.packed)
                .is_ok_and(|len| len < self.plain.len());
        }
        let (flags, payload) = if packed {
            (FLAG_ZSTD, &self.packed)
        } else {
            (0, &self.plain)
        };
        append_frame(out, seed, kind, flags, seq, |out| {
            out.extend_from_slice(payload);
            true
        })
    }
}

/// The archive in a payload: in `bytes` itself, or decompressed into `scratch`.
///
/// # Errors
/// `Content`: not what a writer produces.
pub(crate) fn plain_payload<'a>(
    flags: u8,
    bytes: &'a [u8],
    scratch: &'a mut AlignedVec,
) -> Result<&'a [u8], DamageKind> {
    if flags & FLAG_ZSTD == 0 {
        return Ok(bytes);
    }
    let claimed = zstd::zstd_safe::get_frame_content_size(bytes)
        .ok()
        .flatten()
        .filter(|claimed| {
            *claimed <= DEFINITION_BYTES_MAX as u64
                && *claimed <= (bytes.len() as u64).saturating_mul(ZSTD_RATIO_MAX)
        })
        .ok_or(DamageKind::Content)? as usize;
    scratch.clear();
    scratch.resize(claimed, 0);
    let len = zstd::bulk::decompress_to_buffer(bytes, &mut scratch[..])
        .map_err(|_| DamageKind::Content)?;
    Ok(&scratch[..len])
}

pub(crate) fn archive_target(target: &Target, out: &mut Vec<u8>) -> bool {
    let disk = TargetDisk {
        key: target.key,
        labels: target
            .labels
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
    };
    archive_into!(&disk, out)
}

pub(crate) fn read_target(bytes: &[u8]) -> Result<Target, DamageKind> {
    let disk = access!(ArchivedTargetDisk, bytes)?;
    let labels: Box<[(Box<str>, Box<str>)]> = disk
        .labels
        .iter()
        .map(|label| (label.0.as_str().into(), label.1.as_str().into()))
        .collect();
    if !labels.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return Err(DamageKind::Content);
    }
    Ok(Target {
        id: next_id(),
        key: disk.key.to_native(),
        labels,
    })
}

pub(crate) fn archive_route(route: &Route, out: &mut Vec<u8>) -> bool {
    let disk = RouteDisk {
        endpoints: route.endpoints.iter().map(|e| e.to_string()).collect(),
    };
    archive_into!(&disk, out)
}

pub(crate) fn read_route(bytes: &[u8]) -> Result<Route, DamageKind> {
    let disk = access!(ArchivedRouteDisk, bytes)?;
    Ok(Route {
        id: next_id(),
        endpoints: disk.endpoints.iter().map(|e| e.as_str().into()).collect(),
    })
}

/// `block_at`: the frame of each run's block, in order.
pub(crate) fn archive_layout(layout: &Layout, block_at: &[u32], out: &mut Vec<u8>) -> bool {
    debug_assert_eq!(layout.runs.len(), block_at.len());
    let runs = layout.runs.iter().zip(block_at);
    let disk = LayoutDisk {
        runs: runs
            .map(|(run, block)| RunDisk {
                block: *block,
                from: run.from,
                to: run.to,
            })
            .collect(),
    };
    archive_into!(&disk, out)
}

pub(crate) fn read_layout(bytes: &[u8]) -> Result<Vec<RunDisk>, DamageKind> {
    let disk = access!(ArchivedLayoutDisk, bytes)?;
    Ok(disk.runs.iter().map(RunDisk::from).collect())
}

impl From<&super::archive::ArchivedRunDisk> for RunDisk {
    fn from(run: &super::archive::ArchivedRunDisk) -> Self {
        Self {
            block: run.block.to_native(),
            from: run.from.to_native(),
            to: run.to.to_native(),
        }
    }
}

/// False if a series has more than 65,535 holes.
pub(crate) fn archive_block(block: &Block, out: &mut Vec<u8>) -> bool {
    let count = block.entries.len();
    let mut disk = BlockDisk {
        bytes: block.bytes.to_vec(),
        bytes_len: Vec::with_capacity(count),
        holes_len: Vec::with_capacity(count),
        hole_offset: Vec::with_capacity(block.holes.len()),
        hole_label: Vec::with_capacity(block.holes.len()),
        families: Vec::with_capacity(block.families.len()),
    };
    for index in 0..count {
        let (bytes, holes) = block.entry(index as u32);
        let Ok(holes_len) = u16::try_from(holes.len()) else {
            return false;
        };
        disk.bytes_len.push(bytes.len() as u32);
        disk.holes_len.push(holes_len);
        for hole in holes {
            disk.hole_offset.push(hole.offset - bytes.start as u32);
            disk.hole_label.push(hole.target_label);
        }
    }
    for family in &block.families {
        disk.families.push(FamilyDisk {
            name: family.name.to_string(),
            help: family.help.to_string(),
            unit: family.unit.to_string(),
            kind: family.kind as u8,
        });
    }
    archive_into!(&disk, out)
}

pub(crate) fn read_block(bytes: &[u8]) -> Result<Block, DamageKind> {
    let disk = access!(ArchivedBlockDisk, bytes)?;
    let count = disk.bytes_len.len();
    if disk.holes_len.len() != count
        || disk.hole_offset.len() != disk.hole_label.len()
        || u32::try_from(disk.bytes.len()).is_err()
    {
        return Err(DamageKind::Content);
    }
    let mut entries = Vec::with_capacity(count);
    let mut holes = Vec::with_capacity(disk.hole_offset.len());
    let mut start = 0u32;
    for (bytes_len, holes_len) in disk.bytes_len.iter().zip(disk.holes_len.iter()) {
        let end = start
            .checked_add(bytes_len.to_native())
            .filter(|end| *end as usize <= disk.bytes.len())
            .ok_or(DamageKind::Content)?;
        for _ in 0..holes_len.to_native() {
            let (offset, label) = disk
                .hole_offset
                .get(holes.len())
                .zip(disk.hole_label.get(holes.len()))
                .ok_or(DamageKind::Content)?;
            if offset.to_native() > end - start {
                return Err(DamageKind::Content);
            }
            holes.push(Hole {
                offset: start + offset.to_native(),
                target_label: label.to_native(),
            });
        }
        entries.push(BlockEntry {
            bytes_end: end,
            holes_end: holes.len() as u32,
        });
        start = end;
    }
    if holes.len() != disk.hole_offset.len() {
        return Err(DamageKind::Content);
    }
    Ok(Block {
        id: next_id(),
        bytes: disk.bytes.as_slice().into(),
        entries: entries.into(),
        holes: holes.into(),
        families: disk.families.iter().map(read_family).collect(),
    })
}

fn read_family(disk: &super::archive::ArchivedFamilyDisk) -> Family {
    Family {
        name: disk.name.as_str().into(),
        help: disk.help.as_str().into(),
        unit: disk.unit.as_str().into(),
        kind: match disk.kind {
            1 => FamilyKind::Counter,
            2 => FamilyKind::Gauge,
            3 => FamilyKind::Histogram,
            4 => FamilyKind::GaugeHistogram,
            5 => FamilyKind::Summary,
            6 => FamilyKind::Info,
            7 => FamilyKind::StateSet,
            _ => FamilyKind::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(archive: impl FnOnce(&mut Vec<u8>) -> bool) -> AlignedVec {
        let mut out = Vec::new();
        assert!(archive(&mut out));
        let mut aligned = AlignedVec::new();
        aligned.extend_from_slice(&out);
        aligned
    }

    fn block() -> Block {
        Block {
            id: 1,
            bytes: (*b"abcdef").into(),
            entries: [(2, 1), (2, 1), (6, 3)]
                .map(|(bytes_end, holes_end)| BlockEntry {
                    bytes_end,
                    holes_end,
                })
                .into(),
            holes: [(2, 0), (2, 1), (6, 7)]
                .map(|(offset, target_label)| Hole {
                    offset,
                    target_label,
                })
                .into(),
            families: [Family {
                name: "f".into(),
                help: "h\n".into(),
                unit: "s".into(),
                kind: FamilyKind::StateSet,
            }]
            .into(),
        }
    }

    #[test]
    fn a_block_comes_back() {
        let block = block();
        let mut read = read_block(&payload(|out| archive_block(&block, out))).unwrap();
        read.id = block.id;
        assert_eq!(read, block);
    }

    #[test]
    fn cut_or_changed_payloads_never_panic() {
        let bytes = payload(|out| archive_block(&block(), out));
        for cut in 0..bytes.len() {
            let mut aligned: AlignedVec = AlignedVec::new();
            aligned.extend_from_slice(&bytes[..cut]);
            let _ = read_block(&aligned);
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                if let Ok(block) = read_block(&changed) {
                    for index in 0..block.entries.len() {
                        let (range, _) = block.entry(index as u32);
                        let _ = &block.bytes[range];
                    }
                }
            }
        }
    }

    #[test]
    fn labels_out_of_order_are_refused() {
        let target = |labels: &[(&str, &str)]| Target {
            id: 0,
            key: 9,
            labels: labels
                .iter()
                .map(|(n, v)| ((*n).into(), (*v).into()))
                .collect(),
        };
        let good = payload(|out| archive_target(&target(&[("a", "1"), ("b", "")]), out));
        assert_eq!(read_target(&good).unwrap().labels.len(), 2);
        let bad = payload(|out| archive_target(&target(&[("b", "1"), ("a", "2")]), out));
        assert_eq!(read_target(&bad), Err(DamageKind::Content));
    }

    #[test]
    fn compressed_definitions_come_back() {
        let target = Target {
            id: 0,
            key: 1,
            labels: [("a".into(), "x".repeat(10_000).into())].into(),
        };
        let mut encoder = DefinitionEncoder::new();
        let mut out = Vec::new();
        assert!(
            encoder.append(&mut out, 7, Kind::Target, 0, |out| archive_target(
                &target, out
            ))
        );
        assert!(out.len() < 500);
        let header = crate::frame::FrameHeader::decode(out[..16].try_into().unwrap()).unwrap();
        assert_eq!(header.flags, FLAG_ZSTD);
        let payload = &out[16..16 + header.len as usize];
        assert!(header.verify(7, payload));
        assert!(!header.verify(8, payload));
        let mut scratch = AlignedVec::new();
        let plain = plain_payload(header.flags, payload, &mut scratch).unwrap();
        assert_eq!(read_target(plain).unwrap().labels, target.labels);
    }
}
