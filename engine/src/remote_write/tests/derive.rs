//! Derived templates, filled, are external labels and write relabelling on plain label sets.

use super::decode::{TimeSeries, decode};
use super::model::{
    LabelMap, Plain, block, endpoint, label_map, layout, map, plain, route, target, whole,
};
use crate::labels::{Labels, LabelsBuilder};
use crate::relabel::{Action, RuleConfig, Rules, Verdict};
use crate::remote_write::derive::Deriver;
use crate::remote_write::encode::{Counts, Options, encode, positions};
use proptest::prelude::*;
use ringscrape_wal::scrape::Scrape;

fn rule() -> impl Strategy<Value = RuleConfig> {
    let name = || {
        prop::sample::select(vec![
            "__name__", "a", "b", "code", "instance", "job", "zone", "new",
        ])
        .prop_map(str::to_owned)
    };
    let regex = prop::sample::select(vec![
        "(.*)",
        "a.*",
        "(a|b)(.*)",
        "[a-c]",
        "job|instance",
        "(in|z)(.+)",
        "b+",
        "",
    ]);
    let replacement = prop::sample::select(vec!["$1", "x", "", "$1-$2", "l_$1"]);
    let sources = prop::option::of(prop::collection::vec(name(), 1..3));
    let action = prop::sample::select(Action::ALL.map(|(action, _)| action).to_vec());
    (action, sources, regex, name(), replacement).prop_filter_map(
        "a rule that the configuration refuses",
        |(action, source_labels, regex, target_label, replacement)| {
            let full = RuleConfig {
                source_labels,
                regex: Some(regex.to_owned()),
                target_label,
                replacement: replacement.to_owned(),
                action,
                modulus: 7,
                ..RuleConfig::default()
            };
            let plain = RuleConfig {
                action,
                ..RuleConfig::default()
            };
            // Some actions refuse settings that they do not use.
            let candidates = [
                full.clone(),
                RuleConfig {
                    source_labels: full.source_labels.clone(),
                    target_label: full.target_label.clone(),
                    ..plain.clone()
                },
                RuleConfig {
                    regex: full.regex.clone(),
                    ..plain.clone()
                },
                RuleConfig {
                    regex: full.regex.clone(),
                    replacement: full.replacement.clone(),
                    ..plain
                },
            ];
            candidates
                .into_iter()
                .find(|config| Rules::new(vec![config.clone()]).is_ok())
        },
    )
}

fn model(plain: &Plain, external: &LabelMap, rules: &Rules) -> Vec<TimeSeries> {
    let expected = plain.expected(false).into_iter();
    expected
        .filter_map(|mut series| {
            let mut all = external.clone();
            all.extend(series.labels);
            let mut labels = LabelsBuilder::from(&Labels::from_pairs(all));
            let verdict = rules.apply(&mut labels);
            labels.remove("");
            let kept = verdict == Verdict::Keep && !labels.is_empty();
            series.labels = labels
                .into_labels()
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            kept.then_some(series)
        })
        .collect()
}

fn send(deriver: &mut Deriver, scrape: &Scrape) -> (Vec<TimeSeries>, Counts) {
    let mut raw = Vec::new();
    let known = deriver.target(&scrape.target);
    let counts = encode(
        &mut raw,
        scrape,
        &known.labels,
        0..positions(scrape),
        Options::default(),
        |block| deriver.block(block, &known),
    );
    (decode(&raw).series, counts)
}

