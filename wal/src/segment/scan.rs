//! A segment without a sound index -> its index, rebuilt frame by frame, and what is damaged.

use super::file::{Fault, SegmentFile, Window};
use super::index::IndexBuilder;
use crate::codec::archive::ArchivedRecordDisk;
use crate::codec::record::access_record;
use crate::error::{Damage, DamageKind, ReadError};
use crate::format::{FRAMES_START, Kind};

/// How much to read at once (bytes).
const AHEAD_BYTES: usize = 1 << 20;

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) index: IndexBuilder,
    /// End of the last sound frame before an index, a trailer or a torn tail.
    pub(crate) data_end: u32,
    pub(crate) damage: Vec<Damage>,
    /// An index or a trailer follows the records.
    pub(crate) closed: bool,
}

/// Reads every frame header and checksum before `limit`.
pub(crate) fn scan(file: &SegmentFile, limit: u32) -> Result<Scan, ReadError> {
    scan_each(file, limit, &mut |_, _, _| Ok(()))
}

/// Same, and shows every sound record with its begin and end.
pub(crate) fn scan_each(
    file: &SegmentFile,
    limit: u32,
    each: &mut dyn FnMut(u32, u32, &ArchivedRecordDisk) -> Result<(), ReadError>,
) -> Result<Scan, ReadError> {
    let segment = file.header.segment;
    let mut window = Window::new(AHEAD_BYTES);
    let mut found = Scan {
        index: IndexBuilder::new(),
        data_end: FRAMES_START,
        damage: Vec::new(),
        closed: false,
    };
    let mut offset = FRAMES_START;
    loop {
        offset = file.stored_from(offset);
        if offset >= limit {
            break;
        }
        let damaged = match file.frame(&mut window, offset, limit) {
            Ok((header, payload)) => {
                let end = offset + header.frame_bytes();
                match header.kind {
                    Kind::Index | Kind::Trailer => {
                        found.closed = true;
                        break;
                    }
                    Kind::Record => match access_record(payload) {
                        Ok(record) => {
                            found.index.record(offset, &record.summary());
                            each(offset, end, record)?;
                        }
                        Err(kind) => found.damage.push(Damage {
                            segment,
                            from: offset,
                            to: end,
                            kind,
                        }),
                    },
                    kind => found.index.definition(kind, offset),
                }
                offset = end;
                found.data_end = end;
                continue;
            }
            Err(Fault::Io(error)) => return Err(error),
            Err(Fault::Damage(kind)) => kind,
        };
        let next = match damaged {
            DamageKind::Version => match file.header_at(&mut window, offset, limit) {
                Ok(header) => header.map(|header| offset.saturating_add(header.frame_bytes())),
                Err(Fault::Io(error)) => return Err(error),
                Err(Fault::Damage(_)) => None,
            },
            _ => file.find_frame(&mut window, offset + 16, limit)?,
        };
        found.damage.push(Damage {
            segment,
            from: offset,
            to: next.unwrap_or(limit),
            kind: match next {
                Some(_) => damaged,
                None => DamageKind::TornTail,
            },
        });
        match next {
            Some(next) => {
                offset = next;
                found.data_end = next;
            }
            None => break,
        }
    }
    Ok(found)
}
