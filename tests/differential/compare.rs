//! What two engines sent for one case -> the lines in which they differ.
//!
//! A sample becomes the line `SERIES @WHEN VALUE`. WHEN is the index of the scrape within its
//! target (absolute times differ between runs), or `T0+N` for a timestamp that the body gave.
//! VALUE is the float, with the bits for NaNs; durations are `time`, since they differ always.
//! A *collapsed* case has no fixed number of scrapes: equal values in a row count as one, and
//! WHEN is the place in that shortened row. A sample with a timestamp of its own that is sent again
//! by later scrapes counts once, since the number of these is not fixed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ringscrape_tests::recorder::Sample;

use crate::case::Case;
use crate::script;

/// The lines of a case, in order of series, then arrival.
///
/// # Panics
/// If a sample belongs to no scrape that is known, or a series goes back in time.
pub(crate) fn lines(case: &Case, samples: &[Sample], start_ms: i64, port: u16) -> Vec<String> {
    let explicit: BTreeSet<i64> = script::explicit_times(case).into_iter().collect();
    let clock = Clock::new(samples, start_ms, &explicit);
    let mut by_series: BTreeMap<String, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        let series = series_text(&sample.labels).replace(&format!(":{port}"), ":PORT");
        by_series.entry(series).or_default().push(sample);
    }
    let mut lines = Vec::new();
    for (series, samples) in by_series {
        let mut values: Vec<(String, String)> = Vec::new();
        for sample in samples {
            let value = value_text(sample);
            if case.collapsed {
                if values.last().is_none_or(|(_, last)| *last != value) {
                    values.push((format!("{}", values.len() + 1), value));
                }
            } else if let Some(when) = clock.when(case, sample) {
                let entry = (when, value);
                if !(entry.0.starts_with("T0") && values.contains(&entry)) {
                    values.push(entry);
                }
            }
        }
        lines.extend(
            values
                .into_iter()
                .map(|(when, value)| format!("{series} @{when} {value}")),
        );
    }
    lines
}

/// Series whose samples arrived out of time order; those with times of the body's own are left
/// out, since the body alone says in which order they come.
pub(crate) fn disorder(case: &Case, samples: &[Sample], start_ms: i64) -> Vec<String> {
    let explicit = script::explicit_times(case);
    let mut last: HashMap<String, i64> = HashMap::new();
    let mut found = Vec::new();
    for sample in samples {
        if explicit.contains(&(sample.timestamp_ms - start_ms)) {
            continue;
        }
        let series = series_text(&sample.labels);
        let before = last.insert(series.clone(), sample.timestamp_ms);
        if before.is_some_and(|before| before > sample.timestamp_ms) {
            found.push(series);
        }
    }
    found
}

/// Lines only in `reference` as `- LINE`, only in `subject` as `+ LINE`; counted, so a line that
/// occurs twice on one side and once on the other is there once.
pub(crate) fn difference(reference: &[String], subject: &[String]) -> Vec<String> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for line in reference {
        *counts.entry(line).or_insert(0) -= 1;
    }
    for line in subject {
        *counts.entry(line).or_insert(0) += 1;
    }
    let mut lines = Vec::new();
    for (line, count) in counts {
        let sign = if count < 0 { '-' } else { '+' };
        lines.extend((0..count.unsigned_abs()).map(|_| format!("{sign} {line}")));
    }
    lines
}

/// The scrape times of each target, from `up`.
struct Clock<'a> {
    start_ms: i64,
    explicit: &'a BTreeSet<i64>,
    /// By instance, ascending. If `up` never arrived: all times, under no name.
    times: BTreeMap<String, Vec<i64>>,
}

impl<'a> Clock<'a> {
    fn new(samples: &[Sample], start_ms: i64, explicit: &'a BTreeSet<i64>) -> Self {
        let mut times: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let has_up = samples.iter().any(|sample| sample.name() == "up");
        for sample in samples {
            let is_explicit = explicit.contains(&(sample.timestamp_ms - start_ms));
            if if has_up {
                sample.name() == "up"
            } else {
                !is_explicit
            } {
                let instance = if has_up {
                    sample.label("instance")
                } else {
                    None
                };
                let instance = instance.unwrap_or_default().to_owned();
                times.entry(instance).or_default().push(sample.timestamp_ms);
            }
        }
        for list in times.values_mut() {
            list.sort_unstable();
            list.dedup();
        }
        Self {
            start_ms,
            explicit,
            times,
        }
    }

