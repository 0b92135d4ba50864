//! Segments that are made smaller while somebody waits -> each endpoint reads what it would have.

use crate::common::*;
use proptest::prelude::*;
use ringscrape_wal::error::DamageKind;
use ringscrape_wal::log::LogOptions;
use ringscrape_wal::reader::LogReader;
use ringscrape_wal::recovery::recover;
use ringscrape_wal::scrape::{Position, Scrape};
use ringscrape_wal::segments::{DiskRead, Segments};
use ringscrape_wal::storage::Storage;
use ringscrape_wal::tail::Entry;
use ringscrape_wal::thin::{Step as ThinStep, Thinnable, Thinning};
use ringscrape_wal::tools::{IndexState, verify};
use std::path::PathBuf;
use std::sync::Arc;

const ENDPOINTS: [&str; 3] = ["a", "b", "c"];

fn options() -> LogOptions {
    LogOptions {
        segment_bytes_max: 6_000,
        keyframe_every: 4,
        thin_bytes_min: 1,
        salt: 11,
        ..LogOptions::default()
    }
}

fn world() -> World {
    let mut world = World::new();
    world.routes = [&["a"][..], &["b"], &["c"], &["a", "b"], &["b", "c"]]
        .map(route)
        .into();
    world
}

fn unfinished_path(segment: u64) -> PathBuf {
    dir().join(format!("{segment:020}.thinned"))
}

/// Tries one; true if it became smaller.
fn thin(bench: &mut Bench, wanted: Thinnable) -> bool {
    let segment = wanted.segment;
    let mut thinning = Thinning::new(dir(), wanted);
    loop {
        match thinning.step(&bench.storage).unwrap() {
            ThinStep::More => {}
            ThinStep::Leave => {
                thinning.discard(&bench.storage).unwrap();
                return false;
            }
            ThinStep::Ready(thinned) => {
                let before = bench.storage.get(&segment_path(segment)).unwrap().len();
                assert!(bench.log.hold_segment(segment));
                thinning.install(&bench.storage).unwrap();
                bench.log.thinned(Some(&thinned));
                let after = bench.storage.get(&segment_path(segment)).unwrap().len();
                assert_eq!(after, thinned.bytes as usize);
                assert!(after <= before / 2, "{after} of {before}");
                return true;
            }
        }
    }
}

/// Makes smaller what can be; says how many became so.
fn thin_all(bench: &mut Bench) -> usize {
    let looks = 3 * (bench.log.segments().count() + 2);
    let mut count = 0;
    for _ in 0..looks {
        if let Some(wanted) = bench.log.thinnable() {
            count += usize::from(thin(bench, wanted));
        }
    }
    assert_eq!(bench.log.thinnable(), None, "each is given once");
    count
}

fn release(bench: &mut Bench) {
    let end = bench.log.end();
    let low_water = bench.log.cursors().low_water(end).unwrap();
    for deletion in bench.log.release(low_water) {
        bench
            .storage
            .remove(&segment_path(deletion.segment))
            .unwrap();
    }
}

/// What an endpoint reads of the files from `from` on.
fn read_for(bench: &Bench, segments: &Segments, name: &str, mut from: Position) -> Vec<Entry> {
    let mut reader = LogReader::new(bench.shared(), dir().into());
    let mut entries = Vec::new();
    let mut wanted = |route: &ringscrape_wal::definition::Route| {
        route.endpoints.iter().any(|endpoint| **endpoint == *name)
    };
    while let DiskRead::Segment(readable) = segments.readable_from(from) {
        match reader.next(&readable, from, &mut wanted).unwrap() {
            Some(entry) => {
                from = entry.end;
                entries.push(entry);
            }
            None if readable.next <= from => break,
            None => from = readable.next,
        }
    }
    assert_eq!(reader.take_damage(), []);
    entries
}

/// What it would have read of the log as it was appended.
fn expected(bench: &Bench, name: &str, from: Position) -> Vec<(Position, Arc<Scrape>)> {
    let written = bench.log.written_end();
    let appended = bench.appended.iter();
    appended
        .filter(|(position, scrape)| {
            let is_for = scrape.route.endpoints.iter().any(|one| **one == *name);
            is_for && *position >= from && *position < written
        })
        .cloned()
        .collect()
}

fn low_water(bench: &Bench, name: &str) -> Position {
    bench.log.cursors().get(name).unwrap().low_water
}

