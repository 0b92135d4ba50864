//! Cases of Prometheus' own scrape/scrape_test.go, under their names.

use super::*;
use ringscrape_wal::scrape::Scrape;

#[test]
fn test_scrape_loop_run_creates_stale_markers_on_failed_scrape() {
    let mut h = Harness::new(ScrapeRules::default());
    let first = h.scrape("metric_a 42\n");
    assert_eq!(exposed(&first), [("metric_a".into(), 42.0)]);
    assert_eq!(automatic(&first), [1.0, 1.0, 1.0, 1.0]);
    let failed = h.fail();
    assert_eq!(stale(&failed), ["metric_a"]);
    assert_eq!(automatic(&failed), [0.0; 4]);
    assert_eq!(failed.samples.len(), 5);
    assert!(stale(&h.fail()).is_empty(), "only once");
    // The text stayed known over the failures.
    assert_eq!(automatic(&h.scrape("metric_a 43\n")), [1.0, 1.0, 1.0, 0.0]);
}

#[test]
fn test_scrape_loop_run_creates_stale_markers_on_parse_failure() {
    let mut h = Harness::new(ScrapeRules::default());
    h.scrape("metric_a 42\n");
    let failed = h.scrape("7&-\n");
    assert_eq!(stale(&failed), ["metric_a"]);
    assert_eq!(failed.error, Some("parse"));
    assert_eq!(automatic(&failed), [0.0; 4]);
}

#[test]
fn what_stood_before_a_parse_error_counts_as_seen() {
    let mut h = Harness::new(ScrapeRules::default());
    h.scrape("a 1\nb 1\nc 1\n");
    let failed = h.scrape("a 2\nnew 1\nb{ 1\n");
    assert_eq!(stale(&failed), ["b", "c"]);
    assert_eq!(automatic(&failed), [0.0, 2.0, 2.0, 1.0]);
    // What was seen then, and only then, gets its marker now.
    assert_eq!(stale(&h.scrape("b 3\n")), ["a", "new"]);
}

#[test]
fn test_scrape_loop_run_creates_stale_markers_on_sample_limit() {
    let mut h = Harness::new(ScrapeRules {
        sample_limit: 4,
        ..ScrapeRules::default()
    });
    let first = h.scrape("a 1\nb 1\nc 1\nd 1\n");
    assert_eq!(automatic(&first), [1.0, 4.0, 4.0, 4.0]);
    let over = h.scrape("a 1\nb 1\nc 1\nd 1\ne 1\n");
    assert_eq!(over.samples.len(), 5, "the automatic series only");
    assert_eq!(stale(&over), <[&str; 0]>::default());
    assert_eq!(automatic(&over), [0.0, 5.0, 5.0, 0.0]);
    assert_eq!(over.error, Some("sample limit"));
    // What was over the limit was never written and gets no marker.
    assert_eq!(stale(&h.fail()), ["a", "b", "c", "d"]);
}

#[test]
fn test_scrape_loop_run_creates_stale_markers_on_sample_limit_with_disappearing_series() {
    let mut h = Harness::new(ScrapeRules {
        sample_limit: 3,
        ..ScrapeRules::default()
    });
    h.scrape("a 1\nb 1\nc 1\n");
    // `x` is first seen in a scrape that is rolled back; `c` is beyond the limit now.
    let over = h.scrape("x 1\na 1\nb 1\nc 1\n");
    assert_eq!(stale(&over), ["c"]);
    assert_eq!(automatic(&over), [0.0, 4.0, 4.0, 1.0]);
    assert_eq!(stale(&h.scrape("a 1\nb 1\n")), ["x"]);
}

#[test]
fn test_scrape_loop_append_sample_limit_counts_after_relabelling() {
    let mut h = Harness::new(ScrapeRules {
        sample_limit: 1,
        metric_relabel_configs: relabel(&[(Action::Drop, &["n"], "1|3", "", "$1")]),
        ..ScrapeRules::default()
    });
    let over = h.scrape("m{n=\"1\"} 1\nm{n=\"2\"} 1\nm{n=\"3\"} 1\nm{n=\"4\"} 1\nm{n=\"2\"} 1\n");
    assert_eq!(over.error, Some("sample limit"));
    assert_eq!(
        automatic(&over),
        [0.0, 5.0, 3.0, 1.0],
        "true totals, added up to the limit"
    );
    let within = h.scrape("m{n=\"1\"} 1\nm{n=\"2\"} 1\nm{n=\"3\"} 1\nm{n=\"2\"} 1\n");
    assert_eq!(within.error, None, "a repeated line does not count");
    assert_eq!(exposed(&within), [("m{n=2}".into(), 1.0)]);
    assert_eq!(
        automatic(&within),
        [1.0, 4.0, 2.0, 0.0],
        "known from the failed scrape"
    );
    assert_eq!(h.stats().duplicates, 1);
}

