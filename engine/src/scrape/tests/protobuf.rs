//! Protobuf bodies: what becomes of each kind of metric, of native histograms, of faults.

use super::super::protobuf::tests::logged;
use super::families::*;
use super::*;
use ringscrape_wal::scrape::Sides;

pub(super) fn harness(rules: ScrapeRules) -> Harness {
    Harness {
        dialect: Dialect::Protobuf,
        ..Harness::new(rules)
    }
}

pub(super) fn with_native() -> ScrapeRules {
    ScrapeRules {
        scrape_native_histograms: true,
        ..ScrapeRules::default()
    }
}

impl Harness {
    fn sides(&self) -> Sides {
        let outcome = self.last.as_ref().expect("a scrape");
        outcome.sides.as_deref().cloned().unwrap_or_default()
    }
}

fn all(exposed: &[(&str, f64)]) -> Vec<(String, f64)> {
    let owned = exposed
        .iter()
        .map(|(name, value)| (name.to_string(), *value));
    owned.collect()
}

/// A histogram that is both classic and native.
pub(super) fn both() -> Message {
    native()
        .inner(3, bucket(1.0, 2).inner(3, exemplar("a", 0.5, None)))
        .inner(3, bucket(2.5, 5).inner(3, exemplar("b", 2.0, Some(90))))
}

#[test]
fn each_type_has_the_series_of_its_text_form() {
    let mut harness = harness(ScrapeRules::default());
    let summary = new()
        .number(1, 4)
        .double(2, 9.5)
        .inner(3, new().double(1, 0.5).double(2, 2.0))
        .inner(3, new().double(1, 1.0).double(2, 3.0));
    let classic = new()
        .number(1, 6)
        .double(2, 7.5)
        .inner(3, bucket(0.1, 1))
        .inner(3, bucket(1.0, 4));
    let closed = new()
        .number(1, 3)
        .inner(3, bucket(f64::INFINITY, 3))
        .inner(3, bucket(7.0, 3));
    let floats = new()
        .double(4, 2.5)
        .inner(3, new().double(4, 1.5).double(2, 1e21));
    let body = [
        family("c_total", COUNTER, &[metric(&[("a", "x\"\\\n")], 3, 1.5)]),
        family(
            "g",
            GAUGE,
            &[
                metric(&[], 2, f64::NEG_INFINITY),
                metric(&[("le", "1")], 2, 1.0),
            ],
        ),
        family("no metrics", 99, &[]),
        family("u", UNTYPED, &[metric(&[], 5, 3.0), new()]),
        family("s", SUMMARY, &[new().inner(4, summary)]),
        family(
            "h",
            HISTOGRAM,
            &[new().labels(&[("b", "1")]).inner(7, classic)],
        ),
        family("i", HISTOGRAM, &[new().inner(7, closed)]),
        family("j.k", GAUGE_HISTOGRAM, &[new().inner(7, floats)]),
    ];
    let record = harness.scrape_bytes(body.concat());
    let wanted = [
        ("c_total{a=x\"\\\n}", 1.5),
        ("g", f64::NEG_INFINITY),
        ("g{le=1}", 1.0),
        ("u", 3.0),
        ("u", 0.0),
        ("s_count", 4.0),
        ("s_sum", 9.5),
        ("s{quantile=0.5}", 2.0),
        ("s{quantile=1.0}", 3.0),
        ("h_count{b=1}", 6.0),
        ("h_sum{b=1}", 7.5),
        ("h_bucket{b=1,le=0.1}", 1.0),
        ("h_bucket{b=1,le=1.0}", 4.0),
        ("h_bucket{b=1,le=+Inf}", 6.0),
        ("i_count", 3.0),
        ("i_sum", 0.0),
        ("i_bucket{le=+Inf}", 3.0),
        ("j.k_count", 2.5),
        ("j.k_sum", 0.0),
        ("j.k_bucket{le=1e+21}", 1.5),
        ("j.k_bucket{le=+Inf}", 2.5),
    ];
    let wanted: Vec<_> = all(&wanted)
        .into_iter()
        .filter(|(n, v)| n != "u" || *v > 0.0)
        .collect();
    assert_eq!(exposed(&record), wanted);
    assert_eq!(record.error, None);
    assert_eq!(record.dropped, [1, 0, 0], "the series u is there twice");
    assert_eq!(automatic(&record), [1.0, 21.0, 21.0, 20.0]);

    let record = harness.scrape_bytes(body.concat());
    assert_eq!(exposed(&record), wanted);
    assert_eq!(automatic(&record)[3], 0.0);
    let stats = harness.stats();
    assert_eq!(
        (stats.matched, stats.parsed),
        (21, 0),
        "known by their lines"
    );
    let record = harness.scrape_bytes([&body[0][..], &body[3]].concat());
    assert_eq!(record.stale.len(), wanted.len() - 2);
}

