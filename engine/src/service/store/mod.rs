//! Configurations by name, with revisions: what is stored, changes of it, and how both are asked
//! for.
//!
//! A store is driven by one task on the control thread; everything else holds a [`StoreHandle`].
//!
//! In reading order: what a batch does (`plan`); how a store is kept on this node's disk (`record`,
//! `frames`, `files`, `log`, `cache`); the task (`keeper`, `figures`); the kinds of stores.

mod cache;
mod etcd;
mod figures;
mod files;
mod frames;
mod gossip;
mod keeper;
mod local;
mod log;
mod plan;
mod record;
#[cfg(test)]
mod tests;

pub use figures::StoreCounters;
pub(crate) use figures::StoreFigures;
pub(crate) use gossip::GossipLinks;

use super::settings::{StoreKind, StoreSettings};
use cache::Cache;
use keeper::Publisher;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// One stored configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredConfig {
    /// Its name, as in the API's URL after decoding.
    pub name: Arc<str>,
    /// The YAML text as it was sent.
    pub text: Arc<str>,
    /// The store's revision at its last change; only rises.
    pub revision: u64,
    /// Who keeps it and who changed it.
    pub origin: Origin,
}

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The owner's label: `config-sync` deletes only what bears its own. Empty: nobody's.
    pub managed_by: String,
    /// Who changed it last: the name of a token, a certificate's subject, or an address.
    pub changed_by: String,
    /// When it was changed last, in ms since the Unix epoch.
    pub changed_ms: i64,
}

/// All configurations at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configs {
    /// The store's revision.
    pub revision: u64,
    /// By name.
    pub by_name: BTreeMap<Arc<str>, Arc<StoredConfig>>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Create or replace.
    Put {
        /// Its name.
        name: Arc<str>,
        /// Its YAML.
        text: Arc<str>,
        /// Who does it.
        origin: Origin,
        /// What must hold for it.
        condition: Condition,
    },
    /// Remove.
    Delete {
        /// Its name.
        name: Arc<str>,
        /// What must hold for it.
        condition: Condition,
    },
}

/// What must hold for a change to be made (`If-Match`, `If-None-Match`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// There is none of that name.
    Absent,
    /// There is one.
    Present,
    /// Its last change was this.
    Revision(u64),
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was none before.
    Created,
    /// There was another text before.
    Updated,
    /// It had this text already; nothing was written.
    Unchanged,
    /// It is gone.
    Deleted,
}

/// A batch that was made as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The store's revision after it.
    pub revision: u64,
    /// In the order of the changes.
    pub outcomes: Vec<Outcome>,
}

/// Why a batch was not made, none of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached, or too few of its members can.
    #[error("the configuration store cannot be reached: {0}")]
    NotConnected(String),
    /// No answer came: the change may have been made, or may still appear.
    #[error("the configuration store did not confirm the change, it may still appear: {0}")]
    Unconfirmed(String),
    /// A condition does not hold.
    #[error("configuration {name} was changed meanwhile: its revision is {revision:?}")]
    Conflict {
        /// Of which configuration.
        name: Arc<str>,
        /// Its revision now; `None`: there is none of that name.
        revision: Option<u64>,
    },
    /// One to be deleted is not there.
    #[error("configuration {0} does not exist")]
    Missing(Arc<str>),
    /// The store refuses it, for example as too large.
    #[error("the configuration store refuses the change: {0}")]
    Refused(String),
}

/// A question to the store's task.
#[derive(Debug)]
pub enum Request {
    /// Make these changes, all or none.
    Apply {
        /// Each name at most once.
        changes: Vec<Change>,
        /// Where to.
        answer: oneshot::Sender<Result<Applied, StoreError>>,
    },
    /// What the store holds, read from it now.
    Read(oneshot::Sender<Result<Arc<Configs>, StoreError>>),
}

/// How a store is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreState {
    /// What is known: of the store, or at start, until it answers, what it last held.
    pub configs: Arc<Configs>,
    /// Whether the store answers.
    pub is_connected: bool,
    /// Why not.
    pub last_error: String,
}

