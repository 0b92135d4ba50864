//! Where each endpoint stands in a shard's log <-> a file of two alternating checksummed slots.

use crate::format::{CURSOR_MAGIC, CURSOR_SLOT_BYTES, VERSION};
use crate::moved::{Move, Moved};
use crate::scrape::Position;

/// Begins the identity of an entry that is no cursor, but a mark of the endpoint that follows.
/// Without a second one: until its `low_water` the endpoint gets every record, whatever its route.
/// With a second one: what follows that is an identity that the endpoint had before.
const MARK: char = '\0';
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
    /// Where places are now that senders may name still.
    moved: Moved,
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
        self.cursors.iter().filter(|cursor| !is_mark(cursor))
    }

    /// Those that hold segments back.
    pub fn holding(&self) -> impl Iterator<Item = &Cursor> {
        self.iter().filter(|cursor| {
            cursor.removed_at_ms.is_none() || !self.let_go.contains(&cursor.endpoint)
        })
    }

    /// An endpoint has another identity now: what it stands at goes over, and it is remembered that
    /// records for the former identity are for it. False if there is no cursor of the former one,
    /// or one of the new one already.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let (Ok(index), Err(_)) = (self.find(from), self.find(to)) else {
            return false;
        };
        let cursor = Cursor {
            endpoint: to.into(),
            removed_at_ms: None,
            ..self.cursors.remove(index)
        };
        self.let_go.remove(from);
        let until = self.backfill_until(from);
        let mut former = self.former(from);
        former.push(from.into());
        self.end_marks(from);
        if let Some(until) = until {
            self.begin_backfill(to, until);
        }
        for former in former {
            self.add(&format!("{MARK}{to}{MARK}{former}"), Position::default());
        }
        let index = self.find(to).unwrap_or_else(|index| index);
        self.cursors.insert(index, cursor);
        self.changes += 1;
        true
    }

    /// Identities that an endpoint had before, as far as `rename` was told.
    pub fn former(&self, endpoint: &str) -> Vec<Box<str>> {
        let prefix = format!("{MARK}{endpoint}{MARK}");
        let marks = self.cursors.iter().map(|mark| &*mark.endpoint);
        let former = marks.filter_map(|mark| mark.strip_prefix(&*prefix));
        former.map(Box::from).collect()
    }

    /// Forgets the marks of an endpoint.
    fn end_marks(&mut self, endpoint: &str) {
        self.end_backfill(endpoint);
        let prefix = format!("{MARK}{endpoint}{MARK}");
        self.cursors
            .retain(|mark| !mark.endpoint.starts_with(&*prefix));
        self.changes += 1;
    }

    /// Until `until` the endpoint gets every record, whatever its route: also after a restart, and
    /// until `end_backfill`.
    pub fn begin_backfill(&mut self, endpoint: &str, until: Position) {
        self.add(&format!("{MARK}{endpoint}"), until);
    }

    /// What `begin_backfill` was told.
    pub fn backfill_until(&self, endpoint: &str) -> Option<Position> {
        let mark = self.get(&format!("{MARK}{endpoint}"));
        mark.map(|mark| mark.low_water)
    }

    /// The endpoint has got there, or has gone.
    pub fn end_backfill(&mut self, endpoint: &str) {
        if let Ok(index) = self.find(&format!("{MARK}{endpoint}")) {
            self.cursors.remove(index);
            self.changes += 1;
        }
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

    /// As `add`, but a cursor that is there stays as it is, marked as removed or not.
    pub(crate) fn add_unless_known(&mut self, endpoint: &str, start: Position) {
        if self.find(endpoint).is_err() {
            self.add(endpoint, start);
        }
    }

    /// Moves an endpoint's marks forward; neither ever goes back.
    pub fn advance(&mut self, endpoint: &str, low_water: Position, highest_sent: Position) {
        let low_water = self.moved.apply(low_water);
        let highest_sent = self.moved.apply(highest_sent);
        if let Ok(index) = self.find(endpoint) {
            let cursor = &mut self.cursors[index];
            if low_water > cursor.low_water || highest_sent > cursor.highest_sent {
                cursor.low_water = cursor.low_water.max(low_water);
                cursor.highest_sent = cursor.highest_sent.max(highest_sent);
                self.changes += 1;
            }
        }
    }

    /// Records were written again elsewhere: the marks go with them.
    pub(crate) fn follow(&mut self, moved: Move) {
        self.moved.push(moved);
        for cursor in &mut self.cursors {
            let low_water = self.moved.apply(cursor.low_water);
            let highest_sent = self.moved.apply(cursor.highest_sent);
            if (low_water, highest_sent) != (cursor.low_water, cursor.highest_sent) {
                (cursor.low_water, cursor.highest_sent) = (low_water, highest_sent);
                self.changes += 1;
            }
        }
    }

    /// Where what stood at `position` stands now.
    pub(crate) fn place_of(&self, position: Position) -> Position {
        self.moved.apply(position)
    }

    /// Nobody names a place before `low_water` any more.
    pub(crate) fn forget_moves(&mut self, low_water: Position) {
        self.moved.forget_before(low_water);
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
        for endpoint in &gone {
            self.end_marks(endpoint);
        }
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
                && !is_mark(cursor)
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
        let slowest = self.holding().map(|cursor| cursor.low_water).min();
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

fn is_mark(cursor: &Cursor) -> bool {
    cursor.endpoint.starts_with(MARK)
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
    fn an_endpoint_with_another_name_goes_on_where_it_stood() {
        let mut set = CursorSet::default();
        set.configure(["z"], at(1, 0), 0);
        set.advance("z", at(3, 16), at(4, 0));
        set.remove("z", 5);
        assert!(!set.rename("y", "a"));
        assert!(set.rename("z", "a"));
        set.configure(["a"], at(1, 0), 6);
        let cursor = set.get("a").unwrap();
        assert_eq!(
            (cursor.low_water, cursor.highest_sent),
            (at(3, 16), at(4, 0))
        );
        assert_eq!(cursor.removed_at_ms, None);
        assert_eq!(set.iter().count(), 1);
        set.add("b", at(9, 0));
        assert!(!set.rename("a", "b"), "it has a cursor of its own");
        // Again, with what has to be sent whatever its route: all former names are remembered.
        set.begin_backfill("a", at(8, 0));
        assert!(set.rename("a", "c"));
        assert_eq!(set.former("c"), ["a".into(), "z".into()]);
        assert_eq!(set.former("a"), []);
        assert_eq!(set.backfill_until("a"), None);
        assert_eq!(set.backfill_until("c"), Some(at(8, 0)));
        set.configure(["c"], at(1, 0), 7);
        let names: Vec<&str> = set.iter().map(|cursor| &*cursor.endpoint).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(set.low_water(at(9, 9)), Some(at(3, 16)));
        set.remove("c", 10);
        assert_eq!(set.expire(30, 20), ["b".into(), "c".into()]);
        assert_eq!(set.former("c"), []);
    }

    #[test]
    fn a_backfill_is_kept_until_it_ends_and_holds_nothing_back() {
        let mut set = CursorSet::default();
        set.configure(["a"], at(1, 0), 0);
        set.begin_backfill("a", at(5, 0));
        set.advance("a", at(7, 0), at(7, 0));
        assert_eq!(set.low_water(at(9, 0)), Some(at(7, 0)));
        let slot = set.encode().unwrap();
        let mut bytes = vec![0; 2 * CURSOR_SLOT_BYTES];
        bytes[slot.offset as usize..][..slot.bytes.len()].copy_from_slice(&slot.bytes);
        let mut read = decode(&bytes).cursors;
        assert_eq!(read.backfill_until("a"), Some(at(5, 0)));
        assert_eq!(read.iter().count(), 1);
        read.configure(["a", "b"], at(1, 0), 0);
        assert_eq!(read.backfill_until("b"), None);
        assert_eq!(read.backfill_until("a"), Some(at(5, 0)));
        assert!(!read.dirty() || read.get("b").is_some());
        read.end_backfill("a");
        assert_eq!(read.backfill_until("a"), None);
        read.begin_backfill("b", at(8, 0));
        read.remove("b", 10);
        assert_eq!(read.expire(20, 5), ["b".into()]);
        assert_eq!(read.backfill_until("b"), None, "it goes with its cursor");
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
