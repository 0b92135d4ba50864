//! A 2.0 request says what the 1.0 request of the same samples says, whole and in parts.

use super::decode::{Metadata as Decoded, TimeSeries, WriteRequest, decode, decode_v2};
use super::model::{LabelMap, Plain, block, endpoint, layout, map, plain, route, target, whole};
use crate::config::Endpoint;
use crate::labels::Labels;
use crate::remote_write::construct::Template;
use crate::remote_write::derive::Deriver;
use crate::remote_write::encode::{Counts, Options, TargetLabels, encode, positions};
use crate::remote_write::metadata::Metadata;
use crate::remote_write::request::{Compression, Compressor, Form, OpenRequest, uncompress};
use crate::remote_write::v2::rewrite::as_first_version;
use proptest::prelude::*;
use ringscrape_wal::definition::{Block, Family, FamilyKind};
use ringscrape_wal::scrape::{Scrape, SideTimestamp};
use std::ops::Range;
use std::sync::Arc;

/// The same samples in both versions.
struct Both {
    deriver: Deriver,
    metadata: Metadata,
    first: Vec<u8>,
    second: OpenRequest,
}

impl Both {
    fn new(endpoint: &Endpoint, compression: Compression) -> Self {
        Self {
            deriver: Deriver::new(endpoint),
            metadata: Metadata::default(),
            first: Vec::new(),
            second: OpenRequest::new(Form::v2(compression)),
        }
    }

    fn add(&mut self, scrape: &Scrape, range: Range<u32>, options: Options) -> Counts {
        self.metadata.observe(&scrape.layout);
        let known = self.deriver.target(&scrape.target);
        let deriver = &mut self.deriver;
        let second = |block: &Arc<Block>| Template {
            block: deriver.block(block, &known),
            references: deriver.references(block, &known, Some(&self.metadata)),
            edits: None,
        };
        let counts = self
            .second
            .encode(scrape, &known.labels, range.clone(), options, second);
        // What stops an encoding is a matter of the version.
        let plain = Options {
            bytes_max: 0,
            ..options
        };
        let range = range.start..counts.end;
        let block = |block: &Arc<Block>| deriver.block(block, &known);
        let labels = TargetLabels::new(&scrape.target);
        let expected = encode(&mut self.first, scrape, &labels, range, plain, block);
        assert_eq!(counts, expected);
        counts
    }

    /// Ends the request; gives both, the second one with its symbols.
    fn finish(&mut self, compressor: &mut Compressor) -> (WriteRequest, WriteRequest, Vec<u8>) {
        let compression = self.second.form().compression;
        let raw = uncompress(&self.second.finish(compressor), compression);
        let first = decode(&std::mem::take(&mut self.first));
        let second = decode_v2(&raw).0;
        (first, second, raw)
    }
}

fn text(series: &[TimeSeries]) -> String {
    // Debug text, because NaN values of exemplars are not equal to themselves.
    format!("{series:?}")
}

proptest! {
    #[test]
    fn both_versions_say_the_same(
        plains in prop::collection::vec(plain(), 1..5),
        zstd: bool,
        external: bool,
        exemplars: bool,
        slice in prop_oneof![Just(u32::MAX), 1_u32..6],
        bytes_max in prop_oneof![Just(0_usize), 1_usize..600],
        min in prop::option::of(-20_i64..20),
        again in prop::collection::vec(any::<u8>(), 3),
    ) {
        let mut endpoint = endpoint();
        if external {
            endpoint.external_labels = Labels::from_pairs([("zone", "b"), ("cluster", "c")]);
        }
        let compression = if zstd { Compression::Zstd } else { Compression::Snappy };
        let mut both = Both::new(&endpoint, compression);
        let mut compressor = Compressor::new();
        let options = Options { exemplars, bytes_max, timestamp_ms_min: min, ..Options::default() };
        // Some requests hold less than the one before, whose symbols are there.
        for pick in again {
            for (index, plain) in plains.iter().enumerate() {
                if pick >> index & 1 == 0 {
                    continue;
                }
                for _ in 0..2 {
                    let (mut at, total) = (0, positions(&plain.scrape));
                    while at < total {
                        let to = total.min(at.saturating_add(slice));
                        let counts = both.add(&plain.scrape, at..to, options);
                        prop_assert!(counts.end > at);
                        at = counts.end;
                    }
                }
            }
            if both.second.raw_len() == 0 {
                continue;
            }
            let (first, second, raw) = both.finish(&mut compressor);
            prop_assert_eq!(text(&second.series), text(&first.series));
            prop_assert_eq!(text(&decode(&as_first_version(&raw)).series), text(&first.series));
        }
    }

    /// Stopping depends on the content and not on the symbols that are there already.
    #[test]
    fn slices_are_the_same_whatever_came_before(
        plain in plain(),
        other in plain(),
        bytes_max in 1_usize..600,
    ) {
        let options = Options { bytes_max, ..Options::default() };
        let ends = |before: Option<&Plain>| {
            let mut both = Both::new(&endpoint(), Compression::Snappy);
            if let Some(before) = before {
                both.add(&before.scrape, 0..positions(&before.scrape), Options::default());
            }
            let (mut at, mut ends) = (0, Vec::new());
            while at < positions(&plain.scrape) {
                at = both.add(&plain.scrape, at..positions(&plain.scrape), options).end;
                ends.push(at);
            }
            ends
        };
        prop_assert_eq!(ends(None), ends(Some(&other)));
    }

    #[test]
    fn contradictions_are_counted(mut plain in plain(), cut in 0_usize..4, beyond: bool) {
        let total = positions(&plain.scrape);
        let len = plain.scrape.values.len();
        plain.scrape.values.truncate(len.saturating_sub(cut));
        plain.scrape.sides = None;
        if beyond && let Some(run) = plain.scrape.stale.first_mut() {
            run.from += 100;
            run.to += 100;
        }
        let mut both = Both::new(&endpoint(), Compression::Snappy);
        both.add(&plain.scrape, 0..total, Options::default());
        if both.second.raw_len() > 0 {
            let (first, second, _) = both.finish(&mut Compressor::new());
            prop_assert_eq!(second.series, first.series);
        }
    }
}

