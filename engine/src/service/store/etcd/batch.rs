//! Changes with conditions -> transactions, all or nothing whatever their number.
//!
//! What fits into one transaction is one: it compares the last change of each name with what the
//! plan was made for. A larger batch is written in parts beside the configurations first, then
//! decided by one key (`pending`), which compares that nothing was written since the plan; then
//! the parts are put into place, and the key goes. From the decision on it will be finished: by who
//! decided it, else by whoever finds it. Until it is, nobody writes, and nobody shows a part of it.

use super::client::{Failure, Kind};
use super::value::{self, Envelope};
use super::wire::{self, Range, Txn};
use super::{Etcd, PENDING_LOOKS, PENDING_PAUSE, keys, unread, unwritten};
use crate::clock;
use crate::service::store::plan::plan;
use crate::service::store::{Applied, Change, Outcome, StoreError, StoredConfig};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::warn;

/// Changes in a transaction: etcd takes 128 operations by default, and one is ours.
const OPERATIONS_MAX: usize = 120;
/// Bytes in a transaction: etcd takes 1.5 MiB by default.
const BYTES_MAX: usize = 1_000_000;
/// How often a plan is made anew because others write.
const TRIES: u32 = 20;
/// Parts of batches that were never decided go after this time.
const LITTER_MS: i64 = 60 * 60 * 1_000;

/// A change in a part of a batch.
#[derive(Debug, Serialize, Deserialize)]
struct Staged {
    name: String,
    /// `None`: it goes.
    put: Option<Envelope>,
}

/// The value of the key that decides a batch.
#[derive(Debug, Serialize, Deserialize)]
struct Decision {
    id: String,
    parts: usize,
}

impl Etcd {
    pub(super) async fn apply_changes(&self, changes: &[Change]) -> Result<Applied, StoreError> {
        let is_reserved = |change: &&Change| change.name().starts_with(keys::RESERVED);
        if let Some(change) = changes.iter().find(is_reserved) {
            let (name, reserved) = (change.name(), keys::RESERVED);
            let reason = format!("{name}: names with {reserved} at their beginning are reserved");
            return Err(StoreError::Refused(reason));
        }
        let bytes: usize = changes.iter().map(bytes_of).sum();
        match changes.len() <= OPERATIONS_MAX && bytes <= BYTES_MAX || changes.len() == 1 {
            true => self.apply_at_once(changes).await,
            false => self.apply_in_parts(changes).await,
        }
    }

    async fn apply_at_once(&self, changes: &[Change]) -> Result<Applied, StoreError> {
        for _ in 0..TRIES {
            let (revision, stored) = match self.read_names(changes).await.map_err(unread)? {
                Some(read) => read,
                None => {
                    self.await_pending().await.map_err(unread)?;
                    continue;
                }
            };
            let outcomes = plan(|name| stored.get(name), changes)?;
            if outcomes.iter().all(|one| *one == Outcome::Unchanged) {
                return Ok(Applied { revision, outcomes });
            }
            let mut compare = vec![wire::is_at(&self.keys.pending(), 0)];
            let mut operations = vec![wire::put(&self.keys.changed(), b"")];
            for (change, outcome) in changes.iter().zip(&outcomes) {
                let name = change.name();
                let at = stored.get(&**name).map_or(0, |stored| stored.revision);
                compare.push(wire::is_at(&self.keys.config(name), at));
                if *outcome != Outcome::Unchanged {
                    operations.push(self.operation(name, envelope(change).as_ref()));
                }
            }
            let question = wire::txn(compare, operations);
            let answer = self
                .client
                .ask::<Txn>("kv/txn", &question, Kind::Write)
                .await;
            let answer = answer.map_err(unwritten)?;
            if answer.succeeded {
                let revision = answer.header.revision.0;
                return Ok(Applied { revision, outcomes });
            }
        }
        Err(busy())
    }

    /// The store's revision and what there is of the names; `None`: a batch is decided but not yet
    /// in its keys.
    async fn read_names(
        &self,
        changes: &[Change],
    ) -> Result<Option<(u64, BTreeMap<Arc<str>, StoredConfig>)>, Failure> {
        let mut operations = vec![wire::get(&self.keys.pending())];
        for change in changes {
            operations.push(wire::get(&self.keys.config(change.name())));
        }
        let question = wire::txn(Vec::new(), operations);
        let answer: Txn = self.client.ask("kv/txn", &question, Kind::Read).await?;
        let mut found = answer.responses.into_iter();
        let pending = found.next();
        if pending.is_none_or(|pending| !pending.response_range.kvs.is_empty()) {
            return Ok(None);
        }
        let mut stored = BTreeMap::new();
        for (change, part) in changes.iter().zip(found) {
            if let Some(kv) = part.response_range.kvs.first() {
                let name = change.name();
                let config = value::read(name, &kv.value.0, kv.mod_revision.0);
                stored.insert(name.clone(), config);
            }
        }
        Ok(Some((answer.header.revision.0, stored)))
    }

