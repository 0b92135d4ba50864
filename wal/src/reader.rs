//! Bytes of segments -> records, from any record on, in order.

use crate::codec::record::access_record;
use crate::definition::Route;
use crate::error::{Damage, DamageKind, ReadError};
use crate::format::{FILE_BYTES_LIMIT, FRAME_ALIGN, FRAMES_START, Kind};
use crate::scrape::Position;
use crate::segment::file::{Fault, SegmentFile, Window};
use crate::segment::index::Index;
use crate::segment::load::Loader;
use crate::segments::Readable;
use crate::storage::Storage;
use crate::tail::Entry;
use std::path::PathBuf;
use std::sync::Arc;

/// How much of a file is read at once (bytes).
const AHEAD_BYTES: usize = 256 << 10;
/// What a reader keeps of definitions and keyframes, by default (bytes).
const CACHE_BYTES: usize = 64 << 20;

/// Reads one directory's records in order, segment after segment, with small blocking reads.
/// Keeps one file open and a bounded cache of definitions and keyframes.
#[derive(Debug)]
pub struct LogReader {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    open: Option<OpenSegment>,
    window: Window,
    loader: Loader,
    damage: Vec<Damage>,
    trusting: bool,
}

#[derive(Debug)]
struct OpenSegment {
    segment: u64,
    /// `None`: its header is damaged, that was noted.
    file: Option<SegmentFile>,
    /// Of a closed segment.
    index: Option<Index>,
}

/// What a look at one place gives.
enum Step {
    Found(Entry),
    /// Go on there.
    Next(u32),
}

impl LogReader {
    /// A reader of the segments in `dir`.
    pub fn new(storage: Arc<dyn Storage>, dir: PathBuf) -> Self {
        Self::with_cache(storage, dir, CACHE_BYTES)
    }

    /// Same, with a bound on what it keeps of definitions and keyframes (bytes, about).
    pub fn with_cache(storage: Arc<dyn Storage>, dir: PathBuf, cache_bytes: usize) -> Self {
        Self {
            storage,
            dir,
            open: None,
            window: Window::new(AHEAD_BYTES),
            loader: Loader::new(cache_bytes),
            damage: Vec::new(),
            trusting: false,
        }
    }

    /// For fuzzing what lies behind the checksums: they are not looked at.
    pub(crate) fn trust_checksums(&mut self) {
        self.trusting = true;
    }

    /// The first record of `readable` at or after `from` for which `wanted` holds. `None`: none is
    /// left in it, go on at `readable.next`.
    ///
    /// Damaged places are skipped and noted, see `take_damage`.
    ///
    /// # Errors
    /// The file cannot be opened or read; nothing has changed, try again or go on elsewhere.
    pub fn next(
        &mut self,
        readable: &Readable,
        from: Position,
        wanted: &mut dyn FnMut(&Route) -> bool,
    ) -> Result<Option<Entry>, ReadError> {
        self.open_segment(readable)?;
        let Some(open) = self.open.take() else {
            return Ok(None);
        };
        let found = self.next_in(&open, readable, from, wanted);
        self.open = Some(open);
        found
    }

    /// What was skipped since the last call.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    /// Lets go of the open file and of all that was kept of it.
    pub fn close(&mut self) {
        self.open = None;
        self.window.clear();
        self.loader.clear();
    }

