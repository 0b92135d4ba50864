//! Lines of one target + their derived labels -> what is needed to know the lines again without
//! their text: hashes to compare, and how to write the text anew.
//!
//! Text that no other target shares would be kept twice, as exposed and as derived labels. Most
//! lines are their labels in some order between fixed signs, so they are written again from the
//! labels where somebody asks for them; what is not is kept as it is.

use super::derive::DerivedBlock;
use super::template::constant_labels;
use super::text_block::Lines;
use crate::parse::{self, Dialect};
use std::rc::Rc;

/// More ways to write labels than these are not told apart within one block.
const ORDERS_MAX: usize = 250;
/// The entry is written from its labels in the order of this number; if not, it is kept.
const KEPT: u8 = u8::MAX;
/// In an order: the value is exposed without the `.0` that normalising added.
const SHORT: u8 = 0x80;

/// Lines without their text.
#[derive(Debug)]
pub(crate) struct Hashed {
    /// Length of each prefix.
    pub(super) lens: Box<[u16]>,
    /// How each entry's labels are written.
    orders: Box<[u8]>,
    order_table: Box<[Order]>,
    /// Comments before entries, and whole prefixes, by entry.
    stored: Box<[Stored]>,
    bytes: Box<[u8]>,
    derived: Rc<DerivedBlock>,
}

/// Exposed bytes that are kept.
#[derive(Debug, Clone, Copy)]
struct Stored {
    entry: u32,
    /// End (exclusive) in the bytes.
    end: u32,
    /// Where the series stands in the prefix: start and end.
    series: (u32, u32),
}

/// The places of an entry's labels in their sorted list, as exposed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Order {
    labels: Vec<u8>,
    trailing_comma: bool,
}

impl Hashed {
    /// `lines` without their text, if not more than `kept_max` bytes of it have to be kept. Every
    /// prefix ends in a blank then.
    pub(super) fn new(
        dialect: Dialect,
        lines: &Lines,
        derived: &Rc<DerivedBlock>,
        kept_max: usize,
    ) -> Option<Self> {
        let count = lines.ends.len();
        let mut hashed = Self {
            lens: Box::default(),
            orders: Box::default(),
            order_table: Box::default(),
            stored: Box::default(),
            bytes: Box::default(),
            derived: derived.clone(),
        };
        let (mut lens, mut orders) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let (mut stored, mut bytes) = (Vec::new(), Vec::new());
        let mut table: Vec<Order> = Vec::new();
        let mut again = Vec::new();
        for entry in 0..count as u32 {
            let prefix = lines.prefix(entry);
            if prefix.last() != Some(&b' ') {
                return None;
            }
            lens.push(u16::try_from(prefix.len()).ok()?);
            let (start, end) = lines.series_in_prefix(entry);
            let series = &prefix[start as usize..end as usize];
            let mut writes = |order: &Order| {
                again.clear();
                write_series(order, derived, entry, &mut again)
                    .is_some_and(|()| again == prefix[start as usize..])
            };
            // Neighbours are alike.
            let before = orders.last().map(|&order| order as usize);
            let before = before.filter(|&order| table.get(order).is_some_and(&mut writes));
            let order = match before {
                Some(_) => None,
                None => order_of(dialect, series, derived, entry).filter(writes),
            };
            let other = order.and_then(|order| {
                let known = table.iter().position(|known| *known == order);
                known.or_else(|| {
                    (table.len() < ORDERS_MAX).then(|| {
                        table.push(order);
                        table.len() - 1
                    })
                })
            });
            let known = before.or(other);
            let kept = match known {
                Some(_) => &prefix[..start as usize],
                None => prefix,
            };
            if !kept.is_empty() {
                bytes.extend_from_slice(kept);
                stored.push(Stored {
                    entry,
                    end: bytes.len() as u32,
                    series: (start, end),
                });
            }
            orders.push(known.map_or(KEPT, |known| known as u8));
        }
        if bytes.len() > kept_max {
            return None;
        }
        hashed.lens = lens.into();
        hashed.orders = orders.into();
        hashed.order_table = table.into();
        hashed.stored = stored.into();
        hashed.bytes = bytes.into();
        Some(hashed)
    }

