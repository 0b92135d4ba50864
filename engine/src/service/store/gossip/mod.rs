//! Configurations that the nodes of a cluster keep themselves, without a server: see
//! [`ringscrape_cluster::store`] for what holds.
//!
//! A write first catches up with a majority, so that its conditions see all that was confirmed;
//! then it is on this node's disk, then sent to all others at once. It is confirmed when a majority
//! has it on disk. Else nobody knows: it may still appear, from those who have it.

mod disk;
mod links;
mod packing;
mod rounds;
mod saved;

pub(crate) use links::GossipLinks;

use super::keeper::{Backend, Publisher};
use super::log::Unwritten;
use super::plan::plan;
use super::{Applied, Change, Configs, Outcome, StoreError};
use crate::clock;
use crate::gossip::StoreQuestion;
use disk::Disk;
use links::Links;
use ringscrape_cluster::store::{
    Answer, BATCH_BYTES_MAX, Entry, Held, Lost, Meeting, Members, Question, REMOVAL_LIFETIME_MS,
};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, Semaphore, mpsc};
use tracing::warn;

/// Questions of other members that are answered at once.
const ANSWERS_AT_ONCE: usize = 8;
/// Of what is told in one answer, before it is packed: the largest batch goes.
const ANSWER_BYTES_MAX: usize = BATCH_BYTES_MAX + (1 << 20);
/// Batches up to this size need not be packed to see that they are not too large.
const SURELY_BYTES_MAX: usize = packing::PACKED_BYTES_MAX / 2;

/// The store.
pub(super) struct Gossip(Arc<Shared>);

/// What its tasks share.
struct Shared {
    links: Box<dyn Links>,
    publisher: Publisher,
    /// Held while the disk works, by threads that may wait.
    disk: Arc<Mutex<Disk>>,
    /// There is something to catch up with.
    is_behind: Notify,
}

impl Gossip {
    /// Reads the file, publishes what it holds as last known, and answers `questions` from then on.
    pub(super) fn start(
        path: PathBuf,
        links: impl Links,
        questions: mpsc::Receiver<StoreQuestion>,
        publisher: Publisher,
    ) -> Self {
        let mut disk = Disk::new(path, links.me().clone());
        if let Err(reason) = disk.open() {
            publisher.lost(reason);
        }
        publisher.last_known(disk.configs.clone());
        let shared = Arc::new(Shared {
            links: Box::new(links),
            publisher,
            disk: Arc::new(Mutex::new(disk)),
            is_behind: Notify::new(),
        });
        tokio::spawn(answer_all(shared.clone(), questions));
        Self(shared)
    }
}

impl Backend for Gossip {
    const KIND: &'static str = "gossip";

    async fn read(&self) -> Result<Arc<Configs>, StoreError> {
        let members = self.0.members().await?;
        self.0.catch_up(&members).await?;
        self.0.with_disk(|disk, _| Ok(disk.configs.clone())).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<Applied, StoreError> {
        self.0.apply(changes).await
    }

    async fn watch(&self) {
        self.0.keep_up().await;
    }
}

impl Shared {
    /// Who counts, those of the last hour among them.
    async fn members(&self) -> Result<Members, StoreError> {
        let members = self.links.members().await;
        let mut members = members.map_err(StoreError::NotConnected)?;
        self.with_disk(|disk, _| {
            disk.complete(&mut members, clock::now_ms());
            Ok(members)
        })
        .await
    }