fn deriver(external: &LabelMap, rules: &Rules) -> Deriver {
    let mut endpoint = endpoint();
    endpoint.external_labels = Labels::from_pairs(external.clone());
    endpoint.write_relabel_configs = rules.clone();
    Deriver::new(&endpoint)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn derived_and_filled_is_plain_relabelling(
        plain in plain(),
        external in label_map(0..3),
        rules in prop::collection::vec(rule(), 0..4),
        other in label_map(0..4),
    ) {
        let rules = Rules::new(rules).unwrap();
        let mut deriver = deriver(&external, &rules);
        let expected = model(&plain, &external, &rules);
        let (series, counts) = send(&mut deriver, &plain.scrape);
        prop_assert_eq!(counts.malformed, 0);
        let all = plain.expected(false).len();
        prop_assert_eq!(counts.relabel_dropped as usize, all - expected.len());
        prop_assert_eq!(&series, &expected);

        // Another target with the same label names shares the blocks.
        let mut sibling = plain;
        let labels: LabelMap = sibling.scrape.target.labels.iter().map(|(name, value)| {
            let value = other.get(&**name).cloned().unwrap_or_else(|| value.to_string());
            (name.to_string(), value)
        }).collect();
        for (own, position) in sibling.labels.iter_mut().zip(0..) {
            let (block, entry) = entry_at(&sibling.scrape, position);
            let (_, holes) = block.entry(entry);
            for hole in holes {
                let name = &sibling.scrape.target.labels[usize::from(hole.target_label)].0;
                own.insert(name.to_string(), labels[&**name].clone());
            }
        }
        sibling.scrape.target = target(2, &labels);
        let expected = model(&sibling, &external, &rules);
        prop_assert_eq!(send(&mut deriver, &sibling.scrape).0, expected);
    }
}

fn entry_at(scrape: &Scrape, position: u32) -> (&ringscrape_wal::definition::Block, u32) {
    let mut at = 0;
    for run in scrape.layout.runs.iter().chain(&scrape.stale) {
        if position < at + (run.to - run.from) {
            return (&run.block, run.from + (position - at));
        }
        at += run.to - run.from;
    }
    panic!("no position {position}")
}

fn scrape(
    target_labels: &LabelMap,
    shared: &std::sync::Arc<ringscrape_wal::definition::Block>,
) -> Scrape {
    Scrape {
        target: target(1, target_labels),
        route: route("test"),
        timestamp_ms: 1,
        layout: layout(&[whole(shared)]),
        values: vec![1.0; shared.entries.len()],
        stale: Box::default(),
        sides: None,
    }
}

#[test]
fn replicas_share_a_derived_block_unless_a_rule_reads_what_differs() {
    let one = map(&[("instance", "a:1"), ("job", "node")]);
    let two = map(&[("instance", "b:1"), ("job", "node")]);
    let names: Vec<String> = one.keys().cloned().collect();
    let shared = block(&names, &[map(&[("__name__", "up")])], &[]);
    let external = map(&[("cluster", "eu")]);
    let same = |rules: &Rules| {
        let mut deriver = deriver(&external, rules);
        let blocks = [&one, &two].map(|labels| {
            let known = deriver.target(&scrape(labels, &shared).target);
            deriver.block(&shared, &known).unwrap()
        });
        std::sync::Arc::ptr_eq(&blocks[0], &blocks[1])
    };
    assert!(same(&Rules::default()));
    let reads = |source: &str| {
        Rules::new(vec![RuleConfig {
            source_labels: Some(vec![source.to_owned()]),
            target_label: "copy".to_owned(),
            ..RuleConfig::default()
        }])
        .unwrap()
    };
    assert!(same(&reads("job")));
    assert!(!same(&reads("instance")));
}

#[test]
fn a_block_that_cannot_be_read_drops_its_series_and_is_counted() {
    let labels = map(&[("job", "node")]);
    let shared = block(&["job".to_owned()], &[map(&[("__name__", "up")])], &[]);
    let mut damaged = (*shared).clone();
    damaged.id += 1_000_000;
    damaged.bytes[1] = 0xff;
    let mut deriver = deriver(&map(&[("cluster", "eu")]), &Rules::default());
    let scrape = scrape(&labels, &std::sync::Arc::new(damaged));
    let (series, counts) = send(&mut deriver, &scrape);
    assert!(series.is_empty());
    assert_eq!(counts.relabel_dropped, 1);
    assert_eq!(deriver.malformed_blocks(), 1);
}
