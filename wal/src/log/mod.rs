//! Scrapes of one shard -> bytes to write and a tail in memory; no I/O.
//!
//! **Runs on**: shard, as `Rc<RefCell<ShardLog>>`, shared by the scraper (append), the driver that
//! writes files (`take_writes` and what follows) and the sender (`tail_after`, `cursors_mut`). No
//! borrow may live across an await.

use crate::cursor::CursorSet;
use crate::error::{Damage, WriteFailure};
use crate::moved::Move;
use crate::pool::ScrapePool;
use crate::recovery::Recovered;
use crate::scrape::{Position, Scrape};
use crate::segment::header::Replaced;
use crate::segment::writer::{Encoder, SegmentWriter};
use crate::segments::{Deletion, DiskRead, Segments, start_of};
use crate::stats::LogStats;
use crate::tail::{Tail, TailRead};
use encode::BUFFER_BYTES_MAX;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

mod encode;
mod options;
mod retain;
mod thin;

pub use options::{LogOptions, Write};

/// The live log of one shard.
#[derive(Debug)]
pub struct ShardLog {
    options: LogOptions,
    encoder: Encoder,
    open: Option<SegmentWriter>,
    next_segment: u64,
    /// Since `write_failed`: where records that are in memory only stand.
    memory_only: Option<Position>,
    /// Since `write_failed`: from where on records are to be written again.
    write_again: Option<Position>,
    /// What new segments say they replace, until this place is synced.
    replaces: Option<(Replaced, Position)>,
    /// Bytes on their way of records that are written again.
    rewriting_bytes: u64,
    outbox: VecDeque<Write>,
    outbox_bytes: u64,
    /// Chunks that were taken and are not reported as written: end and size.
    taken: VecDeque<(Position, u64)>,
    taken_bytes: u64,
    tail: Tail,
    segments: Segments,
    cursors: CursorSet,
    low_water: Position,
    written: Position,
    synced: Position,
    stats: LogStats,
    /// Memory for bytes to be written.
    buffers: Vec<Vec<u8>>,
    /// Length of the last of them.
    write_bytes_before: usize,
    /// How many records the segment before had.
    records_before: u64,
    /// Which segments were looked at, to be made smaller.
    looks: thin::Looks,
}

/// How many write buffers are kept.
const BUFFERS_KEPT: usize = 4;

impl ShardLog {
    /// A log whose first segment is `next_segment`: `recovery::next_segment` of its directory, so
    /// that nothing is appended to a former run's segment. Older segments come with `adopt`.
    pub fn new(options: LogOptions, next_segment: u64) -> Self {
        let start = start_of(next_segment);
        Self {
            options,
            encoder: Encoder::new(),
            open: None,
            next_segment,
            memory_only: None,
            write_again: None,
            replaces: None,
            rewriting_bytes: 0,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            taken: VecDeque::new(),
            taken_bytes: 0,
            tail: Tail::new(start),
            segments: Segments::unknown_below(next_segment),
            cursors: CursorSet::default(),
            low_water: Position::default(),
            written: start,
            synced: start,
            stats: LogStats::default(),
            buffers: Vec::new(),
            write_bytes_before: 0,
            records_before: 0,
            looks: thin::Looks::default(),
        }
    }

    /// The memory of records that left the log, for the next ones.
    pub fn pool(&self) -> &Rc<ScrapePool> {
        &self.encoder.pool
    }

