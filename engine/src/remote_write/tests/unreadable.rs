//! A disk that does not give back a part of a file -> the records before and behind it, once the
//! reader has been told to go on without, and what it says that it passed over.

use super::model::{layout, map, target};
use crate::remote_write::from_log::EndpointReader;
use crate::remote_write::source::{LogSource, Next};
use ringscrape_wal::definition::{Route, next_id};
use ringscrape_wal::error::{Damage, DamageKind};
use ringscrape_wal::log::{LogOptions, ShardLog, Write};
use ringscrape_wal::recovery::recover;
use ringscrape_wal::scrape::{Position, Scrape};
use ringscrape_wal::storage::{FileEntry, MemoryStorage, Storage, StorageFile};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/wal/shard-000";

/// Files of which these bytes cannot be read.
#[derive(Debug)]
struct BadPlace {
    files: MemoryStorage,
    bad: Range<u64>,
}

#[derive(Debug)]
struct BadFile {
    file: Box<dyn StorageFile>,
    bad: Range<u64>,
}

impl StorageFile for BadFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset < self.bad.end && offset + buffer.len() as u64 > self.bad.start {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.file.read_at(offset, buffer)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

impl Storage for BadPlace {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(BadFile {
            file: self.files.open(path)?,
            bad: self.bad.clone(),
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<FileEntry>> {
        self.files.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.files.create_dir_all(dir)
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.files.write_at(path, offset, bytes)
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.files.truncate(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.sync_dir(dir)
    }
}

/// Number of the first record of another target: from there on every other one is.
const OTHER_FROM: usize = 15_000;

/// Some 3 MB of records in one closed segment, and where they are.
fn logged() -> (MemoryStorage, Vec<Position>) {
    let files = MemoryStorage::new();
    let mut log = ShardLog::new(LogOptions::default(), 1);
    let route = Arc::new(Route {
        id: next_id(),
        endpoints: ["e".into()].into(),
    });
    let named = |key, name| target(key, &map(&[("target", name)]));
    let (targets, layout) = ([named(1, "t"), named(2, "other")], layout(&[]));
    let mut places = Vec::new();
    for number in 0..30_000 {
        let scrape = Scrape {
            target: targets[usize::from(is_other(number))].clone(),
            route: route.clone(),
            timestamp_ms: number as i64,
            layout: layout.clone(),
            values: Vec::new(),
            stale: Box::default(),
            sides: None,
        };
        places.push(log.append(Arc::new(scrape), 0));
    }
    log.close();
    for write in log.take_writes(0) {
        if let Write::Bytes {
            segment,
            offset,
            bytes,
        } = write
        {
            let path = Path::new(DIR).join(format!("{segment:020}.wal"));
            let written = files.write_at(&path, u64::from(offset), &bytes);
            written.unwrap();
        }
    }
    (files, places)
}

fn is_other(number: usize) -> bool {
    number >= OTHER_FROM && number.is_multiple_of(2)
}

/// What is read of a log of which these bytes cannot be, when patience ends after the third
/// failure, and what it says that it passed over.
fn read_without(
    files: MemoryStorage,
    bad: Range<u64>,
    first: Position,
) -> (Vec<Position>, Vec<Damage>) {
    let segments = recover(&files, Path::new(DIR), u64::MAX).unwrap().segments;
    let storage = Arc::new(BadPlace { files, bad });
    let mut reader = EndpointReader::new("e", storage, DIR.into());
    let (mut from, mut read, mut failures) = (first, Vec::new(), 0);
    loop {
        match reader.over_files(&segments).next(from) {
            Next::Record(entry) => {
                read.push(entry.position);
                from = entry.end;
                assert_eq!(reader.stuck_at(), None);
            }
            Next::Skip { next } => {
                assert!(next > from);
                from = next;
            }
            Next::End => break,
            Next::Pending => {
                assert!(reader.take_error().is_some());
                assert_eq!(reader.stuck_at(), Some(from));
                assert!(reader.take_damage().is_empty(), "nothing is lost meanwhile");
                failures += 1;
                if failures == 3 {
                    assert_eq!(reader.give_up(), Some(1));
                }
                assert!(failures <= 3, "it does not go on");
            }
        }
    }
    assert_eq!(failures, 3);
    let damage = reader.take_damage();
    let is_unreadable = |place: &Damage| place.kind == DamageKind::Unreadable;
    assert!(damage.iter().all(is_unreadable));
    (read, damage)
}

/// The records that are not in damaged places.
fn sound(places: &[Position], damage: &[Damage]) -> Vec<Position> {
    let is_lost = |at: &Position| {
        let mut lost = damage.iter();
        lost.any(|place| (place.from..place.to).contains(&at.offset))
    };
    places.iter().copied().filter(|at| !is_lost(at)).collect()
}

#[test]
fn what_is_around_a_place_that_cannot_be_read_is_sent_when_patience_ends() {
    let (files, places) = logged();
    let bad = 1_000_000..1_004_096;
    let (read, damage) = read_without(files, bad.clone(), places[0]);
    let left = sound(&places, &damage);
    assert!(left.len() < places.len() && read == left);
    // A reader takes 256 KiB at once, and passes over as much.
    let (first, last) = (damage[0].from, damage[damage.len() - 1].to);
    let reach = 512 << 10;
    assert!(u64::from(first) + reach > bad.start && u64::from(last) < bad.end + reach);
}
