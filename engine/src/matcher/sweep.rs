//! What targets no longer share -> memory given back; what the tables hold, by purpose.

use super::tables::Tables;
use super::text_block::RC_BYTES;
use super::{Layout, Scratch};
use std::rc::Rc;

/// In one step the text of about so many lines is given up.
const LINES_PER_STEP: u32 = 256;
/// How many runs of a layout are looked at in one step.
const RUNS_PER_STEP: usize = 64;

/// Bytes of memory by purpose, without what the allocator adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryUse {
    /// Exposed text, with hashes of its lines.
    pub text_bytes: usize,
    /// Hashes of lines whose text is not kept, and what it takes to write them again.
    pub hashed_bytes: usize,
    /// Series after relabelling, as templates; what the log holds of them too.
    pub derived_bytes: usize,
    /// Layouts.
    pub layout_bytes: usize,
    /// Buffers for later walks.
    pub scratch_bytes: usize,
    /// How many text blocks there are.
    pub text_blocks: usize,
    /// How many of them are known by hashes only.
    pub hashed_blocks: usize,
    /// How many derived blocks there are.
    pub derived_blocks: usize,
    /// How many layouts there are.
    pub layouts: usize,
}

impl Tables {
    /// Drops what no target uses any more. What the log still reads stays with the log.
    ///
    /// Text that one target alone has used since the last call is given up from now on, in small
    /// steps: its lines are known by their hashes then.
    pub fn sweep(&mut self) {
        self.recent.borrow_mut().clear();
        self.layouts.retain(|_, layouts| {
            layouts.retain(|layout| Rc::strong_count(layout) > 1);
            !layouts.is_empty()
        });
        for derivation in self.derivations.values() {
            let mut blocks = derivation.blocks.borrow_mut();
            blocks.retain(|_, derived| Rc::strong_count(derived) > 1);
        }
        self.derivations
            .retain(|_, derivation| Rc::strong_count(derivation) > 1);
        self.texts.retain(|_, blocks| {
            blocks.retain(|block| Rc::strong_count(block) > 1);
            !blocks.is_empty()
        });
        self.lonely.clear();
        for layout in self.layouts.values().flatten() {
            // The tables and one target; while a body is on its way it waits for the next time.
            let lonely = Rc::strong_count(layout) == 2;
            match layout.lonely_sweeps.get() {
                0 if lonely => layout.lonely_sweeps.set(1),
                1 if lonely => self.lonely.push(Rc::downgrade(layout)),
                2.. => {}
                _ => layout.lonely_sweeps.set(0),
            }
        }
    }

    /// Frees what is kept for later walks.
    pub fn trim(&mut self) {
        self.scratch = Vec::new();
        self.lonely = Vec::new();
        self.texts.shrink_to_fit();
        self.layouts.shrink_to_fit();
        for derivation in self.derivations.values() {
            derivation.blocks.borrow_mut().shrink_to_fit();
        }
    }

    /// Gives up some text that one target alone uses.
    pub(super) fn give_texts_up(&mut self) {
        let Some(layout) = self.lonely.last() else {
            return;
        };
        if let Some(layout) = layout.upgrade()
            && layout.give_texts_up()
        {
            return;
        }
        self.lonely.pop();
    }

    /// Gives up all text, shared or not; how many blocks that was.
    #[cfg(test)]
    pub(crate) fn give_all_texts_up(&mut self) -> usize {
        let layouts = self.layouts.values().flatten();
        let runs = layouts.flat_map(|layout| &layout.runs);
        runs.filter(|run| run.block.give_any_text_up(&run.derived))
            .count()
    }

    /// What these tables hold.
    pub fn memory_use(&self) -> MemoryUse {
        let mut memory = MemoryUse::default();
        for block in self.texts.values().flatten() {
            let (text, hashed) = block.memory_bytes();
            memory.text_blocks += 1;
            memory.hashed_blocks += usize::from(hashed > 0);
            memory.text_bytes += text;
            memory.hashed_bytes += hashed;
        }
        for derivation in self.derivations.values() {
            for derived in derivation.blocks.borrow().values() {
                memory.derived_blocks += 1;
                memory.derived_bytes += derived.memory_bytes();
            }
        }
        for layout in self.layouts.values().flatten() {
            memory.layouts += 1;
            memory.layout_bytes += RC_BYTES + layout.memory_bytes();
        }
        memory.scratch_bytes = self.scratch.iter().map(Scratch::memory_bytes).sum();
        memory
    }
}

impl Layout {
    /// Gives up the text of the next blocks that nobody else uses. False: there are no more.
    fn give_texts_up(&self) -> bool {
        let first = self.next_lonely.get();
        let mut lines = 0;
        for (number, run) in self.runs.iter().enumerate().skip(first).take(RUNS_PER_STEP) {
            self.next_lonely.set(number + 1);
            // The tables and this run.
            if Rc::strong_count(&run.block) == 2 && run.block.give_text_up(&run.derived) {
                lines += run.block.len();
            }
            if lines >= LINES_PER_STEP {
                return true;
            }
        }
        let more = self.next_lonely.get() < self.runs.len();
        if !more {
            self.lonely_sweeps.set(2);
        }
        more
    }
}
