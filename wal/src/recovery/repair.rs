//! A directory as a process left it -> one that the next start finds whole.

use crate::error::{Damage, DamageKind, ReadError};
use crate::format::{FRAMES_START, QUARANTINE_DIR, TRIAL_FILE};
use crate::segment::file::{Fault, SegmentFile, Window};
use crate::segment::header::{file_name, is_thinned_name};
use crate::segment::scan::scan;
use crate::segments::SegmentInfo;
use crate::storage::Storage;
use std::io;
use std::path::{Path, PathBuf};

/// Of one damaged place at most so many bytes are copied to the quarantine.
const QUARANTINE_BYTES_MAX: u32 = 16 << 20;

/// What changes a directory so that the next start finds it whole.
pub(super) struct Repair<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) dir: &'a Path,
    pub(super) changed: bool,
    pub(super) damage: &'a mut Vec<Damage>,
    pub(super) unrepaired: &'a mut Vec<ReadError>,
}

impl Repair<'_> {
    /// What a process left that was killed while it tried the disk: up to 64 MiB.
    pub(super) fn remove_trial(&mut self) -> Result<(), ReadError> {
        let entries = self.storage.list(self.dir);
        let entries = entries.map_err(|source| ReadError::new("list", self.dir, source))?;
        if entries.iter().any(|entry| entry.name == TRIAL_FILE) {
            let path = self.dir.join(TRIAL_FILE);
            let removed = match self.storage.remove(&path) {
                // A live log that tries its disk just now takes it away itself.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            };
            self.note("delete", &path, removed);
        }
        Ok(())
    }

    /// `end`: what comes at or after it stands in a later segment.
    pub(super) fn segment(
        &mut self,
        segment: u64,
        bytes: u32,
        end: Option<u32>,
    ) -> Result<Option<SegmentInfo>, ReadError> {
        let whole = |kind| Damage {
            segment,
            from: 0,
            to: bytes,
            kind,
        };
        let path = self.dir.join(file_name(segment));
        let file = match SegmentFile::open(self.storage, self.dir, segment) {
            Ok(file) => file,
            Err(Fault::Io(error)) => return Err(error),
            Err(Fault::Damage(DamageKind::Version)) => {
                // Of a newer version: left where it is, for that.
                self.damage.push(whole(DamageKind::Version));
                return Ok(None);
            }
            Err(Fault::Damage(_)) if bytes < FRAMES_START => {
                self.damage.push(whole(DamageKind::TornTail));
                let removed = self.storage.remove(&path);
                self.note("delete", &path, removed);
                return Ok(None);
            }
            Err(Fault::Damage(kind)) => {
                self.damage.push(whole(kind));
                let moved = self
                    .quarantine_dir()
                    .and_then(|dir| self.storage.rename(&path, &dir.join(file_name(segment))));
                self.note("move to quarantine", &path, moved);
                return Ok(None);
            }
        };
        let stored_bytes = bytes;
        let is_thinned = file.is_thinned();
        let mut bytes = match is_thinned {
            true => file.len()?,
            false => bytes,
        };
        if let Some(end) = end.filter(|end| *end < bytes) {
            if end <= FRAMES_START {
                let removed = self.storage.remove(&path);
                self.note("delete", &path, removed);
                return Ok(None);
            }
            // A thinned one keeps what is behind its end, and it is not read.
            if !is_thinned {
                let cut = self.storage.truncate(&path, u64::from(end));
                self.note("cut what was written again of", &path, cut);
            }
            bytes = end;
        }
        let mut info = SegmentInfo {
            segment,
            bytes: match is_thinned {
                true => stored_bytes,
                false => bytes,
            },
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
        if (end.is_none() || is_thinned)
            && let Some((index, data_end)) = file.index(&mut window)?
            && end.is_none_or(|end| end >= data_end)
        {
            info.data_end = data_end;
            info.records = index.records();
            info.samples = index.samples_from(0);
            info.timestamp_ms_max = index.timestamp_ms_max;
            return Ok(Some(info));
        }
        let found = scan(&file, bytes)?;
        for place in &found.damage {
            if is_thinned {
                // It was whole when it got its name: nothing of it is changed any more.
                self.quarantine(&file, place)?;
            } else if place.kind == DamageKind::TornTail {
                let cut = self.storage.truncate(&path, u64::from(place.from));
                self.note("cut the torn end of", &path, cut);
                info.bytes = place.from;
                info.written = place.from;
            } else if place.kind != DamageKind::Version {
                self.quarantine(&file, place)?;
            }
        }
        info.data_end = found.data_end;
        info.records = found.index.records();
        info.samples = found.index.samples();
        info.timestamp_ms_max = found.index.timestamp_ms_max();
        self.damage.extend(found.damage);
        Ok(Some(info))
    }

    /// Deletes what was to become a thinned segment, and had not yet.
    pub(super) fn remove_unfinished(&mut self) -> Result<(), ReadError> {
        let entries = self
            .storage
            .list(self.dir)
            .map_err(|source| ReadError::new("list", self.dir, source))?;
        let names = entries.iter().filter(|entry| !entry.is_dir);
        for entry in names.filter(|entry| is_thinned_name(&entry.name)) {
            let path = self.dir.join(&entry.name);
            let removed = self.storage.remove(&path);
            self.note("delete", &path, removed);
        }
        Ok(())
    }

    /// Copies a damaged place to a file of its own.
    fn quarantine(&mut self, file: &SegmentFile, place: &Damage) -> Result<(), ReadError> {
        let to = place
            .to
            .min(place.from.saturating_add(QUARANTINE_BYTES_MAX));
        let bytes = file.raw(place.from, to)?;
        let name = format!("{:020}-{:010}.bytes", place.segment, place.from);
        let path = self.dir.join(QUARANTINE_DIR).join(name);
        let copied = self
            .quarantine_dir()
            .and_then(|_| self.storage.write_at(&path, 0, &bytes));
        self.note("write", &path, copied);
        Ok(())
    }

    fn quarantine_dir(&self) -> io::Result<PathBuf> {
        let quarantine = self.dir.join(QUARANTINE_DIR);
        self.storage.create_dir_all(&quarantine)?;
        self.storage.sync_dir(self.dir)?;
        Ok(quarantine)
    }

    fn note(&mut self, verb: &'static str, path: &Path, done: io::Result<()>) {
        self.changed = true;
        if let Err(source) = done {
            self.unrepaired.push(ReadError::new(verb, path, source));
        }
    }
}
