//! This node's replica, with its file: what is taken is on the disk before.

use super::super::log::{Log, Unusable, Unwritten};
use crate::service::store::{Change, Configs, Origin, Outcome, StoredConfig};
use ringscrape_cluster::store::{Content, Entry, Lost, Replica, Verdict};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{error, warn};

/// How much older than the true one the mark in the file may be.
const MARK_MS: i64 = 60 * 60 * 1_000;

/// A frame of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// Together or not at all.
    entries: Vec<Arc<Entry>>,
    /// When this node was last in touch with a majority.
    mark_ms: Option<i64>,
}

/// The replica, and what it is to the rest of the process.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    me: Arc<str>,
    /// `None`: the file cannot be used.
    log: Option<Log>,
    pub(super) replica: Replica,
    /// Of the mark in the file.
    marked_ms: Option<i64>,
    pub(super) configs: Arc<Configs>,
    /// Whether it has all that it once had, or all that another member has.
    pub(super) is_whole: bool,
}

impl Disk {
    /// Nothing is read yet.
    pub(super) fn new(path: PathBuf, me: Arc<str>) -> Self {
        Self {
            path,
            replica: Replica::new(me.clone()),
            me,
            log: None,
            marked_ms: None,
            configs: Arc::default(),
            is_whole: true,
        }
    }

    /// Reads the file, if it is not open.
    ///
    /// A damaged one is moved aside: the other members have what it had.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn open(&mut self) -> Result<(), String> {
        if self.log.is_some() {
            return Ok(());
        }
        let saved = match Log::open::<Saved>(self.path.clone()) {
            Ok((log, saved)) => {
                self.log = Some(log);
                saved
            }
            Err(Unusable { batches, reason }) if batches.is_empty() => return Err(reason),
            Err(Unusable { batches, reason }) => {
                error!(
                    reason,
                    "the file of configurations is damaged: it is moved aside"
                );
                self.move_aside("damaged")?;
                let opened = Log::open::<Saved>(self.path.clone());
                self.log = Some(opened.map_err(|unusable| unusable.reason)?.0);
                self.is_whole = false;
                // Without a mark: what is missing may be a removal.
                let entries = batches.into_iter().flat_map(|saved| saved.entries);
                let saved = Saved {
                    entries: entries.collect(),
                    mark_ms: None,
                };
                vec![saved]
            }
        };
        for Saved { entries, mark_ms } in saved {
            if let Some(mark_ms) = mark_ms {
                self.replica.mark(mark_ms);
                self.marked_ms = Some(mark_ms);
            }
            // A removal counts whatever its age: entries before it are in the same file.
            let verdict = self.replica.judge(entries, i64::MIN);
            self.take(&verdict);
        }
        Ok(())
    }

    fn move_aside(&mut self, why: &str) -> Result<(), String> {
        let aside = self.path.with_extension(why);
        let moved = std::fs::rename(&self.path, &aside);
        moved.map_err(|error| format!("{}: {error}", self.path.display()))?;
        warn!(file = %aside.display(), "the former configurations of this node are kept there");
        Ok(())
    }

    /// Stores and takes what was judged. Returns what was lost and not reported yet.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(super) fn store(&mut self, verdict: &Verdict) -> Result<Vec<Lost>, Unwritten> {
        if !verdict.taken.is_empty() {
            self.save(Saved {
                entries: verdict.taken.clone(),
                mark_ms: None,
            })?;
        }
        Ok(self.take(verdict))
    }

    fn save(&mut self, saved: Saved) -> Result<(), Unwritten> {
        let (replica, marked_ms) = (&self.replica, self.marked_ms);
        let all = || Saved {
            entries: replica.entries().cloned().collect(),
            mark_ms: marked_ms,
        };
        match &mut self.log {
            Some(log) => log.add(&saved, all),
            None => Err(Unwritten {
                is_unsure: false,
                reason: format!("{}: cannot be used", self.path.display()),
            }),
        }
    }

    fn take(&mut self, verdict: &Verdict) -> Vec<Lost> {
        let lost = self.replica.take(verdict);
        if verdict.taken.is_empty() {
            return lost;
        }
        let configs = Arc::make_mut(&mut self.configs);
        for entry in &verdict.taken {
            match &entry.content {
                Some(content) => {
                    let config = config_of(entry, content);
                    configs.by_name.insert(entry.name.clone(), Arc::new(config));
                }
                None => {
                    configs.by_name.remove(&entry.name);
                }
            }
        }
        configs.revision = self.replica.revision();
        lost
    }

    /// This node is in touch with a majority.
    pub(super) fn mark(&mut self, now_ms: i64) {
        self.replica.mark(now_ms);
        self.replica.purge(now_ms);
        let is_old = self
            .marked_ms
            .is_none_or(|ms| ms.saturating_add(MARK_MS) <= now_ms);
        if is_old {
            let saved = Saved {
                entries: Vec::new(),
                mark_ms: Some(now_ms),
            };
            match self.save(saved) {
                Ok(()) => self.marked_ms = Some(now_ms),
                Err(error) => warn!(error = error.reason, "the file of configurations"),
            }
        }
    }

    /// Forgets all: this node was away for too long.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn forget(&mut self) -> Result<(), String> {
        self.log = None;
        self.move_aside("stale")?;
        *self = Self::new(self.path.clone(), self.me.clone());
        self.is_whole = false;
        self.open()
    }

    /// The entries of planned changes.
    pub(super) fn entries(
        &self,
        changes: &[Change],
        outcomes: &[Outcome],
        now_ms: i64,
    ) -> Vec<Arc<Entry>> {
        let version = self.replica.next_version();
        let made = changes.iter().zip(outcomes);
        let made = made.filter(|(_, outcome)| **outcome != Outcome::Unchanged);
        let entries = made.map(|(change, _)| {
            let name = change.name();
            let content = match change {
                Change::Put { text, origin, .. } => Some(Content {
                    text: text.clone(),
                    managed_by: origin.managed_by.clone(),
                    changed_by: origin.changed_by.clone(),
                    changed_ms: origin.changed_ms,
                }),
                Change::Delete { .. } => None,
            };
            Arc::new(Entry {
                name: name.clone(),
                version: version.clone(),
                parent: self.replica.get(name).map(|entry| entry.version.clone()),
                written_ms: now_ms,
                content,
            })
        });
        entries.collect()
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn config_of(entry: &Entry, content: &Content) -> StoredConfig {
    StoredConfig {
        name: entry.name.clone(),
        text: content.text.clone(),
        revision: entry.version.revision,
        origin: Origin {
            managed_by: content.managed_by.clone(),
            changed_by: content.changed_by.clone(),
            changed_ms: content.changed_ms,
        },
    }
}