#[track_caller]
fn assert_all_read_what_they_would(bench: &Bench) {
    let recovered = recover(&bench.storage, dir(), u64::MAX).unwrap();
    assert_eq!(recovered.damage, []);
    assert_eq!(recovered.missing, []);
    for name in ENDPOINTS {
        let from = low_water(bench, name);
        let wanted = expected(bench, name, from);
        assert_read(&read_for(bench, bench.log.segments(), name, from), &wanted);
        assert_read(&read_for(bench, &recovered.segments, name, from), &wanted);
    }
    for info in bench.log.segments().iter() {
        let Some(bytes) = bench.storage.get(&segment_path(info.segment)) else {
            continue;
        };
        let found = recovered
            .segments
            .iter()
            .find(|found| found.segment == info.segment);
        let Some(found) = found.filter(|_| info.settled) else {
            continue;
        };
        assert_eq!(info.bytes as usize, bytes.len());
        assert_eq!(
            (found.bytes, found.data_end, found.records, found.samples),
            (info.bytes, info.data_end, info.records, info.samples)
        );
        let report = verify(bench.shared(), dir(), info.segment).unwrap();
        assert_eq!(report.index, IndexState::Good);
        assert_eq!(report.damage, []);
        assert_eq!(report.bytes, bytes.len() as u64);
        assert_eq!(report.samples, info.samples);
    }
}

#[derive(Debug, Clone)]
enum Act {
    Append(Step, usize),
    /// An endpoint has everything before this record, or all of it.
    Acknowledge(usize, Option<prop::sample::Index>),
    Thin,
    Release,
}

fn any_act() -> impl Strategy<Value = Act> {
    // Most are for those that follow.
    let route = prop_oneof![3 => Just(0usize), 1 => Just(1), 1 => 0usize..5];
    prop_oneof![
        30 => (any_step(), route).prop_map(|(step, route)| Act::Append(step, route)),
        2 => Just(Act::Acknowledge(0, None)),
        1 => Just(Act::Acknowledge(1, None)),
        1 => (0usize..3, any::<prop::sample::Index>())
            .prop_map(|(endpoint, to)| Act::Acknowledge(endpoint, Some(to))),
        2 => Just(Act::Thin),
        1 => Just(Act::Release),
    ]
}

/// Does it, and says how many segments became smaller.
fn live(acts: &[Act]) -> usize {
    let world = world();
    let mut bench = Bench::new(options());
    let start = Position::default();
    bench.log.cursors_mut().configure(ENDPOINTS, start, 0);
    let mut count = 0;
    for act in acts {
        match act {
            Act::Append(step, route) => {
                let route = *route;
                bench.append(world.scrape(&Step {
                    route,
                    ..step.clone()
                }));
                if step.flush {
                    bench.flush();
                }
            }
            Act::Acknowledge(endpoint, to) => {
                let to = match to {
                    None => bench.log.end(),
                    Some(_) if bench.appended.is_empty() => continue,
                    Some(to) => bench.appended[to.index(bench.appended.len())].0,
                };
                let cursors = bench.log.cursors_mut();
                cursors.advance(ENDPOINTS[*endpoint], to, to);
            }
            Act::Thin => {
                count += thin_all(&mut bench);
                assert_all_read_what_they_would(&bench);
            }
            Act::Release => release(&mut bench),
        }
    }
    bench.log.close();
    bench.flush();
    count += thin_all(&mut bench);
    assert_all_read_what_they_would(&bench);
    count
}

