//! Comparing with other members, all the time and before each write, and sending them writes.

use super::{Shared, packing};
use crate::service::store::StoreError;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ringscrape_cluster::store::{Answer, Entry, Meeting, Members, Question};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::debug;

/// How long another member may take for one answer, and as much again for each 4 MiB.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// How long a majority may take.
const MAJORITY_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two rounds of comparing.
const ROUND_PAUSE: Duration = Duration::from_secs(1);
/// Members that are compared with in one round, each round others.
const PEERS_PER_ROUND: usize = 3;
/// After so many rounds a majority is compared with, and old removals are forgotten.
const ROUNDS_PER_TOUCH: u64 = 60;
/// A pause between two such comparisons counts at most for so long.
const TOUCH_MAX: Duration = Duration::from_secs(300);
/// Exchanges with one member in a row.
const EXCHANGES_MAX: u32 = 64;

/// When a majority was compared with.
#[derive(Debug, Clone, Copy)]
struct Touch {
    at: Instant,
    /// The highest one known after it.
    revision: u64,
}

impl Shared {
    /// Makes equal what this node and another member have. Returns in which life of this node.
    pub(super) async fn sync(self: &Arc<Self>, peer: &Arc<str>) -> Result<u64, String> {
        for _ in 0..EXCHANGES_MAX {
            let digest = self.with_disk(|disk, _| Ok((disk.life, disk.replica.digest())));
            let (life, digest) = digest.await.map_err(|error| error.to_string())?;
            // `None` is that of a write.
            let mark = Some(digest.mark.unwrap_or(u64::MAX));
            let (theirs, known) = match self.ask(peer, &Question::Compare(digest)).await? {
                Answer::Equal => return self.is_equal(life).await,
                Answer::Different { digest, known } => (digest, known),
                Answer::Stale => {
                    self.forget(life).await.map_err(|error| error.to_string())?;
                    continue;
                }
                Answer::Failed(reason) => return Err(reason),
                Answer::Stored { .. } => return Err("an answer to another question".to_owned()),
            };
            let exchange = self.with_disk(move |disk, _| {
                let meeting = disk.replica.meet(&theirs);
                Ok((meeting, disk.replica.exchange(&theirs, &known)))
            });
            let exchange = match exchange.await.map_err(|error| error.to_string())? {
                (Meeting::Good, exchange) => exchange,
                (Meeting::TheyAreStale, _) => {
                    return Err("it was away for too long and does not know it yet".to_owned());
                }
                (Meeting::WeAreStale, _) => {
                    self.forget(life).await.map_err(|error| error.to_string())?;
                    continue;
                }
            };
            if exchange.entries.is_empty() && exchange.wanted.is_empty() {
                // All but which removals are old.
                return self.is_equal(life).await;
            }
            let question = Question::Exchange {
                mark,
                entries: exchange.entries,
                wanted: exchange.wanted,
            };
            match self.ask(peer, &question).await? {
                Answer::Stored { entries, .. } => {
                    let taken = self.take(entries).await;
                    taken.map_err(|error| error.to_string())?;
                }
                Answer::Stale => self.forget(life).await.map_err(|error| error.to_string())?,
                Answer::Failed(reason) => return Err(reason),
                _ => return Err("an answer to another question".to_owned()),
            }
        }
        Err("they write faster than they are caught up with".to_owned())
    }

    /// What this node had in this life is what another member has.
    async fn is_equal(&self, life: u64) -> Result<u64, String> {
        let noted = self.with_disk(move |disk, _| {
            disk.is_compared |= disk.life == life;
            Ok(life)
        });
        noted.await.map_err(|error| error.to_string())
    }

    async fn ask(&self, peer: &Arc<str>, question: &Question) -> Result<Answer, String> {
        let question = question.write();
        let patience = patience(ANSWER_PATIENCE, question.len());
        let packed = packing::pack(question).await?;
        let asking = self.links.ask(peer, packed);
        let answer = match timeout(patience, asking).await {
            Ok(answer) => answer?,
            Err(_) => return Err(format!("{peer}: no answer within {patience:?}")),
        };
        let unreadable = || format!("{peer}: an answer that cannot be read: releases differ");
        let answer = packing::unpack(answer).await;
        answer
            .and_then(|answer| Answer::read(&answer))
            .ok_or_else(unreadable)
    }

    /// Has all that a majority had when this was called. Returns in which life of this node.
    pub(super) async fn catch_up(self: &Arc<Self>, members: &Members) -> Result<u64, StoreError> {
        let mut life = self.with_disk(|disk, _| Ok(disk.life)).await?;
        let mut ballot = members.ballot();
        ballot.give(self.links.me());
        let mut reasons = Vec::new();
        let mut syncs: FuturesUnordered<_> = members
            .others
            .iter()
            .filter(|peer| members.counted.contains(*peer))
            .map(|peer| async move { (peer, self.sync(peer).await) })
            .collect();
        let until = Instant::now() + MAJORITY_PATIENCE;
        while !ballot.is_won() {
            match tokio::time::timeout_at(until, syncs.next()).await {
                Ok(Some((peer, Ok(of_life)))) => {
                    if of_life > life {
                        // What was equal to others before is forgotten.
                        life = of_life;
                        ballot = members.ballot();
                        ballot.give(self.links.me());
                    }
                    if of_life == life {
                        ballot.give(peer);
                    }
                }
                Ok(Some((peer, Err(reason)))) => reasons.push(format!("{peer}: {reason}")),
                Ok(None) | Err(_) => {
                    let reason = format!("{} answered; {}", ballot.score(), reasons.join("; "));
                    return Err(StoreError::NotConnected(reason));
                }
            }
        }
        self.with_disk(move |disk, publisher| {
            disk.check_life(life)?;
            if !disk.is_whole {
                disk.is_whole = true;
                publisher.news(disk.configs.clone());
            }
            Ok(life)
        })
        .await
    }

