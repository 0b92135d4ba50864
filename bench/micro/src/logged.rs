//! An exposition body -> its scrape as the log takes it: one target, its blocks, its values.

use std::sync::Arc;

use ringscrape_engine::labels::{LabelsBuilder, Value};
use ringscrape_engine::parse::{
    Comment, Dialect, Next, comments, kind_in_force, next_piece, series_labels,
};
use ringscrape_wal::definition::{
    Block, BlockEntry, Family, FamilyKind, Hole, Layout, Route, Run, Target, next_id,
};
use ringscrape_wal::scrape::Scrape;

const ENTRIES_PER_BLOCK: usize = 1_000;
const TARGET_LABELS: [(&str, &str); 2] = [("instance", "node-0042.example:9100"), ("job", "node")];

/// A target and the layout of its bodies.
#[derive(Debug, Clone)]
pub struct Logged {
    target: Arc<Target>,
    route: Arc<Route>,
    layout: Arc<Layout>,
}

impl Logged {
    /// The layout of a text body, without relabelling.
    ///
    /// # Panics
    /// `BUG:` if `body` does not parse.
    pub fn new(body: &str) -> Self {
        let mut labels = LabelsBuilder::new();
        let mut kind = FamilyKind::Unknown;
        let mut series = Vec::new();
        let mut families = Vec::new();
        each_piece(body, |piece| {
            for comment in comments(Dialect::Text, piece.prefix) {
                add(&mut families, &comment);
            }
            kind = kind_in_force(Dialect::Text, piece.prefix, kind);
            series_labels(Dialect::Text, piece.series, kind, &mut labels)
                .expect("BUG: the body's labels are fine");
            for ((name, _), index) in TARGET_LABELS.iter().zip(0..) {
                labels.set(name, Value::Target(index));
            }
            series.push(labels.clone());
        });
        // The first block has all, as if they were declared there.
        let runs = series.chunks(ENTRIES_PER_BLOCK).map(|entries| Run {
            block: Arc::new(block(entries, std::mem::take(&mut families))),
            from: 0,
            to: entries.len() as u32,
        });
        Self {
            target: Arc::new(Target {
                id: next_id(),
                key: 1,
                labels: target_labels(),
            }),
            route: Arc::new(Route {
                id: next_id(),
                endpoints: Box::new(["receiver".into()]),
            }),
            layout: Arc::new(Layout {
                id: next_id(),
                runs: runs.collect(),
                len: series.len() as u32,
            }),
        }
    }

    /// The scrape of a body with this layout: its values are all that is read of it.
    ///
    /// # Panics
    /// `BUG:` if `body` has another number of samples than the layout.
    pub fn scrape(&self, body: &str, timestamp_ms: i64) -> Arc<Scrape> {
        let mut values = Vec::new();
        each_piece(body, |piece| values.push(piece.value));
        assert_eq!(values.len(), self.layout.len as usize, "BUG: another body");
        Arc::new(Scrape {
            target: self.target.clone(),
            route: self.route.clone(),
            timestamp_ms,
            layout: self.layout.clone(),
            values,
            stale: Box::new([]),
            sides: None,
        })
    }

    /// `scrape` some steps later: half of the values as they were, the others a little higher.
    pub fn later(&self, scrape: &Scrape, steps: u32) -> Arc<Scrape> {
        let mut later = scrape.clone();
        later.timestamp_ms += 15_000 * i64::from(steps);
        for (value, index) in later.values.iter_mut().zip(0_u32..) {
            if index % 2 == 1 {
                *value += f64::from(steps * (index % 97));
            }
        }
        Arc::new(later)
    }

    /// The scrape of another target of the same program.
    pub fn of_another(&self, scrape: &Scrape, number: u32) -> Arc<Scrape> {
        let mut other = Scrape::clone(&self.later(scrape, number + 1));
        other.timestamp_ms = scrape.timestamp_ms + i64::from(number * 37);
        let instance = format!("node-{number:04}.example:9100");
        let mut labels = target_labels();
        labels[0].1 = instance.into();
        other.target = Arc::new(Target {
            id: next_id(),
            key: u64::from(number) + 2,
            labels,
        });
        Arc::new(other)
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// The labels of the target that all bodies are of.
pub(crate) fn target_labels() -> Box<[(Box<str>, Box<str>)]> {
    Box::new(TARGET_LABELS.map(|(name, value)| (name.into(), value.into())))
}

fn each_piece(body: &str, mut each: impl FnMut(&ringscrape_engine::parse::Piece<'_>)) {
    let mut rest = body.as_bytes();
    while let Next::Sample(piece) =
        next_piece(Dialect::Text, rest, true).expect("BUG: the body is fine")
    {
        each(&piece);
        rest = &rest[piece.len..];
    }
}

/// Takes note of a comment about a family.
fn add(families: &mut Vec<Family>, comment: &Comment<'_>) {
    let (Comment::Help(name, _) | Comment::Type(name, _) | Comment::Unit(name, _)) = comment;
    if families.last().is_none_or(|family| *family.name != **name) {
        families.push(Family {
            name: (**name).into(),
            ..Family::default()
        });
    }
    let Some(family) = families.last_mut() else {
        return;
    };
    match comment {
        Comment::Help(_, help) => family.help = (**help).into(),
        Comment::Type(_, kind) => family.kind = *kind,
        Comment::Unit(_, unit) => family.unit = (**unit).into(),
    }
}

/// Label sets as templates in wire form.
fn block(entries: &[LabelsBuilder], families: Vec<Family>) -> Block {
    let (mut bytes, mut ends, mut holes) = (Vec::new(), Vec::new(), Vec::new());
    for labels in entries {
        for (name, value) in labels.iter() {
            match value {
                Value::Text(text) => put_label(&mut bytes, name, text),
                Value::Target(target_label) => holes.push(Hole {
                    offset: bytes.len() as u32,
                    target_label: *target_label,
                }),
            }
        }
        ends.push(BlockEntry {
            bytes_end: bytes.len() as u32,
            holes_end: holes.len() as u32,
        });
    }
    Block {
        id: next_id(),
        bytes: bytes.into(),
        entries: ends.into(),
        holes: holes.into(),
        families: families.into(),
    }
}

/// One `labels` field of a remote write 1.0 series.
fn put_label(out: &mut Vec<u8>, name: &str, value: &str) {
    let field = |text: &str| 1 + varint_len(text.len()) + text.len();
    out.push(0x0a);
    put_varint(out, field(name) + field(value));
    for (tag, text) in [(0x0a, name), (0x12, value)] {
        out.push(tag);
        put_varint(out, text.len());
        out.extend_from_slice(text.as_bytes());
    }
}

fn varint_len(value: usize) -> usize {
    let bits = (usize::BITS - value.leading_zeros()).max(1) as usize;
    bits.div_ceil(7)
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::Logged;
    use crate::{kube_like, node_like};

    #[test]
    fn a_layout_takes_every_scrape_of_its_target() {
        for (one, two) in [
            (node_like(2_500, 1), node_like(2_500, 5)),
            (kube_like(500, 1), kube_like(500, 5)),
        ] {
            let logged = Logged::new(&one);
            let scrape = logged.scrape(&two, 15_000);
            let entries: u32 = scrape.layout.runs.iter().map(|run| run.to).sum();
            assert_eq!(entries as usize, scrape.values.len());
        }
    }
}
