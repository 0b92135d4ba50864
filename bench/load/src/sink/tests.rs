//! A synthetic stream with one defect -> that finding and no other.

use super::decode::tests::encode;
use super::report::Findings;
use super::verify::{Expectations, Verifier};
use crate::scheme::{
    CYCLE, Law, RESPONSES, STALE_NAN, identity, label_hash, law, place, responses_value, shape,
};

const CYCLE_LENGTH: u32 = 16;
const INTERVAL_MS: i64 = 10_000;
const START_MS: i64 = 1_700_000_000_000;
const TARGET: u32 = 3;

/// One sample on its way to the verifier.
#[derive(Clone, Debug)]
struct Sent {
    labels: Vec<(String, String)>,
    bits: u64,
    ms: i64,
}

fn expect() -> Expectations {
    Expectations {
        scrape_interval_ms: INTERVAL_MS as u32,
        target_labels: vec!["instance".into(), "job".into()],
        allow_foreign: false,
        defects_max: 100,
    }
}

fn labels(name: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let instance = crate::fleet::instance(TARGET);
    let mut all = vec![
        ("__name__", name),
        ("instance", &instance),
        ("job", "fleet"),
    ];
    all.extend_from_slice(more);
    all.sort();
    all.into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn law_of(name: &str, device: &str) -> Law {
    let sum = label_hash(b"__name__", name.as_bytes())
        .wrapping_add(label_hash(b"device", device.as_bytes()));
    law(shape(name.as_bytes()), identity(sum))
}

/// The device whose `node_x` series changes, or is constant and finite.
fn device(changing: bool) -> String {
    (0..1000)
        .map(|i| format!("d{i}"))
        .find(|device| match law_of("node_x", device) {
            Law::Changing { .. } => changing,
            Law::Constant(value) => !changing && value.is_finite() && value != 0.0,
        })
        .unwrap()
}

/// Scrape `slot` (from 0): `up`, the two series of the fleet, one changing and one constant series.
fn scrape(slot: i64) -> Vec<Sent> {
    let n = slot as u64 + 1;
    let ms = START_MS + slot * INTERVAL_MS;
    let at = place(TARGET, n, CYCLE_LENGTH);
    let mut out = vec![
        (labels("up", &[]), 1.0),
        (labels(CYCLE, &[]), f64::from(CYCLE_LENGTH)),
        (labels(RESPONSES, &[]), responses_value(TARGET, n)),
    ];
    for changing in [true, false] {
        let device = device(changing);
        let value = law_of("node_x", &device).at(at);
        out.push((labels("node_x", &[("device", &device)]), value));
    }
    out.into_iter()
        .map(|(labels, value)| Sent {
            labels,
            bits: value.to_bits(),
            ms,
        })
        .collect()
}

fn failed(slot: i64) -> Vec<Sent> {
    let ms = START_MS + slot * INTERVAL_MS;
    let mut out = scrape(slot);
    for sent in &mut out {
        let up = sent.labels[0].1 == "up";
        sent.bits = if up { 0f64.to_bits() } else { STALE_NAN };
        sent.ms = ms;
    }
    out
}

fn take(scrapes: &[Vec<Sent>]) -> Verifier {
    let mut verifier = Verifier::new(expect());
    for sent in scrapes.iter().flatten() {
        let labels: Vec<_> = sent
            .labels
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        let mut bytes = Vec::new();
        encode::series(&mut bytes, &labels, &[(sent.bits, sent.ms)]);
        verifier
            .request(&bytes, sent.ms.saturating_add(100))
            .unwrap();
    }
    verifier
}

fn findings(scrapes: &[Vec<Sent>]) -> Findings {
    take(scrapes).sweep(i64::MAX)
}

fn run(slots: i64) -> Vec<Vec<Sent>> {
    (0..slots).map(scrape).collect()
}

const CHANGING: usize = 3;
const CONSTANT: usize = 4;

#[test]
fn a_healthy_stream_has_no_findings() {
    // Three times round the cycle.
    let verifier = take(&run(50));
    assert_eq!(verifier.sweep(i64::MAX), Findings::default());
    let completeness = verifier.completeness(1, 4);
    assert_eq!(
        (completeness.slots_expected, completeness.slots_seen),
        (50, 50)
    );
    assert_eq!(
        (completeness.samples_expected, completeness.samples_seen),
        (200, 200)
    );
    assert_eq!(completeness.share, 1.0);
    assert_eq!(verifier.ups_and_downs(), (50, 0));
    assert!(verifier.completeness(2, 4).share < 0.51);
}

#[test]
fn gap_of_a_changing_series() {
    for slot in [2, 13, 20] {
        let mut all = run(40);
        all[slot].remove(CHANGING);
        assert_eq!(
            findings(&all),
            Findings {
                gaps: 1,
                ..Findings::default()
            },
            "{slot}"
        );
    }
}

#[test]
fn gap_of_a_constant_series() {
    let mut all = run(20);
    all[7].remove(CONSTANT);
    all[8].remove(CONSTANT);
    assert_eq!(
        findings(&all),
        Findings {
            gaps: 2,
            ..Findings::default()
        }
    );
}

#[test]
fn gap_of_exactly_one_cycle() {
    let mut all = run(60);
    for scrape in &mut all[10..26] {
        scrape.remove(CONSTANT);
        scrape.remove(CHANGING);
    }
    // The place cannot tell, the count of the constant series does; the whole scrape below.
    assert_eq!(findings(&all).gaps, 16);
    let mut all = run(60);
    all.drain(10..26);
    assert_eq!(findings(&all).lost_scrapes, 16);
}

#[test]
fn lost_scrape() {
    let mut all = run(20);
    all.remove(9);
    let verifier = take(&all);
    let expected = Findings {
        lost_scrapes: 1,
        gaps: 1,
        ..Findings::default()
    };
    assert_eq!(verifier.sweep(i64::MAX), expected);
    let lost = &verifier.lost[0];
    assert_eq!((lost.from_n, lost.to_n), (10, 10));
    assert_eq!(lost.before_ms, START_MS + 8 * INTERVAL_MS);
    assert_eq!(lost.after_ms, START_MS + 10 * INTERVAL_MS);
}

#[test]
fn a_scraper_that_was_away_is_no_gap() {
    // The fleet counted nothing meanwhile: the numbers go on, only time has passed.
    let mut all = run(20);
    for sent in all[10..].iter_mut().flatten() {
        sent.ms += 50 * INTERVAL_MS;
    }
    let verifier = take(&all);
    assert_eq!(verifier.sweep(i64::MAX), Findings::default());
    assert!(verifier.completeness(1, 4).share < 0.5);
}

#[test]
fn duplicates_same_and_different() {
    for index in [1, 2, CHANGING, CONSTANT] {
        let mut all = run(20);
        let again = all[9][index].clone();
        all[9].push(again.clone());
        let expected = Findings {
            duplicates_identical: 1,
            ..Findings::default()
        };
        assert_eq!(findings(&all), expected, "{index}");
    }
    for index in [2, CHANGING, CONSTANT] {
        let mut all = run(20);
        let mut again = all[10][index].clone();
        again.bits ^= 1 << 51;
        all[10].push(again);
        let expected = Findings {
            duplicates_different: 1,
            ..Findings::default()
        };
        assert_eq!(findings(&all), expected, "{index}");
    }
}

#[test]
fn out_of_order() {
    let mut all = run(20);
    let old = all[5][CONSTANT].clone();
    all[9].push(old);
    assert_eq!(
        findings(&all),
        Findings {
            out_of_order: 1,
            ..Findings::default()
        }
    );
}

#[test]
fn swapped_values_under_right_times() {
    let mut all = run(20);
    let (a, b) = (all[9][CHANGING].bits, all[10][CHANGING].bits);
    all[9][CHANGING].bits = b;
    all[10][CHANGING].bits = a;
    let found = findings(&all);
    assert_eq!(found.swapped, 1);
    assert_eq!(found.wrong_values, 0);
    let mut all = run(20);
    all[10][CHANGING].bits = all[9][CHANGING].bits;
    assert_eq!(
        findings(&all),
        Findings {
            repeated: 1,
            gaps: 1,
            ..Findings::default()
        }
    );
}

#[test]
fn wrong_bit_and_inexact_bit() {
    for index in [1, 2, CONSTANT] {
        let mut all = run(20);
        all[9][index].bits ^= 1 << 51;
        let expected = Findings {
            wrong_values: 1,
            ..Findings::default()
        };
        let mut found = findings(&all);
        // The response counter is wrong, so its scrape counts as lost as well.
        if index == 2 {
            assert_eq!(found.lost_scrapes, 1);
            found.lost_scrapes = 0;
        }
        assert_eq!(found, expected, "{index}");
    }
    let mut all = run(20);
    all[9][CHANGING].bits = (-5f64).to_bits();
    assert_eq!(
        findings(&all),
        Findings {
            wrong_values: 1,
            ..Findings::default()
        }
    );
    let mut all = run(20);
    all[9][CONSTANT].bits ^= 1;
    let verifier = take(&all);
    assert_eq!(verifier.sweep(i64::MAX), Findings::default());
    assert_eq!(verifier.totals.inexact, 1);
}

#[test]
fn wrong_label_shows_as_wrong_value() {
    let mut all = run(20);
    for scrape in &mut all {
        let device = scrape[CONSTANT]
            .labels
            .iter_mut()
            .find(|(name, _)| name == "device")
            .unwrap();
        device.1.push('x');
    }
    assert_eq!(findings(&all).wrong_values, 20);
}

#[test]
fn broken_label_sets_and_strangers() {
    let mut all = run(5);
    all[1][CONSTANT].labels.reverse();
    assert_eq!(findings(&all).wrong_labels, 1);
    let mut all = run(5);
    let instance = all[1][0]
        .labels
        .iter()
        .position(|(name, _)| name == "instance")
        .unwrap();
    all[1][CONSTANT].labels[instance + 1].1 = "other:1".into();
    assert_eq!(findings(&all).foreign_series, 1);
}

#[test]
fn other_targets_values() {
    // Target 3's labels with the counter of target 4.
    let mut all = run(5);
    for (slot, scrape) in all.iter_mut().enumerate() {
        scrape[2].bits = responses_value(TARGET + 1, slot as u64 + 1).to_bits();
    }
    assert_eq!(findings(&all).wrong_values, 5);
}

#[test]
fn failed_scrape_with_markers_is_fine() {
    let mut all = run(12);
    all.truncate(6);
    all.push(failed(6));
    // The failed one did not count: number 7 comes a slot later.
    for slot in 6..12 {
        let mut next = scrape(slot);
        next.iter_mut().for_each(|sent| sent.ms += INTERVAL_MS);
        all.push(next);
    }
    let verifier = take(&all);
    assert_eq!(verifier.sweep(i64::MAX), Findings::default());
    assert_eq!(verifier.totals.markers, 4);
    assert_eq!(verifier.ups_and_downs(), (12, 1));
}

#[test]
fn failed_scrape_without_markers() {
    let mut all = run(6);
    all.push(vec![failed(6).swap_remove(0)]);
    for slot in 6..12 {
        let mut next = scrape(slot);
        next.iter_mut().for_each(|sent| sent.ms += INTERVAL_MS);
        all.push(next);
    }
    assert_eq!(
        findings(&all),
        Findings {
            missing_markers: 2,
            ..Findings::default()
        }
    );
}

#[test]
fn false_marker() {
    for index in [CHANGING, CONSTANT] {
        let mut all = run(20);
        let mut marker = all[9][index].clone();
        marker.bits = STALE_NAN;
        marker.ms += 5000;
        all[9].push(marker);
        assert_eq!(
            findings(&all),
            Findings {
                false_markers: 1,
                ..Findings::default()
            }
        );
    }
}

#[test]
fn series_that_ends_and_comes_back() {
    for index in [CHANGING, CONSTANT] {
        let mut all = run(30);
        all[10][index].bits = STALE_NAN;
        for scrape in &mut all[11..20] {
            scrape.remove(index);
        }
        assert_eq!(findings(&all), Findings::default(), "{index}");
        // The same without the marker.
        all[10].remove(index);
        assert_ne!(findings(&all), Findings::default(), "{index}");
    }
}

#[test]
fn series_that_ends_without_a_marker() {
    let mut all = run(20);
    for scrape in &mut all[15..] {
        scrape.remove(CONSTANT);
    }
    assert_eq!(
        findings(&all),
        Findings {
            missing_markers: 1,
            ..Findings::default()
        }
    );
    // Not judged while the next scrape is young.
    let verifier = take(&all);
    let young = START_MS + 15 * INTERVAL_MS;
    assert_eq!(verifier.sweep(young), Findings::default());
}

#[test]
fn requests_of_one_scrape_in_any_order() {
    // The response counter and `up` come a scrape later than the rest.
    let mut all = Vec::new();
    let mut late = Vec::new();
    for mut scrape in run(20) {
        let rest = scrape.split_off(3);
        all.push(rest);
        all.push(std::mem::replace(&mut late, scrape));
    }
    all.push(late);
    assert_eq!(findings(&all), Findings::default());
}

#[test]
fn odd_timestamps() {
    for ms in [i64::MIN, i64::MAX, 0, -1] {
        let mut all = run(5);
        all[2][CONSTANT].ms = ms;
        let found = findings(&all);
        assert_eq!((found.wrong_timestamps, found.gaps), (1, 1), "{ms}");
    }
}
