//! Bytes of a body -> values along a known layout; what changed -> new blocks and a new layout.
//!
//! Two scrapes of one target differ in the numbers, hardly ever in the text around them. So the
//! text is kept once (`TextBlock`, shared by all targets of a shard), what relabelling makes of it
//! is kept once per kind of target (`DerivedBlock`), and a target holds a list of runs through
//! such blocks (`Layout`). A scrape compares the body with the expected text, reads the number
//! behind it and goes on.
//!
//! **Indices.** A *raw index* numbers the sample lines of a layout, in the order of the body,
//! dropped ones included. A *kept index* numbers the entries of one block that relabelling kept:
//! the entries of the `wal` block. A *position* numbers the values of a logged scrape.
//!
//! **Not here**: what makes a scrape fail, staleness, limits, timestamps: see `scrape`.

mod collide;
mod derive;
mod guess;
mod hashed;
pub(crate) mod kinds;
mod layout;
mod resync;
mod scratch;
mod shape;
mod sweep;
mod tables;
pub(crate) mod template;
mod text_block;
mod walk;

pub(crate) use derive::{Derivation, Reject, SeriesRules};
pub(crate) use layout::{Layout, TextRun, push_run};
pub(crate) use scratch::{HistogramFault, RawExemplar, RawHistogram, Scratch, Segment, Source};
pub use sweep::MemoryUse;
pub(crate) use tables::Parts;
pub use tables::Tables;
pub(crate) use walk::Matcher;
