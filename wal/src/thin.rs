//! A closed segment and who has all of it -> a smaller file with what the others still need.
//!
//! What is kept, is kept byte for byte, at the offsets it had: the records of the routes that
//! somebody waits for, the keyframes they are coded against, and what all these refer to. So
//! cursors, readers and references go on as they are. The copy is written and synced beside the
//! segment, checked, and takes its name: a power cut leaves the one or the other, whole.
//!
//! Blocking, in steps of about a megabyte. `ShardLog::thinnable` says which segment is worth it.

use crate::codec::definition::{DefinitionEncoder, plain_payload, read_layout, read_route};
use crate::codec::record::{RecordSummary, access_record};
use crate::error::{DamageKind, ReadError};
use crate::format::Kind;
use crate::segment::file::{Fault, SegmentFile, Window};
use crate::segment::header::{SegmentHeader, append_trailer, file_name, thinned_name};
use crate::segment::index::{Index, IndexBuilder};
use crate::segment::map;
use crate::segment::scan::scan;
use crate::storage::Storage;
use rkyv::util::AlignedVec;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// How much one step reads, or writes (bytes).
const STEP_BYTES: u64 = 1 << 20;
/// How much is read at once where what is read lies apart (bytes).
const AHEAD_BYTES: usize = 16 << 10;

/// A segment that holds much for those who have it already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thinnable {
    /// Sequence number of the segment.
    pub segment: u64,
    /// End of its records (bytes).
    pub data_end: u32,
    /// Size of its file (bytes).
    pub bytes: u32,
    /// Endpoints that have all of it. A record that names any other stays.
    pub done: BTreeSet<Box<str>>,
}

/// A segment's file that holds less than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thinned {
    /// Sequence number of the segment.
    pub segment: u64,
    /// Size of its file (bytes).
    pub bytes: u32,
    /// Its records.
    pub records: u64,
    /// Values and staleness markers in them.
    pub samples: u64,
    /// Latest time of a record, milliseconds since the Unix epoch; `i64::MIN` without records.
    pub timestamp_ms_max: i64,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    More,
    /// Too little would be gained, or the segment is damaged: it stays as it is.
    Leave,
    /// The copy is whole and on disk: `install` it.
    Ready(Thinned),
}

/// A segment on its way to become smaller.
#[derive(Debug)]
pub struct Thinning {
    dir: PathBuf,
    wanted: Thinnable,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Begin,
    Choose(Box<Choice>),
    Copy(Box<Copy>),
    Check(Box<(Index, Thinned)>),
    End,
}

/// What is to be kept, so far.
#[derive(Debug)]
struct Choice {
    file: SegmentFile,
    /// Records that somebody waits for, rising, and how many were looked at.
    records: Vec<u32>,
    looked_at: usize,
    kept: BTreeMap<u32, Kept>,
    window: Window,
    apart: Window,
}

/// A frame that is kept.
#[derive(Debug)]
struct Kept {
    end: u32,
    kind: Kind,
    /// Of a record.
    summary: Option<RecordSummary>,
}

/// The copy, as far as it is written.
#[derive(Debug)]
struct Copy {
    file: SegmentFile,
    /// What is to be copied still, the next part last.
    parts: Vec<(u32, u32)>,
    /// What is gathered and not written, and where it goes.
    buffer: Vec<u8>,
    at: u64,
    /// Index and trailer.
    end: Vec<u8>,
    index: Index,
    thinned: Thinned,
}

impl Thinning {
    /// Makes the segment in `dir` smaller, if that gains enough.
    pub fn new(dir: &Path, wanted: Thinnable) -> Self {
        Self {
            dir: dir.to_path_buf(),
            wanted,
            stage: Stage::Begin,
        }
    }

    /// What it works on.
    pub fn segment(&self) -> u64 {
        self.wanted.segment
    }

    /// Goes on with it. After an error, `discard` it.
    ///
    /// # Errors
    /// A file cannot be read or written, or the copy is not what it should be.
    pub fn step(&mut self, storage: &dyn Storage) -> Result<Step, ReadError> {
        let done = match std::mem::replace(&mut self.stage, Stage::End) {
            Stage::Begin => self.begin(storage),
            Stage::Choose(choice) => self.choose(storage, choice),
            Stage::Copy(copy) => self.copy(storage, copy).map_err(Fault::Io),
            Stage::Check(copied) => self.check(storage, &copied.0, copied.1),
            Stage::End => Ok(Step::Leave),
        };
        match done {
            Ok(step) => Ok(step),
            Err(Fault::Io(error)) => Err(error),
            // Whoever reads it says so.
            Err(Fault::Damage(_)) => Ok(Step::Leave),
        }
    }

