//! `remote_write` settings -> one network side per endpoint, and its channels to all shards.

use crate::config::Endpoint;
use crate::mailbox::{EndpointChannel, EndpointLink};
use crate::remote_write::post::{PostError, Poster, ShardRequest};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Requests of all shards that may wait for one endpoint's network side.
const REQUESTS_WAITING_MAX: usize = 16;

/// The network sides in force.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    by_identity: HashMap<String, Arc<Endpoint>>,
}

impl Endpoints {
    /// Starts a network side for each endpoint that is new or has changed. A former one sends what
    /// it has been given and then ends. Per shard: what it has to be told.
    ///
    /// # Errors
    /// Settings that no request can be made of; then nothing has changed.
    pub(super) fn apply(
        &mut self,
        endpoints: &[Arc<Endpoint>],
        shard_count: usize,
    ) -> Result<Vec<Vec<EndpointLink>>, PostError> {
        let mut posters = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let same = self
                .by_identity
                .get(&endpoint.identity)
                .is_some_and(|have| have == endpoint);
            let poster = match same {
                true => None,
                false => Some(Poster::new(endpoint, env!("CARGO_PKG_VERSION"))?),
            };
            posters.push(poster);
        }
        let mut links: Vec<Vec<EndpointLink>> = (0..shard_count).map(|_| Vec::new()).collect();
        for (endpoint, poster) in endpoints.iter().zip(posters) {
            let channels = poster.map(|poster| start(poster, shard_count));
            let mut channels = channels.map(Vec::into_iter);
            for shard in &mut links {
                let channel = channels.as_mut().and_then(Iterator::next);
                shard.push(EndpointLink {
                    endpoint: endpoint.clone(),
                    channel,
                });
            }
        }
        self.by_identity = endpoints
            .iter()
            .map(|one| (one.identity.clone(), one.clone()))
            .collect();
        Ok(links)
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
