//! What the tools say of a log, and what is left after a cut, against what was appended.

use crate::common::*;
use proptest::prelude::*;
use ringscrape_wal::caps::CapAlarms;
use ringscrape_wal::cursor::CursorSet;
use ringscrape_wal::error::DamageKind;
use ringscrape_wal::format::{CURSOR_FILE, QUARANTINE_DIR};
use ringscrape_wal::log::LogOptions;
use ringscrape_wal::reader::LogReader;
use ringscrape_wal::recovery::{next_segment, recover};
use ringscrape_wal::scrape::{Position, Scrape};
use ringscrape_wal::segments::DeletionCause;
use ringscrape_wal::storage::Storage;
use ringscrape_wal::tools::cut::{CutPlan, apply, plan_before, plan_segment};
use ringscrape_wal::tools::survey::Survey;
use ringscrape_wal::tools::walk::walk;
use ringscrape_wal::tools::{cursors, log_dirs, segments};
use std::path::Path;
use std::sync::Arc;

/// A log of `count` scrapes, a second apart from 1,000 ms on, in several segments.
pub fn filled(count: u32, salt: u64) -> Bench {
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        segment_bytes_max: 6_000,
        segment_bytes_min: 3_000,
        definition_ratio: 2,
        salt,
        ..LogOptions::default()
    });
    for number in 0..count {
        bench.append(world.scrape(&Step {
            target: number as usize,
            layout: 2,
            route: number as usize,
            timestamp_ms: 1_000 + 1_000 * i64::from(number),
            values: vec![f64::from(number) / 3.0],
            stale: vec![],
            sides: false,
            flush: false,
        }));
    }
    bench.flush();
    bench
}

fn save(bench: &Bench, cursors: &CursorSet) {
    let slot = cursors.clone().encode().unwrap();
    let path = dir().join(CURSOR_FILE);
    bench
        .storage
        .write_at(&path, slot.offset, &slot.bytes)
        .unwrap();
}

/// What the endpoint is sent after a start, as the engine does it.
fn sent_to(bench: &Bench, endpoint: &str) -> Vec<i64> {
    let recovered = recover(&bench.storage, dir(), u64::MAX).unwrap();
    let cursor = recovered.cursors.get(endpoint);
    let from = cursor.map_or(Position::default(), |cursor| cursor.low_water);
    let mut reader = LogReader::new(bench.shared(), dir().into());
    read_from(&mut reader, &recovered.segments, from)
        .iter()
        .filter(|entry| {
            entry
                .scrape
                .route
                .endpoints
                .iter()
                .any(|e| **e == *endpoint)
        })
        .map(|entry| entry.scrape.timestamp_ms)
        .collect()
}

fn is_for(scrape: &Scrape, endpoint: &str) -> bool {
    scrape
        .route
        .endpoints
        .iter()
        .any(|have| **have == *endpoint)
}

