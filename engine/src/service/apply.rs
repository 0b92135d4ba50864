//! What the store holds -> which configurations run, and why the others do not.
//!
//! Pure. Kept from one state of the store to the next, so that only what changed is read again and
//! unchanged jobs are the same `Arc`s.

use super::claims::{Claims, difference};
use super::instance::{Instance, InstanceRules};
use super::reader::{Read, Reader};
use super::store::{Configs, StoredConfig};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// All stored configurations, read by the node's rules.
#[derive(Debug)]
pub struct Catalog {
    reader: Arc<Reader>,
    revision: u64,
    known: BTreeMap<Arc<str>, Known>,
    /// The jobs of those that can be read.
    claims: Claims,
    /// Those with a conflict.
    refused: BTreeSet<Arc<str>>,
}

/// One stored configuration.
#[derive(Debug, Clone)]
pub struct Known {
    /// As it is stored.
    pub stored: Arc<StoredConfig>,
    /// What it holds, or what is wrong with it.
    pub read: Read,
    /// Why it does not run although it can be read.
    pub conflict: Option<String>,
}

impl Known {
    /// What runs of it.
    pub fn running(&self) -> Option<&Arc<Instance>> {
        match (&self.read, &self.conflict) {
            (Ok(instance), None) => Some(instance),
            _ => None,
        }
    }

    /// Why it does not run; empty: it does.
    pub fn refusals(&self) -> Vec<String> {
        let conflict = self.conflict.clone();
        let wrong = self.read.as_ref().err().map(|all| all.to_vec());
        wrong
            .unwrap_or_default()
            .into_iter()
            .chain(conflict)
            .collect()
    }

    /// The names of its jobs, whether they run or not.
    fn job_names(&self) -> impl Iterator<Item = &str> {
        self.read.iter().flat_map(|instance| instance.job_names())
    }
}

impl Catalog {
    /// Nothing is stored yet.
    pub fn new(rules: InstanceRules) -> Self {
        Self {
            reader: Arc::new(Reader::new(rules)),
            revision: 0,
            known: BTreeMap::new(),
            claims: Claims::default(),
            refused: BTreeSet::new(),
        }
    }

    /// What reads texts by the rules in force; the same `Arc` as long as they are.
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// The revision of the store that was taken last.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// By name.
    pub fn known(&self) -> &BTreeMap<Arc<str>, Known> {
        &self.known
    }

    /// Takes over other rules: everything is read again, unless they are equal.
    pub fn set_rules(&mut self, rules: InstanceRules) {
        if *self.reader.rules() == rules {
            return;
        }
        self.reader = Arc::new(Reader::new(rules));
        self.claims = Claims::default();
        for (name, known) in &mut self.known {
            let read = self.reader.take(name, &known.stored.text);
            known.read = same_or(&known.read, read);
            self.claims.add(name, known.job_names());
        }
        self.settle();
    }

