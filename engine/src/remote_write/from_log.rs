//! One shard's live log -> the records of one endpoint: from the tail in memory, from the files
//! where the endpoint is behind it.
//!
//! **Runs on**: shard. Reading a file is a blocking read of at most 256 KiB from the page cache or
//! the disk, some of them for a record that needs a definition.

use super::source::{LogSource, Next};
use ringscrape_wal::definition::Route;
use ringscrape_wal::error::{Damage, DamageKind, ReadError};
use ringscrape_wal::log::ShardLog;
use ringscrape_wal::reader::LogReader;
use ringscrape_wal::scrape::Position;
use ringscrape_wal::segments::{DiskRead, Readable, Segments};
use ringscrape_wal::storage::Storage;
use ringscrape_wal::tail::TailRead;
use std::path::PathBuf;
use std::sync::Arc;

/// Definitions and keyframes that one endpoint keeps while it reads files (bytes, about).
const CACHE_BYTES: usize = 16 << 20;
/// How much of a segment that cannot be read is passed over before it is tried again (bytes).
const PASSED_OVER_BYTES: u32 = 256 << 10;

/// What one endpoint keeps between polls to read one shard's log.
#[derive(Debug)]
pub struct EndpointReader {
    /// Its identity, and those it had before.
    identities: Vec<Box<str>>,
    /// Records before it are wanted whatever their route.
    all_until: Position,
    files: LogReader,
    /// Files were read since the endpoint was last up to the tail.
    behind: bool,
    has_caught_up: bool,
    /// The route looked at last, and whether it has the endpoint.
    route: Option<(u64, bool)>,
    segments_missing: u64,
    error: Option<ReadError>,
    /// From where reading was asked for last and failed; it has not gone on since.
    stuck_at: Option<(u64, Position)>,
    /// The segment of which is passed over what cannot be read.
    given_up: Option<u64>,
    passed_over: Vec<Damage>,
}

impl EndpointReader {
    /// A reader of the records for the endpoint with this identity, in the log kept in `dir`.
    pub fn new(endpoint: &str, storage: Arc<dyn Storage>, dir: PathBuf) -> Self {
        Self {
            identities: vec![endpoint.into()],
            all_until: Position::default(),
            files: LogReader::with_cache(storage, dir, CACHE_BYTES),
            behind: false,
            has_caught_up: false,
            route: None,
            segments_missing: 0,
            error: None,
            stuck_at: None,
            given_up: None,
            passed_over: Vec::new(),
        }
    }

    /// Records for these identities are for the endpoint as well.
    pub fn set_former(&mut self, identities: impl IntoIterator<Item = Box<str>>) {
        self.identities.truncate(1);
        self.identities.extend(identities);
        self.route = None;
    }

    /// Records before `until` are for the endpoint, whatever their route.
    pub fn set_all_until(&mut self, until: Position) {
        self.all_until = until;
    }

    /// What to give to `ShardQueue::poll`. `log` is the log of this reader's directory.
    pub fn over<'a>(&'a mut self, log: &'a ShardLog) -> FromLog<'a> {
        FromLog { reader: self, log }
    }

    /// Same, over the segments of a directory that nobody writes any more.
    pub fn over_files<'a>(&'a mut self, segments: &'a Segments) -> FromFiles<'a> {
        FromFiles {
            reader: self,
            segments,
        }
    }

    /// Whether the endpoint reads files, because it is behind what is in memory.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Whether the endpoint came up to what is in memory, since the last call.
    pub fn take_caught_up(&mut self) -> bool {
        std::mem::take(&mut self.has_caught_up)
    }

    /// Segments that were passed over because their file is gone.
    pub fn segments_missing(&self) -> u64 {
        self.segments_missing
    }

