//! Stored configurations -> which of them has a job of which name.
//!
//! Kept from one question to the next, so that only what changed is read again.

use super::Validate;
use crate::service::claims::{Claims, difference};
use crate::service::store::{Configs, StoredConfig};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which configuration has which jobs.
#[derive(Debug, Default)]
pub(super) struct JobIndex {
    /// By whose rules the texts were read.
    rules: Option<Arc<dyn Validate>>,
    known: BTreeMap<Arc<str>, Known>,
    /// More than one has a job if two nodes stored them at once.
    claims: Claims,
}

#[derive(Debug)]
struct Known {
    text: Arc<str>,
    /// None if the rules refuse it: it runs nowhere.
    jobs: Vec<String>,
}

impl Known {
    fn job_names(&self) -> impl Iterator<Item = &str> {
        self.jobs.iter().map(String::as_str)
    }
}

impl JobIndex {
    /// Takes what is stored now.
    pub(super) fn update(&mut self, configs: &Configs, rules: &Arc<dyn Validate>) {
        let are_same = (self.rules.as_ref()).is_some_and(|have| Arc::ptr_eq(have, rules));
        if !are_same {
            *self = Self {
                rules: Some(rules.clone()),
                ..Self::default()
            };
        }
        let is_same = |known: &Known, stored: &Arc<StoredConfig>| known.text == stored.text;
        let found = difference(&self.known, &configs.by_name, is_same);
        for name in &found.gone {
            self.forget(name);
        }
        for (name, stored) in found.fresh {
            self.forget(name);
            let known = Known {
                text: stored.text.clone(),
                jobs: rules.jobs(name, &stored.text).unwrap_or_default(),
            };
            self.claims.add(name, known.job_names());
            self.known.insert(name.clone(), known);
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(known) = self.known.remove(name) {
            self.claims.remove(name, known.job_names());
        }
    }

    /// The configurations that have the job, by name.
    pub(super) fn holders(&self, job: &str) -> impl Iterator<Item = &Arc<str>> {
        self.claims.holders(job)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Lines, configs};
    use super::*;

    fn holders(index: &JobIndex, job: &str) -> Vec<String> {
        index.holders(job).map(|name| name.to_string()).collect()
    }

    #[test]
    fn only_what_changed_is_read_again() {
        let lines = Arc::new(Lines::default());
        let rules: Arc<dyn Validate> = lines.clone();
        let mut index = JobIndex::default();
        let mut stored = configs(&[("a", "x\ny"), ("b", "z")]);
        index.update(&stored, &rules);
        assert_eq!(
            (holders(&index, "y"), lines.asked()),
            (vec!["a".to_owned()], 2)
        );
        index.update(&stored, &rules);
        assert_eq!(lines.asked(), 2);

        let changed = configs(&[("a", "x\nz")]).by_name.remove("a").unwrap();
        stored.by_name.insert("a".into(), changed);
        index.update(&stored, &rules);
        assert_eq!(
            (holders(&index, "z"), lines.asked()),
            (vec!["a".into(), "b".into()], 3)
        );
        assert!(holders(&index, "y").is_empty());
        stored.by_name.remove("b");
        index.update(&stored, &rules);
        assert_eq!(holders(&index, "z"), ["a"]);

        let other: Arc<dyn Validate> = Arc::new(Lines::default());
        index.update(&stored, &other);
        assert_eq!(holders(&index, "x"), ["a"], "other rules read all anew");
    }

    #[test]
    fn what_the_rules_refuse_has_no_jobs() {
        let rules: Arc<dyn Validate> = Arc::new(Lines::default());
        let mut index = JobIndex::default();
        index.update(&configs(&[("a", "x\nbad")]), &rules);
        assert!(holders(&index, "x").is_empty());
    }
}
