//! A payload <-> a frame: `[u32 len | u32 crc | u8 kind | u8 version | u8 flags | u8 magic | u32
//! seq | payload | 0..]`.

use crate::format::{FRAME_ALIGN, FRAME_MAGIC, Kind, PAYLOAD_BYTES_MAX, VERSION};

/// The first 16 bytes of a frame, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Payload bytes, without padding.
    pub(crate) len: u32,
    /// CRC-32C over all other header bytes and the payload, seeded with `segment_seed`.
    pub(crate) crc: u32,
    /// What the payload is.
    pub(crate) kind: Kind,
    /// Version of that.
    pub(crate) version: u8,
    /// `FLAG_*`.
    pub(crate) flags: u8,
    /// Number of the frame in its segment, from 0.
    pub(crate) seq: u32,
}

impl FrameHeader {
    /// Reads a header; `None` if the bytes cannot be one.
    pub(crate) fn decode(bytes: &[u8; FRAME_ALIGN]) -> Option<Self> {
        if bytes[11] != FRAME_MAGIC {
            return None;
        }
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let len = word(0);
        if len as usize > PAYLOAD_BYTES_MAX {
            return None;
        }
        Some(Self {
            len,
            crc: word(4),
            kind: Kind::from_byte(bytes[8])?,
            version: bytes[9],
            flags: bytes[10],
            seq: word(12),
        })
    }

    /// Bytes of the whole frame with header and padding.
    pub(crate) fn frame_bytes(&self) -> u32 {
        padded(FRAME_ALIGN as u32 + self.len)
    }

    /// True if the payload and this header are what was written.
    pub(crate) fn verify(&self, seed: u32, payload: &[u8]) -> bool {
        payload.len() == self.len as usize
            && checksum(seed, &self.encode_without_crc(), payload) == self.crc
    }

    fn encode_without_crc(&self) -> [u8; FRAME_ALIGN] {
        let mut out = [0; FRAME_ALIGN];
        out[0..4].copy_from_slice(&self.len.to_le_bytes());
        out[8] = self.kind as u8;
        out[9] = self.version;
        out[10] = self.flags;
        out[11] = FRAME_MAGIC;
        out[12..16].copy_from_slice(&self.seq.to_le_bytes());
        out
    }
}

/// Rounds up to a multiple of 16.
pub(crate) fn padded(bytes: u32) -> u32 {
    bytes.next_multiple_of(FRAME_ALIGN as u32)
}

/// What every checksum of a segment starts from: its number and the salt of its run. So bytes of
/// another segment, or bytes that a target exposes, do not pass for frames of this one.
pub(crate) fn segment_seed(segment: u64, salt: u64) -> u32 {
    let crc = crc32c::crc32c(&salt.to_le_bytes());
    crc32c::crc32c_append(crc, &segment.to_le_bytes())
}

/// Appends a frame whose payload `write` puts at the end of `out`; `out.len()` is a multiple of 16
/// before and after. Returns false, with `out` as before, if `write` does or the payload is larger
/// than a frame may be.
pub(crate) fn append_frame(
    out: &mut Vec<u8>,
    seed: u32,
    kind: Kind,
    flags: u8,
    seq: u32,
    write: impl FnOnce(&mut Vec<u8>) -> bool,
) -> bool {
    let start = out.len();
    debug_assert!(start.is_multiple_of(FRAME_ALIGN));
    out.resize(start + FRAME_ALIGN, 0);
    let written = write(out);
    let payload_start = start + FRAME_ALIGN;
    let len = out.len() - payload_start;
    if !written || len > PAYLOAD_BYTES_MAX {
        out.truncate(start);
        return false;
    }
    let mut header = FrameHeader {
        len: len as u32,
        crc: 0,
        kind,
        version: VERSION,
        flags,
        seq,
    };
    let mut bytes = header.encode_without_crc();
    header.crc = checksum(seed, &bytes, &out[payload_start..]);
    bytes[4..8].copy_from_slice(&header.crc.to_le_bytes());
    out[start..payload_start].copy_from_slice(&bytes);
    out.resize(out.len().next_multiple_of(FRAME_ALIGN), 0);
    true
}

fn checksum(seed: u32, header_without_crc: &[u8; FRAME_ALIGN], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(seed, header_without_crc);
    crc32c::crc32c_append(crc, payload)
}
