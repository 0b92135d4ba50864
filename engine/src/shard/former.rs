//! Logs of a former number of shards -> sent before this run's log, then deleted.
//!
//! After a change of the number of shards a target may be another shard's, and what was logged of
//! it before has to arrive before what is logged now. So each former directory has one shard that
//! sends what it holds, and an endpoint gets nothing of any shard's own log until all shards have
//! said, by way of the control loop, that this endpoint has everything of them. Directories of an
//! older change come before those of a newer one in the same way.
//!
//! What cannot be read holds up what is scraped now for `PATIENCE_MS` at most. Then what can be
//! read of a directory is sent, the rest stays where it is; a directory that cannot be listed is
//! passed over, and sent later, should it become readable.
//!
//! **Runs on**: shard. Opening, deleting and saving cursors is done on the executor's blocking
//! thread; meanwhile nothing of that directory is read.

mod dir;
#[cfg(test)]
mod tests;
mod work;

use super::{RESTORE_AGE_MS_MAX, ShardOptions};
use crate::clock;
use crate::mailbox::{FromShard, HANDOVERS_PER_MESSAGE_MAX, ShardIndex};
use crate::storage::FormerLog;
use dir::{Dir, Marks, RETRY_MS};
use ringscrape_wal::backlog::Backlog;
use ringscrape_wal::scrape::{Position, Scrape};
use ringscrape_wal::segments::Segments;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::{info, warn};
use work::Worked;

pub(super) use dir::PATIENCE_MS;

/// How often cursors of former directories are saved and segments deleted, in milliseconds.
const KEEP_INTERVAL_MS: u64 = 1_000;

/// Where one endpoint's sending stands among the logs that it is to get one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for this directory to be opened.
    Opening(usize),
    /// Reads this directory.
    Reading(usize),
    /// Waits for the other shards to have sent what is as old as that.
    Waiting(u64),
    /// Reads this run's log.
    Live,
}

/// What may be kept of former logs.
#[derive(Debug, Clone, Copy)]
struct Caps {
    /// All logs of the process together, in bytes; 0 = no bound.
    bytes_max: u64,
    /// Age of samples in milliseconds; 0 = no bound.
    age_ms_max: u64,
}

/// The former logs, as one shard sees them.
#[derive(Debug)]
pub(super) struct Former {
    shard: ShardIndex,
    shard_count: usize,
    caps: Caps,
    reports: mpsc::Sender<(ShardIndex, FromShard)>,
    /// How many directories there were at the start, in the process.
    dirs_count: usize,
    /// How old they are, oldest first.
    generations: Vec<u64>,
    /// Those that this shard sends, oldest first.
    dirs: Vec<Dir>,
    /// The endpoints in force.
    endpoints: Vec<Named>,
    /// What all shards have sent, and what this one has said that it has.
    sent: BTreeSet<(String, u64)>,
    said: BTreeSet<(String, u64)>,
    /// What targets had last, on its way to their shards.
    last: Vec<Arc<Scrape>>,
    /// Work on the blocking thread.
    working: u32,
    keep_at_ms: u64,
    /// What endpoints have read of directories that were passed over before.
    read_late: BTreeSet<(usize, String)>,
}

/// An endpoint, and the identities that it had before.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) identity: String,
    pub(super) former: Vec<Box<str>>,
}

impl Former {
    /// The former logs that a shard is started with.
    pub(super) fn of(
        options: &ShardOptions,
        reports: mpsc::Sender<(ShardIndex, FromShard)>,
    ) -> Self {
        let caps = Caps {
            bytes_max: options.retention_bytes_max * options.shard_count as u64,
            age_ms_max: options.retention_age_ms_max,
        };
        let (shard, shard_count) = (options.shard, options.shard_count);
        Self::new(shard, shard_count, &options.former, caps, reports)
    }

