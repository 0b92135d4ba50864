//! Encoded bytes, decoded again, are what the scrape says.

use super::decode::decode;
use super::model::{Plain, plain};
use crate::remote_write::encode::{Counts, Options, TargetLabels, encode, positions};
use proptest::prelude::*;
use std::ops::Range;

fn run(plain: &Plain, range: Range<u32>, options: Options) -> (Vec<u8>, Counts) {
    let mut out = Vec::new();
    let target = TargetLabels::new(&plain.scrape.target);
    let counts = encode(&mut out, &plain.scrape, &target, range, options, |_| None);
    (out, counts)
}

fn exemplars(exemplars: bool) -> Options {
    Options {
        exemplars,
        ..Options::default()
    }
}

proptest! {
    #[test]
    fn decoded_is_the_plain_model(plain in plain(), with_exemplars: bool) {
        let total = positions(&plain.scrape);
        let (raw, counts) = run(&plain, 0..total, exemplars(with_exemplars));
        let expected = plain.expected(with_exemplars);
        prop_assert_eq!(counts.samples as usize, expected.len());
        prop_assert_eq!(counts.end, total);
        let count: usize = expected.iter().map(|series| series.exemplars.len()).sum();
        prop_assert_eq!(counts.exemplars as usize, count);
        // Debug text, because NaN values of exemplars are not equal to themselves.
        let decoded = decode(&raw);
        prop_assert!(decoded.metadata.is_empty());
        prop_assert_eq!(format!("{:?}", decoded.series), format!("{expected:?}"));
    }

    #[test]
    fn slices_together_are_the_whole(plain in plain(), len in 1_u32..5, bytes_max in 0_usize..300) {
        let total = positions(&plain.scrape);
        let (whole, _) = run(&plain, 0..total, exemplars(true));
        let (mut raw, mut at) = (Vec::new(), 0);
        while at < total {
            let options = Options { bytes_max, ..exemplars(true) };
            let (slice, counts) = run(&plain, at..total.min(at + len), options);
            prop_assert!(counts.end > at);
            raw.extend(slice);
            at = counts.end;
        }
        prop_assert_eq!(raw, whole);
    }

    #[test]
    fn too_old_samples_are_left_out_and_counted(plain in plain(), min in -20_i64..20) {
        let total = positions(&plain.scrape);
        let options = Options { timestamp_ms_min: Some(min), ..Options::default() };
        let (raw, counts) = run(&plain, 0..total, options);
        let all = plain.expected(false);
        let timestamp = |series: &super::decode::TimeSeries| {
            let sample = series.samples.first().map(|sample| sample.1);
            sample.unwrap_or_else(|| series.histograms[0].1)
        };
        let kept: Vec<_> = all.iter().filter(|series| timestamp(series) >= min).cloned().collect();
        prop_assert_eq!(counts.too_old as usize, all.len() - kept.len());
        if let Some(newest) = kept.iter().map(timestamp).max() {
            prop_assert_eq!(counts.timestamp_ms_newest, newest);
        }
        prop_assert_eq!(decode(&raw).series, kept);
    }

    #[test]
    fn native_histograms_are_left_out_where_they_are_not_wanted(plain in plain()) {
        let total = positions(&plain.scrape);
        let options = Options { without_histograms: true, ..Options::default() };
        let (raw, counts) = run(&plain, 0..total, options);
        let mut floats = plain.expected(false);
        floats.retain(|series| series.histograms.is_empty());
        prop_assert_eq!((counts.samples as usize, counts.histograms), (floats.len(), 0));
        prop_assert_eq!(format!("{:?}", decode(&raw).series), format!("{floats:?}"));
    }

    /// A record that contradicts its layout (the log's reader checks, yet) harms nothing.
    #[test]
    fn missing_values_and_entries_are_counted(
        mut plain in plain(),
        cut in 0_usize..4,
        beyond: bool,
    ) {
        let total = positions(&plain.scrape);
        let mut values = plain.scrape.values.to_vec();
        values.truncate(values.len().saturating_sub(cut));
        let lost = plain.scrape.values.len() - values.len();
        plain.scrape.values = values;
        plain.scrape.sides = None;
        let (raw, counts) = run(&plain, 0..total, Options::default());
        prop_assert_eq!(counts.malformed as usize, lost);
        prop_assert_eq!(decode(&raw).series.len(), total as usize - lost);
        if beyond && let Some(run) = plain.scrape.stale.first_mut() {
            run.from += 100;
            run.to += 100;
            let (_, counts) = self::run(&plain, 0..total, Options::default());
            prop_assert!(counts.malformed as usize > lost);
        }
    }
}
