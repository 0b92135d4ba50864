//! An open segment file -> frames, through a window of aligned bytes.

use super::header::{HeaderFault, SegmentHeader, file_name, read_trailer};
use super::index::Index;
use super::map::{Map, ThinnedFile};
use crate::codec::definition::plain_payload;
use crate::error::{DamageKind, ReadError};
use crate::format::{
    FILE_BYTES_LIMIT, FRAME_ALIGN, FRAMES_START, Kind, TRAILER_FRAME_BYTES, VERSION,
};
use crate::frame::FrameHeader;
use crate::storage::{Storage, StorageFile};
use rkyv::util::AlignedVec;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a frame was not read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The file could not be read; the frame may be sound.
    Io(ReadError),
    /// The frame is of no use.
    Damage(DamageKind),
}

impl From<DamageKind> for Fault {
    fn from(kind: DamageKind) -> Self {
        Self::Damage(kind)
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        Self::Io(error)
    }
}

/// A segment file with a sound header.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    file: Box<dyn StorageFile>,
    path: PathBuf,
    pub(crate) header: SegmentHeader,
    seed: u32,
    /// Of a thinned segment: what of it is there.
    map: Option<Arc<Map>>,
    /// Checksums are not looked at: only for fuzzing what lies behind them.
    pub(crate) trusting: bool,
}

/// A part of a file in memory, at an address that is a multiple of 16 as its offset is.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: AlignedVec,
    start: u32,
    /// How much to read at once (bytes).
    ahead: usize,
}

impl SegmentFile {
    /// Opens segment `segment` in `dir`.
    ///
    /// # Errors
    /// `Damage(SegmentHeader)`: no sound header, or one of another segment.
    pub(crate) fn open(storage: &dyn Storage, dir: &Path, segment: u64) -> Result<Self, Fault> {
        Self::open_at(storage, dir.join(file_name(segment)), segment)
    }

    /// Same, of a file with any name.
    pub(crate) fn open_at(
        storage: &dyn Storage,
        path: PathBuf,
        segment: u64,
    ) -> Result<Self, Fault> {
        let file = storage
            .open(&path)
            .map_err(|source| Fault::Io(ReadError::new("open", &path, source)))?;
        let mut bytes = [0u8; FRAMES_START as usize];
        let got = read_full(&*file, 0, &mut bytes)
            .map_err(|source| Fault::Io(ReadError::new("read", &path, source)))?;
        let header = match SegmentHeader::decode(&bytes) {
            Ok(header) if got == bytes.len() && header.segment == segment => header,
            Err(HeaderFault::Version) => return Err(DamageKind::Version.into()),
            _ => return Err(DamageKind::SegmentHeader.into()),
        };
        let seed = header.seed();
        let (file, map) = match header.map_bytes {
            0 => (file, None),
            bytes => {
                let map = Map::read(&*file, seed, bytes)
                    .map_err(|source| Fault::Io(ReadError::new("read", &path, source)))?
                    .ok_or(DamageKind::SegmentHeader)?;
                let map = Arc::new(map);
                let file: Box<dyn StorageFile> = Box::new(ThinnedFile::new(file, map.clone()));
                (file, Some(map))
            }
        };
        Ok(Self {
            file,
            path,
            seed,
            header,
            map,
            trusting: false,
        })
    }

    /// Whether only parts of the segment are there; their offsets are as they were.
    pub(crate) fn is_thinned(&self) -> bool {
        self.map.is_some()
    }

    /// The first place at or after `offset` that is not left out.
    pub(crate) fn stored_from(&self, offset: u32) -> u32 {
        let map = self.map.as_ref();
        map.map_or(offset, |map| map.stored_from(offset))
    }

    /// Size of the file as it is on disk.
    pub(crate) fn stored_bytes(&self) -> Result<u64, ReadError> {
        match &self.map {
            Some(map) => Ok(map.stored_bytes()),
            None => self.len().map(u64::from),
        }
    }

    /// Size of the file now, at most `FILE_BYTES_LIMIT`; what a thinned one leaves out counts.
    pub(crate) fn len(&self) -> Result<u32, ReadError> {
        let len = self
            .file
            .len()
            .map_err(|source| ReadError::new("stat", &self.path, source))?;
        Ok(u32::try_from(len).map_or(FILE_BYTES_LIMIT, |len| len.min(FILE_BYTES_LIMIT)))
    }

