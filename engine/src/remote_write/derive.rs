//! Block + external labels + write relabelling -> derived block, once per shape of target.
//!
//! The labels that leave for an endpoint are a function of (block, endpoint setting, shape of the
//! target), so they are templates again: holes stay holes wherever no rule reads the value. A
//! series that write relabelling drops becomes an entry without bytes and holes.
//!
//! **Shape**: the names of the target's labels, and the values of those that write rules read.
//! **Invariant**: derived template + fill == external labels and `Rules::apply` on the plain label
//! set (property test in `tests/derive.rs`).
//!
//! Source of the order: prometheus/prometheus storage/remote/queue_manager.go `StoreSeries`
//! (external labels do not override, and are there when the rules run).

use super::construct::Template;
use super::edits::{Edits, EditsBuilder};
use super::encode::{TargetLabels, clip};
use super::metadata::Metadata;
use super::v2::references::References;
use super::wire::{Malformed, get_label, put_label};
use crate::config::Endpoint;
use crate::labels::{Labels, LabelsBuilder, Value};
use crate::relabel::{Rules, Verdict};
use ahash::AHashMap;
use ringscrape_wal::definition::{Block, BlockEntry, Hole, Target};
use ringscrape_wal::scrape::Scrape;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of derived blocks kept, about; at the bound those longest unused are derived anew.
const DERIVED_BYTES_MAX: usize = 64 << 20;
/// Bytes of edits kept, about.
const EDITS_BYTES_MAX: usize = 64 << 20;
/// Bytes of references kept, about.
const REFERENCES_BYTES_MAX: usize = 64 << 20;
/// Blocks that are remembered as seen once.
const SEEN_BLOCKS: usize = 1 << 12;
/// Targets whose encoded labels are kept, about.
const TARGETS_MAX: usize = 1 << 17;

/// A target as an endpoint's derivation knows it.
#[derive(Debug)]
pub struct KnownTarget {
    /// Its labels in wire form, to fill holes with.
    pub labels: TargetLabels,
    /// Index of its shape in this deriver; 0 for all targets if nothing is derived.
    shape: u32,
}

/// Names, and values where a rule reads them, of a target's labels.
type Shape = Box<[(Box<str>, Option<Box<str>>)]>;

/// Derived blocks of one endpoint setting, kept while they are used.
#[derive(Debug)]
pub struct Deriver {
    external_labels: Labels,
    rules: Rules,
    shapes: AHashMap<Arc<Shape>, u32>,
    shapes_by_index: Vec<Arc<Shape>>,
    targets: Generations<u64, Arc<KnownTarget>>,
    blocks: Generations<(u64, u32), Arc<Block>>,
    edits: Generations<(u64, u32), Arc<Edits>>,
    references: Generations<(u64, u32), Arc<References>>,
    /// Blocks that were used lately and have no edits kept, each at a place of its own hash. A
    /// block gets edits when it comes again before another one has taken its place, so that the
    /// blocks of many targets without a like do not drive out those that are used all the time.
    seen: Box<[(u64, u32)]>,
    edits_builder: EditsBuilder,
    malformed_blocks: u64,
}

impl Deriver {
    /// A deriver for the setting of `endpoint`.
    pub fn new(endpoint: &Endpoint) -> Self {
        Self {
            external_labels: endpoint.external_labels.clone(),
            rules: endpoint.write_relabel_configs.clone(),
            shapes: AHashMap::new(),
            shapes_by_index: Vec::new(),
            targets: Generations::new(TARGETS_MAX),
            blocks: Generations::new(DERIVED_BYTES_MAX),
            edits: Generations::new(EDITS_BYTES_MAX),
            references: Generations::new(REFERENCES_BYTES_MAX),
            seen: vec![(0, 0); SEEN_BLOCKS].into(),
            edits_builder: EditsBuilder::default(),
            malformed_blocks: 0,
        }
    }

    /// What to write in place of `block`: its derivation, and edits if it is used often.
    pub fn template(&mut self, block: &Arc<Block>, target: &KnownTarget) -> Template {
        let derived = self.block(block, target);
        let key = (block.id, target.shape);
        let mut edits = self.edits.get(&key);
        if edits.is_none() {
            let place = block.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52 ^ u64::from(key.1);
            let seen = &mut self.seen[place as usize % SEEN_BLOCKS];
            if *seen == key {
                let own = derived.as_deref().unwrap_or(block);
                let made = Edits::new(own, &mut self.edits_builder);
                if let Ok(made) = made.map(Arc::new) {
                    self.edits.insert(key, made.clone(), made.cost());
                    edits = Some(made);
                }
            }
            *seen = key;
        }
        Template {
            block: derived,
            edits,
            references: None,
        }
    }

