//! The live log: tail and disk, release, caps, failures of the disk, new starts.

use crate::common::*;
use ringscrape_wal::error::WriteFailure;
use ringscrape_wal::log::{LogOptions, ShardLog, Write};
use ringscrape_wal::reader::LogReader;
use ringscrape_wal::recovery::{next_segment, recover};
use ringscrape_wal::scrape::{Position, Scrape};
use ringscrape_wal::segments::{DeletionCause, DiskRead};
use ringscrape_wal::storage::Storage;
use ringscrape_wal::tail::TailRead;
use std::sync::Arc;

fn scrape(world: &World, number: i64) -> Arc<Scrape> {
    world.scrape(&Step {
        target: number as usize,
        layout: 2,
        route: 0,
        timestamp_ms: number,
        values: vec![number as f64 * 0.3, 1.0],
        stale: vec![],
        sides: false,
        flush: false,
    })
}

/// Samples of one `scrape`.
const SAMPLES: u64 = 19;

/// Reads on from `from` as a sender does: the tail, or the disk when behind.
fn follow(bench: &Bench, reader: &mut LogReader, mut from: Position) -> (Vec<i64>, Position) {
    let mut times = Vec::new();
    loop {
        match bench.log.tail_after(from) {
            TailRead::Entry(entry) => {
                times.push(entry.scrape.timestamp_ms);
                from = entry.end;
            }
            TailRead::Empty => return (times, from),
            TailRead::Behind => match bench.log.segments().readable_from(from) {
                DiskRead::Segment(readable) => {
                    match reader.next(&readable, from, &mut |_| true).unwrap() {
                        Some(entry) => {
                            times.push(entry.scrape.timestamp_ms);
                            from = entry.end;
                        }
                        None => {
                            assert!(readable.next > from, "no way on from {from:?}");
                            from = readable.next;
                        }
                    }
                }
                other => panic!("behind and {other:?}"),
            },
        }
    }
}

#[test]
fn a_slow_reader_goes_from_disk_to_tail_and_misses_nothing() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        tail_bytes_max: 4_000,
        segment_bytes_max: 5_000,
        ..LogOptions::default()
    });
    let mut reader = LogReader::new(bench.shared(), dir().into());
    let mut from = Position::default();
    let mut seen = Vec::new();
    for number in 0..200 {
        bench.append(scrape(&world, number));
        if number % 7 == 0 {
            bench.flush();
        }
        if number % 45 == 44 {
            let (times, end) = follow(&bench, &mut reader, from);
            seen.extend(times);
            from = end;
            assert_eq!(seen, (0..=number).collect::<Vec<_>>());
        }
    }
    assert!(bench.log.stats().tail_bytes < 8_000);
    assert!(bench.log.stats().tail_records < 30);
    assert!(matches!(
        bench.log.tail_after(Position::default()),
        TailRead::Behind
    ));
    assert_eq!(bench.log.stats().samples_dropped_not_durable, 0);
}

#[test]
fn what_is_not_written_yet_stays_in_the_tail_whatever_the_cap() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        tail_bytes_max: 1,
        ..LogOptions::default()
    });
    for number in 0..50 {
        bench.append(scrape(&world, number));
    }
    assert_eq!(bench.log.stats().tail_records, 50);
    bench.flush();
    bench.append(scrape(&world, 50));
    assert_eq!(bench.log.stats().tail_records, 1);
}

#[test]
fn what_is_old_leaves_the_tail_once_it_is_on_disk() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        tail_age_ms_max: 20,
        tail_bytes_min: 0,
        ..LogOptions::default()
    });
    let append = |bench: &mut Bench, numbers: std::ops::RangeInclusive<i64>| {
        for number in numbers {
            bench.log.append(scrape(&world, number), number);
        }
        bench.log.stats().tail_records
    };
    assert_eq!(append(&mut bench, 0..=49), 50, "nothing is on disk");
    bench.flush();
    assert_eq!(append(&mut bench, 50..=50), 21, "30 to 50");
    bench.log.write_failed(WriteFailure::NoSpace);
    assert_eq!(append(&mut bench, 51..=90), 41, "50 to 90: nowhere else");
    assert_eq!(bench.log.stats().samples_dropped_not_durable, 0);
}

