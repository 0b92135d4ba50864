//! A directory that no process has open -> what a cut would remove, and the cut.
//!
//! Segments go whole. Of a segment that only begins before the asked time, the records before it
//! stay in the file, but the cursors are moved behind them, so that nobody is sent them.

use super::survey::Sum;
use super::walk::{RecordHead, walk};
use crate::cursor::CursorSet;
use crate::error::ReadError;
use crate::format::{CURSOR_FILE, QUARANTINE_DIR};
use crate::recovery::{read_cursors, segment_files};
use crate::scrape::Position;
use crate::segment::header::file_name;
use crate::segments::start_of;
use crate::storage::Storage;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// What a cut of one directory removes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CutPlan {
    /// Segments that go whole, and the bytes of their files.
    pub segments: Vec<(u64, u64)>,
    /// Every endpoint goes on here, or where it stands if that is later.
    pub from: Option<Position>,
    /// Everything that is cut off.
    pub removed: Sum,
    /// Of that, what each endpoint has not acknowledged: it never gets it.
    pub lost: BTreeMap<Box<str>, Sum>,
}

impl CutPlan {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.from.is_none()
    }

    fn record(&mut self, cursors: &CursorSet, head: &RecordHead) {
        self.removed.record(head);
        for endpoint in &head.route.endpoints {
            let stands = cursors.get(endpoint).map(|cursor| cursor.low_water);
            if head.position >= stands.unwrap_or_default() {
                self.lost.entry(endpoint.clone()).or_default().record(head);
            }
        }
    }
}

/// Plans to remove what was scraped before `before_ms` (milliseconds since the Unix epoch): up to
/// the first record that is not older. Reads only.
///
/// # Errors
/// A file cannot be read.
pub fn plan_before(
    storage: &dyn Storage,
    dir: &Path,
    before_ms: i64,
) -> Result<CutPlan, ReadError> {
    let cursors = read_cursors(storage, dir)?.cursors;
    let mut plan = CutPlan::default();
    for (segment, bytes) in segment_files(storage, dir)? {
        let mut first: Option<Position> = None;
        let walked = walk(storage, dir, segment, &mut |head| {
            if first.is_none() && head.timestamp_ms < before_ms {
                plan.record(&cursors, head);
            } else if first.is_none() {
                first = Some(head.position);
            }
        })?;
        let begun_ms = walked.created_ms.unwrap_or(i64::MIN);
        match first {
            Some(position) => {
                if !plan.removed.eq(&Sum::default()) {
                    plan.from = Some(position);
                }
                return Ok(plan);
            }
            // Without records: as old as it was begun. One that nobody can read is as old as what
            // stands around it.
            None if plan.removed == Sum::default() && begun_ms >= before_ms => return Ok(plan),
            None => {
                plan.segments.push((segment, bytes));
                plan.from = Some(start_of(segment + 1));
            }
        }
    }
    Ok(plan)
}

/// Plans to remove one segment, read or not. Reads only.
///
/// # Errors
/// The directory cannot be read, or has no such segment (`NotFound`).
pub fn plan_segment(storage: &dyn Storage, dir: &Path, segment: u64) -> Result<CutPlan, ReadError> {
    let path = dir.join(file_name(segment));
    let files = segment_files(storage, dir)?;
    let Some(file) = files.into_iter().find(|(number, _)| *number == segment) else {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(ReadError::new("open", &path, source));
    };
    let cursors = read_cursors(storage, dir)?.cursors;
    let mut plan = CutPlan {
        segments: vec![file],
        ..CutPlan::default()
    };
    walk(storage, dir, segment, &mut |head| {
        plan.record(&cursors, head)
    })?;
    Ok(plan)
}

/// Does what was planned: first the cursors, then the files, so that what a crash leaves is a
/// smaller cut. The files go for good; with `keep` they are moved to `quarantine/`.
///
/// # Errors
/// A file cannot be changed. Calling it again goes on.
pub fn apply(
    storage: &dyn Storage,
    dir: &Path,
    plan: &CutPlan,
    keep: bool,
) -> Result<(), ReadError> {
    if let Some(from) = plan.from {
        move_cursors(storage, dir, plan, from)?;
    }
    let quarantine = dir.join(QUARANTINE_DIR);
    if keep && !plan.segments.is_empty() {
        storage
            .create_dir_all(&quarantine)
            .map_err(|source| ReadError::new("create", &quarantine, source))?;
    }
    for (segment, _) in &plan.segments {
        let name = file_name(*segment);
        let path = dir.join(&name);
        let done = match keep {
            true => storage.rename(&path, &quarantine.join(&name)),
            false => storage.remove(&path),
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ReadError::new("remove", &path, error));
            }
            _ => {}
        }
    }
    storage
        .sync_dir(dir)
        .map_err(|source| ReadError::new("sync", dir, source))
}

fn move_cursors(
    storage: &dyn Storage,
    dir: &Path,
    plan: &CutPlan,
    from: Position,
) -> Result<(), ReadError> {
    let mut cursors = read_cursors(storage, dir)?.cursors;
    // One without a cursor would begin at the oldest record that is left in the file.
    for endpoint in plan.lost.keys() {
        cursors.add_unless_known(endpoint, from);
    }
    let endpoints: Vec<Box<str>> = cursors.iter().map(|one| one.endpoint.clone()).collect();
    for endpoint in &endpoints {
        cursors.advance(endpoint, from, from);
    }
    if !cursors.dirty() {
        return Ok(());
    }
    let path = dir.join(CURSOR_FILE);
    let too_many = || io::Error::other("too many endpoints for the largest slot");
    let slot = cursors
        .encode()
        .ok_or_else(|| ReadError::new("write", &path, too_many()))?;
    storage
        .write_at(&path, slot.offset, &slot.bytes)
        .map_err(|source| ReadError::new("write", &path, source))
}
