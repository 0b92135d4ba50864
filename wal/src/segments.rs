//! The segments of one directory: which are there, how far each can be read, which may go.

use crate::format::FRAMES_START;
use crate::scrape::Position;
use std::collections::BTreeMap;

/// What of a segment can be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readable {
    /// Sequence number of the segment.
    pub segment: u64,
    /// End of what can be read, in bytes: no record begins at or after it.
    pub end_offset: u32,
    /// Where to go on once everything before `end_offset` is read: the next segment's start, or
    /// the same place if the segment grows still.
    pub next: Position,
}

/// Answer to "what on disk comes at or after this position".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskRead {
    /// Read this segment, from the asked offset if it is the asked segment, else from its start.
    Segment(Readable),
    /// Nothing: go on in the tail.
    Nothing,
    /// Recovery has not told yet what the directory holds: ask later.
    NotYet,
}

/// Why a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeletionCause {
    /// Every endpoint has acknowledged it.
    Acknowledged,
    /// The cap on bytes.
    RetentionBytes,
    /// The cap on age.
    RetentionAge,
}

/// A segment to delete. It is no longer in `Segments` when you read this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// Sequence number of the segment.
    pub segment: u64,
    /// Why.
    pub cause: DeletionCause,
    /// Its samples (values and staleness markers, before any are skipped).
    pub samples: u64,
    /// Offsets, begin and end, of what some endpoint has not acknowledged and memory does not
    /// hold: it is lost. Count it with `recovery::samples_between` before the file goes.
    pub lost: Option<(u32, u32)>,
}

/// Whether a record can be read from its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnDisk {
    Yes,
    /// It is on its way.
    NotYet,
    /// It never will be.
    No,
}

/// One segment of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Sequence number.
    pub segment: u64,
    /// Size of the file (bytes), what is on its way included. Of a thinned segment less than the
    /// offsets in it say.
    pub bytes: u32,
    /// End of its records (an offset).
    pub data_end: u32,
    /// How much of it is in the file (an offset).
    pub written: u32,
    /// True while records may still be added.
    pub open: bool,
    /// True once nothing more is on its way to the file.
    pub settled: bool,
    /// Records.
    pub records: u64,
    /// Values and staleness markers.
    pub samples: u64,
    /// Latest time of a record, milliseconds since the Unix epoch; `i64::MIN` without records.
    pub timestamp_ms_max: i64,
    /// When it was begun, milliseconds since the Unix epoch.
    pub created_ms: i64,
}

impl SegmentInfo {
    fn readable_end(&self) -> u32 {
        self.written.min(self.data_end)
    }

    fn readable(&self) -> Readable {
        let end_offset = self.readable_end();
        let grows = !self.settled && (self.open || self.written < self.data_end);
        Readable {
            segment: self.segment,
            end_offset,
            next: if grows {
                Position {
                    segment: self.segment,
                    offset: end_offset,
                }
            } else {
                start_of(self.segment + 1)
            },
        }
    }
}

/// The segments of one directory.
#[derive(Debug, Default)]
pub struct Segments {
    by_number: BTreeMap<u64, SegmentInfo>,
    bytes: u64,
    /// Segments below this number may be there but are not known yet.
    unknown_below: u64,
    /// This one's file is being replaced: it must not go meanwhile.
    held: Option<u64>,
}

impl Segments {
    /// Nothing known yet of segments below `first`.
    pub(crate) fn unknown_below(first: u64) -> Self {
        Self {
            unknown_below: first,
            ..Self::default()
        }
    }

    /// The first segment that has something to read at or after `from`.
    pub fn readable_from(&self, from: Position) -> DiskRead {
        if from.segment < self.unknown_below {
            return DiskRead::NotYet;
        }
        for info in self.by_number.range(from.segment..).map(|(_, info)| info) {
            let start = if info.segment == from.segment {
                from.offset.max(FRAMES_START)
            } else {
                FRAMES_START
            };
            if start < info.readable_end() {
                return DiskRead::Segment(info.readable());
            }
        }
        DiskRead::Nothing
    }