#[test]
fn release_drops_what_is_acknowledged_and_whole_segments_only() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        segment_bytes_max: 5_000,
        ..LogOptions::default()
    });
    for number in 0..100 {
        bench.append(scrape(&world, number));
    }
    // Not written: not deleted, though it is acknowledged.
    let end = bench.log.end();
    assert_eq!(bench.log.release(end), []);
    assert_eq!(bench.log.stats().tail_records, 0);
    bench.flush();
    let count = bench.log.segments().count();
    let middle = bench.appended[60].0;
    let mut bench2 = Bench::new(LogOptions {
        segment_bytes_max: 5_000,
        ..LogOptions::default()
    });
    for number in 0..100 {
        bench2.append(scrape(&world, number));
    }
    bench2.flush();
    let deleted = bench2.log.release(middle);
    assert!(
        deleted
            .iter()
            .all(|d| d.segment < middle.segment && d.lost.is_none())
    );
    assert_eq!(deleted.len() as u64, middle.segment - 1);
    let mut reader = LogReader::new(bench2.shared(), dir().into());
    assert_eq!(
        follow(&bench2, &mut reader, middle).0,
        (60..100).collect::<Vec<_>>()
    );
    // The end of a closed segment releases it; the open one stays.
    assert_eq!(bench.log.release(end).len(), count - 1);
    assert_eq!(bench.log.segments().count(), 1);
}

#[test]
fn caps_delete_the_oldest_and_count_what_nobody_else_has() {
    let world = World::new();
    let options = LogOptions {
        segment_bytes_max: 5_000,
        retention_bytes_max: Some(12_000),
        tail_bytes_max: 3_000,
        ..LogOptions::default()
    };
    let mut bench = Bench::new(options);
    for number in 0..100 {
        bench.append(scrape(&world, number));
        bench.flush();
    }
    // One endpoint stands in the middle of the second segment.
    let (index, low_water) = bench
        .appended
        .iter()
        .map(|(position, _)| *position)
        .enumerate()
        .filter(|(_, position)| position.segment == 2)
        .nth(3)
        .unwrap();
    assert_eq!(bench.log.release(low_water).len(), 1);
    let deletions = bench.log.retention(0);
    assert!(bench.log.segments().bytes() <= 12_000);
    let mut lost = 0;
    for deletion in &deletions {
        assert_eq!(deletion.cause, DeletionCause::RetentionBytes);
        if let Some((from, to)) = deletion.lost {
            lost += ringscrape_wal::recovery::samples_between(
                &bench.storage,
                dir(),
                deletion.segment,
                from,
                to,
            )
            .unwrap();
        }
        bench
            .storage
            .remove(&segment_path(deletion.segment))
            .unwrap();
    }
    let kept = bench.log.segments().begin().unwrap();
    let gone = bench.appended[index..]
        .iter()
        .filter(|(position, _)| *position < kept)
        .count();
    assert!(gone > 10);
    assert_eq!(lost, gone as u64 * SAMPLES);
    // The reader goes on behind the gap.
    let mut reader = LogReader::new(bench.shared(), dir().into());
    let expected: Vec<i64> = (index as i64 + gone as i64..100).collect();
    assert_eq!(follow(&bench, &mut reader, low_water).0, expected);
}

#[test]
fn age_deletes_old_segments_but_never_the_open_one() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        segment_bytes_max: 5_000,
        retention_age_ms_max: Some(50),
        ..LogOptions::default()
    });
    for number in 0..100 {
        bench.append(scrape(&world, number));
    }
    bench.flush();
    let deletions = bench.log.retention(100);
    assert!(!deletions.is_empty());
    assert!(
        deletions
            .iter()
            .all(|d| d.cause == DeletionCause::RetentionAge)
    );
    // The tail still holds those records: nothing is lost.
    assert!(deletions.iter().all(|d| d.lost.is_none()));
    let oldest = bench.log.segments().begin().unwrap();
    let first_kept = bench.appended.iter().find(|(p, _)| *p >= oldest).unwrap();
    let last_of_it = bench
        .appended
        .iter()
        .rfind(|(p, _)| p.segment == first_kept.0.segment)
        .unwrap();
    assert!(last_of_it.1.timestamp_ms >= 50);
    bench.log.retention(1_000_000);
    assert_eq!(bench.log.segments().count(), 1);
}

#[test]
fn an_old_segment_is_closed_though_nothing_is_appended() {
    let world = World::new();
    let mut log = ShardLog::new(LogOptions::default(), 1);
    log.append(scrape(&world, 0), 1000);
    assert_eq!(log.take_writes(1000).len(), 2);
    assert_eq!(log.take_writes(3_600_999), []);
    let writes = log.take_writes(3_601_000);
    assert!(matches!(writes.last(), Some(Write::Close { segment: 1 })));
    assert_eq!(
        log.end(),
        Position {
            segment: 2,
            offset: 0
        }
    );
}

