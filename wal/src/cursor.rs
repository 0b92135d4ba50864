//! Where each endpoint stands in a shard's log <-> a file of two alternating checksummed slots.

use crate::format::{CURSOR_MAGIC, CURSOR_SLOT_BYTES, VERSION};
use crate::scrape::Position;

/// Bytes of a slot before its cursors.
const SLOT_HEADER_BYTES: usize = 32;

/// Where one endpoint stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Endpoint identity, as in `Route::endpoints`.
    pub endpoint: Box<str>,
    /// Everything before it is acknowledged (or not for this endpoint).
    pub low_water: Position,
    /// End of the latest record ever put in a request. After a start, what lies between
    /// `low_water` and this may have arrived already.
    pub highest_sent: Position,
    /// When the endpoint left the configuration (milliseconds since the Unix epoch).
    pub removed_at_ms: Option<i64>,
}

/// All cursors of a shard, sorted by endpoint.
#[derive(Debug, Clone, Default)]
pub struct CursorSet {
    cursors: Vec<Cursor>,
    /// Counts changes since the start.
    changes: u64,
    saved_changes: u64,
    /// Of the slot written last.
    generation: u64,
    configured: bool,
    /// Removed endpoints that hold nothing back; not saved.
    let_go: std::collections::BTreeSet<Box<str>>,
}

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
    /// The cursor of an endpoint.
    pub fn get(&self, endpoint: &str) -> Option<&Cursor> {
        self.find(endpoint).ok().map(|i| &self.cursors[i])
    }

    /// All, sorted by endpoint.
    pub fn iter(&self) -> impl Iterator<Item = &Cursor> {
        self.cursors.iter()
    }

    /// The endpoint is configured: it gets a cursor at `start` unless it has one (then that one is
    /// no longer marked as removed). Returns where it stands.
    pub fn add(&mut self, endpoint: &str, start: Position) -> &Cursor {
        let index = match self.find(endpoint) {
            Ok(index) => {
                if self.cursors[index].removed_at_ms.take().is_some() {
                    self.let_go.remove(endpoint);
                    self.changes += 1;
                }
                index
            }
            Err(index) => {
                let cursor = Cursor {
                    endpoint: endpoint.into(),
                    low_water: start,
                    highest_sent: start,
                    removed_at_ms: None,
                };
                self.cursors.insert(index, cursor);
                self.changes += 1;
                index
            }
        };
        &self.cursors[index]
    }

    /// Moves an endpoint's marks forward; neither ever goes back.
    pub fn advance(&mut self, endpoint: &str, low_water: Position, highest_sent: Position) {
        if let Ok(index) = self.find(endpoint) {
            let cursor = &mut self.cursors[index];
            if low_water > cursor.low_water || highest_sent > cursor.highest_sent {
                cursor.low_water = cursor.low_water.max(low_water);
                cursor.highest_sent = cursor.highest_sent.max(highest_sent);
                self.changes += 1;
            }
        }
    }

    /// The endpoint left the configuration at `now_ms`; its cursor is kept until `expire`.
    pub fn remove(&mut self, endpoint: &str, now_ms: i64) {
        if let Ok(index) = self.find(endpoint)
            && self.cursors[index].removed_at_ms.is_none()
        {
            self.cursors[index].removed_at_ms = Some(now_ms);
            self.changes += 1;
        }
    }

    /// Forgets the cursors of endpoints that were removed `keep_ms` or longer ago; gives their
    /// identities.
    pub fn expire(&mut self, now_ms: i64, keep_ms: i64) -> Vec<Box<str>> {
        let mut gone = Vec::new();
        self.cursors.retain(|cursor| {
            let old = cursor
                .removed_at_ms
                .is_some_and(|at| now_ms.saturating_sub(at) >= keep_ms);
            if old {
                gone.push(cursor.endpoint.clone());
            }
            !old
        });
        self.changes += u64::from(!gone.is_empty());
        gone
    }

    /// These endpoints, and no others, are configured: new ones begin at `start` (the log's
    /// `begin()`), those that came back go on where they stood, the others count as removed at
    /// `now_ms`. Before the first call
    /// `low_water` is `None`, so nothing is deleted.
    pub fn configure<'a>(
        &mut self,
        endpoints: impl IntoIterator<Item = &'a str>,
        start: Position,
        now_ms: i64,
    ) {
        let mut configured: Vec<&str> = endpoints.into_iter().collect();
        configured.sort_unstable();
        for endpoint in &configured {
            self.add(endpoint, start);
        }
        for cursor in &mut self.cursors {
            if cursor.removed_at_ms.is_none()
                && configured.binary_search(&&*cursor.endpoint).is_err()
            {
                cursor.removed_at_ms = Some(now_ms);
                self.changes += 1;
            }
        }
        self.configured = true;
    }

    /// The endpoint left the configuration and had acknowledged everything: it holds nothing back
    /// any more. After a restart this is forgotten, and its cursor holds back what came since until
    /// `expire`.
    pub fn let_go(&mut self, endpoint: &str) {
        self.let_go.insert(endpoint.into());
    }

    /// The slowest mark: everything before it may be deleted. `end` (of the log) without cursors;
    /// `None` until `configure` was called.
    pub fn low_water(&self, end: Position) -> Option<Position> {
        let holds = |cursor: &&Cursor| {
            cursor.removed_at_ms.is_none() || !self.let_go.contains(&cursor.endpoint)
        };
        let holding = self.cursors.iter().filter(holds);
        let slowest = holding.map(|cursor| cursor.low_water).min();
        self.configured.then(|| slowest.unwrap_or(end))
    }

    /// True if something changed since what `saved` was last called with.
    pub fn dirty(&self) -> bool {
        self.changes != self.saved_changes
    }

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

    /// The highest segment that a cursor names.
    pub fn segment_max(&self) -> Option<u64> {
        self.cursors
            .iter()
            .map(|cursor| cursor.low_water.segment.max(cursor.highest_sent.segment))
            .max()
    }

    /// Takes in the cursors read from disk, but for endpoints that have one.
    pub(crate) fn adopt(&mut self, found: CursorSet) {
        self.generation = self.generation.max(found.generation);
        for cursor in found.cursors {
            if let Err(index) = self.find(&cursor.endpoint) {
                self.cursors.insert(index, cursor);
            }
        }
    }

    fn find(&self, endpoint: &str) -> Result<usize, usize> {
        self.cursors
            .binary_search_by(|cursor| cursor.endpoint.as_ref().cmp(endpoint))
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

    fn at(segment: u64, offset: u32) -> Position {
        Position { segment, offset }
    }

    /// A file after some saves, the state of the last, and the state before it.
    fn file() -> (Vec<u8>, CursorSet, CursorSet) {
        let mut set = CursorSet::default();
        let mut bytes = vec![0; 2 * CURSOR_SLOT_BYTES];
        set.add("b", at(1, 0));
        let mut before = set.clone();
        for step in 1..5 {
            before = set.clone();
            set.add("a", at(2, 128));
            set.advance("b", at(step, 16), at(step + 1, 32));
            if step == 4 {
                set.remove("a", 77);
            }
            let slot = set.encode().unwrap();
            bytes[slot.offset as usize..][..slot.bytes.len()].copy_from_slice(&slot.bytes);
            set.saved(&slot);
        }
        (bytes, set, before)
    }

    #[test]
    fn an_endpoint_that_had_everything_holds_nothing_back() {
        let mut set = CursorSet::default();
        set.configure(["a", "b"], at(1, 0), 0);
        set.advance("b", at(9, 0), at(9, 0));
        set.configure(["b"], at(1, 0), 5);
        assert_eq!(set.low_water(at(9, 9)), Some(at(1, 0)));
        set.let_go("a");
        assert_eq!(set.low_water(at(9, 9)), Some(at(9, 0)));
        // It comes back, and leaves without having everything.
        set.configure(["a", "b"], at(1, 0), 6);
        assert_eq!(set.low_water(at(9, 9)), Some(at(1, 0)));
        set.configure(["b"], at(1, 0), 7);
        assert_eq!(set.low_water(at(9, 9)), Some(at(1, 0)));
    }

    fn cursors(set: &CursorSet) -> Vec<Cursor> {
        set.iter().cloned().collect()
    }

    #[test]
    fn the_newest_slot_is_read() {
        let (bytes, last, _) = file();
        let read = decode(&bytes);
        assert_eq!(cursors(&read.cursors), cursors(&last));
        assert_eq!(read.cursors.generation, 4);
        assert_eq!(read.slots_damaged, 0);
        assert!(!read.cursors.dirty());
    }

    #[test]
    fn damage_to_one_slot_leaves_the_other() {
        let (bytes, last, before) = file();
        let used = last.encode().unwrap().bytes.len();
        // Generation 4 is in the first slot, 3 in the second.
        for at in 0..used {
            let mut newest = bytes.clone();
            newest[at] ^= 0x10;
            let read = decode(&newest);
            if (28..32).contains(&at) {
                // Checked too.
                assert_eq!(read.slots_damaged, 1);
            }
            assert_eq!(cursors(&read.cursors), cursors(&before), "byte {at}");
            assert_eq!(read.slots_damaged, 1);
            let mut older = bytes.clone();
            older[CURSOR_SLOT_BYTES + at] ^= 0x10;
            assert_eq!(
                cursors(&decode(&older).cursors),
                cursors(&last),
                "byte {at}"
            );
        }
        let mut both = bytes;
        both[20] ^= 1;
        both[CURSOR_SLOT_BYTES + 20] ^= 1;
        assert_eq!(decode(&both).slots_damaged, 2);
        assert_eq!(decode(&both).cursors.iter().count(), 0);
    }

    #[test]
    fn a_torn_slot_and_any_length_never_panic() {
        let (bytes, _, before) = file();
        for len in 0..300 {
            let mut torn = bytes.clone();
            torn[len..CURSOR_SLOT_BYTES].fill(0);
            let read = decode(&torn);
            assert!(read.slots_damaged <= 1);
            if read.slots_damaged == 1 {
                assert_eq!(cursors(&read.cursors), cursors(&before));
            }
            let _ = decode(&bytes[..len]);
        }
    }

    #[test]
    fn a_failed_save_does_not_touch_the_good_slot() {
        let (_, mut set, _) = file();
        set.advance("b", at(9, 0), at(9, 0));
        let first = set.encode().unwrap();
        let second = set.encode().unwrap();
        assert_eq!(first.offset, second.offset);
        assert!(set.dirty());
        set.advance("b", at(10, 0), at(10, 0));
        set.saved(&first);
        assert!(set.dirty(), "changed after it was encoded");
        assert_ne!(set.encode().unwrap().offset, first.offset);
    }

    #[test]
    fn marks_only_rise_and_removed_cursors_expire() {
        let mut set = CursorSet::default();
        set.add("a", at(3, 10));
        set.advance("a", at(2, 0), at(5, 0));
        assert_eq!(set.get("a").unwrap().low_water, at(3, 10));
        assert_eq!(set.get("a").unwrap().highest_sent, at(5, 0));
        assert_eq!(set.low_water(at(9, 9)), None, "not configured");
        set.configure(["a"], at(4, 0), 0);
        assert_eq!(set.low_water(at(9, 9)), Some(at(3, 10)));
        set.configure(["b"], at(4, 0), 100);
        assert_eq!(set.get("a").unwrap().removed_at_ms, Some(100));
        assert_eq!(set.low_water(at(9, 9)), Some(at(3, 10)), "kept for a while");
        assert_eq!(set.expire(200, 100), ["a".into()]);
        assert_eq!(set.low_water(at(9, 9)), Some(at(4, 0)));
        set.configure([], at(4, 0), 200);
        assert_eq!(set.expire(300, 100), ["b".into()]);
        assert_eq!(
            set.low_water(at(9, 9)),
            Some(at(9, 9)),
            "nobody to wait for"
        );
        set.add("a", at(3, 10));
        set.remove("a", 100);
        assert!(set.expire(199, 100).is_empty());
        assert_eq!(set.add("a", at(9, 9)).low_water, at(3, 10), "came back");
        set.remove("a", 100);
        assert_eq!(set.expire(200, 100), ["a".into()]);
    }
}
