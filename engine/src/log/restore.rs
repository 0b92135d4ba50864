//! The directory of a former run -> each target's last scrape, in the background.

use ringscrape_wal::log::ShardLog;
use ringscrape_wal::recovery;
use ringscrape_wal::storage::FsStorage;
use ringscrape_wal::tail::Entry;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// How many scrapes are read at once.
const BATCH: usize = 64;

/// Calls `each` with the last record of each target that the directory holds, not older than
/// `oldest_ms` (milliseconds since the Unix epoch); so that what vanished while no process ran
/// gets its staleness marker. Call after the log has adopted what recovery found; records of this
/// run are not among them. Reading is done on the executor's blocking thread, `each` on the shard.
pub async fn last_scrapes(
    log: &Rc<RefCell<ShardLog>>,
    dir: &Path,
    first_segment: u64,
    oldest_ms: i64,
    mut each: impl FnMut(Entry),
) {
    let mut iterator = {
        let log = log.borrow();
        let storage = Arc::new(FsStorage);
        recovery::last_scrapes(storage, dir, log.segments(), first_segment, oldest_ms)
    };
    loop {
        let (back, batch) = glommio::executor()
            .spawn_blocking(move || {
                let batch: Vec<Entry> = iterator.by_ref().take(BATCH).collect();
                (iterator, batch)
            })
            .await;
        iterator = back;
        let last = batch.len() < BATCH;
        batch.into_iter().for_each(&mut each);
        if last {
            return;
        }
        glommio::executor().yield_now().await;
    }
}
