//! Shards that have sent an endpoint their part of a former log -> the moment when all have.

use super::{Control, shard_of};
use crate::mailbox::{ShardIndex, ToShard};
use ringscrape_wal::scrape::Scrape;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Which shards have sent what.
#[derive(Debug, Default)]
pub(super) struct FormerLogs {
    /// By endpoint and age.
    sent: BTreeMap<(String, u64), BTreeSet<ShardIndex>>,
}

impl FormerLogs {
    /// One more has; true if that are all.
    fn sent(&mut self, what: (String, u64), shard: ShardIndex, shard_count: usize) -> bool {
        let shards = self.sent.entry(what).or_default();
        shards.insert(shard);
        shards.len() == shard_count
    }
}

impl Control {
    /// A shard has sent an endpoint its part of the logs that are that old.
    pub(super) async fn former_sent(
        &mut self,
        shard: ShardIndex,
        endpoint: String,
        generation: u64,
    ) {
        let what = (endpoint.clone(), generation);
        if !self.former.sent(what, shard, self.shards.len()) {
            return;
        }
        for shard in &self.shards {
            let endpoint = endpoint.clone();
            let message = ToShard::FormerSent {
                endpoint,
                generation,
            };
            // A shard that has ended says so in its own report.
            let _ = shard.mailbox.send(message).await;
        }
    }

    /// What targets had last in a former log, for the shards that they belong to now.
    pub(super) async fn former_scrapes(&mut self, scrapes: Vec<Arc<Scrape>>) {
        let mut of_shards = vec![Vec::new(); self.shards.len()];
        for scrape in scrapes {
            of_shards[shard_of(scrape.target.key, self.shards.len())].push(scrape);
        }
        for (shard, scrapes) in self.shards.iter().zip(of_shards) {
            if !scrapes.is_empty() {
                let _ = shard.mailbox.send(ToShard::FormerScrapes(scrapes)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shards_must_have_sent_the_same() {
        let mut former = FormerLogs::default();
        let what = |endpoint: &str, generation| (endpoint.to_owned(), generation);
        assert!(!former.sent(what("a", 1), 0, 2));
        assert!(!former.sent(what("a", 1), 0, 2));
        assert!(!former.sent(what("b", 1), 1, 2));
        assert!(!former.sent(what("a", 2), 1, 2));
        assert!(former.sent(what("a", 1), 1, 2));
    }
}
