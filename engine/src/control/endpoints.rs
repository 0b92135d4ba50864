//! `remote_write` settings -> one network side per endpoint, and its channels to all shards.

use crate::config::Endpoint;
use crate::mailbox::{EndpointChannel, EndpointLink};
use crate::remote_write::post::{PostError, Poster, ShardRequest};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::error;

/// Requests of all shards that may wait for one endpoint's network side.
const REQUESTS_WAITING_MAX: usize = 16;

/// How long an endpoint of stored configurations goes on after the last of them is gone or has
/// other settings: what it has not sent yet, and the end of its series, is sent meanwhile.
const LINGER_MS: i64 = 10 * 60_000;

/// The network sides in force.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    in_force: Vec<Arc<Endpoint>>,
    /// Those of stored configurations, by identity, and until when they stay; `None`: as long as
    /// they are wanted.
    stored: HashMap<String, (Arc<Endpoint>, Option<i64>)>,
    /// The shards have been told once.
    is_told: bool,
}

impl Endpoints {
    /// Starts a network side for each endpoint that is new or has changed. A former one sends what
    /// it has been given and then ends. Per shard: what it has to be told; `None`: nothing has
    /// changed. `stored`: those of stored configurations, of which one that cannot be used is left
    /// out and logged; `file`: those of the file, identities differing from all others'.
    ///
    /// # Errors
    /// Settings of the file that no request can be made of; then nothing has changed.
    pub(super) fn apply(
        &mut self,
        file: &[Arc<Endpoint>],
        stored: &[Arc<Endpoint>],
        shard_count: usize,
        now_ms: i64,
    ) -> Result<Option<Vec<Vec<EndpointLink>>>, PostError> {
        let before = std::mem::take(&mut self.in_force);
        let known: HashMap<&str, &Arc<Endpoint>> = before
            .iter()
            .map(|endpoint| (endpoint.identity.as_str(), endpoint))
            .collect();
        let poster = |endpoint: &Arc<Endpoint>| match known.get(endpoint.identity.as_str()) {
            Some(have) if *have == endpoint => Ok(None),
            _ => Poster::new(endpoint, env!("CARGO_PKG_VERSION")).map(Some),
        };
        let mut wanted = Vec::with_capacity(file.len() + stored.len());
        for endpoint in file {
            match poster(endpoint) {
                Ok(poster) => wanted.push((endpoint.clone(), poster)),
                Err(error) => {
                    self.in_force = before;
                    return Err(error);
                }
            }
        }
        let of_file: HashSet<&str> = file.iter().map(|one| one.identity.as_str()).collect();
        self.keep(stored, &of_file, now_ms);
        let mut kept: Vec<&Arc<Endpoint>> = self.stored.values().map(|(one, _)| one).collect();
        kept.sort_unstable_by(|a, b| a.identity.cmp(&b.identity));
        for endpoint in kept {
            match poster(endpoint) {
                Ok(poster) => wanted.push((endpoint.clone(), poster)),
                Err(error) => error!(%error, "an endpoint of a stored configuration is left out"),
            }
        }
        let is_same = wanted.iter().all(|(_, poster)| poster.is_none());
        if is_same && wanted.len() == before.len() && self.is_told {
            self.in_force = before;
            return Ok(None);
        }
        self.is_told = true;
        let mut links: Vec<Vec<EndpointLink>> = (0..shard_count).map(|_| Vec::new()).collect();
        for (endpoint, poster) in wanted {
            let channels = poster.map(|poster| start(poster, shard_count));
            let mut channels = channels.map(Vec::into_iter);
            for shard in &mut links {
                let channel = channels.as_mut().and_then(Iterator::next);
                shard.push(EndpointLink {
                    endpoint: endpoint.clone(),
                    channel,
                });
            }
            self.in_force.push(endpoint);
        }
        Ok(Some(links))
    }

    /// Which endpoints of stored configurations are there: those wanted, and for a while those that
    /// were.
    fn keep(&mut self, wanted: &[Arc<Endpoint>], of_file: &HashSet<&str>, now_ms: i64) {
        for (_, until_ms) in self.stored.values_mut() {
            until_ms.get_or_insert(now_ms + LINGER_MS);
        }
        for endpoint in wanted {
            let entry = (endpoint.clone(), None);
            self.stored.insert(endpoint.identity.clone(), entry);
        }
        self.stored.retain(|identity, (_, until_ms)| {
            !of_file.contains(identity.as_str()) && until_ms.is_none_or(|until| until > now_ms)
        });
    }
}

/// Runs a network side; it ends when all shards have dropped their sender.
fn start(poster: Poster, shard_count: usize) -> Vec<EndpointChannel> {
    let (requests, received) = mpsc::channel::<ShardRequest>(REQUESTS_WAITING_MAX);
    let mut answer_senders = Vec::with_capacity(shard_count);
    let mut channels = Vec::with_capacity(shard_count);
    for _ in 0..shard_count {
        let (sender, answers) = mpsc::unbounded_channel();
        answer_senders.push(sender);
        channels.push(EndpointChannel {
            requests: requests.clone(),
            answers,
        });
    }
    tokio::spawn(poster.run(received, answer_senders));
    channels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn endpoints(urls: &[&str]) -> Vec<Arc<Endpoint>> {
        let list: Vec<String> = urls
            .iter()
            .map(|url| format!("{{url: 'http://{url}/'}}"))
            .collect();
        let text = format!("remote_write: [{}]", list.join(", "));
        let config = Config::parse(Path::new("/r.yml"), &text, &|_| None).unwrap();
        config.remote_write
    }

    fn names(links: &[Vec<EndpointLink>]) -> Vec<(String, bool)> {
        let name = |link: &EndpointLink| (link.endpoint.url.clone(), link.channel.is_some());
        links[0].iter().map(name).collect()
    }

    #[tokio::test]
    async fn unchanged_endpoints_keep_their_channels_and_stored_ones_linger() {
        let mut all = Endpoints::default();
        let (file, stored) = (endpoints(&["f"]), endpoints(&["a", "b"]));
        let mut apply =
            |stored: &[Arc<Endpoint>], now_ms| all.apply(&file, stored, 1, now_ms).unwrap();
        let url = |name: &str, is_new| (format!("http://{name}/"), is_new);
        let first = apply(&stored, 0).unwrap();
        assert_eq!(
            names(&first),
            [url("f", true), url("a", true), url("b", true)]
        );
        assert!(apply(&stored, 1).is_none(), "nothing has changed");
        let more = endpoints(&["b", "c"]);
        let second = apply(&more, 2).unwrap();
        assert_eq!(
            names(&second),
            [
                url("f", false),
                url("a", false),
                url("b", false),
                url("c", true)
            ]
        );
        assert!(apply(&more, 1 + LINGER_MS).is_none());
        let last = apply(&more, 2 + LINGER_MS).unwrap();
        assert_eq!(
            names(&last),
            [url("f", false), url("b", false), url("c", false)]
        );
    }
}
