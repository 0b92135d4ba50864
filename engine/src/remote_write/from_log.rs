//! One shard's live log -> the records of one endpoint: from the tail in memory, from the files
//! where the endpoint is behind it.
//!
//! **Runs on**: shard. Reading a file is a blocking read of at most 256 KiB from the page cache or
//! the disk, some of them for a record that needs a definition.

use super::source::{LogSource, Next};
use ringscrape_wal::definition::Route;
use ringscrape_wal::error::{Damage, ReadError};
use ringscrape_wal::log::ShardLog;
use ringscrape_wal::reader::LogReader;
use ringscrape_wal::scrape::Position;
use ringscrape_wal::segments::DiskRead;
use ringscrape_wal::storage::Storage;
use ringscrape_wal::tail::TailRead;
use std::path::PathBuf;
use std::sync::Arc;

/// Definitions and keyframes that one endpoint keeps while it reads files (bytes, about).
const CACHE_BYTES: usize = 16 << 20;

/// What one endpoint keeps between polls to read one shard's log.
#[derive(Debug)]
pub struct EndpointReader {
    endpoint: Box<str>,
    files: LogReader,
    /// Files were read since the endpoint was last up to the tail.
    behind: bool,
    /// The route looked at last, and whether it has the endpoint.
    route: Option<(u64, bool)>,
    segments_missing: u64,
    error: Option<ReadError>,
}

impl EndpointReader {
    /// A reader of the records for the endpoint with this identity, in the log kept in `dir`.
    pub fn new(endpoint: &str, storage: Arc<dyn Storage>, dir: PathBuf) -> Self {
        Self {
            endpoint: endpoint.into(),
            files: LogReader::with_cache(storage, dir, CACHE_BYTES),
            behind: false,
            route: None,
            segments_missing: 0,
            error: None,
        }
    }

    /// What to give to `ShardQueue::poll`. `log` is the log of this reader's directory.
    pub fn over<'a>(&'a mut self, log: &'a ShardLog) -> FromLog<'a> {
        FromLog { reader: self, log }
    }

    /// Whether the endpoint reads files, because it is behind what is in memory.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Segments that were passed over because their file is gone.
    pub fn segments_missing(&self) -> u64 {
        self.segments_missing
    }

    /// Places of files that were passed over since the last call, because they are damaged.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        self.files.take_damage()
    }

    /// The latest failure to read a file since the last call. Reading is tried again until it
    /// succeeds; meanwhile nothing new is sent to the endpoint.
    pub fn take_error(&mut self) -> Option<ReadError> {
        self.error.take()
    }
}

/// The log as one endpoint sees it, for the time of a poll.
#[derive(Debug)]
pub struct FromLog<'a> {
    reader: &'a mut EndpointReader,
    log: &'a ShardLog,
}

impl LogSource for FromLog<'_> {
    fn next(&mut self, from: Position) -> Next {
        let reader = &mut *self.reader;
        match self.log.tail_after(from) {
            TailRead::Empty => {
                reader.caught_up();
                Next::End
            }
            TailRead::Entry(entry) => {
                reader.caught_up();
                if reader.wants(&entry.scrape.route) {
                    Next::Record(entry.clone())
                } else {
                    Next::Skip { next: entry.end }
                }
            }
            TailRead::Behind => match self.log.segments().readable_from(from) {
                DiskRead::Segment(readable) => {
                    reader.behind = true;
                    let endpoint = &reader.endpoint;
                    let mut wanted = |route: &Route| has(route, endpoint);
                    match reader.files.next(&readable, from, &mut wanted) {
                        Ok(Some(entry)) => Next::Record(entry),
                        Ok(None) if readable.next > from => Next::Skip {
                            next: readable.next,
                        },
                        Ok(None) => Next::Pending,
                        // Somebody deleted it: what was in it is not coming back.
                        Err(error)
                            if error.source.kind() == std::io::ErrorKind::NotFound
                                && readable.next > from =>
                        {
                            reader.segments_missing += 1;
                            reader.error = Some(error);
                            Next::Skip {
                                next: readable.next,
                            }
                        }
                        Err(error) => {
                            reader.error = Some(error);
                            Next::Pending
                        }
                    }
                }
                // Recovery has not told yet what is there.
                DiskRead::NotYet | DiskRead::Nothing => Next::Pending,
            },
        }
    }
}

impl EndpointReader {
    /// Lets go of the file and the definitions.
    fn caught_up(&mut self) {
        if std::mem::take(&mut self.behind) {
            self.files.close();
        }
    }

    fn wants(&mut self, route: &Route) -> bool {
        match self.route {
            Some((id, wants)) if id == route.id => wants,
            _ => {
                let wants = has(route, &self.endpoint);
                self.route = Some((route.id, wants));
                wants
            }
        }
    }
}

fn has(route: &Route, endpoint: &str) -> bool {
    let found = route
        .endpoints
        .binary_search_by(|have| (**have).cmp(endpoint));
    found.is_ok()
}
