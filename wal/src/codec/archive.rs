//! Shapes of payloads on disk; rkyv archives them, and every access is validated.
//!
//! Names and order of fields are the format: a change here is a new version in FORMAT.md.

use rkyv::rancor;
use rkyv::{Archive, Serialize};

/// Error of rkyv without text; the caller says where it happened.
pub(crate) type Failure = rancor::Failure;

#[derive(Archive, Serialize, Debug)]
pub(crate) struct TargetDisk {
    pub(crate) key: u64,
    pub(crate) labels: Vec<(String, String)>,
}

#[derive(Archive, Serialize, Debug)]
pub(crate) struct BlockDisk {
    pub(crate) bytes: Vec<u8>,
    /// Per entry.
    pub(crate) bytes_len: Vec<u32>,
    /// Per entry.
    pub(crate) holes_len: Vec<u16>,
    /// Per hole, from the start of its entry.
    pub(crate) hole_offset: Vec<u32>,
    /// Per hole.
    pub(crate) hole_label: Vec<u16>,
    pub(crate) families: Vec<FamilyDisk>,
}

#[derive(Archive, Serialize, Debug)]
pub(crate) struct FamilyDisk {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) unit: String,
    pub(crate) kind: u8,
}

#[derive(Archive, Serialize, Debug, Clone, Copy)]
pub(crate) struct RunDisk {
    /// Offset of the block's frame.
    pub(crate) block: u32,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

#[derive(Archive, Serialize, Debug)]
pub(crate) struct LayoutDisk {
    pub(crate) runs: Vec<RunDisk>,
}

#[derive(Archive, Serialize, Debug)]
pub(crate) struct RouteDisk {
    pub(crate) endpoints: Vec<String>,
}

#[derive(Archive, Serialize, Debug, Default)]
pub(crate) struct RecordDisk {
    pub(crate) timestamp_ms: i64,
    /// Offsets of frames.
    pub(crate) target: u32,
    pub(crate) layout: u32,
    pub(crate) route: u32,
    /// 0 if this record is a keyframe itself.
    pub(crate) keyframe: u32,
    pub(crate) values: u32,
    /// Sum of the stale runs' lengths.
    pub(crate) stale_count: u32,
    pub(crate) codes: Vec<u8>,
    pub(crate) diffs16: Vec<i16>,
    pub(crate) diffs32: Vec<i32>,
    pub(crate) raw: Vec<u64>,
    pub(crate) stale: Vec<RunDisk>,
    pub(crate) sides: Option<SidesDisk>,
}

#[derive(Archive, Serialize, Debug)]
pub(crate) struct SidesDisk {
    pub(crate) timestamps: Vec<SideTimestampDisk>,
    pub(crate) start_timestamps: Vec<SideTimestampDisk>,
    pub(crate) exemplars: Vec<ExemplarDisk>,
    pub(crate) histograms: Vec<SideBytesDisk>,
    pub(crate) skipped: Vec<u32>,
}

#[derive(Archive, Serialize, Debug, Clone, Copy)]
pub(crate) struct SideTimestampDisk {
    pub(crate) timestamp_ms: i64,
    pub(crate) index: u32,
}

#[derive(Archive, Serialize, Debug)]
pub(crate) struct ExemplarDisk {
    pub(crate) timestamp_ms: i64,
    pub(crate) value_bits: u64,
    pub(crate) index: u32,
    pub(crate) labels: Vec<(String, String)>,
}

#[derive(Archive, Serialize, Debug)]
pub(crate) struct SideBytesDisk {
    pub(crate) index: u32,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Archive, Serialize, Debug)]
pub(crate) struct IndexDisk {
    pub(crate) targets: Vec<u32>,
    pub(crate) blocks: Vec<u32>,
    pub(crate) layouts: Vec<u32>,
    pub(crate) keyframes: Vec<u32>,
    pub(crate) routes: Vec<RouteIndexDisk>,
    /// Target's frame, its last record's frame; sorted.
    pub(crate) last_records: Vec<(u32, u32)>,
    pub(crate) timestamp_ms_min: i64,
    pub(crate) timestamp_ms_max: i64,
}

#[derive(Archive, Serialize, Debug)]
pub(crate) struct RouteIndexDisk {
    pub(crate) route: u32,
    /// Offsets of its records, rising.
    pub(crate) offsets: Vec<u32>,
    /// Samples of each.
    pub(crate) samples: Vec<u32>,
}

#[derive(Archive, Serialize, Debug, Default)]
pub(crate) struct MapDisk {
    /// Where each part that is kept begins; rising.
    pub(crate) from: Vec<u32>,
    /// Where it ends.
    pub(crate) to: Vec<u32>,
}

/// Reads a payload in place. `bytes` must begin at an address that is a multiple of 16.
macro_rules! access {
    ($type:ty, $bytes:expr) => {
        rkyv::access::<$type, $crate::codec::archive::Failure>($bytes)
            .map_err(|_| $crate::error::DamageKind::Content)
    };
}
pub(crate) use access;

/// Appends the archive of `value` to `out`, whose length is a multiple of 16.
macro_rules! archive_into {
    ($value:expr, $out:expr) => {
        rkyv::api::high::to_bytes_in::<_, $crate::codec::archive::Failure>($value, $out).is_ok()
    };
}
pub(crate) use archive_into;
