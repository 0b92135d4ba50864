//! The fast path runs: how many lines are matched, what replicas share, what a layout costs.

use super::*;
use crate::matcher::Tables;

fn body(lines: &[String]) -> String {
    lines.concat()
}

fn lines(count: usize) -> Vec<String> {
    let line = |n: usize| match n % 50 {
        0 => format!("# HELP m{n} x\n# TYPE m{n} gauge\nm{n}{{n=\"0\"}} {n}\n"),
        k => format!("m{}{{n=\"{k}\"}} {n}.5\n", n - k),
    };
    (0..count).map(line).collect()
}

/// How many lines were matched and parsed.
fn counts(h: &mut Harness, lines: &[String]) -> (u32, u32) {
    let record = h.scrape(&body(lines));
    assert_eq!(record.error, None);
    (h.stats().matched, h.stats().parsed)
}

#[test]
fn a_steady_body_is_matched_wholly() {
    let mut h = Harness::new(rules());
    let lines = lines(1000);
    assert_eq!(counts(&mut h, &lines), (0, 1000));
    let first = h.last.take().unwrap();
    for _ in 0..3 {
        assert_eq!(counts(&mut h, &lines), (1000, 0));
        let again = h.last.take().unwrap();
        assert!(Arc::ptr_eq(&first.layout, &again.layout), "the same layout");
        assert_eq!(again.values.len(), 1005);
    }
}

#[test]
fn only_changed_lines_are_parsed() {
    let mut h = Harness::new(rules());
    let mut lines = lines(1000);
    counts(&mut h, &lines);
    // Changed.
    for n in [3, 77, 500, 999] {
        lines[n] = format!("changed{{n=\"{n}\"}} 1\n");
    }
    assert_eq!(counts(&mut h, &lines), (996, 4));
    assert_eq!(h.stats().stale_markers, 4);
    assert_eq!(h.stats().series_added, 4);
    assert_eq!(counts(&mut h, &lines), (1000, 0));
    // Added.
    lines.insert(10, "added 1\n".into());
    lines.insert(600, "added_too 1\n".into());
    assert_eq!(counts(&mut h, &lines), (1000, 2));
    // Removed, also many at once; none has comments.
    lines.remove(620);
    lines.drain(303..330);
    assert_eq!(counts(&mut h, &lines), (974, 0));
    assert_eq!(h.stats().stale_markers, 28);
    // Moved.
    let moved = lines.remove(5);
    lines.insert(700, moved);
    assert_eq!(counts(&mut h, &lines), (973, 1));
    assert_eq!((h.stats().stale_markers, h.stats().series_added), (0, 0));
    // Two families swapped: one line to find each of the three parts.
    let family = lines.split_off(900);
    lines.splice(400..400, family);
    let (matched, parsed) = counts(&mut h, &lines);
    assert!(parsed <= 3, "{parsed}");
    assert_eq!(matched + parsed, 974);
    assert_eq!(counts(&mut h, &lines), (974, 0));
    // More removed in a row than is looked ahead.
    lines.drain(100..200);
    assert_eq!(counts(&mut h, &lines), (873, 1));
    // A doubled line is new, and a duplicate.
    let doubled = lines[50].clone();
    lines.insert(300, doubled);
    assert_eq!(counts(&mut h, &lines), (874, 1));
    assert_eq!(h.stats().duplicates, 1);
    assert_eq!(counts(&mut h, &lines), (875, 0));
    // A failure between changes nothing.
    h.fail();
    assert_eq!(counts(&mut h, &lines), (875, 0));
    // Nor does a body that was cut.
    let cut = body(&lines[..400]) + "broken{";
    h.scrape(&cut);
    assert_eq!(counts(&mut h, &lines), (875, 0));
}

#[test]
fn timestamps_and_exemplars_are_matched() {
    let mut h = Harness::new(rules());
    h.dialect = Dialect::OpenMetrics;
    for n in 0..4 {
        let at = h.now_ms / 1000 + 1;
        let record = h.scrape(&format!(
            "a_total 1 {at}.5\nb_total 1 # {{n=\"{n}\"}} 1\n# EOF\n"
        ));
        assert_eq!(record.exemplars.len(), 1);
        let expected = if n == 0 { (0, 2) } else { (2, 0) };
        assert_eq!((h.stats().matched, h.stats().parsed), expected);
    }
}

#[test]
fn churn_does_not_slow_down_over_time() {
    let mut h = Harness::new(rules());
    let mut lines = lines(1000);
    counts(&mut h, &lines);
    for round in 0..60 {
        for n in 0..50 {
            lines[(n * 19 + round * 7) % 1000] = format!("pod{{uid=\"{round}-{n}\"}} 1\n");
        }
        let (_, parsed) = counts(&mut h, &lines);
        assert!(parsed <= 51 + 32, "{parsed}");
        assert_eq!(stale(&h.scrape(&body(&lines))).len(), 0);
        assert_eq!(h.stats().parsed, 0);
        h.tables.sweep();
    }
    let memory = h.tables.memory_use();
    assert!(memory.text_bytes < 1 << 20, "{memory:?}");
}

#[test]
fn replicas_share_everything() {
    let rules = Arc::new(ScrapeRules {
        metric_relabel_configs: relabel(&[(Action::Drop, &["__name__"], "m0", "", "$1")]),
        ..rules()
    });
    let mut tables = Tables::new();
    let mut one = None;
    let mut states = Vec::new();
    let body = body(&lines(500));
    for id in 0..20 {
        let target = target(
            id,
            &[("instance", &format!("host-{id}:9100")), ("job", "j")],
        );
        let mut state = TargetState::new(target, rules.clone());
        for timestamp_ms in [1000, 2000] {
            let report = Report {
                timestamp_ms,
                now_ms: timestamp_ms,
                duration_s: 0.0,
                timeout_s: 1.0,
                body_bytes: 0,
            };
            let mut walk = Walk::begin(&mut tables, &state, Dialect::Text);
            walk.feed(body.as_bytes(), true).unwrap();
            let outcome = walk.finish(&mut tables, &mut state, &report);
            assert_eq!(outcome.stats.samples_post_relabel, 450);
            let record = Record::of(&outcome, state.target()).unwrap();
            assert_eq!(
                record.samples[0].0.get("instance"),
                format!("host-{id}:9100")
            );
            let layout = one.get_or_insert_with(|| outcome.layout.clone());
            assert!(Arc::ptr_eq(layout, &outcome.layout));
        }
        states.push(state);
    }
    assert_eq!(tables.memory_use().layouts, 1);
}

#[test]
fn a_hostile_body_costs_no_more_than_its_lines() {
    // Equal lines, all colliding; then shifted, so that every one is looked up.
    let mut h = Harness::new(rules());
    let mut body = "m 1\n".repeat(50_000);
    h.scrape(&body);
    assert_eq!(h.stats().duplicates, 49_999);
    body.insert_str(0, "first 1\n");
    h.scrape(&body);
    assert_eq!(h.stats().duplicates, 49_999);
    body.insert_str(100_000, "# x\n");
    h.scrape(&body);
    assert_eq!(h.stats().parsed, 1);
}
