//! Stored configurations and the names of their jobs -> who has which, and which are wanted twice.
//!
//! Pure. Each change costs what it changes, however many there are.

use super::store::StoredConfig;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Which configurations have which jobs.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Names of configurations by job; never empty.
    by_job: HashMap<String, BTreeSet<Arc<str>>>,
    /// The jobs that more than one has.
    contested: HashSet<String>,
}

impl Claims {
    /// The configuration has these jobs.
    pub(crate) fn add<'a>(&mut self, config: &Arc<str>, jobs: impl Iterator<Item = &'a str>) {
        for job in jobs {
            let Some(holders) = self.by_job.get_mut(job) else {
                let holders = BTreeSet::from([config.clone()]);
                self.by_job.insert(job.to_owned(), holders);
                continue;
            };
            holders.insert(config.clone());
            if holders.len() > 1 {
                self.contested.insert(job.to_owned());
            }
        }
    }

    /// It has them no more.
    pub(crate) fn remove<'a>(&mut self, config: &str, jobs: impl Iterator<Item = &'a str>) {
        for job in jobs {
            let Some(holders) = self.by_job.get_mut(job) else {
                continue;
            };
            holders.remove(config);
            if holders.len() < 2 {
                self.contested.remove(job);
            }
            if holders.is_empty() {
                self.by_job.remove(job);
            }
        }
    }

    /// The configurations that have the job, by name.
    pub(crate) fn holders(&self, job: &str) -> impl Iterator<Item = &Arc<str>> {
        self.by_job.get(job).into_iter().flatten()
    }

    /// The configurations that have a job which others have, too. No other one decides who keeps
    /// it.
    pub(crate) fn contenders(&self) -> BTreeSet<Arc<str>> {
        let holders = self.contested.iter().flat_map(|job| self.holders(job));
        holders.cloned().collect()
    }
}

/// What is stored now, compared with what is known of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference<'a> {
    /// Known and not stored any more, by name.
    pub(crate) gone: Vec<Arc<str>>,
    /// Not known, or not as they are, by name.
    pub(crate) fresh: Vec<(&'a Arc<str>, &'a Arc<StoredConfig>)>,
}

/// Walks both once, in the order of names.
pub(crate) fn difference<'a, T>(
    known: &BTreeMap<Arc<str>, T>,
    stored: &'a BTreeMap<Arc<str>, Arc<StoredConfig>>,
    is_same: impl Fn(&T, &Arc<StoredConfig>) -> bool,
) -> Difference<'a> {
    let (mut gone, mut fresh) = (Vec::new(), Vec::new());
    let mut known = known.iter().peekable();
    for (name, config) in stored {
        while let Some((before, _)) = known.next_if(|(before, _)| *before < name) {
            gone.push(before.clone());
        }
        let have = known.next_if(|(before, _)| *before == name);
        if !have.is_some_and(|(_, have)| is_same(have, config)) {
            fresh.push((name, config));
        }
    }
    gone.extend(known.map(|(name, _)| name.clone()));
    Difference { gone, fresh }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(index: u8) -> Arc<str> {
        format!("c{index}").into()
    }

    proptest! {
        /// However they came to have their jobs: who has which is what a look at all says.
        #[test]
        fn claims_are_those_of_all_configurations(
            steps in prop::collection::vec(
                (0..5_u8, prop::collection::btree_set(0..4_u8, 0..3)),
                0..20,
            )
        ) {
            let mut claims = Claims::default();
            let mut all = BTreeMap::<u8, Vec<String>>::new();
            for (config, jobs) in steps {
                let jobs: Vec<String> = jobs.iter().map(|job| format!("j{job}")).collect();
                let before = all.insert(config, jobs.clone()).unwrap_or_default();
                claims.remove(&name(config), before.iter().map(String::as_str));
                claims.add(&name(config), jobs.iter().map(String::as_str));
            }
            let mut contenders = BTreeSet::new();
            for job in ["j0", "j1", "j2", "j3"] {
                let has = |jobs: &Vec<String>| jobs.iter().any(|one| one == job);
                let holders = all.iter().filter(|(_, jobs)| has(jobs));
                let holders: Vec<Arc<str>> = holders.map(|(config, _)| name(*config)).collect();
                prop_assert_eq!(claims.holders(job).cloned().collect::<Vec<_>>(), holders.clone());
                if holders.len() > 1 {
                    contenders.extend(holders);
                }
            }
            prop_assert_eq!(claims.contenders(), contenders);
        }

        #[test]
        fn a_difference_is_what_a_look_at_each_name_finds(
            known in prop::collection::btree_map(0..8_u8, 0..2_u64, 0..8),
            stored in prop::collection::btree_map(0..8_u8, 0..2_u64, 0..8),
        ) {
            let config = |(index, revision): (&u8, &u64)| {
                let stored = StoredConfig {
                    name: name(*index),
                    text: "".into(),
                    revision: *revision,
                    origin: Default::default(),
                };
                (name(*index), Arc::new(stored))
            };
            let now: BTreeMap<Arc<str>, Arc<StoredConfig>> = stored.iter().map(config).collect();
            let before = known.iter().map(|(index, revision)| (name(*index), *revision)).collect();
            let found = difference(&before, &now, |known, stored| *known == stored.revision);
            let gone = known.keys().filter(|index| !stored.contains_key(index));
            let gone: Vec<Arc<str>> = gone.map(|index| name(*index)).collect();
            prop_assert_eq!(found.gone, gone);
            let is_fresh = |(index, revision): &(&u8, &u64)| known.get(index) != Some(revision);
            let fresh = stored.iter().filter(is_fresh);
            let fresh: Vec<Arc<str>> = fresh.map(|(index, _)| name(*index)).collect();
            let found = found.fresh.iter().map(|(name, _)| (*name).clone());
            prop_assert_eq!(found.collect::<Vec<_>>(), fresh);
        }
    }
}
