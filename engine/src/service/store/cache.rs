//! What a store last held <-> a file, for a start at which the store does not answer.
//!
//! It is written by a task of its own, at most once a second and as a whole, so it may lack the
//! changes of the last moment before a crash; the store has them.

use super::frames::{self, End, MAGIC};
use super::record::Batch;
use super::{Configs, StoreState, files, log};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{error, warn};

/// Pause between two writes.
const PAUSE: Duration = Duration::from_secs(1);

/// The file of one store.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    path: PathBuf,
    /// Which store: the file of another one is of no use.
    store: String,
}

impl Cache {
    /// `store` tells this store from others that the node may have used before.
    pub(super) fn new(path: PathBuf, store: String) -> Self {
        Self { path, store }
    }

    /// What the store last held; `None`: nothing is known of it.
    pub(super) fn load(&self) -> Option<Arc<Configs>> {
        let path = self.path.display();
        let bytes = match files::read(&self.path) {
            Ok(bytes) => bytes?,
            Err(error) => {
                error!(%path, %error, "the last known configurations cannot be read");
                return None;
            }
        };
        match self.decode(&bytes) {
            Ok(configs) => configs,
            Err(error) => {
                error!(%path, %error, "the last known configurations cannot be read");
                None
            }
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<Option<Arc<Configs>>, String> {
        let frames = frames::read(bytes)?;
        let [store, batch] = frames.payloads[..] else {
            return Err("it is not whole".to_owned());
        };
        if frames.end != End::Whole {
            return Err("it is not whole".to_owned());
        }
        if store != self.store.as_bytes() {
            warn!(
                path = %self.path.display(),
                store = %String::from_utf8_lossy(store),
                "the last known configurations are of another store and not used"
            );
            return Ok(None);
        }
        let mut configs = Configs::default();
        log::decode::<Batch>(batch)?.add_to(&mut configs);
        Ok(Some(Arc::new(configs)))
    }

    /// # Errors
    /// The disk does not take it; the former file is there still.
    fn save(&self, configs: &Configs) -> Result<(), String> {
        let mut bytes = Vec::new();
        frames::push(&mut bytes, self.store.as_bytes());
        frames::push(&mut bytes, &log::encode(&Batch::of_all(configs))?);
        let folder = self.path.parent().map(files::create_folder);
        let created = folder.unwrap_or(Ok(()));
        let replaced = created.and_then(|()| files::replace(&self.path, &[&MAGIC, &bytes]));
        replaced.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Saves what is known whenever it changes, until nobody can change it any more.
    pub(super) async fn follow(self, mut state: watch::Receiver<StoreState>) {
        let mut saved = self.load_again().await;
        loop {
            let configs = state.borrow_and_update().configs.clone();
            if saved.as_ref() != Some(&configs) {
                let (this, to_save) = (self.clone(), configs.clone());
                let saving = tokio::task::spawn_blocking(move || this.save(&to_save));
                match saving.await {
                    Ok(Ok(())) => saved = Some(configs),
                    Ok(Err(error)) => error!(
                        path = %self.path.display(), error,
                        "the last known configurations are not saved"
                    ),
                    // The process is stopping.
                    Err(_) => return,
                }
                tokio::time::sleep(PAUSE).await;
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    async fn load_again(&self) -> Option<Arc<Configs>> {
        let this = self.clone();
        let loading = tokio::task::spawn_blocking(move || this.load());
        loading.await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::store::{Origin, StoredConfig};

    fn configs(names: &[&str]) -> Arc<Configs> {
        let config = |name: &&str| {
            let config = StoredConfig {
                name: (*name).into(),
                text: "scrape_configs: []".into(),
                revision: 3,
                origin: Origin::default(),
            };
            (config.name.clone(), Arc::new(config))
        };
        Arc::new(Configs {
            revision: 9,
            by_name: names.iter().map(config).collect(),
        })
    }

    #[test]
    fn it_holds_what_was_saved_or_says_that_it_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service/last");
        let cache = Cache::new(path.clone(), "etcd configurations/".to_owned());
        assert_eq!(cache.load(), None);
        cache.save(&configs(&["a", "b"])).unwrap();
        assert_eq!(cache.load(), Some(configs(&["a", "b"])));
        cache.save(&configs(&["a"])).unwrap();
        assert_eq!(cache.load(), Some(configs(&["a"])));
        let other = Cache::new(path.clone(), "etcd others/".to_owned());
        assert_eq!(other.load(), None);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert_eq!(cache.load(), None, "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x40;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(cache.load(), None, "changed at {at}");
        }
    }

    #[tokio::test]
    async fn it_follows_what_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("last"), "one".to_owned());
        let (sender, receiver) = watch::channel(StoreState::default());
        let following = tokio::spawn(cache.clone().follow(receiver));
        sender.send_modify(|state| state.configs = configs(&["a"]));
        while cache.load() != Some(configs(&["a"])) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(sender);
        following.await.unwrap();
    }
}
