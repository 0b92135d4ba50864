//! A segment that some endpoints have all of -> a smaller one with what the others wait for: done
//! beside the shard in steps of about a megabyte, with pauses between them.

use super::disk::Disk;
use super::driver::Shared;
use super::gate::Gate;
use ringscrape_wal::storage::Storage;
use ringscrape_wal::thin::{Step, Thinned, Thinning};
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// From the end of one step to the next one.
const PAUSE: Duration = Duration::from_millis(20);
/// How long nothing is tried after a failure.
const PAUSE_FAILED: Duration = Duration::from_secs(60);

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Thin {
    /// Opened when a step is due.
    pub(super) gate: Gate,
    /// Between two steps.
    thinning: RefCell<Option<Thinning>>,
    /// From the first step to the end of the last one.
    is_busy: Cell<bool>,
    step_at: Cell<Option<Instant>>,
    /// After a failure: when to try again.
    retry_at: Cell<Option<Instant>>,
}

impl Thin {
    /// Lets the task do what is due at `now`; says when something will be.
    pub(super) fn poll(&self, now: Instant) -> Option<Instant> {
        let at = self.step_at.get()?;
        if at > now {
            return Some(at);
        }
        self.step_at.set(None);
        self.gate.open();
        None
    }
}

impl<D: Disk> Shared<D> {
    /// Begins with a segment that holds much for those who have it, if there is one.
    pub(super) fn find_thinnable(&self) {
        let now = self.disk.now();
        let waits = self.thin.retry_at.get().is_some_and(|at| now < at);
        if waits || self.stop.get() || self.thin.is_busy.get() {
            return;
        }
        let Some(found) = self.log.borrow_mut().thinnable() else {
            return;
        };
        self.thin.is_busy.set(true);
        let thinning = Thinning::new(self.dir(), found);
        self.thin.thinning.replace(Some(thinning));
        self.thin.step_at.set(Some(now));
    }

    pub(super) async fn thin_loop(&self) {
        while !self.stop.get() {
            self.thin.gate.passed().await;
            self.active.update(|active| active + 1);
            self.thin().await;
            self.active.update(|active| active - 1);
        }
        let left = self.thin.thinning.take();
        if let Some(thinning) = left {
            self.discard(thinning).await;
        }
    }

    /// One step.
    async fn thin(&self) {
        if self.stop.get() {
            return;
        }
        let thinning = self.thin.thinning.take();
        let Some(mut thinning) = thinning else {
            return;
        };
        let work = move |storage: &dyn Storage| {
            let step = thinning.step(storage);
            (thinning, step)
        };
        let (thinning, step) = self.disk.blocking(work).await;
        match step {
            Ok(Step::More) => {
                self.thin.thinning.replace(Some(thinning));
                self.thin.step_at.set(Some(self.disk.now() + PAUSE));
                return;
            }
            Ok(Step::Leave) => self.discard(thinning).await,
            Ok(Step::Ready(thinned)) => self.install(thinning, thinned).await,
            Err(error) => {
                warn!(%error, "cannot make a segment of the log smaller: it stays as it is");
                self.fail(thinning).await;
            }
        }
        self.thin.is_busy.set(false);
    }

    /// Puts the copy in the segment's place, unless that has gone.
    async fn install(&self, thinning: Thinning, thinned: Thinned) {
        if !self.log.borrow_mut().hold_segment(thinned.segment) {
            self.discard(thinning).await;
            return;
        }
        let install = move |storage: &dyn Storage| {
            let installed = thinning.install(storage);
            (thinning, installed)
        };
        let (thinning, installed) = self.disk.blocking(install).await;
        let done = installed.is_ok().then_some(&thinned);
        self.log.borrow_mut().thinned(done);
        match installed {
            Ok(()) => debug!(
                dir = %self.dir().display(),
                segment = thinned.segment,
                bytes = thinned.bytes,
                "a segment holds only what some endpoints wait for"
            ),
            Err(error) => {
                warn!(%error, "cannot make a segment of the log smaller: it stays as it is");
                self.fail(thinning).await;
            }
        }
    }

    async fn fail(&self, thinning: Thinning) {
        let at = self.disk.now() + PAUSE_FAILED;
        self.thin.retry_at.set(Some(at));
        let segment = thinning.segment();
        self.log.borrow_mut().thinning_failed(segment);
        self.discard(thinning).await;
    }

    async fn discard(&self, thinning: Thinning) {
        let discard = move |storage: &dyn Storage| thinning.discard(storage);
        if let Err(error) = self.disk.blocking(discard).await {
            warn!(%error, "cannot delete a file that is of no use; the next start does");
        }
    }
}