fn survey(bench: &Bench) -> Survey {
    let mut survey = Survey::default();
    survey.begin_dir(
        "shard-000",
        &cursors(&bench.storage, dir()).unwrap().cursors,
    );
    for segment in segments(&bench.storage, dir()).unwrap() {
        let walked = walk(&bench.storage, dir(), segment, &mut |head| {
            survey.record(head)
        });
        assert!(walked.unwrap().damage.is_empty());
    }
    survey
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_cut_leaves_what_is_younger_and_says_what_is_lost(
        count in 1u32..120,
        before_s in 0i64..130,
        acknowledged in 0u32..120,
    ) {
        let bench = filled(count, 5);
        let mut set = CursorSet::default();
        let acknowledged = acknowledged.min(count);
        let low_water = match bench.appended.get(acknowledged as usize) {
            Some((position, _)) => *position,
            None => bench.log.end(),
        };
        set.add("a", low_water);
        save(&bench, &set);
        let before_ms = before_s * 1_000;
        let model = |endpoint: &str, from: u32| -> (Vec<i64>, u64) {
            let mut kept = Vec::new();
            let mut lost = 0;
            for (_, scrape) in &bench.appended[from as usize..] {
                match is_for(scrape, endpoint) {
                    true if scrape.timestamp_ms >= before_ms => kept.push(scrape.timestamp_ms),
                    true => lost += u64::from(scrape.layout.len),
                    false => {}
                }
            }
            (kept, lost)
        };
        let of = |plan: &CutPlan, endpoint: &str| plan.lost.get(endpoint).map_or(0, |s| s.samples);
        let number_before = next_segment(&bench.storage, dir()).unwrap();
        let plan = plan_before(&bench.storage, dir(), before_ms).unwrap();
        // `a` has a cursor, `b` none.
        prop_assert_eq!(of(&plan, "a"), model("a", acknowledged).1);
        prop_assert_eq!(of(&plan, "b"), model("b", 0).1);
        apply(&bench.storage, dir(), &plan, false).unwrap();
        prop_assert_eq!(sent_to(&bench, "a"), model("a", acknowledged).0);
        prop_assert_eq!(sent_to(&bench, "b"), model("b", 0).0);
        prop_assert!(next_segment(&bench.storage, dir()).unwrap() >= number_before);
        prop_assert!(plan_before(&bench.storage, dir(), before_ms).unwrap().segments.is_empty());
    }

    #[test]
    fn the_survey_counts_what_was_appended(count in 1u32..120, acknowledged in 0u32..120) {
        let bench = filled(count, 6);
        let mut set = CursorSet::default();
        let at = (acknowledged.min(count - 1)) as usize;
        set.add("a", bench.appended[at].0);
        save(&bench, &set);
        let survey = survey(&bench);
        let samples = |list: &[(Position, Arc<Scrape>)]| -> u64 {
            list.iter().map(|(_, scrape)| u64::from(scrape.layout.len)).sum()
        };
        prop_assert_eq!(survey.all.records, u64::from(count));
        prop_assert_eq!(survey.all.samples, samples(&bench.appended));
        prop_assert_eq!(survey.all.newest_ms, 1_000 * i64::from(count));
        let a = &survey.endpoints["a"];
        prop_assert_eq!(a.unsent.samples, samples(&bench.appended[at..]));
        prop_assert_eq!(a.unsent.oldest_ms, bench.appended[at].1.timestamp_ms);
        let slots = survey.by_time(24).1;
        prop_assert_eq!(slots.iter().map(|slot| slot.1).sum::<u64>(), survey.all.samples);
        let by_target: u64 = survey.targets.values().map(|target| target.sum.samples).sum();
        prop_assert_eq!(by_target, survey.all.samples);
    }
}

