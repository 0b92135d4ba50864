//! Acknowledged and sent records -> where each endpoint stands in a shard's log.

use crate::moved::{Move, Moved};
use crate::scrape::Position;

mod marks;
mod slots;

use marks::is_mark;
pub use slots::{CursorFile, SlotWrite, decode};

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
    /// How often the slots' size was doubled: in the slot written last, and from now on.
    saved_doublings: u32,
    doublings: u32,
    /// Saves that came to nothing.
    failed_saves: u64,
    configured: bool,
    /// Removed endpoints that hold nothing back; not saved.
    let_go: std::collections::BTreeSet<Box<str>>,
    /// Where places are now that senders may name still.
    moved: Moved,
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
        self.iter().filter(|cursor| self.holds(cursor))
    }

    fn holds(&self, cursor: &Cursor) -> bool {
        cursor.removed_at_ms.is_none() || !self.let_go.contains(&cursor.endpoint)
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

    /// A save came to nothing; gives how many have.
    pub fn save_failed(&mut self) -> u64 {
        self.failed_saves += 1;
        self.failed_saves
    }

    /// Saves that came to nothing since the start.
    pub fn failed_saves(&self) -> u64 {
        self.failed_saves
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
        self.saved_doublings = self.saved_doublings.max(found.saved_doublings);
        self.doublings = self.doublings.max(found.doublings);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::CURSOR_SLOT_BYTES;

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
        let (bytes, mut last, before) = file();
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