/// How the API and the control loop reach the store's task.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    /// Questions; bounded, full means busy.
    pub requests: mpsc::Sender<Request>,
    /// What is known; changes whenever the store tells of a change.
    pub state: watch::Receiver<StoreState>,
    /// What kind of store it is.
    pub kind: &'static str,
    /// What its task counts.
    pub counters: Arc<StoreCounters>,
}

impl StoreHandle {
    /// Makes changes, all or none.
    ///
    /// # Errors
    /// See [`StoreError`]; after all but `Unconfirmed` nothing has changed.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<Applied, StoreError> {
        let (answer, answered) = oneshot::channel();
        let asked = self.requests.send(Request::Apply { changes, answer }).await;
        ended(asked.is_ok())?;
        answered.await.unwrap_or_else(|_| {
            ended(false).map(|()| Applied {
                revision: 0,
                outcomes: Vec::new(),
            })
        })
    }

    /// What the store holds, read from it now.
    ///
    /// # Errors
    /// It cannot be reached; what is known is in `state` still.
    pub async fn read(&self) -> Result<Arc<Configs>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let asked = self.requests.send(Request::Read(answer)).await;
        ended(asked.is_ok())?;
        answered
            .await
            .unwrap_or_else(|_| ended(false).map(|()| Arc::default()))
    }
}

fn ended(is_running: bool) -> Result<(), StoreError> {
    match is_running {
        true => Ok(()),
        false => Err(StoreError::NotConnected(
            "the process is stopping".to_owned(),
        )),
    }
}

/// What a store knows of this node.
#[derive(Debug, Clone)]
pub struct StorePlace {
    /// The locked storage folder.
    pub storage_path: PathBuf,
}

impl StorePlace {
    /// A file of the store, in a folder of its own.
    fn file(&self, name: &str) -> PathBuf {
        self.storage_path.join("service").join(name)
    }
}

/// What is stored after these changes.
///
/// # Errors
/// A condition does not hold: nothing has changed.
pub(crate) fn made(configs: &Configs, changes: &[Change]) -> Result<Configs, StoreError> {
    let stored = |name: &str| configs.by_name.get(name).map(|one| &**one);
    let outcomes = plan::plan(stored, changes)?;
    let mut configs = configs.clone();
    let revision = configs.revision + 1;
    plan::make(&mut configs, changes, &outcomes, revision);
    Ok(configs)
}

/// Starts a store. To be called on the control thread's runtime. What the store last held is known
/// at once, whether it answers or not.
///
/// # Errors
/// What the operator has to change.
pub fn start(settings: &StoreSettings, place: &StorePlace) -> Result<StoreHandle, String> {
    start_in_cluster(settings, place, None)
}

/// As [`start`], on a node that is part of a cluster.
///
/// # Errors
/// What the operator has to change.
pub(crate) fn start_in_cluster(
    settings: &StoreSettings,
    place: &StorePlace,
    links: Option<GossipLinks>,
) -> Result<StoreHandle, String> {
    let publisher = Publisher::new();
    match &settings.kind {
        StoreKind::Local => Ok(start_local(place)),
        StoreKind::Etcd(etcd) => {
            let cache = Cache::new(place.file("etcd"), format!("etcd {}", settings.prefix));
            let etcd = etcd::Etcd::new(etcd, &settings.prefix, publisher.clone())?;
            Ok(keeper::start(etcd, publisher, Some(cache)))
        }
        StoreKind::Gossip => {
            let links = links.ok_or("the gossip store needs a cluster (--cluster.enabled)")?;
            let questions = links.questions();
            let questions = questions.ok_or("the gossip store runs already")?;
            let file = place.file("gossip");
            let gossip = gossip::Gossip::start(file, links, questions, publisher.clone());
            Ok(keeper::start(gossip, publisher, None))
        }
    }
}

/// Starts the store of one node without a server. To be called on the control thread's runtime.
pub fn start_local(place: &StorePlace) -> StoreHandle {
    let publisher = Publisher::new();
    let local = local::Local::open(place.file("local"), publisher.clone());
    keeper::start(local, publisher, None)
}
