//! Options -> a thread with a glommio executor on its core, and the mailbox that leads to it.

use super::Shard;
use crate::log::SyncPolicy;
use crate::mailbox::{FromShard, MAILBOX_MESSAGES_MAX, ShardIndex, ToShard};
use crate::storage::FormerLog;
use futures_util::FutureExt;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Buffers registered with the executor's rings, in bytes. The log writes through the page cache
/// and needs few.
const IO_MEMORY_BYTES: usize = 128 << 10;
/// Entries of the executor's rings. The scrape sockets are not on it.
const RING_DEPTH: usize = 256;
/// Longest time for which one task keeps another one waiting.
const PREEMPT: Duration = Duration::from_millis(5);
/// How often a shard's executor is woken from outside. One that the system does not run for
/// `PREEMPT` between setting that timer and running its first task takes itself for idle and sleeps
/// in its rings, with tasks that are ready (glommio 0.9, `run_task_queues`); nothing else would
/// wake it then.
const NUDGE: Duration = Duration::from_millis(200);

/// What a shard is started with.
#[derive(Debug, Clone)]
pub(crate) struct ShardOptions {
    /// Number of this shard, from 0.
    pub(crate) shard: ShardIndex,
    /// How many there are.
    pub(crate) shard_count: usize,
    /// The core it is pinned to.
    pub(crate) core: usize,
    /// Logs of former numbers of shards, oldest first.
    pub(crate) former: Arc<[FormerLog]>,
    /// The storage folder.
    pub(crate) storage_path: PathBuf,
    /// When the log is synced.
    pub(crate) sync: SyncPolicy,
    /// Cap on the bytes of this shard's log; 0 = none.
    pub(crate) retention_bytes_max: u64,
    /// Cap on the age of unsent samples; 0 = none.
    pub(crate) retention_age_ms_max: u64,
    /// Connections kept open at most.
    pub(crate) connections_max: usize,
    /// A turn that comes so much later than it was due shows that the shard stood still: it begins
    /// no scrape until it is told to go on; 0 = it is not looked at.
    pub(crate) standstill_ms: u64,
}

/// A running shard, as the control loop has it.
pub(crate) struct ShardThread {
    /// Where it takes messages.
    pub(crate) mailbox: mpsc::Sender<ToShard>,
    /// Wakes its executor.
    nudge: Arc<Notify>,
    handle: ExecutorJoinHandle<()>,
}

impl ShardThread {
    /// Starts the thread. Whether the shard runs is told by `FromShard::Ready`; how it ends by
    /// `FromShard::Stopped`, in every case.
    ///
    /// # Errors
    /// The system gave no thread or no ring.
    pub(crate) fn start(
        options: ShardOptions,
        reports: mpsc::Sender<(ShardIndex, FromShard)>,
    ) -> Result<Self, String> {
        let (mailbox, messages) = mpsc::channel(MAILBOX_MESSAGES_MAX);
        let shard = options.shard;
        let nudge = Arc::new(Notify::new());
        let nudged = nudge.clone();
        let last_word = LastWord {
            shard,
            reports: reports.clone(),
            said: false,
        };
        let handle = LocalExecutorBuilder::new(Placement::Fixed(options.core))
            .name(&format!("shard-{shard}"))
            .io_memory(IO_MEMORY_BYTES)
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPT)
            .spawn(move || async move {
                let mut last_word = last_word;
                glommio::spawn_local(async move {
                    loop {
                        nudged.notified().await;
                    }
                })
                .detach();
                let work = async {
                    let shard = Shard::open(options, messages, reports)?;
                    shard.run().await
                };
                let result = AssertUnwindSafe(work).catch_unwind().await;
                last_word.say(result.unwrap_or_else(|panic| Err(panic_text(&*panic))));
            })
            .map_err(|error| {
                format!("{error}; each needs about 1 MiB of locked memory: see ulimit -l")
            })?;
        Ok(Self {
            mailbox,
            nudge,
            handle,
        })
    }

    /// Wakes the executors of all shards now and then, as long as it is polled.
    pub(crate) fn keep_awake(shards: &[Self]) -> impl Future<Output = ()> + use<> {
        let nudges: Vec<_> = shards.iter().map(|shard| shard.nudge.clone()).collect();
        async move {
            loop {
                tokio::time::sleep(NUDGE).await;
                nudges.iter().for_each(|nudge| nudge.notify_one());
            }
        }
    }

    /// Waits for the thread's end.
    pub(crate) fn join(self) {
        // How it ended has been reported.
        let _ = self.handle.join();
    }
}

/// Reports the shard's end, also when the executor dies before it has run anything.
struct LastWord {
    shard: ShardIndex,
    reports: mpsc::Sender<(ShardIndex, FromShard)>,
    said: bool,
}

impl LastWord {
    fn say(&mut self, result: Result<(), String>) {
        self.said = true;
        // A full channel empties: the control loop reads until it has this message.
        let mut message = (self.shard, FromShard::Stopped(result));
        while let Err(mpsc::error::TrySendError::Full(back)) = self.reports.try_send(message) {
            message = back;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        if !self.said {
            let reason = "its executor did not start; each needs about 1 MiB of locked memory: see \
                          ulimit -l, or LimitMEMLOCK= in a systemd unit";
            self.say(Err(reason.to_owned()));
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "BUG: {}",
        text.unwrap_or_else(|| "panic without a text".to_owned())
    )
}
