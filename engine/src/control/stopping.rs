//! A stop -> shards that have sent what they could by the deadline.

use super::{Control, STOP_PATIENCE_MS};
use crate::clock;
use crate::mailbox::{FromShard, ToShard};
use crate::run::RunError;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{error, info};

impl Control {
    /// Tells all shards to finish and waits for them, as long as they may take plus a second.
    pub(super) async fn stop(mut self, stopped_already: usize) -> Result<(), RunError> {
        let flush_ms = i64::try_from(self.options.flush_deadline_ms).unwrap_or(i64::MAX / 2);
        let deadline_ms = clock::now_ms() + flush_ms;
        for shard in &self.shards {
            let _ = shard.mailbox.send(ToShard::Stop { deadline_ms }).await;
        }
        let mut running = self.shards.len() - stopped_already;
        let mut result = Ok(());
        let patience = Duration::from_millis(self.options.flush_deadline_ms + STOP_PATIENCE_MS);
        let all = async {
            while running > 0 {
                match self.reported.recv().await {
                    Some((shard, FromShard::Stopped(Err(reason)))) => {
                        error!(shard, reason, "a shard did not stop cleanly");
                        result = Err(RunError::Shard { shard, reason });
                        running -= 1;
                    }
                    Some((_, FromShard::Stopped(Ok(())))) => running -= 1,
                    // Without it a shard would wait for the others until its deadline.
                    Some((
                        shard,
                        FromShard::FormerSent {
                            endpoint,
                            generation,
                        },
                    )) => self.former_sent(shard, endpoint, generation).await,
                    Some(_) => {}
                    None => break,
                }
            }
        };
        if timeout(patience, all).await.is_err() {
            return Err(RunError::Stop { running });
        }
        for shard in self.shards {
            shard.join();
        }
        info!("stopped");
        result
    }
}
