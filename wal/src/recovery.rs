//! A directory after a start -> its segments, cursors, damage, and each target's last record.

use crate::codec::record::access_record;
use crate::cursor::{self, CursorFile, CursorSet};
use crate::error::{Damage, DamageKind, ReadError};
use crate::format::{
    CURSOR_FILE, CURSOR_SLOT_BYTES, FILE_BYTES_LIMIT, FRAMES_START, Kind, QUARANTINE_DIR,
};
use crate::scrape::Position;
use crate::segment::file::{Fault, SegmentFile, Window};
use crate::segment::header::{file_name, parse_file_name};
use crate::segment::index::Index;
use crate::segment::load::Loader;
use crate::segment::scan::scan;
use crate::segments::{SegmentInfo, Segments};
use crate::storage::{Storage, StorageFile};
use crate::tail::Entry;
use ahash::AHashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Of one damaged place at most so many bytes are copied to the quarantine.
const QUARANTINE_BYTES_MAX: u32 = 16 << 20;
/// What `last_scrapes` keeps of definitions and keyframes (bytes).
const CACHE_BYTES: usize = 64 << 20;

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Segments of former runs.
    pub segments: Segments,
    /// Where endpoints stand.
    pub cursors: CursorSet,
    /// Slots of the cursor file that were unreadable (0 to 2).
    pub cursor_slots_damaged: u32,
    /// What was cut or skipped.
    pub damage: Vec<Damage>,
}

/// The number for the first segment of this run: one more than any in the directory, and than any
/// that a cursor names (of segments long deleted, or that never reached the disk).
///
/// # Errors
/// The directory or the cursor file cannot be read.
pub fn next_segment(storage: &dyn Storage, dir: &Path) -> Result<u64, ReadError> {
    let files = segment_files(storage, dir)?;
    let cursors = read_cursors(storage, dir)?.cursors.segment_max();
    let last = files.last().map(|(segment, _)| *segment);
    Ok(last.max(cursors).unwrap_or(0).saturating_add(1))
}

/// Reads the segments numbered below `before`: trusts a good index, else scans frames, cuts a torn
/// tail, copies damaged bytes to `quarantine/`. Blocking; may run beside the live log.
///
/// # Errors
/// The directory or a file cannot be read or changed.
pub fn recover(storage: &dyn Storage, dir: &Path, before: u64) -> Result<Recovered, ReadError> {
    let CursorFile {
        cursors,
        slots_damaged,
    } = read_cursors(storage, dir)?;
    let mut recovered = Recovered {
        segments: Segments::default(),
        cursors,
        cursor_slots_damaged: slots_damaged,
        damage: Vec::new(),
    };
    for (segment, bytes) in segment_files(storage, dir)? {
        if segment >= before {
            continue;
        }
        let bytes = u32::try_from(bytes).map_or(FILE_BYTES_LIMIT, |b| b.min(FILE_BYTES_LIMIT));
        if let Some(info) = recover_segment(storage, dir, segment, bytes, &mut recovered.damage)? {
            recovered.segments.insert(info);
        }
    }
    Ok(recovered)
}

/// Samples (values and staleness markers) of a segment's records that begin in `from..to`.
/// Blocking: reads the index, or the whole file if it has none.
///
/// # Errors
/// The file cannot be read. A damaged one counts what can be read of it.
pub fn samples_between(
    storage: &dyn Storage,
    dir: &Path,
    segment: u64,
    from: u32,
    to: u32,
) -> Result<u64, ReadError> {
    let file = match SegmentFile::open(storage, dir, segment) {
        Ok(file) => file,
        Err(Fault::Io(error)) => return Err(error),
        Err(Fault::Damage(_)) => return Ok(0),
    };
    let index = index_of(&file)?;
    Ok(index.samples_from(from) - index.samples_from(to.max(from)))
}

