//! Offsets in a segment -> definitions, keyframes and scrapes, loaded when first asked for.

use super::cache::Cache;
use super::file::{Fault, SegmentFile, Window};
use crate::codec::archive::ArchivedRecordDisk;
use crate::codec::definition::{plain_payload, read_block, read_layout, read_route, read_target};
use crate::codec::mapping::{Span, map_base, spans_are_disjoint};
use crate::codec::record::access_record;
use crate::codec::sides::read_sides;
use crate::definition::{Block, Layout, Route, Run, Target, next_id};
use crate::error::DamageKind;
use crate::format::Kind;
use crate::scrape::Scrape;
use rkyv::util::AlignedVec;
use std::sync::Arc;

/// How much to read at once for a definition (bytes).
const AHEAD_BYTES: usize = 16 << 10;
/// Of what may be kept, keyframes may take one part in so many. A reader comes back to a target
/// when it has seen all others, so it has use for all keyframes or for none, and one that is read
/// again costs little beside a definition.
const KEYFRAMES_PART: usize = 16;

/// A layout with what its records need from it.
#[derive(Debug)]
struct LoadedLayout {
    layout: Arc<Layout>,
    /// Its runs, blocks named by their frames: ids change when a block is loaded again.
    spans: Box<[Span]>,
    /// A target of this layout has at least so many labels.
    target_labels: usize,
}

#[derive(Debug, Clone)]
enum Loaded {
    Target(Arc<Target>),
    Block(Arc<Block>),
    Layout(Arc<LoadedLayout>),
    Route(Arc<Route>),
}

/// A keyframe and the frame of its layout.
type Keyframe = (Arc<Scrape>, u32);

/// Loads from one segment at a time.
#[derive(Debug)]
pub(crate) struct Loader {
    cache: Cache<Loaded>,
    keyframes: Cache<Keyframe>,
    window: Window,
    scratch: AlignedVec,
    base: Vec<f64>,
}

impl Loader {
    /// `cache_bytes`: what may be kept in memory, about.
    pub(crate) fn new(cache_bytes: usize) -> Self {
        let keyframes_bytes = cache_bytes / KEYFRAMES_PART;
        Self {
            cache: Cache::new((cache_bytes - keyframes_bytes) / 2),
            keyframes: Cache::new(keyframes_bytes / 2),
            window: Window::new(AHEAD_BYTES),
            scratch: AlignedVec::new(),
            base: Vec::new(),
        }
    }

    /// Forgets everything; for another segment.
    pub(crate) fn clear(&mut self) {
        self.cache.clear();
        self.keyframes.clear();
        self.window.clear();
    }

    /// The route at `offset`.
    pub(crate) fn route(
        &mut self,
        file: &SegmentFile,
        offset: u32,
        limit: u32,
    ) -> Result<Arc<Route>, Fault> {
        match self.cache.get(offset) {
            Some(Loaded::Route(route)) => return Ok(route),
            Some(_) => return Err(DamageKind::Reference.into()),
            None => {}
        }
        let route = Arc::new(self.definition(file, Kind::Route, offset, limit, read_route)?);
        self.cache.insert(offset, Loaded::Route(route.clone()), 128);
        Ok(route)
    }

    /// The target at `offset`.
    pub(crate) fn target(
        &mut self,
        file: &SegmentFile,
        offset: u32,
        limit: u32,
    ) -> Result<Arc<Target>, Fault> {
        match self.cache.get(offset) {
            Some(Loaded::Target(target)) => return Ok(target),
            Some(_) => return Err(DamageKind::Reference.into()),
            None => {}
        }
        let target = Arc::new(self.definition(file, Kind::Target, offset, limit, read_target)?);
        let text: usize = target
            .labels
            .iter()
            .map(|(n, v)| n.len() + v.len() + 64)
            .sum();
        self.cache
            .insert(offset, Loaded::Target(target.clone()), 128 + text);
        Ok(target)
    }

    /// The scrape of the record at `offset`, whose payload is `record`.
    pub(crate) fn scrape(
        &mut self,
        file: &SegmentFile,
        offset: u32,
        limit: u32,
        record: &ArchivedRecordDisk,
    ) -> Result<Arc<Scrape>, Fault> {
        let references = record.references();
        if references.keyframe >= offset {
            return Err(DamageKind::Content.into());
        }
        let target = self.target(file, references.target, limit)?;
        let route = self.route(file, references.route, limit)?;
        let layout = self.layout(file, references.layout, limit)?;
        let mut values = if references.keyframe == 0 {
            vec![0.0; layout.layout.len as usize]
        } else {
            self.base(file, references.keyframe, limit, references.layout, &layout)?
        };
        record.decode_values(&mut values)?;

        let mut target_labels = layout.target_labels;
        let mut stale = Vec::with_capacity(record.stale.len());
        let mut stale_count = 0u32;
        for run in record.stale.iter() {
            let run = self.run(file, run.into(), limit)?;
            target_labels = target_labels.max(labels_needed(&run));
            stale_count = stale_count.saturating_add(run.to - run.from);
            stale.push(run);
        }
        if target_labels > target.labels.len() || stale_count != record.stale_count.to_native() {
            return Err(DamageKind::Content.into());
        }
        let sides = match record.sides.as_ref() {
            Some(sides) => Some(Box::new(read_sides(sides, layout.layout.len)?)),
            None => None,
        };
        let scrape = Arc::new(Scrape {
            target,
            route,
            timestamp_ms: record.timestamp_ms.to_native(),
            layout: layout.layout.clone(),
            values,
            stale: stale.into(),
            sides,
        });
        if references.keyframe == 0 {
            let bytes = 256 + 8 * scrape.values.len();
            let keyframe = (scrape.clone(), references.layout);
            self.keyframes.insert(offset, keyframe, bytes);
        }
        Ok(scrape)
    }

