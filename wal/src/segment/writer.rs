//! Scrapes -> bytes of one segment, definitions before their first use.

use super::header::{SegmentHeader, append_trailer};
use super::index::IndexBuilder;
use crate::codec::definition::{
    DefinitionEncoder, archive_block, archive_layout, archive_route, archive_target,
};
use crate::codec::mapping::{Span, map_base};
use crate::codec::record::{RecordEncoder, RecordSummary, References, stale_count};
use crate::definition::{Block, Layout, Run};
use crate::format::{FRAMES_START, Kind, SEGMENT_BYTES_LIMIT};
use crate::frame::append_frame;
use crate::pool::ScrapePool;
use crate::scrape::Scrape;
use ahash::AHashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Buffers and compressor, kept from segment to segment.
#[derive(Debug)]
pub(crate) struct Encoder {
    definitions: DefinitionEncoder,
    records: RecordEncoder,
    base: Vec<f64>,
    blocks: Vec<u32>,
    /// Takes keyframes that are not needed any more.
    pub(crate) pool: Rc<ScrapePool>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            definitions: DefinitionEncoder::new(),
            records: RecordEncoder::default(),
            base: Vec::new(),
            blocks: Vec::new(),
            pool: Rc::default(),
        }
    }
}

/// What the segment knows of a target.
#[derive(Debug)]
struct TargetState {
    /// Frame of its definition.
    at: u32,
    /// Its latest keyframe and the frame of it; none yet if 0.
    keyframe: Option<(Arc<Scrape>, u32)>,
    /// Records since then, the keyframe included.
    since_keyframe: u32,
}

/// Where a record was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) offset: u32,
    pub(crate) end: u32,
    pub(crate) keyframe: bool,
    /// Bytes of the definitions written before it.
    pub(crate) definition_bytes: u32,
}

/// A segment that is being written, in memory: bytes not taken yet, and what was defined.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    pub(crate) segment: u64,
    pub(crate) created_ms: i64,
    seed: u32,
    buffer: Vec<u8>,
    /// Offset of the buffer's first byte.
    buffer_start: u32,
    seq: u32,
    blocks: AHashMap<u64, u32>,
    layouts: AHashMap<u64, u32>,
    routes: AHashMap<u64, u32>,
    targets: AHashMap<u64, TargetState>,
    pub(crate) index: IndexBuilder,
    /// What a segment costs whatever its length: definitions, and each target's first keyframe.
    pub(crate) fixed_bytes: u64,
    /// All other records.
    pub(crate) running_bytes: u64,
}

impl SegmentWriter {
    /// `buffer`: memory for the first bytes. `records`: how many are to be expected, about.
    pub(crate) fn new(header: SegmentHeader, mut buffer: Vec<u8>, records: u64) -> Self {
        buffer.clear();
        header.encode(&mut buffer);
        Self {
            segment: header.segment,
            created_ms: header.created_ms,
            seed: header.seed(),
            buffer,
            buffer_start: 0,
            seq: 0,
            blocks: AHashMap::new(),
            layouts: AHashMap::new(),
            routes: AHashMap::new(),
            targets: AHashMap::new(),
            index: IndexBuilder::for_records(records),
            fixed_bytes: 0,
            running_bytes: 0,
        }
    }

    /// Where the next frame begins.
    pub(crate) fn end(&self) -> u32 {
        self.buffer_start + self.buffer.len() as u32
    }

    /// Bytes that `take` would give.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The bytes since the last call and the offset of the first. `buffer`: memory for the next.
    pub(crate) fn take(&mut self, mut buffer: Vec<u8>) -> (u32, Vec<u8>) {
        let start = self.buffer_start;
        self.buffer_start = self.end();
        buffer.clear();
        (start, std::mem::replace(&mut self.buffer, buffer))
    }

    /// Bytes of the values that keyframes hold, in a walk over the targets.
    pub(crate) fn keyframe_bytes(&self) -> usize {
        let keyframes = self
            .targets
            .values()
            .filter_map(|state| state.keyframe.as_ref());
        keyframes
            .map(|(keyframe, _)| size_of::<Scrape>() + size_of_val(&keyframe.values[..]))
            .sum()
    }

    /// Gives the memory of all keyframes back.
    pub(crate) fn give_keyframes(&mut self, pool: &ScrapePool) {
        for (keyframe, _) in self.targets.drain().filter_map(|(_, state)| state.keyframe) {
            pool.give(keyframe);
        }
    }

    /// Forgets a target's keyframe.
    pub(crate) fn forget_target(&mut self, target_id: u64) {
        if let Some(state) = self.targets.get_mut(&target_id) {
            state.keyframe = None;
        }
    }

