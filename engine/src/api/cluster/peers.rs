//! What nodes ask each other for the API's sake, as bytes, and how they are asked.

use super::view::HealthView;
use crate::api::{Health, Query, TargetStatus};
use crate::service::status::{ConfigStatus, NodeConfigs, across};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long another node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Targets in one answer.
const HEALTH_MAX: usize = 2_000;

/// The answer to a question, or why there is none.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>>;

/// The way to other nodes.
pub(crate) trait Peers: std::fmt::Debug + Send + Sync {
    /// Asks a node by its name; the answer is what its [`answer`] made of the question.
    fn ask(&self, node: &str, question: Vec<u8>) -> Answering;
}

/// What a node is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Question {
    /// How much it does.
    Figures,
    /// How these targets are.
    Health(Vec<u64>),
    /// Which of its targets are `up`, `down` or `unknown`.
    InHealth(String),
    /// How it has these stored configurations; `None`: all.
    Configs(Option<Vec<String>>),
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// To `Figures`.
    Figures {
        /// What it logs.
        samples_per_second: f64,
    },
    /// To the others.
    Health {
        /// By key.
        found: BTreeMap<u64, HealthView>,
        /// Whether there would have been more.
        is_cut: bool,
    },
    /// To `Configs`.
    Configs(NodeConfigs),
    /// It cannot.
    Refused(String),
}

/// Answers another node's question. It takes `queries` as a request of the API would.
pub(crate) async fn answer(queries: &mpsc::Sender<Query>, question: &[u8]) -> Vec<u8> {
    let answer = match serde_json::from_slice::<Question>(question) {
        Ok(question) => find(queries, question).await,
        Err(_) => Answer::Refused("it does not know the question: releases differ".to_owned()),
    };
    // Maps of numbers and texts are always JSON.
    serde_json::to_vec(&answer).unwrap_or_default()
}

async fn find(queries: &mpsc::Sender<Query>, question: Question) -> Answer {
    let stopping = || Answer::Refused("it is stopping".to_owned());
    match question {
        Question::Figures => {
            let (sender, receiver) = oneshot::channel();
            let sent = queries.send(Query::Overview(sender)).await;
            match (sent, receiver.await) {
                (Ok(()), Ok(overview)) => Answer::Figures {
                    samples_per_second: overview.samples_per_second,
                },
                _ => stopping(),
            }
        }
        Question::Health(keys) => match statuses(queries, Some(keys)).await {
            Some(statuses) => health_answer(statuses.iter()),
            None => stopping(),
        },
        Question::Configs(names) => match configs(queries, names).await {
            Some(configs) => Answer::Configs(configs),
            None => stopping(),
        },
        Question::InHealth(word) => match statuses(queries, None).await {
            Some(all) => health_answer(all.iter().filter(|s| health_word(s.health) == word)),
            None => stopping(),
        },
    }
}

fn health_answer<'a>(statuses: impl Iterator<Item = &'a TargetStatus>) -> Answer {
    let mut found = BTreeMap::new();
    for status in statuses {
        if found.len() == HEALTH_MAX {
            return Answer::Health {
                found,
                is_cut: true,
            };
        }
        found.insert(status.target.key.0, health_view(status));
    }
    Answer::Health {
        found,
        is_cut: false,
    }
}

/// This node's own targets: those with the given keys, or all.
pub(crate) async fn statuses(
    queries: &mpsc::Sender<Query>,
    keys: Option<Vec<u64>>,
) -> Option<Vec<TargetStatus>> {
    let (answer, answered) = oneshot::channel();
    let query = Query::Health { keys, answer };
    queries.send(query).await.ok()?;
    answered.await.ok()
}

/// How this node has stored configurations; `names`: which, `None`: all.
pub(crate) async fn configs(
    queries: &mpsc::Sender<Query>,
    names: Option<Vec<String>>,
) -> Option<NodeConfigs> {
    let (answer, answered) = oneshot::channel();
    let query = Query::Configs { names, answer };
    queries.send(query).await.ok()?;
    answered.await.ok()
}

/// How stored configurations are doing across the cluster; `names`: which, `None`: all. `None`: the
/// process is stopping.
pub(crate) async fn config_status(
    queries: &mpsc::Sender<Query>,
    names: Option<Vec<String>>,
) -> Option<Vec<ConfigStatus>> {
    let (answer, answered) = oneshot::channel();
    queries.send(Query::Fleet(answer)).await.ok()?;
    let fleet = answered.await.ok()?;
    let mut nodes = BTreeMap::new();
    let own = configs(queries, names.clone()).await?;
    nodes.insert(fleet.me.to_string(), Ok(own));
    if let Some(peers) = &fleet.peers {
        let others = fleet.other_members();
        let question = |node| (node, Question::Configs(names.clone()));
        for (node, result) in ask_all(peers, others.into_iter().map(question).collect()).await {
            let result = result.and_then(|answer| match answer {
                Answer::Configs(configs) => Ok(configs),
                _ => Err("it answered something else".to_owned()),
            });
            nodes.insert(node, result);
        }
    }
    Some(across(&nodes))
}

/// The last scrape of a target, for JSON.
pub(crate) fn health_view(status: &TargetStatus) -> HealthView {
    HealthView {
        health: health_word(status.health).to_owned(),
        last_error: status.last_error.clone(),
        last_scrape_ms: status.last_scrape_ms,
        last_duration_s: status.last_duration_s,
    }
}

/// As in Prometheus' JSON.
pub(crate) fn health_word(health: Health) -> &'static str {
    match health {
        Health::Unknown => "unknown",
        Health::Up => "up",
        Health::Down => "down",
    }
}

/// Asks several nodes at once. Per node: its answer, or why there is none.
pub(crate) async fn ask_all(
    peers: &Arc<dyn Peers>,
    questions: Vec<(String, Question)>,
) -> Vec<(String, Result<Answer, String>)> {
    let asked = questions.into_iter().map(|(node, question)| async move {
        // A question is always JSON.
        let bytes = serde_json::to_vec(&question).unwrap_or_default();
        let result = match tokio::time::timeout(PATIENCE, peers.ask(&node, bytes)).await {
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
            Ok(Err(reason)) => Err(reason),
            Ok(Ok(bytes)) => match serde_json::from_slice(&bytes) {
                Ok(Answer::Refused(reason)) => Err(reason),
                Ok(answer) => Ok(answer),
                Err(_) => Err("its answer cannot be read: releases differ".to_owned()),
            },
        };
        (node, result)
    });
    futures_util::future::join_all(asked).await
}