    /// Takes over what is stored now. Returns the names of configurations that are new, changed or
    /// gone, or begin or cease to run.
    pub fn take(&mut self, configs: &Configs) -> Vec<Arc<str>> {
        self.revision = configs.revision;
        let is_same = |known: &Known, stored: &_| Arc::ptr_eq(&known.stored, stored);
        let found = difference(&self.known, &configs.by_name, is_same);
        let mut changed = found.gone;
        for name in &changed {
            self.reader.forget(name);
            if let Some(known) = self.known.remove(name) {
                self.claims.remove(name, known.job_names());
            }
        }
        for (name, stored) in found.fresh {
            if let Some(known) = self.known.get_mut(name) {
                let is_same_text = known.stored.text == stored.text;
                known.stored = stored.clone();
                if is_same_text {
                    continue;
                }
                self.claims.remove(name, known.job_names());
                known.read = self.reader.take(name, &stored.text);
                self.claims.add(name, known.job_names());
            } else {
                let known = Known {
                    stored: stored.clone(),
                    read: self.reader.take(name, &stored.text),
                    conflict: None,
                };
                self.claims.add(name, known.job_names());
                self.known.insert(name.clone(), known);
            }
            changed.push(name.clone());
        }
        changed.extend(self.settle());
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// Says anew who is refused because of a job's name. Who has no job of another's name decides
    /// nothing and is not looked at. Returns the names of those for which the answer has changed.
    fn settle(&mut self) -> Vec<Arc<str>> {
        let contenders = self.claims.contenders();
        let contenders = contenders.iter().filter_map(|name| {
            let (name, known) = self.known.get_key_value(name)?;
            Some((name, known))
        });
        let conflicts = conflicts(contenders);
        let before = std::mem::take(&mut self.refused);
        self.refused = conflicts.keys().cloned().collect();
        let mut changed = Vec::new();
        for name in before.union(&self.refused) {
            let Some(known) = self.known.get_mut(name) else {
                continue;
            };
            let conflict = conflicts.get(name).cloned();
            if conflict.is_some() != known.conflict.is_some() {
                changed.push(name.clone());
            }
            known.conflict = conflict;
        }
        changed
    }
}

/// Which of several that have a job of one name is refused as a whole, and why: the one that was
/// stored first keeps the job, then the lower name. Equal on all nodes.
fn conflicts<'a>(
    all: impl Iterator<Item = (&'a Arc<str>, &'a Known)>,
) -> HashMap<Arc<str>, String> {
    let readable = all.filter_map(|(name, known)| {
        let instance = known.read.as_ref().ok()?;
        Some((known.stored.revision, name, instance))
    });
    let mut in_order: Vec<(u64, &Arc<str>, &Arc<Instance>)> = readable.collect();
    in_order.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    let mut holders = HashMap::<&str, &Arc<str>>::with_capacity(in_order.len());
    let mut conflicts = HashMap::new();
    for (_, name, instance) in in_order {
        let taken = instance
            .job_names()
            .find_map(|job| holders.get(job).map(|holder| (job, *holder)));
        if let Some((job, holder)) = taken {
            let reason =
                format!("job name {job:?} is taken by the stored configuration {holder:?}");
            conflicts.insert(name.clone(), reason);
            continue;
        }
        for job in instance.job_names() {
            if let Entry::Vacant(vacant) = holders.entry(job) {
                vacant.insert(name);
            }
        }
    }
    conflicts
}