#[test]
fn a_failing_disk_costs_durability_and_nothing_else() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        tail_bytes_max: 20_000,
        ..LogOptions::default()
    });
    for number in 0..10 {
        bench.append(scrape(&world, number));
    }
    bench.flush();
    for number in 10..15 {
        bench.append(scrape(&world, number));
    }
    assert!(!bench.log.take_writes(0).is_empty());
    bench.log.write_failed(WriteFailure::NoSpace);
    assert!(bench.log.suspended());
    assert_eq!(bench.log.stats().records_not_durable, 5);
    for number in 15..20 {
        bench.append(scrape(&world, number));
    }
    assert_eq!(bench.log.stats().records_not_durable, 10);
    assert!(bench.log.take_writes(0).is_empty());
    bench.log.resume(0);
    for number in 20..25 {
        bench.append(scrape(&world, number));
    }
    bench.flush();
    let positions: Vec<_> = bench.appended.iter().map(|(p, _)| *p).collect();
    assert!(positions.is_sorted() && positions.windows(2).all(|p| p[0] != p[1]));
    let mut reader = LogReader::new(bench.shared(), dir().into());
    let all = follow(&bench, &mut reader, Position::default()).0;
    assert_eq!(all, (0..25).collect::<Vec<_>>());
    // What was in memory only is on disk, in its place.
    let disk = bench.read_from(&mut reader, Position::default());
    let times: Vec<_> = disk.iter().map(|e| e.scrape.timestamp_ms).collect();
    assert_eq!(times, (0..25).collect::<Vec<_>>());
    assert_eq!(bench.log.stats().records_rewritten, 10);
    let mut again = LogReader::new(bench.shared(), dir().into());
    let recovered = recover(&*bench.shared(), dir(), u64::MAX).unwrap();
    let read = read_from(&mut again, &recovered.segments, Position::default());
    let times: Vec<_> = read.iter().map(|e| e.scrape.timestamp_ms).collect();
    assert_eq!(times, (0..25).collect::<Vec<_>>());

    // Above the tail's cap what is on disk goes first and is read there; what is only in memory
    // is lost, and counted.
    bench.log.write_failed(WriteFailure::NoSpace);
    for number in 25..200 {
        bench.append(scrape(&world, number));
        bench.flush();
    }
    let lost = bench.log.stats().samples_dropped_not_durable / SAMPLES;
    assert!(lost > 50);
    bench.log.resume(0);
    bench.flush();
    let all = follow(&bench, &mut reader, Position::default()).0;
    let kept = 25 + i64::try_from(lost).unwrap()..200;
    assert_eq!(all, (0..25).chain(kept).collect::<Vec<_>>());
}

/// An endpoint that stands in the middle of what has to be written again goes on there, by the
/// places it knows, whether it reads memory or disk.
#[test]
fn readers_and_cursors_follow_records_that_are_written_again() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions::default());
    for number in 0..20 {
        bench.append(scrape(&world, number));
        if number == 4 {
            bench.flush();
        }
        if number == 11 {
            // Written, and nobody knows what of it is on disk.
            for write in bench.log.take_writes(0) {
                let Write::Bytes {
                    segment,
                    offset,
                    bytes,
                } = write
                else {
                    continue;
                };
                let path = segment_path(segment);
                bench
                    .storage
                    .write_at(&path, u64::from(offset), &bytes)
                    .unwrap();
                let end = Position {
                    segment,
                    offset: offset + bytes.len() as u32,
                };
                bench.log.written(end);
            }
            bench.log.write_failed(WriteFailure::Sync);
        }
    }
    let mut stands = Vec::new();
    let mut from = Position::default();
    while let TailRead::Entry(entry) = bench.log.tail_after(from) {
        from = entry.end;
        stands.push(from);
    }
    let start = bench.log.begin();
    for (number, at) in stands.iter().enumerate() {
        let name = format!("{number:02}");
        bench.log.cursors_mut().add(&name, start);
        bench.log.cursors_mut().advance(&name, *at, *at);
    }
    bench.log.resume(0);
    bench.append(scrape(&world, 20));
    bench.flush();
    let recovered = recover(&*bench.shared(), dir(), u64::MAX).unwrap();
    let mut reader = LogReader::new(bench.shared(), dir().into());
    let mut live = LogReader::new(bench.shared(), dir().into());
    for (number, at) in stands.iter().enumerate() {
        let rest: Vec<i64> = (number as i64 + 1..21).collect();
        assert_eq!(follow(&bench, &mut live, *at).0, rest);
        let mark = bench
            .log
            .cursors()
            .get(&format!("{number:02}"))
            .unwrap()
            .low_water;
        let read = read_from(&mut reader, &recovered.segments, mark);
        let times: Vec<_> = read.iter().map(|e| e.scrape.timestamp_ms).collect();
        assert_eq!(times, rest, "on disk from {mark:?}");
    }
}

#[test]
fn after_a_failed_sync_what_was_not_synced_counts_as_not_durable() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions::default());
    for number in 0..10 {
        bench.append(scrape(&world, number));
    }
    for write in bench.log.take_writes(0) {
        if let Write::Bytes { offset, bytes, .. } = write {
            let end = Position {
                segment: 1,
                offset: offset + bytes.len() as u32,
            };
            bench.log.written(end);
        }
    }
    bench.log.write_failed(WriteFailure::Sync);
    assert_eq!(bench.log.stats().records_not_durable, 10);
}