#[test]
fn families_are_logged_with_their_metadata() {
    let mut harness = harness(ScrapeRules::default());
    let described = |name: &str, unit: &str| {
        let family = new()
            .bytes(1, name)
            .bytes(2, "A \"help\"\n\\")
            .number(3, COUNTER);
        delimited(family.inner(4, metric(&[], 3, 1.0)).bytes(5, unit))
    };
    let record = harness.scrape_bytes(described("c_seconds_total", "seconds"));
    assert_eq!(record.error, None);
    let outcome = harness.last.as_ref().unwrap();
    let families = &outcome.layout.runs[0].block.families;
    assert_eq!(families.len(), 1);
    assert_eq!(&*families[0].name, "c_seconds_total");
    assert_eq!(&*families[0].help, "A \"help\"\n\\");
    assert_eq!(&*families[0].unit, "seconds");
    let record = harness.scrape_bytes(described("c_total", "seconds"));
    assert_eq!(record.error, Some("parse"));
}

#[test]
fn native_buckets_are_read_if_they_are_wanted() {
    let body = family("h", HISTOGRAM, &[new().inner(7, both())]);
    let classic = [
        ("h_count", 6.0),
        ("h_sum", 7.5),
        ("h_bucket{le=1.0}", 2.0),
        ("h_bucket{le=2.5}", 5.0),
        ("h_bucket{le=+Inf}", 6.0),
    ];
    let mut off = harness(ScrapeRules::default());
    assert_eq!(exposed(&off.scrape_bytes(&body)), all(&classic));
    assert!(off.sides().histograms.is_empty());

    let mut on = harness(with_native());
    let record = on.scrape_bytes(&body);
    assert_eq!(exposed(&record), all(&[("h", 0.0)]));
    assert_eq!(automatic(&record), [1.0, 1.0, 1.0, 1.0]);
    let sides = on.sides();
    assert_eq!(sides.histograms.len(), 1);
    let found = logged(&sides.histograms[0].bytes);
    assert_eq!(
        (found.whole, found.sum, found.schema),
        (Some((6, 1)), 7.5, 3)
    );
    assert_eq!(found.positive, [(1, 2.0), (2, 3.0)].into());
    // Only the exemplar that has a timestamp.
    assert_eq!(record.exemplars.len(), 1);
    assert_eq!(record.exemplars[0].1, [("id".to_owned(), "b".to_owned())]);
    assert_eq!(record.exemplars[0].3, 90_005);
    assert!(on.scrape_bytes(&body).exemplars.is_empty(), "it is not new");

    let mut always = harness(ScrapeRules {
        always_scrape_classic_histograms: true,
        ..with_native()
    });
    let record = always.scrape_bytes(&body);
    let wanted: Vec<_> = [("h", 0.0)].iter().chain(&classic).copied().collect();
    assert_eq!(exposed(&record), all(&wanted));
    assert_eq!(always.sides().histograms[0].index, 0);
    assert_eq!(record.exemplars.len(), 3);
    // Nothing native: the series vanishes, with a marker as any other.
    let classic_only = new().number(1, 6).inner(3, bucket(1.0, 2));
    let record = on.scrape_bytes(family("h", HISTOGRAM, &[new().inner(7, classic_only)]));
    assert_eq!(stale(&record), ["h"]);
}

#[test]
fn exemplars_of_native_histograms_are_their_own_and_in_order_of_time() {
    let mut harness = harness(with_native());
    let histogram = both()
        .inner(16, exemplar("x", 3.0, Some(70)))
        .inner(16, exemplar("none", 1.0, None))
        .inner(16, exemplar("y", 2.0, Some(60)));
    harness.scrape_bytes(family("h", GAUGE_HISTOGRAM, &[new().inner(7, histogram)]));
    let sides = harness.sides();
    let found: Vec<_> = sides
        .exemplars
        .iter()
        .map(|one| (&*one.labels[0].1, one.timestamp_ms))
        .collect();
    assert_eq!(found, [("y", 60_005), ("x", 70_005)]);
    assert_eq!(logged(&sides.histograms[0].bytes).hint, 3);

    let counter = new().inner(3, new().double(1, 1.0).inner(2, exemplar("c", 1.0, None)));
    let record = harness.scrape_bytes(family("c_total", COUNTER, &[counter]));
    assert_eq!(record.exemplars[0].3, harness.now_ms, "the sample's time");
}

