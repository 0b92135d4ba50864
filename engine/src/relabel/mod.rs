//! Relabelling rules, compiled once: labels -> labels, or dropped.
//!
//! Source of the semantics: Prometheus model/relabel/relabel.go.

use crate::labels::LabelsBuilder;

/// Relabelling rules in the order of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Rules {}

/// What relabelling decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The labels, possibly changed, are kept.
    Keep,
    /// The target or series is dropped.
    Drop,
}

impl Rules {
    /// Applies all rules in order, each seeing the result of the one before.
    pub fn apply(&self, _labels: &mut LabelsBuilder) -> Verdict {
        Verdict::Keep
    }

    /// Whether a rule may read or copy the value of label `name` (a source label, the target of
    /// keepequal or dropequal, a name that a labelmap matches). Only labels for which this is
    /// false may be given as holes.
    pub fn reads(&self, _name: &str) -> bool {
        true
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        true
    }
}
