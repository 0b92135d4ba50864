//! Which parts of a segment are kept <-> a map, and the file of those parts read as if the segment
//! were whole.
//!
//! What is kept stands in the file without gaps, behind the header and two copies of the map. All
//! offsets stay those of the whole segment: what frames refer to, and where cursors stand, goes on
//! being true. What was left out reads as zeros, which are no frame.

use super::file::read_full;
use crate::codec::archive::{ArchivedMapDisk, MapDisk, access, archive_into};
use crate::codec::definition::{DefinitionEncoder, plain_payload};
use crate::error::DamageKind;
use crate::format::{FILE_BYTES_LIMIT, FRAME_ALIGN, FRAMES_START, Kind, VERSION};
use crate::frame::FrameHeader;
use crate::storage::StorageFile;
use rkyv::util::AlignedVec;
use std::io;
use std::sync::Arc;

/// What is kept of a segment: parts that do not touch, rising.
#[derive(Debug)]
pub(crate) struct Map {
    parts: Vec<Part>,
    /// Behind the last byte that is kept, in the file.
    stored_bytes: u64,
}

/// Bytes of the segment, and where they are in the file.
#[derive(Debug, Clone, Copy)]
struct Part {
    from: u32,
    to: u32,
    at: u64,
}

impl Map {
    /// A map of these parts, which begin at `at` in the file. `None`: they are no such parts.
    fn new(parts: impl IntoIterator<Item = (u32, u32)>, mut at: u64) -> Option<Self> {
        let mut before = FRAMES_START;
        let mut list = Vec::new();
        for (from, to) in parts {
            let aligned = [from, to].map(|offset| offset.is_multiple_of(FRAME_ALIGN as u32));
            if aligned != [true; 2] || from < before || to <= from || to > FILE_BYTES_LIMIT {
                return None;
            }
            list.push(Part { from, to, at });
            at += u64::from(to - from);
            before = to;
        }
        Some(Self {
            parts: list,
            stored_bytes: at,
        })
    }

    /// The map in a file that says it has one of so many bytes; `None`: both copies are damaged.
    pub(super) fn read(
        file: &dyn StorageFile,
        seed: u32,
        map_bytes: u32,
    ) -> io::Result<Option<Self>> {
        let there = file.len()?;
        let parts_at = parts_at(map_bytes);
        if map_bytes < 2 * FRAME_ALIGN as u32 || parts_at > there {
            return Ok(None);
        }
        let mut bytes = AlignedVec::<16>::new();
        for copy in 0..2 {
            bytes.clear();
            bytes.resize(map_bytes as usize, 0);
            let at = u64::from(FRAMES_START) + copy * u64::from(map_bytes);
            if read_full(file, at, &mut bytes)? == bytes.len()
                && let Ok(disk) = decode(&bytes, seed)
                && let Some(mut map) = Self::new(disk, parts_at)
            {
                map.clip(there);
                return Ok(Some(map));
            }
        }
        Ok(None)
    }

    /// Of a file that ends too early, only what is there counts.
    fn clip(&mut self, there: u64) {
        self.parts.retain(|part| part.at < there);
        if let Some(last) = self.parts.last_mut() {
            let bytes = u64::from(last.to - last.from).min(there - last.at);
            last.to = last.from + bytes as u32;
        }
        self.stored_bytes = self.stored_bytes.min(there);
    }

