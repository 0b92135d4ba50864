//! Cursors <-> a file of two alternating checksummed slots.

use super::{Cursor, CursorSet};
use crate::format::{CURSOR_MAGIC, CURSOR_SLOT_BYTES, VERSION};
use crate::moved::Moved;
use crate::scrape::Position;

/// Bytes of a slot before its cursors.
const SLOT_HEADER_BYTES: usize = 32;

/// One slot to write to the cursor file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotWrite {
    /// Where in the file.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
    generation: u64,
    changes: u64,
}

/// What a cursor file holds.
#[derive(Debug, Clone, Default)]
pub struct CursorFile {
    /// The cursors of the newest sound slot; empty if there is none.
    pub cursors: CursorSet,
    /// Slots that hold something that cannot be read (0 to 2).
    pub slots_damaged: u32,
}

impl CursorSet {
    /// The slot to write now: not the one that holds the newest saved state, so that a torn write
    /// costs nothing. `None` if it does not fit (thousands of endpoints with long identities).
    pub fn encode(&self) -> Option<SlotWrite> {
        let generation = self.generation + 1;
        let mut bytes = vec![0u8; SLOT_HEADER_BYTES];
        bytes.extend_from_slice(&(self.cursors.len() as u32).to_le_bytes());
        for cursor in &self.cursors {
            bytes.extend_from_slice(&u32::try_from(cursor.endpoint.len()).ok()?.to_le_bytes());
            bytes.extend_from_slice(cursor.endpoint.as_bytes());
            for position in [cursor.low_water, cursor.highest_sent] {
                bytes.extend_from_slice(&position.segment.to_le_bytes());
                bytes.extend_from_slice(&position.offset.to_le_bytes());
            }
            bytes.push(u8::from(cursor.removed_at_ms.is_some()));
            bytes.extend_from_slice(&cursor.removed_at_ms.unwrap_or(0).to_le_bytes());
        }
        if bytes.len() > CURSOR_SLOT_BYTES {
            return None;
        }
        let len = (bytes.len() - SLOT_HEADER_BYTES) as u32;
        bytes[0..8].copy_from_slice(&CURSOR_MAGIC);
        bytes[8..12].copy_from_slice(&u32::from(VERSION).to_le_bytes());
        bytes[12..16].copy_from_slice(&len.to_le_bytes());
        bytes[16..24].copy_from_slice(&generation.to_le_bytes());
        let crc = slot_crc(&bytes);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        Some(SlotWrite {
            offset: (generation % 2) * CURSOR_SLOT_BYTES as u64,
            bytes,
            generation,
            changes: self.changes,
        })
    }

    /// The slot is on disk. After a failed write do not call it: the next `encode` then gives the
    /// same slot again, and the other one stays good.
    pub fn saved(&mut self, slot: &SlotWrite) {
        self.generation = slot.generation;
        self.saved_changes = slot.changes;
    }
}

/// Reads a cursor file: the newest sound slot of two.
pub fn decode(bytes: &[u8]) -> CursorFile {
    let mut file = CursorFile::default();
    for start in [0, CURSOR_SLOT_BYTES] {
        let slot = bytes.get(start..).unwrap_or_default();
        let slot = &slot[..slot.len().min(CURSOR_SLOT_BYTES)];
        match decode_slot(slot) {
            Some(cursors) if cursors.generation >= file.cursors.generation => {
                file.cursors = cursors;
            }
            Some(_) => {}
            // A slot that was never written is empty, or a hole before the second one.
            None if slot.iter().all(|byte| *byte == 0) => {}
            None => file.slots_damaged += 1,
        }
    }
    file
}

fn decode_slot(slot: &[u8]) -> Option<CursorSet> {
    let mut rest = slot;
    let header: [u8; SLOT_HEADER_BYTES] = take(&mut rest)?;
    let mut fields = &header[8..];
    let version = u32::from_le_bytes(take(&mut fields)?);
    let len = u32::from_le_bytes(take(&mut fields)?) as usize;
    let generation = u64::from_le_bytes(take(&mut fields)?);
    let crc = u32::from_le_bytes(take(&mut fields)?);
    let whole = slot.get(..SLOT_HEADER_BYTES.checked_add(len)?)?;
    if header[..8] != CURSOR_MAGIC || version != u32::from(VERSION) || slot_crc(whole) != crc {
        return None;
    }
    rest = &whole[SLOT_HEADER_BYTES..];
    let count = u32::from_le_bytes(take(&mut rest)?);
    let mut cursors: Vec<Cursor> = Vec::new();
    for _ in 0..count {
        let len = u32::from_le_bytes(take(&mut rest)?) as usize;
        let (endpoint, after) = rest.split_at_checked(len)?;
        rest = after;
        let low_water = take_position(&mut rest)?;
        let highest_sent = take_position(&mut rest)?;
        let [removed] = take(&mut rest)?;
        let removed_at_ms = i64::from_le_bytes(take(&mut rest)?);
        cursors.push(Cursor {
            endpoint: std::str::from_utf8(endpoint).ok()?.into(),
            low_water,
            highest_sent,
            removed_at_ms: (removed != 0).then_some(removed_at_ms),
        });
    }
    if !cursors
        .windows(2)
        .all(|pair| pair[0].endpoint < pair[1].endpoint)
    {
        return None;
    }
    Some(CursorSet {
        cursors,
        changes: 0,
        saved_changes: 0,
        generation,
        configured: false,
        let_go: Default::default(),
        moved: Moved::default(),
    })
}

fn take_position(rest: &mut &[u8]) -> Option<Position> {
    Some(Position {
        segment: u64::from_le_bytes(take(rest)?),
        offset: u32::from_le_bytes(take(rest)?),
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

/// CRC-32C over a slot without the checksum itself.
fn slot_crc(slot: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&slot[..24]);
    crc32c::crc32c_append(crc, &slot[28..])
}
