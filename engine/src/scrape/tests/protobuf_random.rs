//! Random protobuf bodies against the same ones in text, and damaged ones.

use super::families::*;
use super::protobuf::{both, harness, with_native};
use super::*;
use proptest::prelude::*;

/// A metric in both formats.
#[derive(Debug, Clone)]
struct Both {
    family: usize,
    label: usize,
    value: i32,
    has_time: bool,
    has_exemplar: bool,
}

const NAMES: [&str; 4] = ["a_total", "g", "s", "h.x"];
const VALUES: [&str; 4] = ["", "v", "\"\\\n", "\u{e4}"];

fn metrics() -> impl Strategy<Value = Vec<Both>> {
    let metric = (
        0..4_usize,
        0..4_usize,
        -3..3_i32,
        prop::bool::weighted(0.1),
        any::<bool>(),
    );
    let metric = metric.prop_map(|(family, label, value, has_time, has_exemplar)| Both {
        family,
        label,
        value,
        has_time,
        has_exemplar,
    });
    prop::collection::vec(metric, 0..8)
}

/// One metric as a family of its own: protobuf, and its lines in OpenMetrics.
fn write(one: &Both, now_ms: i64) -> (Vec<u8>, String) {
    let value = f64::from(one.value);
    let labels = match one.label {
        0 => vec![],
        label => vec![("l", VALUES[label])],
    };
    let escaped = VALUES[one.label]
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    let own = if one.label == 0 {
        String::new()
    } else {
        format!(",l=\"{escaped}\"")
    };
    let time_s = now_ms / 1000 + 30;
    let mut metric = new().labels(&labels);
    if one.has_time {
        metric = metric.number(6, (time_s * 1000) as u64);
    }
    let name = NAMES[one.family];
    let time = if one.has_time {
        format!(" {time_s}")
    } else {
        String::new()
    };
    let shown = |value| exemplar("e", value, None);
    let (mut lines, mut exemplars) = (Vec::new(), Vec::new());
    let (kind, metric) = match one.family {
        0 => {
            let mut counter = new().double(1, value);
            lines.push((name.to_owned(), String::new(), value));
            if one.has_exemplar {
                counter = counter.inner(2, shown(value));
                exemplars.push((0, value));
            }
            (COUNTER, metric.inner(3, counter))
        }
        1 => {
            lines.push((name.to_owned(), String::new(), value));
            (GAUGE, metric.inner(2, new().double(1, value)))
        }
        2 => {
            lines.push((format!("{name}_count"), String::new(), 7.0));
            lines.push((format!("{name}_sum"), String::new(), value));
            lines.push((name.to_owned(), ",quantile=\"0.99\"".to_owned(), 0.5));
            let quantile = new().double(1, 0.99).double(2, 0.5);
            let summary = new().number(1, 7).double(2, value).inner(3, quantile);
            (SUMMARY, metric.inner(4, summary))
        }
        _ => {
            lines.push((format!("{name}_count"), String::new(), 7.0));
            lines.push((format!("{name}_sum"), String::new(), value));
            lines.push((format!("{name}_bucket"), ",le=\"2.0\"".to_owned(), 5.0));
            lines.push((format!("{name}_bucket"), ",le=\"+Inf\"".to_owned(), 7.0));
            let mut bucket = bucket(2.0, 5);
            if one.has_exemplar {
                bucket = bucket.inner(3, shown(value));
                exemplars.push((2, value));
            }
            let histogram = new().number(1, 7).double(2, value).inner(3, bucket);
            (HISTOGRAM, metric.inner(7, histogram))
        }
    };
    let mut text = String::new();
    for (index, (name, more, value)) in lines.iter().enumerate() {
        text.push_str(&format!("{{\"{name}\"{own}{more}}} {value}{time}"));
        if let Some((_, value)) = exemplars.iter().find(|(at, _)| *at == index) {
            text.push_str(&format!(" # {{id=\"e\"}} {value}"));
        }
        text.push('\n');
    }
    (family(name, kind, &[metric]), text)
}

proptest! {
    #[test]
    fn random_bodies_are_what_their_text_is(
        scrapes in prop::collection::vec(metrics(), 1..5),
        cuts in prop::collection::vec(1..40_usize, 1..5),
        honor_labels: bool,
        track: bool,
        hashed: bool,
    ) {
        let rules = ScrapeRules {
            honor_labels,
            track_timestamps_staleness: track,
            ..with_native()
        };
        let mut harness = harness(rules.clone());
        let mut model = model::Model::new(harness.state.target().clone(), Arc::new(rules));
        for metrics in scrapes {
            let (mut body, mut text) = (Vec::new(), String::new());
            for one in &metrics {
                let written = write(one, harness.now_ms + STEP_MS);
                body.extend_from_slice(&written.0);
                text.push_str(&written.1);
            }
            if !text.is_empty() {
                text.push_str("# EOF\n");
            }
            let report = harness.report(&body);
            let wanted = model.scrape(Dialect::OpenMetrics, text.as_bytes(), &report);
            let mut walk = Walk::begin(&mut harness.tables, &harness.state, Dialect::Protobuf);
            let mut rest = &body[..];
            for cut in &cuts {
                let (window, after) = rest.split_at((*cut).min(rest.len()));
                prop_assert_eq!(walk.feed(window, false), Ok(window.len()));
                rest = after;
            }
            prop_assert_eq!(walk.feed(rest, true), Ok(rest.len()));
            let outcome = walk.finish(&mut harness.tables, &mut harness.state, &report);
            let found = harness.record(outcome);
            prop_assert_eq!(found, wanted);
            if hashed {
                harness.tables.give_all_texts_up();
            }
            harness.tables.sweep();
        }
    }
}

proptest! {
    #[test]
    fn damaged_bodies_break_no_promise(
        choice: u8,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let counter = new().inner(3, new().double(1, 1.0).inner(2, exemplar("c", 1.0, Some(3))));
        let summary = new().number(1, 4).inner(3, new().double(1, 0.5).double(2, 2.0));
        let mut data = [
            vec![choice],
            family("c_total", COUNTER, &[counter]),
            family("s", SUMMARY, &[new().labels(&[("a", "b")]).inner(4, summary)]),
            family("h", HISTOGRAM, &[new().inner(7, both()).number(6, 20_000)]),
        ]
        .concat();
        for (index, byte) in damage {
            *index.get_mut(&mut data) = byte;
        }
        if let Some(cut) = cut {
            data.truncate(cut.index(data.len()));
        }
        crate::fuzz::protobuf(&data);
    }
}