    /// What the record's values are coded against.
    fn base(
        &mut self,
        file: &SegmentFile,
        keyframe: u32,
        limit: u32,
        layout_at: u32,
        layout: &LoadedLayout,
    ) -> Result<Vec<f64>, Fault> {
        let (keyframe, keyframe_layout_at) = self.keyframe(file, keyframe, limit)?;
        if keyframe_layout_at == layout_at {
            return Ok(keyframe.values.clone());
        }
        let known = self.layout(file, keyframe_layout_at, limit)?;
        let mut base = std::mem::take(&mut self.base);
        map_base(
            known.spans.iter().copied(),
            &keyframe.values,
            layout.spans.iter().copied(),
            &mut base,
        );
        let values = base.clone();
        self.base = base;
        Ok(values)
    }

    fn keyframe(
        &mut self,
        file: &SegmentFile,
        offset: u32,
        limit: u32,
    ) -> Result<(Arc<Scrape>, u32), Fault> {
        if let Some(keyframe) = self.keyframes.get(offset) {
            return Ok(keyframe);
        }
        // Its own window: decoding it loads definitions through the usual one.
        let mut window = Window::new(AHEAD_BYTES);
        let (header, payload) = referenced(file.frame(&mut window, offset, limit))?;
        if header.kind != Kind::Record {
            return Err(DamageKind::Reference.into());
        }
        let record = access_record(payload)?;
        let references = record.references();
        if references.keyframe != 0 {
            return Err(DamageKind::Reference.into());
        }
        let scrape = self.scrape(file, offset, limit, record)?;
        Ok((scrape, references.layout))
    }

    fn layout(
        &mut self,
        file: &SegmentFile,
        offset: u32,
        limit: u32,
    ) -> Result<Arc<LoadedLayout>, Fault> {
        match self.cache.get(offset) {
            Some(Loaded::Layout(layout)) => return Ok(layout),
            Some(_) => return Err(DamageKind::Reference.into()),
            None => {}
        }
        let disk = self.definition(file, Kind::Layout, offset, limit, read_layout)?;
        let spans: Box<[Span]> = disk
            .iter()
            .map(|run| Span {
                block: u64::from(run.block),
                from: run.from,
                to: run.to,
            })
            .collect();
        if !spans_are_disjoint(&spans) {
            return Err(DamageKind::Content.into());
        }
        let mut runs = Vec::with_capacity(disk.len());
        let mut len = 0u32;
        let mut target_labels = 0;
        for run in disk {
            let run = self.run(file, run, limit)?;
            len = len
                .checked_add(run.to - run.from)
                .ok_or(DamageKind::Content)?;
            target_labels = target_labels.max(labels_needed(&run));
            runs.push(run);
        }
        let bytes = 256 + runs.len() * 64;
        let loaded = Arc::new(LoadedLayout {
            layout: Arc::new(Layout {
                id: next_id(),
                runs: runs.into(),
                len,
            }),
            spans,
            target_labels,
        });
        self.cache
            .insert(offset, Loaded::Layout(loaded.clone()), bytes);
        Ok(loaded)
    }

    fn run(
        &mut self,
        file: &SegmentFile,
        run: crate::codec::archive::RunDisk,
        limit: u32,
    ) -> Result<Run, Fault> {
        let block = self.block(file, run.block, limit)?;
        if run.from >= run.to || run.to as usize > block.entries.len() {
            return Err(DamageKind::Content.into());
        }
        Ok(Run {
            block,
            from: run.from,
            to: run.to,
        })
    }

    fn block(&mut self, file: &SegmentFile, offset: u32, limit: u32) -> Result<Arc<Block>, Fault> {
        match self.cache.get(offset) {
            Some(Loaded::Block(block)) => return Ok(block),
            Some(_) => return Err(DamageKind::Reference.into()),
            None => {}
        }
        let block = Arc::new(self.definition(file, Kind::Block, offset, limit, read_block)?);
        let text: usize = block
            .families
            .iter()
            .map(|f| f.name.len() + f.help.len() + f.unit.len() + 56)
            .sum();
        let bytes = 256 + block.bytes.len() + 8 * (block.entries.len() + block.holes.len()) + text;
        self.cache
            .insert(offset, Loaded::Block(block.clone()), bytes);
        Ok(block)
    }

    fn definition<T>(
        &mut self,
        file: &SegmentFile,
        kind: Kind,
        offset: u32,
        limit: u32,
        read: impl FnOnce(&[u8]) -> Result<T, DamageKind>,
    ) -> Result<T, Fault> {
        let (header, payload) = referenced(file.frame(&mut self.window, offset, limit))?;
        if header.kind != kind {
            return Err(DamageKind::Reference.into());
        }
        let plain = plain_payload(header.flags, payload, &mut self.scratch)?;
        Ok(read(plain)?)
    }
}

/// How many labels a target needs to fill the holes of a run.
fn labels_needed(run: &Run) -> usize {
    let entries = &run.block.entries;
    let first = match run.from {
        0 => 0,
        from => entries[from as usize - 1].holes_end,
    };
    let end = entries[run.to as usize - 1].holes_end;
    run.block.holes[first as usize..end as usize]
        .iter()
        .map(|hole| usize::from(hole.target_label) + 1)
        .max()
        .unwrap_or(0)
}

/// A bad frame that something refers to is a bad reference.
fn referenced<T>(result: Result<T, Fault>) -> Result<T, Fault> {
    result.map_err(|fault| match fault {
        Fault::Damage(DamageKind::Frame) => Fault::Damage(DamageKind::Reference),
        other => other,
    })
}