#[test]
fn a_disk_that_does_not_keep_up_is_given_up() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        pending_bytes_max: 10_000,
        ..LogOptions::default()
    });
    let mut number = 0;
    while !bench.log.suspended() {
        bench.append(scrape(&world, number));
        // Taken, and never reported as written.
        bench.log.take_writes(0);
        number += 1;
        assert!(number < 200);
    }
    assert_eq!(bench.log.stats().failures_slow, 1);
    assert_eq!(bench.log.stats().records_not_durable, number as u64);
}

#[test]
fn a_new_start_never_writes_where_a_cursor_stands() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions::default());
    bench.append(scrape(&world, 0));
    bench.log.write_failed(WriteFailure::NoSpace);
    // In memory only, in a segment that no disk knows.
    let position = bench.append(scrape(&world, 1));
    assert!(position.segment > 1);
    let end = bench.log.end();
    bench
        .log
        .cursors_mut()
        .configure(["a"], Position::default(), 0);
    bench.log.cursors_mut().advance("a", end, end);
    let slot = bench.log.cursors_mut().encode().unwrap();
    bench
        .storage
        .write_at(&dir().join("cursors"), slot.offset, &slot.bytes)
        .unwrap();
    assert_eq!(
        next_segment(&bench.storage, dir()).unwrap(),
        position.segment + 1
    );
}

#[test]
fn cursors_and_segments_of_a_former_run_are_adopted() {
    let world = World::new();
    let mut former = Bench::new(LogOptions::default());
    for number in 0..5 {
        former.append(scrape(&world, number));
    }
    former.flush();
    let third = former.appended[2].0;
    former.log.cursors_mut().configure(["a"], third, 0);
    let slot = former.log.cursors_mut().encode().unwrap();
    former
        .storage
        .write_at(&dir().join("cursors"), slot.offset, &slot.bytes)
        .unwrap();

    let next = next_segment(&former.storage, dir()).unwrap();
    assert_eq!(next, 2);
    let mut bench = Bench {
        log: ShardLog::new(LogOptions::default(), next),
        storage: former.storage.clone(),
        appended: Vec::new(),
    };
    // Scraping does not wait for recovery.
    for number in 5..8 {
        bench.append(scrape(&world, number));
    }
    bench.flush();
    assert!(matches!(bench.log.tail_after(third), TailRead::Behind));
    assert_eq!(bench.log.segments().readable_from(third), DiskRead::NotYet);
    let recovered = recover(&bench.storage, dir(), next).unwrap();
    assert_eq!(recovered.segments.count(), 1);
    bench.log.adopt(recovered);
    assert_eq!(bench.log.cursors().get("a").unwrap().low_water, third);
    let mut reader = LogReader::new(bench.shared(), dir().into());
    assert_eq!(
        follow(&bench, &mut reader, third).0,
        (2..8).collect::<Vec<_>>()
    );
    // A cursor past the end of a segment means the start of the next one.
    let past = Position {
        segment: 1,
        offset: 1 << 30,
    };
    assert_eq!(
        follow(&bench, &mut reader, past).0,
        (5..8).collect::<Vec<_>>()
    );
}

#[test]
fn keyframes_come_as_often_as_promised() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions::default());
    for number in 0..3 * 33 {
        bench.append(scrape(&world, number));
    }
    // Three targets, 33 records each: records 1, 17 and 33.
    assert_eq!(bench.log.stats().keyframes, 9);
    bench.log.forget_target(world.targets[1].id);
    for number in 0..3 {
        bench.append(scrape(&world, number));
    }
    assert_eq!(bench.log.stats().keyframes, 10);
}

#[test]
fn a_segment_closes_by_ratio_when_it_is_large_enough() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        segment_bytes_min: 1,
        definition_ratio: 8,
        ..LogOptions::default()
    });
    for number in 0..500 {
        bench.append(scrape(&world, number));
    }
    bench.flush();
    let stats = bench.log.stats();
    assert!(stats.segments_created > 2);
    for info in bench.log.segments().iter().filter(|info| !info.open) {
        let report = ringscrape_wal::tools::verify(bench.shared(), dir(), info.segment).unwrap();
        let definitions: u64 = report.frames[1..5].iter().map(|f| f.bytes).sum();
        let records = report.frames[5];
        let targets = report.frames[1].frames;
        let record = records.bytes / records.frames;
        assert!(records.bytes >= 8 * definitions);
        assert!(records.bytes < 8 * definitions + (9 * targets + 1) * 2 * record);
    }
    assert_eq!(
        stats.segment_bytes,
        stats.overhead_bytes + stats.record_bytes + stats.definition_bytes
    );
}
