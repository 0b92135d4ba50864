//! Entries of a block -> their references in the numbers of the open request, ready to be copied.

use super::references::{Reference, References};
use super::symbols::Symbols;
use super::{TAG_HELP, TAG_METADATA, TAG_TYPE, TAG_UNIT};
use crate::remote_write::wire::{put_bytes, put_varint};
use ringscrape_wal::definition::Hole;
use std::ops::Range;

/// Zero bytes after the last ones, so that short pieces are copied with one store.
pub(super) const ROOM: usize = 32;
/// A text that has no number yet.
const UNKNOWN: u32 = u32::MAX;
/// The metadata of a series that has none.
const NO_METADATA: u32 = u32::MAX;

/// Where an entry ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) bytes_end: u32,
    pub(super) holes_end: u32,
    /// Index of its metadata.
    metadata: u32,
}

/// Some entries of a block.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Packed references, then `ROOM`; the target's are missing.
    pub(super) bytes: Vec<u8>,
    /// Where the target's belong, as in a block.
    pub(super) holes: Vec<Hole>,
    pub(super) entries: Vec<Entry>,
    /// `metadata` fields.
    metadata: Vec<Vec<u8>>,
    /// Numbers of all its texts, once each.
    numbers: Vec<u32>,
    /// The request that has marked them last.
    request: u32,
}

impl Resolved {
    /// Resolves `entries`; `scratch` is memory to use.
    pub(super) fn new(
        references: &References,
        entries: Range<u32>,
        symbols: &mut Symbols,
        scratch: &mut Vec<u32>,
    ) -> Self {
        scratch.clear();
        scratch.resize(references.texts(), UNKNOWN);
        let mut numbers = Vec::new();
        let mut number = |text: u32, symbols: &mut Symbols| {
            let known = &mut scratch[text as usize];
            if *known == UNKNOWN {
                let (hash, text) = references.text(text);
                *known = symbols.hashed(hash, text);
                numbers.push(*known);
            }
            *known
        };
        let mut bytes = Vec::new();
        let mut holes = Vec::new();
        let mut metadata = Vec::new();
        // Where each family's is in `metadata`.
        let mut places = vec![NO_METADATA; references.families().len()];
        let mut resolved = Vec::with_capacity(entries.len());
        for entry in entries {
            let (labels, family) = references.entry(entry);
            let start = bytes.len();
            let holes_start = holes.len();
            for label in labels {
                match label {
                    Reference::Text(text) => {
                        put_varint(&mut bytes, number(text, symbols).into());
                    }
                    Reference::Target(target_label) => {
                        holes.push(Hole {
                            offset: bytes.len() as u32,
                            target_label,
                        });
                    }
                }
            }
            let dropped = bytes.len() == start && holes.len() == holes_start;
            let mut own = NO_METADATA;
            if let Some(family) = family.filter(|_| !dropped) {
                let place = &mut places[family as usize];
                if *place == NO_METADATA {
                    let texts = references.families()[family as usize];
                    let mut inner = Vec::new();
                    if texts.kind as u8 != 0 {
                        inner.extend_from_slice(&[TAG_TYPE, texts.kind as u8]);
                    }
                    for (tag, text) in [(TAG_HELP, texts.help), (TAG_UNIT, texts.unit)] {
                        if let Some(text) = text {
                            inner.push(tag);
                            put_varint(&mut inner, number(text, symbols).into());
                        }
                    }
                    let mut field = Vec::new();
                    if !inner.is_empty() {
                        put_bytes(&mut field, TAG_METADATA, &inner);
                    }
                    *place = metadata.len() as u32;
                    metadata.push(field);
                }
                own = *place;
            }
            resolved.push(Entry {
                bytes_end: bytes.len() as u32,
                holes_end: holes.len() as u32,
                metadata: own,
            });
        }
        bytes.resize(bytes.len() + ROOM, 0);
        Self {
            bytes,
            holes,
            entries: resolved,
            metadata,
            numbers,
            request: symbols.request(),
        }
    }

    /// The present request uses all of it.
    pub(super) fn mark(&mut self, symbols: &mut Symbols) {
        if self.request != symbols.request() {
            self.request = symbols.request();
            for number in &self.numbers {
                symbols.mark(*number);
            }
        }
    }

    /// Where entry `index` begins in `bytes` and in `holes`.
    pub(super) fn start(&self, index: u32) -> (usize, usize) {
        match index.checked_sub(1) {
            None => (0, 0),
            Some(before) => {
                let entry = self.entries[before as usize];
                (entry.bytes_end as usize, entry.holes_end as usize)
            }
        }
    }

    /// The `metadata` field of a series; empty if nothing is known.
    #[inline]
    pub(super) fn metadata(&self, entry: Entry) -> &[u8] {
        self.metadata
            .get(entry.metadata as usize)
            .map_or(&[], |field| field)
    }

    /// Memory, about.
    pub(super) fn cost(&self) -> usize {
        self.bytes.capacity()
            + self.holes.capacity() * size_of::<Hole>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.numbers.capacity() * size_of::<u32>()
            + self.metadata.len() * 48
    }
}
