//! A former directory of which something cannot be read: the rest is read, and nothing is deleted
//! that was not. What cannot be read is a link to itself, which is one for every user.

use crate::common::*;
use crate::tools::filled;
use ringscrape_wal::backlog::Backlog;
use ringscrape_wal::reader::LogReader;
use ringscrape_wal::scrape::Position;
use ringscrape_wal::storage::{FsStorage, Storage};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Folder {
    _temp: tempfile::TempDir,
    dir: PathBuf,
    bench: Bench,
}

impl Folder {
    /// A log of several segments.
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("shard-000");
        std::fs::create_dir(&dir).unwrap();
        let bench = filled(200, 7);
        let folder = Self {
            _temp: temp,
            dir,
            bench,
        };
        assert!(folder.segments().len() > 3);
        for segment in folder.segments() {
            folder.mend(segment);
        }
        folder
    }

    fn segments(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self
            .bench
            .appended
            .iter()
            .map(|(at, _)| at.segment)
            .collect();
        all.dedup();
        all
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.dir.join(segment_path(segment).file_name().unwrap())
    }

    fn break_off(&self, segment: u64) {
        let path = self.path(segment);
        std::fs::remove_file(&path).unwrap();
        symlink(&path, &path).unwrap();
    }

    fn mend(&self, segment: u64) {
        let _ = std::fs::remove_file(self.path(segment));
        let bytes = self.bench.storage.get(&segment_path(segment)).unwrap();
        std::fs::write(self.path(segment), bytes).unwrap();
    }

    fn open_readable(&self) -> Backlog {
        Backlog::open_readable(Arc::new(FsStorage), self.dir.clone()).unwrap()
    }

    fn open(&self) -> Option<Backlog> {
        Backlog::open(Arc::new(FsStorage), self.dir.clone()).ok()
    }

    fn read(&self, backlog: &Backlog, from: Position) -> Vec<Position> {
        let mut reader = LogReader::new(Arc::new(FsStorage), self.dir.clone());
        let entries = read_from(&mut reader, backlog.segments(), from);
        entries.iter().map(|entry| entry.position).collect()
    }

    fn appended(&self, is_meant: impl Fn(Position) -> bool) -> Vec<Position> {
        let all = self.bench.appended.iter().map(|(at, _)| *at);
        all.filter(|at| is_meant(*at)).collect()
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = FsStorage.list(dir).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

/// Gives all of it to endpoint `e`.
fn drain(backlog: &mut Backlog) -> bool {
    let (begin, end) = (backlog.begin(), backlog.end());
    backlog.cursors_mut().configure(["e"], begin, 0);
    backlog.cursors_mut().advance("e", end, end);
    backlog.release().unwrap()
}

#[test]
fn a_segment_that_cannot_be_read_stays_for_a_later_start() {
    let folder = Folder::new();
    let broken = folder.segments()[1];
    folder.break_off(broken);
    assert!(folder.open().is_none());
    let mut backlog = folder.open_readable();
    assert_eq!(backlog.unreadable().len(), 1);
    let others = folder.appended(|at| at.segment != broken);
    assert_eq!(folder.read(&backlog, backlog.begin()), others);
    assert!(drain(&mut backlog), "nothing is left to send");
    assert_eq!(names(&folder.dir), [format!("{broken:020}.wal")]);

    folder.mend(broken);
    let mut backlog = folder.open().unwrap();
    let it = folder.appended(|at| at.segment == broken);
    assert_eq!(folder.read(&backlog, backlog.begin()), it);
    assert!(drain(&mut backlog));
    assert!(!folder.dir.exists());
}

/// The process ends when the endpoint is past a segment that could not be read.
#[test]
fn no_saved_cursor_passes_over_what_could_not_be_read() {
    let folder = Folder::new();
    let (broken, later) = (folder.segments()[1], folder.segments()[2]);
    folder.break_off(broken);
    let mut backlog = folder.open_readable();
    let begin = backlog.begin();
    backlog.cursors_mut().configure(["e"], begin, 0);
    let at = Position {
        segment: later,
        offset: 0,
    };
    backlog.cursors_mut().advance("e", at, at);
    assert!(!backlog.release().unwrap());

    folder.mend(broken);
    let mut backlog = folder.open().unwrap();
    let begin = backlog.begin();
    backlog.cursors_mut().configure(["e"], begin, 0);
    let from = backlog.cursors().get("e").unwrap().low_water;
    let left = folder.appended(|at| at.segment >= broken);
    assert_eq!(folder.read(&backlog, from), left);
}

/// An endpoint had a part of that segment before it could not be read any more.
#[test]
fn cursors_stay_with_what_could_not_be_read() {
    let folder = Folder::new();
    let broken = folder.segments()[1];
    let of_broken = folder.appended(|at| at.segment == broken);
    let middle = of_broken[of_broken.len() / 2];
    let mut backlog = folder.open().unwrap();
    let begin = backlog.begin();
    backlog.cursors_mut().configure(["e"], begin, 0);
    backlog.cursors_mut().advance("e", middle, middle);
    assert!(!backlog.release().unwrap());

    folder.break_off(broken);
    let mut backlog = folder.open_readable();
    assert!(backlog.lacks_segments());
    assert!(drain(&mut backlog), "nothing is left to send");
    let mut left = names(&folder.dir);
    left.sort();
    assert_eq!(left, [format!("{broken:020}.wal"), "cursors".into()]);

    folder.mend(broken);
    let backlog = folder.open().unwrap();
    let from = backlog.cursors().get("e").unwrap().low_water;
    assert_eq!(from, middle);
    let rest: Vec<Position> = of_broken.into_iter().filter(|at| *at >= middle).collect();
    assert_eq!(folder.read(&backlog, from), rest);
}

#[test]
fn without_its_cursors_a_directory_is_read_from_its_beginning() {
    let folder = Folder::new();
    let cursors = folder.dir.join("cursors");
    symlink(&cursors, &cursors).unwrap();
    assert!(folder.open().is_none());
    let mut backlog = folder.open_readable();
    assert_eq!(backlog.unreadable().len(), 1);
    assert_eq!(
        folder.read(&backlog, backlog.begin()),
        folder.appended(|_| true)
    );
    assert!(drain(&mut backlog));
    assert!(!folder.dir.exists());
}

#[test]
fn what_was_given_up_goes_to_the_quarantine() {
    let folder = Folder::new();
    let given_up = folder.segments()[2];
    let mut backlog = folder.open().unwrap();
    backlog.set_aside(given_up);
    assert!(drain(&mut backlog));
    assert_eq!(names(&folder.dir), ["quarantine"]);
    let kept = names(&folder.dir.join("quarantine"));
    assert_eq!(kept, [format!("{given_up:020}.wal")]);
}
