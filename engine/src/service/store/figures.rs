//! What a store is asked and answers, and what is known of it -> figures for `/metrics`.

use super::{StoreError, StoreHandle};
use crate::clock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// What a store is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    /// All that it holds.
    Read,
    /// A batch of changes.
    Apply,
}

const OPERATIONS: [&str; 2] = ["read", "apply"];
const RESULTS: [&str; 6] = [
    "ok",
    "not_connected",
    "unconfirmed",
    "conflict",
    "missing",
    "refused",
];

/// What the task of a store counts.
#[derive(Debug, Default)]
pub struct StoreCounters {
    operations: [[AtomicU64; RESULTS.len()]; OPERATIONS.len()],
    /// When the store answered last, in ms since the Unix epoch; 0: not yet.
    succeeded_ms: AtomicI64,
    is_from_disk: AtomicBool,
}

impl StoreCounters {
    /// The store has answered.
    pub(super) fn succeeded(&self) {
        self.succeeded_ms.store(clock::now_ms(), Relaxed);
    }

    /// Whether what is known is what this node's disk held at the start.
    pub(super) fn set_from_disk(&self, is_from_disk: bool) {
        self.is_from_disk.store(is_from_disk, Relaxed);
    }

    /// A question has got its answer.
    pub(super) fn answered<T>(&self, operation: Operation, answer: &Result<T, StoreError>) {
        let result = match answer {
            Ok(_) => 0,
            Err(StoreError::NotConnected(_)) => 1,
            Err(StoreError::Unconfirmed(_)) => 2,
            Err(StoreError::Conflict { .. }) => 3,
            Err(StoreError::Missing(_)) => 4,
            Err(StoreError::Refused(_)) => 5,
        };
        self.operations[operation as usize][result].fetch_add(1, Relaxed);
        if answer.is_ok() {
            self.succeeded();
        }
    }
}

/// How a store is doing at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreFigures {
    /// What kind of store it is.
    pub(crate) kind: &'static str,
    /// Whether it answers.
    pub(crate) is_connected: bool,
    /// Whether what is known is what this node's disk held at the start.
    pub(crate) is_from_disk: bool,
    /// When it answered last; `None`: not since the start.
    pub(crate) succeeded_ms: Option<i64>,
    /// Configurations known.
    pub(crate) entries: usize,
    /// Of their names and texts.
    pub(crate) bytes: usize,
    /// The store's, as known.
    pub(crate) revision: u64,
    /// By operation and result.
    pub(crate) operations: Vec<(&'static str, &'static str, u64)>,
}

impl StoreHandle {
    /// How the store is doing.
    pub(crate) fn figures(&self) -> StoreFigures {
        let (is_connected, configs) = {
            let state = self.state.borrow();
            (state.is_connected, state.configs.clone())
        };
        let counters = &self.counters;
        let mut operations = Vec::new();
        for (operation, counts) in OPERATIONS.iter().zip(&counters.operations) {
            for (result, count) in RESULTS.iter().zip(counts) {
                operations.push((*operation, *result, count.load(Relaxed)));
            }
        }
        let all = configs.by_name.values();
        StoreFigures {
            kind: self.kind,
            is_connected,
            is_from_disk: counters.is_from_disk.load(Relaxed),
            succeeded_ms: Some(counters.succeeded_ms.load(Relaxed)).filter(|ms| *ms != 0),
            entries: configs.by_name.len(),
            bytes: all.map(|one| one.name.len() + one.text.len()).sum(),
            revision: configs.revision,
            operations,
        }
    }
}