    /// What the series of `block`, or of its derivation, refer to; with their metadata, if `known`
    /// is given. `None` if the bytes cannot be read.
    pub fn references(
        &mut self,
        block: &Arc<Block>,
        target: &KnownTarget,
        known: Option<&Metadata>,
    ) -> Option<Arc<References>> {
        let key = (block.id, target.shape);
        if let Some(references) = self.references.get(&key) {
            return Some(references);
        }
        let derived = self.block(block, target);
        let family = |name: &str| known.and_then(|known| known.family(&block.families, name));
        match References::new(derived.as_deref().unwrap_or(block), family) {
            Ok(references) => {
                let references = Arc::new(references);
                let cost = references.cost();
                self.references.insert(key, references.clone(), cost);
                Some(references)
            }
            Err(Malformed) => {
                self.malformed_blocks += 1;
                None
            }
        }
    }

    /// Samples at `range` of a scrape that write relabelling does not drop.
    pub fn kept(&mut self, scrape: &Scrape, target: &KnownTarget, range: Range<u32>) -> u32 {
        if self.is_identity() {
            return range.end - range.start;
        }
        let (mut at, mut kept) = (0, 0);
        for run in scrape.layout.runs.iter().chain(&scrape.stale) {
            let Some((first, from, to)) = clip(run, &mut at, &range) else {
                continue;
            };
            let derived = self.block(&run.block, target);
            let block = derived.as_deref().unwrap_or(&run.block);
            let entries = first..(first + (to - from)).min(block.entries.len() as u32);
            let is_kept = |index: &u32| {
                let (bytes, holes) = block.entry(*index);
                !bytes.is_empty() || !holes.is_empty()
            };
            kept += entries.filter(is_kept).count() as u32;
        }
        kept
    }

    /// Whether every block is its own derivation.
    pub fn is_identity(&self) -> bool {
        self.external_labels.is_empty() && self.rules.is_empty()
    }

    /// Blocks whose bytes could not be read; all their series are dropped.
    pub fn malformed_blocks(&self) -> u64 {
        self.malformed_blocks
    }

    /// The target with its labels encoded, from memory if it was seen lately.
    pub fn target(&mut self, target: &Target) -> Arc<KnownTarget> {
        if let Some(known) = self.targets.get(&target.id) {
            return known;
        }
        let shape = if self.is_identity() {
            0
        } else {
            self.shape(target)
        };
        let known = Arc::new(KnownTarget {
            labels: TargetLabels::new(target),
            shape,
        });
        self.targets.insert(target.id, known.clone(), 1);
        known
    }

    /// The block to encode from in place of `block`; `None` means `block` itself.
    pub fn block(&mut self, block: &Arc<Block>, target: &KnownTarget) -> Option<Arc<Block>> {
        if self.is_identity() {
            return None;
        }
        let key = (block.id, target.shape);
        if let Some(derived) = self.blocks.get(&key) {
            return Some(derived);
        }
        let shape = &self.shapes_by_index[target.shape as usize];
        let derived = derive(block, shape, &self.external_labels, &self.rules);
        let derived = Arc::new(derived.unwrap_or_else(|Malformed| {
            self.malformed_blocks += 1;
            without_series(block)
        }));
        let bytes = size_of::<Block>()
            + derived.bytes.len()
            + derived.entries.len() * size_of::<BlockEntry>()
            + derived.holes.len() * size_of::<Hole>();
        self.blocks.insert(key, derived.clone(), bytes);
        Some(derived)
    }

    fn shape(&mut self, target: &Target) -> u32 {
        let shape: Shape = target
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), self.rules.reads(name).then(|| value.clone())))
            .collect();
        if let Some(index) = self.shapes.get(&shape) {
            return *index;
        }
        // A rule may read a label that every target has a value of its own for: bounded by
        // forgetting all, which costs deriving again.
        if self.shapes_by_index.len() >= TARGETS_MAX {
            self.shapes.clear();
            self.shapes_by_index.clear();
            self.targets.clear();
            self.blocks.clear();
            self.edits.clear();
            self.references.clear();
            self.seen.fill((0, 0));
        }
        let index = self.shapes_by_index.len() as u32;
        let shape = Arc::new(shape);
        self.shapes_by_index.push(shape.clone());
        self.shapes.insert(shape, index);
        index
    }
}

