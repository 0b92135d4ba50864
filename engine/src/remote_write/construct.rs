//! One scrape -> `timeseries` fields of a remote write 1.0 request, in compressed form.
//!
//! The same request as `encode` makes, but never as a whole: a series mostly repeats the one
//! before, and where it does is known (`edits`), so what goes to the sink is a few bytes of its own
//! and repetitions. Of a record, `0x0a len labels 0x12 len 0x09 value 0x10 timestamp`:
//! - the length is its own if it differs;
//! - labels are edits of those before, holes are repeated with them;
//! - the value's own bytes are those in the middle that differ from the value before; the equal
//!   ones at its ends belong to the repetitions around it;
//! - all else is repeated.
//!
//! Every record begins and ends where it would be, so the distance is that of the record before,
//! and after the labels that of its own.
//!
//! **Invariant**: uncompressed, it is what `encode` gives (property tests in `tests/construct.rs`).

use super::edits::{Edits, EditsBuilder, HoleLists, Words};
use super::encode::{Counts, ENTRIES_PER_CHECK, Options, TargetLabels, clip};
use super::record::State;
use super::rows::Rows;
use super::sink::Sink;
use super::v2::references::References;
use ringscrape_wal::definition::Block;
use ringscrape_wal::scrape::Scrape;
use std::ops::Range;
use std::sync::Arc;

/// What to write in place of a block.
#[derive(Debug, Clone, Default)]
pub struct Template {
    /// The block to take labels from; `None`: the block itself.
    pub block: Option<Arc<Block>>,
    /// Its edits, if they are kept; else they are made for the moment.
    pub edits: Option<Arc<Edits>>,
    /// What its series refer to, for a remote write 2.0 request.
    pub references: Option<Arc<References>>,
}

/// Writes scrapes to one request after the other, and knows what the open one holds.
#[derive(Debug, Default)]
pub struct Constructor {
    /// Edits of a block that has none kept.
    passing: EditsBuilder,
    /// Edits of a single entry.
    single: EditsBuilder,
    state: State,
    rows: Rows,
    /// Of the present scrape, by run.
    templates: Vec<Template>,
    blocks: Vec<Arc<Block>>,
    /// By number of the hole list: what its holes take for the target.
    hole_lens: Vec<usize>,
    single_hole_lens: Vec<usize>,
    raw: Vec<u8>,
}

/// Where the edits of a run are read from.
pub(super) struct Source<'a> {
    pub(super) words: Words<'a>,
    pub(super) hole_lists: &'a HoleLists,
    pub(super) hole_lens: &'a [usize],
    /// First of the places of its texts.
    pub(super) texts: usize,
}

/// Makes edits of single entries.
pub(super) struct Single<'a> {
    pub(super) builder: &'a mut EditsBuilder,
    pub(super) hole_lens: &'a mut Vec<usize>,
}

/// Entries of a block that come next.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) scrape: &'a Scrape,
    pub(super) target: &'a TargetLabels,
    pub(super) options: Options,
    pub(super) block: &'a Arc<Block>,
    /// The first.
    pub(super) entry: u32,
    /// Its position in the scrape.
    pub(super) position: u32,
    pub(super) len: u32,
}

impl Constructor {
    /// Forgets the open request: the sink is empty.
    pub(super) fn start(&mut self) {
        self.state.clear();
        self.rows.clear();
    }

