//! A segment's number -> its file name; the two copies of its header; its trailer.

use crate::format::{
    FRAMES_START, Kind, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, THINNED_VERSION, TRAILER_FRAME_BYTES,
    TRAILER_MAGIC, VERSION,
};
use crate::frame::{FrameHeader, append_frame, segment_seed};
use crate::scrape::Position;

/// What a segment file begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Its sequence number, as in its file name.
    pub(crate) segment: u64,
    /// Random number of the run that wrote it.
    pub(crate) salt: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) created_ms: i64,
    /// What stands there is not to be read.
    pub(crate) replaces: Option<Replaced>,
    /// Of a thinned segment: size of the frame that says what is kept (bytes); else 0.
    pub(crate) map_bytes: u32,
}

/// Places whose records were written again, in later segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// From here,
    pub(crate) from: Position,
    /// to the start of this segment.
    pub(crate) until_segment: u64,
}

/// Why a header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Damaged,
    Version,
}

impl SegmentHeader {
    /// What every checksum of the segment starts from.
    pub(crate) fn seed(&self) -> u32 {
        segment_seed(self.segment, self.salt)
    }

    /// Appends both copies.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut copy = [0u8; SEGMENT_HEADER_BYTES];
        copy[0..8].copy_from_slice(&SEGMENT_MAGIC);
        let version = match self.map_bytes {
            0 => VERSION,
            _ => THINNED_VERSION,
        };
        copy[8..12].copy_from_slice(&u32::from(version).to_le_bytes());
        copy[12..16].copy_from_slice(&self.map_bytes.to_le_bytes());
        copy[16..24].copy_from_slice(&self.segment.to_le_bytes());
        copy[24..32].copy_from_slice(&self.salt.to_le_bytes());
        copy[32..40].copy_from_slice(&self.created_ms.to_le_bytes());
        if let Some(replaces) = self.replaces {
            copy[40..48].copy_from_slice(&replaces.from.segment.to_le_bytes());
            copy[48..52].copy_from_slice(&replaces.from.offset.to_le_bytes());
            copy[52..60].copy_from_slice(&replaces.until_segment.to_le_bytes());
        }
        let crc = crc32c::crc32c(&copy[..60]);
        copy[60..64].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&copy);
        out.extend_from_slice(&copy);
    }

    /// Reads the first sound copy.
    pub(crate) fn decode(bytes: &[u8; FRAMES_START as usize]) -> Result<Self, HeaderFault> {
        let (first, second) = bytes.split_at(SEGMENT_HEADER_BYTES);
        decode_copy(first).or_else(|fault| match fault {
            HeaderFault::Version => Err(fault),
            HeaderFault::Damaged => decode_copy(second),
        })
    }
}

fn decode_copy(copy: &[u8]) -> Result<SegmentHeader, HeaderFault> {
    let word = |at: usize| {
        let mut word = [0u8; 8];
        word.copy_from_slice(&copy[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let crc = (word(56) >> 32) as u32;
    if copy[0..8] != SEGMENT_MAGIC || crc32c::crc32c(&copy[..60]) != crc {
        return Err(HeaderFault::Damaged);
    }
    let map_bytes = match (u8::try_from(word(8) as u32), (word(8) >> 32) as u32) {
        (Ok(VERSION), _) => 0,
        (Ok(THINNED_VERSION), 0) => return Err(HeaderFault::Damaged),
        (Ok(THINNED_VERSION), map_bytes) => map_bytes,
        _ => return Err(HeaderFault::Version),
    };
    Ok(SegmentHeader {
        map_bytes,
        segment: word(16),
        salt: word(24),
        created_ms: word(32) as i64,
        replaces: (word(40) > 0).then(|| Replaced {
            from: Position {
                segment: word(40),
                offset: word(48) as u32,
            },
            until_segment: word(52),
        }),
    })
}

/// Name of a segment's file: 20 digits and `.wal`.
pub(crate) fn file_name(segment: u64) -> String {
    format!("{segment:020}.wal")
}

/// Name of the file that becomes a segment's, once all that is kept of it is in there.
pub(crate) fn thinned_name(segment: u64) -> String {
    format!("{segment:020}{THINNED_SUFFIX}")
}

/// Whether `thinned_name` gives such names.
pub(crate) fn is_thinned_name(name: &str) -> bool {
    name.ends_with(THINNED_SUFFIX)
}

const THINNED_SUFFIX: &str = ".thinned";

/// The segment of a file's name.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Appends the trailer: where the index is.
pub(crate) fn append_trailer(out: &mut Vec<u8>, seed: u32, seq: u32, index_offset: u32) {
    append_frame(out, seed, Kind::Trailer, 0, seq, |out| {
        out.extend_from_slice(&index_offset.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&TRAILER_MAGIC);
        true
    });
}

/// Reads a trailer: the index's offset.
pub(crate) fn read_trailer(bytes: &[u8; TRAILER_FRAME_BYTES as usize], seed: u32) -> Option<u32> {
    let (head, payload) = bytes.split_at(16);
    let head: &[u8; 16] = head.try_into().ok()?;
    let header = FrameHeader::decode(head)?;
    if header.kind != Kind::Trailer
        || !header.verify(seed, payload)
        || payload[8..] != TRAILER_MAGIC
    {
        return None;
    }
    Some(u32::from_le_bytes([
        payload[0], payload[1], payload[2], payload[3],
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_copy_of_the_header_will_do() {
        let header = SegmentHeader {
            segment: 7,
            salt: u64::MAX - 3,
            created_ms: -5,
            replaces: Some(Replaced {
                from: Position {
                    segment: 5,
                    offset: u32::MAX,
                },
                until_segment: 7,
            }),
            map_bytes: 48,
        };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        let good: [u8; 128] = bytes.try_into().unwrap();
        for at in 0..128 {
            for bit in 0..8 {
                let mut flipped = good;
                flipped[at] ^= 1 << bit;
                assert_eq!(SegmentHeader::decode(&flipped), Ok(header));
            }
        }
        let mut both = good;
        both[0] ^= 1;
        both[64] ^= 1;
        assert_eq!(SegmentHeader::decode(&both), Err(HeaderFault::Damaged));
    }

    #[test]
    fn names_are_strict() {
        assert_eq!(parse_file_name(&file_name(12)), Some(12));
        assert_eq!(file_name(12), "00000000000000000012.wal");
        for bad in [
            "12.wal",
            "+0000000000000000012.wal",
            "00000000000000000012",
            "cursors",
        ] {
            assert_eq!(parse_file_name(bad), None);
        }
        assert_eq!(parse_file_name("99999999999999999999.wal"), None);
    }
}
