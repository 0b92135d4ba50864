//! A question to all shards -> their answers.

use super::Control;
use crate::mailbox::ToShard;
use tokio::sync::oneshot;

impl Control {
    pub(super) async fn ask_shards<T>(
        &self,
        question: impl Fn(oneshot::Sender<T>) -> ToShard,
    ) -> Vec<oneshot::Receiver<T>> {
        let mut asked = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let (answer, answered) = oneshot::channel();
            let _ = shard.mailbox.send(question(answer)).await;
            asked.push(answered);
        }
        asked
    }
}

/// Waits for the answers of all shards. `None`: one gave none in time, and a part of the figures
/// would look like counters that were reset.
pub(super) async fn collect<T>(asked: Vec<oneshot::Receiver<T>>) -> Option<Vec<T>> {
    let mut answers = Vec::with_capacity(asked.len());
    for answered in asked {
        let limit = std::time::Duration::from_secs(5);
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answer)) => answers.push(answer),
            _ => return None,
        }
    }
    Some(answers)
}
