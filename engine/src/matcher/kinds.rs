//! Where entries of a body came from + metric types -> the same with types right.
//!
//! The labels `le` and `quantile` depend on the TYPE in force, which may be declared many lines
//! before. So an entry whose labels depend on it holds only under the type that it was derived
//! with; under another one it is a new entry with the same text.

use super::layout::Layout;
use super::scratch::{Segment, Source};
use super::text_block::Fresh;
use ringscrape_wal::definition::FamilyKind;

/// Tells all new entries the type in force, and turns known entries for which it changed into new
/// ones. `consistent`: `old` is the layout of a body; if not, it was put together from several,
/// and every entry is looked at.
pub(crate) fn resolve(
    old: Option<&Layout>,
    consistent: bool,
    segments: &[Segment],
    fresh: &mut Fresh,
) -> Vec<Segment> {
    let mut resolved = Vec::with_capacity(segments.len());
    let mut kind = FamilyKind::Unknown;
    for segment in segments {
        match (segment.source, old) {
            (Source::New(from), _) => {
                for index in from..from + segment.len {
                    kind = fresh.resolve_kind(index, kind);
                }
                append(&mut resolved, *segment);
            }
            (Source::Old(from), Some(layout)) => {
                let to = from + segment.len;
                let mut known = Known {
                    layout,
                    next: from,
                    to,
                    at: segment.at,
                };
                known.each(consistent, &mut kind, fresh, &mut resolved);
                if known.next < to {
                    let rest = Segment {
                        at: known.at,
                        len: to - known.next,
                        source: Source::Old(known.next),
                    };
                    append(&mut resolved, rest);
                    kind = last_declared(layout, known.next, to).unwrap_or(kind);
                }
            }
            (Source::Old(_), None) => debug_assert!(false, "BUG: a segment of no layout"),
        }
    }
    resolved
}

/// Known entries that are still to be looked at.
struct Known<'a> {
    layout: &'a Layout,
    /// The next one, and the end.
    next: u32,
    to: u32,
    /// Where the next one stands in the body.
    at: u32,
}

impl Known<'_> {
    /// Looks at each entry; if they are `consistent`, only at those before the first that declares
    /// a type.
    fn each(
        &mut self,
        consistent: bool,
        kind: &mut FamilyKind,
        fresh: &mut Fresh,
        resolved: &mut Vec<Segment>,
    ) {
        let (mut run, mut entry) = self.layout.locate(self.next);
        while self.next < self.to {
            let text = &self.layout.runs[run];
            let have = text.block.kinds[entry as usize];
            if have.declared.is_some() && consistent {
                return;
            }
            *kind = have.declared.unwrap_or(*kind);
            let source = match have.used {
                Some(used) if used != *kind => {
                    let index = fresh.len();
                    fresh.push_entry(&text.block, entry);
                    fresh.resolve_kind(index, *kind);
                    Source::New(index)
                }
                _ => Source::Old(self.next),
            };
            let (at, len) = (self.at, 1);
            append(resolved, Segment { at, len, source });
            self.next += 1;
            self.at += 1;
            entry += 1;
            if entry == text.to {
                run += 1;
                entry = self.layout.runs.get(run).map_or(0, |next| next.from);
            }
        }
    }
}

fn last_declared(layout: &Layout, from: u32, to: u32) -> Option<FamilyKind> {
    let (mut run, mut entry) = layout.locate(to - 1);
    for _ in from..to {
        let text = &layout.runs[run];
        if let Some(kind) = text.block.kinds[entry as usize].declared {
            return Some(kind);
        }
        if entry > text.from {
            entry -= 1;
        } else if run > 0 {
            run -= 1;
            entry = layout.runs[run].to - 1;
        }
    }
    None
}

/// Adds a segment, to the last one if it follows it in the body and in its source.
fn append(segments: &mut Vec<Segment>, segment: Segment) {
    if let Some(last) = segments.last_mut() {
        let follows = match (last.source, segment.source) {
            (Source::Old(a), Source::Old(b)) | (Source::New(a), Source::New(b)) => {
                a + last.len == b
            }
            _ => false,
        };
        if follows {
            last.len += segment.len;
            return;
        }
    }
    segments.push(segment);
}
