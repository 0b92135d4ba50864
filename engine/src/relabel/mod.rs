//! Relabelling rules, compiled once: labels -> labels, or dropped.
//!
//! Source of the semantics: Prometheus model/relabel/relabel.go. Deviation: if `labelmap` maps two
//! names to one, the later name in byte order wins here; there it depends on the order in which
//! labels were set, which for discovered labels is random.

mod case;
mod re2;
mod rule;
mod template;
#[cfg(test)]
mod tests;

pub(crate) use rule::with_regex_bytes_max;
pub use rule::{Action, RuleConfig};

use crate::labels::LabelsBuilder;
use rule::Rule;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Relabelling rules in the order of the configuration. Cheap to clone; equal if configured
/// equally, so that what was derived under rules can be kept across reloads.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// `None`: no rules.
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    /// Of the configuration's text, for quick comparison; valid in this process only.
    hash: u64,
    rules: Vec<Rule>,
}

/// What relabelling decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The labels, possibly changed, are kept.
    Keep,
    /// The target or series is dropped.
    Drop,
}

/// A rule that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {}: {cause}", index + 1)]
pub struct RuleError {
    /// Index of the rule.
    pub index: usize,
    /// What is wrong with it, naming the field.
    pub cause: String,
}

impl Rules {
    /// Validates and compiles rules.
    ///
    /// # Errors
    /// The first rule that Prometheus would refuse, or whose expression is too large to compile.
    pub fn new(configs: Vec<RuleConfig>) -> Result<Self, RuleError> {
        if configs.is_empty() {
            return Ok(Self::default());
        }
        let mut hasher = std::hash::DefaultHasher::new();
        configs.hash(&mut hasher);
        let rules = configs
            .into_iter()
            .enumerate()
            .map(|(index, config)| Rule::new(config).map_err(|cause| RuleError { index, cause }));
        let inner = Inner {
            hash: hasher.finish(),
            rules: rules.collect::<Result<_, _>>()?,
        };
        Ok(Self {
            inner: Some(Arc::new(inner)),
        })
    }

    /// Applies all rules in order, each seeing the result of the one before. After `Drop` the
    /// labels are in an unspecified state.
    pub fn apply(&self, labels: &mut LabelsBuilder) -> Verdict {
        for rule in self.rules() {
            if rule.apply(labels) == Verdict::Drop {
                return Verdict::Drop;
            }
        }
        Verdict::Keep
    }

    /// Whether a rule may read or copy the value of label `name` (a source label, the target of
    /// keepequal or dropequal, a name that a labelmap matches). Only labels for which this is
    /// false may be given as holes.
    pub fn reads(&self, name: &str) -> bool {
        self.rules().iter().any(|rule| rule.reads(name))
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.inner.is_none()
    }

    /// The rules as configured, in order.
    pub fn configs(&self) -> impl ExactSizeIterator<Item = &RuleConfig> {
        self.rules().iter().map(|rule| &rule.config)
    }

    fn rules(&self) -> &[Rule] {
        self.inner.as_deref().map_or(&[], |inner| &inner.rules)
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        match (&self.inner, &other.inner) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                Arc::ptr_eq(a, b) || (a.hash == b.hash && self.configs().eq(other.configs()))
            }
            _ => false,
        }
    }
}

impl Eq for Rules {}

impl Hash for Rules {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.inner.as_ref().map_or(0, |inner| inner.hash));
    }
}