    /// Appends everything before the value of an entry; gives where its series stands in it.
    pub(super) fn push_prefix(&self, entry: u32, out: &mut Vec<u8>) -> (u32, u32) {
        let base = out.len();
        let place = self
            .stored
            .binary_search_by_key(&entry, |stored| stored.entry);
        if let Ok(place) = place {
            let stored = &self.stored[place];
            let from = place.checked_sub(1).map_or(0, |at| self.stored[at].end);
            out.extend_from_slice(&self.bytes[from as usize..stored.end as usize]);
            if self.orders[entry as usize] == KEPT {
                return stored.series;
            }
        }
        let start = (out.len() - base) as u32;
        if let Some(order) = self.order_table.get(self.orders[entry as usize] as usize) {
            let written = write_series(order, &self.derived, entry, out);
            debug_assert!(written.is_some(), "BUG: it was written before");
        }
        // All but the blank.
        (start, (out.len() - base) as u32 - 1)
    }

    /// The lines as they were.
    pub(super) fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        let (mut text, mut ends, mut series) = (Vec::new(), Vec::new(), Vec::new());
        for entry in 0..self.lens.len() as u32 {
            let base = text.len() as u32;
            let (start, end) = self.push_prefix(entry, &mut text);
            series.push((base + start, base + end));
            ends.push(text.len() as u32);
        }
        lines.text = text.into();
        lines.ends = ends.into();
        lines.series = series.into();
        lines
    }

    /// Bytes of memory that this holds, without the labels.
    pub(super) fn memory_bytes(&self) -> usize {
        let orders = self
            .order_table
            .iter()
            .map(|order| size_of::<Order>() + order.labels.capacity());
        size_of::<Self>()
            + self.lens.len() * 3
            + self.bytes.len()
            + size_of_val(&*self.stored)
            + orders.sum::<usize>()
    }
}

/// How a series writes its labels.
fn order_of(dialect: Dialect, series: &[u8], derived: &DerivedBlock, entry: u32) -> Option<Order> {
    let labels = constant_labels(&derived.wal, derived.kept(entry)?)?;
    let mut order = Order {
        labels: Vec::new(),
        trailing_comma: series.ends_with(b",}"),
    };
    for label in parse::exposed_labels(dialect, series) {
        if label.name == "__name__" {
            continue;
        }
        let place = labels
            .iter()
            .position(|(name, value)| *name == label.name && !value.is_empty())?;
        let short = labels[place].1 != label.value;
        let place = u8::try_from(place).ok().filter(|place| *place < SHORT)?;
        order.labels.push(place | if short { SHORT } else { 0 });
    }
    Some(order)
}

/// Writes a series and the blank after it.
fn write_series(
    order: &Order,
    derived: &DerivedBlock,
    entry: u32,
    out: &mut Vec<u8>,
) -> Option<()> {
    let labels = constant_labels(&derived.wal, derived.kept(entry)?)?;
    let (_, metric) = labels.iter().find(|(name, _)| *name == "__name__")?;
    out.extend_from_slice(metric.as_bytes());
    for (number, place) in order.labels.iter().enumerate() {
        let (name, value) = labels.get(usize::from(place & !SHORT))?;
        out.push(if number == 0 { b'{' } else { b',' });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        let value = match place & SHORT {
            0 => value,
            _ => value.strip_suffix(".0")?,
        };
        for byte in value.bytes() {
            match byte {
                b'\n' => out.extend_from_slice(b"\\n"),
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                _ => out.push(byte),
            }
        }
        out.push(b'"');
    }
    if !order.labels.is_empty() {
        out.extend_from_slice(if order.trailing_comma { b",}" } else { b"}" });
    }
    out.push(b' ');
    Some(())
}
