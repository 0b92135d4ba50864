//! One former directory, as its shard knows it: open, done, or not to be read.

use ringscrape_wal::backlog::Backlog;
use ringscrape_wal::error::ReadError;
use ringscrape_wal::scrape::Position;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tracing::error;

/// How soon a directory that cannot be opened or changed is tried again, in milliseconds.
pub(super) const RETRY_MS: u64 = 10_000;
/// How long what is scraped now waits for what cannot be read, in milliseconds: time to see the
/// error and to mend it.
pub(in super::super) const PATIENCE_MS: u64 = 120_000;

#[derive(Debug)]
pub(super) struct Dir {
    pub(super) generation: u64,
    pub(super) path: PathBuf,
    /// `None`: not opened yet, being worked on, or done.
    pub(super) log: Option<Backlog>,
    /// By endpoint in force: see `Former::marks`. Kept while the log is being worked on.
    pub(super) marks: HashMap<String, Marks>,
    pub(super) is_done: bool,
    /// When it is tried again.
    pub(super) retry_at_ms: u64,
    /// Since when it cannot be opened whole.
    pub(super) failing_since_ms: Option<u64>,
    /// Endpoints do not wait for it.
    pub(super) is_passed_over: bool,
    /// Files that were left out.
    pub(super) unreadable: u64,
}

pub(super) type Marks = (Vec<Box<str>>, Option<Position>);

impl Dir {
    pub(super) fn new(generation: u64, path: &Path) -> Self {
        Self {
            generation,
            path: path.to_owned(),
            log: None,
            marks: HashMap::new(),
            is_done: false,
            retry_at_ms: 0,
            failing_since_ms: None,
            is_passed_over: false,
            unreadable: 0,
        }
    }

    /// It cannot be opened.
    pub(super) fn failed(&mut self, error: &ReadError, now_ms: u64) {
        self.retry_at_ms = now_ms + RETRY_MS;
        let Some(since_ms) = self.failing_since_ms else {
            self.failing_since_ms = Some(now_ms);
            error!(
                %error, dir = %self.path.display(),
                "cannot read the log of a former number of shards: what is in it is not sent, and \
                 what is scraped now waits for it, {} s at most; let this process read and write \
                 the folder and all in it",
                PATIENCE_MS / 1_000
            );
            return;
        };
        if !self.is_passed_over && now_ms >= since_ms + PATIENCE_MS {
            self.is_passed_over = true;
            error!(
                %error, dir = %self.path.display(),
                "still cannot read the log of a former number of shards: what is scraped now is \
                 sent without it; nothing is deleted, and it is sent as soon as it can be read, \
                 now or after a restart, though a receiver that wants samples in order may refuse \
                 them then"
            );
        }
    }

    /// Whether it is opened without what cannot be read.
    pub(super) fn is_without_patience(&self, now_ms: u64) -> bool {
        self.failing_since_ms
            .is_some_and(|since_ms| now_ms >= since_ms + PATIENCE_MS)
    }

    /// It was opened without these files.
    pub(super) fn left_out(&mut self, unreadable: &[ReadError]) {
        if self.unreadable == 0 {
            for error in unreadable {
                error!(
                    %error, dir = %self.path.display(),
                    "the log of a former number of shards is sent without this file, which stays \
                     where it is; let this process read and write it, and start anew"
                );
            }
        }
        self.unreadable = self.unreadable.max(unreadable.len() as u64);
    }
}