fn family(name: &str, kind: FamilyKind, help: &str, unit: &str) -> Family {
    Family {
        name: name.into(),
        help: help.into(),
        unit: unit.into(),
        kind,
    }
}

fn scrape(block: &Arc<Block>) -> Scrape {
    let layout = layout(&[whole(block)]);
    Scrape {
        target: target(1, &map(&[("job", "a")])),
        route: route("test"),
        timestamp_ms: 1_700_000_000_000,
        values: vec![1.5; layout.len as usize],
        layout,
        stale: Box::default(),
        sides: None,
    }
}

fn names(names: &[&str]) -> Vec<LabelMap> {
    names
        .iter()
        .map(|name| map(&[("__name__", name)]))
        .collect()
}

#[test]
fn series_have_the_metadata_of_their_family() {
    use FamilyKind::{Counter, Gauge, Histogram};
    let job = ["job".to_owned()];
    let families = [
        family("g", Gauge, "A gauge.", "bytes"),
        family("c_total", Counter, "A counter.", ""),
        family("o", Counter, "Of OpenMetrics.", ""),
        family("h", Histogram, "", ""),
        family("unlike", FamilyKind::Unknown, "", ""),
    ];
    let series = names(&[
        "g", "g_sum", "c_total", "o_total", "h_bucket", "h_sum", "unlike", "stranger",
    ]);
    let first = block(&job, &series, &families);
    // The second block of a large family.
    let second = block(&job, &names(&["h_bucket", "h_count"]), &[]);
    let mut both = Both::new(&endpoint(), Compression::Snappy);
    for block in [&first, &second] {
        let scrape = scrape(block);
        both.add(&scrape, 0..positions(&scrape), Options::default());
    }
    let (_, decoded, _) = both.finish(&mut Compressor::new());
    let of = |kind, help: &str, unit: &str| Decoded {
        kind,
        help: help.to_owned(),
        unit: unit.to_owned(),
        ..Decoded::default()
    };
    let none = Decoded::default();
    let histogram = || of(3, "", "");
    let expected = [
        of(2, "A gauge.", "bytes"),
        none.clone(),
        of(1, "A counter.", ""),
        of(1, "Of OpenMetrics.", ""),
        histogram(),
        histogram(),
        none.clone(),
        none,
        histogram(),
        histogram(),
    ];
    assert_eq!(decoded.metadata, expected);
}

#[test]
fn start_timestamps_go_with_samples_and_histograms() {
    use ringscrape_wal::scrape::{SideBytes, Sides};
    let own = block(&["job".to_owned()], &names(&["a", "b", "c"]), &[]);
    let mut scrape = scrape(&own);
    let start = |index, timestamp_ms| SideTimestamp {
        index,
        timestamp_ms,
    };
    scrape.sides = Some(Box::new(Sides {
        start_timestamps: vec![start(1, 1_600_000_000_000), start(2, -5)],
        histograms: vec![SideBytes {
            index: 2,
            bytes: [0x08, 7].into(),
        }],
        ..Sides::default()
    }));
    let mut both = Both::new(&endpoint(), Compression::Snappy);
    both.add(&scrape, 0..3, Options::default());
    let (first, second, raw) = both.finish(&mut Compressor::new());
    assert_eq!(second.series, first.series);
    assert_eq!(second.starts, [(1, 1_600_000_000_000), (2, -5)]);
    assert_eq!(decode(&as_first_version(&raw)).series, first.series);
}

/// Targets of one program: what they share is numbered once for all requests.
#[test]
fn symbols_stay_while_they_are_used_and_go_when_they_are_not() {
    let job = ["instance".to_owned(), "job".to_owned()];
    let series = |prefix: &str| -> Vec<LabelMap> {
        let name = |n: usize| map(&[("__name__", &format!("{prefix}_metric_{n}"))]);
        (0..200).map(name).collect()
    };
    let (one, other) = (
        block(&job, &series("one"), &[]),
        block(&job, &series("two"), &[]),
    );
    let mut both = Both::new(&endpoint(), Compression::Snappy);
    let mut compressor = Compressor::new();
    let mut request = |both: &mut Both, block: &Arc<Block>, number: usize| {
        let mut scrape = scrape(block);
        let instance = format!("host-{number}:9100");
        scrape.target = target(
            number as u64,
            &map(&[("instance", &instance), ("job", "a")]),
        );
        both.add(&scrape, 0..200, Options::default());
        let (first, second, raw) = both.finish(&mut compressor);
        assert_eq!(second.series, first.series);
        (decode_v2(&raw).1.len(), raw.len())
    };
    let (count, len) = request(&mut both, &one, 0);
    assert_eq!(count, 1 + 1 + 200 + 4);
    for number in 1..30 {
        // Some instances of requests before are there.
        let (symbols, _) = request(&mut both, &one, number);
        assert!(symbols <= count + 29, "{symbols}");
    }
    // None of the first program's names.
    let (symbols, other_len) = request(&mut both, &other, 31);
    assert_eq!(symbols, count);
    assert!(other_len <= len + "1".len(), "{other_len}");
}
