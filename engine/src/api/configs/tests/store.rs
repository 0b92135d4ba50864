//! A store in memory, which may be broken, and what it holds.

use crate::service::store::{
    Applied, Change, Condition, Configs, Origin, Outcome, Request, StoreError, StoreHandle,
    StoreState, StoredConfig,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};

/// How the store answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Works,
    Gone,
    Unconfirmed,
    Refuses,
}

/// The store.
pub(super) struct Memory {
    pub(super) handle: StoreHandle,
    /// Changes by way of another node, each made just before one of this node's and told of later.
    pub(super) overtaking: Arc<Mutex<VecDeque<Change>>>,
    /// All of them before the next one of this node's.
    pub(super) overtaking_at_once: Arc<AtomicBool>,
}

/// Configurations with these texts, at revisions from 1.
pub(in super::super) fn configs(texts: &[(&str, &str)]) -> Configs {
    let by_name = texts.iter().zip(1..).map(|((name, text), revision)| {
        let config = StoredConfig {
            name: (*name).into(),
            text: (*text).into(),
            revision,
            origin: Origin::default(),
        };
        (Arc::from(*name), Arc::new(config))
    });
    Configs {
        revision: texts.len() as u64,
        by_name: by_name.collect(),
    }
}

fn error_of(mode: Mode) -> Option<StoreError> {
    match mode {
        Mode::Works => None,
        Mode::Gone => Some(StoreError::NotConnected("refused".to_owned())),
        Mode::Unconfirmed => Some(StoreError::Unconfirmed("timeout".to_owned())),
        Mode::Refuses => Some(StoreError::Refused("too large".to_owned())),
    }
}

impl Memory {
    pub(super) fn start(mode: Mode) -> Self {
        let (requests, mut asked) = mpsc::channel(8);
        let first = StoreState {
            is_connected: mode != Mode::Gone,
            last_error: "refused".to_owned(),
            ..StoreState::default()
        };
        let (told, state) = watch::channel(first);
        let overtaking = Arc::<Mutex<VecDeque<Change>>>::default();
        let others = overtaking.clone();
        let overtaking_at_once = Arc::<AtomicBool>::default();
        let at_once = overtaking_at_once.clone();
        tokio::spawn(async move {
            let mut now = told.borrow().configs.clone();
            while let Some(request) = asked.recv().await {
                let is_read = matches!(request, Request::Read(_));
                for change in overtaking_now(&others, is_read, &at_once) {
                    let mut next = (*now).clone();
                    apply(&mut next, vec![change]).unwrap();
                    now = next.into();
                }
                match (request, error_of(mode)) {
                    (Request::Read(answer), None) => drop(answer.send(Ok(now.clone()))),
                    (Request::Read(answer), Some(error)) => drop(answer.send(Err(error))),
                    (Request::Apply { answer, .. }, Some(error)) => drop(answer.send(Err(error))),
                    (Request::Apply { changes, answer }, None) => {
                        let mut next = (*now).clone();
                        let applied = apply(&mut next, changes);
                        // The list follows the answer, as it does for a store far away.
                        let is_made = applied.is_ok();
                        drop(answer.send(applied));
                        tokio::task::yield_now().await;
                        if is_made {
                            now = next.into();
                            told.send_modify(|state| state.configs = now.clone());
                        }
                    }
                }
            }
        });
        Self {
            handle: StoreHandle {
                requests,
                state,
                kind: "memory",
                counters: Arc::default(),
            },
            overtaking,
            overtaking_at_once,
        }
    }
}

fn overtaking_now(
    others: &Mutex<VecDeque<Change>>,
    is_read: bool,
    at_once: &AtomicBool,
) -> Vec<Change> {
    let mut others = others.lock().unwrap();
    let count = match at_once.load(Ordering::Relaxed) {
        _ if is_read => 0,
        true => others.len(),
        false => others.len().min(1),
    };
    others.drain(..count).collect()
}

fn apply(configs: &mut Configs, changes: Vec<Change>) -> Result<Applied, StoreError> {
    let revision = configs.revision + 1;
    let mut outcomes = Vec::new();
    for change in changes {
        let (Change::Put {
            name, condition, ..
        }
        | Change::Delete { name, condition }) = &change;
        let have = configs.by_name.get(name).cloned();
        let current = have.as_ref().map(|have| have.revision);
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => current.is_none(),
            Condition::Present => current.is_some(),
            Condition::Revision(wanted) => current == Some(*wanted),
        };
        if !holds {
            return Err(StoreError::Conflict {
                name: name.clone(),
                revision: current,
            });
        }
        outcomes.push(match change {
            Change::Delete { name, .. } => match configs.by_name.remove(&name) {
                Some(_) => Outcome::Deleted,
                None => return Err(StoreError::Missing(name)),
            },
            Change::Put {
                name, text, origin, ..
            } => {
                let same = |have: &Arc<StoredConfig>| {
                    have.text == text && have.origin.managed_by == origin.managed_by
                };
                if have.as_ref().is_some_and(same) {
                    outcomes.push(Outcome::Unchanged);
                    continue;
                }
                let config = StoredConfig {
                    name: name.clone(),
                    text,
                    revision,
                    origin,
                };
                configs.by_name.insert(name, config.into());
                match have {
                    None => Outcome::Created,
                    Some(_) => Outcome::Updated,
                }
            }
        });
    }
    if outcomes
        .iter()
        .any(|outcome| *outcome != Outcome::Unchanged)
    {
        configs.revision = revision;
    }
    Ok(Applied {
        revision: configs.revision,
        outcomes,
    })
}