#[test]
fn everyone_reads_what_it_would_have_read() {
    let config = ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(96)
    };
    let count = std::cell::Cell::new(0);
    let acts = prop::collection::vec(any_act(), 20..250);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let ran = runner.run(&acts, |acts| {
        count.set(count.get() + live(&acts));
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    assert!(count.get() > 50, "{} became smaller", count.get());
}

/// Some closed segments, of which `a` has everything, and `b`, that stands still, needs one scrape
/// in ten.
fn lagging() -> Bench {
    let world = world();
    let mut bench = Bench::new(options());
    bench
        .log
        .cursors_mut()
        .configure(ENDPOINTS, Position::default(), 0);
    for number in 0..200u32 {
        bench.append(world.scrape(&Step {
            target: if number % 10 == 0 { 0 } else { 1 },
            layout: 2,
            route: usize::from(number.is_multiple_of(10)),
            timestamp_ms: i64::from(number),
            values: vec![f64::from(number) / 3.0, 0.7],
            stale: vec![],
            sides: false,
            flush: false,
        }));
    }
    bench.log.close();
    bench.flush();
    let end = bench.log.end();
    for name in ["a", "c"] {
        bench.log.cursors_mut().advance(name, end, end);
    }
    bench
}

#[test]
fn who_stands_still_costs_its_own_data_only() {
    let mut bench = lagging();
    let before = bench.log.stats();
    assert!(before.segments >= 4, "{}", before.segments);
    assert_eq!(thin_all(&mut bench) as u64, before.segments);
    let after = bench.log.stats();
    assert!(
        after.segment_bytes < before.segment_bytes / 2,
        "{} of {}",
        after.segment_bytes,
        before.segment_bytes
    );
    assert_eq!(after.segments_thinned, before.segments);
    assert_eq!(
        after.thinned_bytes,
        before.segment_bytes - after.segment_bytes
    );
    assert_all_read_what_they_would(&bench);
    let read = read_for(&bench, bench.log.segments(), "b", Position::default());
    let times: Vec<i64> = read.iter().map(|entry| entry.scrape.timestamp_ms).collect();
    assert_eq!(times, (0..200).step_by(10).collect::<Vec<_>>());
    // It comes back: they go as any other.
    let end = bench.log.end();
    bench.log.cursors_mut().advance("b", end, end);
    release(&mut bench);
    assert_eq!(bench.log.segments().count(), 0);
}

#[test]
fn what_a_cursor_may_need_in_full_stays() {
    let tries = |change: fn(&mut Bench)| {
        let mut bench = lagging();
        change(&mut bench);
        let bytes = bench.log.segments().bytes();
        let count = thin_all(&mut bench);
        assert_eq!(count == 0, bench.log.segments().bytes() == bytes);
        count
    };
    assert!(tries(|_| {}) > 0);
    // It is to have everything.
    assert_eq!(
        tries(|bench| {
            let end = bench.log.end();
            bench.log.cursors_mut().begin_backfill("b", end);
        }),
        0
    );
    // The records' names are of nobody who is known: they may be somebody's former ones.
    assert_eq!(
        tries(|bench| {
            bench.log.cursors_mut().remove("a", 5);
            bench.log.cursors_mut().expire(10, 1);
        }),
        0
    );
    assert!(
        tries(|bench| {
            bench.log.cursors_mut().rename("a", "other");
        }) > 0
    );
    assert_eq!(
        tries(|bench| {
            // Nobody has all of it.
            let mut fresh = lagging();
            std::mem::swap(bench, &mut fresh);
            bench.log.cursors_mut().add("d", Position::default());
            for name in ["a", "c"] {
                bench.log.cursors_mut().remove(name, 5);
            }
            bench.log.cursors_mut().expire(10, 1);
        }),
        0
    );
}

#[test]
fn who_moves_is_waited_for() {
    let mut bench = lagging();
    let third = bench.appended[30].0;
    assert_eq!(bench.log.thinnable(), None, "seen for the first time");
    bench.log.cursors_mut().advance("b", third, third);
    let found = bench.log.thinnable().unwrap();
    assert!(found.segment > third.segment, "{found:?}");
    // One that goes meanwhile is not brought back.
    let end = bench.log.end();
    bench.log.cursors_mut().advance("b", end, end);
    release(&mut bench);
    assert!(!bench.log.hold_segment(found.segment));
}

/// While a segment was copied an endpoint came that is to have the oldest there is.
#[test]
fn who_comes_meanwhile_and_is_to_have_everything_finds_it() {
    let mut bench = lagging();
    let found = (0..9).find_map(|_| bench.log.thinnable()).unwrap();
    let (begin, end) = (bench.log.begin(), bench.log.end());
    assert!(bench.log.hold_segment(found.segment));
    bench.log.thinned(None);
    bench.log.cursors_mut().add("new", begin);
    bench.log.cursors_mut().begin_backfill("new", end);
    assert!(!bench.log.hold_segment(found.segment));
    assert_eq!(thin_all(&mut bench), 0);
    // Once it has that segment, it does not matter any more.
    let behind = Position {
        segment: found.segment + 1,
        offset: 0,
    };
    bench.log.cursors_mut().advance("new", behind, behind);
    assert!(bench.log.hold_segment(found.segment));
}

/// Somebody far behind moves from one segment to the next, and back in the order of places.
#[test]
fn who_moves_elsewhere_is_not_waited_for() {
    let mut bench = lagging();
    let segments = bench.log.segments().count() as u64;
    let first = bench.log.begin().segment;
    let at = |segment| Position { segment, offset: 0 };
    let second = at(first + 1);
    bench.log.cursors_mut().advance("b", second, second);
    bench.log.cursors_mut().add("far", Position::default());
    assert_eq!(bench.log.thinnable(), None);
    let moved = at(first + 2);
    bench.log.cursors_mut().advance("far", moved, moved);
    let found = bench.log.thinnable().unwrap();
    assert!(found.segment >= first + 2 && found.segment < first + segments);
    assert_eq!(found.done, ["a".into(), "c".into()].into());
}

#[test]
fn a_copy_that_is_not_whole_is_nothing() {
    let mut bench = lagging();
    while bench.log.thinnable().is_none() {}
    let mut thinning = Thinning::new(dir(), {
        let info = *bench.log.segments().iter().next().unwrap();
        Thinnable {
            segment: info.segment,
            data_end: info.data_end,
            bytes: info.bytes,
            done: ["a".into(), "c".into()].into(),
        }
    });
    while thinning.step(&bench.storage).unwrap() == ThinStep::More {}
    let whole = bench.storage.get(&unfinished_path(1)).unwrap();
    let original = bench.storage.get(&segment_path(1)).unwrap();
    for len in [0, 1, 127, 200, whole.len() - 1, whole.len()] {
        let torn = whole[..len].to_vec();
        bench.storage.set(&unfinished_path(1), torn);
        let recovered = recover(&bench.storage, dir(), u64::MAX).unwrap();
        assert_eq!(recovered.damage, []);
        assert_eq!(bench.storage.get(&unfinished_path(1)), None);
        assert_eq!(
            bench.storage.get(&segment_path(1)).as_ref(),
            Some(&original)
        );
    }
    assert_all_read_what_they_would(&bench);
}

#[test]
fn a_damaged_segment_stays_as_it_is() {
    let mut bench = lagging();
    // A record that is kept.
    let at = bench.appended[0].0.offset as usize;
    let mut bytes = bench.storage.get(&segment_path(1)).unwrap();
    bytes[at + 40] ^= 1;
    bench.storage.set(&segment_path(1), bytes.clone());
    let segments = bench.log.segments().count();
    assert_eq!(thin_all(&mut bench), segments - 1);
    assert_eq!(bench.storage.get(&segment_path(1)), Some(bytes));
}

#[test]
fn damage_to_a_thinned_segment_invents_nothing() {
    let mut bench = lagging();
    assert!(thin_all(&mut bench) > 0);
    let wanted = expected(&bench, "b", Position::default());
    let good = bench.storage.get(&segment_path(1)).unwrap();
    let mut lost_whole = 0;
    for at in (0..good.len()).step_by(7) {
        let mut harmed = good.clone();
        harmed[at] ^= 0x20;
        bench.storage.set(&segment_path(1), harmed);
        let report = verify(bench.shared(), dir(), 1).unwrap();
        let recovered = recover(&bench.storage, dir(), u64::MAX).unwrap();
        let mut reader = LogReader::new(bench.shared(), dir().into());
        let read = read_from(&mut reader, &recovered.segments, Position::default());
        for entry in &read {
            let appended = bench.appended.iter();
            let found = appended.clone().find(|(at, _)| *at == entry.position);
            assert_same(&entry.scrape, &found.unwrap().1);
        }
        if read.len() < wanted.len() {
            assert!(!report.damage.is_empty(), "byte {at}: lost, and not said");
        }
        lost_whole += usize::from(recovered.segments.iter().all(|info| info.segment != 1));
    }
    assert_eq!(lost_whole, 0, "header and map are there twice");
    for len in (0..good.len()).step_by(11) {
        bench.storage.set(&segment_path(1), good[..len].to_vec());
        let report = verify(bench.shared(), dir(), 1).unwrap();
        let recovered = recover(&bench.storage, dir(), u64::MAX).unwrap();
        let mut reader = LogReader::new(bench.shared(), dir().into());
        let read = read_from(&mut reader, &recovered.segments, Position::default());
        assert!(read.len() <= wanted.len());
        let is_whole = read.len() == wanted.len();
        assert!(is_whole || !recovered.damage.is_empty(), "{len} bytes");
        assert!(is_whole || !report.damage.is_empty(), "{len} bytes");
    }
    // Neither map can be read: the file is set aside for people.
    let mut harmed = good.clone();
    let map_bytes = u32::from_le_bytes(good[12..16].try_into().unwrap()) as usize;
    harmed[128 + 20] ^= 1;
    harmed[128 + map_bytes + 20] ^= 1;
    bench.storage.set(&segment_path(1), harmed);
    let recovered = recover(&bench.storage, dir(), u64::MAX).unwrap();
    assert_eq!(recovered.damage[0].kind, DamageKind::SegmentHeader);
    assert_eq!(bench.storage.get(&segment_path(1)), None);
}
