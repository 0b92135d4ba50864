//! The blocks of a scrape -> the edits that a sender keeps of them.

use std::sync::Arc;

use ringscrape_engine::remote_write::construct::Template;
use ringscrape_engine::remote_write::edits::{Edits, EditsBuilder};
use ringscrape_wal::definition::Block;
use ringscrape_wal::scrape::Scrape;

/// Edits of the blocks that targets share.
#[derive(Debug)]
pub struct KeptEdits(Vec<(u64, Arc<Edits>)>);

impl KeptEdits {
    /// The edits of all blocks of `scrape`.
    ///
    /// # Panics
    /// `BUG:` if a block has none.
    pub fn new(scrape: &Scrape) -> Self {
        let mut builder = EditsBuilder::default();
        let runs = scrape.layout.runs.iter();
        let edits = runs.map(|run| {
            let edits = Edits::new(&run.block, &mut builder).expect("BUG: an odd block");
            (run.block.id, Arc::new(edits))
        });
        Self(edits.collect())
    }

    /// The block itself, and its edits if they are kept.
    pub fn template(&self, block: &Block) -> Template {
        let found = self.0.iter().find(|(id, _)| *id == block.id);
        Template {
            edits: found.map(|(_, edits)| edits.clone()),
            ..Template::default()
        }
    }
}