/// Derives all entries of `block` for targets of one shape.
fn derive(
    block: &Block,
    shape: &Shape,
    external_labels: &Labels,
    rules: &Rules,
) -> Result<Block, Malformed> {
    let mut bytes = Vec::with_capacity(block.bytes.len());
    let mut holes = Vec::with_capacity(block.holes.len());
    let mut entries = Vec::with_capacity(block.entries.len());
    let mut labels = LabelsBuilder::new();
    for index in 0..block.entries.len() as u32 {
        read_entry(block, index, shape, &mut labels)?;
        for (name, value) in external_labels.iter() {
            if labels.get(name).is_none() {
                labels.set_text(name, value);
            }
        }
        if rules.apply(&mut labels) == Verdict::Keep {
            // A labelmap can make an empty name, which no receiver takes.
            for (name, value) in labels.iter().filter(|(name, _)| !name.is_empty()) {
                match value {
                    Value::Text(text) => put_label(&mut bytes, name, text),
                    Value::Target(target_label) => holes.push(Hole {
                        offset: bytes.len() as u32,
                        target_label: *target_label,
                    }),
                }
            }
        }
        entries.push(BlockEntry {
            bytes_end: bytes.len() as u32,
            holes_end: holes.len() as u32,
        });
    }
    Ok(Block {
        id: block.id,
        bytes: bytes.into(),
        entries: entries.into(),
        holes: holes.into(),
        families: Box::default(),
    })
}

/// Reads entry `index` as labels; the target's are text where `shape` has the value, else holes.
fn read_entry(
    block: &Block,
    index: u32,
    shape: &Shape,
    labels: &mut LabelsBuilder,
) -> Result<(), Malformed> {
    labels.clear();
    let (range, holes) = block.entry(index);
    for hole in holes {
        let (name, value) = shape.get(usize::from(hole.target_label)).ok_or(Malformed)?;
        let value = match value {
            Some(text) => Value::Text(text.to_string()),
            None => Value::Target(hole.target_label),
        };
        labels.set(name, value);
    }
    let bytes = block.bytes.get(range).ok_or(Malformed)?;
    let mut at = 0;
    while at < bytes.len() {
        let (name, value) = get_label(bytes, &mut at)?;
        labels.set_text(name, value);
    }
    Ok(())
}

/// A block of as many entries as `block`, all of them dropped.
fn without_series(block: &Block) -> Block {
    let dropped = BlockEntry {
        bytes_end: 0,
        holes_end: 0,
    };
    Block {
        id: block.id,
        bytes: Box::default(),
        entries: vec![dropped; block.entries.len()].into(),
        holes: Box::default(),
        families: Box::default(),
    }
}

/// A bounded map that forgets what was not used for a while: when the young generation has used
/// half of the budget, the old one goes and the young one takes its place.
#[derive(Debug)]
struct Generations<K, V> {
    young: AHashMap<K, (V, usize)>,
    old: AHashMap<K, (V, usize)>,
    young_cost: usize,
    cost_max: usize,
}

impl<K: std::hash::Hash + Eq + Copy, V: Clone> Generations<K, V> {
    fn new(cost_max: usize) -> Self {
        Self {
            young: AHashMap::new(),
            old: AHashMap::new(),
            young_cost: 0,
            cost_max,
        }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (value, cost) = self.old.remove(key)?;
        self.insert(*key, value.clone(), cost);
        Some(value)
    }

    fn insert(&mut self, key: K, value: V, cost: usize) {
        if self.young_cost + cost > self.cost_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_cost = 0;
        }
        self.young_cost += cost;
        self.young.insert(key, (value, cost));
    }

    fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_cost = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_bounded_and_keep_what_is_used() {
        let mut cache = Generations::new(10);
        for key in 0..100_u32 {
            cache.insert(key, key, 1);
            assert_eq!(cache.get(&0), Some(0), "used each time, at {key}");
            assert!(cache.young.len() + cache.old.len() <= 10);
        }
        assert_eq!(cache.get(&99), Some(99));
        assert_eq!(cache.get(&50), None);
    }
}
