//! An agent's log, written here by the published rules -> read back, whole and damaged.

use proptest::prelude::*;
use ringscrape_wal::import::agent_log::AgentLog;
use ringscrape_wal::import::pages::{Item, PAGE_BYTES, PageFault, Pages};
use ringscrape_wal::import::scrapes::{Counts, Scrapes};
use ringscrape_wal::scrape::Scrape;
use ringscrape_wal::storage::MemoryStorage;
use ringscrape_wal::tools::labels::series_labels;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn put_labels(out: &mut Vec<u8>, labels: &[(&str, &str)]) {
    put_unsigned(out, labels.len() as u64);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        put_unsigned(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

fn series_record(series: &[(u64, Vec<(&str, &str)>)]) -> Vec<u8> {
    let mut out = vec![1];
    for (number, labels) in series {
        out.extend_from_slice(&number.to_be_bytes());
        put_labels(&mut out, labels);
    }
    out
}

/// Samples in the old form, or with start times in the new one.
fn samples_record(samples: &[(u64, i64, f64)], is_new: bool) -> Vec<u8> {
    let mut out = vec![if is_new { 11 } else { 2 }];
    let (first_number, first_ms, _) = samples[0];
    if !is_new {
        out.extend_from_slice(&first_number.to_be_bytes());
        out.extend_from_slice(&first_ms.to_be_bytes());
    }
    let mut before = 0;
    for (at, (number, ms, value)) in samples.iter().enumerate() {
        match (is_new, at) {
            (true, 0) => {
                put_signed(&mut out, *number as i64);
                put_signed(&mut out, *ms);
                put_signed(&mut out, 77);
            }
            (true, _) => {
                put_signed(&mut out, *number as i64 - before as i64);
                put_signed(&mut out, ms - first_ms);
                match at % 3 {
                    0 => out.push(0),
                    1 => out.push(1),
                    _ => {
                        out.push(2);
                        put_signed(&mut out, 5);
                    }
                }
            }
            (false, _) => {
                put_signed(&mut out, *number as i64 - first_number as i64);
                put_signed(&mut out, ms - first_ms);
            }
        }
        before = *number;
        out.extend_from_slice(&value.to_bits().to_be_bytes());
    }
    out
}

/// Records as a segment's pages. `compression`: 0 none, 1 snappy, 2 zstd.
fn segment(records: &[(Vec<u8>, u8)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (record, compression) in records {
        let (flag, bytes) = match compression {
            0 => (0, record.clone()),
            1 => (8, snap::raw::Encoder::new().compress_vec(record).unwrap()),
            _ => (16, zstd::bulk::compress(record, 1).unwrap()),
        };
        let mut rest = &bytes[..];
        let mut is_first = true;
        loop {
            let room = PAGE_BYTES - out.len() % PAGE_BYTES;
            if room <= 7 {
                out.resize(out.len() + room, 0);
                continue;
            }
            let (part, after) = rest.split_at(rest.len().min(room - 7));
            rest = after;
            let kind = match (is_first, rest.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            is_first = false;
            out.push(kind | flag);
            out.extend_from_slice(&(part.len() as u16).to_be_bytes());
            out.extend_from_slice(&crc32c::crc32c(part).to_be_bytes());
            out.extend_from_slice(part);
            if rest.is_empty() {
                break;
            }
        }
    }
    out
}

/// Samples by label text, in order.
type Found = BTreeMap<String, Vec<(i64, u64)>>;

fn take_in(found: &mut Found, scrape: &Scrape) {
    let mut at = 0u32;
    for run in &scrape.layout.runs {
        for entry in run.from..run.to {
            let labels = series_labels(&run.block, entry, &scrape.target).unwrap();
            let sides = scrape.sides.as_deref();
            let own = sides.and_then(|s| s.timestamps.iter().find(|time| time.index == at));
            let ms = own.map_or(scrape.timestamp_ms, |time| time.timestamp_ms);
            let bits = scrape.values[at as usize].to_bits();
            found
                .entry(format!("{labels:?}"))
                .or_default()
                .push((ms, bits));
            at += 1;
        }
    }
    assert_eq!(at, scrape.layout.len);
}

/// Reads files of `/agent/wal` through to the end.
fn read(files: &[(&str, Vec<u8>)], since_ms: i64) -> (Found, AgentLog) {
    let storage = MemoryStorage::new();
    for (name, bytes) in files {
        storage.set(&Path::new("/agent/wal").join(name), bytes.clone());
    }
    let since = Box::new(move |_: &str, _: &str| since_ms);
    let mut log = AgentLog::open(Arc::new(storage), Path::new("/agent"), since).unwrap();
    let mut found = Found::new();
    while let Some(scrape) = log.next_scrape().unwrap() {
        take_in(&mut found, &scrape);
    }
    assert_eq!(log.bytes_read(), log.bytes_total());
    (found, log)
}

const NAMES: [&str; 5] = ["up", "load", "mem", "disk", "a_rather_long_metric_name"];

/// `count` appends of `width` series, with what must be found.
fn appends(count: u32, width: u64, is_new: bool, compression: u8) -> (Vec<(Vec<u8>, u8)>, Found) {
    let mut records = Vec::new();
    let mut found = Found::new();
    let instances: Vec<String> = (0..3).map(|number| format!("host-{number}:9100")).collect();
    let labels = |number: u64| {
        vec![
            ("__name__", NAMES[number as usize % 5]),
            ("instance", instances[number as usize / 5 % 3].as_str()),
            ("job", "node"),
        ]
    };
    let series: Vec<_> = (0..width).map(|n| (1_000 + n, labels(n))).collect();
    records.push((series_record(&series), compression));
    for append in 0..count {
        let samples: Vec<_> = (0..width)
            .map(|n| {
                // Each series has a time of its own now and then.
                let own = i64::from(n % 7 == 3);
                let ms = 1_000 * i64::from(append) + own;
                let value = match append % 5 {
                    4 => f64::from_bits(0x7ff0_0000_0000_0002),
                    _ => f64::from(append) + n as f64 / 7.0,
                };
                let list = found.entry(format!("{:?}", labels(n))).or_default();
                list.push((ms, value.to_bits()));
                (1_000 + n, ms, value)
            })
            .collect();
        records.push((samples_record(&samples, is_new), compression));
    }
    (records, found)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn every_sample_is_found_in_order(
        count in 1u32..200, width in 1u64..15, is_new: bool, compression in 0u8..3,
    ) {
        let (records, wanted) = appends(count, width, is_new, compression);
        let (found, log) = read(&[("00000007", segment(&records))], i64::MIN);
        prop_assert_eq!(found, wanted);
        prop_assert!(log.damage().is_empty() && log.missing().is_empty());
        let samples = u64::from(count) * width;
        prop_assert_eq!(log.counts(), Counts { series: width, samples, ..Counts::default() });
    }

    #[test]
    fn one_flipped_bit_costs_a_page_at_most_and_invents_nothing(
        at in any::<prop::sample::Index>(), bit in 0u8..8, compression in 0u8..3,
    ) {
        let (records, wanted) = appends(400, 14, false, compression);
        let mut bytes = segment(&records);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (found, log) = read(&[("00000000", bytes)], i64::MIN);
        let named = !log.damage().is_empty();
        let mut lost = 0;
        for (series, samples) in &wanted {
            let got = found.get(series).cloned().unwrap_or_default();
            // A subsequence of what was written.
            let mut rest = samples.iter();
            prop_assert!(got.iter().all(|one| rest.any(|have| have == one)), "{series}");
            lost += samples.len() - got.len();
        }
        prop_assert!(lost == 0 || named || log.counts().without_series > 0);
        if at >= 64 << 10 {
            let per_page = PAGE_BYTES / 14;
            prop_assert!(lost <= 2 * per_page * 14 / 8, "{lost} lost");
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
        ringscrape_wal::fuzz::agent(&bytes);
    }
}

#[test]
fn the_newest_checkpoint_comes_first_and_replaces_what_is_before_it() {
    let series = |number: u64, job: &'static str| {
        (
            series_record(&[(number, vec![("__name__", "x"), ("job", job)])]),
            1,
        )
    };
    let sample = |number: u64, ms: i64| (samples_record(&[(number, ms, 1.0)], false), 1);
    let files = [
        (
            "checkpoint.00000002/00000000",
            segment(&[series(9, "wrong")]),
        ),
        (
            "checkpoint.00000005.tmp/00000000",
            segment(&[series(9, "half")]),
        ),
        (
            "checkpoint.00000004/00000000",
            segment(&[series(1, "a"), sample(1, 5)]),
        ),
        ("checkpoint.00000004/00000001", segment(&[series(2, "b")])),
        ("00000004", segment(&[sample(1, 5)])),
        (
            "00000005",
            segment(&[series(1, "a"), sample(1, 6), sample(2, 7)]),
        ),
        ("00000008", segment(&[sample(2, 8)])),
        ("notes.txt", vec![1, 2, 3]),
    ];
    let (found, log) = read(&files, 6);
    let times = |job: &str| -> Vec<i64> {
        let of = &found[&format!("{:?}", [("__name__", "x"), ("job", job)])];
        of.iter().map(|sample| sample.0).collect()
    };
    assert_eq!((times("a"), times("b")), (vec![6], vec![7, 8]));
    assert_eq!(found.len(), 2);
    assert_eq!(log.missing(), [(6, 7)]);
    assert_eq!(log.counts().too_old, 1);
    // Declared again with the same labels: the same series.
    assert_eq!(log.counts().series, 2);
}

#[test]
fn histograms_and_exemplars_stand_beside_their_samples() {
    let series = series_record(&[
        (
            1,
            vec![("__name__", "x_bucket"), ("instance", "h"), ("job", "j")],
        ),
        (
            2,
            vec![("__name__", "native"), ("instance", "h"), ("job", "j")],
        ),
    ]);
    let mut histogram = vec![7];
    histogram.extend_from_slice(&2u64.to_be_bytes());
    histogram.extend_from_slice(&1_000i64.to_be_bytes());
    histogram.extend_from_slice(&[0, 0, 0, 0]);
    histogram.extend_from_slice(&0f64.to_bits().to_be_bytes());
    histogram.extend_from_slice(&[0, 4]);
    histogram.extend_from_slice(&8f64.to_bits().to_be_bytes());
    histogram.extend_from_slice(&[0, 0, 0, 0]);
    let mut exemplar = vec![4];
    exemplar.extend_from_slice(&1u64.to_be_bytes());
    exemplar.extend_from_slice(&990i64.to_be_bytes());
    for number in [0, 8] {
        put_signed(&mut exemplar, number);
        put_signed(&mut exemplar, 0);
        exemplar.extend_from_slice(&0.5f64.to_bits().to_be_bytes());
        put_labels(&mut exemplar, &[("trace_id", "abc")]);
    }
    let mut scrapes = Scrapes::new(Box::new(|_, _| 0));
    scrapes.record(&series);
    scrapes.record(&samples_record(&[(1, 1_000, 3.0)], false));
    scrapes.record(&histogram);
    scrapes.record(&exemplar);
    assert!(scrapes.take().is_none(), "more may come");
    scrapes.record(&samples_record(&[(1, 2_000, 4.0)], true));
    let first = scrapes.take().unwrap();
    let sides = first.sides.as_deref().unwrap();
    assert_eq!(first.values, [3.0, 0.0]);
    assert_eq!(sides.histograms[0].index, 1);
    assert_eq!(sides.histograms[0].bytes[..2], [0x08, 4]);
    assert_eq!(sides.exemplars.len(), 1);
    assert_eq!(sides.exemplars[0].timestamp_ms, 990);
    assert_eq!(
        *sides.exemplars[0].labels,
        [("trace_id".into(), "abc".into())]
    );
    assert!(sides.timestamps.is_empty());
    scrapes.end();
    let second = scrapes.take().unwrap();
    assert_eq!(second.timestamp_ms, 2_000);
    assert_eq!(
        second.sides.as_deref().unwrap().start_timestamps[0].timestamp_ms,
        77
    );
    let counts = scrapes.counts();
    assert_eq!(
        (counts.histograms, counts.exemplars, counts.without_series),
        (1, 1, 1)
    );
}

#[test]
fn damage_is_named_by_kind_and_place() {
    let (records, _) = appends(4_000, 14, false, 0);
    let whole = segment(&records);
    assert!(whole.len() > 6 * PAGE_BYTES);
    let damage = |bytes: &[u8]| -> Vec<(u64, PageFault)> {
        let mut pages = Pages::default();
        let mut found = Vec::new();
        for (page, bytes) in bytes.chunks(PAGE_BYTES).enumerate() {
            pages.page(bytes, (page * PAGE_BYTES) as u64, &mut |item| {
                if let Item::Damage(place) = item {
                    found.push((place.from, place.fault));
                }
            });
        }
        pages.end(bytes.len() as u64, &mut |item| {
            if let Item::Damage(place) = item {
                found.push((place.from, place.fault));
            }
        });
        found
    };
    assert_eq!(damage(&whole), []);
    // Cut where its process was killed.
    let cut = &whole[..5 * PAGE_BYTES + 3];
    let found = damage(cut);
    assert_eq!(found[0], (5 * PAGE_BYTES as u64, PageFault::Header));
    // A page of zeros: the record that went on in it has no end, the next no beginning.
    let mut holed = whole.clone();
    holed[2 * PAGE_BYTES..3 * PAGE_BYTES].fill(0);
    let kinds: Vec<PageFault> = damage(&holed).into_iter().map(|one| one.1).collect();
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == PageFault::Incomplete));
    // A type that there is not.
    let mut odd = whole.clone();
    odd[PAGE_BYTES] = 0x27;
    assert_eq!(damage(&odd)[0], (PAGE_BYTES as u64, PageFault::Header));
    // Bytes that say they are compressed.
    let mut bad = segment(&[(vec![3; 40], 0)]);
    bad[0] |= 8;
    assert_eq!(damage(&bad), [(0, PageFault::Compression)]);
    bad[0] = 1 | 16;
    assert_eq!(damage(&bad), [(0, PageFault::Compression)]);
}
