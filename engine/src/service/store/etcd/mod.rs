//! Configurations in an etcd: lists, batches that are all or nothing, and news of changes.
//!
//! Spoken to by its HTTP gateway, etcd 3.4 or later. What is read is always whole: a list is read
//! by pages at one revision, and a batch that is decided but not yet in its keys is waited for.

mod batch;
mod client;
mod http;
mod keys;
mod tls;
mod value;
mod watch;
mod wire;

use super::keeper::{Backend, Publisher};
use super::{Applied, Change, Configs, StoreError};
use crate::service::settings::EtcdSettings;
use client::{Client, Failure, Kind};
use keys::{Key, Keys};
use std::sync::Arc;
use std::time::Duration;
use wire::{Number, Range, prefix_end};

/// Keys in a page.
const PAGE_KEYS: u64 = 512;
/// Pause before a decided batch is looked at again.
const PENDING_PAUSE: Duration = Duration::from_millis(40);
/// How often; then whoever waits finishes it: who began it may be gone.
const PENDING_LOOKS: u32 = 40;

/// The store.
pub(super) struct Etcd {
    client: Client,
    keys: Keys,
    publisher: Publisher,
}

/// All keys at one revision.
#[derive(Debug, Clone)]
struct Listing {
    cluster_id: Number,
    configs: Configs,
    /// Whether a batch is decided but not yet in its keys.
    is_pending: bool,
}

impl Etcd {
    /// # Errors
    /// What the operator has to change.
    pub(super) fn new(
        settings: &EtcdSettings,
        prefix: &str,
        publisher: Publisher,
    ) -> Result<Self, String> {
        Ok(Self {
            client: Client::new(settings)?,
            keys: Keys::new(prefix),
            publisher,
        })
    }

    /// All keys as they are now, a batch under way or not.
    async fn list(&self) -> Result<Listing, Failure> {
        let mut limit = PAGE_KEYS;
        'anew: loop {
            let end = prefix_end(self.keys.prefix());
            let mut from = self.keys.prefix().to_vec();
            let mut listing = Listing {
                cluster_id: Number::default(),
                configs: Configs::default(),
                is_pending: false,
            };
            loop {
                let question = wire::page(&from, &end, listing.configs.revision, limit);
                let page = self.client.ask::<Range>("kv/range", &question, Kind::Read);
                let page = match page.await {
                    Ok(page) => page,
                    Err(Failure::TooLarge(_)) if limit > 1 => {
                        limit = (limit / 4).max(1);
                        continue;
                    }
                    // It takes longer than the history is kept, or the endpoints are not the same.
                    Err(Failure::Compacted) => continue 'anew,
                    Err(failure) => return Err(failure),
                };
                listing.cluster_id = page.header.cluster_id;
                if listing.configs.revision == 0 {
                    listing.configs.revision = page.header.revision.0;
                }
                let Some(last) = page.kvs.last() else {
                    return Ok(listing);
                };
                from = [&last.key.0[..], &[0]].concat();
                for kv in page.kvs {
                    self.add(&mut listing, &kv);
                }
                if !page.more {
                    return Ok(listing);
                }
            }
        }
    }

    /// A key was written.
    fn add(&self, listing: &mut Listing, kv: &wire::KeyValue) {
        match self.keys.read(&kv.key.0) {
            Key::Config(name) => {
                let config = value::read(name, &kv.value.0, kv.mod_revision.0);
                let by_name = &mut listing.configs.by_name;
                by_name.insert(config.name.clone(), Arc::new(config));
            }
            Key::Pending => listing.is_pending = true,
            Key::Other => {}
        }
    }

    /// A key was removed.
    fn remove(&self, listing: &mut Listing, key: &[u8]) {
        match self.keys.read(key) {
            Key::Config(name) => {
                listing.configs.by_name.remove(name);
            }
            Key::Pending => listing.is_pending = false,
            Key::Other => {}
        }
    }

    /// All keys, with every batch as a whole.
    async fn list_whole(&self) -> Result<Listing, Failure> {
        loop {
            let listing = self.list().await?;
            if !listing.is_pending {
                return Ok(listing);
            }
            self.await_pending().await?;
        }
    }
}

impl Backend for Etcd {
    const KIND: &'static str = "etcd";

    async fn read(&self) -> Result<Arc<Configs>, StoreError> {
        let listing = self.list_whole().await.map_err(unread)?;
        Ok(Arc::new(listing.configs))
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<Applied, StoreError> {
        self.apply_changes(&changes).await
    }

    async fn watch(&self) {
        self.watch_for_ever().await;
    }
}

/// Nothing was changed.
fn unread(failure: Failure) -> StoreError {
    match failure {
        Failure::Refused(text) | Failure::TooLarge(text) => StoreError::Refused(text),
        failure => StoreError::NotConnected(failure.text()),
    }
}

/// Something may have been changed.
fn unwritten(failure: Failure) -> StoreError {
    match failure {
        Failure::Lost(text) => StoreError::Unconfirmed(text),
        Failure::TooLarge(text) => {
            StoreError::Refused(format!("{text}: etcd takes 1.5 MB for one configuration"))
        }
        failure => unread(failure),
    }
}

#[cfg(test)]
mod tests;
