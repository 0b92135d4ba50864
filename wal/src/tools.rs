//! A directory -> what it holds, frame by frame: for `wal verify` and tests.
//!
//! Beside it: records without their values (`walk`), totals of them (`survey`), the labels of a
//! series (`labels`), what may be cut off (`cut`). All but `cut` only read; the files may belong
//! to a running process.

use crate::codec::record::access_record;
use crate::cursor::CursorFile;
use crate::error::{Damage, DamageKind, ReadError};
use crate::format::{CURSOR_FILE, FRAMES_START, KINDS, Kind, TRAILER_FRAME_BYTES};
use crate::reader::LogReader;
use crate::recovery::{read_cursors, segment_files};
use crate::scrape::Position;
use crate::segment::file::{Fault, SegmentFile, Window};
use crate::segment::header::parse_file_name;
use crate::segment::index::Index;
use crate::segment::scan::scan;
use crate::segments::Readable;
use crate::storage::Storage;
use crate::tail::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod cut;
pub mod labels;
pub mod survey;
pub mod walk;

/// What one segment file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// Sequence number.
    pub segment: u64,
    /// Size of the file (bytes).
    pub bytes: u64,
    /// End of the records (bytes).
    pub data_end: u32,
    /// When it was begun, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Frames and their bytes, headers and padding included, by `Kind as usize`; 0 is unused.
    pub frames: [FrameCount; KINDS],
    /// Values and staleness markers.
    pub samples: u64,
    /// How values are coded: as the keyframe, 16-bit, 32-bit, 64-bit.
    pub codes: [u64; 4],
    /// Whether it ends with an index.
    pub index: IndexState,
    /// Places that cannot be read.
    pub damage: Vec<Damage>,
}

/// Some frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameCount {
    /// How many.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Whether a segment ends with an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IndexState {
    /// No: it is open, or was when its process died.
    #[default]
    Missing,
    /// Yes, and it says what the frames say.
    Good,
    /// Yes, and it does not say what the frames say.
    Wrong,
}

/// Segments in a directory, oldest first.
///
/// # Errors
/// The directory cannot be read.
pub fn segments(storage: &dyn Storage, dir: &Path) -> Result<Vec<u64>, ReadError> {
    let files = segment_files(storage, dir)?;
    Ok(files.into_iter().map(|(segment, _)| segment).collect())
}

/// The directories below `path` that hold a log each, and their names: `path` itself, or
/// `shard-NNN` in it or in its folder `wal`. Empty if there is none.
///
/// # Errors
/// A directory cannot be read.
pub fn log_dirs(storage: &dyn Storage, path: &Path) -> Result<Vec<(String, PathBuf)>, ReadError> {
    let list = |dir: &Path| {
        let listed = storage.list(dir);
        listed.map_err(|source| ReadError::new("list", dir, source))
    };
    let here = list(path)?;
    let is_log = |name: &str| name == CURSOR_FILE || parse_file_name(name).is_some();
    if here
        .iter()
        .any(|entry| !entry.is_dir && is_log(&entry.name))
    {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return Ok(vec![(name.into_owned(), path.to_path_buf())]);
    }
    let below = path.join("wal");
    for (dir, entries) in [(&below, list(&below)?), (&path.to_path_buf(), here)] {
        let shards: Vec<(String, PathBuf)> = entries
            .into_iter()
            .filter(|entry| entry.is_dir && entry.name.starts_with("shard-"))
            .map(|entry| (entry.name.clone(), dir.join(&entry.name)))
            .collect();
        if !shards.is_empty() {
            return Ok(shards);
        }
    }
    Ok(Vec::new())
}

/// Segments in a directory with the sizes of their files (bytes), oldest first.
///
/// # Errors
/// The directory cannot be read.
pub fn segment_sizes(storage: &dyn Storage, dir: &Path) -> Result<Vec<(u64, u64)>, ReadError> {
    segment_files(storage, dir)
}

/// Where each endpoint stands, as last saved.
///
/// # Errors
/// The cursor file cannot be read.
pub fn cursors(storage: &dyn Storage, dir: &Path) -> Result<CursorFile, ReadError> {
    read_cursors(storage, dir)
}

