//! Acknowledged positions and caps -> segments deleted, cursors saved: the driver's housekeeping.

use super::SyncPolicy;
use super::disk::{Disk, Failed};
use super::driver::Shared;
use ringscrape_wal::caps::CapAlarm;
use ringscrape_wal::format::CURSOR_FILE;
use ringscrape_wal::recovery;
use ringscrape_wal::segments::{Deletion, DeletionCause};
use ringscrape_wal::storage::Storage;
use std::rc::Rc;
use tracing::{error, info, warn};

/// Of failures that repeat every second so many make one line.
const FAILURES_PER_LINE: u64 = 60;

impl<D: Disk> Shared<D> {
    /// Deletes what nobody needs or what the caps say, then saves the cursors.
    pub(super) async fn housekeep(&self) {
        let now_ms = (self.options.now_ms)();
        let deletions = {
            let mut log = self.log.borrow_mut();
            if !log.adopted() {
                return;
            }
            log.cursors_mut()
                .expire(now_ms, self.options.cursor_keep_ms);
            let end = log.end();
            let mut deletions = match log.cursors().low_water(end) {
                Some(low_water) => log.release(low_water),
                None => Vec::new(),
            };
            let alarms = self.cap_alarms.borrow_mut().update(&log.cap_uses(now_ms));
            for alarm in alarms {
                announce(&alarm);
            }
            deletions.extend(log.retention(now_ms));
            deletions
        };
        self.find_thinnable();
        for deletion in &deletions {
            self.delete(deletion).await;
        }
        if !deletions.is_empty()
            && self.options.sync != SyncPolicy::Never
            && let Err(failed) = self.disk.sync_dir(self.dir()).await
        {
            warn!(dir = %self.dir().display(), error = %failed.error, "cannot sync the log's directory");
        }
        self.save_cursors().await;
    }

    async fn delete(&self, deletion: &Deletion) {
        if deletion.cause != DeletionCause::Acknowledged {
            self.count_lost(deletion).await;
        }
        let path = self.segment_path(deletion.segment);
        if let Err(error) = self.disk.remove_if_there(&path).await {
            // The next start finds it and deletes it again.
            warn!(path = %path.display(), %error, "cannot delete a segment of the log");
        }
    }

    async fn count_lost(&self, deletion: &Deletion) {
        let Some((from, to)) = deletion.lost else {
            return;
        };
        let (dir, segment) = (self.options.dir.clone(), deletion.segment);
        let count = move |storage: &dyn Storage| {
            recovery::samples_between(storage, &dir, segment, from, to)
        };
        let counted = self.disk.blocking(count).await;
        // One that cannot be read is counted as lost whole.
        let samples = counted.unwrap_or(deletion.samples);
        self.log.borrow_mut().count_lost(deletion.cause, samples);
        warn!(
            segment,
            samples,
            cause = ?deletion.cause,
            "a cap deleted samples that an endpoint had not acknowledged"
        );
    }

    pub(super) async fn save_cursors(&self) {
        let slot = {
            let mut log = self.log.borrow_mut();
            if !log.adopted() || !log.cursors().dirty() {
                return;
            }
            log.cursors_mut().encode()
        };
        let Some(slot) = slot else {
            let failures = self.log.borrow_mut().cursors_mut().save_failed();
            if failures % FAILURES_PER_LINE == 1 {
                error!(
                    dir = %self.dir().display(),
                    "too many endpoints for the cursor file: it stays as it is, and what they \
                     get from now on they get again after a restart; see that there are fewer \
                     endpoints, or that their names are shorter"
                );
            }
            return;
        };
        let path = self.dir().join(CURSOR_FILE);
        let saved = async {
            let open = self.cursor_file.borrow().clone();
            let file = match open {
                Some(file) => file,
                None => {
                    let file = Rc::new(self.disk.open_or_create(&path).await?);
                    if self.options.sync != SyncPolicy::Never {
                        self.disk.sync_dir(self.dir()).await?;
                    }
                    self.cursor_file.replace(Some(file.clone()));
                    file
                }
            };
            self.disk
                .write_all(&file, slot.offset, slot.bytes.clone())
                .await?;
            if self.options.sync != SyncPolicy::Never {
                self.disk.sync(&file).await?;
            }
            Ok::<(), Failed>(())
        };
        match saved.await {
            Ok(()) => self.log.borrow_mut().cursors_mut().saved(&slot),
            Err(failed) => {
                self.cursor_file.replace(None);
                self.log.borrow_mut().cursors_mut().save_failed();
                warn!(path = %path.display(), error = %failed.error, "cannot save the cursors");
            }
        }
    }

    pub(super) async fn close_cursor_file(&self) {
        let file = self.cursor_file.take();
        if let Some(file) = file.and_then(|file| Rc::try_unwrap(file).ok()) {
            self.disk.close(file).await;
        }
    }
}

/// Says that a cap is near, before it deletes anything.
fn announce(alarm: &CapAlarm) {
    let endpoint = &*alarm.used.endpoint;
    let flag = match alarm.used.cause {
        DeletionCause::RetentionAge => "--storage.retention-hours",
        _ => "--storage.retention-bytes",
    };
    let percent = (alarm.used.ratio * 100.0) as u64;
    match alarm.raised {
        true => warn!(
            endpoint,
            flag,
            percent,
            "what the endpoint has not got is near the cap: at 100 % its oldest samples are \
             deleted; let it take more, or raise the flag"
        ),
        false => info!(
            endpoint,
            flag, percent, "what the endpoint has not got is well below the cap again"
        ),
    }
}
