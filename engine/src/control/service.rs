//! The store's changes -> the jobs and endpoints that run beside those of the file, and how they
//! are doing.

use super::Control;
use super::collect;
use super::order::{Choice, Order};
use crate::api::configs::{self, Access, Validate};
use crate::api::{Health, TargetStatus};
use crate::clock;
use crate::config::Config;
use crate::mailbox::ToShard;
use crate::service::apply::{Catalog, Known};
use crate::service::instance::InstanceRules;
use crate::service::reader::Reader;
use crate::service::settings::{ServiceSettings, StoreKind};
use crate::service::status::{NodeConfig, NodeConfigs};
use crate::service::store::{Configs, StoreHandle};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

#[cfg(test)]
mod tests;

/// Refused configurations that are logged one by one after a change; the rest is counted.
const REFUSED_LOGGED_MAX: usize = 5;

/// The scraping service, as the control loop sees it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(super) settings: Arc<ServiceSettings>,
    pub(super) store: StoreHandle,
    pub(super) catalog: Catalog,
    /// The catalog's reader, for the API.
    validate: Arc<dyn Validate>,
    access: Arc<Access>,
    /// Since when each text that runs does, in ms since the Unix epoch.
    since_ms: HashMap<Arc<str>, i64>,
    next_listing: Instant,
    /// A listing under way.
    listing: Option<oneshot::Receiver<Arc<Configs>>>,
    /// Which of the two is ahead of the other.
    order: Order,
    /// The store has said what it holds, once for all.
    has_answered: bool,
    has_store_ended: bool,
}

/// What the store says.
pub(super) enum Stored {
    /// It has changed.
    Changed,
    /// It was listed anew.
    Listed(Arc<Configs>),
    /// It was to be listed anew, but cannot be.
    Unlisted,
}

impl Service {
    /// Nothing of the store runs yet. Reads the files of secrets.
    ///
    /// # Errors
    /// A secret cannot be read.
    pub(crate) fn new(
        config: &Config,
        settings: Arc<ServiceSettings>,
        store: StoreHandle,
    ) -> Result<Self, String> {
        let catalog = Catalog::new(rules(config, &settings)?);
        Ok(Self {
            next_listing: Instant::now() + interval(&settings),
            access: Arc::new(access(&settings)?),
            validate: catalog.reader().clone(),
            settings,
            store,
            catalog,
            since_ms: HashMap::new(),
            listing: None,
            order: Order::default(),
            has_answered: false,
            has_store_ended: false,
        })
    }

