//! Any bytes -> read as a segment file; for fuzzing: nothing here may panic.

use crate::cursor;
use crate::format::{FILE_BYTES_LIMIT, SEGMENT_HEADER_BYTES};
use crate::reader::LogReader;
use crate::recovery::{last_scrapes, recover};
use crate::scrape::Position;
use crate::segment::header::{SegmentHeader, file_name};
use crate::segments::DiskRead;
use crate::storage::{MemoryStorage, Storage};
use crate::tools::{for_each_record, verify};
use std::path::Path;
use std::sync::Arc;

/// Reads `bytes` as a segment file and as a cursor file in every way this crate can, first as they
/// are, then as frames after a sound header whose checksums nobody looks at.
pub fn reader(bytes: &[u8]) {
    let _ = cursor::decode(bytes);
    let dir = Path::new("/fuzz");
    let path = dir.join(file_name(1));
    let storage = MemoryStorage::new();
    storage.set(&path, bytes.to_vec());
    let shared: Arc<dyn Storage> = Arc::new(storage.clone());
    read_all(&shared, dir);

    let mut with_header = Vec::with_capacity(2 * SEGMENT_HEADER_BYTES + bytes.len());
    let header = SegmentHeader {
        segment: 1,
        salt: 0,
        created_ms: 0,
    };
    header.encode(&mut with_header);
    with_header.extend_from_slice(bytes);
    storage.set(&path, with_header);
    let mut trusting = LogReader::with_cache(shared.clone(), dir.to_path_buf(), 1 << 20);
    trusting.trust_checksums();
    let _ = for_each_record(&mut trusting, 1, FILE_BYTES_LIMIT, |_| {});
    read_all(&shared, dir);
}

fn read_all(storage: &Arc<dyn Storage>, dir: &Path) {
    let _ = verify(storage.clone(), dir, 1);
    let Ok(recovered) = recover(&**storage, dir, u64::MAX) else {
        return;
    };
    for _ in last_scrapes(
        storage.clone(),
        dir,
        &recovered.segments,
        u64::MAX,
        i64::MIN,
    ) {}
    let mut reader = LogReader::with_cache(storage.clone(), dir.to_path_buf(), 1 << 20);
    let mut from = Position::default();
    while let DiskRead::Segment(readable) = recovered.segments.readable_from(from) {
        from = match reader.next(&readable, from, &mut |_| true) {
            Ok(Some(entry)) => entry.end,
            Ok(None) => readable.next,
            Err(_) => return,
        };
    }
}