    fn new(
        shard: ShardIndex,
        shard_count: usize,
        logs: &[FormerLog],
        caps: Caps,
        reports: mpsc::Sender<(ShardIndex, FromShard)>,
    ) -> Self {
        let mut generations: Vec<u64> = logs.iter().map(|log| log.generation).collect();
        generations.dedup();
        let own = logs.iter().skip(shard).step_by(shard_count);
        Self {
            shard,
            shard_count,
            caps,
            reports,
            dirs_count: logs.len(),
            generations,
            dirs: own.map(|log| Dir::new(log.generation, &log.dir)).collect(),
            endpoints: Vec::new(),
            sent: BTreeSet::new(),
            said: BTreeSet::new(),
            last: Vec::new(),
            working: 0,
            keep_at_ms: 0,
            read_late: BTreeSet::new(),
        }
    }

    /// Directories of this shard that are not sent yet.
    pub(super) fn dirs_left(&self) -> u64 {
        self.dirs.iter().filter(|dir| !dir.is_done).count() as u64
    }

    /// Directories, and files in them, that cannot be read.
    pub(super) fn unreadable(&self) -> u64 {
        let of_dir = |dir: &Dir| dir.unreadable + u64::from(dir.failing_since_ms.is_some());
        self.dirs.iter().map(of_dir).sum()
    }

    /// Whether the executor must get its turns.
    pub(super) fn is_working(&self) -> bool {
        self.working > 0
    }

    /// These endpoints are in force: the others' cursors are kept for a day.
    pub(super) fn set_endpoints(&mut self, endpoints: Vec<Named>) {
        self.endpoints = endpoints;
        for named in &self.endpoints {
            // What all have sent under a former name they need not send again.
            let of_former =
                |(name, _): &&(String, u64)| named.former.iter().any(|former| **former == **name);
            let sent: Vec<u64> = self
                .sent
                .iter()
                .filter(of_former)
                .map(|one| one.1)
                .collect();
            let sent = sent.into_iter().map(|age| (named.identity.clone(), age));
            self.sent.extend(sent);
        }
        for dir in &mut self.dirs {
            if let Some(log) = &mut dir.log {
                dir.marks = configure(log, &self.endpoints);
            }
        }
    }

    /// All shards have sent this endpoint what is that old.
    pub(super) fn all_have_sent(&mut self, endpoint: String, generation: u64) {
        self.sent.insert((endpoint, generation));
    }

    /// Where an endpoint begins.
    pub(super) fn first_stage(&self) -> Stage {
        self.stage_of(0, 0)
    }

    /// Where an endpoint goes on that has everything of this stage; the same stage while it must
    /// wait there.
    pub(super) fn next_stage(&mut self, stage: Stage, endpoint: &str) -> Stage {
        match stage {
            Stage::Opening(dir) if self.cursor(dir, endpoint).is_some() => Stage::Reading(dir),
            Stage::Opening(dir) if self.dirs[dir].is_done || self.dirs[dir].is_passed_over => {
                self.after(dir)
            }
            Stage::Opening(_) => stage,
            Stage::Live => self.late(endpoint).map_or(stage, Stage::Reading),
            Stage::Reading(dir) => {
                if self.dirs[dir].is_passed_over {
                    self.read_late.insert((dir, endpoint.to_owned()));
                }
                self.after(dir)
            }
            Stage::Waiting(generation) => {
                let what = (endpoint.to_owned(), generation);
                if self.sent.contains(&what) {
                    let at = self
                        .generations
                        .partition_point(|other| *other <= generation);
                    let dir = self
                        .dirs
                        .partition_point(|dir| dir.generation <= generation);
                    return self.stage_of(at, dir);
                }
                if !self.said.contains(&what) {
                    // Never waits: the control loop may be waiting for this shard.
                    let message = FromShard::FormerSent {
                        endpoint: endpoint.to_owned(),
                        generation,
                    };
                    if self.reports.try_send((self.shard, message)).is_ok() {
                        self.said.insert(what);
                    }
                }
                stage
            }
        }
    }

    /// A directory that was passed over, can be read now, and has something for the endpoint.
    fn late(&self, endpoint: &str) -> Option<usize> {
        let is_late = |(index, dir): &(usize, &Dir)| {
            let cursor = dir.log.as_ref().filter(|_| dir.is_passed_over);
            let cursor = cursor.and_then(|log| Some((log.cursors().get(endpoint)?, log.end())));
            cursor.is_some_and(|(cursor, end)| cursor.low_water < end)
                && !self.read_late.contains(&(*index, endpoint.to_owned()))
        };
        let late = self.dirs.iter().enumerate().find(is_late)?;
        Some(late.0)
    }

