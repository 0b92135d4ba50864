//! Metadata requests hold each family once, in requests of bounded size.

use super::decode::{Metadata as Decoded, decode};
use super::model::{block, layout, whole};
use crate::remote_write::metadata::{FAMILIES_PER_REQUEST_MAX, Metadata};
use ringscrape_wal::definition::{Family, FamilyKind};

fn family(name: &str, help: &str) -> Family {
    Family {
        name: name.into(),
        help: help.into(),
        unit: "".into(),
        kind: FamilyKind::Counter,
    }
}

fn round(metadata: &mut Metadata) -> Vec<Vec<Decoded>> {
    metadata.end_round();
    let requests = metadata.requests().into_iter().map(|(raw, families)| {
        let request = decode(&raw);
        assert!(request.series.is_empty());
        assert_eq!(request.metadata.len(), families as usize);
        request.metadata
    });
    requests.collect()
}

#[test]
fn a_family_is_sent_once_a_round_with_what_was_seen_last() {
    let mut metadata = Metadata::default();
    assert!(round(&mut metadata).is_empty());
    let first = block(&[], &[], &[family("a_total", "old"), family("b_total", "")]);
    let mut unit = family("a_total", "new");
    unit.unit = "seconds".into();
    unit.kind = FamilyKind::Info;
    let second = block(&[], &[], &[unit]);
    metadata.observe(&layout(&[whole(&first), whole(&second)]));
    metadata.observe(&layout(&[whole(&first)]));
    let requests = round(&mut metadata);
    assert_eq!(
        requests,
        [[
            Decoded {
                kind: 6,
                name: "a_total".into(),
                help: "new".into(),
                unit: "seconds".into(),
            },
            Decoded {
                kind: 1,
                name: "b_total".into(),
                ..Decoded::default()
            },
        ]]
    );
}

#[test]
fn a_family_that_is_gone_is_forgotten_after_some_rounds() {
    let mut metadata = Metadata::default();
    let gone = layout(&[whole(&block(&[], &[], &[family("gone", "")]))]);
    let stays = layout(&[whole(&block(&[], &[], &[family("stays", "")]))]);
    metadata.observe(&gone);
    let mut rounds_with_gone = 0;
    for _ in 0..50 {
        metadata.observe(&stays);
        let names: Vec<String> = round(&mut metadata)
            .into_iter()
            .flatten()
            .map(|family| family.name)
            .collect();
        assert!(names.contains(&"stays".to_owned()));
        rounds_with_gone += usize::from(names.contains(&"gone".to_owned()));
    }
    assert!((2..50).contains(&rounds_with_gone), "{rounds_with_gone}");
}

#[test]
fn many_families_are_many_requests() {
    let families: Vec<Family> = (0..4_500).map(|n| family(&format!("f{n}"), "")).collect();
    let mut metadata = Metadata::default();
    metadata.observe(&layout(&[whole(&block(&[], &[], &families))]));
    let requests = round(&mut metadata);
    let sizes: Vec<usize> = requests.iter().map(Vec::len).collect();
    assert_eq!(sizes, [FAMILIES_PER_REQUEST_MAX, 2_000, 500]);
    let names: std::collections::BTreeSet<_> = requests.iter().flatten().map(|f| &f.name).collect();
    assert_eq!(names.len(), 4_500);
}
