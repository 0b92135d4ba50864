//! What a record says, beyond Prometheus' own cases.

use super::*;

#[test]
fn changed_help_moved_lines_and_new_rules_end_no_series() {
    let mut h = Harness::new(ScrapeRules::default());
    h.scrape("# HELP a one\na 1\nb{x=\"1\",y=\"2\"} 1\nc 1\n");
    for body in [
        "# HELP a two\na 1\nb{x=\"1\",y=\"2\"} 1\nc 1\n",
        "c 1\na 1\nb{y=\"2\",x=\"1\"} 1\n",
        "c 1\n\n\na 1\r\nb{y=\"2\",x=\"1\"}   1\n",
    ] {
        let body = body.replace("\r\n", "\n");
        assert_eq!(stale(&h.scrape(&body)), <[&str; 0]>::default(), "{body}");
    }
    h.state.set_rules(Arc::new(ScrapeRules {
        metric_relabel_configs: relabel(&[(Action::Drop, &["__name__"], "c", "", "$1")]),
        ..ScrapeRules::default()
    }));
    let record = h.scrape("c 1\na 1\nb{y=\"2\",x=\"1\"} 1\n");
    assert_eq!(stale(&record), ["c"]);
    assert_eq!(
        automatic(&record),
        [1.0, 3.0, 2.0, 2.0],
        "a new cache counts all as added"
    );
}

#[test]
fn the_type_in_force_decides_on_bounds() {
    let mut h = Harness::new(ScrapeRules::default());
    let typed = h.scrape("# TYPE a histogram\nx 1\na_bucket{le=\"1\"} 1\na_bucket{le=\"2\"} 1\n");
    assert_eq!(exposed(&typed)[1].0, "a_bucket{le=1.0}");
    let untyped = h.scrape("x 1\na_bucket{le=\"1\"} 1\na_bucket{le=\"2\"} 1\n");
    assert_eq!(exposed(&untyped)[1].0, "a_bucket{le=1}");
    assert_eq!(stale(&untyped), ["a_bucket{le=1.0}", "a_bucket{le=2.0}"]);
    assert!(stale(&h.scrape("x 1\na_bucket{le=\"1\"} 1\na_bucket{le=\"2\"} 1\n")).is_empty());
}

#[test]
fn series_that_collide_after_relabelling_are_counted() {
    let mut h = Harness::new(ScrapeRules {
        metric_relabel_configs: relabel(&[(Action::LabelDrop, &[], "n", "", "$1")]),
        ..ScrapeRules::default()
    });
    let record = h.scrape("m{n=\"1\"} 1\nm{n=\"2\"} 2\n");
    assert_eq!(exposed(&record), [("m".into(), 1.0)]);
    assert_eq!(automatic(&record), [1.0, 2.0, 2.0, 2.0]);
    assert_eq!(h.stats().duplicates, 1);
    // The second becomes the first: no marker.
    let record = h.scrape("m{n=\"2\"} 2\n");
    assert_eq!(exposed(&record), [("m".into(), 2.0)]);
    assert!(stale(&record).is_empty());
}

#[test]
fn an_exposed_automatic_series_is_not_written_twice() {
    let mut h = Harness::new(ScrapeRules::default());
    let record = h.scrape("a 1\nup 7\n");
    assert!(is_unique(&record));
    let ups: Vec<_> = record
        .samples
        .iter()
        .filter(|sample| sample.0.get("__name__") == "up")
        .collect();
    assert_eq!(ups.len(), 1);
    assert_eq!(f64::from_bits(ups[0].1), 7.0);
    let record = h.scrape("a 1\n");
    assert!(stale(&record).is_empty(), "up goes on");
    h.scrape("a 1\nup 7\n");
    assert_eq!(stale(&h.fail()), ["a"]);
}

