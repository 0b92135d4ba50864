//! Samples in the order of their arrival -> what came again, out of order or under wrong labels.

use std::collections::HashMap;
use std::sync::Arc;

use ringscrape_tests::recorder::{Labels, Sample};

use crate::told_by;

/// Values of a series by time, with their places in the order of arrival.
type Values = HashMap<i64, (u64, usize)>;

/// What the order of arrival says.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Samples that had arrived before, unchanged: the places of both in the order of arrival.
    pub(crate) again: Vec<(usize, usize)>,
    pub(crate) faults: Vec<String>,
    /// Values of one target under the labels of another.
    pub(crate) mislabelled: Vec<String>,
}

impl Order {
    pub(crate) fn of(samples: &[Sample]) -> Self {
        let mut order = Self::default();
        // By series: the newest time, and the value of each time with its place.
        let mut seen: HashMap<*const Labels, (i64, Values)> = HashMap::new();
        for (place, sample) in samples.iter().enumerate() {
            if sample.name() == "load" && !sample.is_stale() {
                let target = told_by(sample).0.to_string();
                if sample.label("t").is_some_and(|label| label != target) {
                    order
                        .mislabelled
                        .push(format!("{sample:?} is of target {target}"));
                }
            }
            let (newest, values) = seen
                .entry(Arc::as_ptr(&sample.labels))
                .or_insert((i64::MIN, HashMap::new()));
            match values.get(&sample.timestamp_ms) {
                Some((bits, first)) if *bits == sample.value_bits => {
                    order.again.push((*first, place));
                }
                Some((bits, _)) => order.faults.push(format!("{sample:?} was {bits:x} before")),
                None if sample.timestamp_ms < *newest => {
                    order
                        .faults
                        .push(format!("{sample:?} after one at {newest}"));
                }
                None if sample.name() == "load" && sample.is_stale() => {
                    order
                        .faults
                        .push(format!("{sample:?}: marked, though it never vanished"));
                }
                None => {
                    *newest = sample.timestamp_ms;
                    values.insert(sample.timestamp_ms, (sample.value_bits, place));
                }
            }
        }
        order
    }
}

#[test]
fn losses_and_disorder_are_seen() {
    let sample = |time: i64, value: f64| Sample {
        labels: Arc::clone(&LABELS),
        value_bits: value.to_bits(),
        timestamp_ms: time,
    };
    static LABELS: std::sync::LazyLock<Arc<Labels>> =
        std::sync::LazyLock::new(|| Arc::new(vec![("__name__".into(), "load".into())]));
    let faults = |samples: &[Sample]| {
        let order = Order::of(samples);
        (order.again, order.faults.len())
    };
    let (a, b, c) = (sample(1, 1.0), sample(2, 2.0), sample(3, 3.0));
    assert_eq!(
        faults(&[a.clone(), b.clone(), a.clone(), b.clone(), c.clone()]),
        (vec![(0, 2), (1, 3)], 0)
    );
    assert_eq!(faults(&[a.clone(), c.clone(), b]), (vec![], 1));
    assert_eq!(faults(&[a, sample(1, 9.0), c]), (vec![], 1));
}