    /// What the store says next; pending for ever without a service. May be dropped and called
    /// again at any time.
    pub(super) async fn next(service: &mut Option<Self>) -> Stored {
        let Some(service) = service else {
            return std::future::pending().await;
        };
        loop {
            let listed = async {
                match &mut service.listing {
                    Some(listing) => listing.await.ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = service.store.state.changed(), if !service.has_store_ended => {
                    match changed {
                        Ok(()) => return Stored::Changed,
                        Err(_) => service.has_store_ended = true,
                    }
                }
                listed = listed => {
                    service.listing = None;
                    return listed.map_or(Stored::Unlisted, Stored::Listed);
                }
                () = tokio::time::sleep_until(service.next_listing) => {
                    service.next_listing = Instant::now() + interval(&service.settings);
                    service.list();
                }
            }
        }
    }

    /// Begins to list the store anew, unless that is under way.
    fn list(&mut self) {
        if self.listing.is_some() {
            return;
        }
        let (store, timeout_ms) = (self.store.clone(), self.settings.reshard_timeout_ms);
        let (answer, listing) = oneshot::channel();
        self.listing = Some(listing);
        tokio::spawn(async move {
            let read = store.read();
            let result = match timeout_ms {
                0 => read.await.map_err(|error| error.to_string()),
                limit => match tokio::time::timeout(Duration::from_millis(limit), read).await {
                    Ok(result) => result.map_err(|error| error.to_string()),
                    Err(_) => Err(format!("no answer within {limit} ms")),
                },
            };
            match result {
                // Without a receiver the process is stopping.
                Ok(configs) => drop(answer.send(configs)),
                Err(reason) => warn!(
                    reason,
                    "cannot list the stored configurations; what runs goes on"
                ),
            }
        });
    }

    /// Takes over what is stored. Returns the names of those that have changed for this node.
    pub(super) fn take(&mut self, stored: &Stored) -> Vec<Arc<str>> {
        let configs = match stored {
            Stored::Changed => {
                let state = self.store.state.borrow_and_update();
                self.has_answered |= state.is_connected;
                match self.order.takes_change(state.configs.revision) {
                    true => state.configs.clone(),
                    false => return Vec::new(),
                }
            }
            Stored::Listed(listed) => {
                self.has_answered = true;
                let in_force = self.catalog.revision();
                match self.order.of_listing(listed.revision, in_force) {
                    Choice::Listing => listed.clone(),
                    Choice::Watched => self.store.state.borrow().configs.clone(),
                    Choice::Nothing => return Vec::new(),
                }
            }
            Stored::Unlisted => return Vec::new(),
        };
        let changed = self.catalog.take(&configs);
        self.note(&changed);
        changed
    }

    /// Whether the store has said what it holds since the start.
    pub(super) fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Takes over the rules of another file.
    ///
    /// # Errors
    /// A secret cannot be read, or the store would be another one: nothing has changed.
    pub(super) fn reload(service: Option<&mut Self>, config: &Config) -> Result<(), String> {
        let restart = "`scraping_service` cannot be switched on or off, nor its `kvstore` \
                       changed, without a restart";
        match (service, &config.scraping_service) {
            (None, None) => Ok(()),
            (Some(service), Some(settings)) if service.settings.store == settings.store => {
                let (rules, access) = (rules(config, settings)?, access(settings)?);
                service.settings = settings.clone();
                service.access = Arc::new(access);
                service.catalog.set_rules(rules);
                service.validate = service.catalog.reader().clone();
                let names: Vec<Arc<str>> = service.catalog.known().keys().cloned().collect();
                service.note_running(&names);
                Ok(())
            }
            _ => Err(restart.to_owned()),
        }
    }

    /// What the API needs of it.
    pub(super) fn for_api(&self) -> configs::Service {
        configs::Service {
            store: self.store.clone(),
            rules: self.validate.clone(),
            access: self.access.clone(),
            is_readable: self.settings.enable_read_api,
            is_embedded: self.settings.store.kind == StoreKind::Gossip,
            config_bytes_max: match self.settings.limits.config_bytes_max {
                0 => u64::MAX,
                limit => limit,
            },
            configs_max: self.settings.limits.configs_max,
        }
    }

    /// Notes since when what runs does, and logs what is refused.
    fn note(&mut self, changed: &[Arc<str>]) {
        for name in changed {
            self.since_ms.remove(name);
        }
        self.note_running(changed);
        let known = self.catalog.known();
        let refused: Vec<(&Arc<str>, &Known)> = changed
            .iter()
            .filter_map(|name| Some((name, known.get(name)?)))
            .filter(|(_, known)| known.running().is_none())
            .collect();
        for (name, known) in refused.iter().take(REFUSED_LOGGED_MAX) {
            let reasons = known.refusals().join("; ");
            warn!(
                config = &***name,
                reasons, "a stored configuration is refused"
            );
        }
        if !changed.is_empty() {
            info!(
                changed = changed.len(),
                refused = refused.len(),
                revision = self.catalog.revision(),
                "stored configurations changed"
            );
        }
    }

    fn note_running(&mut self, names: &[Arc<str>]) {
        let now_ms = clock::now_ms();
        for name in names {
            let known = self.catalog.known().get(name);
            match known.and_then(Known::running) {
                Some(_) => {
                    self.since_ms.entry(name.clone()).or_insert(now_ms);
                }
                None => {
                    self.since_ms.remove(name);
                }
            }
        }
    }

    /// What this node says of a configuration, without its targets.
    fn describe(&self, name: &Arc<str>, known: &Known) -> NodeConfig {
        let running = known.running();
        let jobs = running.map(|one| one.job_names().map(str::to_owned).collect());
        let urls = running.map(|one| one.endpoints.iter().map(|e| e.display_url()).collect());
        NodeConfig {
            revision: known.stored.revision,
            refusals: known.refusals(),
            since_ms: self.since_ms.get(name).copied(),
            jobs: jobs.unwrap_or_default(),
            endpoints: urls.unwrap_or_default(),
            ..NodeConfig::default()
        }
    }
}

impl Validate for Reader {
    fn jobs(&self, name: &Arc<str>, text: &Arc<str>) -> Result<Vec<String>, Vec<String>> {
        let read = self
            .try_out(name, text)
            .map_err(|problems| problems.to_vec());
        Ok(read?.job_names().map(str::to_owned).collect())
    }
}

/// Who may ask. Blocks on the disk for the file of tokens.
fn access(settings: &ServiceSettings) -> Result<Access, String> {
    let file = settings.tokens_file.as_ref();
    file.map_or_else(|| Ok(Access::default()), |file| Access::load(file))
}

fn interval(settings: &ServiceSettings) -> Duration {
    Duration::from_millis(settings.reshard_interval_ms.max(1_000))
}

/// The rules of a file. Blocks on the disk for secrets.
fn rules(config: &Config, settings: &ServiceSettings) -> Result<InstanceRules, String> {
    let mut secrets = BTreeMap::new();
    for (name, file) in &settings.secrets {
        let text = std::fs::read_to_string(file).map_err(|error| {
            format!(
                "cannot read secret {name:?} from {}: {error}",
                file.display()
            )
        })?;
        secrets.insert(name.clone(), text.trim().to_owned());
    }
    Ok(InstanceRules::new(config, settings, secrets))
}

impl Control {
    /// Targets that one stored configuration may have; 0 = no limit.
    pub(super) fn config_targets_max(&self) -> u64 {
        let service = self.service.as_ref();
        service.map_or(0, |service| service.settings.limits.targets_max)
    }