    /// What ends a decided batch.
    fn end_of(&self, decision: &Decision) -> Vec<Value> {
        vec![
            wire::delete(&self.keys.pending()),
            wire::delete_prefix(&self.keys.batch(&decision.id)),
            wire::put(&self.keys.changed(), b""),
        ]
    }

    fn operation(&self, name: &str, put: Option<&Envelope>) -> Value {
        let key = self.keys.config(name);
        match put {
            Some(envelope) => wire::put(&key, &envelope.to_bytes()),
            None => wire::delete(&key),
        }
    }

    async fn apply_in_parts(&self, changes: &[Change]) -> Result<Applied, StoreError> {
        let now_ms = clock::now_ms();
        let mut random = [0; 8];
        let filled = SysRng.try_fill_bytes(&mut random);
        filled.map_err(|error| StoreError::NotConnected(error.to_string()))?;
        let id = format!("{now_ms:014}-{:016x}", u64::from_le_bytes(random));
        self.sweep(now_ms).await.map_err(unread)?;
        let result = self.decide(&id, changes).await;
        let is_decided = !matches!(&result, Ok((false, _)) | Err(_));
        if !is_decided && !matches!(result, Err(StoreError::Unconfirmed(_))) {
            // What stays is swept away later.
            let question = wire::txn(Vec::new(), vec![wire::delete_prefix(&self.keys.batch(&id))]);
            let _ = self
                .client
                .ask::<Txn>("kv/txn", &question, Kind::Read)
                .await;
        }
        let (_, mut applied) = result?;
        if is_decided {
            let finished = self.finish().await;
            let unfinished = |failure: Failure| {
                let reason = format!("decided, and to be finished later: {}", failure.text());
                StoreError::Unconfirmed(reason)
            };
            applied.revision = match finished.map_err(unfinished)? {
                Some(revision) => revision,
                // Another node has finished it.
                None => {
                    self.list_whole()
                        .await
                        .map_err(unfinished)?
                        .configs
                        .revision
                }
            };
        }
        Ok(applied)
    }

    /// Whether the batch is decided, or else leaves everything as it is.
    async fn decide(&self, id: &str, changes: &[Change]) -> Result<(bool, Applied), StoreError> {
        let mut staged: Option<(Vec<Outcome>, usize)> = None;
        for _ in 0..TRIES {
            let listing = self.list_whole().await.map_err(unread)?;
            let by_name = &listing.configs.by_name;
            let outcomes = plan(|name| by_name.get(name).map(|one| &**one), changes)?;
            let revision = listing.configs.revision;
            if outcomes.iter().all(|one| *one == Outcome::Unchanged) {
                return Ok((false, Applied { revision, outcomes }));
            }
            let parts = match staged.take() {
                Some((planned, parts)) if planned == outcomes => parts,
                _ => self.stage(id, changes, &outcomes).await?,
            };
            let decision = Decision {
                id: id.to_owned(),
                parts,
            };
            // Texts and a number are always JSON.
            let decision = serde_json::to_vec(&decision).unwrap_or_default();
            let reserved = self.keys.reserved();
            let end = wire::prefix_end(self.keys.prefix());
            let after_reserved = wire::prefix_end(&reserved);
            let compare = vec![
                wire::is_at(&self.keys.pending(), 0),
                wire::is_unwritten_since(self.keys.prefix(), &reserved, revision),
                wire::is_unwritten_since(&after_reserved, &end, revision),
                // What was removed left no key to compare.
                wire::is_unwritten_since(
                    &self.keys.changed(),
                    &wire::prefix_end(&self.keys.changed()),
                    revision,
                ),
            ];
            let success = vec![wire::put(&self.keys.pending(), &decision)];
            let question = wire::txn(compare, success);
            let answer = self
                .client
                .ask::<Txn>("kv/txn", &question, Kind::Write)
                .await;
            if answer.map_err(unwritten)?.succeeded {
                return Ok((true, Applied { revision, outcomes }));
            }
            staged = Some((outcomes, parts));
        }
        Err(busy())
    }

    /// Writes the parts of a batch; how many there are.
    async fn stage(
        &self,
        id: &str,
        changes: &[Change],
        outcomes: &[Outcome],
    ) -> Result<usize, StoreError> {
        let mut parts = vec![Vec::new()];
        let mut bytes = 0;
        for (change, outcome) in changes.iter().zip(outcomes) {
            if *outcome == Outcome::Unchanged {
                continue;
            }
            bytes += bytes_of(change);
            if bytes > BYTES_MAX {
                bytes = bytes_of(change);
                parts.push(Vec::new());
            }
            if let Some(part) = parts.last_mut() {
                part.push(Staged {
                    name: change.name().to_string(),
                    put: envelope(change),
                });
            }
        }
        for (number, part) in parts.iter().enumerate() {
            // Texts and numbers are always JSON.
            let part = serde_json::to_vec(part).unwrap_or_default();
            let write = vec![wire::put(&self.keys.part(id, number), &part)];
            let question = wire::txn(Vec::new(), write);
            // Written twice it is the same.
            let answer = self.client.ask::<Txn>("kv/txn", &question, Kind::Read);
            answer.await.map_err(unread)?;
        }
        Ok(parts.len())
    }