    /// Appends a record, after what it needs defined. `None`: a frame would be too large, or the
    /// segment is full; what was defined stays.
    pub(crate) fn append(
        &mut self,
        encoder: &mut Encoder,
        scrape: &Arc<Scrape>,
        keyframe_every: u32,
    ) -> Option<Appended> {
        assert_eq!(
            scrape.values.len(),
            scrape.layout.len as usize,
            "BUG: a scrape has one value per entry of its layout"
        );
        let start = self.end();
        let first_of_target = !self.targets.contains_key(&scrape.target.id);
        let route = match self.routes.get(&scrape.route.id) {
            Some(at) => *at,
            None => {
                let at = self.define(encoder, Kind::Route, |out| {
                    archive_route(&scrape.route, out)
                })?;
                self.routes.insert(scrape.route.id, at);
                at
            }
        };
        let target = match self.targets.get(&scrape.target.id) {
            Some(state) => state.at,
            None => {
                let at = self.define(encoder, Kind::Target, |out| {
                    archive_target(&scrape.target, out)
                })?;
                let state = TargetState {
                    at,
                    keyframe: None,
                    since_keyframe: 0,
                };
                self.targets.insert(scrape.target.id, state);
                at
            }
        };
        let layout = self.layout(encoder, &scrape.layout)?;
        let mut stale_blocks = std::mem::take(&mut encoder.blocks);
        let stale = self.blocks_of(encoder, &scrape.stale, &mut stale_blocks);
        encoder.blocks = stale_blocks;
        stale?;
        let offset = self.end();
        let keyframe = self.record(
            encoder,
            scrape,
            References {
                target,
                layout,
                route,
                keyframe: 0,
            },
            keyframe_every,
        )?;
        let end = self.end();
        if first_of_target {
            self.fixed_bytes += u64::from(end - start);
        } else {
            self.fixed_bytes += u64::from(offset - start);
            self.running_bytes += u64::from(end - offset);
        }
        Some(Appended {
            offset,
            end,
            keyframe,
            definition_bytes: offset - start,
        })
    }

    /// Appends index and trailer. Returns where the index begins; `None` if it is too large: the
    /// segment then ends without one.
    pub(crate) fn finish(&mut self, encoder: &mut Encoder) -> Option<u32> {
        let index = std::mem::replace(&mut self.index, IndexBuilder::new()).finish();
        let offset = self.define(encoder, Kind::Index, |out| index.archive(out))?;
        append_trailer(&mut self.buffer, self.seed, self.seq, offset);
        self.seq += 1;
        Some(offset)
    }

    /// Writes the record frame; true if it is a keyframe.
    fn record(
        &mut self,
        encoder: &mut Encoder,
        scrape: &Arc<Scrape>,
        mut references: References,
        keyframe_every: u32,
    ) -> Option<bool> {
        let offset = self.end();
        let state = self.targets.get_mut(&scrape.target.id)?;
        let mut base = None;
        if let Some((known, at)) = &state.keyframe
            && state.since_keyframe < keyframe_every
        {
            if known.layout.id == scrape.layout.id {
                base = Some(&*known.values);
            } else {
                let found = map_base(
                    spans(&known.layout),
                    &known.values,
                    spans(&scrape.layout),
                    &mut encoder.base,
                );
                if found * 2 >= scrape.values.len() {
                    base = Some(&*encoder.base);
                }
            }
            if base.is_some() {
                references.keyframe = *at;
            }
        }
        let records = &mut encoder.records;
        let blocks = &encoder.blocks;
        let written = append_frame(
            &mut self.buffer,
            self.seed,
            Kind::Record,
            0,
            self.seq,
            |out| records.archive(scrape, references, base, blocks, out),
        );
        if !written || !within_limit(self.buffer_start, &self.buffer) {
            self.buffer.truncate((offset - self.buffer_start) as usize);
            return None;
        }
        self.seq += 1;
        let is_keyframe = references.keyframe == 0;
        if is_keyframe {
            if let Some((before, _)) = state.keyframe.replace((scrape.clone(), offset)) {
                encoder.pool.give(before);
            }
            state.since_keyframe = 1;
        } else {
            state.since_keyframe += 1;
        }
        let summary = RecordSummary {
            references,
            timestamp_ms: scrape.timestamp_ms,
            samples: scrape.layout.len.saturating_add(stale_count(scrape)),
        };
        self.index.record(offset, &summary);
        Some(is_keyframe)
    }

    fn layout(&mut self, encoder: &mut Encoder, layout: &Layout) -> Option<u32> {
        if let Some(at) = self.layouts.get(&layout.id) {
            return Some(*at);
        }
        let mut blocks = std::mem::take(&mut encoder.blocks);
        let at = self
            .blocks_of(encoder, &layout.runs, &mut blocks)
            .and_then(|()| {
                self.define(encoder, Kind::Layout, |out| {
                    archive_layout(layout, &blocks, out)
                })
            });
        encoder.blocks = blocks;
        self.layouts.insert(layout.id, at?);
        at
    }

    /// Fills `at` with the frame of each run's block.
    fn blocks_of(&mut self, encoder: &mut Encoder, runs: &[Run], at: &mut Vec<u32>) -> Option<()> {
        at.clear();
        for run in runs {
            at.push(self.block(encoder, &run.block)?);
        }
        Some(())
    }

    fn block(&mut self, encoder: &mut Encoder, block: &Block) -> Option<u32> {
        if let Some(at) = self.blocks.get(&block.id) {
            return Some(*at);
        }
        let at = self.define(encoder, Kind::Block, |out| archive_block(block, out))?;
        self.blocks.insert(block.id, at);
        Some(at)
    }

    fn define(
        &mut self,
        encoder: &mut Encoder,
        kind: Kind,
        archive: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> Option<u32> {
        let offset = self.end();
        let written =
            encoder
                .definitions
                .append(&mut self.buffer, self.seed, kind, self.seq, archive);
        if !written || !within_limit(self.buffer_start, &self.buffer) {
            self.buffer.truncate((offset - self.buffer_start) as usize);
            return None;
        }
        self.seq += 1;
        self.index.definition(kind, offset);
        Some(offset)
    }
}

fn within_limit(buffer_start: u32, buffer: &[u8]) -> bool {
    u64::from(buffer_start) + buffer.len() as u64 <= u64::from(SEGMENT_BYTES_LIMIT)
}

fn spans(layout: &Layout) -> impl Iterator<Item = Span> + '_ {
    layout.runs.iter().map(|run| Span {
        block: run.block.id,
        from: run.from,
        to: run.to,
    })
}

const _: () = assert!(FRAMES_START > 0, "offset 0 names no frame");