#[test]
fn timestamps_are_kept_if_they_are_honored() {
    let body = |ms: i64| {
        let own = |field, value: Message| new().number(6, ms as u64).inner(field, value);
        let gauge = family("g", GAUGE, &[own(2, new().double(1, 1.0))]);
        [gauge, family("h", HISTOGRAM, &[own(7, native())])].concat()
    };
    let mut honored = harness(with_native());
    let first_ms = honored.now_ms;
    honored.scrape_bytes(body(first_ms));
    let times: Vec<_> = honored
        .sides()
        .timestamps
        .iter()
        .map(|side| side.timestamp_ms)
        .collect();
    assert_eq!(times, [first_ms, first_ms]);
    let record = honored.scrape_bytes(body(first_ms));
    assert_eq!(record.dropped, [0, 2, 0]);
    let mut not = harness(ScrapeRules {
        honor_timestamps: false,
        ..with_native()
    });
    not.scrape_bytes(body(first_ms));
    assert!(not.sides().timestamps.is_empty());
    assert_eq!(not.sides().histograms.len(), 1);
}

#[test]
fn limits_make_histograms_coarser_or_fail_the_scrape() {
    let wide = native()
        .inner(12, new().signed(1, 1 << 20).number(2, 1))
        .signed(13, -2)
        .number(1, 7);
    let body = |histogram: &Message| {
        let other = family("a", GAUGE, &[metric(&[], 2, 1.0)]);
        [
            other,
            family("h", HISTOGRAM, &[new().inner(7, histogram.clone())]),
        ]
        .concat()
    };
    let rules = |limit, schema| ScrapeRules {
        native_histogram_bucket_limit: limit,
        native_histogram_schema_max: schema,
        ..with_native()
    };
    let schema = |rules, histogram: &Message| {
        let mut harness = harness(rules);
        let record = harness.scrape_bytes(body(histogram));
        assert_eq!(record.error, None);
        logged(&harness.sides().histograms[0].bytes).schema
    };
    assert_eq!(schema(rules(0, 8), &wide), 3);
    assert_eq!(schema(rules(0, 1), &wide), 1);
    assert_eq!(schema(rules(2, 8), &wide), 2);
    assert_eq!(schema(rules(2, 0), &wide), 0);
    let mut harness = harness(rules(1, 8));
    assert_eq!(harness.scrape_bytes(body(&native())).error, None);
    let record = harness.scrape_bytes(body(&wide));
    assert_eq!(record.error, Some("histogram"));
    assert_eq!(automatic(&record), [0.0, 2.0, 2.0, 0.0]);
    let error = harness.last.as_ref().unwrap().error.clone();
    assert_eq!(error, Some(ScrapeError::BucketLimit { limit: 1 }));
    // Where a rule drops it, it does not matter; nor if it is dropped while it is not valid.
    let drop = relabel(&[(Action::Drop, &["__name__"], "h", "", "")]);
    let mut dropping = Harness {
        dialect: Dialect::Protobuf,
        ..Harness::new(ScrapeRules {
            metric_relabel_configs: drop,
            ..rules(1, 8)
        })
    };
    for histogram in [wide, native().number(1, 100)] {
        let record = dropping.scrape_bytes(body(&histogram));
        assert_eq!((record.error, exposed(&record)), (None, all(&[("a", 1.0)])));
        assert!(dropping.sides().histograms.is_empty());
    }
}

#[test]
fn a_histogram_that_contradicts_itself_fails_the_scrape() {
    let mut harness = harness(with_native());
    let body = |count| {
        let histogram = |labels: &[(&str, &str)], message| new().labels(labels).inner(7, message);
        let good = histogram(&[("a", "1")], native());
        let other = histogram(&[("a", "2")], native().number(1, count));
        family(
            "h",
            HISTOGRAM,
            &[good.clone(), other, good.labels(&[("b", "")])],
        )
    };
    assert_eq!(exposed(&harness.scrape_bytes(body(6))).len(), 2);
    let record = harness.scrape_bytes(body(7));
    assert_eq!(record.error, Some("histogram"));
    assert_eq!(automatic(&record), [0.0, 2.0, 1.0, 0.0]);
    assert!(harness.sides().histograms.is_empty());
    assert_eq!(exposed(&harness.scrape_bytes(body(6))).len(), 2);
}

