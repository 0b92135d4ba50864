//! What a log wants written -> told that it is, without files.

use std::hint::black_box;

use ringscrape_wal::log::{LogOptions, ShardLog, Write};
use ringscrape_wal::scrape::Position;

/// What may wait to be written, in bytes.
const PENDING_BYTES_MAX: u64 = 1 << 20;

/// A log that keeps a few MiB in memory, as one whose readers keep up.
pub fn log_without_files() -> ShardLog {
    let options = LogOptions {
        tail_bytes_max: 4 << 20,
        ..LogOptions::default()
    };
    ShardLog::new(options, 1)
}

/// Once it is much: takes what the log wants written and says that it is.
pub fn write_pending(log: &mut ShardLog, now_ms: i64) {
    if log.pending_bytes() <= PENDING_BYTES_MAX {
        return;
    }
    for write in log.take_writes(now_ms) {
        if let Write::Bytes {
            segment,
            offset,
            bytes,
        } = write
        {
            let end = Position {
                segment,
                offset: offset + black_box(bytes).len() as u32,
            };
            log.written(end);
            log.synced(end);
        }
    }
}