#[test]
fn test_scrape_loop_append_no_staleness_if_timestamp() {
    let mut h = Harness::new(ScrapeRules::default());
    let at = h.now_ms + STEP_MS;
    h.scrape(&format!("metric_a 42 {at}\n"));
    assert!(stale(&h.scrape("")).is_empty());
    assert!(stale(&h.fail()).is_empty());
}

#[test]
fn test_scrape_loop_append_staleness_if_track_timestamp_staleness() {
    let mut h = Harness::new(ScrapeRules {
        track_timestamps_staleness: true,
        ..ScrapeRules::default()
    });
    let at = h.now_ms + STEP_MS;
    h.scrape(&format!("metric_a 42 {at}\n"));
    assert_eq!(stale(&h.scrape("")), ["metric_a"]);
}

#[test]
fn test_scrape_loop_discard_timestamp() {
    let mut h = Harness::new(ScrapeRules {
        honor_timestamps: false,
        ..ScrapeRules::default()
    });
    let record = h.scrape("metric_a 1 0\n");
    assert_eq!(record.samples[0].2, h.now_ms);
    assert_eq!(stale(&h.scrape("b 1\n")), ["metric_a"]);
}

#[test]
fn test_scrape_loop_run_creates_stale_markers_on_ooo_append() {
    let mut h = Harness::new(ScrapeRules {
        track_timestamps_staleness: true,
        ..ScrapeRules::default()
    });
    let at = h.now_ms + STEP_MS;
    h.scrape(&format!("a 1 {at}\nb 1\n"));
    let record = h.scrape(&format!("a 2 {at}\nb 2\n"));
    assert_eq!(automatic(&record), [1.0, 2.0, 2.0, 0.0], "up stays 1");
    assert_eq!(exposed(&record), [("b".into(), 2.0)]);
    assert_eq!(stale(&record), ["a"]);
    assert_eq!(h.stats().out_of_order, 1);
}

#[test]
fn test_scrape_loop_out_of_bounds_time_error() {
    let mut h = Harness::new(ScrapeRules::default());
    let at = h.now_ms + STEP_MS + 600_001;
    let record = h.scrape(&format!("future 1 {at}\nlimit 1 {}\nnormal 1\n", at - 1));
    assert_eq!(
        names(record.samples[..2].iter().map(|s| &s.0)),
        ["limit", "normal"]
    );
    assert_eq!(automatic(&record), [1.0, 3.0, 3.0, 2.0]);
    assert_eq!(h.stats().out_of_bounds, 1);
}

#[test]
fn test_scrape_loop_series_added_duplicates() {
    let mut h = Harness::new(ScrapeRules::default());
    let record = h.scrape("m 1\nm 2\nm 3\n");
    assert_eq!(exposed(&record), [("m".into(), 1.0)]);
    assert_eq!(automatic(&record), [1.0, 3.0, 3.0, 1.0]);
    assert_eq!(h.stats().duplicates, 2);
    assert_eq!(
        automatic(&h.scrape("m 1\nm 2\nm 3\n")),
        [1.0, 3.0, 3.0, 0.0]
    );
    // With distinct timestamps of their own all are taken.
    let mut h = Harness::new(ScrapeRules::default());
    let at = h.now_ms + STEP_MS;
    let record = h.scrape(&format!("m 1 {}\nm 1 {}\nm 1 {at}\n", at - 2, at - 1));
    let times: Vec<_> = record.samples[..3].iter().map(|sample| sample.2).collect();
    assert_eq!(times, [at - 2, at - 1, at]);
    assert_eq!(automatic(&record), [1.0, 3.0, 3.0, 1.0]);
}

