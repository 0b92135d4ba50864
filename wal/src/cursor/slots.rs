//! Cursors <-> a file of two alternating checksummed slots.

use super::{Cursor, CursorSet};
use crate::format::{CURSOR_MAGIC, CURSOR_SLOT_BYTES, CURSOR_SLOT_DOUBLINGS_MAX, VERSION};
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
    doublings: u32,
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
    /// The slot to write now: not where the newest saved state is, so that a torn write costs
    /// nothing. Slots grow with what they hold, and stay as large. `None` if the largest one cannot
    /// hold it (hundreds of thousands of endpoints).
    pub fn encode(&mut self) -> Option<SlotWrite> {
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
        let doublings = doublings_for(bytes.len())?;
        // A failed save may be on disk all the same: none after it goes to a place that a reader
        // would take for an older one.
        self.doublings = self.doublings.max(doublings);
        let mut generation = self.generation + 1;
        if self.doublings > self.saved_doublings && generation.is_multiple_of(2) {
            // The first slot would reach over the place of the second one, which is the newest.
            generation += 1;
        }
        let len = (bytes.len() - SLOT_HEADER_BYTES) as u32;
        bytes[0..8].copy_from_slice(&CURSOR_MAGIC);
        bytes[8..12].copy_from_slice(&u32::from(VERSION).to_le_bytes());
        bytes[12..16].copy_from_slice(&len.to_le_bytes());
        bytes[16..24].copy_from_slice(&generation.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.doublings.to_le_bytes());
        let crc = slot_crc(&bytes);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        Some(SlotWrite {
            offset: (generation % 2) * slot_bytes(self.doublings) as u64,
            bytes,
            generation,
            doublings: self.doublings,
            changes: self.changes,
        })
    }

    /// The slot is on disk. After a failed write do not call it: the next `encode` then gives the
    /// same slot again, and the other one stays good.
    pub fn saved(&mut self, slot: &SlotWrite) {
        self.generation = slot.generation;
        self.saved_doublings = slot.doublings;
        self.saved_changes = slot.changes;
    }
}

/// Size of slots that were doubled so often.
fn slot_bytes(doublings: u32) -> usize {
    CURSOR_SLOT_BYTES << doublings
}

/// How often slots must be doubled to hold so many bytes; `None`: more often than they can be.
fn doublings_for(bytes: usize) -> Option<u32> {
    (0..=CURSOR_SLOT_DOUBLINGS_MAX).find(|doublings| bytes <= slot_bytes(*doublings))
}

/// Reads a cursor file: the newest sound slot. The first one is where the file begins, the second
/// one where its own size says; what is left of smaller ones is older.
pub fn decode(bytes: &[u8]) -> CursorFile {
    let mut cursors = decode_slot(bytes);
    let mut slots_damaged = u32::from(cursors.is_none() && !is_unused(bytes));
    for doublings in 0..=CURSOR_SLOT_DOUBLINGS_MAX {
        let Some(slot) = bytes.get(slot_bytes(doublings)..) else {
            break;
        };
        let second = decode_slot(slot).filter(|second| second.doublings == doublings);
        let newest = cursors.as_ref().map(|newest| newest.generation);
        if second.as_ref().map(|second| second.generation) > newest {
            cursors = second;
        }
    }
    let cursors = cursors.unwrap_or_default();
    let second = bytes
        .get(slot_bytes(cursors.doublings)..)
        .unwrap_or_default();
    slots_damaged += u32::from(decode_slot(second).is_none() && !is_unused(second));
    CursorFile {
        cursors,
        slots_damaged,
    }
}

/// A slot that was never written is empty, or a hole before the second one.
fn is_unused(slot: &[u8]) -> bool {
    let slot = &slot[..slot.len().min(CURSOR_SLOT_BYTES)];
    slot.iter().all(|byte| *byte == 0)
}