    /// Writes the samples at `range` (within `0..positions(scrape)`) to `sink`: see `encode`.
    pub(super) fn encode<S: Sink>(
        &mut self,
        sink: &mut S,
        scrape: &Scrape,
        target: &TargetLabels,
        range: Range<u32>,
        options: Options,
        mut template: impl FnMut(&Arc<Block>) -> Template,
    ) -> Counts {
        let too_old = Some(scrape.timestamp_ms) < options.timestamp_ms_min;
        let plain = S::ROWS
            && range == (0..scrape.layout.len)
            && scrape.values.len() == range.len()
            && scrape.stale.is_empty()
            && scrape.sides.is_none()
            && !too_old;
        let mut templates = std::mem::take(&mut self.templates);
        let mut blocks = std::mem::take(&mut self.blocks);
        templates.clear();
        blocks.clear();
        if plain {
            for run in &scrape.layout.runs {
                let own = template(&run.block);
                blocks.push(own.block.as_ref().unwrap_or(&run.block).clone());
                templates.push(own);
            }
        }
        let start = sink.len();
        let len_max = sink_end(sink, options) - start;
        let row = match plain {
            true => self.rows.write(sink, scrape, target, &blocks, len_max),
            false => None,
        };
        let counts = match row {
            Some(counts) => {
                self.state.unlike();
                counts
            }
            None => {
                let mut made = templates.drain(..);
                let template = |block: &Arc<Block>| made.next().unwrap_or_else(|| template(block));
                let counts = self.runs(sink, (scrape, target), range, options, template);
                if plain && counts.samples + counts.relabel_dropped == scrape.layout.len {
                    self.rows.keep(scrape, target, &blocks, start..sink.len());
                }
                counts
            }
        };
        (self.templates, self.blocks) = (templates, blocks);
        counts
    }

    /// Writes the runs of a scrape one after the other.
    fn runs<S: Sink>(
        &mut self,
        sink: &mut S,
        (scrape, target): (&Scrape, &TargetLabels),
        range: Range<u32>,
        options: Options,
        mut template: impl FnMut(&Arc<Block>) -> Template,
    ) -> Counts {
        let mut counts = Counts {
            timestamp_ms_newest: i64::MIN,
            ..Counts::default()
        };
        let sink_end = sink_end(sink, options);
        self.state.begin_scrape(scrape.timestamp_ms, target);
        let mut at = 0_u32;
        for run in scrape.layout.runs.iter().chain(&scrape.stale) {
            let Some((first, position, position_end)) = clip(run, &mut at, &range) else {
                continue;
            };
            let own = template(&run.block);
            let mut part = Part {
                scrape,
                target,
                options,
                block: own.block.as_ref().unwrap_or(&run.block),
                entry: first,
                position,
                len: position_end - position,
            };
            let end = self.run(sink, &mut part, own.edits.as_deref(), &mut counts, sink_end);
            if end < position_end {
                counts.end = end;
                return counts;
            }
        }
        counts.end = range.end;
        counts
    }

    /// Writes a run; gives the position after it, or at which `sink_end` was reached.
    fn run<S: Sink>(
        &mut self,
        sink: &mut S,
        part: &mut Part<'_>,
        kept: Option<&Edits>,
        counts: &mut Counts,
        sink_end: usize,
    ) -> u32 {
        let end = part.position + part.len;
        if (part.entry + part.len) as usize > part.block.entries.len() {
            counts.malformed += part.len;
            return end;
        }
        let state = &mut self.state;
        let found = match kept {
            Some(edits) => Some((edits.from(part.entry), &edits.hole_lists)),
            None => {
                let made = self
                    .passing
                    .entries(part.block, part.entry..part.entry + part.len);
                made.ok()
                    .map(|()| (self.passing.all(), &self.passing.hole_lists))
            }
        };
        let found = found.filter(|(_, lists)| lists.lens(part.target, &mut self.hole_lens));
        let Some((words, hole_lists)) = found else {
            return state.unfit(sink, part, &mut self.raw, counts, sink_end);
        };
        let mut source = Source {
            words,
            hole_lists,
            hole_lens: &self.hole_lens,
            texts: match kept {
                Some(edits) => state.places.kept_texts(edits.id, edits.texts),
                None => state.places.passing_texts(self.passing.texts),
            },
        };
        let mut single = Single {
            builder: &mut self.single,
            hole_lens: &mut self.single_hole_lens,
        };
        while part.position < end && sink.len() < sink_end {
            part.len = (end - part.position).min(ENTRIES_PER_CHECK);
            state.part(sink, part, &mut source, &mut single, counts);
            part.entry += part.len;
            part.position += part.len;
        }
        if kept.is_none() {
            let first = source.texts;
            state.places.end_texts(first);
        }
        part.position
    }
}

/// Where writing is to stop.
fn sink_end<S: Sink>(sink: &S, options: Options) -> usize {
    match options.bytes_max {
        0 => usize::MAX,
        bytes_max => sink.len().saturating_add(bytes_max),
    }
}
