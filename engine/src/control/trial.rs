//! Many stored configurations -> what a change of one, or of the members, costs the control loop:
//! for benchmarks. Nothing else calls it.

use super::jobs::{Change, Jobs};
use super::routes::Routes;
use super::service::Wanted;
use crate::config::Config;
use crate::discovery::{JobUpdate, TargetGroup};
use crate::labels::Labels;
use crate::service::apply::Catalog;
use crate::service::instance::InstanceRules;
use crate::service::store::{Configs, StoredConfig};
use ringscrape_cluster::member::Stage;
use ringscrape_cluster::view::Active;
use ringscrape_cluster::{Timeline, View};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const FILE: &str = "scraping_service: {enabled: true, kvstore: {store: local}}
remote_write: [{url: 'http://receiver/'}]
";
const SHARDS: usize = 4;

/// A node with stored configurations, each a job with targets and an endpoint.
pub struct ConfigTrial {
    config: Config,
    configs: Configs,
    catalog: Catalog,
    routes: Routes,
    jobs: Jobs,
    now_ms: i64,
}

impl std::fmt::Debug for ConfigTrial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigTrial").finish_non_exhaustive()
    }
}

impl ConfigTrial {
    /// All of it applied, on one of `nodes` nodes.
    ///
    /// # Panics
    /// BUG: the texts are no configurations.
    #[allow(clippy::expect_used)]
    pub fn new(configs: usize, targets_of_each: usize, nodes: usize) -> Self {
        let config = Config::parse(Path::new("/r.yml"), FILE, &|_| None).expect("BUG: the file");
        let settings = config.scraping_service.clone().expect("BUG: no service");
        let rules = InstanceRules::new(&config, &settings, BTreeMap::new());
        let mut trial = Self {
            config,
            configs: Configs::default(),
            catalog: Catalog::new(Arc::new(rules)),
            routes: Routes::default(),
            jobs: Jobs::new(SHARDS),
            now_ms: 0,
        };
        for index in 0..configs {
            trial.store(index, 60);
        }
        trial.apply();
        for index in 0..configs {
            let address = |n| Labels::from_pairs([("__address__", format!("h{index}-{n}:1"))]);
            let update = JobUpdate {
                job_name: format!("job-{index}"),
                groups: vec![Arc::new(TargetGroup {
                    source: "0".to_owned(),
                    targets: (0..targets_of_each).map(address).collect(),
                    labels: Labels::default(),
                })],
                complete: true,
            };
            trial.jobs.update(update, trial.now_ms);
        }
        trial.reshard(nodes);
        trial
    }

    fn store(&mut self, index: usize, interval_s: u64) {
        let name: Arc<str> = format!("config-{index}").into();
        self.configs.revision += 1;
        let text = format!(
            "scrape_configs: [{{job_name: job-{index}, scrape_interval: {interval_s}s}}]
remote_write: [{{url: 'http://receiver/', headers: {{X-Scope-OrgID: '{}'}}}}]
",
            index % 100
        );
        let stored = StoredConfig {
            name: name.clone(),
            text: text.into(),
            revision: self.configs.revision,
            origin: Default::default(),
        };
        self.configs.by_name.insert(name, Arc::new(stored));
    }

    fn apply(&mut self) -> usize {
        self.now_ms += 1;
        self.catalog.take(&self.configs);
        let wanted = Wanted::of(&self.config, Some(&self.catalog), &mut self.routes);
        let changes = self.jobs.apply(&wanted.jobs, 0, self.now_ms);
        drop(wanted);
        self.routes.sweep();
        told(&changes)
    }

    /// Another text of one configuration comes from the store and is applied. Returns how many
    /// targets the shards are told of.
    pub fn put(&mut self, index: usize) -> usize {
        let interval_s = 60 + self.configs.revision % 7;
        self.store(index, interval_s);
        self.apply()
    }

    /// The names of all configurations, as one text.
    pub fn list(&self) -> String {
        let names: Vec<&str> = self.catalog.known().keys().map(|name| &**name).collect();
        names.join("\n")
    }

    /// From now on there are `nodes` nodes that have agreed on all jobs. Returns how many targets
    /// the shards are told of.
    pub fn reshard(&mut self, nodes: usize) -> usize {
        self.now_ms += 1;
        let jobs = self.jobs.job_versions();
        let active = |node| Active {
            name: format!("node-{node}").into(),
            zone: "".into(),
            stage: Stage {
                from_ms: 0,
                is_active: true,
                weight: 1,
                jobs: jobs.clone(),
                heavy: [].into(),
            },
        };
        let view = View::new((0..nodes).map(active).collect());
        let timeline = Timeline::new("node-0".into(), vec![(self.now_ms, Arc::new(view))]);
        let timeline = Some(Arc::new(timeline));
        told(&self.jobs.set_timeline(timeline, self.now_ms))
    }
}

fn told(changes: &[Change]) -> usize {
    let of_shards = changes.iter().flatten();
    of_shards
        .map(|(removed, added)| removed.len() + added.len())
        .sum()
}