#[test]
fn an_exemplar_is_sent_once() {
    let mut h = Harness::new(ScrapeRules::default());
    h.dialect = Dialect::OpenMetrics;
    let count = |h: &mut Harness, body: &str| h.scrape(&format!("{body}\n# EOF\n")).exemplars.len();
    assert_eq!(count(&mut h, "a_total 1 # {t=\"1\"} 1"), 1);
    assert_eq!(count(&mut h, "a_total 2 # {t=\"1\"} 1"), 0);
    assert_eq!(count(&mut h, "# HELP a help\na_total 2 # {t=\"1\"} 1"), 0);
    assert_eq!(count(&mut h, "# HELP a help\na_total 2 # {t=\"2\"} 1"), 1);
    assert_eq!(count(&mut h, "# HELP a help\na_total 2"), 0);
    assert_eq!(
        count(&mut h, "a_total 2 # {t=\"2\"} 1"),
        0,
        "the last one is remembered"
    );
    let long = format!("a_total 2 # {{t=\"{}\"}} 1", "x".repeat(128));
    assert_eq!(count(&mut h, &long), 0);
    assert_eq!(h.stats().exemplars_dropped, 1);
}

#[test]
fn exemplars_take_the_time_of_their_sample() {
    let mut h = Harness::new(ScrapeRules::default());
    h.dialect = Dialect::OpenMetrics;
    let at = h.now_ms / 1000 + 1;
    let body =
        format!("a_total 1 # {{}} 1\nb_total 1 {at} # {{}} 1\nc_total 1 # {{}} 1 7.5\n# EOF\n");
    let record = h.scrape(&body);
    let times: Vec<_> = record.exemplars.iter().map(|exemplar| exemplar.3).collect();
    assert_eq!(times, [h.now_ms, at * 1000, 7500]);
}

#[test]
fn errors_name_line_and_column() {
    let mut h = Harness::new(ScrapeRules::default());
    h.scrape("# HELP a x\na 1\n\n\nb 1\nc 1\n");
    h.scrape("# HELP a x\na 1\n\n\nb 1\nc{x=y} 1\n");
    let error = h.last.as_ref().unwrap().error.clone();
    let Some(ScrapeError::Parse { line, column, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!((line, column), (6, 5));
    h.scrape("\n\nbad\n");
    let error = h.last.as_ref().unwrap().error.clone().unwrap();
    assert!(error.to_string().starts_with("line 3, column "), "{error}");
}

#[test]
fn a_walk_that_is_not_fed_to_its_end_fails() {
    let mut h = Harness::new(ScrapeRules::default());
    h.scrape("a 1\nb 1\n");
    let report = h.report(b"");
    let mut walk = Walk::begin(&mut h.tables, &h.state, h.dialect);
    assert_eq!(walk.feed(b"a 1\nb", false).unwrap(), 4);
    let outcome = walk.finish(&mut h.tables, &mut h.state, &report);
    assert_eq!(outcome.error, Some(ScrapeError::Incomplete));
    let record = h.record(outcome);
    assert_eq!(stale(&record), ["b"]);
}

#[test]
fn what_no_target_uses_is_swept() {
    let mut h = Harness::new(ScrapeRules::default());
    let body: String = (0..3000).map(|n| format!("m{{n=\"{n}\"}} {n}\n")).collect();
    h.scrape(&body);
    let full = h.tables.memory_use();
    assert_eq!(
        (full.text_blocks, full.derived_blocks, full.layouts),
        (3, 3, 1)
    );
    assert!(full.text_bytes > 3000 * 10 && full.derived_bytes > 3000 * 10);
    h.scrape("a 1\n");
    h.tables.sweep();
    let little = h.tables.memory_use();
    assert_eq!(
        (little.text_blocks, little.derived_blocks, little.layouts),
        (1, 1, 1)
    );
    h.state = TargetState::new(h.state.target().clone(), Arc::new(ScrapeRules::default()));
    h.tables.sweep();
    h.tables.trim();
    assert_eq!(h.tables.memory_use(), crate::matcher::MemoryUse::default());
}