    fn after(&self, dir: usize) -> Stage {
        let generation = self.dirs[dir].generation;
        match self.dirs.get(dir + 1) {
            Some(next) if next.generation == generation => Stage::Opening(dir + 1),
            _ => Stage::Waiting(generation),
        }
    }

    /// The first stage of the generation at `at`; `dir`: the first directory that is not older.
    fn stage_of(&self, at: usize, dir: usize) -> Stage {
        match (self.generations.get(at), self.dirs.get(dir)) {
            (None, _) => Stage::Live,
            (Some(generation), Some(next)) if next.generation == *generation => Stage::Opening(dir),
            (Some(generation), _) => Stage::Waiting(*generation),
        }
    }

    /// Nothing is left of a directory.
    pub(super) fn is_gone(&self, dir: usize) -> bool {
        self.dirs[dir].is_done
    }

    /// The path of a directory.
    pub(super) fn path(&self, dir: usize) -> &Path {
        &self.dirs[dir].path
    }

    /// What can be read of a directory now.
    pub(super) fn segments(&self, dir: usize) -> Option<&Segments> {
        self.dirs[dir].log.as_ref().map(Backlog::segments)
    }

    /// An endpoint's cursor in a directory that is open: its marks.
    pub(super) fn cursor(&self, dir: usize, endpoint: &str) -> Option<(Position, Position)> {
        let log = self.dirs[dir].log.as_ref()?;
        let cursor = log.cursors().get(endpoint)?;
        Some((cursor.low_water, cursor.highest_sent))
    }

    /// What a directory remembers of an endpoint: identities that it had there and that no endpoint
    /// has now, and up to where every record is for it.
    pub(super) fn marks(&self, dir: usize, endpoint: &str) -> (Vec<Box<str>>, Option<Position>) {
        self.dirs[dir]
            .marks
            .get(endpoint)
            .cloned()
            .unwrap_or_default()
    }

    /// A segment could not be read to its end: it is kept for people when all is sent.
    pub(super) fn set_aside(&mut self, dir: usize, segment: u64) {
        if let Some(log) = &mut self.dirs[dir].log {
            log.set_aside(segment);
        }
    }

    /// Moves it.
    pub(super) fn advance(&mut self, dir: usize, endpoint: &str, marks: (Position, Position)) {
        if let Some(log) = &mut self.dirs[dir].log {
            log.cursors_mut().advance(endpoint, marks.0, marks.1);
        }
    }

    /// Hands some of what targets had last to the control loop, which knows their shards.
    fn report_last(&mut self) {
        while !self.last.is_empty() {
            let rest = self
                .last
                .split_off(self.last.len().min(HANDOVERS_PER_MESSAGE_MAX));
            let scrapes = std::mem::replace(&mut self.last, rest);
            let message = (self.shard, FromShard::FormerScrapes(scrapes));
            if let Err(mpsc::error::TrySendError::Full((_, FromShard::FormerScrapes(back)))) =
                self.reports.try_send(message)
            {
                self.last.extend(back);
                return;
            }
        }
    }

    fn took(&mut self, index: usize, worked: &mut Worked, now_ms: u64) {
        self.working -= 1;
        let dir = &mut self.dirs[index];
        match (worked.error.take(), &worked.log) {
            (Some(error), Some(_)) => {
                warn!(%error, "cannot see to the log of a former number of shards; trying again");
                dir.retry_at_ms = now_ms + RETRY_MS;
            }
            (Some(error), None) => dir.failed(&error, now_ms),
            (None, log) => {
                dir.failing_since_ms = None;
                let unreadable = log.as_ref().map_or(&[][..], Backlog::unreadable);
                dir.left_out(unreadable);
            }
        }
        if worked.is_done {
            let as_far = match worked.log.as_ref().is_some_and(Backlog::lacks_segments) {
                true => " as far as it can be read",
                false => "",
            };
            info!(
                dir = %dir.path.display(),
                "a log of a former number of shards is sent{as_far}"
            );
        }
        dir.is_done = worked.is_done;
        dir.log = worked.log.take().filter(|_| !worked.is_done);
        if let Some(log) = &mut dir.log {
            dir.marks = configure(log, &self.endpoints);
        }
        self.last.append(&mut worked.last);
    }

