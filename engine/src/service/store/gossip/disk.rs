//! This node's replica, with its file: what is taken is on the disk before.

use super::super::log::{Log, Unusable, Unwritten};
use super::saved::{Rest, Saved};
use crate::service::store::{Change, Configs, Origin, Outcome, StoreError, StoredConfig};
use ringscrape_cluster::store::{
    Content, Entry, Held, Lost, Members, Past, Remembered, Replica, Verdict,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{error, warn};

/// How much time with a majority the file may lack.
const PAST_MS: u64 = 60 * 60 * 1_000;
/// How long ago the members in the file may have been noted.
const MEMBERS_MS: i64 = 10 * 60 * 1_000;

/// The replica, and what it is to the rest of the process.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    me: Arc<str>,
    /// `None`: the file cannot be used.
    log: Option<Log>,
    pub(super) replica: Replica,
    /// As it is in the file.
    saved_past: Past,
    /// Members that counted lately.
    remembered: Remembered,
    /// When they were written to the file.
    remembered_ms: Option<i64>,
    pub(super) configs: Arc<Configs>,
    /// Whether it has all that it once had, or all that a majority has.
    pub(super) is_whole: bool,
    /// Whether it has been equal to another member since the start, or since all was forgotten:
    /// who may have to forget yet has no vote.
    pub(super) is_compared: bool,
    /// How often all was forgotten since the start.
    pub(super) life: u64,
}

impl Disk {
    /// Nothing is read yet.
    pub(super) fn new(path: PathBuf, me: Arc<str>) -> Self {
        Self {
            path,
            replica: Replica::new(me.clone()),
            me,
            log: None,
            saved_past: Past::default(),
            remembered: Remembered::default(),
            remembered_ms: None,
            configs: Arc::default(),
            is_whole: false,
            is_compared: false,
            life: 0,
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
                // Without a past: what is missing may be a removal.
                let without_past = |saved: Saved| Saved {
                    rest: Rest {
                        past: None,
                        ..saved.rest
                    },
                    ..saved
                };
                batches.into_iter().map(without_past).collect()
            }
        };
        for saved in saved {
            if let Some(past) = saved.rest.past {
                self.replica.recall(past);
                self.saved_past = past;
            }
            if let Some(members) = &saved.rest.members {
                self.remembered = Remembered::of(members);
            }
            // A removal counts whatever its age: entries before it are in the same file.
            let verdict = self.replica.judge(saved.into_held());
            self.take(&verdict);
        }
        let has_mark = self.replica.past().mark.is_some();
        if !has_mark && self.replica.entries().next().is_some() {
            // Nobody knows how old they are.
            self.replica.recall(Past {
                mark: Some(0),
                ..Past::default()
            });
        }
        self.is_whole = has_mark;
        self.replica.forget_old();
        Ok(())
    }

    /// Adds to the members that are known those of the last hour.
    pub(super) fn complete(&mut self, members: &mut Members, now_ms: i64) {
        let is_changed = self.remembered.complete(members, &self.me, now_ms);
        let is_old = self
            .remembered_ms
            .is_none_or(|ms| ms.saturating_add(MEMBERS_MS) <= now_ms);
        if is_changed || is_old {
            let members = self.remembered.list();
            let rest = Rest {
                members: Some(members),
                ..Rest::default()
            };
            self.save_rest(rest);
            self.remembered_ms = Some(now_ms);
        }
    }

    /// Saves what is of use only after a start.
    fn save_rest(&mut self, rest: Rest) {
        let saved = Saved {
            entries: Vec::new(),
            rest,
        };
        if let Err(error) = self.save(&saved) {
            warn!(error = error.reason, "the file of configurations");
        }
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
            self.save(&Saved::of(&verdict.taken, Rest::default()))?;
        }
        Ok(self.take(verdict))
    }

    fn save(&mut self, saved: &Saved) -> Result<(), Unwritten> {
        let (replica, remembered) = (&self.replica, &self.remembered);
        let all = || {
            let rest = Rest {
                past: Some(replica.past()),
                members: Some(remembered.list()),
                ..Rest::default()
            };
            Saved::of(&replica.all_held().collect::<Vec<Held>>(), rest)
        };
        match &mut self.log {
            Some(log) => log.add(saved, all),
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
        for Held { entry, .. } in &verdict.taken {
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

    /// This node is in touch with a majority, and has been for `elapsed_ms`; what was confirmed up
    /// to `revision` it has.
    pub(super) fn in_touch(&mut self, revision: u64, elapsed_ms: u64) {
        self.replica.in_touch(revision, elapsed_ms);
        let (past, saved) = (self.replica.past(), self.saved_past);
        let is_old = past.observed_ms >= saved.observed_ms.saturating_add(PAST_MS);
        if is_old || saved.mark.is_none() || past.forgotten > saved.forgotten {
            let rest = Rest {
                past: Some(past),
                ..Rest::default()
            };
            self.save_rest(rest);
            self.saved_past = past;
        }
    }

    /// Forgets all: this node was away for too long.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn forget(&mut self) -> Result<(), String> {
        self.log = None;
        self.move_aside("stale")?;
        *self = Self {
            remembered: std::mem::take(&mut self.remembered),
            life: self.life + 1,
            ..Self::new(self.path.clone(), self.me.clone())
        };
        self.open()
    }

    /// Whether what others vouched for is still there.
    ///
    /// # Errors
    /// All was forgotten since.
    pub(super) fn check_life(&self, life: u64) -> Result<(), StoreError> {
        if self.life == life {
            return Ok(());
        }
        let reason = "this node was away for too long, and has just forgotten what it had";
        Err(StoreError::NotConnected(reason.to_owned()))
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
            let former = self.replica.get(name);
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
                knows: former.map_or_else(Vec::new, |entry| entry.known_by_next()),
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