    /// The frame at `offset`; all of it lies before `limit`.
    pub(crate) fn frame<'w>(
        &self,
        window: &'w mut Window,
        offset: u32,
        limit: u32,
    ) -> Result<(FrameHeader, &'w [u8]), Fault> {
        if offset < FRAMES_START || !offset.is_multiple_of(FRAME_ALIGN as u32) {
            return Err(DamageKind::Frame.into());
        }
        let header = self
            .header_at(window, offset, limit)?
            .ok_or(DamageKind::Frame)?;
        let payload_start = offset + FRAME_ALIGN as u32;
        let payload = self
            .bytes(window, payload_start, header.len, limit)?
            .ok_or(DamageKind::Frame)?;
        if !self.trusting && !header.verify(self.seed, payload) {
            return Err(DamageKind::Frame.into());
        }
        if header.version != VERSION {
            return Err(DamageKind::Version.into());
        }
        Ok((header, payload))
    }

    /// The index of a closed segment and the offset where it begins, if the file ends with it.
    pub(crate) fn index(&self, window: &mut Window) -> Result<Option<(Index, u32)>, ReadError> {
        let len = self.len()?;
        let trailer_start = len.saturating_sub(TRAILER_FRAME_BYTES);
        if trailer_start < FRAMES_START || !len.is_multiple_of(FRAME_ALIGN as u32) {
            return Ok(None);
        }
        let mut trailer = [0u8; TRAILER_FRAME_BYTES as usize];
        read_full(&*self.file, u64::from(trailer_start), &mut trailer)
            .map_err(|source| ReadError::new("read", &self.path, source))?;
        let Some(offset) = read_trailer(&trailer, self.seed) else {
            return Ok(None);
        };
        let frame = match self.frame(window, offset, trailer_start) {
            Ok((header, payload)) if header.kind == Kind::Index => (header, payload),
            Err(Fault::Io(error)) => return Err(error),
            _ => return Ok(None),
        };
        let mut scratch = AlignedVec::new();
        Ok(plain_payload(frame.0.flags, frame.1, &mut scratch)
            .and_then(Index::read)
            .ok()
            .map(|index| (index, offset)))
    }

    /// The next place at or after `from` where a sound frame begins.
    pub(crate) fn find_frame(
        &self,
        window: &mut Window,
        from: u32,
        limit: u32,
    ) -> Result<Option<u32>, ReadError> {
        let limit = limit.min(self.len()?);
        let mut offset = from.max(FRAMES_START).next_multiple_of(FRAME_ALIGN as u32);
        loop {
            offset = self.stored_from(offset);
            if offset >= limit {
                return Ok(None);
            }
            match self.frame(window, offset, limit) {
                Ok(_) | Err(Fault::Damage(DamageKind::Version)) => return Ok(Some(offset)),
                Err(Fault::Io(error)) => return Err(error),
                Err(Fault::Damage(_)) => offset += FRAME_ALIGN as u32,
            }
        }
    }

    /// Bytes as they stand in the file; fewer at its end.
    pub(crate) fn raw(&self, from: u32, to: u32) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; to.saturating_sub(from) as usize];
        let got = read_full(&*self.file, u64::from(from), &mut bytes)
            .map_err(|source| ReadError::new("read", &self.path, source))?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// The header of the frame at `offset`, not verified; `None` if there cannot be one.
    pub(crate) fn header_at(
        &self,
        window: &mut Window,
        offset: u32,
        limit: u32,
    ) -> Result<Option<FrameHeader>, Fault> {
        let Some(bytes) = self.bytes(window, offset, FRAME_ALIGN as u32, limit)? else {
            return Ok(None);
        };
        let mut header = [0u8; FRAME_ALIGN];
        header.copy_from_slice(bytes);
        Ok(FrameHeader::decode(&header))
    }

    /// `None` if `len` bytes from `offset` do not lie before `limit` and in the file.
    fn bytes<'w>(
        &self,
        window: &'w mut Window,
        offset: u32,
        len: u32,
        limit: u32,
    ) -> Result<Option<&'w [u8]>, Fault> {
        // A frame is kept whole: what is left out is not read, nor is memory taken for it.
        let limit = match &self.map {
            Some(map) => map.kept_until(offset).min(limit),
            None => limit,
        };
        let Some(end) = offset.checked_add(len).filter(|end| *end <= limit) else {
            return Ok(None);
        };
        let held = window.start + window.bytes.len() as u32;
        if offset < window.start || end > held {
            window
                .fill(&*self.file, offset, end, limit)
                .map_err(|source| Fault::Io(ReadError::new("read", &self.path, source)))?;
        }
        let at = (offset - window.start) as usize;
        Ok(window.bytes.get(at..at + len as usize))
    }
}

impl Window {
    /// `ahead`: how much to read at once (bytes).
    pub(crate) fn new(ahead: usize) -> Self {
        Self {
            bytes: AlignedVec::new(),
            start: 0,
            ahead,
        }
    }

    /// Forgets what it holds; for another file.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    fn fill(
        &mut self,
        file: &dyn StorageFile,
        offset: u32,
        end: u32,
        limit: u32,
    ) -> io::Result<()> {
        let wanted = ((limit - offset) as usize)
            .min(self.ahead)
            .max((end - offset) as usize);
        // The file may be shorter than `limit` claims: take no memory for what is not there.
        let there = file.len()?.saturating_sub(u64::from(offset));
        self.start = offset;
        self.bytes.resize((wanted as u64).min(there) as usize, 0);
        let got = read_full(file, u64::from(offset), &mut self.bytes);
        match got {
            Ok(got) => {
                self.bytes.resize(got, 0);
                Ok(())
            }
            Err(error) => {
                self.clear();
                Err(error)
            }
        }
    }
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_full(
    file: &dyn StorageFile,
    offset: u64,
    buffer: &mut [u8],
) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(offset + got as u64, &mut buffer[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