    /// Saves the cursors of directories that are open, when nobody sends any more. Blocking.
    pub(super) fn finish(&mut self) {
        for dir in &mut self.dirs {
            if let Some(log) = dir.log.take()
                && let Some(error) = work::see_to(log, clock::now_ms(), None, None).error
            {
                warn!(%error, "cannot save how far the log of a former number of shards is sent");
            }
        }
    }
}

/// Begins what is due: directories opened, cursors saved, what all endpoints have deleted. What
/// the caps took meanwhile is counted in `log`, whose own bytes count too.
pub(super) fn keep(
    former: &Rc<RefCell<Former>>,
    log: &Rc<RefCell<ringscrape_wal::log::ShardLog>>,
    now_ms: u64,
) {
    let mut borrowed = former.borrow_mut();
    borrowed.report_last();
    if borrowed.working > 0 || now_ms < borrowed.keep_at_ms || borrowed.dirs_left() == 0 {
        return;
    }
    borrowed.keep_at_ms = now_ms + KEEP_INTERVAL_MS;
    let unix_ms = clock::now_ms();
    let newest = borrowed.generations.last().copied();
    let live_bytes = log.borrow().segments().bytes() * borrowed.shard_count as u64;
    let bytes_max = Some(borrowed.caps.bytes_max)
        .filter(|max| *max > 0)
        .map(|max| max.saturating_sub(live_bytes) / borrowed.dirs_count.max(1) as u64);
    let oldest_ms = i64::try_from(borrowed.caps.age_ms_max)
        .ok()
        .filter(|age| *age > 0)
        .map(|age| unix_ms.saturating_sub(age));
    for index in 0..borrowed.dirs.len() {
        let dir = &mut borrowed.dirs[index];
        if dir.is_done || now_ms < dir.retry_at_ms {
            continue;
        }
        let without_unreadable = dir.is_without_patience(now_ms);
        let (path, open, is_newest) = (
            dir.path.clone(),
            dir.log.take(),
            Some(dir.generation) == newest,
        );
        borrowed.working += 1;
        let (former, log) = (former.clone(), log.clone());
        glommio::spawn_local(async move {
            let last_ms = is_newest.then_some(unix_ms - RESTORE_AGE_MS_MAX);
            let work = move || match open {
                Some(backlog) => work::see_to(backlog, unix_ms, bytes_max, oldest_ms),
                None => work::open_dir(&path, last_ms, without_unreadable),
            };
            let mut worked = glommio::executor().spawn_blocking(work).await;
            let now_ms = clock::monotonic_ms();
            former.borrow_mut().took(index, &mut worked, now_ms);
            let mut log = log.borrow_mut();
            log.count_damage(&worked.damage);
            for (cause, samples) in worked.lost {
                log.count_lost(cause, samples);
            }
        })
        .detach();
    }
}

/// Makes the log know the endpoints; gives what it remembers of them.
fn configure(log: &mut Backlog, endpoints: &[Named]) -> HashMap<String, Marks> {
    // Before the endpoints are known nothing may be deleted.
    if !endpoints.is_empty() {
        let begin = log.begin();
        for endpoint in endpoints {
            let mut former = endpoint.former.iter();
            former.any(|from| log.cursors_mut().rename(from, &endpoint.identity));
        }
        let in_force = endpoints.iter().map(|endpoint| endpoint.identity.as_str());
        log.cursors_mut()
            .configure(in_force, begin, clock::now_ms());
    }
    let is_free = |former: &str| !endpoints.iter().any(|one| one.identity == former);
    let marks = |endpoint: &Named| {
        let identity = &endpoint.identity;
        let mut former = log.cursors().former(identity);
        former.retain(|former| is_free(former));
        let marks = (former, log.cursors().backfill_until(identity));
        (identity.clone(), marks)
    };
    endpoints.iter().map(marks).collect()
}
