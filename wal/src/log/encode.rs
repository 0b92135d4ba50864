//! A scrape -> a place in the open segment, or in memory only while the disk fails.

use super::{ShardLog, Write};
use crate::scrape::{Position, Scrape};
use crate::segment::header::SegmentHeader;
use crate::segment::writer::SegmentWriter;
use crate::segments::{OnDisk, SegmentInfo, start_of};
use crate::tail::Entry;
use std::sync::Arc;

/// Largest `segment_bytes_max`: leaves room for one more scrape with its definitions.
const SEGMENT_BYTES_MAX: u32 = 2 << 30;
/// A write buffer of more than this is not kept for later (bytes).
pub(super) const BUFFER_BYTES_MAX: usize = 4 << 20;
/// Positions of records that have no place in a file are this far apart.
const MEMORY_ONLY_STEP: u32 = 16;

impl ShardLog {
    /// Puts the scrape into the open segment if that can be, and says where it stands.
    pub(super) fn encode(&mut self, scrape: Arc<Scrape>, now_ms: i64) -> Entry {
        if self.memory_only.is_some() {
            return self.keep_in_memory(scrape);
        }
        let segment = self.open_segment(now_ms);
        let Some(open) = &mut self.open else {
            return self.keep_in_memory(scrape);
        };
        let keyframe_every = self.options.keyframe_every;
        let appended = open.append(&mut self.encoder, &scrape, keyframe_every);
        let end = open.end();
        let (records, samples) = (open.index.records(), open.index.samples());
        let timestamp_ms_max = open.index.timestamp_ms_max();
        let full = appended.is_none()
            || end >= self.options.segment_bytes_max.min(SEGMENT_BYTES_MAX)
            || (end >= self.options.segment_bytes_min
                && open.running_bytes
                    >= open.fixed_bytes * u64::from(self.options.definition_ratio));
        self.segments.update(segment, |info| {
            info.bytes = end;
            info.data_end = end;
            info.records = records;
            info.samples = samples;
            info.timestamp_ms_max = timestamp_ms_max;
        });
        if full {
            self.close();
        }
        let Some(appended) = appended else {
            // A frame would be larger than the format allows: this record alone stays in memory,
            // at a place of its own between two segments.
            self.enter_memory_only();
            let entry = self.keep_in_memory(scrape);
            self.memory_only = None;
            return entry;
        };
        self.stats.keyframes += u64::from(appended.keyframe);
        self.stats.definition_bytes += u64::from(appended.definition_bytes);
        self.stats.record_bytes += u64::from(appended.end - appended.offset);
        Entry {
            position: Position {
                segment,
                offset: appended.offset,
            },
            end: Position {
                segment,
                offset: appended.end,
            },
            scrape,
        }
    }

    /// Begins a segment unless one is open; gives its number.
    fn open_segment(&mut self, now_ms: i64) -> u64 {
        if let Some(open) = &self.open {
            return open.segment;
        }
        let segment = self.next_segment;
        self.next_segment += 1;
        let header = SegmentHeader {
            segment,
            salt: self.options.salt,
            created_ms: now_ms,
            replaces: self.replaces.map(|(replaced, _)| replaced),
            map_bytes: 0,
        };
        let open = SegmentWriter::new(header, self.buffer(), self.records_before);
        self.outbox.push_back(Write::Create { segment });
        self.tail.forget_layouts();
        self.stats.segments_created += 1;
        self.stats.overhead_bytes += u64::from(open.end());
        self.segments.insert(SegmentInfo {
            segment,
            bytes: open.end(),
            data_end: open.end(),
            written: 0,
            open: true,
            settled: false,
            records: 0,
            samples: 0,
            timestamp_ms_max: i64::MIN,
            created_ms: now_ms,
        });
        self.open = Some(open);
        segment
    }

    pub(super) fn enter_memory_only(&mut self) {
        if self.memory_only.is_none() {
            self.memory_only = Some(start_of(self.next_segment));
            self.next_segment += 1;
        }
    }

    fn keep_in_memory(&mut self, scrape: Arc<Scrape>) -> Entry {
        self.stats.records_not_durable += 1;
        let position = self.end();
        let end = match position.offset.checked_add(MEMORY_ONLY_STEP) {
            Some(offset) => Position {
                segment: position.segment,
                offset,
            },
            None => {
                self.next_segment += 1;
                start_of(self.next_segment - 1)
            }
        };
        self.memory_only = Some(end);
        Entry {
            position,
            end,
            scrape,
        }
    }

    /// Drops the oldest records above the cap: those on disk can be read there; those that never
    /// will be are lost, and counted; those on their way stay. And those on disk that are older
    /// than an endpoint's lag is while it is well: an outage is not to cost memory.
    pub(super) fn bound_tail(&mut self, now_ms: i64) {
        let oldest_ms = now_ms.saturating_sub(self.options.tail_age_ms_max);
        while self.tail.len() > 1 {
            let Some(front) = self.tail.front() else {
                return;
            };
            let is_over = self.tail.bytes() > self.options.tail_bytes_max;
            let is_old = front.scrape.timestamp_ms < oldest_ms
                && self.tail.bytes() > self.options.tail_bytes_min;
            match self.segments.holds(front.end) {
                _ if !is_over && !is_old => return,
                OnDisk::No if !is_over => return,
                OnDisk::NotYet => return,
                OnDisk::Yes
                    if self.options.hold_until_synced
                        && front.end > self.synced
                        && self.tail.bytes() / 2 <= self.options.tail_bytes_max =>
                {
                    return;
                }
                OnDisk::Yes => {
                    if let Some(entry) = self.tail.pop_front() {
                        self.pool().give(entry.scrape);
                    }
                }
                OnDisk::No => {
                    if let Some(entry) = self.tail.pop_front() {
                        self.stats.samples_dropped_not_durable +=
                            u64::from(entry.scrape.layout.len)
                                + u64::from(crate::codec::record::stale_count(&entry.scrape));
                    }
                }
            }
        }
    }

    /// An empty buffer, with memory for somewhat more than was written at once before.
    fn buffer(&mut self) -> Vec<u8> {
        match self.buffers.pop() {
            Some(buffer) => buffer,
            None => {
                let bytes = self.write_bytes_before + self.write_bytes_before / 2;
                Vec::with_capacity(bytes.min(BUFFER_BYTES_MAX))
            }
        }
    }

    pub(super) fn flush_open(&mut self) {
        if let Some(mut open) = self.open.take() {
            self.push_bytes(&mut open);
            self.open = Some(open);
        }
    }

    pub(super) fn push_bytes(&mut self, open: &mut SegmentWriter) {
        if open.pending_bytes() == 0 {
            return;
        }
        self.write_bytes_before = open.pending_bytes();
        let (offset, bytes) = open.take(self.buffer());
        self.outbox_bytes += bytes.len() as u64;
        self.outbox.push_back(Write::Bytes {
            segment: open.segment,
            offset,
            bytes,
        });
    }
}
