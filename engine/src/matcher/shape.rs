//! A target's labels + rules -> what of them a series can depend on.

use crate::config::model::ScrapeRules;
use crate::labels::Value;
use ringscrape_wal::definition::Target;

/// The sorted names of a target's labels, with the values of those that a rule can read. Targets
/// of one shape share blocks, templates and layouts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Sorted by name: text where a metric relabel rule can read or copy the label, else a hole.
    pub(crate) labels: Box<[(Box<str>, Value)]>,
}

impl Shape {
    /// The shape of `target` under `rules`.
    pub(crate) fn of(target: &Target, rules: &ScrapeRules) -> Self {
        let labels = target
            .labels
            .iter()
            .enumerate()
            .map(|(index, (name, value))| {
                let value = match u16::try_from(index) {
                    Ok(index) if !rules.metric_relabel_configs.reads(name) => Value::Target(index),
                    _ => Value::Text(value.as_ref().to_owned()),
                };
                (name.clone(), value)
            });
        Self {
            labels: labels.collect(),
        }
    }

    /// The indices of the labels that are holes, rising.
    pub(crate) fn holes(&self) -> impl Iterator<Item = u16> + '_ {
        self.labels.iter().filter_map(|(_, value)| match value {
            Value::Target(index) => Some(*index),
            Value::Text(_) => None,
        })
    }
}