/// Reads all of a segment, every record decoded. Changes nothing.
///
/// # Errors
/// The file cannot be opened or read.
pub fn verify(
    storage: Arc<dyn Storage>,
    dir: &Path,
    segment: u64,
) -> Result<SegmentReport, ReadError> {
    let mut report = SegmentReport {
        segment,
        ..SegmentReport::default()
    };
    let file = match SegmentFile::open(&*storage, dir, segment) {
        Ok(file) => file,
        Err(Fault::Io(error)) => return Err(error),
        Err(Fault::Damage(kind)) => {
            report.damage.push(Damage {
                segment,
                from: 0,
                to: 0,
                kind,
            });
            return Ok(report);
        }
    };
    let len = file.len()?;
    report.bytes = file.stored_bytes()?;
    report.created_ms = file.header.created_ms;
    let mut window = Window::new(1 << 20);
    let index = file.index(&mut window)?;
    let found = scan(&file, len)?;
    report.data_end = found.data_end;
    report.samples = found.index.samples();
    report.damage = found.damage;
    count_frames(&file, len, &mut window, &mut report)?;
    let rebuilt = found.index.finish();
    report.index = match index {
        None => IndexState::Missing,
        Some((index, _)) if index == rebuilt => IndexState::Good,
        Some(_) => IndexState::Wrong,
    };
    // Only decoding shows references that lead nowhere.
    let mut reader = LogReader::new(storage.clone(), dir.to_path_buf());
    for_each_record(&mut reader, segment, report.data_end, |_| {})?;
    for damage in reader.take_damage() {
        if !report.damage.iter().any(|known| known.from == damage.from) {
            report.damage.push(damage);
        }
    }
    report.damage.sort_by_key(|damage| damage.from);
    Ok(report)
}

/// The index at the end of a segment, and the one that its frames give.
///
/// # Errors
/// The file cannot be opened or read, or has no sound header.
pub fn indexes(
    storage: &dyn Storage,
    dir: &Path,
    segment: u64,
) -> Result<(Option<Index>, Index), ReadError> {
    let file = match SegmentFile::open(storage, dir, segment) {
        Ok(file) => file,
        Err(Fault::Io(error)) => return Err(error),
        Err(Fault::Damage(_)) => {
            let source = std::io::Error::from(std::io::ErrorKind::InvalidData);
            return Err(ReadError::new(
                "read the header of a segment in",
                dir,
                source,
            ));
        }
    };
    let mut window = Window::new(64 << 10);
    let written = file.index(&mut window)?.map(|(index, _)| index);
    let rebuilt = scan(&file, file.len()?)?.index.finish();
    Ok((written, rebuilt))
}

/// Calls `each` with every record of a segment that can be read, in order.
///
/// # Errors
/// The file cannot be opened or read.
pub fn for_each_record(
    reader: &mut LogReader,
    segment: u64,
    end_offset: u32,
    mut each: impl FnMut(&Entry),
) -> Result<(), ReadError> {
    let readable = Readable {
        segment,
        end_offset,
        next: Position {
            segment,
            offset: end_offset,
        },
    };
    let mut from = Position { segment, offset: 0 };
    while let Some(entry) = reader.next(&readable, from, &mut |_| true)? {
        from = entry.end;
        each(&entry);
    }
    Ok(())
}

fn count_frames(
    file: &SegmentFile,
    len: u32,
    window: &mut Window,
    report: &mut SegmentReport,
) -> Result<(), ReadError> {
    let mut offset = file.stored_from(FRAMES_START);
    while offset < len {
        match file.frame(window, offset, len) {
            Ok((header, payload)) => {
                let bytes = header.frame_bytes();
                let count = &mut report.frames[header.kind as usize];
                count.frames += 1;
                count.bytes += u64::from(bytes);
                if header.kind == Kind::Record
                    && let Ok(record) = access_record(payload)
                {
                    let columns = record.column_lens();
                    let coded: u64 = columns.iter().sum();
                    let values = u64::from(record.summary().samples)
                        .saturating_sub(u64::from(record.stale_count.to_native()));
                    report.codes[0] += values.saturating_sub(coded);
                    for (sum, count) in report.codes[1..].iter_mut().zip(columns) {
                        *sum += count;
                    }
                }
                offset = file.stored_from(offset.saturating_add(bytes));
            }
            Err(Fault::Io(error)) => return Err(error),
            Err(Fault::Damage(kind)) => {
                let place = report.damage.iter().find(|place| place.from == offset);
                match place {
                    Some(place) if place.to > offset => offset = file.stored_from(place.to),
                    // After the records: an index or trailer that is torn.
                    _ => {
                        let kind = if len - offset <= TRAILER_FRAME_BYTES {
                            DamageKind::TornTail
                        } else {
                            kind
                        };
                        report.damage.push(Damage {
                            segment: report.segment,
                            from: offset,
                            to: len,
                            kind,
                        });
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}
