//! One place to look at -> its latest groups, in a cell that the job's collector reads.

use super::{Counters, TargetGroup, file, http};
use crate::config::{FileSdConfig, HttpSdConfig};
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// What a source last said; `None` until it has answered once.
pub(super) type Answer = Option<Vec<Arc<TargetGroup>>>;

/// Settings of a source; equal settings go on with the running task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SourceConfig {
    File(FileSdConfig),
    Http(HttpSdConfig),
}

/// Where a source's task puts its groups: the latest only, so nothing queues up.
#[derive(Debug)]
pub(super) struct Publisher {
    cell: watch::Sender<Answer>,
    wake: Arc<Notify>,
}

impl Publisher {
    /// Replaces all groups of the source; wakes the collector if they differ.
    pub(super) fn publish(&self, groups: Vec<Arc<TargetGroup>>) {
        let changed = self.cell.send_if_modified(|answer| {
            let changed = answer.as_ref() != Some(&groups);
            if changed {
                *answer = Some(groups);
            }
            changed
        });
        if changed {
            self.wake.notify_one();
        }
    }
}

/// A source that is being watched; its task ends when this is dropped.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) config: SourceConfig,
    pub(super) answer: watch::Receiver<Answer>,
    _task: AbortOnDrop,
}

impl Source {
    pub(super) fn start(config: SourceConfig, wake: Arc<Notify>, counters: Arc<Counters>) -> Self {
        let (cell, answer) = watch::channel(None);
        let publisher = Publisher { cell, wake };
        let task = match config.clone() {
            SourceConfig::File(config) => tokio::spawn(file::run(config, publisher, counters)),
            SourceConfig::Http(config) => tokio::spawn(http::run(config, publisher, counters)),
        };
        Self {
            config,
            answer,
            _task: AbortOnDrop(task),
        }
    }
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(super) struct AbortOnDrop(pub(super) tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