    /// Behind the last byte that is kept, in the segment.
    fn end(&self) -> u32 {
        self.parts.last().map_or(FRAMES_START, |part| part.to)
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Up to where everything from `offset` on is kept; `offset` if it is not itself.
    pub(super) fn kept_until(&self, offset: u32) -> u32 {
        let next = self.parts.partition_point(|part| part.to <= offset);
        let part = self.parts.get(next).filter(|part| part.from <= offset);
        part.map_or(offset, |part| part.to)
    }

    /// The first place at or after `offset` that is kept, or the end.
    pub(super) fn stored_from(&self, offset: u32) -> u32 {
        let next = self.parts.partition_point(|part| part.to <= offset);
        let part = self.parts.get(next);
        part.map_or(offset.max(self.end()), |part| part.from.max(offset))
    }
}

/// Where the parts begin in the file.
pub(crate) fn parts_at(map_bytes: u32) -> u64 {
    u64::from(FRAMES_START) + 2 * u64::from(map_bytes)
}

/// The frame of a map of these parts; `None`: it would be too large.
pub(crate) fn encode(parts: &[(u32, u32)], seed: u32) -> Option<Vec<u8>> {
    let disk = MapDisk {
        from: parts.iter().map(|part| part.0).collect(),
        to: parts.iter().map(|part| part.1).collect(),
    };
    let mut frame = Vec::new();
    DefinitionEncoder::new()
        .append(&mut frame, seed, Kind::Map, 0, |out| {
            archive_into!(&disk, out)
        })
        .then_some(frame)
}

fn decode(frame: &[u8], seed: u32) -> Result<Vec<(u32, u32)>, DamageKind> {
    let (head, rest) = frame
        .split_first_chunk::<FRAME_ALIGN>()
        .ok_or(DamageKind::Frame)?;
    let header = FrameHeader::decode(head).ok_or(DamageKind::Frame)?;
    let payload = rest.get(..header.len as usize).ok_or(DamageKind::Frame)?;
    if header.kind != Kind::Map || header.version != VERSION || !header.verify(seed, payload) {
        return Err(DamageKind::Frame);
    }
    let mut scratch = AlignedVec::new();
    let plain = plain_payload(header.flags, payload, &mut scratch)?;
    let disk = access!(ArchivedMapDisk, plain)?;
    if disk.from.len() != disk.to.len() {
        return Err(DamageKind::Content);
    }
    let parts = disk.from.iter().zip(disk.to.iter());
    Ok(parts
        .map(|(from, to)| (from.to_native(), to.to_native()))
        .collect())
}

/// The file of a thinned segment, at the offsets of the whole one.
#[derive(Debug)]
pub(super) struct ThinnedFile {
    file: Box<dyn StorageFile>,
    map: Arc<Map>,
}

impl ThinnedFile {
    pub(super) fn new(file: Box<dyn StorageFile>, map: Arc<Map>) -> Self {
        Self { file, map }
    }
}

impl StorageFile for ThinnedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let Ok(offset) = u32::try_from(offset) else {
            return Ok(0);
        };
        let parts = &self.map.parts;
        let Some(part) = parts.get(parts.partition_point(|part| part.to <= offset)) else {
            return Ok(0);
        };
        if offset < part.from {
            let count = buffer.len().min((part.from - offset) as usize);
            buffer[..count].fill(0);
            return Ok(count);
        }
        let count = buffer.len().min((part.to - offset) as usize);
        let at = part.at + u64::from(offset - part.from);
        self.file.read_at(at, &mut buffer[..count])
    }

    fn len(&self) -> io::Result<u64> {
        Ok(u64::from(self.map.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryStorage, Storage};
    use std::path::Path;

    const SEED: u32 = 77;

    fn file(bytes: Vec<u8>) -> Box<dyn StorageFile> {
        let storage = MemoryStorage::new();
        storage.set(Path::new("/f"), bytes);
        storage.open(Path::new("/f")).unwrap()
    }

    /// A file whose parts hold their own offsets in the segment, by 16 bytes.
    fn made(parts: &[(u32, u32)]) -> (Vec<u8>, u32) {
        let frame = encode(parts, SEED).unwrap();
        let mut bytes = vec![0x11; FRAMES_START as usize];
        bytes.extend_from_slice(&frame);
        bytes.extend_from_slice(&frame);
        for offset in parts.iter().flat_map(|(from, to)| (*from..*to).step_by(16)) {
            bytes.extend_from_slice(&[offset.to_le_bytes(); 4].concat());
        }
        (bytes, frame.len() as u32)
    }

    #[test]
    fn what_is_kept_is_read_where_it_was() {
        let parts = [(128, 160), (4096, 4112), (4128, 9008)];
        let (bytes, map_bytes) = made(&parts);
        let stored_bytes = bytes.len() as u64;
        let map = Map::read(&*file(bytes.clone()), SEED, map_bytes).unwrap();
        let map = Arc::new(map.unwrap());
        assert_eq!(map.stored_bytes(), stored_bytes);
        let thinned = ThinnedFile::new(file(bytes), map.clone());
        assert_eq!(thinned.len().unwrap(), 9008);
        let mut read = vec![0xee; 9100];
        assert_eq!(read_full(&thinned, 128, &mut read).unwrap(), 9008 - 128);
        for offset in (128..9008).step_by(16) {
            let kept = parts
                .iter()
                .any(|(from, to)| (*from..*to).contains(&offset));
            let expected = if kept { offset } else { 0 };
            let at = offset as usize - 128;
            assert_eq!(read[at..at + 4], expected.to_le_bytes(), "at {offset}");
            let next = parts.iter().find(|(_, to)| *to > offset).unwrap();
            assert_eq!(map.stored_from(offset), next.0.max(offset));
            assert_eq!(map.kept_until(offset), if kept { next.1 } else { offset });
        }
        assert_eq!(map.stored_from(9008), 9008);
        assert_eq!(map.stored_from(70_000), 70_000);
    }

    #[test]
    fn either_copy_of_the_map_will_do_and_a_short_file_has_less() {
        let (good, map_bytes) = made(&[(128, 160), (4096, 4112)]);
        let end = |bytes: Vec<u8>| {
            let map = Map::read(&*file(bytes), SEED, map_bytes).unwrap();
            map.map(|map| map.end())
        };
        let frame = map_bytes as usize;
        for at in 0..2 * frame {
            let mut harmed = good.clone();
            harmed[FRAMES_START as usize + at] ^= 4;
            assert_eq!(end(harmed.clone()), Some(4112), "byte {at}");
            if at < 20 {
                harmed[FRAMES_START as usize + at + frame] ^= 4;
                assert_eq!(end(harmed), None);
            }
        }
        for len in 0..good.len() {
            let there = (len as u64).checked_sub(parts_at(map_bytes));
            let expected = there.map(|bytes| match bytes {
                0 => FRAMES_START,
                1..=32 => 128 + bytes as u32,
                _ => 4096 + (bytes as u32 - 32),
            });
            assert_eq!(end(good[..len].to_vec()), expected, "{len} bytes");
        }
    }

    #[test]
    fn parts_that_cannot_be_are_refused() {
        for bad in [
            &[(112, 160)][..],
            &[(128, 128)],
            &[(128, 150)],
            &[(144, 176), (160, 192)],
            &[(144, 176), (128, 144)],
            &[(128, u32::MAX - 15)],
        ] {
            assert!(Map::new(bad.iter().copied(), 0).is_none(), "{bad:?}");
        }
        assert!(Map::new([], 0).is_some());
    }
}