    fn open_segment(&mut self, readable: &Readable) -> Result<(), ReadError> {
        let segment = readable.segment;
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.segment == segment)
        {
            return Ok(());
        }
        self.close();
        let mut open = OpenSegment {
            segment,
            file: None,
            index: None,
        };
        match SegmentFile::open(&*self.storage, &self.dir, segment) {
            Ok(mut file) => {
                file.trusting = self.trusting;
                // A segment that grows still has no index yet, and one that is closed later is
                // read on as it was begun.
                if readable.next.segment != segment {
                    open.index = file.index(&mut self.window)?.map(|(index, _)| index);
                }
                open.file = Some(file);
            }
            Err(Fault::Io(error)) => return Err(error),
            Err(Fault::Damage(kind)) => self.damage.push(Damage {
                segment,
                from: 0,
                to: readable.end_offset,
                kind,
            }),
        }
        self.open = Some(open);
        Ok(())
    }

    fn next_in(
        &mut self,
        open: &OpenSegment,
        readable: &Readable,
        from: Position,
        wanted: &mut dyn FnMut(&Route) -> bool,
    ) -> Result<Option<Entry>, ReadError> {
        let Some(file) = &open.file else {
            return Ok(None);
        };
        let limit = readable.end_offset.min(FILE_BYTES_LIMIT);
        let mut offset = if from.segment == open.segment {
            from.offset
                .clamp(FRAMES_START, limit.max(FRAMES_START))
                .next_multiple_of(FRAME_ALIGN as u32)
        } else {
            FRAMES_START
        };
        while offset < limit {
            if let Some(index) = &open.index {
                match self.next_indexed(file, index, offset, limit, wanted)? {
                    Some(next) if next < limit => offset = next,
                    _ => return Ok(None),
                }
            }
            offset = file.stored_from(offset);
            if offset >= limit {
                return Ok(None);
            }
            match self.step(file, offset, limit, wanted)? {
                Step::Found(entry) => return Ok(Some(entry)),
                Step::Next(next) => offset = next,
            }
        }
        Ok(None)
    }

    /// Where the next record of a wanted route begins.
    fn next_indexed(
        &mut self,
        file: &SegmentFile,
        index: &Index,
        offset: u32,
        limit: u32,
        wanted: &mut dyn FnMut(&Route) -> bool,
    ) -> Result<Option<u32>, ReadError> {
        let mut first: Option<u32> = None;
        for route in &index.routes {
            let Some(next) = route.next(offset) else {
                continue;
            };
            if first.is_some_and(|first| first <= next) {
                continue;
            }
            let wants = match self.loader.route(file, route.route, limit) {
                Ok(route) => wanted(&route),
                Err(Fault::Io(error)) => return Err(error),
                // The records themselves will say so.
                Err(Fault::Damage(_)) => true,
            };
            if wants {
                first = Some(next);
            }
        }
        Ok(first)
    }

    /// Looks at the frame at `offset`.
    fn step(
        &mut self,
        file: &SegmentFile,
        offset: u32,
        limit: u32,
        wanted: &mut dyn FnMut(&Route) -> bool,
    ) -> Result<Step, ReadError> {
        let (header, payload) = match file.frame(&mut self.window, offset, limit) {
            Ok(frame) => frame,
            Err(Fault::Io(error)) => return Err(error),
            Err(Fault::Damage(DamageKind::Version)) => {
                let header = file.header_at(&mut self.window, offset, limit);
                let end = match header {
                    Ok(header) => header.map_or(limit, |h| offset.saturating_add(h.frame_bytes())),
                    Err(Fault::Io(error)) => return Err(error),
                    Err(Fault::Damage(_)) => limit,
                };
                self.note(file, offset, end, DamageKind::Version);
                return Ok(Step::Next(end));
            }
            Err(Fault::Damage(kind)) => {
                let next = file.find_frame(&mut self.window, offset.saturating_add(16), limit)?;
                let end = next.unwrap_or(limit);
                self.note(file, offset, end, kind);
                return Ok(Step::Next(end));
            }
        };
        let end = offset + header.frame_bytes();
        if header.kind != Kind::Record {
            return Ok(Step::Next(end));
        }
        let decoded = access_record(payload)
            .map_err(Fault::from)
            .and_then(|record| {
                let route = self.loader.route(file, record.references().route, limit)?;
                if !wanted(&route) {
                    return Ok(None);
                }
                self.loader.scrape(file, offset, limit, record).map(Some)
            });
        match decoded {
            Ok(None) => Ok(Step::Next(end)),
            Ok(Some(scrape)) => {
                let at = |offset| Position {
                    segment: file.header.segment,
                    offset,
                };
                Ok(Step::Found(Entry {
                    position: at(offset),
                    end: at(end),
                    scrape,
                }))
            }
            Err(Fault::Io(error)) => Err(error),
            Err(Fault::Damage(kind)) => {
                self.note(file, offset, end, kind);
                Ok(Step::Next(end))
            }
        }
    }

    fn note(&mut self, file: &SegmentFile, from: u32, to: u32, kind: DamageKind) {
        self.damage.push(Damage {
            segment: file.header.segment,
            from,
            to,
            kind,
        });
    }
}
