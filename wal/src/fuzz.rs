//! Any bytes -> read as a segment file, ours or an agent's, or as a whole directory; for fuzzing:
//! nothing here may panic.

use crate::backlog::Backlog;
use crate::cursor;
use crate::format::{CURSOR_FILE, FILE_BYTES_LIMIT, SEGMENT_HEADER_BYTES};
use crate::import::pages::{Item, PAGE_BYTES, Pages};
use crate::import::scrapes::Scrapes;
use crate::reader::LogReader;
use crate::recovery::{last_scrapes, next_segment, recover};
use crate::scrape::Position;
use crate::segment::header::{Replaced, SegmentHeader, file_name};
use crate::segments::DiskRead;
use crate::storage::{MemoryStorage, Storage};
use crate::tools::{self, for_each_record, verify};
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
        replaces: None,
        map_bytes: 0,
    };
    header.encode(&mut with_header);
    with_header.extend_from_slice(bytes);
    storage.set(&path, with_header);
    let mut trusting = LogReader::with_cache(shared.clone(), dir.to_path_buf(), 1 << 20);
    trusting.trust_checksums();
    let _ = for_each_record(&mut trusting, 1, FILE_BYTES_LIMIT, |_| {});
    read_all(&shared, dir);
}

/// Reads `bytes` as a whole directory of files: some segments, with sound headers or without, that
/// may replace each other, and cursors. Then as one that is to be drained and removed.
///
/// Each file: a byte that says which, a byte of flags, two bytes of length, its bytes.
pub fn directory(mut bytes: &[u8]) {
    let dir = Path::new("/fuzz");
    let storage = MemoryStorage::new();
    while let Some(([name, flags, low, high], rest)) = bytes.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (content, after) = rest.split_at(len);
        bytes = after;
        let segment = u64::from(name % 8);
        if segment == 0 {
            storage.set(&dir.join(CURSOR_FILE), content.to_vec());
            continue;
        }
        let mut file = Vec::new();
        if flags & 1 == 0 {
            let from = Position {
                segment: u64::from(name >> 3),
                offset: u32::from(flags >> 2) * 64,
            };
            let header = SegmentHeader {
                segment,
                salt: 0,
                created_ms: 0,
                replaces: (flags & 2 == 0).then_some(Replaced {
                    from,
                    until_segment: segment,
                }),
                map_bytes: 0,
            };
            header.encode(&mut file);
        }
        file.extend_from_slice(content);
        storage.set(&dir.join(file_name(segment)), file);
    }
    let shared: Arc<dyn Storage> = Arc::new(storage.clone());
    for segment in tools::segments(&storage, dir).unwrap_or_default() {
        let _ = verify(shared.clone(), dir, segment);
    }
    read_all(&shared, dir);
    let _ = next_segment(&storage, dir);
    let Ok(mut backlog) = Backlog::open(shared, dir.to_path_buf()) else {
        return;
    };
    let (begin, end) = (backlog.begin(), backlog.end());
    backlog.cursors_mut().configure(["e"], begin, 0);
    let _ = backlog.release();
    let endpoints: Vec<Box<str>> = backlog
        .cursors()
        .iter()
        .map(|c| c.endpoint.clone())
        .collect();
    for endpoint in &endpoints {
        backlog.cursors_mut().advance(endpoint, end, end);
    }
    let _ = backlog.release();
}

/// Reads `bytes` as the pages of an agent's segment, and as one record of it.
pub fn agent(bytes: &[u8]) {
    let mut scrapes = Scrapes::new(Box::new(|_, _| i64::MIN));
    let mut pages = Pages::default();
    let mut offset = 0;
    for page in bytes.chunks(PAGE_BYTES) {
        pages.page(page, offset, &mut |item| {
            if let Item::Record(record) = item {
                scrapes.record(record);
            }
        });
        offset += page.len() as u64;
    }
    pages.end(offset, &mut |_| {});
    // Behind the checksums: records of any content, parted by a byte that is as good as any.
    for record in bytes.split(|byte| *byte == 0xee) {
        scrapes.record(record);
    }
    scrapes.end();
    while let Some(scrape) = scrapes.take() {
        assert_eq!(scrape.values.len(), scrape.layout.len as usize);
    }
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
