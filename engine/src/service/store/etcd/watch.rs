//! Changes that etcd tells of -> what is published, through restarts, pauses and compactions.
//!
//! A watch goes on from the revision that is known; if etcd has that no more, or begins anew, all
//! is read again. Beside the watch etcd is asked each second for the last change: a server that
//! stands still, or a watch that misses something, is noticed so.

use super::client::Failure;
use super::http::Answer;
use super::wire::{self, EventKind, Range, WatchLine, WatchResult, decode};
use super::{Etcd, Listing};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::timeout;
use tracing::{debug, warn};

/// Pause before etcd is watched again; doubled up to the second one.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often etcd is asked for the last change,
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// how long it may take for the answer,
const LOOK_PATIENCE: Duration = Duration::from_millis(2_500);
/// and after how many such answers a watch that does not tell of that change is given up, or a
/// decided batch is finished.
const LOOKS_MAX: u32 = 3;
/// How long a watch may take to begin.
const OPEN_PATIENCE: Duration = Duration::from_secs(4);
/// Of one line.
const LINE_BYTES_MAX: usize = 512 << 20;

/// Why a watch ended.
enum End {
    /// It may go on where it was.
    Broken(String),
    /// All is to be read again.
    Outdated(String),
}

/// What a watch and the look beside it share.
#[derive(Default)]
struct Progress {
    revision: AtomicU64,
    is_pending: AtomicBool,
}

impl Progress {
    fn note(&self, known: &Listing) {
        self.revision.store(known.configs.revision, Relaxed);
        self.is_pending.store(known.is_pending, Relaxed);
    }
}

impl Etcd {
    pub(super) async fn watch_for_ever(&self) {
        let mut known = None;
        let mut pause = PAUSE_MIN;
        loop {
            let before = known.as_ref().map(|known: &Listing| known.configs.revision);
            let reason = match self.follow(&mut known).await {
                End::Broken(reason) => {
                    self.publisher.lost(reason.clone());
                    self.client.go_on();
                    reason
                }
                // It answers.
                End::Outdated(reason) => {
                    known = None;
                    reason
                }
            };
            debug!(reason, "etcd is watched again");
            let after = known.as_ref().map(|known| known.configs.revision);
            if after != before && after.is_some() {
                pause = PAUSE_MIN;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Reads and watches as long as it goes.
    async fn follow(&self, known: &mut Option<Listing>) -> End {
        let known = match known {
            Some(known) => known,
            None => match self.list().await {
                Ok(listing) => {
                    self.publish(&listing);
                    known.insert(listing)
                }
                Err(failure) => return End::Broken(failure.text()),
            },
        };
        let question = wire::watch(self.keys.prefix(), known.configs.revision + 1);
        let opened = timeout(OPEN_PATIENCE, self.client.open("watch", &question)).await;
        let response = match opened {
            Ok(Ok(response)) => response,
            Ok(Err(Failure::Compacted)) => return End::Outdated("compacted".to_owned()),
            Ok(Err(failure)) => return End::Broken(failure.text()),
            Err(_) => return End::Broken("etcd does not begin a watch".to_owned()),
        };
        let mut lines = Lines::new(response);
        let progress = Progress::default();
        progress.note(known);
        let looking = self.look(&progress);
        tokio::pin!(looking);
        loop {
            let line = tokio::select! {
                line = lines.next() => line,
                end = &mut looking => return end,
            };
            let line = match line {
                Ok(line) => line,
                Err(reason) => return End::Broken(reason),
            };
            if let Some(refusal) = line.error {
                // It may be this revision that it cannot send.
                return End::Outdated(refusal.message);
            }
            if let Err(end) = self.take(known, line.result) {
                return end;
            }
            progress.note(known);
        }
    }

    fn take(&self, known: &mut Listing, result: WatchResult) -> Result<(), End> {
        if result.canceled {
            return Err(End::Outdated("etcd has compacted its history".to_owned()));
        }
        let is_other = result.header.cluster_id != known.cluster_id;
        if is_other || result.created && result.header.revision.0 < known.configs.revision {
            warn!("etcd begins anew, or is another one: all configurations are read again");
            return Err(End::Outdated("etcd begins anew".to_owned()));
        }
        for event in &result.events {
            match event.r#type {
                EventKind::Put => self.add(known, &event.kv),
                EventKind::Delete => self.remove(known, &event.kv.key.0),
            }
            let revision = &mut known.configs.revision;
            *revision = event.kv.mod_revision.0.max(*revision);
        }
        if result.created || !result.events.is_empty() {
            self.publish(known);
        }
        Ok(())
    }

    fn publish(&self, known: &Listing) {
        // Not a part of a batch.
        if !known.is_pending {
            self.publisher.configs(Arc::new(known.configs.clone()));
        }
    }

    /// Asks for the last change again and again; ends when the watch is of no use any more.
    async fn look(&self, progress: &Progress) -> End {
        let (mut behind, mut pending) = (0, 0);
        let key = self.keys.changed();
        let question = wire::page(&key, &[&key[..], &[0]].concat(), 0, 1);
        loop {
            tokio::time::sleep(LOOK_PAUSE).await;
            let asking = self.client.ask_once::<Range>("kv/range", &question);
            let answer = match timeout(LOOK_PATIENCE, asking).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(failure)) => return End::Broken(failure.text()),
                Err(_) => {
                    return End::Broken(format!("etcd does not answer within {LOOK_PATIENCE:?}"));
                }
            };
            let last = answer.kvs.first().map_or(0, |kv| kv.mod_revision.0);
            behind = match last > progress.revision.load(Relaxed) {
                true => behind + 1,
                false => 0,
            };
            pending = match progress.is_pending.load(Relaxed) {
                true => pending + 1,
                false => 0,
            };
            if behind >= LOOKS_MAX {
                return End::Outdated("the watch does not tell of changes".to_owned());
            }
            if pending >= LOOKS_MAX {
                pending = 0;
                // Who decided the batch may be gone.
                if let Err(failure) = self.finish().await {
                    warn!(
                        error = failure.text(),
                        "a decided batch cannot be finished yet"
                    );
                }
            }
        }
    }
}

/// The lines of a watch.
struct Lines {
    response: Answer,
    buffer: Vec<u8>,
    /// Bytes of the buffer that have no line end.
    searched: usize,
}

impl Lines {
    fn new(response: Answer) -> Self {
        Self {
            response,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    /// The next line. Nothing is lost if it is not waited for to the end.
    async fn next(&mut self) -> Result<WatchLine, String> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                return decode(&line);
            }
            self.searched = self.buffer.len();
            match self.response.chunk().await {
                Ok(Some(chunk)) if self.buffer.len() + chunk.len() <= LINE_BYTES_MAX => {
                    self.buffer.extend_from_slice(&chunk);
                }
                Ok(Some(_)) => return Err("etcd sends a line without end".to_owned()),
                Ok(None) => return Err("etcd has ended the watch".to_owned()),
                Err(error) => return Err(error),
            }
        }
    }
}