    /// Places of files that were passed over since the last call, because they are damaged.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        let mut damage = self.files.take_damage();
        damage.append(&mut self.passed_over);
        damage
    }

    /// Where reading fails: until it has gone on from there, asked again or not meanwhile.
    pub fn stuck_at(&self) -> Option<Position> {
        self.stuck_at.map(|(_, from)| from)
    }

    /// From now on what cannot be read of the segment that fails is passed over, as damage. Gives
    /// the segment.
    pub fn give_up(&mut self) -> Option<u64> {
        self.given_up = self.stuck_at.map(|(segment, _)| segment);
        self.given_up
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
        let from = self.log.place_of(from);
        match self.log.tail_after(from) {
            TailRead::Empty => {
                reader.caught_up();
                Next::End
            }
            TailRead::Entry(entry) => {
                reader.caught_up();
                if entry.position < reader.all_until || reader.wants(&entry.scrape.route) {
                    Next::Record(entry.clone())
                } else {
                    Next::Skip { next: entry.end }
                }
            }
            TailRead::Behind => match self.log.segments().readable_from(from) {
                DiskRead::Segment(readable) => {
                    let next = next_of(&readable, self.log);
                    reader.read(&readable, from, next)
                }
                // Recovery has not told yet what is there.
                DiskRead::NotYet | DiskRead::Nothing => Next::Pending,
            },
        }
    }
}

/// The files of a log that nobody writes any more, for the time of a poll.
#[derive(Debug)]
pub struct FromFiles<'a> {
    reader: &'a mut EndpointReader,
    segments: &'a Segments,
}

impl LogSource for FromFiles<'_> {
    fn next(&mut self, from: Position) -> Next {
        match self.segments.readable_from(from) {
            DiskRead::Segment(readable) => self.reader.read(&readable, from, readable.next),
            DiskRead::Nothing => {
                self.reader.stuck_at = None;
                Next::End
            }
            DiskRead::NotYet => Next::Pending,
        }
    }
}

impl EndpointReader {
    /// What the file has at `from` for this endpoint; `next`: where to go on if it has nothing
    /// more.
    fn read(&mut self, readable: &Readable, from: Position, next: Position) -> Next {
        self.behind = true;
        let (identities, all_until) = (&self.identities, self.all_until);
        let mut wanted = |route: &Route| from < all_until || has(route, identities);
        self.stuck_at = None;
        match self.files.next(readable, from, &mut wanted) {
            Ok(Some(entry))
                if entry.position >= all_until && !has(&entry.scrape.route, identities) =>
            {
                Next::Skip { next: entry.end }
            }
            Ok(Some(entry)) => Next::Record(entry),
            Ok(None) if next > from => Next::Skip { next },
            Ok(None) => Next::Pending,
            // Somebody deleted it: what was in it is not coming back.
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound && next > from => {
                self.segments_missing += 1;
                self.error = Some(error);
                Next::Skip { next }
            }
            Err(_) if self.given_up == Some(readable.segment) => Next::Skip {
                next: self.pass_over(readable, from, next),
            },
            Err(error) => {
                self.error = Some(error);
                self.stuck_at = Some((readable.segment, from));
                Next::Pending
            }
        }
    }

    /// Where to go on behind a place of a file that cannot be read.
    fn pass_over(&mut self, readable: &Readable, from: Position, next: Position) -> Position {
        let begin = match from.segment == readable.segment {
            true => from.offset,
            false => 0,
        };
        let to = begin.saturating_add(PASSED_OVER_BYTES);
        let (to, next) = match to < readable.end_offset {
            true => {
                let segment = readable.segment;
                (
                    to,
                    Position {
                        segment,
                        offset: to,
                    },
                )
            }
            false => (readable.end_offset, next),
        };
        self.passed_over.push(Damage {
            segment: readable.segment,
            from: begin,
            to,
            kind: DamageKind::Unreadable,
        });
        next
    }

    /// Lets go of the file and the definitions.
    fn caught_up(&mut self) {
        self.stuck_at = None;
        if std::mem::take(&mut self.behind) {
            self.files.close();
            self.has_caught_up = true;
        }
    }

    fn wants(&mut self, route: &Route) -> bool {
        match self.route {
            Some((id, wants)) if id == route.id => wants,
            _ => {
                let wants = has(route, &self.identities);
                self.route = Some((route.id, wants));
                wants
            }
        }
    }
}

/// Where to go on when everything in a segment's file is read. Not in the next segment if this one
/// has records that its file lacks, since the disk failed: they are in memory, or were written
/// again elsewhere.
fn next_of(readable: &Readable, log: &ShardLog) -> Position {
    let end = Position {
        segment: readable.segment,
        offset: readable.end_offset,
    };
    let has_more = log.tail_start() < readable.next || log.place_of(end) != end;
    match has_more && end < readable.next {
        true => end,
        false => readable.next,
    }
}

fn has(route: &Route, identities: &[Box<str>]) -> bool {
    identities
        .iter()
        .any(|identity| route.endpoints.binary_search(identity).is_ok())
}