/// The last record of each target (by key) in the segments numbered below `before`, newest segments
/// first, not older than `oldest_ms` (milliseconds since the Unix epoch). Blocking; for the
/// background. Segments that cannot be read are passed over.
pub fn last_scrapes(
    storage: Arc<dyn Storage>,
    dir: &Path,
    segments: &Segments,
    before: u64,
    oldest_ms: i64,
) -> LastScrapes {
    LastScrapes {
        storage,
        dir: dir.to_path_buf(),
        segments: segments
            .iter()
            .filter(|info| info.segment < before && info.timestamp_ms_max >= oldest_ms)
            .map(|info| (info.segment, info.data_end))
            .collect(),
        oldest_ms,
        seen: AHashSet::new(),
        open: None,
        loader: Loader::new(CACHE_BYTES),
        window: Window::new(64 << 10),
    }
}

/// Iterator of `last_scrapes`.
#[derive(Debug)]
pub struct LastScrapes {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    /// Still to read, the newest last.
    segments: Vec<(u64, u32)>,
    oldest_ms: i64,
    /// Keys of targets that had their turn.
    seen: AHashSet<u64>,
    open: Option<LastRecords>,
    loader: Loader,
    window: Window,
}

/// An open segment, its limit, and its targets' last records, to be taken from the end.
type LastRecords = (SegmentFile, u32, Vec<(u32, u32)>);

impl Iterator for LastScrapes {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            let Some((file, limit, mut last)) = self.open.take() else {
                let (segment, limit) = self.segments.pop()?;
                self.loader.clear();
                self.window.clear();
                if let Ok(file) = SegmentFile::open(&*self.storage, &self.dir, segment)
                    && let Ok(index) = index_of(&file)
                {
                    self.open = Some((file, limit, index.last_records));
                }
                continue;
            };
            if let Some((target, record)) = last.pop() {
                let entry = self.read(&file, target, record, limit);
                self.open = Some((file, limit, last));
                if let Some(entry) = entry {
                    return Some(entry);
                }
            }
        }
    }
}

impl LastScrapes {
    fn read(&mut self, file: &SegmentFile, target: u32, record: u32, limit: u32) -> Option<Entry> {
        let target = self.loader.target(file, target, limit).ok()?;
        if self.seen.contains(&target.key) {
            return None;
        }
        let (header, payload) = file.frame(&mut self.window, record, limit).ok()?;
        if header.kind != Kind::Record {
            return None;
        }
        let archived = access_record(payload).ok()?;
        let at = |offset| Position {
            segment: file.header.segment,
            offset,
        };
        let scrape = self.loader.scrape(file, record, limit, archived).ok()?;
        self.seen.insert(scrape.target.key);
        (scrape.timestamp_ms >= self.oldest_ms).then(|| Entry {
            position: at(record),
            end: at(record.saturating_add(header.frame_bytes())),
            scrape,
        })
    }
}

/// The index of a segment, read or rebuilt.
pub(crate) fn index_of(file: &SegmentFile) -> Result<Index, ReadError> {
    let mut window = Window::new(64 << 10);
    Ok(match file.index(&mut window)? {
        Some((index, _)) => index,
        None => scan(file, file.len()?)?.index.finish(),
    })
}

/// Segments in a directory with their sizes, oldest first.
pub(crate) fn segment_files(
    storage: &dyn Storage,
    dir: &Path,
) -> Result<Vec<(u64, u64)>, ReadError> {
    let entries = storage
        .list(dir)
        .map_err(|source| ReadError::new("list", dir, source))?;
    let mut files: Vec<(u64, u64)> = entries
        .iter()
        .filter(|entry| !entry.is_dir)
        .filter_map(|entry| Some((parse_file_name(&entry.name)?, entry.bytes)))
        .collect();
    files.sort_unstable();
    Ok(files)
}

/// The cursor file of a directory; empty if there is none.
pub(crate) fn read_cursors(storage: &dyn Storage, dir: &Path) -> Result<CursorFile, ReadError> {
    let path = dir.join(CURSOR_FILE);
    let file = match storage.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(CursorFile::default()),
        Err(source) => return Err(ReadError::new("open", &path, source)),
    };
    let bytes = read_whole(&*file, 2 * CURSOR_SLOT_BYTES)
        .map_err(|source| ReadError::new("read", &path, source))?;
    Ok(cursor::decode(&bytes))
}

