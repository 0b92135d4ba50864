//! Torn ends, flipped bits, lost files: what is left is read, what is lost is said, nothing panics.

use crate::common::*;
use proptest::prelude::*;
use ringscrape_wal::error::DamageKind;
use ringscrape_wal::format::FRAMES_START;
use ringscrape_wal::log::LogOptions;
use ringscrape_wal::reader::LogReader;
use ringscrape_wal::recovery::{last_scrapes, next_segment, recover, samples_between};
use ringscrape_wal::scrape::{Position, Scrape};
use ringscrape_wal::storage::{MemoryStorage, Storage};
use ringscrape_wal::tools::verify;
use std::collections::BTreeMap;
use std::sync::Arc;

fn steps(count: usize, layouts: &[usize]) -> Vec<Step> {
    (0..count)
        .map(|i| Step {
            target: i,
            layout: layouts[i % layouts.len()],
            route: i % 2,
            timestamp_ms: i as i64,
            values: (0..12).map(|v| (v * i) as f64 * 0.7).collect(),
            stale: if i % 3 == 0 { vec![(1, 0, 2)] } else { vec![] },
            sides: i % 4 == 0,
            flush: false,
        })
        .collect()
}

fn bench(steps: &[Step], close: bool) -> Bench {
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        keyframe_every: 3,
        salt: 99,
        ..LogOptions::default()
    });
    for step in steps {
        bench.append(world.scrape(step));
    }
    if close {
        bench.log.close();
    }
    bench.flush();
    bench
}

/// Recovers and reads segment 1 of these bytes: positions and scrapes, and the kinds of damage.
#[allow(clippy::type_complexity)]
fn recovered(bytes: Vec<u8>) -> (Vec<(Position, Arc<Scrape>)>, Vec<DamageKind>, MemoryStorage) {
    let storage = MemoryStorage::new();
    storage.set(&segment_path(1), bytes);
    let found = recover(&storage, dir(), u64::MAX).unwrap();
    let mut kinds: Vec<_> = found.damage.iter().map(|d| d.kind).collect();
    let mut reader = LogReader::new(Arc::new(storage.clone()), dir().into());
    let entries = read_from(&mut reader, &found.segments, Position::default());
    kinds.extend(reader.take_damage().iter().map(|d| d.kind));
    let records = entries
        .into_iter()
        .map(|e| (e.position, e.scrape))
        .collect();
    (records, kinds, storage)
}

#[test]
fn a_tail_torn_at_any_byte_costs_the_last_records_only() {
    let bench = bench(&steps(12, &[1, 2, 3]), false);
    let bytes = bench.storage.get(&segment_path(1)).unwrap();
    let ends: Vec<u32> = {
        let mut reader = LogReader::new(bench.shared(), dir().into());
        let all = bench.read_from(&mut reader, Position::default());
        all.iter().map(|e| e.end.offset).collect()
    };
    let from = bench.appended[6].0.offset as usize;
    for len in from..bytes.len() {
        // The size was set and the bytes were not written, or the file is short.
        for zeros in [false, true] {
            let mut torn = bytes[..len].to_vec();
            if zeros {
                torn.resize(bytes.len(), 0);
            }
            let (records, kinds, storage) = recovered(torn.clone());
            // Zeros in place of zeros are no loss, and padding is not needed to read a record.
            let same = torn.iter().zip(&bytes).take_while(|(t, b)| t == b).count();
            let whole = ends.iter().filter(|end| **end as usize <= same).count();
            let in_padding = ends
                .iter()
                .any(|end| (same..same + 16).contains(&(*end as usize)));
            assert!(
                records.len() == whole || (in_padding && records.len() == whole + 1),
                "cut at {len}: {} of {whole}",
                records.len()
            );
            for (read, (position, scrape)) in records.iter().zip(&bench.appended) {
                assert_eq!(read.0, *position);
                assert_same(&read.1, scrape);
            }
            let cut = storage.get(&segment_path(1)).unwrap().len();
            if cut < if zeros { bytes.len() } else { len } {
                assert_eq!(kinds, [DamageKind::TornTail], "cut at {len}");
            } else {
                assert_eq!(kinds, [], "cut at {len}");
            }
            // A second start finds nothing to complain about.
            let (again, kinds, _) = recovered(storage.get(&segment_path(1)).unwrap());
            assert_eq!(again.len(), records.len());
            assert_eq!(kinds, []);
        }
    }
}

