//! Constructed requests, uncompressed, are the encoded ones byte for byte.

use super::model::{LabelMap, Plain, block, label_map, layout, map, plain, route, target, whole};
use crate::remote_write::construct::{Constructor, Template};
use crate::remote_write::edits::{Edits, EditsBuilder};
use crate::remote_write::encode::{Counts, Options, TargetLabels, encode, positions};
use crate::remote_write::snappy::SnappyStream;
use crate::remote_write::zstd_context::{ZstdContext, decompress};
use crate::remote_write::zstd_sequences::ZstdStream;
use ahash::AHashMap;
use proptest::prelude::*;
use ringscrape_wal::definition::{Block, BlockEntry, Target};
use ringscrape_wal::scrape::Scrape;
use std::ops::Range;
use std::sync::Arc;

/// Both compressed forms of one request, and the plain one.
#[derive(Default)]
struct Batch {
    raw: Vec<u8>,
    snappy: (Constructor, SnappyStream),
    zstd: (Constructor, ZstdStream),
    builder: EditsBuilder,
    kept: AHashMap<u64, Arc<Edits>>,
}

impl Batch {
    /// Writes the samples of `range` in all forms. `keep`: which blocks have edits kept.
    fn add(
        &mut self,
        scrape: &Scrape,
        range: Range<u32>,
        options: Options,
        keep: impl Fn(u64) -> bool,
    ) -> Counts {
        let labels = TargetLabels::new(&scrape.target);
        let counts = encode(
            &mut self.raw,
            scrape,
            &labels,
            range.clone(),
            options,
            |_| None,
        );
        let (builder, kept) = (&mut self.builder, &mut self.kept);
        let mut template = |block: &Arc<Block>| Template {
            block: None,
            references: None,
            edits: keep(block.id).then(|| {
                let new = || Arc::new(Edits::new(block, builder).unwrap());
                kept.entry(block.id).or_insert_with(new).clone()
            }),
        };
        let (constructor, stream) = &mut self.snappy;
        let range_too = range.clone();
        let got = constructor.encode(stream, scrape, &labels, range_too, options, &mut template);
        assert_eq!(got, counts);
        let (constructor, stream) = &mut self.zstd;
        let got = constructor.encode(stream, scrape, &labels, range, options, &mut template);
        assert_eq!(got, counts);
        counts
    }

    /// Ends the request; gives its length, plain and in both forms.
    fn finish(&mut self, context: &mut ZstdContext) -> [usize; 3] {
        let snappy = self.snappy.1.finish();
        let decoded = snap::raw::Decoder::new().decompress_vec(&snappy).unwrap();
        assert!(decoded == self.raw, "snappy");
        let zstd = self.zstd.1.finish(context);
        assert!(decompress(&zstd) == self.raw, "zstd");
        let lens = [self.raw.len(), snappy.len(), zstd.len()];
        self.raw.clear();
        self.snappy.0.start();
        self.zstd.0.start();
        lens
    }
}

/// The scrape as another target of the same shape has it.
fn of_another(plain: &Plain, value: &str, timestamp_ms: i64) -> Scrape {
    let old = &plain.scrape.target.labels;
    let labels: LabelMap = old
        .iter()
        .map(|(name, old)| (name.to_string(), format!("{old}{value}")))
        .collect();
    let mut scrape = plain.scrape.clone();
    scrape.target = target(2, &labels);
    scrape.timestamp_ms = timestamp_ms;
    for value in scrape.values.iter_mut().skip(1).step_by(3) {
        *value += 1.0;
    }
    scrape
}

/// The scrape as a target has it whose labels are of the same lengths, with some other letters.
fn of_a_replica(scrape: &Scrape, letters: u64, values: u64) -> Scrape {
    let mut scrape = scrape.clone();
    let mut changes = (0..64).cycle().map(|bit| letters >> bit & 1 == 1);
    let mut other = |text: &str| -> Box<str> {
        let letter = |(old, change)| if change { 'z' } else { old };
        text.chars()
            .zip(&mut changes)
            .map(letter)
            .collect::<String>()
            .into()
    };
    let labels = scrape.target.labels.iter();
    let labels = labels
        .map(|(name, value)| (other(name), other(value)))
        .collect();
    scrape.target = Arc::new(Target {
        id: 3,
        key: 3,
        labels,
    });
    for (value, bit) in scrape.values.iter_mut().zip((0..64).cycle()) {
        if values >> bit & 1 == 1 {
            *value = f64::from_bits(value.to_bits() ^ values.rotate_left(bit) & values);
        }
    }
    scrape
}