fn read_whole(file: &dyn StorageFile, bytes_max: usize) -> io::Result<Vec<u8>> {
    let len = file.len()?.min(bytes_max as u64) as usize;
    let mut bytes = vec![0; len];
    let mut got = 0;
    while got < len {
        match file.read_at(got as u64, &mut bytes[got..])? {
            0 => break,
            count => got += count,
        }
    }
    bytes.truncate(got);
    Ok(bytes)
}

fn recover_segment(
    storage: &dyn Storage,
    dir: &Path,
    segment: u64,
    bytes: u32,
    damage: &mut Vec<Damage>,
) -> Result<Option<SegmentInfo>, ReadError> {
    let whole = |kind| Damage {
        segment,
        from: 0,
        to: bytes,
        kind,
    };
    let path = dir.join(file_name(segment));
    let file = match SegmentFile::open(storage, dir, segment) {
        Ok(file) => file,
        Err(Fault::Io(error)) => return Err(error),
        Err(Fault::Damage(DamageKind::Version)) => {
            // Of a newer version: left where it is, for that.
            damage.push(whole(DamageKind::Version));
            return Ok(None);
        }
        Err(Fault::Damage(_)) if bytes < FRAMES_START => {
            damage.push(whole(DamageKind::TornTail));
            storage
                .remove(&path)
                .map_err(|source| ReadError::new("delete", &path, source))?;
            return Ok(None);
        }
        Err(Fault::Damage(kind)) => {
            damage.push(whole(kind));
            let quarantine = quarantine_dir(storage, dir)?;
            storage
                .rename(&path, &quarantine.join(file_name(segment)))
                .map_err(|source| ReadError::new("move to quarantine", &path, source))?;
            return Ok(None);
        }
    };
    let mut info = SegmentInfo {
        segment,
        bytes,
        data_end: bytes,
        written: bytes,
        open: false,
        settled: true,
        records: 0,
        samples: 0,
        timestamp_ms_max: i64::MIN,
        created_ms: file.header.created_ms,
    };
    let mut window = Window::new(64 << 10);
    if let Some((index, data_end)) = file.index(&mut window)? {
        info.data_end = data_end;
        info.records = index.records();
        info.samples = index.samples_from(0);
        info.timestamp_ms_max = index.timestamp_ms_max;
        return Ok(Some(info));
    }
    let found = scan(&file, bytes)?;
    for place in &found.damage {
        if place.kind == DamageKind::TornTail {
            storage
                .truncate(&path, u64::from(place.from))
                .map_err(|source| ReadError::new("cut the torn end of", &path, source))?;
            info.bytes = place.from;
            info.written = place.from;
        } else if place.kind != DamageKind::Version {
            quarantine(storage, dir, &file, place)?;
        }
    }
    info.data_end = found.data_end;
    info.records = found.index.records();
    info.samples = found.index.samples();
    info.timestamp_ms_max = found.index.timestamp_ms_max();
    damage.extend(found.damage);
    Ok(Some(info))
}

/// Copies a damaged place to a file of its own.
fn quarantine(
    storage: &dyn Storage,
    dir: &Path,
    file: &SegmentFile,
    place: &Damage,
) -> Result<(), ReadError> {
    let to = place
        .to
        .min(place.from.saturating_add(QUARANTINE_BYTES_MAX));
    let bytes = file.raw(place.from, to)?;
    let name = format!("{:020}-{:010}.bytes", place.segment, place.from);
    let path = quarantine_dir(storage, dir)?.join(name);
    storage
        .write_at(&path, 0, &bytes)
        .map_err(|source| ReadError::new("write", &path, source))
}

fn quarantine_dir(storage: &dyn Storage, dir: &Path) -> Result<PathBuf, ReadError> {
    let quarantine = dir.join(QUARANTINE_DIR);
    storage
        .create_dir_all(&quarantine)
        .map_err(|source| ReadError::new("create", &quarantine, source))?;
    Ok(quarantine)
}