#[test]
fn a_file_torn_within_its_header_is_removed() {
    let bench = bench(&steps(3, &[1]), false);
    let bytes = bench.storage.get(&segment_path(1)).unwrap();
    for len in 0..FRAMES_START as usize {
        let (records, kinds, storage) = recovered(bytes[..len].to_vec());
        assert!(records.is_empty());
        assert_eq!(kinds, [DamageKind::TornTail]);
        assert!(storage.list(dir()).unwrap().is_empty());
    }
}

#[test]
fn what_a_trial_of_the_disk_left_is_removed() {
    let bench = bench(&steps(3, &[1]), true);
    let storage = MemoryStorage::new();
    storage.set(
        &segment_path(1),
        bench.storage.get(&segment_path(1)).unwrap(),
    );
    storage.set(&dir().join("trial"), vec![0x55; 1 << 16]);
    let found = recover(&storage, dir(), u64::MAX).unwrap();
    assert!(found.damage.is_empty() && found.unrepaired.is_empty());
    let names: Vec<String> = storage
        .list(dir())
        .unwrap()
        .into_iter()
        .map(|e| e.name)
        .collect();
    assert_eq!(names, ["00000000000000000001.wal"]);
}

#[test]
fn a_damaged_header_sends_the_file_to_quarantine_and_a_newer_version_leaves_it() {
    let bench = bench(&steps(3, &[1]), false);
    let mut bytes = bench.storage.get(&segment_path(1)).unwrap();
    bytes[3] ^= 1;
    bytes[67] ^= 1;
    let (_, kinds, storage) = recovered(bytes.clone());
    assert_eq!(kinds, [DamageKind::SegmentHeader]);
    let moved = dir().join("quarantine/00000000000000000001.wal");
    assert_eq!(storage.get(&moved), Some(bytes));

    let mut bytes = bench.storage.get(&segment_path(1)).unwrap();
    bytes[8] = 3;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    let (_, kinds, storage) = recovered(bytes.clone());
    assert_eq!(kinds, [DamageKind::Version]);
    assert_eq!(storage.get(&segment_path(1)), Some(bytes));
    assert_eq!(next_segment(&storage, dir()).unwrap(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is damaged: what is read was written, as it was written; and something is said.
    #[test]
    fn flipped_bits_never_change_what_is_read(
        close in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4),
    ) {
        let bench = bench(&steps(20, &[1, 2, 3, 4]), close);
        let mut bytes = bench.storage.get(&segment_path(1)).unwrap();
        for (at, bit) in &flips {
            let at = FRAMES_START as usize + at.index(bytes.len() - FRAMES_START as usize);
            bytes[at] ^= 1 << bit;
        }
        let written: BTreeMap<Position, Arc<Scrape>> = bench.appended.iter().cloned().collect();
        let (records, kinds, _) = recovered(bytes);
        prop_assert!(records.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (position, scrape) in &records {
            assert_same(scrape, &written[position]);
        }
        // A flip in padding changes nothing; a lost record is never silent.
        prop_assert!(records.len() == written.len() || !kinds.is_empty());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        ringscrape_wal::fuzz::reader(&bytes);
    }

    #[test]
    fn any_directory_is_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        ringscrape_wal::fuzz::directory(&bytes);
    }

    #[test]
    fn frames_behind_wrong_checksums_are_read_without_a_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        close in any::<bool>(),
    ) {
        let bench = bench(&steps(10, &[1, 2, 3, 4]), close);
        let mut bytes = bench.storage.get(&segment_path(1)).unwrap();
        bytes.drain(..FRAMES_START as usize);
        for (at, value) in &flips {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        ringscrape_wal::fuzz::reader(&bytes);
    }
}

#[test]
fn a_damaged_frame_in_the_middle_is_skipped_quarantined_and_counted() {
    let bench = bench(&steps(20, &[1]), false);
    let mut bytes = bench.storage.get(&segment_path(1)).unwrap();
    // A keyframe in the middle, each of whose dependants is then lost too.
    let report = verify(bench.shared(), dir(), 1).unwrap();
    assert_eq!(report.damage, []);
    let victim = bench.appended[9].0.offset;
    bytes[victim as usize + 20] ^= 4;
    let (records, kinds, storage) = recovered(bytes.clone());
    assert_eq!(kinds[0], DamageKind::Frame);
    let lost = 20 - records.len();
    assert!((1..=3).contains(&lost), "{lost}");
    // Once by recovery, once for the frame and once per dependant by the reader.
    assert_eq!(kinds.len(), 1 + lost);
    let name = format!("quarantine/{:020}-{victim:010}.bytes", 1);
    let quarantined = storage.get(&dir().join(name)).unwrap();
    assert_eq!(quarantined, bytes[victim as usize..][..quarantined.len()]);
    // The file itself stays as it is.
    assert_eq!(storage.get(&segment_path(1)), Some(bytes));
}

/// A target exposes bytes that look like frames: they are no frames.
#[test]
fn text_of_a_target_never_passes_for_a_frame() {
    let other = bench(&steps(4, &[1]), false);
    let frames = other.storage.get(&segment_path(1)).unwrap();
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        salt: 100,
        ..LogOptions::default()
    });
    // A histogram's bytes are stored as they are; 16 of them at every alignment.
    let mut hostile = vec![0; 16];
    hostile.extend_from_slice(&frames[FRAMES_START as usize..]);
    let mut scrape = (*world.scrape(&steps(1, &[2])[0])).clone();
    let mut sides = scrape.sides.take().unwrap();
    sides.histograms[0].bytes = hostile.into();
    scrape.sides = Some(sides);
    let first = bench.append(Arc::new(scrape));
    bench.append(world.scrape(&steps(2, &[1])[1]));
    bench.flush();
    let mut bytes = bench.storage.get(&segment_path(1)).unwrap();
    bytes[first.offset as usize] ^= 1;
    let (records, _, _) = recovered(bytes);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].0, bench.appended[1].0);
}