#[test]
fn a_body_cut_anywhere_fails_or_is_empty() {
    let body = [
        family("g", GAUGE, &[metric(&[("a", "b")], 2, 1.0)]),
        family(
            "h",
            HISTOGRAM,
            &[new().inner(7, both().inner(16, exemplar("x", 1.0, Some(3))))],
        ),
    ];
    let whole = body.concat();
    for cut in 0..=whole.len() {
        let mut harness = harness(with_native());
        let record = harness.scrape_bytes(&whole[..cut]);
        let ends = [0, body[0].len(), whole.len()];
        assert_eq!(record.error.is_none(), ends.contains(&cut), "{cut}");
    }
}

#[test]
fn names_and_texts_that_are_not_valid_fail_the_scrape() {
    let gauge = || metric(&[], 2, 1.0);
    let not_utf8 = new().bytes(1, "g").bytes(2, [0xff]).number(3, GAUGE);
    for body in [
        family("", GAUGE, &[gauge()]),
        family("a\0", GAUGE, &[gauge()]),
        family("g", 6, &[gauge()]),
        family("g", GAUGE, &[metric(&[("", "x")], 2, 1.0)]),
        family("g", GAUGE, &[metric(&[("a\0", "x")], 2, 1.0)]),
        family(
            "g",
            GAUGE,
            &[new().inner(1, new().bytes(1, "a").bytes(2, [0xff]))],
        ),
        family(
            "g",
            GAUGE,
            &[new().inner(1, new().bytes(1, [0xff]).bytes(2, "a"))],
        ),
        delimited(not_utf8.inner(4, gauge())),
        delimited(new().bytes(1, "g").number(4, 1)),
        vec![0xff; 6],
        vec![0xff, 0xff, 0xff, 0xff, 0x0f],
    ] {
        let record = harness(with_native()).scrape_bytes(&body);
        assert_eq!(record.error, Some("parse"), "{body:x?}");
    }
    let twice = family("g", GAUGE, &[metric(&[("a", "1"), ("a", "2")], 2, 1.0)]);
    assert_eq!(
        harness(with_native()).scrape_bytes(twice).error,
        Some("series")
    );
}

/// A line that is shorter than the one that stood in its place waits for those behind it.
#[test]
fn values_stay_with_their_series_where_texts_are_known_by_hash_only() {
    let body = |paths: &[(&str, f64)]| {
        let metrics: Vec<Message> = paths
            .iter()
            .map(|(path, value)| metric(&[("path", path)], 2, *value))
            .collect();
        [
            family("f", GAUGE, &metrics),
            family("g", GAUGE, &[metric(&[], 2, 9.0)]),
        ]
        .concat()
    };
    let mut harness = harness(ScrapeRules::default());
    let long = "/a-path-that-is-longer-than-the-whole-line-of-the-others";
    let before = body(&[("/x", 1.0), (long, 2.0), ("/a", 3.0)]);
    let after = body(&[("/x", 4.0), ("/a", 5.0)]);
    for _ in 0..3 {
        harness.scrape_bytes(&before);
        harness.tables.give_all_texts_up();
        harness.tables.sweep();
    }
    let report = harness.report(&after);
    let mut walk = Walk::begin(&mut harness.tables, &harness.state, Dialect::Protobuf);
    // Each family is handed on by itself.
    let first = after.len() - family("g", GAUGE, &[metric(&[], 2, 9.0)]).len();
    assert_eq!(walk.feed(&after[..first], false), Ok(first));
    assert_eq!(walk.feed(&after[first..], true), Ok(after.len() - first));
    let outcome = walk.finish(&mut harness.tables, &mut harness.state, &report);
    assert_eq!(outcome.stats.samples_scraped, 3);
    let record = harness.record(outcome);
    let wanted = all(&[("f{path=/x}", 4.0), ("f{path=/a}", 5.0), ("g", 9.0)]);
    assert_eq!(exposed(&record), wanted);
}

/// What a small message says once must not be repeated without end.
#[test]
fn lines_that_come_to_much_more_than_was_received_fail_the_scrape() {
    let name = "n".repeat(100_000);
    let metrics: Vec<Message> = (0..10_000).map(|_| new()).collect();
    let mut harness = harness(ScrapeRules::default());
    harness.scrape_bytes(family(&name, GAUGE, &metrics));
    let outcome = harness.last.as_ref().expect("a scrape");
    let error = outcome.error.as_ref().expect("a failure").to_string();
    assert!(error.contains("times what was received"), "{error}");
}

#[test]
fn nan_of_a_target_is_no_marker() {
    let mut harness = harness(ScrapeRules::default());
    let stale_nan = f64::from_bits(ringscrape_wal::scrape::STALE_NAN_BITS);
    let record = harness.scrape_bytes(family("g", GAUGE, &[metric(&[], 2, stale_nan)]));
    assert_eq!(record.samples[0].1, 0x7ff8_0000_0000_0001);
}
