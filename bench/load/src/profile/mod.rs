//! A profile name and a series count -> the families and label sets that one target exposes.
//!
//! Label values have the lengths of the real programs; which values they get is a function of their
//! position alone, so every run of the same size exposes the same text.

mod busy;
mod ksm;
mod node;

use clap::ValueEnum;

/// What the targets of a fleet look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// A machine exporter: short label sets, about half of the values change from scrape to scrape.
    Node,
    /// An object state exporter: long label sets, 0.5 % of the values change.
    Ksm,
    /// An instrumented service: long label values, 95 % of the values change, all of them floats
    /// with all their digits.
    Busy,
    /// Like `node`, with a part of the series replaced by new ones from scrape to scrape.
    Churn,
}

/// Metric type of a family, as its `# TYPE` line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Untyped,
}

/// One series: its full name (with `_bucket` and the like) and its labels in exposed order.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(&'static str, String)>,
}

/// One family: what the comments say and its samples in exposed order.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    pub(crate) samples: Vec<Sample>,
}

/// The families of one target with exactly `series` samples (at least 1) in all.
pub(crate) fn families(profile: Profile, series: usize) -> Vec<Family> {
    match profile {
        Profile::Node | Profile::Churn => fit(series, node::families),
        Profile::Ksm => fit(series, ksm::families),
        Profile::Busy => fit(series, busy::families),
    }
}

/// Finds the smallest number of dimension values (disks, processors, pods) that yields enough
/// series
/// and takes the surplus off the family that has most.
fn fit(series: usize, make: impl Fn(usize) -> Vec<Family>) -> Vec<Family> {
    let total = |families: &[Family]| families.iter().map(|f| f.samples.len()).sum::<usize>();
    // Every family grows about linearly with its dimension, so two probes give a good first guess.
    let (one, nine) = (total(&make(1)), total(&make(9)));
    let slope = ((nine - one) / 8).max(1);
    let mut size = (series.saturating_sub(one) / slope).max(1);
    let mut families = make(size);
    while total(&families) < series {
        size += 1;
        families = make(size);
    }
    let mut surplus = total(&families) - series;
    while surplus > 0 {
        let largest = families
            .iter_mut()
            .max_by_key(|family| family.samples.len())
            .expect("BUG: a profile has families");
        let cut = (largest.samples.len() / 2).clamp(1, surplus);
        largest.samples.truncate(largest.samples.len() - cut);
        surplus -= cut;
    }
    families.retain(|family| !family.samples.is_empty());
    families
}

/// Spreads small positions over 64 bits: names that look random but are the same in each run.
/// Source: the increment and finaliser of splitmix64.
pub(crate) fn scatter(position: u64) -> u64 {
    crate::scheme::identity(position.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn exact_counts_and_no_series_twice() {
        for profile in [Profile::Node, Profile::Ksm, Profile::Churn, Profile::Busy] {
            for series in [1, 3, 50, 100, 498, 1000, 5000] {
                let families = families(profile, series);
                let mut seen = HashSet::new();
                for sample in families.iter().flat_map(|f| &f.samples) {
                    let mut labels = sample.labels.clone();
                    labels.sort();
                    assert!(
                        labels.iter().all(|(_, value)| !value.is_empty()),
                        "{}",
                        sample.name
                    );
                    assert!(
                        labels.windows(2).all(|pair| pair[0].0 != pair[1].0),
                        "label twice in {}",
                        sample.name
                    );
                    assert!(
                        seen.insert((sample.name.clone(), labels)),
                        "{profile:?} has {} twice",
                        sample.name
                    );
                }
                assert_eq!(seen.len(), series, "{profile:?}");
            }
        }
    }

    #[test]
    fn names_fit_their_families() {
        for profile in [Profile::Node, Profile::Ksm, Profile::Busy] {
            for family in families(profile, 3000) {
                assert!(!family.help.contains(['\n', '\\']), "{}", family.name);
                assert_eq!(
                    family.kind == Kind::Counter,
                    family.name.ends_with("_total")
                );
                for sample in &family.samples {
                    assert!(sample.name.starts_with(family.name), "{}", sample.name);
                }
            }
        }
    }
}
