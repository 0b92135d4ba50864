//! Where endpoints stand -> a closed segment that some have all of and others need a part of.

use super::ShardLog;
use crate::cursor::{Cursor, CursorSet};
use crate::scrape::Position;
use crate::segments::{SegmentInfo, start_of};
use crate::thin::{Thinnable, Thinned};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// How many segments are looked at in one call.
const SEGMENTS_PER_LOOK: usize = 16;

/// What was seen of segments when they were looked at.
#[derive(Debug, Default)]
pub(super) struct Looks {
    by_segment: BTreeMap<u64, Look>,
    /// Where the next look begins.
    next: u64,
}

/// Who waited for a segment, and where they stood in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    waiting: u64,
    /// It was tried.
    tried: bool,
}

impl ShardLog {
    /// A closed segment that some endpoint has all of, while those that have not have stood still
    /// for as long as from one call to the next that looks at it. Each is given once for the same
    /// ones that wait; call it about once a second. Looks at a few segments in each call.
    pub fn thinnable(&mut self) -> Option<Thinnable> {
        if !self.adopted() || self.suspended() || self.replaces.is_some() {
            return None;
        }
        self.cursors.low_water(self.end())?;
        let first = self.segments.begin()?.segment;
        self.looks.by_segment = self.looks.by_segment.split_off(&first);
        let from = self.looks.next.max(first);
        let later: Vec<SegmentInfo> = self
            .segments
            .iter_from(from)
            .take(SEGMENTS_PER_LOOK)
            .copied()
            .collect();
        self.looks.next = match later.last() {
            Some(last) if later.len() == SEGMENTS_PER_LOOK => last.segment + 1,
            _ => 0,
        };
        let closed: Vec<&SegmentInfo> = later.iter().filter(|info| self.is_closed(info)).collect();
        if closed.is_empty() {
            return None;
        }
        let standing = Standing::of(&self.cursors);
        let found = closed.iter().find_map(|info| self.look(info, &standing));
        if let Some(found) = &found {
            self.looks.next = found.segment + 1;
        }
        found
    }

    /// A segment that `thinnable` gave could not be made smaller, for no reason of its own: it may
    /// be given again.
    pub fn thinning_failed(&mut self, segment: u64) {
        self.looks.by_segment.remove(&segment);
    }

    /// The segment's file is about to be replaced: it is not deleted until `thinned`. False: it was
    /// deleted already, or somebody who came meanwhile is to have all of it.
    pub fn hold_segment(&mut self, segment: u64) -> bool {
        let info = self.segments.iter_from(segment).next();
        let is_needed = info.is_some_and(|info| self.is_needed_whole(info));
        !is_needed && self.segments.hold(segment)
    }

    /// The segment's file was replaced, or was not.
    pub fn thinned(&mut self, thinned: Option<&Thinned>) {
        self.segments.let_go();
        let Some(thinned) = thinned else {
            return;
        };
        let before = self.segments.bytes();
        self.segments.update(thinned.segment, |info| {
            info.bytes = thinned.bytes;
            info.records = thinned.records;
            info.samples = thinned.samples;
            info.timestamp_ms_max = thinned.timestamp_ms_max;
        });
        self.stats.segments_thinned += 1;
        self.stats.thinned_bytes += before.saturating_sub(self.segments.bytes());
    }

    fn look(&mut self, info: &SegmentInfo, standing: &Standing) -> Option<Thinnable> {
        let (begin, end) = (start_of(info.segment), end_of(info));
        let waiting = standing.waiting(begin, end)?;
        let look = Look {
            waiting,
            tried: false,
        };
        let before = self.looks.by_segment.get(&info.segment).copied();
        let is_due = before == Some(look);
        let was_tried = before.is_some_and(|before| before.tried && before.waiting == waiting);
        // Who is to have everything waits for all of it.
        if was_tried || (is_due && self.is_needed_whole(info)) {
            return None;
        }
        let tried = is_due;
        let look = Look { tried, ..look };
        self.looks.by_segment.insert(info.segment, look);
        is_due.then(|| Thinnable {
            segment: info.segment,
            data_end: info.data_end,
            bytes: info.bytes,
            done: self.done_with(end),
        })
    }

    /// Whether the file may be replaced as far as it is written.
    fn is_closed(&self, info: &SegmentInfo) -> bool {
        // After this place records may have to be written again.
        let safe = match self.options.hold_until_synced {
            true => self.synced,
            false => self.written,
        };
        !info.open
            && info.settled
            && end_of(info) <= safe
            && info.bytes >= self.options.thin_bytes_min
    }

    /// Whether somebody is to have all records of a segment, whatever their route.
    fn is_needed_whole(&self, info: &SegmentInfo) -> bool {
        let (begin, end) = (start_of(info.segment), end_of(info));
        let mut backfills = self.cursors.backfills();
        backfills.any(|(low_water, until)| low_water < end && until > begin)
    }

    /// The names for which nobody needs anything before `end` any more.
    fn done_with(&self, end: Position) -> BTreeSet<Box<str>> {
        let holding = self.cursors.holding();
        let waits = holding.filter(|cursor| cursor.low_water < end);
        let waiting: BTreeSet<&str> = waits.map(|cursor| &*cursor.endpoint).collect();
        let names = self.cursors.iter().map(|cursor| &*cursor.endpoint);
        let mut done: BTreeSet<&str> = names.filter(|name| !waiting.contains(name)).collect();
        // What somebody waits for, also under a name it had before, is not done.
        let mut needed = waiting.clone();
        let mut former_done = Vec::new();
        for (endpoint, former) in self.cursors.all_former() {
            if waiting.contains(endpoint) {
                needed.insert(former);
            } else if done.contains(endpoint) {
                former_done.push(former);
            }
        }
        done.extend(former_done);
        let done = done.into_iter().filter(|name| !needed.contains(name));
        done.map(Box::from).collect()
    }
}

/// Where all endpoints stand, for looks at many segments.
#[derive(Debug)]
struct Standing {
    /// Those that hold segments back, by place: that, and a hash of the name.
    holding: Vec<(Position, u64)>,
    /// The sum of the hashes before each of them, and of all.
    sums: Vec<u64>,
    /// All there are.
    count: usize,
}

impl Standing {
    fn of(cursors: &CursorSet) -> Self {
        let hashed = |cursor: &Cursor| (cursor.low_water, hash(&cursor.endpoint));
        let mut holding: Vec<(Position, u64)> = cursors.holding().map(hashed).collect();
        holding.sort_unstable();
        let mut sums = vec![0u64];
        for (at, (_, name)) in holding.iter().enumerate() {
            sums.push(sums[at].wrapping_add(*name));
        }
        Self {
            sums,
            count: cursors.iter().count(),
            holding,
        }
    }

    /// A hash of who waits for a segment and where they stand in it; `None` if nobody does, or all.
    fn waiting(&self, begin: Position, end: Position) -> Option<u64> {
        let waiting = self.holding.partition_point(|(at, _)| *at < end);
        if waiting == 0 || waiting == self.count {
            return None;
        }
        let before = self.holding.partition_point(|(at, _)| *at <= begin);
        let before = before.min(waiting);
        // Whoever stands inside counts with its place: the order in which they come does not.
        let inside = self.holding[before..waiting].iter().map(hash);
        Some(inside.fold(self.sums[before], u64::wrapping_add))
    }
}

fn end_of(info: &SegmentInfo) -> Position {
    Position {
        segment: info.segment,
        offset: info.data_end,
    }
}

fn hash<T: Hash>(what: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
