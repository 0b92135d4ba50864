//! A stop, or an operator's word -> a planned leave: others take the targets before this node ends.
//!
//! While it leaves the control loop waits for the shards' answers, some seconds if one is stuck.

use super::Control;
use crate::clock;
use crate::gossip::ToGossip;
use crate::mailbox::ToShard;
use std::time::{Duration, Instant};
use tracing::warn;

/// How long a node that stops waits until others have its targets.
const LEAVE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a node that has left by plan stays: others may still ask what was agreed.
const LINGER_MS: i64 = 1_000;
/// How often a node that stops looks whether it may.
const LEAVE_POLL: Duration = Duration::from_millis(50);

impl Control {
    /// Begins to leave the cluster: others take the targets at a time that all agree on. False:
    /// there is none, or it has begun before.
    pub(super) async fn begin_to_leave(&mut self) -> bool {
        let Some(clustering) = &mut self.clustering else {
            return false;
        };
        if clustering.leaving_since.is_some() {
            return false;
        }
        clustering.leaving_since = Some(Instant::now());
        self.wish().await;
        true
    }

    /// Whether the process may stop: no target is this node's, what was known of them is with the
    /// next owners; or patience is over.
    pub(super) async fn has_left(&mut self) -> bool {
        let Some(clustering) = &mut self.clustering else {
            return false;
        };
        let Some(since) = clustering.leaving_since else {
            return false;
        };
        clustering.look_at = Instant::now() + LEAVE_POLL;
        if since.elapsed() > LEAVE_PATIENCE {
            warn!("other nodes did not take the targets in time: this node stops all the same");
            return true;
        }
        let lingered_ms = clock::now_ms() - LINGER_MS;
        if clustering.is_active(lingered_ms) || clustering.outgoing.is_busy() {
            return false;
        }
        let asked = self.ask_shards(ToShard::Remaining).await;
        let Some(remaining) = super::collect(asked).await else {
            // A shard that does not answer may have targets.
            return false;
        };
        let is_busy = self
            .clustering
            .as_ref()
            .is_some_and(|one| one.outgoing.is_busy());
        remaining.iter().sum::<usize>() == 0 && !is_busy
    }

    /// Ends the gossip thread.
    pub(super) async fn end_cluster(&mut self) {
        if let Some(clustering) = self.clustering.take() {
            let _ = clustering.thread.mailbox.send(ToGossip::Stop).await;
        }
    }

    /// Gives all targets to other nodes, or takes its share again.
    pub(super) async fn drain(&mut self, is_drained: bool) -> Result<(), String> {
        let Some(clustering) = &mut self.clustering else {
            let text = match is_drained {
                true => "this node runs without a cluster: nobody would take its targets",
                false => "this node runs without a cluster: it was not drained",
            };
            return Err(text.to_owned());
        };
        let view = clustering.timeline.view_at(clock::now_ms());
        let mut others = view
            .members()
            .iter()
            .filter(|one| one.name != clustering.thread.name);
        if is_drained && others.next().is_none() {
            let text = "no other node of the cluster scrapes: nobody would take the targets";
            return Err(text.to_owned());
        }
        clustering.is_drained = is_drained;
        self.wish().await;
        Ok(())
    }
}
