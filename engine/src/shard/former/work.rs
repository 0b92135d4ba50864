//! One former directory -> opened, its cursors saved, what all have deleted: on a blocking thread.

use super::super::CURSOR_KEEP_MS;
use ringscrape_wal::backlog::Backlog;
use ringscrape_wal::error::{Damage, ReadError};
use ringscrape_wal::recovery;
use ringscrape_wal::scrape::Scrape;
use ringscrape_wal::segments::DeletionCause;
use ringscrape_wal::storage::FsStorage;
use std::path::Path;
use std::sync::Arc;
use tracing::{info, warn};

/// What work on one directory gave.
#[derive(Default)]
pub(super) struct Worked {
    pub(super) log: Option<Backlog>,
    pub(super) is_done: bool,
    pub(super) lost: Vec<(DeletionCause, u64)>,
    pub(super) damage: Vec<Damage>,
    pub(super) error: Option<ReadError>,
    pub(super) last: Vec<Arc<Scrape>>,
}

/// Opens a directory, `without_unreadable` files if need be; gives what targets had last if that is
/// not older than `oldest_ms`.
pub(super) fn open_dir(path: &Path, oldest_ms: Option<i64>, without_unreadable: bool) -> Worked {
    let storage = Arc::new(FsStorage);
    let opened = match Backlog::open(storage.clone(), path.to_owned()) {
        Err(_) if without_unreadable => Backlog::open_readable(storage.clone(), path.to_owned()),
        opened => opened,
    };
    let mut backlog = match opened {
        Ok(backlog) => backlog,
        Err(error) => {
            return Worked {
                error: Some(error),
                ..Worked::default()
            };
        }
    };
    let segments = backlog.segments();
    let last = oldest_ms.map(|oldest_ms| {
        recovery::last_scrapes(storage, path, segments, u64::MAX, oldest_ms)
            .map(|entry| entry.scrape)
            .collect()
    });
    info!(
        dir = %path.display(), bytes = segments.bytes(),
        "the log of a former number of shards is sent before what is scraped now"
    );
    let damage = backlog.take_damage();
    report_damage(path, &damage);
    Worked {
        last: last.unwrap_or_default(),
        log: Some(backlog),
        damage,
        ..Worked::default()
    }
}

/// Saves cursors; deletes what all have, and what the caps say.
pub(super) fn see_to(
    mut backlog: Backlog,
    now_ms: i64,
    bytes_max: Option<u64>,
    oldest_ms: Option<i64>,
) -> Worked {
    backlog.cursors_mut().expire(now_ms, CURSOR_KEEP_MS);
    let lost = backlog.retain(bytes_max, oldest_ms);
    let (is_done, error) = match backlog.release() {
        Ok(is_done) => (is_done, None),
        Err(error) => (false, Some(error)),
    };
    if is_done && let Some(generation) = backlog.dir().parent() {
        // The last one takes the folder of its generation along.
        let _ = std::fs::remove_dir(generation);
    }
    Worked {
        log: Some(backlog),
        is_done,
        lost,
        error,
        ..Worked::default()
    }
}

fn report_damage(dir: &Path, damage: &[Damage]) {
    for place in damage {
        warn!(
            dir = %dir.display(), segment = place.segment, from = place.from, to = place.to,
            kind = ?place.kind, "damaged bytes in the log of a former number of shards: passed over"
        );
    }
}
