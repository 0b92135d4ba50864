//! Many stored configurations -> what a request, a change of one, or of the members, costs: for
//! benchmarks. Nothing else calls it.
//!
//! A put goes the whole way but for HTTP and the store's disk or network: validation, the check of
//! job names, what the store makes of it, the catalog, discovery's tasks, the plan of jobs and what
//! the shards are told.

use super::jobs::{Change, Jobs};
use super::routes::Routes;
use super::wanted::Wanted;
use crate::api::configs::trial::{self, Requests};
use crate::config::Config;
use crate::discovery::{Discovery, JobUpdate, TargetGroup};
use crate::labels::Labels;
use crate::service::apply::Catalog;
use crate::service::instance::InstanceRules;
use crate::service::store::{self, Configs, StoredConfig};
use ringscrape_cluster::member::Stage;
use ringscrape_cluster::view::Active;
use ringscrape_cluster::{Timeline, View};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

const FILE: &str = "scraping_service: {enabled: true, kvstore: {store: local}}
remote_write: [{url: 'http://receiver/'}]
";
const SHARDS: usize = 4;
/// Tenants, each an endpoint.
const TENANTS: usize = 100;

/// A node with stored configurations, each a job with targets and an endpoint.
pub struct ConfigTrial {
    /// For discovery's tasks, none of which gets to run.
    runtime: Runtime,
    config: Config,
    configs: Arc<Configs>,
    requests: Requests,
    catalog: Catalog,
    routes: Routes,
    discovery: Discovery,
    jobs: Jobs,
    now_ms: i64,
}

impl std::fmt::Debug for ConfigTrial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigTrial").finish_non_exhaustive()
    }
}

impl ConfigTrial {
    /// All of it stored at once and applied, on one of `nodes` nodes.
    ///
    /// # Panics
    /// BUG: the texts are no configurations.
    #[allow(clippy::expect_used)]
    pub fn new(configs: usize, targets_of_each: usize, nodes: usize) -> Self {
        let config = Config::parse(Path::new("/r.yml"), FILE, &|_| None).expect("BUG: the file");
        let settings = config.scraping_service.clone().expect("BUG: no service");
        let rules = InstanceRules::new(&config, &settings, BTreeMap::new());
        let catalog = Catalog::new(rules);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let mut trial = Self {
            runtime: { runtime }.build().expect("BUG: no runtime"),
            config,
            configs: Arc::default(),
            requests: Requests::new(catalog.reader().clone()),
            catalog,
            routes: Routes::default(),
            discovery: Discovery::new(mpsc::channel(1).0),
            jobs: Jobs::new(SHARDS),
            now_ms: 0,
        };
        let mut all = Configs {
            revision: 1,
            ..Configs::default()
        };
        for index in 0..configs {
            let stored = StoredConfig {
                name: name(index).into(),
                text: text(index, 0).into(),
                revision: 1,
                origin: Default::default(),
            };
            all.by_name.insert(stored.name.clone(), Arc::new(stored));
        }
        trial.configs = Arc::new(all);
        trial.rebuild();
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

    /// All is planned anew, as on a reload. Returns how many targets the shards are told of.
    pub fn rebuild(&mut self) -> usize {
        let _entered = self.runtime.enter();
        self.now_ms += 1;
        self.catalog.take(&self.configs);
        let wanted = Wanted::of(&self.config, Some(&self.catalog), &mut self.routes);
        self.routes.link(&wanted.routes);
        self.discovery.apply(&wanted.scrape_configs);
        let changes = self.jobs.apply(&wanted.jobs, 0, self.now_ms);
        drop(wanted);
        self.routes.sweep();
        told(&changes)
    }

    /// Somebody puts another text of a configuration. Returns how many targets the shards are told
    /// of.
    ///
    /// # Panics
    /// BUG: it is refused.
    #[allow(clippy::expect_used)]
    pub fn put(&mut self, index: usize) -> usize {
        let _entered = self.runtime.enter();
        self.now_ms += 1;
        let text = text(index, self.configs.revision);
        let changes = self.requests.put(&self.configs, &name(index), text);
        let changes = changes.expect("BUG: a good text is refused");
        let stored = store::made(&self.configs, &changes).expect("BUG: no condition");
        self.configs = Arc::new(stored);
        let changed = self.catalog.take(&self.configs);
        let wanted = Wanted::of_stored(&self.catalog, &changed, &mut self.routes);
        assert!(self.routes.are_linked(&wanted.routes), "BUG: an endpoint");
        let stays = wanted.scrape_configs.iter();
        let stays: HashSet<&str> = stays.map(|config| config.job_name.as_str()).collect();
        let gone = self.jobs.names_of(&changed);
        let gone = gone.filter(|job| !stays.contains(job));
        self.discovery.change(&wanted.scrape_configs, gone);
        let changes = (self.jobs).apply_stored(&changed, &wanted.jobs, self.now_ms);
        drop(wanted);
        self.routes.sweep();
        told(&changes)
    }

    /// The answer with the names of all configurations, in bytes.
    pub fn list(&self) -> u64 {
        trial::list(&self.configs)
    }

    /// The answer with the first 1,000 and what is known of each, in bytes.
    pub fn page(&self) -> u64 {
        trial::page(&self.configs, 1_000)
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

fn name(index: usize) -> String {
    format!("config-{index}")
}

/// Its `change`-th text: another interval and tenant.
fn text(index: usize, change: u64) -> String {
    format!(
        "scrape_configs: [{{job_name: job-{index}, scrape_interval: {}s}}]
remote_write: [{{url: 'http://receiver/', headers: {{X-Scope-OrgID: '{}'}}}}]
",
        60 + change % 7,
        (index as u64 + change) % TENANTS as u64
    )
}

fn told(changes: &[Change]) -> usize {
    let of_shards = changes.iter().flatten();
    of_shards
        .map(|(removed, added)| removed.len() + added.len())
        .sum()
}
