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
    let mut h = Harness::new(ScrapeRules::default());
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
    let mut h = Harness::new(ScrapeRules::default());
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
    let mut h = Harness::new(ScrapeRules::default());
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
    let mut h = Harness::new(ScrapeRules::default());
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
        ..ScrapeRules::default()
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
            let parsed = if id == 0 && timestamp_ms == 1000 {
                500
            } else {
                0
            };
            assert_eq!(outcome.stats.parsed, parsed, "a replica is matched at once");
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
    let mut h = Harness::new(ScrapeRules::default());
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

/// Bodies of a target of its own, in forms that exporters write.
fn own_body(target: usize) -> String {
    let mut body = String::new();
    for n in 0..100 {
        body += &format!("# HELP h{n} Text.\n# TYPE h{n} histogram\n");
        for le in ["0.5", "1", "2.5", "+Inf"] {
            body += &format!(
                "h{n}_bucket{{method=\"t{target}\",path=\"C:\\\\x\\n\",le=\"{le}\"}} {n}\n"
            );
        }
        body += &format!("h{n}_sum{{method=\"t{target}\",path=\"y\",}} {n}.5\nh{n}_count {n}\n");
    }
    body
}

#[test]
fn text_of_one_target_alone_is_given_up() {
    let mut tables = Tables::new();
    let rules = Arc::new(ScrapeRules::default());
    let mut states: Vec<_> = (0..4)
        .map(|id| TargetState::new(target(id, &[("instance", "i")]), rules.clone()))
        .collect();
    let mut scrape = |tables: &mut Tables, number: usize, body: &str, timestamp_ms: i64| {
        let report = Report {
            timestamp_ms,
            now_ms: timestamp_ms,
            duration_s: 0.0,
            timeout_s: 1.0,
            body_bytes: 0,
        };
        let state = &mut states[number];
        let mut walk = Walk::begin(tables, state, Dialect::Text);
        walk.feed(body.as_bytes(), true).unwrap();
        let outcome = walk.finish(tables, state, &report);
        assert_eq!(outcome.error, None);
        outcome.stats
    };
    // Targets 2 and 3 are replicas.
    let bodies = [own_body(0), own_body(1), own_body(2), own_body(2)];
    let mut before = Default::default();
    for round in 1..=40 {
        for (number, body) in bodies.iter().enumerate() {
            let stats = scrape(&mut tables, number, body, round * 1000);
            assert!(round == 1 || stats.matched == 600);
        }
        if round % 10 == 1 {
            tables.sweep();
        }
        if round == 1 {
            before = tables.memory_use();
        }
    }
    let after = tables.memory_use();
    assert_eq!((after.text_blocks, after.layouts), (before.text_blocks, 3));
    assert_eq!(after.hashed_blocks, before.text_blocks * 2 / 3);
    assert!(after.text_bytes < before.text_bytes * 2 / 5);
    assert!(after.hashed_bytes < before.text_bytes / 3, "{after:?}");
    // Churn finds its way by hashes: one line is new, one is gone, one has moved.
    let mut lines: Vec<_> = bodies[0].lines().map(str::to_owned).collect();
    lines[42] = "fresh 1".into();
    let moved = lines.remove(300);
    lines.insert(500, moved);
    let body = lines.join("\n") + "\n";
    let stats = scrape(&mut tables, 0, &body, 41_000);
    assert!(stats.parsed <= 4, "{stats:?}");
    assert_eq!((stats.series_added, stats.stale_markers), (1, 1));
    let stats = scrape(&mut tables, 0, &body, 42_000);
    assert_eq!((stats.matched, stats.parsed), (600, 0));
    // A TYPE that changes changes the labels of lines that only their hashes are known of.
    let body = body.replace("# TYPE h60 histogram", "# TYPE h60 gauge");
    let stats = scrape(&mut tables, 0, &body, 43_000);
    assert_eq!(
        (stats.series_added, stats.stale_markers),
        (1, 1),
        "{stats:?}"
    );
}
