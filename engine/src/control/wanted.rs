//! The file and what is stored -> all that is to run, or what a change of some stored
//! configurations makes of it.

use super::Control;
use super::jobs::Configured;
use super::routes::Routes;
use crate::clock;
use crate::config::{Config, Endpoint, ScrapeConfig};
use crate::discovery::Discovery;
use crate::service::apply::{Catalog, Known};
use ringscrape_wal::definition::Route;
use std::collections::HashSet;
use std::sync::Arc;

/// What is to run: of the file and all stored configurations, or of some of these.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) jobs: Vec<Configured>,
    pub(super) scrape_configs: Vec<Arc<ScrapeConfig>>,
    /// Those of stored configurations.
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    /// To these endpoints and those of the file.
    pub(super) routes: Vec<Arc<Route>>,
}

impl Wanted {
    /// The jobs of the file and of all that is stored.
    pub(super) fn of(config: &Config, catalog: Option<&Catalog>, routes: &mut Routes) -> Self {
        let mut wanted = Self::default();
        let route = routes.of(&config.remote_write);
        wanted.add(None, &config.scrape_configs, route);
        for (name, known) in catalog.iter().flat_map(|catalog| catalog.known()) {
            wanted.add_stored(name, known, routes);
        }
        wanted
    }

    /// The jobs of these stored configurations, as far as they are there and run.
    pub(super) fn of_stored(catalog: &Catalog, names: &[Arc<str>], routes: &mut Routes) -> Self {
        let mut wanted = Self::default();
        for name in names {
            if let Some((name, known)) = catalog.known().get_key_value(name) {
                wanted.add_stored(name, known, routes);
            }
        }
        wanted
    }

    fn add_stored(&mut self, name: &Arc<str>, known: &Known, routes: &mut Routes) {
        if let Some(instance) = known.running() {
            let route = routes.of(&instance.endpoints);
            self.endpoints.extend(instance.endpoints.iter().cloned());
            self.add(Some(name), &instance.scrape_configs, route);
        }
    }

    fn add(&mut self, of: Option<&Arc<str>>, configs: &[Arc<ScrapeConfig>], route: Arc<Route>) {
        for (nth, config) in configs.iter().enumerate() {
            self.jobs.push(Configured {
                config: config.clone(),
                route: route.clone(),
                of: of.cloned(),
                nth,
            });
            self.scrape_configs.push(config.clone());
        }
        self.routes.push(route);
    }
}

impl Control {
    /// All that is to run now.
    pub(super) fn wanted(&mut self) -> Wanted {
        let catalog = self.service.as_ref().map(|service| &service.catalog);
        Wanted::of(&self.config, catalog, &mut self.routes)
    }

    /// What is to run of these stored configurations, which are all that changed, and in nothing
    /// but their jobs. `None`: there are other endpoints, too.
    pub(super) fn wanted_of(&mut self, names: &[Arc<str>]) -> Option<Wanted> {
        let catalog = &self.service.as_ref()?.catalog;
        let wanted = Wanted::of_stored(catalog, names, &mut self.routes);
        self.routes.are_linked(&wanted.routes).then_some(wanted)
    }