#[test]
fn test_scrape_loop_series_added_counts_what_was_not_there() {
    let mut h = Harness::new(ScrapeRules::default());
    assert_eq!(automatic(&h.scrape("a 1\nb 1\n"))[3], 2.0);
    assert_eq!(automatic(&h.scrape("a 1\nb 1\n"))[3], 0.0);
    assert_eq!(automatic(&h.scrape("a 1\nc 1\n"))[3], 1.0);
    assert_eq!(
        automatic(&h.scrape("# HELP a now with help\na 1\nc 1\n"))[3],
        0.0
    );
    assert_eq!(
        automatic(&h.scrape("a 1\nb 1\nc 1\n"))[3],
        1.0,
        "b was forgotten"
    );
}

#[test]
fn test_scrape_loop_run_reports_empty_body_as_success() {
    for dialect in [Dialect::Text, Dialect::OpenMetrics] {
        let mut h = Harness::new(ScrapeRules::default());
        h.dialect = dialect;
        let end = if dialect == Dialect::Text {
            ""
        } else {
            "# EOF\n"
        };
        h.scrape(&format!("a 1\n{end}"));
        let empty = h.scrape("");
        assert_eq!(automatic(&empty), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(stale(&empty), ["a"]);
        assert_eq!(automatic(&h.scrape(&format!("a 1\n{end}")))[3], 0.0);
    }
}

#[test]
fn openmetrics_without_eof_fails() {
    let mut h = Harness::new(ScrapeRules::default());
    h.dialect = Dialect::OpenMetrics;
    h.scrape("a 1\nb 1\n# EOF\n");
    let record = h.scrape("a 1\nb 1\n");
    assert_eq!(record.error, Some("parse"));
    assert_eq!(stale(&record), <[&str; 0]>::default(), "all were seen");
}

#[test]
fn test_label_limits() {
    let exceeded = |rules: ScrapeRules, body: &str| {
        let mut h = Harness::new(rules);
        let record = h.scrape(body);
        assert_eq!(
            automatic(&record)[0],
            f64::from(u8::from(record.error.is_none()))
        );
        record.error == Some("label limit")
    };
    let limit = |limit| ScrapeRules {
        label_limit: limit,
        ..ScrapeRules::default()
    };
    // __name__, instance and job count.
    assert!(!exceeded(limit(4), "m{a=\"1\"} 1\n"));
    assert!(exceeded(limit(4), "m{a=\"1\",b=\"2\"} 1\n"));
    let names = |limit| ScrapeRules {
        label_name_length_limit: limit,
        ..ScrapeRules::default()
    };
    assert!(!exceeded(names(8), "m{name=\"value\"} 1\n"));
    assert!(exceeded(names(8), "m{longer_one=\"value\"} 1\n"));
    assert!(exceeded(names(7), "m 1\n"), "instance has 8 bytes");
    let values = |limit| ScrapeRules {
        label_value_length_limit: limit,
        ..ScrapeRules::default()
    };
    assert!(
        !exceeded(values(2), "m{n=\"é\"} 1\n"),
        "bytes, not characters"
    );
    assert!(exceeded(values(2), "m{n=\"é.\"} 1\n"));
    let target = target(9, &[("instance", "long one"), ("job", "j")]);
    let mut h = Harness::new(ScrapeRules::default());
    h.state = TargetState::new(target, Arc::new(values(5)));
    assert_eq!(
        h.scrape("m 1\n").error,
        Some("label limit"),
        "the target's own value"
    );
}

#[test]
fn a_label_limit_stops_the_scrape_where_it_is_exceeded() {
    let mut h = Harness::new(ScrapeRules {
        label_limit: 4,
        ..ScrapeRules::default()
    });
    h.scrape("a 1\nb 1\nc 1\n");
    let record = h.scrape("a 1\nbad{x=\"1\",y=\"1\"} 1\nb 1\nc 1\nnot a line\n");
    assert_eq!(
        record.error,
        Some("label limit"),
        "it comes before the bad line"
    );
    assert_eq!(automatic(&record), [0.0, 2.0, 1.0, 0.0]);
    assert_eq!(stale(&record), ["b", "c"]);
}

#[test]
fn test_scrape_loop_append_honor_labels() {
    let with = |honor_labels, instance: &str, body: &str| {
        let mut h = Harness::new(ScrapeRules {
            honor_labels,
            ..ScrapeRules::default()
        });
        let target = target(2, &[("instance", instance), ("job", "j"), ("n", "2")]);
        h.state = TargetState::new(target, h.state.rules.clone());
        let record = h.scrape(body);
        record.samples[0].0.clone()
    };
    // The target's label wins, the exposed one is renamed.
    assert_eq!(
        with(false, "i", "m{n=\"1\"} 1\n"),
        labels(&[
            ("__name__", "m"),
            ("exported_n", "1"),
            ("instance", "i"),
            ("job", "j"),
            ("n", "2")
        ])
    );
    assert_eq!(
        with(false, "i", "m{n=\"1\",exported_n=\"x\"} 1\n").get("exported_exported_n"),
        "1"
    );
    // The exposed label wins.
    assert_eq!(with(true, "i", "m{n=\"1\"} 1\n").get("n"), "1");
    // An exposed empty one hides the target's.
    assert_eq!(
        with(true, "i", "m{n=\"1\",instance=\"\"} 1\n").get("instance"),
        ""
    );
    assert_eq!(
        with(false, "i", "m{n=\"1\",instance=\"\"} 1\n").get("instance"),
        "i"
    );
}

#[test]
fn test_scrape_loop_append_forced_extra_metrics() {
    let mut h = Harness::new(ScrapeRules {
        extra_scrape_metrics: true,
        sample_limit: 7,
        ..ScrapeRules::default()
    });
    let last = |record: &Record| {
        let from = record.samples.len() - 3;
        let samples = record.samples[from..].iter();
        samples
            .map(|s| (s.0.get("__name__").to_owned(), f64::from_bits(s.1)))
            .collect::<Vec<_>>()
    };
    let record = h.scrape("a 1\n");
    let want = |bytes| {
        vec![
            ("scrape_timeout_seconds".to_owned(), 10.0),
            ("scrape_sample_limit".to_owned(), 7.0),
            ("scrape_body_size_bytes".to_owned(), bytes),
        ]
    };
    assert_eq!(last(&record), want(4.0));
    assert_eq!(last(&h.fail()), want(0.0));
    let report = h.report(b"");
    let failure = Failure::BodySizeLimit { limit_bytes: 1 };
    let outcome = fail(&mut h.tables, &mut h.state, failure, &report);
    let record = h.record(outcome);
    assert_eq!(last(&record), want(-1.0));
}

#[test]
fn test_scrape_loop_end_of_run_staleness() {
    let mut h = Harness::new(ScrapeRules::default());
    assert!(
        end_of_run(&mut h.tables, &mut h.state, 5).is_none(),
        "never scraped"
    );
    h.scrape("a 1\nb 1 5\n");
    let outcome = end_of_run(&mut h.tables, &mut h.state, h.now_ms + 1).unwrap();
    assert_eq!(outcome.layout.len, 0);
    assert_eq!(outcome.stats.stale_markers, 6);
    let record = h.record(outcome);
    assert_eq!(
        stale(&record),
        [
            "a",
            "scrape_duration_seconds",
            "scrape_samples_post_metric_relabeling",
            "scrape_samples_scraped",
            "scrape_series_added",
            "up"
        ]
    );
}

#[test]
fn a_restart_ends_what_vanished_meanwhile() {
    let mut h = Harness::new(ScrapeRules::default());
    h.scrape(&format!("a 1\nb 1\nc 1\nd 1 {}\n", h.now_ms));
    let outcome = h.last.take().unwrap();
    let scrape = Scrape {
        target: h.state.target().clone(),
        route: Arc::new(ringscrape_wal::definition::Route {
            id: 1,
            endpoints: Box::default(),
        }),
        timestamp_ms: outcome.timestamp_ms,
        layout: outcome.layout,
        values: outcome.values,
        stale: outcome.stale,
        sides: outcome.sides,
    };
    let mut after = Harness::new(ScrapeRules::default());
    after.now_ms = h.now_ms;
    assert!(after.state.restore(&scrape));
    let record = after.scrape("# TYPE b gauge\nb 2\n");
    assert_eq!(stale(&record), ["a", "c"]);
    assert!(stale(&after.scrape("b 2\n")).is_empty());
    assert!(!after.state.restore(&scrape), "too late");
    let mut failing = Harness::new(ScrapeRules::default());
    assert!(failing.state.restore(&scrape));
    assert_eq!(stale(&failing.fail()), ["a", "b", "c"]);
    let mut gone = Harness::new(ScrapeRules::default());
    assert!(gone.state.restore(&scrape));
    let outcome = end_of_run(&mut gone.tables, &mut gone.state, h.now_ms + 1).unwrap();
    assert_eq!(outcome.stats.stale_markers, 8);
}
