//! A store and questions to it -> answers, and what is known of it, by one task.
//!
//! **Runs on**: control. Nothing here waits for a disk or a network itself: each question is a task
//! of its own, of which there are at most [`REQUESTS_AT_ONCE`]; more wait in the mailbox, whose
//! senders wait when it is full.

use super::cache::Cache;
use super::figures::{Operation, StoreCounters};
use super::{Applied, Change, Configs, Outcome, Request, StoreError, StoreHandle, StoreState};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{info, warn};

/// Questions that may wait.
const REQUESTS_MAX: usize = 64;
/// Questions that are asked at once.
const REQUESTS_AT_ONCE: usize = 16;
/// How long after a change was made it is waited for that the store tells of it, so that who made
/// it finds it in what is known.
const NEWS_PATIENCE: Duration = Duration::from_secs(1);

/// A kind of store. It publishes what it holds by a [`Publisher`] of its own.
pub(super) trait Backend: Send + Sync + 'static {
    /// What it is called in metrics.
    const KIND: &'static str;

    /// What it holds now.
    fn read(&self) -> impl Future<Output = Result<Arc<Configs>, StoreError>> + Send;

    /// Makes changes, all or none.
    fn apply(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<Applied, StoreError>> + Send;

    /// Publishes its changes, and whether it answers, for ever.
    fn watch(&self) -> impl Future<Output = ()> + Send;
}

/// Where a store says what it holds.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    state: Arc<watch::Sender<StoreState>>,
    counters: Arc<StoreCounters>,
}

impl Publisher {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        let state = StoreState {
            last_error: "the store has not answered yet".to_owned(),
            ..StoreState::default()
        };
        Self {
            state: Arc::new(watch::Sender::new(state)),
            counters: Arc::default(),
        }
    }

    /// What is published.
    pub(super) fn state(&self) -> watch::Receiver<StoreState> {
        self.state.subscribe()
    }

    /// What it held when it last answered.
    pub(super) fn last_known(&self, configs: Arc<Configs>) {
        self.counters.set_from_disk(*configs != Configs::default());
        self.state.send_modify(|state| state.configs = configs);
    }

    /// The store answers, and holds this.
    ///
    /// A store that is empty although it held something, and whose revisions begin anew, has lost
    /// its data; what it last held stays known until there is something in it.
    pub(super) fn configs(&self, configs: Arc<Configs>) {
        self.state.send_if_modified(|state| {
            let known = state.configs.by_name.len();
            let is_wiped = configs.by_name.is_empty()
                && known > 0
                && configs.revision < state.configs.revision;
            if is_wiped {
                let error = format!(
                    "the store has lost its data: it is empty, and its revision fell from {} to \
                     {}; the {known} configurations that it held stay in force until one is stored",
                    state.configs.revision, configs.revision
                );
                return set_error(state, error);
            }
            self.counters.succeeded();
            self.counters.set_from_disk(false);
            let is_news = !state.is_connected || state.configs != configs;
            if !state.is_connected {
                info!(
                    configs = configs.by_name.len(),
                    revision = configs.revision,
                    "the configuration store answers"
                );
            }
            if is_news {
                *state = StoreState {
                    configs,
                    is_connected: true,
                    last_error: String::new(),
                };
            }
            is_news
        });
    }

    /// What it holds has changed, whether it answers or not.
    pub(super) fn news(&self, configs: Arc<Configs>) {
        self.state.send_if_modified(|state| {
            let is_news = state.configs != configs;
            if is_news {
                state.configs = configs;
            }
            is_news
        });
    }

    /// The store does not answer; what is known stays so.
    pub(super) fn lost(&self, reason: String) {
        self.state
            .send_if_modified(|state| set_error(state, reason));
    }
}

fn set_error(state: &mut StoreState, error: String) -> bool {
    let is_news = state.is_connected || state.last_error != error;
    if is_news {
        warn!(
            error,
            "the configuration store: what is known stays in force"
        );
        state.is_connected = false;
        state.last_error = error;
    }
    is_news
}

/// Starts the task of a store. It ends when nobody has a handle any more. With a cache, what the
/// store last held is known at once.
pub(super) fn start<B: Backend>(
    backend: B,
    publisher: Publisher,
    cache: Option<Cache>,
) -> StoreHandle {
    if let Some(cache) = cache {
        if let Some(configs) = cache.load() {
            info!(
                configs = configs.by_name.len(),
                revision = configs.revision,
                "last known configurations are in force until the store answers"
            );
            publisher.last_known(configs);
        }
        tokio::spawn(cache.follow(publisher.state()));
    }
    let (requests, questions) = mpsc::channel(REQUESTS_MAX);
    let (state, counters) = (publisher.state(), publisher.counters);
    let running = run(
        Arc::new(backend),
        state.clone(),
        counters.clone(),
        questions,
    );
    tokio::spawn(running);
    StoreHandle {
        requests,
        state,
        kind: B::KIND,
        counters,
    }
}

async fn run(
    backend: Arc<impl Backend>,
    state: watch::Receiver<StoreState>,
    counters: Arc<StoreCounters>,
    mut questions: mpsc::Receiver<Request>,
) {
    let watching = {
        let backend = backend.clone();
        tokio::spawn(async move { backend.watch().await })
    };
    let places = Arc::new(Semaphore::new(REQUESTS_AT_ONCE));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Some(request) = questions.recv().await else {
            break;
        };
        let (backend, state, counters) = (backend.clone(), state.clone(), counters.clone());
        tokio::spawn(async move {
            // Who asked may have gone.
            match request {
                Request::Apply { changes, answer } => {
                    let applied = backend.apply(changes).await;
                    counters.answered(Operation::Apply, &applied);
                    if let Ok(applied) = &applied {
                        await_news(applied, state).await;
                    }
                    let _ = answer.send(applied);
                }
                Request::Read(answer) => {
                    let read = backend.read().await;
                    counters.answered(Operation::Read, &read);
                    let _ = answer.send(read);
                }
            }
            drop(place);
        });
    }
    watching.abort();
}

async fn await_news(applied: &Applied, mut state: watch::Receiver<StoreState>) {
    let is_nothing = |outcome: &Outcome| *outcome == Outcome::Unchanged;
    if applied.outcomes.iter().all(is_nothing) {
        return;
    }
    let is_known = |state: &StoreState| state.configs.revision >= applied.revision;
    // It is made, whether the news of it come in time or not.
    let _ = tokio::time::timeout(NEWS_PATIENCE, state.wait_for(is_known)).await;
}