    /// Makes the jobs of these stored configurations those that run. All else is not looked at.
    pub(super) async fn apply_stored(
        &mut self,
        names: &[Arc<str>],
        wanted: Wanted,
        discovery: &mut Discovery,
    ) {
        let stays: HashSet<&str> = (wanted.scrape_configs.iter())
            .map(|config| config.job_name.as_str())
            .collect();
        let gone = self.jobs.names_of(names);
        let gone = gone.filter(|job| !stays.contains(job));
        discovery.change(&wanted.scrape_configs, gone);
        for change in (self.jobs).apply_stored(names, &wanted.jobs, clock::now_ms()) {
            self.send(change).await;
        }
        drop(wanted);
        self.routes.sweep();
        self.wish().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::jobs::tests::found;
    use super::super::jobs::{Change, Jobs};
    use super::*;
    use crate::service::instance::InstanceRules;
    use crate::service::store::{Configs, StoredConfig};
    use proptest::prelude::*;
    use ringscrape_cluster::member::Stage;
    use ringscrape_cluster::view::Active;
    use ringscrape_cluster::{Timeline, View};
    use std::collections::BTreeMap;
    use std::path::Path;

    const JOBS: [&str; 5] = ["p", "q", "r", "s", "t"];
    const TARGETS_MAX: u64 = 4;

    /// What happens to a node.
    #[derive(Debug, Clone)]
    enum Step {
        /// A configuration gets these jobs, an interval and a tenant; without jobs it goes.
        Put(usize, Vec<usize>, u64, u64),
        Discovered(usize, usize),
        /// There are so many nodes, from some time on.
        Nodes(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let jobs = prop::collection::vec(0..JOBS.len(), 0..3);
        prop_oneof![
            3 => (0..4_usize, jobs, 1..3_u64, 0..2_u64).prop_map(|(name, jobs, interval, tenant)| {
                Step::Put(name, jobs, interval, tenant)
            }),
            3 => (0..JOBS.len(), 0..4_usize).prop_map(|(job, n)| Step::Discovered(job, n)),
            1 => (0..3_usize).prop_map(Step::Nodes),
        ]
    }

    fn stored(
        name: usize,
        jobs: &[usize],
        interval: u64,
        tenant: u64,
        revision: u64,
    ) -> StoredConfig {
        let job = |job: &usize| {
            let name = JOBS[*job];
            format!("{{job_name: {name}, scrape_interval: {interval}m}}")
        };
        let jobs: Vec<String> = jobs.iter().map(job).collect();
        let (jobs, header) = (jobs.join(", "), format!("{{X-Scope-OrgID: 't{tenant}'}}"));
        let text = format!(
            "scrape_configs: [{jobs}]\nremote_write: [{{url: 'http://r/', headers: {header}}}]"
        );
        StoredConfig {
            name: format!("c{name}").into(),
            text: text.into(),
            revision,
            origin: Default::default(),
        }
    }

    /// What the shards are told, in no order.
    fn told(changes: Vec<Change>) -> Vec<String> {
        let mut told = Vec::new();
        for (removed, added) in changes.into_iter().flatten() {
            told.extend(
                removed
                    .iter()
                    .map(|one| format!("{} {:?}", one.key, one.series)),
            );
            told.extend(added.iter().map(|one| {
                let (key, endpoints) = (one.target.key.0, &one.route.endpoints);
                let interval_ms = one.target.interval_ms;
                let (forced, slots) = (&one.forced_error, &one.slots);
                format!("{key} {interval_ms} {endpoints:?} {forced:?} {slots:?}")
            }));
        }
        told.sort_unstable();
        told
    }

    fn timeline(nodes: usize, jobs: &Jobs, now_ms: i64) -> Option<Arc<Timeline>> {
        let active = |node: usize| Active {
            name: format!("n{node}").into(),
            zone: "".into(),
            stage: Stage {
                from_ms: 0,
                is_active: true,
                weight: 1,
                jobs: jobs.job_versions(),
                heavy: [].into(),
            },
        };
        let view = Arc::new(View::new((0..nodes).map(active).collect()));
        let views = vec![(now_ms - 1_000, Arc::default()), (now_ms + 1_000, view)];
        (nodes > 0).then(|| Arc::new(Timeline::new("n0".into(), views)))
    }

    proptest! {
        /// A node that plans what changed tells its shards what one tells that plans all anew each
        /// time, looks for the same targets, and shows the same.
        #[test]
        fn a_part_makes_what_a_rebuild_makes(steps in prop::collection::vec(step(), 1..25)) {
            let file = "scraping_service: {enabled: true, kvstore: {store: local}}\n\
                        scrape_configs: [{job_name: own}, {job_name: too}]\n\
                        remote_write: [{url: 'http://f/'}]";
            let config = Config::parse(Path::new("/r.yml"), file, &|_| None).unwrap();
            let settings = config.scraping_service.clone().unwrap();
            let mut catalog = Catalog::new(InstanceRules::new(&config, &settings, BTreeMap::new()));
            let mut configs = Configs::default();
            let (mut part, mut all) = (Jobs::new(2), Jobs::new(2));
            let (mut routes, mut all_routes) = (Routes::default(), Routes::default());
            let mut sources = BTreeMap::new();
            let first = Wanted::of(&config, Some(&catalog), &mut routes);
            for jobs in [&mut part, &mut all] {
                jobs.apply(&first.jobs, TARGETS_MAX, 0);
            }
            let named = |config: &Arc<ScrapeConfig>| (config.job_name.clone(), config.clone());
            sources.extend(first.scrape_configs.iter().map(named));
            for (now_ms, step) in (1..).map(|n| n * 700).zip(steps) {
                let (of_part, of_all) = match step {
                    Step::Put(name, mut jobs, interval, tenant) => {
                        jobs.sort_unstable();
                        jobs.dedup();
                        configs.revision += 1;
                        let one = stored(name, &jobs, interval, tenant, configs.revision);
                        match jobs.is_empty() {
                            true => drop(configs.by_name.remove(&one.name)),
                            false => drop(configs.by_name.insert(one.name.clone(), one.into())),
                        }
                        let changed = catalog.take(&configs);
                        let some = Wanted::of_stored(&catalog, &changed, &mut routes);
                        for job in part.names_of(&changed) {
                            sources.remove(job);
                        }
                        sources.extend(some.scrape_configs.iter().map(named));
                        let of_part = part.apply_stored(&changed, &some.jobs, now_ms);
                        routes.sweep();
                        let wanted = Wanted::of(&config, Some(&catalog), &mut all_routes);
                        let of_all = all.apply(&wanted.jobs, TARGETS_MAX, now_ms);
                        let expected = wanted.scrape_configs.iter().map(named);
                        prop_assert_eq!(&sources, &expected.collect::<BTreeMap<_, _>>());
                        (of_part, of_all)
                    }
                    Step::Discovered(job, n) => {
                        let update = || found(JOBS[job], n);
                        (part.update(update(), now_ms), all.update(update(), now_ms))
                    }
                    Step::Nodes(nodes) => {
                        let timeline = timeline(nodes, &part, now_ms);
                        let of_part = part.set_timeline(timeline.clone(), now_ms);
                        (of_part, all.set_timeline(timeline, now_ms))
                    }
                };
                prop_assert_eq!(told(of_part), told(of_all));
                prop_assert_eq!(part.names(), all.names());
                prop_assert_eq!(part.job_versions(), all.job_versions());
                let figures = |jobs: &Jobs| -> Vec<(String, usize)> {
                    let figures = jobs.figures().into_iter();
                    let mut figures: Vec<_> = figures.map(|one| (one.name, one.active)).collect();
                    figures.sort_unstable();
                    figures
                };
                prop_assert_eq!(figures(&part), figures(&all));
                for name in ["c0", "c1", "c2", "c3"] {
                    let keys = |jobs: &Jobs| {
                        let mut keys: Vec<u64> = jobs.keys_of(name).collect();
                        keys.sort_unstable();
                        keys
                    };
                    prop_assert_eq!(keys(&part), keys(&all));
                }
            }
        }
    }
}
