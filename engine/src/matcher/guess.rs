//! A new target's body -> the layout of another target that it may follow.
//!
//! A thousand replicas of one program expose the same text, so the second one need not be parsed.
//! What follows such a layout only in part is treated as if it had been parsed whole: its text is
//! cut into blocks by itself alone, so that its replicas share them.

use super::scratch::{Segment, Source};
use super::tables::Recent;
use super::walk::Matcher;

impl Matcher {
    /// The body may follow a layout of another target, one of `guesses`.
    pub(crate) fn guess(&mut self, guesses: Recent) {
        self.guesses = Some(guesses);
    }

    /// Expects the latest layout that begins as the body does.
    pub(super) fn choose(&mut self, guesses: &Recent, window: &[u8]) {
        let guesses = guesses.borrow();
        let mut like = guesses.iter().rev().filter(|layout| {
            layout.dialect == self.dialect
                && layout.len() > 0
                && layout.runs[0]
                    .block
                    .begins(layout.runs[0].from, window, &self.hasher)
        });
        if let Some(layout) = like.next() {
            self.scratch.values.reserve(layout.len() as usize);
            (self.run, self.entry) = layout.locate(0);
            self.expect = Some(layout.clone());
            self.guessed = true;
        }
    }

    /// Makes all entries new ones, as if there had been nothing to expect.
    pub(crate) fn forget_guess(&mut self) {
        let Some(layout) = self.expect.take_if(|_| self.guessed) else {
            return;
        };
        self.guessed = false;
        let scratch = &mut self.scratch;
        let mut all = std::mem::take(&mut scratch.fresh_spare);
        for segment in &scratch.segments {
            for offset in 0..segment.len {
                match segment.source {
                    Source::Old(from) => {
                        let (run, entry) = layout.locate(from + offset);
                        all.push_entry(&layout.runs[run].block, entry);
                    }
                    Source::New(from) => all.push_from(&scratch.fresh, from + offset),
                }
            }
        }
        scratch.fresh_spare = std::mem::replace(&mut scratch.fresh, all);
        scratch.fresh_spare.clear();
        scratch.segments.clear();
        let len = scratch.fresh.len();
        if len > 0 {
            scratch.segments.push(Segment {
                at: 0,
                len,
                source: Source::New(0),
            });
        }
    }
}