proptest! {
    #[test]
    fn batches_of_all_kinds(
        plains in prop::collection::vec((plain(), "[a-c]{0,8}", -9_i64..9), 1..5),
        letters: u64,
        values in prop_oneof![any::<u64>(), (0_u32..64).prop_map(|bit| 0xff_u64.rotate_left(bit))],
        kept: u64,
        exemplars: bool,
        slice in prop_oneof![Just(u32::MAX), 1_u32..6],
        bytes_max in prop_oneof![Just(0_usize), 1_usize..600],
        min in prop::option::of(-20_i64..20),
    ) {
        let mut batch = Batch::default();
        let mut context = ZstdContext::new();
        let options = Options { exemplars, bytes_max, timestamp_ms_min: min, ..Options::default() };
        let keep = |id: u64| kept >> (id % 64) & 1 == 1;
        for _ in 0..2 {
            for (plain, value, later_ms) in &plains {
                let like = [
                    plain.scrape.clone(),
                    of_another(plain, value, plain.scrape.timestamp_ms.wrapping_add(*later_ms)),
                    of_another(plain, value, plain.scrape.timestamp_ms),
                    of_a_replica(&plain.scrape, letters, values),
                    of_a_replica(&of_another(plain, value, *later_ms), !letters, values),
                    of_a_replica(&of_another(plain, value, -*later_ms), 0, 0),
                ];
                for scrape in &like {
                    let (mut at, total) = (0, positions(scrape));
                    while at < total {
                        let to = total.min(at.saturating_add(slice));
                        at = batch.add(scrape, at..to, options, keep).end;
                    }
                }
            }
            batch.finish(&mut context);
        }
    }

    /// A log's reader checks records, yet one that contradicts itself harms nothing.
    #[test]
    fn contradictions_are_counted_alike(
        mut plain in plain(),
        cut in 0_usize..4,
        beyond: bool,
        unlabelled: bool,
        kept: bool,
    ) {
        let mut values = plain.scrape.values.to_vec();
        values.truncate(values.len().saturating_sub(cut));
        plain.scrape.values = values;
        plain.scrape.sides = None;
        if beyond && let Some(run) = plain.scrape.stale.first_mut() {
            run.from += 100;
            run.to += 100;
        }
        if unlabelled {
            plain.scrape.target = target(1, &LabelMap::new());
        }
        let mut batch = Batch::default();
        for _ in 0..2 {
            let total = positions(&plain.scrape);
            batch.add(&plain.scrape, 0..total, Options::default(), |_| kept);
        }
        batch.finish(&mut ZstdContext::new());
    }

    /// Entries of any bytes, not only labels: edits are of bytes.
    #[test]
    fn blocks_of_any_bytes(
        entries in prop::collection::vec(prop::collection::vec(0_u8..3, 0..40), 1..8),
        labels in prop::collection::vec(label_map(0..5), 1..4),
    ) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let names: Vec<String> = Vec::new();
        for own in entries {
            bytes.extend(own);
            ends.push(BlockEntry { bytes_end: bytes.len() as u32, holes_end: 0 });
        }
        let odd = Arc::new(Block {
            id: 1,
            bytes: bytes.into(),
            entries: ends.into(),
            holes: Box::default(),
            families: Box::default(),
        });
        let fine = block(&names, &labels, &[]);
        let runs = [whole(&odd), whole(&fine)];
        let layout = layout(&runs);
        let scrape = Scrape {
            target: target(1, &LabelMap::new()),
            route: route("test"),
            timestamp_ms: 1_700_000_000_000,
            values: vec![1.5; layout.len as usize],
            layout,
            stale: Box::default(),
            sides: None,
        };
        let mut batch = Batch::default();
        batch.add(&scrape, 0..positions(&scrape), Options::default(), |_| true);
        batch.finish(&mut ZstdContext::new());
    }
}

/// Targets of one program with many series, in a request of 8 MiB.
#[test]
fn a_large_request_is_small_when_compressed() {
    let names = ["instance".to_owned(), "job".to_owned()];
    let series: Vec<LabelMap> = (0..1_000)
        .map(|n| {
            let path = format!(
                "/api/v1/{}",
                ["users", "orders", "a/much/longer/path"][n / 7 % 3]
            );
            let code = ["200", "404", "500"][n % 3];
            map(&[
                ("__name__", "http_requests_total"),
                ("code", code),
                ("path", &path),
                ("shard", &format!("{}", n / 21)),
            ])
        })
        .collect();
    let shared = block(&names, &series, &[]);
    let layout = layout(&[whole(&shared)]);
    let mut batch = Batch::default();
    let mut samples = 0;
    for number in 0.. {
        let instance = format!("host-{number:04}.example:9100");
        let scrape = Scrape {
            target: target(number, &map(&[("instance", &instance), ("job", "api")])),
            route: route("test"),
            timestamp_ms: 1_700_000_000_000 + number as i64,
            layout: layout.clone(),
            values: (0..1_000)
                .map(|n| (n * n % 9_999 + number) as f64)
                .collect(),
            stale: Box::default(),
            sides: None,
        };
        let range = 0..positions(&scrape);
        samples += batch
            .add(&scrape, range, Options::default(), |_| true)
            .samples;
        if batch.raw.len() > 8 << 20 {
            break;
        }
    }
    let [raw, snappy, zstd] = batch.finish(&mut ZstdContext::new());
    let each = |len: usize| len as f64 / f64::from(samples);
    assert!(each(raw) > 100.0);
    assert!(each(snappy) < 19.0, "{} bytes a sample", each(snappy));
    assert!(each(zstd) < 8.0, "{} bytes a sample", each(zstd));
}
