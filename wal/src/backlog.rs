//! The directory of a shard that exists no more (the core count changed) -> records still to send.

use crate::cursor::CursorSet;
use crate::error::{Damage, ReadError};
use crate::format::{CURSOR_FILE, QUARANTINE_DIR};
use crate::recovery::{Recovered, recover, recover_readable, samples_between};
use crate::scrape::Position;
use crate::segment::header::file_name;
use crate::segments::{Deletion, DeletionCause, Segments, start_of};
use crate::storage::Storage;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory that is only read, until it is drained and removed.
#[derive(Debug)]
pub struct Backlog {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    segments: Segments,
    cursors: CursorSet,
    damage: Vec<Damage>,
    deletions: Vec<Deletion>,
    /// Released, and the file is there still.
    to_delete: Vec<u64>,
    /// Kept for people when released.
    set_aside: BTreeSet<u64>,
    unreadable: Vec<ReadError>,
    end: Position,
}

impl Backlog {
    /// Opens a directory; scans what has no index, cuts torn tails. Blocking.
    ///
    /// # Errors
    /// The directory or a file in it cannot be read or changed.
    pub fn open(storage: Arc<dyn Storage>, dir: PathBuf) -> Result<Self, ReadError> {
        let found = recover(&*storage, &dir, u64::MAX)?;
        Ok(Self::of(storage, dir, found))
    }

    /// Same, without the files that cannot be read: these stay where they are, for a later start.
    /// Until then nothing is saved of how far endpoints are, as that would pass over them.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn open_readable(storage: Arc<dyn Storage>, dir: PathBuf) -> Result<Self, ReadError> {
        let found = recover_readable(&*storage, &dir)?;
        Ok(Self::of(storage, dir, found))
    }

    fn of(storage: Arc<dyn Storage>, dir: PathBuf, found: Recovered) -> Self {
        let Recovered {
            segments,
            cursors,
            damage,
            unreadable,
            ..
        } = found;
        let last = segments.iter().next_back().map(|info| info.segment);
        Self {
            storage,
            dir,
            end: start_of(last.map_or(0, |last| last + 1)),
            segments,
            cursors,
            damage,
            deletions: Vec::new(),
            to_delete: Vec::new(),
            set_aside: BTreeSet::new(),
            unreadable,
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `open_readable` left out.
    pub fn unreadable(&self) -> &[ReadError] {
        &self.unreadable
    }

    /// Whether a segment was left out, which is not sent then and stays.
    pub fn lacks_segments(&self) -> bool {
        let mut paths = self.unreadable.iter().map(|error| &error.path);
        paths.any(|path| !path.ends_with(CURSOR_FILE))
    }

    /// A segment could not be read to its end: when it is released, its file goes to the
    /// quarantine.
    pub fn set_aside(&mut self, segment: u64) {
        self.set_aside.insert(segment);
    }

    /// Its segments; read them with a `LogReader` on `dir()`.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Where each endpoint stands in it. Call `configure` with `begin()` as start: an endpoint
    /// without a cursor gets everything that is for it.
    pub fn cursors(&self) -> &CursorSet {
        &self.cursors
    }

    /// Same, to move them.
    pub fn cursors_mut(&mut self) -> &mut CursorSet {
        &mut self.cursors
    }

    /// Start of the oldest segment.
    pub fn begin(&self) -> Position {
        self.segments.begin().unwrap_or(self.end)
    }

    /// Behind the last segment: an endpoint here has read everything.
    pub fn end(&self) -> Position {
        self.end
    }

    /// Deletes what every endpoint has acknowledged, saves the cursors; true when nothing is left
    /// to send: the directory is gone then, unless segments were left out. These stay, and the
    /// cursors with them, as they say what of them is to be sent. Blocking.
    ///
    /// # Errors
    /// A file cannot be deleted or written; call again later.
    pub fn release(&mut self) -> Result<bool, ReadError> {
        if let Some(low_water) = self.cursors.low_water(self.end) {
            let released = self.segments.release(low_water);
            self.to_delete.extend(released.iter().map(|d| d.segment));
            self.deletions.extend(released);
        }
        while let Some(segment) = self.to_delete.last() {
            match self.set_aside.contains(segment) {
                true => self.quarantine(*segment)?,
                false => remove(&*self.storage, &self.dir.join(file_name(*segment)))?,
            }
            self.to_delete.pop();
        }
        if self.segments.count() > 0 {
            return self.save_cursors().map(|()| false);
        }
        if !self.lacks_segments() {
            self.remove_dir()?;
        }
        Ok(true)
    }

    /// Deletes the oldest segments beyond caps on bytes and on the time of their newest sample,
    /// acknowledged or not, with the next `release`. Gives the samples that some endpoint had not
    /// acknowledged, by cause. Blocking.
    pub fn retain(
        &mut self,
        bytes_max: Option<u64>,
        oldest_ms: Option<i64>,
    ) -> Vec<(DeletionCause, u64)> {
        // Before the endpoints are known, nobody can say what is lost.
        let Some(low_water) = self.cursors.low_water(self.end) else {
            return Vec::new();
        };
        let deletions = self
            .segments
            .retain(bytes_max, oldest_ms, low_water, self.end);
        let mut lost = Vec::new();
        for deletion in &deletions {
            self.to_delete.push(deletion.segment);
            if let Some((from, to)) = deletion.lost {
                let counted =
                    samples_between(&*self.storage, &self.dir, deletion.segment, from, to);
                // One that cannot be read is counted as lost whole.
                lost.push((deletion.cause, counted.unwrap_or(deletion.samples)));
            }
        }
        self.deletions.extend(deletions);
        lost
    }

    /// What `release` deleted since the last call.
    pub fn take_deletions(&mut self) -> Vec<Deletion> {
        std::mem::take(&mut self.deletions)
    }

    /// What `open` found damaged.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    fn save_cursors(&mut self) -> Result<(), ReadError> {
        if self.cursors.dirty() && self.unreadable.is_empty() {
            let path = self.dir.join(CURSOR_FILE);
            let too_many = || io::Error::other("too many endpoints for the largest slot");
            let slot = self
                .cursors
                .encode()
                .ok_or_else(|| ReadError::new("write", &path, too_many()))?;
            self.storage
                .write_at(&path, slot.offset, &slot.bytes)
                .map_err(|source| ReadError::new("write", &path, source))?;
            self.cursors.saved(&slot);
        }
        Ok(())
    }

    fn quarantine(&self, segment: u64) -> Result<(), ReadError> {
        let path = self.dir.join(file_name(segment));
        let quarantine = self.dir.join(QUARANTINE_DIR);
        let moved = self.storage.create_dir_all(&quarantine).and_then(|()| {
            self.storage
                .rename(&path, &quarantine.join(file_name(segment)))
        });
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ReadError::new("move to quarantine", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the directory; quarantined bytes keep it alive, as they should.
    fn remove_dir(&self) -> Result<(), ReadError> {
        remove(&*self.storage, &self.dir.join(CURSOR_FILE))?;
        let left = self
            .storage
            .list(&self.dir)
            .map_err(|source| ReadError::new("list", &self.dir, source))?;
        if left.iter().any(|entry| entry.name == QUARANTINE_DIR) {
            return Ok(());
        }
        match self.storage.remove_dir(&self.dir) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                Err(ReadError::new("delete", &self.dir, error))
            }
            _ => Ok(()),
        }
    }
}

fn remove(storage: &dyn Storage, path: &Path) -> Result<(), ReadError> {
    match storage.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ReadError::new("delete", path, error))
        }
        _ => Ok(()),
    }
}