    /// Removes parts of batches that were never decided.
    async fn sweep(&self, now_ms: i64) -> Result<(), Failure> {
        let old = format!("{:014}", now_ms.saturating_sub(LITTER_MS).max(0));
        let (from, end) = (self.keys.batches(""), self.keys.batches(&old));
        let compare = vec![wire::is_at(&self.keys.pending(), 0)];
        let question = wire::txn(compare, vec![wire::delete_range(&from, &end)]);
        let swept = self.client.ask::<Txn>("kv/txn", &question, Kind::Read);
        swept.await.map(|_| ())
    }

    /// Waits until no batch is decided but not yet in its keys; finishes it if that takes long.
    pub(super) async fn await_pending(&self) -> Result<(), Failure> {
        for _ in 0..PENDING_LOOKS {
            tokio::time::sleep(PENDING_PAUSE).await;
            if self.pending().await?.is_none() {
                return Ok(());
            }
        }
        self.finish().await.map(|_| ())
    }

    /// The decided batch, and the revision of its decision.
    async fn pending(&self) -> Result<Option<(Decision, u64)>, Failure> {
        let Some((value, revision)) = self.value(&self.keys.pending()).await? else {
            return Ok(None);
        };
        let unreadable = |error| Failure::Refused(format!("a decided batch: {error}"));
        let decision = serde_json::from_slice(&value).map_err(unreadable)?;
        Ok(Some((decision, revision)))
    }

    async fn value(&self, key: &[u8]) -> Result<Option<(Vec<u8>, u64)>, Failure> {
        let question = wire::page(key, &[key, &[0]].concat(), 0, 1);
        let answer: Range = self.client.ask("kv/range", &question, Kind::Read).await?;
        let kv = answer.kvs.into_iter().next();
        Ok(kv.map(|kv| (kv.value.0, kv.mod_revision.0)))
    }

    /// Puts a decided batch into its keys. The revision after it; `None`: there is none, or another
    /// node was faster.
    pub(super) async fn finish(&self) -> Result<Option<u64>, Failure> {
        let Some((decision, decided)) = self.pending().await? else {
            return Ok(None);
        };
        let still = || vec![wire::is_at(&self.keys.pending(), decided)];
        for number in 0..decision.parts {
            let part = self.value(&self.keys.part(&decision.id, number)).await?;
            let Some((part, _)) = part else {
                // Parts go with the decision, in one transaction: unless that is gone, too,
                // somebody deleted them, and waiting for them would hold all nodes for ever.
                let question = wire::txn(still(), self.end_of(&decision));
                let ended: Txn = self.client.ask("kv/txn", &question, Kind::Read).await?;
                if ended.succeeded {
                    warn!(
                        batch = decision.id,
                        part = number,
                        "a batch of changes has lost a part in the store: what was not made of \
                         it yet is given up; apply it again"
                    );
                }
                return Ok(None);
            };
            let unreadable = |error| Failure::Refused(format!("a part of a batch: {error}"));
            let part: Vec<Staged> = serde_json::from_slice(&part).map_err(unreadable)?;
            for some in part.chunks(OPERATIONS_MAX) {
                let operations = some.iter();
                let operations = operations.map(|one| self.operation(&one.name, one.put.as_ref()));
                let question = wire::txn(still(), operations.collect());
                // Made twice it is the same.
                let made: Txn = self.client.ask("kv/txn", &question, Kind::Read).await?;
                if !made.succeeded {
                    return Ok(None);
                }
            }
        }
        let question = wire::txn(still(), self.end_of(&decision));
        let made: Txn = self.client.ask("kv/txn", &question, Kind::Read).await?;
        Ok(made.succeeded.then_some(made.header.revision.0))
    }
}

fn envelope(change: &Change) -> Option<Envelope> {
    match change {
        Change::Put { text, origin, .. } => Some(Envelope::new(text, origin)),
        Change::Delete { .. } => None,
    }
}

/// About what a change is in a transaction.
fn bytes_of(change: &Change) -> usize {
    let put = envelope(change).map_or(0, |envelope| envelope.to_bytes().len());
    change.name().len() + put + 64
}

fn busy() -> StoreError {
    let reason = "others write the same configurations all the time; try again";
    StoreError::NotConnected(reason.to_owned())
}

#[cfg(test)]
impl Etcd {
    /// As far as a node gets that ends at the worst moment.
    pub(super) async fn decide_and_die(&self, changes: &[Change]) {
        assert!(self.decide("00000000000001-1", changes).await.unwrap().0);
    }
}
