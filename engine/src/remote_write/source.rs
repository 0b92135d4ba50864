//! What a queue reads: the records of one shard's log from a position on.

use ringscrape_wal::scrape::Position;
use ringscrape_wal::tail::Entry;

/// The reading side of one shard's log for one endpoint, from memory where the tail is there, else
/// from disk.
///
/// All calls return at once; a call that has to read a file reads a bounded window.
pub trait LogSource {
    /// What stands at `from`. Asking for the same position twice gives the same record.
    fn next(&mut self, from: Position) -> Next;
}

/// What stands at a position of the log.
#[derive(Debug, Clone)]
pub enum Next {
    /// The first record at or after the position whose route has the endpoint.
    Record(Entry),
    /// Nothing for this endpoint up to `next`: other routes, quarantined frames, or segments that
    /// a cap deleted (the log counts those).
    Skip {
        /// Where to go on; above the position asked for.
        next: Position,
    },
    /// The end of what has been appended.
    End,
    /// What is there cannot be read yet: ask again in a while.
    Pending,
}