    /// How this node has stored configurations, and how its targets of them are. `names`: of which;
    /// `None`: all.
    pub(super) async fn configs(
        &self,
        names: Option<Vec<String>>,
        answer: oneshot::Sender<NodeConfigs>,
    ) {
        let mut view = NodeConfigs::default();
        let Some(service) = &self.service else {
            let _ = answer.send(view);
            return;
        };
        {
            let state = service.store.state.borrow();
            view.is_connected = state.is_connected;
            view.store_error.clone_from(&state.last_error);
        }
        view.revision = service.catalog.revision();
        let known = service.catalog.known();
        let mut keys = Vec::new();
        let mut describe = |name: &Arc<str>, known: &Known| {
            keys.extend(self.jobs.keys_of(name));
            let described = service.describe(name, known);
            view.configs.insert(name.to_string(), described);
        };
        match names {
            None => known.iter().for_each(|(name, known)| describe(name, known)),
            Some(names) => names
                .iter()
                .filter_map(|name| known.get_key_value(name.as_str()))
                .for_each(|(name, known)| describe(name, known)),
        }
        let mut of_job = HashMap::new();
        for (name, config) in &view.configs {
            of_job.extend(config.jobs.iter().map(|job| (job.clone(), name.clone())));
        }
        let asked = self.ask_statuses(keys).await;
        tokio::spawn(async move {
            // Without an answer the one who asked is told that none came.
            let Some(answers) = collect(asked).await else {
                return;
            };
            for status in answers.iter().flatten() {
                let name = of_job.get(status.job());
                if let Some(config) = name.and_then(|name| view.configs.get_mut(name)) {
                    add_target(config, status);
                }
            }
            let _ = answer.send(view);
        });
    }

    /// Asks the shards for targets by key.
    pub(super) async fn ask_statuses(
        &self,
        keys: Vec<u64>,
    ) -> Vec<oneshot::Receiver<Vec<TargetStatus>>> {
        let mut by_shard = vec![Vec::new(); self.shards.len()];
        for key in keys {
            by_shard[super::shard_of(key, self.shards.len())].push(key);
        }
        let mut asked = Vec::new();
        for (shard, keys) in self.shards.iter().zip(by_shard) {
            if keys.is_empty() {
                continue;
            }
            let (answer, answered) = oneshot::channel();
            let _ = shard.mailbox.send(ToShard::StatusesOf(keys, answer)).await;
            asked.push(answered);
        }
        asked
    }
}

fn add_target(config: &mut NodeConfig, status: &TargetStatus) {
    config.targets += 1;
    match status.health {
        Health::Up => config.up += 1,
        Health::Unknown => {}
        Health::Down => {
            config.down += 1;
            if status.last_scrape_ms > config.last_error_ms {
                config.last_error_ms = status.last_scrape_ms;
                config.last_error.clone_from(&status.last_error);
            }
        }
    }
}
