//! One segment file -> its records without their values, in order, and what is damaged.

use crate::definition::{Route, Target};
use crate::error::{Damage, DamageKind, ReadError};
use crate::scrape::Position;
use crate::segment::file::{Fault, SegmentFile};
use crate::segment::load::Loader;
use crate::segment::scan::scan_each;
use crate::storage::Storage;
use std::path::Path;
use std::sync::Arc;

/// What is kept of definitions (bytes).
const CACHE_BYTES: usize = 16 << 20;

/// A record without its values.
#[derive(Debug, Clone)]
pub struct RecordHead {
    /// Where it begins.
    pub position: Position,
    /// Where it ends.
    pub end: Position,
    /// Of the scrape, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Values.
    pub values: u32,
    /// Values and staleness markers.
    pub samples: u32,
    /// Bytes of its frame.
    pub bytes: u32,
    /// The scraped target.
    pub target: Arc<Target>,
    /// Which endpoints get it.
    pub route: Arc<Route>,
}

/// What a walk through a segment found beside the records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walked {
    /// Size of the file when it was opened (bytes); more may have been written since.
    pub bytes: u64,
    /// End of the last sound frame before an index, a trailer or a torn tail (bytes).
    pub data_end: u32,
    /// When it was begun, milliseconds since the Unix epoch; `None` without a sound header.
    pub created_ms: Option<i64>,
    /// Whether it ends with an index, as segments do that were closed in order.
    pub closed: bool,
    /// Places that cannot be read.
    pub damage: Vec<Damage>,
}

/// Reads all frames of a segment, with their checksums, and shows each record; values are not
/// decoded. Changes nothing, and reads only what is there at the beginning of the walk.
///
/// # Errors
/// The file cannot be opened or read. One that is gone is `NotFound`: a running process deletes
/// what is acknowledged.
pub fn walk(
    storage: &dyn Storage,
    dir: &Path,
    segment: u64,
    each: &mut dyn FnMut(&RecordHead),
) -> Result<Walked, ReadError> {
    let file = match SegmentFile::open(storage, dir, segment) {
        Ok(file) => file,
        Err(Fault::Io(error)) => return Err(error),
        Err(Fault::Damage(kind)) => return unreadable(storage, dir, segment, kind),
    };
    let len = file.len()?;
    let mut loader = Loader::new(CACHE_BYTES);
    let mut references = Vec::new();
    let at = |offset| Position { segment, offset };
    let found = scan_each(&file, len, &mut |offset, end, record| {
        let summary = record.summary();
        let loaded = loader
            .target(&file, summary.references.target, len)
            .and_then(|target| Ok((target, loader.route(&file, summary.references.route, len)?)));
        match loaded {
            Ok((target, route)) => each(&RecordHead {
                position: at(offset),
                end: at(end),
                timestamp_ms: summary.timestamp_ms,
                values: record.values.to_native(),
                samples: summary.samples,
                bytes: end - offset,
                target,
                route,
            }),
            Err(Fault::Io(error)) => return Err(error),
            Err(Fault::Damage(_)) => references.push(Damage {
                segment,
                from: offset,
                to: end,
                kind: DamageKind::Reference,
            }),
        }
        Ok(())
    })?;
    let mut damage = found.damage;
    damage.append(&mut references);
    damage.sort_by_key(|place| place.from);
    Ok(Walked {
        bytes: file.stored_bytes()?,
        data_end: found.data_end,
        created_ms: Some(file.header.created_ms),
        closed: found.closed,
        damage,
    })
}

fn unreadable(
    storage: &dyn Storage,
    dir: &Path,
    segment: u64,
    kind: DamageKind,
) -> Result<Walked, ReadError> {
    let path = dir.join(crate::segment::header::file_name(segment));
    let bytes = storage
        .open(&path)
        .and_then(|file| file.len())
        .map_err(|source| ReadError::new("open", &path, source))?;
    Ok(Walked {
        bytes,
        damage: vec![Damage {
            segment,
            from: 0,
            to: u32::try_from(bytes).unwrap_or(u32::MAX),
            kind,
        }],
        ..Walked::default()
    })
}