#[test]
fn one_segment_can_go_whole_or_to_quarantine() {
    let bench = filled(60, 7);
    let numbers = segments(&bench.storage, dir()).unwrap();
    assert!(numbers.len() > 2, "{numbers:?}");
    let plan = plan_segment(&bench.storage, dir(), numbers[1]).unwrap();
    assert!(plan.removed.samples > 0);
    assert_eq!(plan.lost["a"].samples, plan.removed.samples);
    let before = sent_to(&bench, "a").len() as u64;
    apply(&bench.storage, dir(), &plan, true).unwrap();
    assert_eq!(
        sent_to(&bench, "a").len() as u64,
        before - plan.removed.records
    );
    let quarantine = bench.storage.list(&dir().join(QUARANTINE_DIR)).unwrap();
    assert_eq!(quarantine.len(), 1);
    let error = plan_segment(&bench.storage, dir(), numbers[1]).unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn damage_is_named_and_the_rest_counted() {
    let bench = filled(60, 8);
    let (first, last) = (bench.appended[3].0, bench.appended[59].0);
    assert!(first.segment < last.segment);
    let mut bytes = bench.storage.get(&segment_path(first.segment)).unwrap();
    bytes[first.offset as usize + 20] ^= 1;
    bench.storage.set(&segment_path(first.segment), bytes);
    let mut records = 0;
    let walked = walk(&bench.storage, dir(), first.segment, &mut |_| records += 1).unwrap();
    assert_eq!(walked.damage.len(), 1);
    assert_eq!(walked.damage[0].from, first.offset);
    assert_eq!(walked.damage[0].kind, DamageKind::Frame);
    assert!(records > 2);
    // A file that is all damage has its size, and no record.
    bench
        .storage
        .set(&segment_path(last.segment), vec![9; 4096]);
    let walked = walk(&bench.storage, dir(), last.segment, &mut |_| {
        panic!("a record")
    })
    .unwrap();
    assert_eq!((walked.bytes, walked.created_ms), (4096, None));
    assert_eq!(walked.damage[0].kind, DamageKind::SegmentHeader);
}

#[test]
fn a_log_is_found_from_any_folder_above() {
    let bench = filled(3, 9);
    for path in ["/", "/wal", "/wal/shard-000"] {
        let found = log_dirs(&bench.storage, Path::new(path)).unwrap();
        assert_eq!(
            found,
            [("shard-000".to_owned(), dir().to_path_buf())],
            "{path}"
        );
    }
    assert!(
        log_dirs(&bench.storage, Path::new("/else"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_cap_is_announced_before_it_takes_anything() {
    let world = World::new();
    let mut bench = Bench::new(LogOptions {
        segment_bytes_max: 6_000,
        segment_bytes_min: 3_000,
        definition_ratio: 2,
        // What is in memory still is not lost.
        tail_bytes_max: 3_000,
        retention_bytes_max: Some(60_000),
        retention_age_ms_max: Some(3_600_000),
        salt: 3,
        ..LogOptions::default()
    });
    let begin = bench.log.begin();
    bench.log.cursors_mut().configure(["a", "b"], begin, 0);
    let mut alarms = CapAlarms::default();
    let mut warned = Vec::new();
    let mut appended = 0;
    let lost = loop {
        for number in 0..3 {
            bench.append(world.scrape(&Step {
                target: number,
                layout: 2,
                route: 1,
                timestamp_ms: appended,
                values: vec![appended as f64 / 3.0],
                stale: vec![],
                sides: false,
                flush: false,
            }));
            appended += 1;
        }
        bench.flush();
        // `b` follows.
        let end = bench.log.end();
        bench.log.cursors_mut().advance("b", end, end);
        let low_water = bench.log.cursors().low_water(end).unwrap();
        bench.log.release(low_water);
        for alarm in alarms.update(&bench.log.cap_uses(appended)) {
            assert!(alarm.raised && *alarm.used.endpoint == *"a", "{alarm:?}");
            assert_eq!(alarm.used.cause, DeletionCause::RetentionBytes);
            warned.push((appended, alarm.used.ratio));
        }
        let deletions = bench.log.retention(appended);
        if let Some(deletion) = deletions.first() {
            break *deletion;
        }
        assert!(appended < 10_000);
    };
    assert_eq!(lost.cause, DeletionCause::RetentionBytes);
    assert!(lost.lost.is_some());
    let (at, ratio) = warned[0];
    assert_eq!(warned.len(), 1);
    assert!(
        at < appended - 6 && (0.8..1.0).contains(&ratio),
        "{warned:?} of {appended}"
    );

    // Age: of what `a` lacks, not of what `b` has.
    let age = |now_ms: i64, endpoint: &str| {
        let uses = bench.log.cap_uses(now_ms);
        let found = uses
            .iter()
            .find(|used| *used.endpoint == *endpoint && used.cause == DeletionCause::RetentionAge);
        found.unwrap().ratio
    };
    assert!((0.4..0.51).contains(&age(1_800_000, "a")));
    assert_eq!(age(1_800_000, "b"), 0.0);
}