    /// Does what has to wait for the disk; publishes what it changed.
    async fn with_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Disk, &Publisher) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (disk, publisher) = (self.disk.clone(), self.publisher.clone());
        let working = tokio::task::spawn_blocking(move || {
            // Nothing panics with the lock held; if it did, what is there was still whole.
            let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
            let before = disk.configs.clone();
            disk.open().map_err(StoreError::NotConnected)?;
            let done = work(&mut disk, &publisher);
            if disk.is_whole && !Arc::ptr_eq(&before, &disk.configs) {
                publisher.news(disk.configs.clone());
            }
            done
        });
        let stopping = |_| StoreError::Unconfirmed("the process is stopping".to_owned());
        working.await.map_err(stopping)?
    }

    async fn apply(self: &Arc<Self>, changes: Vec<Change>) -> Result<Applied, StoreError> {
        let members = self.members().await?;
        let life = self.catch_up(&members).await?;
        let planned = self.with_disk(move |disk, _| {
            disk.check_life(life)?;
            write(disk, &changes)
        });
        let (applied, entries) = planned.await?;
        if entries.is_empty() {
            return Ok(applied);
        }
        self.spread(&members, entries, applied.revision).await?;
        Ok(applied)
    }

    /// Takes what another member has.
    async fn take(&self, entries: Vec<Held>) -> Result<(), StoreError> {
        let taken = self.with_disk(move |disk, _| {
            let verdict = disk.replica.judge(entries);
            disk.store(&verdict).map_err(unwritten)
        });
        report(&taken.await?);
        Ok(())
    }

    /// Forgets what it had in this life; several members may find it stale at once.
    async fn forget(&self, life: u64) -> Result<(), StoreError> {
        self.with_disk(move |disk, _| {
            if disk.life != life {
                return Ok(());
            }
            warn!(
                file = %disk.path().display(),
                days = REMOVAL_LIFETIME_MS / 86_400_000,
                "this node was away for longer than removals are remembered: it forgets the \
                 configurations that it had, and takes those of the others"
            );
            disk.forget().map_err(StoreError::NotConnected)
        })
        .await
    }

    /// Answers another member.
    async fn answer(&self, question: Question) -> Answer {
        let answered = self.with_disk(|disk, _| match question {
            Question::Compare(theirs) => {
                let answer = match disk.replica.meet(&theirs) {
                    Meeting::TheyAreStale => Answer::Stale,
                    Meeting::WeAreStale => Answer::Failed(
                        "this node was away for too long, and has to forget first".to_owned(),
                    ),
                    Meeting::Good => match disk.replica.differences(&theirs) {
                        None => {
                            disk.is_compared = true;
                            Answer::Equal
                        }
                        Some(known) => Answer::Different {
                            digest: disk.replica.digest(),
                            known,
                        },
                    },
                };
                Ok((answer, Vec::new()))
            }
            Question::Exchange {
                mark,
                entries,
                wanted,
            } => {
                if disk.replica.finds_stale(mark, &entries) {
                    return Ok((Answer::Stale, Vec::new()));
                }
                if mark.is_none() && !disk.is_compared {
                    // Its vote for a write: it would be void if this node had to forget.
                    let reason = "this node has not compared with another one yet";
                    return Ok((Answer::Failed(reason.to_owned()), Vec::new()));
                }
                let verdict = disk.replica.judge(entries);
                let lost = disk.store(&verdict).map_err(unwritten)?;
                let mut bytes = 0;
                let entries = wanted.iter().filter_map(|name| disk.replica.held(name));
                // More than was asked for, because it grew meanwhile: the rest comes later.
                let entries = entries.take_while(|held| {
                    bytes += held.entry.bytes();
                    bytes <= ANSWER_BYTES_MAX
                });
                let answer = Answer::Stored {
                    entries: entries.collect(),
                    beaten: verdict.beaten,
                };
                Ok((answer, lost))
            }
        });
        match answered.await {
            Ok((answer, lost)) => {
                report(&lost);
                if matches!(answer, Answer::Different { .. }) {
                    self.is_behind.notify_one();
                }
                answer
            }
            Err(error) => Answer::Failed(error.to_string()),
        }
    }
}

/// Plans and stores changes on this node's disk; what the others are to be sent.
fn write(disk: &mut Disk, changes: &[Change]) -> Result<(Applied, Vec<Arc<Entry>>), StoreError> {
    let configs = disk.configs.clone();
    let outcomes = plan(|name| configs.by_name.get(name).map(|one| &**one), changes)?;
    if outcomes.iter().all(|one| *one == Outcome::Unchanged) {
        let revision = configs.revision;
        return Ok((Applied { revision, outcomes }, Vec::new()));
    }
    let entries = disk.entries(changes, &outcomes, clock::now_ms());
    let bytes: usize = entries.iter().map(|entry| entry.bytes()).sum();
    if bytes > BATCH_BYTES_MAX {
        let reason = format!(
            "{bytes} bytes at once, the gossip store takes {BATCH_BYTES_MAX}: use smaller batches"
        );
        return Err(StoreError::Refused(reason));
    }
    if let Some(unsound) = entries.iter().find(|entry| !entry.is_sound()) {
        let reason = format!("{}: the name is too long", unsound.name);
        return Err(StoreError::Refused(reason));
    }
    if bytes > SURELY_BYTES_MAX {
        let packed = packing::pack_now(&Question::push(entries.clone()).write());
        let packed = packed.map_err(StoreError::Refused)?.len();
        if packed > packing::PACKED_BYTES_MAX {
            let reason = format!(
                "{packed} bytes at once when compressed, the gossip store takes {}: use smaller \
                 batches",
                packing::PACKED_BYTES_MAX
            );
            return Err(StoreError::Refused(reason));
        }
    }
    let written = entries.iter().cloned().map(Held::from);
    let verdict = disk.replica.judge(written.collect());
    disk.store(&verdict).map_err(unwritten)?;
    let revision = disk.replica.revision();
    Ok((Applied { revision, outcomes }, entries))
}

fn unwritten(error: Unwritten) -> StoreError {
    match error.is_unsure {
        true => StoreError::Unconfirmed(error.reason),
        false => StoreError::Refused(error.reason),
    }
}

async fn answer_all(shared: Arc<Shared>, mut questions: mpsc::Receiver<StoreQuestion>) {
    let places = Arc::new(Semaphore::new(ANSWERS_AT_ONCE));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Some(question) = questions.recv().await else {
            return;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let asked = packing::unpack(question.bytes).await;
            let answer = match asked.and_then(|asked| Question::read(&asked)) {
                Some(asked) => shared.answer(asked).await,
                None => Answer::Failed("unknown question: releases differ".to_owned()),
            };
            // Who asked may have gone.
            let _ = question.answer.send(packing::pack(answer.write()).await);
            drop(place);
        });
    }
}

/// Writers that did not know of each other: which write stays, and which is gone.
fn report(lost: &[Lost]) {
    for Lost { loser, winner } in lost {
        let by = |entry: &Entry| match &entry.content {
            Some(content) => content.changed_by.clone(),
            None => "a removal".to_owned(),
        };
        warn!(
            target: "audit",
            action = "lost",
            config = %loser.name,
            lost_revision = loser.version.revision,
            lost_node = %loser.version.node,
            lost_by = by(loser),
            revision = winner.version.revision,
            node = %winner.version.node,
            by = by(winner),
            "audit: of two changes that did not know of each other the higher revision stays"
        );
    }
}

#[cfg(test)]
mod tests;