    /// All, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &SegmentInfo> {
        self.by_number.values()
    }

    /// Same, from this number on.
    pub(crate) fn iter_from(&self, segment: u64) -> impl Iterator<Item = &SegmentInfo> {
        self.by_number.range(segment..).map(|(_, info)| info)
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of segments.
    pub fn count(&self) -> usize {
        self.by_number.len()
    }

    /// The start of the oldest segment.
    pub fn begin(&self) -> Option<Position> {
        self.by_number.keys().next().map(|first| start_of(*first))
    }

    pub(crate) fn insert(&mut self, info: SegmentInfo) {
        self.bytes += u64::from(info.bytes);
        if let Some(before) = self.by_number.insert(info.segment, info) {
            self.bytes -= u64::from(before.bytes);
        }
    }

    /// Takes in segments found by recovery; nothing is unknown any more.
    pub(crate) fn adopt(&mut self, found: Segments) {
        for info in found.by_number.into_values() {
            if !self.by_number.contains_key(&info.segment) {
                self.insert(info);
            }
        }
        self.unknown_below = 0;
    }

    /// Nothing more is on its way to any segment.
    pub(crate) fn settle_all(&mut self) {
        for info in self.by_number.values_mut().filter(|info| !info.settled) {
            info.open = false;
            info.settled = true;
            info.data_end = info.data_end.min(info.written);
            self.bytes -= u64::from(info.bytes - info.written.min(info.bytes));
            info.bytes = info.bytes.min(info.written);
        }
    }

    /// What stands at or after `from` is not to be read any more: it stands elsewhere again.
    pub(crate) fn cut(&mut self, from: Position) {
        for (segment, info) in self.by_number.range_mut(from.segment..) {
            let end = if *segment == from.segment {
                from.offset
            } else {
                0
            };
            info.data_end = info.data_end.min(end.max(FRAMES_START));
        }
    }

    pub(crate) fn adopted(&self) -> bool {
        self.unknown_below == 0
    }

    /// Changes one in place; its `bytes` may change too.
    pub(crate) fn update(&mut self, segment: u64, change: impl FnOnce(&mut SegmentInfo)) {
        if let Some(info) = self.by_number.get_mut(&segment) {
            self.bytes -= u64::from(info.bytes);
            change(info);
            self.bytes += u64::from(info.bytes);
        }
    }

    /// Whether what ends at `end` can be read from disk.
    pub(crate) fn holds(&self, end: Position) -> OnDisk {
        match self.by_number.get(&end.segment) {
            Some(info) if end.offset <= info.written => OnDisk::Yes,
            Some(info) if !info.settled => OnDisk::NotYet,
            _ => OnDisk::No,
        }
    }

    /// What a cap may take from one who stands at `low_water`: the bytes of the segments, and when
    /// the newest content of the oldest was appended (milliseconds since the Unix epoch).
    pub(crate) fn held(&self, low_water: Position) -> (u64, Option<i64>) {
        let mut bytes = 0;
        let mut oldest_ms = None;
        for info in self
            .by_number
            .range(low_water.segment..)
            .map(|(_, info)| info)
        {
            let is_first = info.segment == low_water.segment;
            if is_first && info.data_end <= low_water.offset {
                continue;
            }
            // A segment that is open goes whole later: what is acknowledged counts then.
            let acknowledged = match is_first && info.open {
                true => u64::from(low_water.offset),
                false => 0,
            };
            bytes += u64::from(info.bytes).saturating_sub(acknowledged);
            oldest_ms = oldest_ms.or(Some(info.last_ms()));
        }
        (bytes, oldest_ms)
    }

    /// Removes the settled segments that end at or before `low_water`.
    pub(crate) fn release(&mut self, low_water: Position) -> Vec<Deletion> {
        let done: Vec<u64> = self
            .by_number
            .range(..=low_water.segment)
            .map(|(_, info)| info)
            .filter(|info| {
                info.settled
                    && self.held != Some(info.segment)
                    && (info.segment < low_water.segment || info.data_end <= low_water.offset)
            })
            .map(|info| info.segment)
            .collect();
        done.into_iter()
            .filter_map(|segment| self.remove(segment))
            .map(|info| Deletion {
                segment: info.segment,
                cause: DeletionCause::Acknowledged,
                samples: info.samples,
                lost: None,
            })
            .collect()
    }

    /// Removes the oldest settled segments until the rest is within the caps. What lies between
    /// `low_water` and `tail_start` is lost.
    pub(crate) fn retain(
        &mut self,
        bytes_max: Option<u64>,
        oldest_ms: Option<i64>,
        low_water: Position,
        tail_start: Position,
    ) -> Vec<Deletion> {
        let mut deletions = Vec::new();
        while let Some(info) = self.by_number.values().next() {
            let cause = if bytes_max.is_some_and(|max| self.bytes > max) {
                DeletionCause::RetentionBytes
            } else if oldest_ms.is_some_and(|oldest| info.last_ms() < oldest) {
                DeletionCause::RetentionAge
            } else {
                break;
            };
            if !info.settled || self.held == Some(info.segment) {
                break;
            }
            let info = *info;
            self.remove(info.segment);
            deletions.push(Deletion {
                segment: info.segment,
                cause,
                samples: info.samples,
                lost: lost_range(&info, low_water, tail_start),
            });
        }
        deletions
    }

    /// Keeps a segment from being deleted until `let_go`; false: it is not there.
    pub(crate) fn hold(&mut self, segment: u64) -> bool {
        let is_there = self.by_number.contains_key(&segment);
        self.held = is_there.then_some(segment);
        is_there
    }

    /// What `hold` kept may go.
    pub(crate) fn let_go(&mut self) {
        self.held = None;
    }

    fn remove(&mut self, segment: u64) -> Option<SegmentInfo> {
        let info = self.by_number.remove(&segment)?;
        self.bytes -= u64::from(info.bytes);
        Some(info)
    }
}

impl SegmentInfo {
    /// When its newest content was appended, as far as known (milliseconds since the Unix epoch).
    fn last_ms(&self) -> i64 {
        self.timestamp_ms_max.max(self.created_ms)
    }
}

fn lost_range(info: &SegmentInfo, low_water: Position, tail_start: Position) -> Option<(u32, u32)> {
    let from = low_water.max(start_of(info.segment));
    let to = tail_start.min(Position {
        segment: info.segment,
        offset: info.readable_end(),
    });
    (from < to && to.segment == info.segment).then_some((from.offset, to.offset))
}

/// Where a segment begins.
pub(crate) fn start_of(segment: u64) -> Position {
    Position { segment, offset: 0 }
}