fn decode_slot(slot: &[u8]) -> Option<CursorSet> {
    let mut rest = slot;
    let header: [u8; SLOT_HEADER_BYTES] = take(&mut rest)?;
    let mut fields = &header[8..];
    let version = u32::from_le_bytes(take(&mut fields)?);
    let len = u32::from_le_bytes(take(&mut fields)?) as usize;
    let generation = u64::from_le_bytes(take(&mut fields)?);
    let crc = u32::from_le_bytes(take(&mut fields)?);
    let doublings = u32::from_le_bytes(take(&mut fields)?);
    let whole = slot.get(..SLOT_HEADER_BYTES.checked_add(len)?)?;
    if header[..8] != CURSOR_MAGIC
        || version != u32::from(VERSION)
        || doublings > CURSOR_SLOT_DOUBLINGS_MAX
        || slot_crc(whole) != crc
    {
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
        saved_doublings: doublings,
        doublings,
        failed_saves: 0,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints whose cursors take some 150 kB each.
    fn grow(set: &mut CursorSet, endpoints: usize) {
        let long = "x".repeat(150_000);
        for index in set.iter().count()..endpoints {
            set.add(&format!("{index:03}{long}"), Position::default());
        }
    }

    fn write(file: &mut Vec<u8>, slot: &SlotWrite, bytes: usize) {
        let offset = slot.offset as usize;
        file.resize(file.len().max(offset + bytes), 0);
        file[offset..offset + bytes].copy_from_slice(&slot.bytes[..bytes]);
    }

    fn state(set: &CursorSet) -> Vec<Cursor> {
        set.iter().cloned().collect()
    }

    /// Whatever of a save is on disk, a start finds the state of that save or of the one before,
    /// with slots that grow from every generation on, more than once, and shrink never.
    #[test]
    fn slots_grow_and_a_torn_save_costs_nothing() {
        for small_saves in 0..4 {
            let (mut set, mut file) = (CursorSet::default(), Vec::new());
            let mut endpoints = vec![1; small_saves];
            endpoints.extend([8, 9, 9, 9, 20, 20, 1, 21]);
            for (step, endpoints) in endpoints.into_iter().enumerate() {
                let before = state(&decode(&file).cursors);
                match endpoints {
                    1 => {
                        set.configure(["000"], Position::default(), 0);
                        set.expire(10, 5);
                    }
                    _ => grow(&mut set, endpoints),
                }
                let at = Position {
                    segment: step as u64 + 1,
                    offset: 0,
                };
                let names: Vec<Box<str>> = set.iter().map(|one| one.endpoint.clone()).collect();
                for name in &names {
                    set.advance(name, at, at);
                }
                let slot = set.encode().expect("it fits");
                assert_eq!(
                    set.encode().as_ref(),
                    Some(&slot),
                    "the same after a failure"
                );
                // What is behind the last rising number is what stood there before.
                let last = slot.bytes.len() - 22;
                for part in [1, 20, 40, slot.bytes.len() / 2, last] {
                    let mut torn = file.clone();
                    write(&mut torn, &slot, part);
                    let read = decode(&torn);
                    assert_eq!(state(&read.cursors), before, "step {step}, {part} bytes");
                    // The next start goes on from there, and saves a state that is then found.
                    let mut next = read.cursors;
                    grow(&mut next, endpoints);
                    let again = next.encode().expect("it fits");
                    write(&mut torn, &again, again.bytes.len());
                    assert_eq!(state(&decode(&torn).cursors), state(&next), "step {step}");
                }
                write(&mut file, &slot, slot.bytes.len());
                set.saved(&slot);
                let read = decode(&file);
                assert_eq!(state(&read.cursors), state(&set), "step {step}");
                assert_eq!(read.slots_damaged, 0, "step {step}");
            }
        }
    }

    /// A save that grows the slots reports failure but is on disk; then there are few endpoints.
    #[test]
    fn a_larger_slot_that_was_not_known_to_be_saved_is_not_found_again() {
        for small_saves in 1..4 {
            let (mut set, mut file) = (CursorSet::default(), Vec::new());
            for step in 0..small_saves {
                set.add(&format!("{step}"), Position::default());
                let slot = set.encode().expect("it fits");
                write(&mut file, &slot, slot.bytes.len());
                set.saved(&slot);
            }
            grow(&mut set, 20);
            let failed = set.encode().expect("it fits");
            write(&mut file, &failed, failed.bytes.len());
            set.configure(["0"], Position::default(), 0);
            set.expire(10, 5);
            let slot = set.encode().expect("it fits");
            write(&mut file, &slot, slot.bytes.len());
            assert_eq!(state(&decode(&file).cursors), state(&set));
        }
    }

    #[test]
    fn more_than_the_largest_slot_holds_is_refused() {
        assert_eq!(doublings_for(CURSOR_SLOT_BYTES), Some(0));
        assert_eq!(doublings_for(CURSOR_SLOT_BYTES + 1), Some(1));
        let largest = slot_bytes(CURSOR_SLOT_DOUBLINGS_MAX);
        assert_eq!(doublings_for(largest), Some(CURSOR_SLOT_DOUBLINGS_MAX));
        assert_eq!(doublings_for(largest + 1), None);
    }
}