/// What was read before, if it is the same: its jobs go on undisturbed.
fn same_or(before: &Read, fresh: Read) -> Read {
    match *before == fresh {
        true => before.clone(),
        false => fresh,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::service::settings::ServiceSettings;
    use proptest::prelude::*;
    use std::path::Path;

    fn rules(file: &str) -> InstanceRules {
        let text = format!(
            "scraping_service: {{enabled: true, kvstore: {{store: local}}}}\nscrape_configs: {file}"
        );
        let config = Config::parse(Path::new("/r.yml"), &text, &|_| None).unwrap();
        let settings: &ServiceSettings = config.scraping_service.as_ref().unwrap();
        InstanceRules::new(&config, settings, BTreeMap::new())
    }

    fn text(jobs: &[&str]) -> String {
        let jobs: Vec<String> = jobs
            .iter()
            .map(|job| format!("{{job_name: {job}}}"))
            .collect();
        format!("scrape_configs: [{}]", jobs.join(", "))
    }

    fn configs(stored: &[(&str, u64, String)]) -> Configs {
        let config = |(name, revision, text): &(&str, u64, String)| {
            let name: Arc<str> = Arc::from(*name);
            let stored = StoredConfig {
                name: name.clone(),
                text: text.as_str().into(),
                revision: *revision,
                origin: Default::default(),
            };
            (name, Arc::new(stored))
        };
        Configs {
            revision: stored.iter().map(|one| one.1).max().unwrap_or(0),
            by_name: stored.iter().map(config).collect(),
        }
    }

    fn names(all: &[Arc<str>]) -> Vec<&str> {
        all.iter().map(|name| &**name).collect()
    }

    #[test]
    fn only_what_changed_is_read_again() {
        let mut catalog = Catalog::new(rules("[]"));
        let a = ("a", 1, text(&["j"]));
        let first = configs(&[a.clone(), ("b", 2, text(&["k"]))]);
        assert_eq!(names(&catalog.take(&first)), ["a", "b"]);
        assert!(catalog.take(&first).is_empty());
        let jobs = |catalog: &Catalog, name: &str| catalog.known()[name].running().cloned();
        let before = jobs(&catalog, "a").unwrap();
        // Read from the store anew: equal texts, other `Arc`s.
        let second = configs(&[a.clone(), ("c", 3, text(&["l"]))]);
        assert_eq!(names(&catalog.take(&second)), ["b", "c"]);
        assert!(Arc::ptr_eq(&before, &jobs(&catalog, "a").unwrap()));
        assert!(!catalog.known().contains_key("b"));
        catalog.set_rules(rules("[{job_name: x}]"));
        assert!(Arc::ptr_eq(&before, &jobs(&catalog, "a").unwrap()));
        catalog.set_rules(rules("[{job_name: j}]"));
        let refusals = catalog.known()["a"].refusals();
        assert!(refusals[0].contains("the node's file"), "{refusals:?}");
    }

    #[test]
    fn a_job_name_is_kept_by_who_came_first_and_freed_when_that_goes() {
        let mut catalog = Catalog::new(rules("[]"));
        let b = ("b", 1, text(&["j"]));
        let a = ("a", 2, text(&["j", "k"]));
        let c = ("c", 3, text(&["k"]));
        catalog.take(&configs(&[a.clone(), b, c.clone()]));
        let runs = |catalog: &Catalog| -> Vec<String> {
            let known = catalog.known().iter();
            let running = known.filter(|(_, known)| known.running().is_some());
            running.map(|(name, _)| name.to_string()).collect()
        };
        assert_eq!(runs(&catalog), ["b", "c"], "what is refused holds no name");
        let refusals = catalog.known()["a"].refusals();
        assert_eq!(
            refusals,
            ["job name \"j\" is taken by the stored configuration \"b\""]
        );
        assert_eq!(names(&catalog.take(&configs(&[a, c]))), ["a", "b", "c"]);
        assert_eq!(runs(&catalog), ["a"]);
    }

    proptest! {
        /// Whatever the way to a state of the store: all nodes run the same, no job runs twice, and
        /// who is refused is what a look at all configurations says.
        #[test]
        fn what_runs_is_a_function_of_what_is_stored(
            steps in prop::collection::vec(
                (0..4_usize, prop::collection::vec(0..5_usize, 0..3), any::<bool>()),
                1..12,
            )
        ) {
            let mut stored = BTreeMap::<&str, (u64, String)>::new();
            let mut catalog = Catalog::new(rules("[]"));
            let mut before = BTreeMap::<Arc<str>, (u64, Vec<String>)>::new();
            for (revision, (name, jobs, is_good)) in steps.into_iter().enumerate() {
                let name = ["a", "b", "c", "d"][name];
                let mut jobs: Vec<&str> = jobs.iter().map(|n| ["p", "q", "r", "s", "t"][*n]).collect();
                jobs.dedup();
                let revision = revision as u64 + 1;
                match (jobs.is_empty(), is_good) {
                    (true, true) => stored.remove(name),
                    (true, false) => stored.insert(name, (revision, "bad: 1".to_owned())),
                    (false, _) => stored.insert(name, (revision, text(&jobs))),
                };
                let all: Vec<_> = stored.iter().map(|(n, (r, t))| (*n, *r, t.clone())).collect();
                let state = configs(&all);
                let changed = catalog.take(&state);
                let refused = conflicts(catalog.known().iter());
                let mut taken = BTreeSet::new();
                for (name, known) in catalog.known() {
                    prop_assert_eq!(known.conflict.as_ref(), refused.get(name));
                    for job in known.running().iter().flat_map(|one| one.job_names()) {
                        prop_assert!(taken.insert(job.to_owned()));
                    }
                }
                prop_assert_eq!(catalog.known().len(), stored.len());
                // Of what differs, every name is told.
                let now: BTreeMap<Arc<str>, (u64, Vec<String>)> = catalog
                    .known()
                    .iter()
                    .map(|(name, known)| {
                        let running = known.running().into_iter();
                        let jobs = running.flat_map(|one| one.job_names().map(str::to_owned));
                        (name.clone(), (u64::from(known.read.is_ok()), jobs.collect()))
                    })
                    .collect();
                for name in before.keys().chain(now.keys()) {
                    if before.get(name) != now.get(name) {
                        prop_assert!(changed.contains(name), "{name} of {changed:?}");
                    }
                }
                before = now;
            }
        }
    }
}
