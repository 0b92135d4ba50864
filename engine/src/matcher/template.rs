//! Labels -> the bytes of a series with holes for the target's own labels, and back.
//!
//! The form is `wal::definition::Block`: per label `0x0a len { 0x0a len name 0x12 len value }`,
//! protobuf `Label`s as field 1 of a `TimeSeries` of remote write 1.0, sorted by name.

use crate::labels::{Labels, LabelsBuilder, Value};
use crate::parse::Exposed;
use ringscrape_wal::definition::{Block, BlockEntry, Hole, Target};

/// A block under construction.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    pub(crate) bytes: Vec<u8>,
    pub(crate) entries: Vec<BlockEntry>,
    pub(crate) holes: Vec<Hole>,
}

impl BlockBuilder {
    /// Adds a series.
    pub(crate) fn push(&mut self, labels: &LabelsBuilder) {
        for (name, value) in labels.iter() {
            self.push_value(name, value);
        }
        self.end_entry();
    }

    /// Adds the series of `exposed` labels and the target's `own` ones, both sorted by name.
    /// `false`, and adds nothing: it is not that plain.
    pub(crate) fn push_plain(
        &mut self,
        exposed: &[Exposed<'_>],
        own: &[(Box<str>, Value)],
    ) -> bool {
        let before = (self.bytes.len(), self.holes.len());
        let mut own = own.iter().peekable();
        let mut named = false;
        for label in exposed {
            while let Some((name, value)) = own.next_if(|(name, _)| **name < *label.name) {
                self.push_value(name, value);
            }
            if own.peek().is_some_and(|(name, _)| **name == *label.name) {
                named = false;
                break;
            }
            if !label.value.is_empty() {
                named |= label.name == "__name__";
                write_label(&mut self.bytes, &label.name, &label.value);
            }
        }
        if !named {
            self.bytes.truncate(before.0);
            self.holes.truncate(before.1);
            return false;
        }
        for (name, value) in own {
            self.push_value(name, value);
        }
        self.end_entry();
        true
    }

    fn push_value(&mut self, name: &str, value: &Value) {
        match value {
            Value::Text(text) => write_label(&mut self.bytes, name, text),
            Value::Target(index) => self.holes.push(Hole {
                offset: self.bytes.len() as u32,
                target_label: *index,
            }),
        }
    }

    fn end_entry(&mut self) {
        self.entries.push(BlockEntry {
            bytes_end: self.bytes.len() as u32,
            holes_end: self.holes.len() as u32,
        });
    }

    /// The block; `families` are left empty.
    pub(crate) fn finish(self, id: u64) -> Block {
        Block {
            id,
            bytes: self.bytes.into(),
            entries: self.entries.into(),
            holes: self.holes.into(),
            families: Box::default(),
        }
    }
}

/// Writes what entry `index` of `block` is, so that equal bytes mean equal series. With a target
/// its labels are filled in; without one a hole stays a hole (two bytes of its number after a
/// zero, where a label would begin with `0x0a`).
pub(crate) fn write_identity(
    block: &Block,
    index: u32,
    target: Option<&Target>,
    out: &mut Vec<u8>,
) {
    let (range, holes) = block.entry(index);
    let mut from = range.start;
    for hole in holes {
        let to = hole.offset as usize;
        out.extend_from_slice(&block.bytes[from..to]);
        from = to;
        match target {
            None => {
                out.push(0);
                out.extend_from_slice(&hole.target_label.to_le_bytes());
            }
            Some(target) => {
                let (name, value) = &target.labels[hole.target_label as usize];
                write_label(out, name, value);
            }
        }
    }
    out.extend_from_slice(&block.bytes[from..range.end]);
}

/// The labels of entry `index` of `block` for one target. `None`: the bytes are damaged.
pub(crate) fn labels_of(block: &Block, index: u32, target: &Target) -> Option<Labels> {
    let mut bytes = Vec::new();
    write_identity(block, index, Some(target), &mut bytes);
    let mut pairs = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let mut label = read_field(&mut rest, 0x0a)?;
        let name = read_field(&mut label, 0x0a)?;
        let value = read_field(&mut label, 0x12)?;
        pairs.push((
            std::str::from_utf8(name).ok()?,
            std::str::from_utf8(value).ok()?,
        ));
    }
    Some(Labels::from_pairs(pairs))
}

/// The labels of entry `index` of `block` that are no holes. `None`: the bytes are damaged.
pub(crate) fn constant_labels(block: &Block, index: u32) -> Option<Vec<(&str, &str)>> {
    let mut rest = &block.bytes[block.entry(index).0];
    let mut labels = Vec::with_capacity(8);
    while !rest.is_empty() {
        let mut label = read_field(&mut rest, 0x0a)?;
        let name = read_field(&mut label, 0x0a)?;
        let value = read_field(&mut label, 0x12)?;
        labels.push((
            std::str::from_utf8(name).ok()?,
            std::str::from_utf8(value).ok()?,
        ));
    }
    Some(labels)
}

fn write_label(out: &mut Vec<u8>, name: &str, value: &str) {
    let inner = 1 + varint_len(name.len()) + name.len() + 1 + varint_len(value.len()) + value.len();
    out.reserve(inner + 8);
    out.push(0x0a);
    write_varint(out, inner);
    out.push(0x0a);
    write_varint(out, name.len());
    out.extend_from_slice(name.as_bytes());
    out.push(0x12);
    write_varint(out, value.len());
    out.extend_from_slice(value.as_bytes());
}

fn write_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn read_field<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&have, mut bytes) = rest.split_first()?;
    if have != tag {
        return None;
    }
    let mut len = 0usize;
    for shift in (0..35).step_by(7) {
        let (&byte, tail) = bytes.split_first()?;
        bytes = tail;
        len |= ((byte & 0x7f) as usize) << shift;
        if byte < 0x80 {
            let (field, tail) = bytes.split_at_checked(len)?;
            *rest = tail;
            return Some(field);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gives_its_labels_back() {
        let target = Target {
            id: 1,
            key: 1,
            labels: Box::new([
                ("instance".into(), "a:1".into()),
                ("job".into(), "j".into()),
            ]),
        };
        let mut labels = LabelsBuilder::new();
        let long = "v".repeat(300);
        labels.set_text("__name__", "up");
        labels.set_text("z", &long);
        labels.set("instance", Value::Target(0));
        let mut builder = BlockBuilder::default();
        builder.push(&labels);
        labels.set("job", Value::Target(1));
        builder.push(&labels);
        let block = builder.finish(1);
        let first = labels_of(&block, 0, &target).unwrap();
        assert_eq!(
            first,
            Labels::from_pairs([("__name__", "up"), ("instance", "a:1"), ("z", &long)])
        );
        assert_eq!(labels_of(&block, 1, &target).unwrap().get("job"), "j");
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        write_identity(&block, 1, None, &mut open);
        write_identity(&block, 1, Some(&target), &mut closed);
        assert!(open.len() < closed.len());
    }
}