    /// `None` for scrapes after the last one that is compared.
    fn when(&self, case: &Case, sample: &Sample) -> Option<String> {
        let time = sample.timestamp_ms;
        let index_in = |times: &Vec<i64>| times.binary_search(&time).ok().map(|at| at as u64 + 1);
        let own = self.times.get(sample.label("instance").unwrap_or_default());
        let index = own
            .and_then(index_in)
            .or_else(|| self.times.values().filter_map(index_in).min());
        match index {
            Some(index) if index > case.scrapes => None,
            Some(index) => Some(index.to_string()),
            None if self.explicit.contains(&(time - self.start_ms)) => {
                Some(format!("T0{:+}", time - self.start_ms))
            }
            None => {
                // Scrapes past the last `up` that arrived are of no interest.
                let last = self.times.values().filter_map(|times| times.last()).max();
                if last.is_some_and(|last| time > *last) {
                    return None;
                }
                Some(format!("T0{:+}?", time - self.start_ms))
            }
        }
    }
}

fn series_text(labels: &[(String, String)]) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(n, value)| format!("{n}={value:?}"))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

fn value_text(sample: &Sample) -> String {
    if sample.is_stale() {
        "STALE".to_owned()
    } else if sample.name() == "scrape_duration_seconds" {
        "time".to_owned()
    } else if sample.value().is_nan() {
        format!("NaN:{:016x}", sample.value_bits)
    } else {
        format!("{:?}", sample.value())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ringscrape_tests::recorder::STALE_BITS;

    use super::*;
    use crate::case;

    fn sample(name: &str, time: i64, value_bits: u64) -> Sample {
        let labels =
            [("__name__", name), ("instance", "a:77")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        Sample {
            labels: Arc::new(labels.to_vec()),
            value_bits,
            timestamp_ms: time,
        }
    }

    fn two_scrapes(base: i64, second: u64) -> Vec<Sample> {
        let one = 1f64.to_bits();
        [
            ("up", 0, one),
            ("x", 0, one),
            ("up", 1000, one),
            ("x", 1000, second),
            ("up", 2000, one),
        ]
        .map(|(name, time, bits)| sample(name, base + time, bits))
        .to_vec()
    }

    fn case() -> Case {
        case::parse("c", "# t\nscrapes=2\n--- body 1\nx 1\n").unwrap()
    }

    #[test]
    fn runs_at_other_times_are_equal() {
        let one = lines(&case(), &two_scrapes(1000, STALE_BITS), 0, 77);
        let two = lines(&case(), &two_scrapes(9017, STALE_BITS), 500, 77);
        assert_eq!(one, two);
        assert!(one.contains(&"{__name__=\"x\",instance=\"a:PORT\"} @2 STALE".to_owned()));
        assert_eq!(one.len(), 4, "the third scrape is not compared");
    }

    #[test]
    fn each_kind_of_change_shows() {
        let base = two_scrapes(1000, 2f64.to_bits());
        let reference = lines(&case(), &base, 0, 77);
        let changed = |change: &dyn Fn(&mut Vec<Sample>)| {
            let mut samples = base.clone();
            change(&mut samples);
            difference(&reference, &lines(&case(), &samples, 0, 77))
        };
        assert_eq!(changed(&|_| ()), Vec::<String>::new());
        assert_eq!(changed(&|s| s[3].value_bits = (-2f64).to_bits()).len(), 2);
        assert_eq!(changed(&|s| s[3].value_bits = STALE_BITS).len(), 2);
        assert_eq!(changed(&|s| drop(s.remove(3))).len(), 1);
        assert_eq!(changed(&|s| s.push(s[3].clone())).len(), 1);
        assert_eq!(changed(&|s| s[3].timestamp_ms += 1).len(), 2);
        let renamed = |s: &mut Vec<Sample>| s[3] = sample("y", 2000, s[3].value_bits);
        assert_eq!(changed(&renamed).len(), 2);
    }

    #[test]
    fn going_back_in_time_shows() {
        let mut samples = two_scrapes(1000, 2f64.to_bits());
        assert!(disorder(&case(), &samples, 0).is_empty());
        samples.swap(1, 3);
        assert_eq!(disorder(&case(), &samples, 0).len(), 1);
    }
}
