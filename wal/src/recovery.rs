//! A directory after a start -> its segments, cursors, damage, and each target's last record.

mod repair;

use crate::codec::record::access_record;
use crate::cursor::{self, CursorFile, CursorSet};
use crate::error::{Damage, ReadError};
use crate::format::{
    CURSOR_FILE, CURSOR_SLOT_BYTES, CURSOR_SLOT_DOUBLINGS_MAX, FILE_BYTES_LIMIT, Kind,
};
use crate::scrape::Position;
use crate::segment::file::{Fault, SegmentFile, Window};
use crate::segment::header::parse_file_name;
use crate::segment::index::Index;
use crate::segment::load::Loader;
use crate::segment::scan::scan;
use crate::segments::Segments;
use crate::storage::{Storage, StorageFile};
use crate::tail::Entry;
use ahash::AHashSet;
use repair::Repair;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// Numbers, first and last, of segments that are not there, though older ones are: somebody
    /// deleted them, or a failing disk never had them.
    pub missing: Vec<(u64, u64)>,
    /// Repairs that failed, as in a directory that cannot be written. The log is read as if they
    /// had been made; the next start tries them again.
    pub unrepaired: Vec<ReadError>,
    /// What could not be read and was left out, by `recover_readable`.
    pub unreadable: Vec<ReadError>,
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
/// tail and what a later segment replaces, copies damaged bytes to `quarantine/`. Blocking; may run
/// beside the live log.
///
/// # Errors
/// The directory or a file cannot be read.
pub fn recover(storage: &dyn Storage, dir: &Path, before: u64) -> Result<Recovered, ReadError> {
    recover_or(storage, dir, before, &mut Err::<(), ReadError>)
}

/// As `recover` for a directory that nobody writes, but files that cannot be read are left out, and
/// left where they are. Without its cursor file the directory has no cursors.
///
/// # Errors
/// The directory cannot be listed.
pub fn recover_readable(storage: &dyn Storage, dir: &Path) -> Result<Recovered, ReadError> {
    let mut unreadable = Vec::new();
    let mut recovered = recover_or(storage, dir, u64::MAX, &mut |error| {
        unreadable.push(error);
        Ok(())
    })?;
    recovered.unreadable = unreadable;
    Ok(recovered)
}

/// `leave_out`: says whether to go on without a file that cannot be read.
fn recover_or(
    storage: &dyn Storage,
    dir: &Path,
    before: u64,
    leave_out: &mut dyn FnMut(ReadError) -> Result<(), ReadError>,
) -> Result<Recovered, ReadError> {
    let CursorFile {
        cursors,
        slots_damaged,
    } = match read_cursors(storage, dir) {
        Ok(file) => file,
        Err(error) => leave_out(error).map(|()| CursorFile::default())?,
    };
    let mut recovered = Recovered {
        segments: Segments::default(),
        cursors,
        cursor_slots_damaged: slots_damaged,
        damage: Vec::new(),
        missing: Vec::new(),
        unrepaired: Vec::new(),
        unreadable: Vec::new(),
    };
    let mut files = segment_files(storage, dir)?;
    files.retain(|(segment, _)| *segment < before);
    let gaps = files.windows(2).map(|pair| (pair[0].0 + 1, pair[1].0 - 1));
    recovered.missing = gaps.filter(|(first, last)| first <= last).collect();
    let replaced = replaced(storage, dir, &mut files, leave_out)?;
    let mut repair = Repair {
        storage,
        dir,
        changed: false,
        damage: &mut recovered.damage,
        unrepaired: &mut recovered.unrepaired,
    };
    repair.remove_trial()?;
    repair.remove_unfinished()?;
    for (segment, bytes) in files {
        let bytes = u32::try_from(bytes).map_or(FILE_BYTES_LIMIT, |b| b.min(FILE_BYTES_LIMIT));
        let end = replaced.get(&segment).copied();
        match repair.segment(segment, bytes, end) {
            Ok(Some(info)) => recovered.segments.insert(info),
            Ok(None) => {}
            Err(error) => leave_out(error)?,
        }
    }
    if repair.changed
        && let Err(source) = storage.sync_dir(dir)
    {
        recovered
            .unrepaired
            .push(ReadError::new("sync", dir, source));
    }
    Ok(recovered)
}

/// Where segments end because a later one holds what follows. Files without a header that can be
/// read are not left in `files`.
fn replaced(
    storage: &dyn Storage,
    dir: &Path,
    files: &mut Vec<(u64, u64)>,
    leave_out: &mut dyn FnMut(ReadError) -> Result<(), ReadError>,
) -> Result<BTreeMap<u64, u32>, ReadError> {
    let mut places = Vec::new();
    let mut readable = Vec::with_capacity(files.len());
    for (segment, bytes) in files.drain(..) {
        match SegmentFile::open(storage, dir, segment) {
            Ok(file) => places.extend(file.header.replaces.map(|place| (segment, place))),
            Err(Fault::Io(error)) => {
                leave_out(error)?;
                continue;
            }
            Err(Fault::Damage(_)) => {}
        }
        readable.push((segment, bytes));
    }
    *files = readable;
    let mut ends = BTreeMap::new();
    for (segment, place) in places {
        // Never itself, whatever it says.
        let until = place.until_segment.min(segment);
        let former = files.iter().map(|(segment, _)| *segment);
        for former in former.filter(|former| (place.from.segment..until).contains(former)) {
            let here = match former == place.from.segment {
                true => place.from.offset,
                false => 0,
            };
            let end: &mut u32 = ends.entry(former).or_insert(here);
            *end = (*end).min(here);
        }
    }
    Ok(ends)
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
    let bytes = read_whole(&*file, (2 * CURSOR_SLOT_BYTES) << CURSOR_SLOT_DOUBLINGS_MAX)
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
