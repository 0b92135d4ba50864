//! A write or a sync that failed -> records in memory, a pause, a trial, and a new segment that has
//! them: the driver when the disk does not do as it is told.

use super::SyncPolicy;
use super::disk::{Disk, Failed};
use super::driver::Shared;
use ringscrape_wal::error::WriteFailure;
use ringscrape_wal::format::TRIAL_FILE;
use std::time::Duration;
use tracing::{error, warn};

/// First and longest pause after a failed write.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// With how many bytes a disk is tried that has failed.
const TRIAL_BYTES_MIN: u64 = 64 << 10;
const TRIAL_BYTES_MAX: u64 = 64 << 20;
/// How many of them are written at once.
const TRIAL_STEP_BYTES: u64 = 1 << 20;
impl<D: Disk> Shared<D> {
    /// Leaves the segment that is open as it is, and lets the log go on in memory.
    pub(super) fn give_up(&self, verb: &str, failed: Failed) {
        self.log.borrow_mut().write_failed(failed.failure);
        self.close_current();
        if failed.failure == WriteFailure::Sync {
            // Which of their pages are on disk nobody knows, and a second sync would not say.
            self.closing.borrow_mut().clear();
        }
        let pause = match self.retry.get() {
            Some((_, pause)) => (pause * 2).min(PAUSE_MAX),
            None => PAUSE_MIN,
        };
        self.retry.set(Some((self.disk.now() + pause, pause)));
        error!(
            dir = %self.dir().display(),
            error = %failed.error,
            "cannot {verb} the log: records are kept in memory only; trying again in {} s",
            pause.as_secs()
        );
    }

    /// The open segment gets no more bytes.
    pub(super) fn close_current(&self) {
        if let Some(open) = self.current.take() {
            self.closing.borrow_mut().push_back(open);
        }
    }

    /// True if the pause after a failure is over, or `at_once` is set, the disk takes bytes, and
    /// the log has been told to write to it again.
    pub(super) async fn resume(&self, at_once: bool) -> bool {
        match self.retry.get() {
            Some((at, _)) if self.disk.now() < at && !at_once => return false,
            None if !at_once => {
                // The log itself found that the disk does not keep up.
                self.close_current();
                let at = self.disk.now() + PAUSE_MIN;
                self.retry.set(Some((at, PAUSE_MIN)));
                return false;
            }
            _ => self.close_current(),
        }
        if let Err(failed) = self.try_disk().await {
            self.give_up("write to", failed);
            return false;
        }
        let now_ms = (self.options.now_ms)();
        self.log.borrow_mut().resume(now_ms);
        warn!(
            dir = %self.dir().display(),
            records = self.log.borrow().stats().tail_records,
            "writing the log again, to a new segment, with what was in memory only"
        );
        true
    }

    /// Writes as much as waits, and deletes it again: a disk that is full still may take a little,
    /// and to write the records themselves for a trial would give them new places each time.
    async fn try_disk(&self) -> Result<(), Failed> {
        let path = self.dir().join(TRIAL_FILE);
        let waiting = self.log.borrow().bytes_to_write_again();
        let bytes = waiting.clamp(TRIAL_BYTES_MIN, TRIAL_BYTES_MAX);
        let file = self.disk.open_or_create(&path).await?;
        let tried = async {
            let mut offset = 0;
            while offset < bytes {
                let step = TRIAL_STEP_BYTES.min(bytes - offset);
                self.disk
                    .write_all(&file, offset, vec![0x55; step as usize])
                    .await?;
                offset += step;
            }
            match self.options.sync {
                SyncPolicy::Never => Ok(()),
                _ => self.disk.sync(&file).await,
            }
        };
        let tried = tried.await;
        self.disk.close(file).await;
        let removed = self.disk.remove_if_there(&path).await;
        // It is the log's own segments that a failed sync would leave unknown.
        tried.map_err(|failed| match failed.failure {
            WriteFailure::Sync => Failed::of(WriteFailure::Io, failed.error),
            _ => failed,
        })?;
        Ok(removed?)
    }
}
