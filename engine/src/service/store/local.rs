//! Configurations in a file of this node alone: for one node without a server.
//!
//! Each batch is on the disk as a whole before it is confirmed.

use super::keeper::{Backend, Publisher};
use super::log::{Log, Unusable};
use super::plan::{make, plan};
use super::record::Batch;
use super::{Applied, Change, Configs, Outcome, StoreError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The store.
#[derive(Debug)]
pub(super) struct Local {
    path: PathBuf,
    publisher: Publisher,
    /// Held while the disk works, by threads that may wait.
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    /// `None`: the file cannot be used.
    log: Option<Log>,
    configs: Arc<Configs>,
}

impl Local {
    /// Reads the file and publishes what it holds.
    pub(super) fn open(path: PathBuf, publisher: Publisher) -> Self {
        let inner = Inner {
            log: None,
            configs: Arc::default(),
        };
        let local = Self {
            path,
            publisher,
            inner: Arc::new(Mutex::new(inner)),
        };
        // What it says is in the published state.
        let _ = local.lock().log(&local.path, &local.publisher);
        local
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics with the lock held; if it did, what is there was still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what has to wait for the disk.
    async fn with_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner, &Path, &Publisher) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (inner, path) = (self.inner.clone(), self.path.clone());
        let publisher = self.publisher.clone();
        let working = tokio::task::spawn_blocking(move || {
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut inner, &path, &publisher)
        });
        let stopping = |_| StoreError::Unconfirmed("the process is stopping".to_owned());
        working.await.map_err(stopping)?
    }
}

impl Backend for Local {
    const KIND: &'static str = "local";

    async fn read(&self) -> Result<Arc<Configs>, StoreError> {
        self.with_disk(|inner, path, publisher| {
            inner.log(path, publisher)?;
            Ok(inner.configs.clone())
        })
        .await
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<Applied, StoreError> {
        self.with_disk(move |inner, path, publisher| inner.apply(&changes, path, publisher))
            .await
    }

    async fn watch(&self) {
        // Only this process changes the file.
        std::future::pending().await
    }
}

impl Inner {
    /// The open file; it is tried again each time.
    fn log(&mut self, path: &Path, publisher: &Publisher) -> Result<&mut Log, StoreError> {
        if self.log.is_none() {
            let (log, batches) = match Log::open::<Batch>(path.to_owned()) {
                Ok((log, batches)) => (Ok(log), batches),
                Err(Unusable { batches, reason }) => (Err(reason), batches),
            };
            let mut configs = Configs::default();
            for batch in batches {
                batch.add_to(&mut configs);
            }
            self.configs = Arc::new(configs);
            match log {
                Ok(log) => {
                    self.log = Some(log);
                    publisher.configs(self.configs.clone());
                }
                Err(reason) => {
                    publisher.last_known(self.configs.clone());
                    publisher.lost(reason.clone());
                    return Err(StoreError::NotConnected(reason));
                }
            }
        }
        let closed = || StoreError::NotConnected("the file is not open".to_owned());
        self.log.as_mut().ok_or_else(closed)
    }

    fn apply(
        &mut self,
        changes: &[Change],
        path: &Path,
        publisher: &Publisher,
    ) -> Result<Applied, StoreError> {
        self.log(path, publisher)?;
        let configs = self.configs.clone();
        let stored = |name: &str| configs.by_name.get(name).map(|one| &**one);
        let outcomes = plan(stored, changes)?;
        if outcomes.iter().all(|one| *one == Outcome::Unchanged) {
            return Ok(Applied {
                revision: configs.revision,
                outcomes,
            });
        }
        let revision = configs.revision + 1;
        let batch = Batch::of_changes(changes, &outcomes, revision);
        let log = self.log(path, publisher)?;
        match log.add(&batch, || Batch::of_all(&configs)) {
            Ok(()) => {}
            Err(error) => {
                publisher.lost(error.reason.clone());
                return Err(match error.is_unsure {
                    true => StoreError::Unconfirmed(error.reason),
                    false => StoreError::Refused(error.reason),
                });
            }
        }
        let mut configs = Configs::clone(&configs);
        make(&mut configs, changes, &outcomes, revision);
        self.configs = Arc::new(configs);
        publisher.configs(self.configs.clone());
        Ok(Applied { revision, outcomes })
    }
}
