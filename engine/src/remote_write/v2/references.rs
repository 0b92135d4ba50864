//! A block of series -> its distinct texts, and for each series which of them are its labels.
//!
//! Found once per derived block and kept with it: what remains for a request is to number the
//! texts. A hole stays a hole. With the metadata of each series' family, as far as it is known.

use crate::remote_write::edits::segments;
use crate::remote_write::wire::{Malformed, get_label};
use ahash::AHashMap;
use ringscrape_wal::definition::{Block, Family, FamilyKind, next_id};
use xxhash_rust::xxh3::xxh3_64;

/// Set in a reference to a label of the target, whose index is in the low bits.
const TARGET: u32 = 1 << 31;
/// The family of a series that has none.
const NO_FAMILY: u32 = u32::MAX;

/// A name or a value, or both of a label of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference {
    /// The text of this index.
    Text(u32),
    /// Name and value of the target's label of this index.
    Target(u16),
}

#[derive(Debug, Clone, Copy)]
struct Text {
    hash: u64,
    end: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// End (exclusive) in `references`.
    end: u32,
    family: u32,
}

/// Metadata of a family in texts of the block.
#[derive(Debug, Clone, Copy)]
pub(super) struct FamilyTexts {
    pub(super) kind: FamilyKind,
    pub(super) help: Option<u32>,
    pub(super) unit: Option<u32>,
}

/// What the series of a block refer to.
#[derive(Debug)]
pub struct References {
    /// Unique in this process.
    pub(super) id: u64,
    /// The texts, one after the other.
    bytes: Box<str>,
    texts: Box<[Text]>,
    references: Box<[u32]>,
    entries: Box<[Entry]>,
    families: Box<[FamilyTexts]>,
    /// Labels of the target that have holes.
    pub(super) labels: Box<[u16]>,
}

impl References {
    /// What the series of `block` refer to; `family` gives the family of a metric name.
    ///
    /// # Errors
    /// `Malformed` if its bytes are not labels.
    pub fn new<'f>(
        block: &Block,
        mut family: impl FnMut(&str) -> Option<&'f Family>,
    ) -> Result<Self, Malformed> {
        let mut texts = Texts::default();
        let mut references = Vec::new();
        let mut entries = Vec::with_capacity(block.entries.len());
        let mut families = Vec::new();
        let mut labels_of_target = Vec::new();
        // By address of the family: they are asked for one after the other.
        let mut family_before: Option<(&Family, u32)> = None;
        for index in 0..block.entries.len() as u32 {
            let (range, holes) = block.entry(index);
            let mut name_of_metric = "";
            for (segment, hole) in segments(range, holes) {
                let bytes = block.bytes.get(segment).ok_or(Malformed)?;
                let mut at = 0;
                while at < bytes.len() {
                    let (name, value) = get_label(bytes, &mut at)?;
                    if name == "__name__" {
                        name_of_metric = value;
                    }
                    references.push(texts.index(name));
                    references.push(texts.index(value));
                }
                if let Some(label) = hole {
                    references.push(TARGET | u32::from(label));
                    if !labels_of_target.contains(&label) {
                        labels_of_target.push(label);
                    }
                }
            }
            let own = match name_of_metric {
                "" => None,
                name => family(name),
            };
            let number = match (own, family_before) {
                (None, _) => NO_FAMILY,
                (Some(own), Some((before, number))) if std::ptr::eq(own, before) => number,
                (Some(own), _) => {
                    let number = families.len() as u32;
                    families.push(FamilyTexts {
                        kind: own.kind,
                        help: texts.present(&own.help),
                        unit: texts.present(&own.unit),
                    });
                    family_before = Some((own, number));
                    number
                }
            };
            entries.push(Entry {
                end: references.len() as u32,
                family: number,
            });
        }
        Ok(Self {
            id: next_id(),
            bytes: texts.bytes.into(),
            texts: texts.texts.into(),
            references: references.into(),
            entries: entries.into(),
            families: families.into(),
            labels: labels_of_target.into(),
        })
    }

    /// Memory, about.
    pub(in crate::remote_write) fn cost(&self) -> usize {
        size_of::<Self>()
            + self.bytes.len()
            + self.texts.len() * size_of::<Text>()
            + self.references.len() * size_of::<u32>()
            + self.entries.len() * size_of::<Entry>()
            + self.families.len() * size_of::<FamilyTexts>()
    }

    /// Number of entries.
    pub(super) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Number of texts.
    pub(super) fn texts(&self) -> usize {
        self.texts.len()
    }

    /// A text and its hash.
    pub(super) fn text(&self, index: u32) -> (u64, &str) {
        let index = index as usize;
        let start = match index {
            0 => 0,
            _ => self.texts[index - 1].end,
        };
        let text = self.texts[index];
        (text.hash, &self.bytes[start as usize..text.end as usize])
    }

    /// The labels of an entry, name and value in turn, and its family.
    pub(super) fn entry(&self, index: u32) -> (impl Iterator<Item = Reference>, Option<u32>) {
        let index = index as usize;
        let start = match index {
            0 => 0,
            _ => self.entries[index - 1].end,
        };
        let entry = self.entries[index];
        let own = &self.references[start as usize..entry.end as usize];
        let references = own.iter().map(|reference| match reference & TARGET {
            0 => Reference::Text(*reference),
            _ => Reference::Target(*reference as u16),
        });
        (
            references,
            (entry.family != NO_FAMILY).then_some(entry.family),
        )
    }

    /// Metadata of the families.
    pub(super) fn families(&self) -> &[FamilyTexts] {
        &self.families
    }
}

/// Distinct texts.
#[derive(Default)]
struct Texts {
    bytes: String,
    texts: Vec<Text>,
    /// Indexes by hash.
    indexes: AHashMap<u64, u32>,
}

impl Texts {
    fn index(&mut self, text: &str) -> u32 {
        let hash = xxh3_64(text.as_bytes());
        if let Some(index) = self.indexes.get(&hash).copied() {
            let start = match index {
                0 => 0,
                _ => self.texts[index as usize - 1].end,
            };
            let known = self.texts[index as usize];
            if self.bytes[start as usize..known.end as usize] == *text {
                return index;
            }
        }
        let index = self.texts.len() as u32;
        self.bytes.push_str(text);
        self.texts.push(Text {
            hash,
            end: self.bytes.len() as u32,
        });
        self.indexes.entry(hash).or_insert(index);
        index
    }

    fn present(&mut self, text: &str) -> Option<u32> {
        (!text.is_empty()).then(|| self.index(text))
    }
}