    /// Publishes what this node has, if it is whole: as long as it is not, what was published
    /// before stays in force.
    pub(super) async fn publish(self: &Arc<Self>, members: &Members) -> Result<(), StoreError> {
        if !self.with_disk(|disk, _| Ok(disk.is_whole)).await? {
            self.catch_up(members).await?;
        }
        self.with_disk(|disk, publisher| {
            if disk.is_whole {
                publisher.configs(disk.configs.clone());
            }
            Ok(())
        })
        .await
    }

    /// Sends entries that are on this node's disk to all others, and waits for a majority.
    /// `revision` is theirs.
    pub(super) async fn spread(
        self: &Arc<Self>,
        members: &Members,
        entries: Vec<Arc<Entry>>,
        revision: u64,
    ) -> Result<(), StoreError> {
        let mut ballot = members.ballot();
        ballot.give(self.links.me());
        let bytes = entries.iter().map(|entry| entry.bytes()).sum();
        let question = Arc::new(Question::push(entries));
        let (told, mut answers) = mpsc::channel(members.others.len().max(1));
        for peer in &members.others {
            let (this, peer, told) = (self.clone(), peer.clone(), told.clone());
            let question = question.clone();
            // To the end, even if a majority has it before.
            tokio::spawn(async move {
                let answer = this.ask(&peer, &question).await;
                // Enough have answered.
                let _ = told.send((peer, answer)).await;
            });
        }
        drop(told);
        let mut reasons = Vec::new();
        let mut is_beaten = false;
        let until = Instant::now() + patience(MAJORITY_PATIENCE, bytes);
        while !ballot.is_won() {
            match tokio::time::timeout_at(until, answers.recv()).await {
                Ok(Some((peer, Ok(Answer::Stored { beaten, .. })))) => {
                    is_beaten |= !beaten.is_empty();
                    ballot.give(&peer);
                }
                Ok(Some((peer, Ok(Answer::Failed(reason)) | Err(reason)))) => {
                    debug!(node = %peer, reason, "a member does not store a change");
                    reasons.push(format!("{peer}: {reason}"));
                }
                Ok(Some((peer, Ok(_)))) => reasons.push(format!("{peer}: another answer")),
                Ok(None) | Err(_) => {
                    // The audit log has it: should it appear, or lose, it is named by its revision.
                    let reason = format!(
                        "revision {revision}: {} have it; {}",
                        ballot.score(),
                        reasons.join("; ")
                    );
                    return Err(StoreError::Unconfirmed(reason));
                }
            }
        }
        if is_beaten {
            // Another member wrote at the same time, and its write stays.
            self.is_behind.notify_one();
        }
        Ok(())
    }

    /// Compares with others for ever, and says whether a majority is there.
    pub(super) async fn keep_up(self: &Arc<Self>) {
        let mut round = 0_u64;
        let mut next_peer = 0;
        let mut touch = None;
        loop {
            let members = self.members().await;
            match &members {
                Ok(members) if members.is_majority_present() => {
                    if let Err(error) = self.publish(members).await {
                        self.publisher.lost(error.to_string());
                    }
                }
                Ok(members) => self.publisher.lost(format!(
                    "{} of {} members are there, {} are needed",
                    members.present,
                    members.counted.len(),
                    members.majority()
                )),
                Err(StoreError::NotConnected(reason)) => self.publisher.lost(reason.clone()),
                Err(error) => self.publisher.lost(error.to_string()),
            }
            if let Ok(members) = members {
                self.round(&members, &mut next_peer).await;
                // A node that has just started catches up at once.
                if round.is_multiple_of(ROUNDS_PER_TOUCH) {
                    self.touch(&members, &mut touch).await;
                }
            }
            round += 1;
            tokio::select! {
                () = tokio::time::sleep(ROUND_PAUSE) => {}
                // Not in a tight loop.
                () = self.is_behind.notified() => tokio::time::sleep(ROUND_PAUSE / 20).await,
            }
        }
    }

    /// Catches up with a majority; then time counts, and it has all that was confirmed up to what
    /// was the highest revision at the last time. Not now: who is writing may have looked before.
    async fn touch(self: &Arc<Self>, members: &Members, last: &mut Option<Touch>) {
        if self.catch_up(members).await.is_err() {
            return;
        }
        let at = Instant::now();
        let before = *last;
        let noted = self.with_disk(move |disk, _| {
            if let Some(before) = before {
                let elapsed = (at - before.at).min(TOUCH_MAX);
                disk.in_touch(before.revision, elapsed.as_millis() as u64);
            }
            Ok(disk.replica.revision())
        });
        match noted.await {
            Ok(revision) => *last = Some(Touch { at, revision }),
            Err(error) => debug!(%error, "the time is not counted"),
        }
    }

    async fn round(self: &Arc<Self>, members: &Members, next_peer: &mut usize) {
        let count = members.others.len();
        let peers =
            (0..count.min(PEERS_PER_ROUND)).map(|i| &members.others[(*next_peer + i) % count]);
        let syncs: FuturesUnordered<_> = peers
            .map(|peer| async move { (peer, self.sync(peer).await) })
            .collect();
        *next_peer = next_peer.wrapping_add(PEERS_PER_ROUND);
        let results: Vec<_> = syncs.collect().await;
        for (peer, result) in results {
            if let Err(reason) = result {
                debug!(node = %peer, reason, "cannot compare configurations");
            }
        }
    }
}

/// For a message of so many bytes.
fn patience(least: Duration, bytes: usize) -> Duration {
    least * (1 + u32::try_from(bytes >> 22).unwrap_or(u32::MAX >> 8))
}
