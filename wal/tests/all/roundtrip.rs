//! What is appended is what is read, from any record on, from memory and from disk.

use crate::common::*;
use proptest::prelude::*;
use ringscrape_wal::log::LogOptions;
use ringscrape_wal::reader::LogReader;
use ringscrape_wal::scrape::Position;
use ringscrape_wal::tail::TailRead;
use ringscrape_wal::tools::{IndexState, indexes, segments, verify};

fn small_segments() -> LogOptions {
    LogOptions {
        segment_bytes_max: 6_000,
        segment_bytes_min: 3_000,
        definition_ratio: 2,
        keyframe_every: 4,
        salt: 77,
        // Their times are anything.
        tail_age_ms_max: i64::MAX,
        ..LogOptions::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_record_is_read_from_any_place(
        steps in prop::collection::vec(any_step(), 1..80),
        cache_bytes in prop_oneof![Just(0usize), Just(2000), Just(1 << 20)],
    ) {
        let world = World::new();
        let mut bench = Bench::new(small_segments());
        for step in &steps {
            bench.append(world.scrape(step));
            if step.flush {
                bench.flush();
            }
        }
        bench.flush();
        let mut forward = LogReader::with_cache(bench.shared(), dir().into(), cache_bytes);
        assert_read(&bench.read_from(&mut forward, Position::default()), &bench.appended);
        for start in 0..bench.appended.len() {
            let mut fresh = LogReader::with_cache(bench.shared(), dir().into(), cache_bytes);
            let from = bench.appended[start].0;
            let readable = match bench.log.segments().readable_from(from) {
                ringscrape_wal::segments::DiskRead::Segment(readable) => readable,
                other => panic!("{other:?}"),
            };
            let entry = fresh.next(&readable, from, &mut |_| true).unwrap().unwrap();
            prop_assert_eq!(entry.position, from);
            assert_same(&entry.scrape, &bench.appended[start].1);
        }
        prop_assert!(forward.take_damage().is_empty());
        // The tail holds all of it too.
        let mut from = Position::default();
        for (position, scrape) in &bench.appended {
            let TailRead::Entry(entry) = bench.log.tail_after(from) else {
                panic!("nothing after {from:?}");
            };
            prop_assert_eq!(entry.position, *position);
            prop_assert!(std::sync::Arc::ptr_eq(&entry.scrape, scrape));
            from = entry.end;
        }
        prop_assert!(matches!(bench.log.tail_after(from), TailRead::Empty));
    }

    #[test]
    fn each_segment_can_be_read_alone_and_its_index_says_what_its_frames_say(
        steps in prop::collection::vec(any_step(), 1..80),
        close in any::<bool>(),
    ) {
        let world = World::new();
        let mut bench = Bench::new(small_segments());
        for step in &steps {
            bench.append(world.scrape(step));
        }
        if close {
            bench.log.close();
        }
        bench.flush();
        let all = segments(&bench.storage, dir()).unwrap();
        let last = *all.last().unwrap();
        for segment in all {
            let (written, rebuilt) = indexes(&bench.storage, dir(), segment).unwrap();
            let open = !close
                && segment == last
                && bench.log.segments().iter().next_back().unwrap().open;
            prop_assert_eq!(written.is_none(), open);
            if let Some(written) = written {
                prop_assert_eq!(&written, &rebuilt);
            }
            // A disk with this segment only.
            let alone = ringscrape_wal::storage::MemoryStorage::new();
            alone.set(&segment_path(segment), bench.storage.get(&segment_path(segment)).unwrap());
            let report = verify(std::sync::Arc::new(alone), dir(), segment).unwrap();
            prop_assert_eq!(&report.damage, &vec![]);
            prop_assert_eq!(report.index == IndexState::Missing, open);
            let here: Vec<_> =
                bench.appended.iter().filter(|(p, _)| p.segment == segment).collect();
            prop_assert_eq!(report.frames[5].frames, here.len() as u64);
            prop_assert_eq!(rebuilt.records(), here.len() as u64);
            for (position, _) in &here {
                let after: u64 = here
                    .iter()
                    .filter(|(p, _)| p.offset >= position.offset)
                    .map(|(_, s)| {
                        s.values.len() as u64
                            + s.stale.iter().map(|r| u64::from(r.to - r.from)).sum::<u64>()
                    })
                    .sum();
                prop_assert_eq!(rebuilt.samples_from(position.offset), after);
            }
        }
    }

    #[test]
    fn a_reader_of_one_endpoint_sees_its_records_only(
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let world = World::new();
        let mut bench = Bench::new(small_segments());
        for step in &steps {
            bench.append(world.scrape(step));
        }
        bench.flush();
        let mut reader = LogReader::new(bench.shared(), dir().into());
        let mut from = Position::default();
        let mut seen = Vec::new();
        while let ringscrape_wal::segments::DiskRead::Segment(readable) =
            bench.log.segments().readable_from(from)
        {
            let mut wanted =
                |route: &ringscrape_wal::definition::Route| route.endpoints.contains(&"b".into());
            match reader.next(&readable, from, &mut wanted).unwrap() {
                Some(entry) => {
                    from = entry.end;
                    seen.push(entry);
                }
                None if readable.next > from => from = readable.next,
                None => break,
            }
        }
        let expected: Vec<_> = bench
            .appended
            .iter()
            .filter(|(_, scrape)| scrape.route.endpoints.len() == 2)
            .cloned()
            .collect();
        assert_read(&seen, &expected);
    }
}