    /// Bytes of the keyframes of the open segment: what later records are differences to.
    pub fn keyframe_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.keyframe_bytes())
    }

    /// Frees the memory that is kept for later.
    pub fn trim(&mut self) {
        self.pool().trim();
        self.buffers.clear();
    }

    /// Takes in what recovery found in the directory: segments of former runs, and cursors unless
    /// an endpoint has one already. Until then `tail_after` of an older position says `Behind` and
    /// `segments().readable_from` says `NotYet`.
    pub fn adopt(&mut self, recovered: Recovered) {
        self.count_damage(&recovered.damage);
        let missing = recovered
            .missing
            .iter()
            .map(|(first, last)| last - first + 1);
        self.stats.segments_missing += missing.sum::<u64>();
        self.stats.cursor_slots_damaged += u64::from(recovered.cursor_slots_damaged);
        self.stats.repairs_failed += recovered.unrepaired.len() as u64;
        self.segments.adopt(recovered.segments);
        self.cursors.adopt(recovered.cursors);
    }

    /// True once `adopt` was called. Before, no cursor may be added or saved.
    pub fn adopted(&self) -> bool {
        self.segments.adopted()
    }

    /// Appends one scrape and returns where its record begins.
    ///
    /// It stands in the tail (memory) at once, in the file when `written_end()` is past it (a crash
    /// of the process then loses nothing), on disk when `synced_end()` is past it.
    ///
    /// # Panics
    /// `BUG:` if the scrape has not one value per entry of its layout.
    pub fn append(&mut self, scrape: Arc<Scrape>, now_ms: i64) -> Position {
        self.stats.records += 1;
        self.stats.samples +=
            u64::from(scrape.layout.len) + u64::from(crate::codec::record::stale_count(&scrape));
        let bytes = self.pending_bytes() + self.taken_bytes;
        let is_slow = bytes > self.options.pending_bytes_max.max(2 * self.rewriting_bytes);
        if self.memory_only.is_none() && is_slow {
            self.write_failed(WriteFailure::Slow);
        }
        let entry = self.encode(scrape, now_ms);
        let position = entry.position;
        self.tail.push(entry);
        self.bound_tail(now_ms);
        position
    }

    /// Frees what is kept for a target that is no longer scraped (8 bytes per series). Optional:
    /// the next segment forgets it anyway.
    pub fn forget_target(&mut self, target_id: u64) {
        if let Some(open) = &mut self.open {
            open.forget_target(target_id);
        }
        self.tail.forget_target(target_id);
    }

    // ---- sender ----

    /// The oldest position that can be read, in memory or on disk. A cursor that is new begins
    /// here: an endpoint gets the records whose route names it, so it skips what came before it,
    /// and misses nothing if its cursor was never saved or was lost.
    pub fn begin(&self) -> Position {
        let disk = self.segments.begin();
        disk.map_or(self.tail.start(), |begin| begin.min(self.tail.start()))
    }

    /// Where the next record will stand, or before it.
    pub fn end(&self) -> Position {
        match (&self.open, self.memory_only) {
            (Some(open), _) => Position {
                segment: open.segment,
                offset: open.end(),
            },
            (None, Some(next)) => next,
            (None, None) => start_of(self.next_segment),
        }
    }

    /// Where what is in memory begins.
    pub fn tail_start(&self) -> Position {
        self.tail.start()
    }

    /// The first record at or after the point `from`. Go on with the `end` of what was read.
    pub fn tail_after(&self, from: Position) -> TailRead<'_> {
        let from = self.place_of(from);
        if from < self.tail.start() {
            match self.segments.readable_from(from) {
                DiskRead::NotYet => return TailRead::Behind,
                DiskRead::Segment(found)
                    if from.max(start_of(found.segment)) < self.tail.start() =>
                {
                    return TailRead::Behind;
                }
                _ => {}
            }
        }
        match self.tail.first_from(from) {
            Some(entry) => TailRead::Entry(entry),
            None => TailRead::Empty,
        }
    }

    /// The segments on disk: what to read when `tail_after` says `Behind`.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Where each endpoint stands. The driver saves them and deletes what all have acknowledged.
    pub fn cursors(&self) -> &CursorSet {
        &self.cursors
    }

    /// Same, to move them.
    pub fn cursors_mut(&mut self) -> &mut CursorSet {
        &mut self.cursors
    }

    // ---- driver ----

    /// Bytes that `take_writes` would give.
    pub fn pending_bytes(&self) -> u64 {
        self.outbox_bytes
            + self
                .open
                .as_ref()
                .map_or(0, |open| open.pending_bytes() as u64)
    }

    /// What to do to the files since the last call, in order. Closes the open segment if it is
    /// older than `segment_age_ms_max`.
    pub fn take_writes(&mut self, now_ms: i64) -> Vec<Write> {
        let mut writes = Vec::new();
        self.take_writes_into(now_ms, &mut writes);
        writes
    }

    /// Takes back the memory of bytes that were written.
    pub fn give_back(&mut self, bytes: Vec<u8>) {
        let small = (1..=BUFFER_BYTES_MAX).contains(&bytes.capacity());
        if small && self.buffers.len() < BUFFERS_KEPT {
            self.buffers.push(bytes);
        }
    }

    /// As `take_writes`, to the end of `writes`.
    pub fn take_writes_into(&mut self, now_ms: i64, writes: &mut Vec<Write>) {
        if let Some(open) = &self.open
            && now_ms.saturating_sub(open.created_ms) >= self.options.segment_age_ms_max
        {
            self.close();
        }
        self.flush_open();
        self.outbox_bytes = 0;
        let first = writes.len();
        writes.extend(self.outbox.drain(..));
        for write in &writes[first..] {
            if let Write::Bytes {
                segment,
                offset,
                bytes,
            } = write
            {
                let end = Position {
                    segment: *segment,
                    offset: offset + bytes.len() as u32,
                };
                self.taken.push_back((end, bytes.len() as u64));
                self.taken_bytes += bytes.len() as u64;
            }
        }
    }

    /// All bytes before `end` are in the file (page cache): readable, safe from a process crash.
    pub fn written(&mut self, end: Position) {
        while let Some((chunk_end, bytes)) = self.taken.front()
            && *chunk_end <= end
        {
            self.taken_bytes -= bytes;
            self.stats.written_bytes += bytes;
            self.taken.pop_front();
        }
        if self.taken.is_empty() {
            self.rewriting_bytes = 0;
        }
        if !self.options.hold_until_synced {
            self.replaces.take_if(|(_, until)| *until <= end);
        }
        self.written = self.written.max(end);
        self.segments.update(end.segment, |info| {
            info.written = info.written.max(end.offset);
            if !info.open && info.written >= info.bytes {
                info.settled = true;
            }
        });
    }

    /// All bytes before `end` are on disk.
    pub fn synced(&mut self, end: Position) {
        self.synced = self.synced.max(end);
        if self.options.hold_until_synced {
            self.replaces.take_if(|(_, until)| *until <= end);
        }
    }

    /// Writing or syncing failed. Bytes not written are dropped, the open segment gets no more, and
    /// nothing is encoded until `resume`: records live in the tail only and are counted as not
    /// durable. May be called again before it.
    ///
    /// What was written before may be synced and reported still, unless it was a sync that failed:
    /// after that, `written` and `synced` of the segments there were must not be reported any more.
    pub fn write_failed(&mut self, failure: WriteFailure) {
        match failure {
            WriteFailure::NoSpace => self.stats.failures_no_space += 1,
            WriteFailure::Sync => self.stats.failures_sync += 1,
            WriteFailure::Io => self.stats.failures_io += 1,
            WriteFailure::Slow => self.stats.failures_slow += 1,
        }
        // After a failed sync nobody knows which of the unsynced pages are on disk.
        let safe = match failure {
            WriteFailure::Sync => self.synced,
            _ => self.written,
        };
        let counted_from = self.write_again.unwrap_or(self.end());
        let fresh = self.tail.iter_from(safe);
        let fresh = fresh.take_while(|entry| entry.position < counted_from);
        self.stats.records_not_durable += fresh.count() as u64;
        self.write_again = Some(self.write_again.map_or(safe, |before| before.min(safe)));
        self.segments.settle_all();
        self.open = None;
        self.outbox.clear();
        self.outbox_bytes = 0;
        self.taken.clear();
        self.taken_bytes = 0;
        self.enter_memory_only();
    }

    /// True after `write_failed` until `resume`.
    pub fn suspended(&self) -> bool {
        self.memory_only.is_some()
    }

    /// About how many bytes `resume` will give to be written.
    pub fn bytes_to_write_again(&self) -> u64 {
        self.write_again
            .map_or(0, |from| self.tail.bytes_from(from))
    }

    /// Tries the disk again: the next record begins a new segment. The records in memory that never
    /// came to the disk, or nobody knows whether they did, are written to it again, before all
    /// others. They get new places there; old ones are understood until all have acknowledged them.
    /// All at once, as an append of each: for a full tail some tenths of a second, once.
    pub fn resume(&mut self, now_ms: i64) {
        let to = self.end();
        self.memory_only = None;
        let Some(from) = self.write_again.take() else {
            return;
        };
        let mut from = from.max(self.tail.start());
        if let Some((before, _)) = self.replaces
            && self.low_water >= self.tail.start()
        {
            // What is not in memory any more is acknowledged.
            from = from.min(before.from);
        }
        self.segments.cut(from);
        let replaced = Replaced {
            from,
            until_segment: self.next_segment,
        };
        self.replaces = Some((replaced, start_of(u64::MAX)));
        let mut records = Vec::new();
        for entry in self.tail.split_off(from) {
            let again = self.encode(entry.scrape, now_ms);
            records.push((entry.position, again.position));
            self.tail.push(again);
        }
        self.stats.records_rewritten += records.len() as u64;
        self.rewriting_bytes = self.pending_bytes();
        let end = self.end();
        self.replaces = Some((replaced, end));
        self.cursors.follow(Move {
            from,
            to,
            records,
            end,
        });
    }

    /// Where what was at `position` stands now: records get new places when they have to be written
    /// again.
    pub fn place_of(&self, position: Position) -> Position {
        self.cursors.place_of(position)
    }

    /// Everything before `low_water` is acknowledged by every endpoint: drops it from the tail and
    /// gives the closed segments that may be deleted.
    pub fn release(&mut self, low_water: Position) -> Vec<Deletion> {
        self.low_water = self.low_water.max(low_water);
        self.tail.drop_before(low_water, &self.encoder.pool);
        self.cursors.forget_moves(low_water);
        let deletions = self.segments.release(low_water);
        self.stats.segments_released += deletions.len() as u64;
        deletions
    }

    /// Closes the open segment with its index; call at stop, then `take_writes` once more.
    pub fn close(&mut self) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let segment = open.segment;
        let data_end = open.end();
        self.records_before = open.index.records();
        open.give_keyframes(self.pool());
        open.finish(&mut self.encoder);
        let end = open.end();
        self.stats.overhead_bytes += u64::from(end - data_end);
        self.push_bytes(&mut open);
        self.outbox.push_back(Write::Close { segment });
        self.segments.update(segment, |info| {
            info.open = false;
            info.data_end = data_end;
            info.bytes = end;
        });
    }

    /// End of what is in the files.
    pub fn written_end(&self) -> Position {
        self.written
    }

    /// End of what is on disk.
    pub fn synced_end(&self) -> Position {
        self.synced
    }

    /// Counters since the start.
    pub fn stats(&self) -> LogStats {
        LogStats {
            tail_records: self.tail.len() as u64,
            tail_bytes: self.tail.bytes(),
            segments: self.segments.count() as u64,
            segment_bytes: self.segments.bytes(),
            ..self.stats
        }
    }

    /// Counts places that recovery or a reader skipped.
    pub fn count_damage(&mut self, damage: &[Damage]) {
        for place in damage {
            self.stats.damaged_places += 1;
            self.stats.damage[place.kind as usize] += 1;
            self.stats.damaged_bytes += u64::from(place.to.saturating_sub(place.from));
        }
    }

    /// Counts one sync of a file.
    pub fn count_sync(&mut self, duration_us: u64) {
        self.stats.syncs += 1;
        self.stats.sync_us += duration_us;
        self.stats.sync_us_max = self.stats.sync_us_max.max(duration_us);
    }
}
