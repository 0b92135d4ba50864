//! Host names -> addresses, off the data plane, by the system's resolver.

use crate::mailbox::{Addresses, HostPort, ShardIndex, ToShard};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long one look-up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Look-ups under way at once; more wait.
const LOOKUPS_MAX: usize = 64;

/// Answers the shards' questions for addresses. One look-up serves all shards that ask meanwhile.
#[derive(Debug)]
pub(crate) struct Resolver {
    shards: Vec<mpsc::Sender<ToShard>>,
    waiting: HashMap<HostPort, Vec<ShardIndex>>,
    answers: mpsc::UnboundedSender<(HostPort, Result<Addresses, String>)>,
    limit: std::sync::Arc<tokio::sync::Semaphore>,
}

/// A finished look-up, to be given to `Resolver::answered`.
pub(crate) type Answer = (HostPort, Result<Addresses, String>);

impl Resolver {
    /// A resolver for the shards whose mailboxes are given, and where its answers arrive. At most
    /// one answer per name asked for is in that channel.
    pub(crate) fn new(
        shards: Vec<mpsc::Sender<ToShard>>,
    ) -> (Self, mpsc::UnboundedReceiver<Answer>) {
        let (answers, answered) = mpsc::unbounded_channel();
        let limit = std::sync::Arc::new(tokio::sync::Semaphore::new(LOOKUPS_MAX));
        (
            Self {
                shards,
                waiting: HashMap::new(),
                answers,
                limit,
            },
            answered,
        )
    }

    /// Starts a look-up unless one for this name is under way.
    pub(crate) fn ask(&mut self, shard: ShardIndex, name: HostPort) {
        let waiting = self.waiting.entry(name.clone()).or_default();
        if !waiting.contains(&shard) {
            waiting.push(shard);
        }
        if waiting.len() > 1 {
            return;
        }
        let answers = self.answers.clone();
        let limit = self.limit.clone();
        tokio::spawn(async move {
            let _permit = limit.acquire_owned().await;
            let result = look_up(&name).await;
            // The receiver is gone only when the process ends.
            let _ = answers.send((name, result));
        });
    }

    /// Passes a finished look-up on to the shards that asked.
    pub(crate) async fn answered(&mut self, (name, result): Answer) {
        for shard in self.waiting.remove(&name).unwrap_or_default() {
            let message = ToShard::Resolved(name.clone(), result.clone());
            // A shard that has ended needs no answer.
            let _ = self.shards[shard].send(message).await;
        }
    }
}

async fn look_up(name: &HostPort) -> Result<Addresses, String> {
    let lookup = tokio::net::lookup_host((&*name.host, name.port));
    let host = &name.host;
    match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
        Err(_) => Err(format!("lookup of {host} took more than 5 s")),
        Ok(Err(error)) => Err(format!("lookup of {host} failed: {error}")),
        Ok(Ok(addresses)) => {
            let addresses: Addresses = addresses.collect();
            if addresses.is_empty() {
                return Err(format!("lookup of {host} gave no address"));
            }
            Ok(addresses)
        }
    }
}