#[test]
fn last_scrapes_are_the_last_of_each_target() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        segment_bytes_max: 3000,
        ..LogOptions::default()
    });
    for step in steps(40, &[1, 2, 3]) {
        // Target 3 stops early.
        if step.target % 3 == 2 && step.timestamp_ms > 10 {
            continue;
        }
        bench.append(world.scrape(&step));
    }
    bench.flush();
    assert!(bench.log.segments().count() > 2);
    let last = |before, oldest_ms| {
        let storage = bench.shared();
        last_scrapes(storage, dir(), bench.log.segments(), before, oldest_ms)
            .map(|e| (e.scrape.target.key, e.scrape.timestamp_ms))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(
        last(u64::MAX, 0),
        BTreeMap::from([(1, 39), (2, 37), (3, 8)])
    );
    assert_eq!(last(u64::MAX, 9), BTreeMap::from([(1, 39), (2, 37)]));
    let first_segment: BTreeMap<_, _> = bench
        .appended
        .iter()
        .filter(|(position, _)| position.segment == 1)
        .map(|(_, scrape)| (scrape.target.key, scrape.timestamp_ms))
        .collect();
    assert_eq!(last(2, 0), first_segment);
}

#[test]
fn samples_between_two_places_are_counted_with_and_without_an_index() {
    for close in [false, true] {
        let bench = bench(&steps(10, &[1, 2]), close);
        let count = |from: usize, to: usize| {
            bench.appended[from..to]
                .iter()
                .map(|(_, s)| s.values.len() as u64 + 2 * s.stale.len() as u64)
                .sum::<u64>()
        };
        let at = |i: usize| bench.appended[i].0.offset;
        let storage = &*bench.shared();
        let between = |from, to| samples_between(storage, dir(), 1, from, to).unwrap();
        assert_eq!(between(0, u32::MAX), count(0, 10));
        assert_eq!(between(at(3), at(7)), count(3, 7));
        assert_eq!(between(at(3) + 1, at(7) + 1), count(4, 8));
        assert_eq!(between(at(7), at(3)), 0);
    }
}