    /// Gives the copy the segment's name. Nobody may delete the segment meanwhile.
    ///
    /// # Errors
    /// The file cannot be renamed: the segment is as it was.
    pub fn install(&self, storage: &dyn Storage) -> Result<(), ReadError> {
        let path = self.path();
        storage
            .rename(&path, &self.dir.join(file_name(self.wanted.segment)))
            .map_err(|source| ReadError::new("rename", &path, source))?;
        // Either file will do after a power cut: an error here changes nothing.
        let _ = storage.sync_dir(&self.dir);
        Ok(())
    }

    /// Deletes the copy, if there is one.
    ///
    /// # Errors
    /// It cannot be deleted; the next start does.
    pub fn discard(&self, storage: &dyn Storage) -> Result<(), ReadError> {
        let path = self.path();
        match storage.remove(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ReadError::new("delete", &path, source))
            }
            _ => Ok(()),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(thinned_name(self.wanted.segment))
    }

    /// Finds the records that somebody waits for.
    fn begin(&mut self, storage: &dyn Storage) -> Result<Step, Fault> {
        let file = SegmentFile::open(storage, &self.dir, self.wanted.segment)?;
        let mut window = Window::new(AHEAD_BYTES);
        let index = match file.index(&mut window)? {
            Some((index, _)) => index,
            None => {
                let found = scan(&file, self.wanted.data_end)?;
                if !found.damage.is_empty() {
                    return Ok(Step::Leave);
                }
                found.index.finish()
            }
        };
        let (mut records, mut samples) = (Vec::new(), 0);
        for route in &index.routes {
            let frame = file.frame(&mut window, route.route, self.wanted.data_end)?;
            let mut scratch = AlignedVec::new();
            let plain = plain_payload(frame.0.flags, frame.1, &mut scratch)?;
            let endpoints = read_route(plain)?.endpoints;
            if endpoints
                .iter()
                .any(|name| !self.wanted.done.contains(name))
            {
                samples += route.samples_from(0);
                records.extend_from_slice(&route.offsets);
            }
        }
        if samples > index.samples_from(0) / 2 {
            return Ok(Step::Leave);
        }
        records.retain(|record| *record < self.wanted.data_end);
        records.sort_unstable();
        self.stage = Stage::Choose(Box::new(Choice {
            file,
            records,
            looked_at: 0,
            kept: BTreeMap::new(),
            window: Window::new(STEP_BYTES as usize / 4),
            apart: Window::new(AHEAD_BYTES),
        }));
        Ok(Step::More)
    }

    /// Looks at some more of them, and at what they need.
    fn choose(&mut self, storage: &dyn Storage, mut choice: Box<Choice>) -> Result<Step, Fault> {
        let limit = self.wanted.data_end;
        let mut bytes = 0;
        while bytes < STEP_BYTES {
            let Some(record) = choice.records.get(choice.looked_at).copied() else {
                return self.begin_copy(storage, *choice);
            };
            choice.looked_at += 1;
            bytes += u64::from(choice.record(record, limit, false)?);
        }
        self.stage = Stage::Choose(choice);
        Ok(Step::More)
    }

    fn begin_copy(&mut self, storage: &dyn Storage, choice: Choice) -> Result<Step, Fault> {
        let Choice { file, kept, .. } = choice;
        let segment = self.wanted.segment;
        let seed = file.header.seed();
        let mut index = IndexBuilder::new();
        let mut parts: Vec<(u32, u32)> = Vec::new();
        for (offset, frame) in &kept {
            match &frame.summary {
                Some(summary) => index.record(*offset, summary),
                None => index.definition(frame.kind, *offset),
            }
            match parts.last_mut() {
                Some((_, to)) if *to > *offset => return Err(DamageKind::Content.into()),
                Some((_, to)) if *to == *offset => *to = frame.end,
                _ => parts.push((*offset, frame.end)),
            }
        }
        let index = index.finish();
        let data_end = self.wanted.data_end;
        let mut end = Vec::new();
        let seq = kept.len() as u32;
        let archive = |out: &mut Vec<u8>| index.archive(out);
        if !DefinitionEncoder::new().append(&mut end, seed, Kind::Index, seq, archive) {
            return Ok(Step::Leave);
        }
        append_trailer(&mut end, seed, seq.saturating_add(1), data_end);
        let Some(end_bytes) = u32::try_from(end.len())
            .ok()
            .filter(|bytes| data_end.checked_add(*bytes).is_some())
        else {
            return Ok(Step::Leave);
        };
        let whole = || {
            parts
                .iter()
                .copied()
                .chain([(data_end, data_end + end_bytes)])
        };
        let Some(map) = map::encode(&whole().collect::<Vec<_>>(), seed) else {
            return Ok(Step::Leave);
        };
        let map_bytes = map.len() as u32;
        let kept_bytes: u64 = whole().map(|(from, to)| u64::from(to - from)).sum();
        let bytes = map::parts_at(map_bytes) + kept_bytes;
        if bytes > u64::from(self.wanted.bytes) / 2 {
            return Ok(Step::Leave);
        }
        let header = SegmentHeader {
            map_bytes,
            ..file.header
        };
        let mut buffer = Vec::new();
        header.encode(&mut buffer);
        buffer.extend_from_slice(&map);
        buffer.extend_from_slice(&map);
        parts.reverse();
        self.discard(storage)?;
        self.stage = Stage::Copy(Box::new(Copy {
            thinned: Thinned {
                segment,
                bytes: bytes as u32,
                records: index.records(),
                samples: index.samples_from(0),
                timestamp_ms_max: index.timestamp_ms_max,
            },
            file,
            parts,
            buffer,
            at: 0,
            end,
            index,
        }));
        Ok(Step::More)
    }

    /// Copies some more, and syncs it.
    fn copy(&mut self, storage: &dyn Storage, mut copy: Box<Copy>) -> Result<Step, ReadError> {
        while (copy.buffer.len() as u64) < STEP_BYTES
            && let Some((from, to)) = copy.parts.pop()
        {
            let room = STEP_BYTES - copy.buffer.len() as u64;
            let some = to.min(from.saturating_add(room as u32));
            copy.buffer.extend_from_slice(&copy.file.raw(from, some)?);
            if some < to {
                copy.parts.push((some, to));
            }
        }
        let is_last = copy.parts.is_empty();
        if is_last {
            copy.buffer.append(&mut copy.end);
        }
        let path = self.path();
        storage
            .write_at(&path, copy.at, &copy.buffer)
            .map_err(|source| ReadError::new("write", &path, source))?;
        copy.at += copy.buffer.len() as u64;
        copy.buffer.clear();
        self.stage = match is_last {
            true => Stage::Check(Box::new((copy.index, copy.thinned))),
            false => Stage::Copy(copy),
        };
        Ok(Step::More)
    }

    /// Reads the copy as a start without its index would.
    fn check(
        &mut self,
        storage: &dyn Storage,
        index: &Index,
        thinned: Thinned,
    ) -> Result<Step, Fault> {
        let path = self.path();
        let file = SegmentFile::open_at(storage, path.clone(), thinned.segment)?;
        let mut window = Window::new(AHEAD_BYTES);
        let written = file.index(&mut window)?;
        let found = scan(&file, file.len()?)?;
        let is_whole = file.stored_bytes()? == u64::from(thinned.bytes)
            && written == Some((index.clone(), self.wanted.data_end))
            && found.damage.is_empty()
            && found.index.finish() == *index;
        if !is_whole {
            let source = io::Error::new(io::ErrorKind::InvalidData, "it is not as it was written");
            return Err(Fault::Io(ReadError::new("use", &path, source)));
        }
        Ok(Step::Ready(thinned))
    }
}

impl Choice {
    /// Keeps a record with all that it needs; gives its size.
    fn record(&mut self, offset: u32, limit: u32, is_keyframe: bool) -> Result<u32, Fault> {
        if self.kept.contains_key(&offset) {
            return Ok(0);
        }
        let (header, payload) = self.file.frame(&mut self.window, offset, limit)?;
        if header.kind != Kind::Record {
            return Err(DamageKind::Content.into());
        }
        let record = access_record(payload)?;
        let summary = record.summary();
        let stale = record.stale.iter().map(|run| run.block.to_native());
        let mut definitions: Vec<(Kind, u32)> = stale.map(|block| (Kind::Block, block)).collect();
        let references = summary.references;
        definitions.extend([
            (Kind::Target, references.target),
            (Kind::Route, references.route),
            (Kind::Layout, references.layout),
        ]);
        let bytes = header.frame_bytes();
        let kept = Kept {
            end: offset.saturating_add(bytes),
            kind: Kind::Record,
            summary: Some(summary),
        };
        self.kept.insert(offset, kept);
        for (kind, at) in definitions {
            self.definition(kind, at, limit)?;
        }
        match references.keyframe {
            0 => Ok(bytes),
            keyframe if keyframe < offset && !is_keyframe => {
                Ok(bytes + self.record(keyframe, limit, true)?)
            }
            _ => Err(DamageKind::Content.into()),
        }
    }

    fn definition(&mut self, kind: Kind, offset: u32, limit: u32) -> Result<(), Fault> {
        if let Some(known) = self.kept.get(&offset) {
            return match known.kind == kind {
                true => Ok(()),
                false => Err(DamageKind::Content.into()),
            };
        }
        let (header, payload) = self.file.frame(&mut self.apart, offset, limit)?;
        if header.kind != kind {
            return Err(DamageKind::Reference.into());
        }
        let mut blocks = Vec::new();
        if kind == Kind::Layout {
            let mut scratch = AlignedVec::new();
            let plain = plain_payload(header.flags, payload, &mut scratch)?;
            blocks.extend(read_layout(plain)?.into_iter().map(|run| run.block));
        }
        let kept = Kept {
            end: offset.saturating_add(header.frame_bytes()),
            kind,
            summary: None,
        };
        self.kept.insert(offset, kept);
        for block in blocks {
            self.definition(Kind::Block, block, limit)?;
        }
        Ok(())
    }
}
