//! What a shard's log wants written -> files, synced, deleted; acknowledged positions -> cursors.
//!
//! **Runs on**: shard. Three tasks, so that a slow disk does not delay the page cache: one writes,
//! one syncs, one makes segments smaller. They wait for [`Driver::poll`], which the shard's loop
//! calls in each turn, so that what is due shares the shard's wake-ups; while [`Driver::is_busy`]
//! says no, the executor has nothing to do. Nothing borrows the log across an await.
//!
//! A failed write or sync gives the segment up. A failed fsync is never repeated as if the pages
//! were still there: the log goes on in memory. After a pause, which doubles from 1 s to 30 s while
//! it fails, the disk is tried with as many bytes as are waiting; if it takes and syncs them, a new
//! segment is begun, with what is in memory and not known to be on disk.

use super::SyncPolicy;
use super::disk::{Disk, Failed};
use super::files::GlommioDisk;
use super::gate::Gate;
use super::pace::{Pace, View};
use super::thin::Thin;
use futures_util::future::join4;
use ringscrape_wal::caps::CapAlarms;
use ringscrape_wal::error::{Damage, DamageKind};
use ringscrape_wal::log::{ShardLog, Write};
use ringscrape_wal::recovery;
use ringscrape_wal::scrape::Position;
use ringscrape_wal::storage::Storage;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// How often the disk is tried at a stop.
const STOP_ATTEMPTS: u32 = 3;

/// What the driver needs to know.
#[derive(Debug, Clone)]
pub struct DriverOptions {
    /// The shard's directory; `prepare` has created it.
    pub dir: PathBuf,
    /// The first segment of this run, as `prepare` said.
    pub first_segment: u64,
    /// When to sync.
    pub sync: SyncPolicy,
    /// How long the cursor of a removed endpoint is kept (milliseconds). Usually 24 h.
    pub cursor_keep_ms: i64,
    /// The wall clock, milliseconds since the Unix epoch.
    pub now_ms: fn() -> i64,
}

/// Writes one shard's log to disk.
#[derive(Debug)]
pub struct Driver<D: Disk = GlommioDisk>(Rc<Shared<D>>);

#[derive(Debug)]
pub(super) struct Shared<D: Disk> {
    pub(super) disk: D,
    pub(super) log: Rc<RefCell<ShardLog>>,
    pub(super) options: DriverOptions,
    /// The segment that is being written.
    pub(super) current: RefCell<Option<OpenFile<D::File>>>,
    /// Segments that get no more bytes, to be synced and closed.
    pub(super) closing: RefCell<VecDeque<OpenFile<D::File>>>,
    pub(super) stop: Cell<bool>,
    writing: Gate,
    syncing: Gate,
    /// Operations under way, recovery included.
    pub(super) active: Cell<u32>,
    pace: RefCell<Pace>,
    /// Housekeeping is due.
    keeping: Cell<bool>,
    /// Warnings about the caps.
    pub(super) cap_alarms: RefCell<CapAlarms>,
    /// The cursor file, once cursors were saved.
    pub(super) cursor_file: RefCell<Option<Rc<D::File>>>,
    /// After a failure: when to try again, and the next pause.
    pub(super) retry: Cell<Option<(Instant, Duration)>>,
    /// The segment that is made smaller.
    pub(super) thin: Thin,
}

#[derive(Debug)]
pub(super) struct OpenFile<F> {
    segment: u64,
    file: Rc<F>,
    written: u32,
}

impl<F> Clone for OpenFile<F> {
    fn clone(&self) -> Self {
        Self {
            segment: self.segment,
            file: self.file.clone(),
            written: self.written,
        }
    }
}

impl<D: Disk> Clone for Driver<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Driver {
    /// A driver for `log`, which was made with the same `first_segment`.
    pub fn new(log: Rc<RefCell<ShardLog>>, options: DriverOptions) -> Self {
        Self::over(GlommioDisk, log, options)
    }
}

impl<D: Disk> Driver<D> {
    /// Same, writing to `disk`.
    pub fn over(disk: D, log: Rc<RefCell<ShardLog>>, options: DriverOptions) -> Self {
        let pace = Pace::new(options.sync, disk.now());
        Self(Rc::new(Shared {
            disk,
            log,
            options,
            current: RefCell::new(None),
            closing: RefCell::new(VecDeque::new()),
            stop: Cell::new(false),
            writing: Gate::default(),
            syncing: Gate::default(),
            // The recovery, which `run` begins with.
            active: Cell::new(1),
            pace: RefCell::new(pace),
            keeping: Cell::new(false),
            cap_alarms: RefCell::new(CapAlarms::default()),
            cursor_file: RefCell::new(None),
            retry: Cell::new(None),
            thin: Thin::default(),
        }))
    }

    /// Lets the tasks do what is due at `now`; call it often. Returns when something will be due
    /// next, as far as is known: records appended later are due a quarter of a second after.
    pub fn poll(&self, now: Instant) -> Option<Instant> {
        self.0.poll(now)
    }

    /// Whether the executor must get its turns: something is due or under way.
    pub fn is_busy(&self) -> bool {
        let gates = [&self.0.writing, &self.0.syncing, &self.0.thin.gate];
        self.0.active.get() > 0 || gates.iter().any(|gate| gate.is_open())
    }

    /// Lets `run` finish: it closes the segment, writes and syncs everything, saves the cursors.
    /// Call it when nobody appends or sends any more.
    pub fn stop(&self) {
        self.0.stop.set(true);
        self.0.writing.open();
        self.0.syncing.open();
        self.0.thin.gate.open();
    }

    /// Recovers what former runs left, beside writing; ends some time after `stop`. Not
    /// cancel-safe: await it.
    pub async fn run(&self) {
        let shared = &self.0;
        let recover = async {
            shared.recover().await;
            shared.active.update(|active| active - 1);
        };
        let (write, sync) = (shared.write_loop(), shared.sync_loop());
        join4(recover, write, sync, shared.thin_loop()).await;
        shared.finish().await;
    }
}

impl<D: Disk> Shared<D> {
    pub(super) fn dir(&self) -> &Path {
        &self.options.dir
    }

    pub(super) fn segment_path(&self, segment: u64) -> PathBuf {
        self.dir().join(format!("{segment:020}.wal"))
    }

    /// Finds former segments and cursors and hands them to the log. Until that is done, nothing is
    /// deleted, and no cursor saved.
    async fn recover(&self) {
        loop {
            let (dir, before) = (self.options.dir.clone(), self.options.first_segment);
            let recover = move |storage: &dyn Storage| recovery::recover(storage, &dir, before);
            let recovered = self.disk.blocking(recover).await;
            match recovered {
                Ok(recovered) => {
                    report_damage(self.dir(), &recovered.damage);
                    for (first, last) in &recovered.missing {
                        warn!(
                            dir = %self.dir().display(), first, last,
                            "segments are missing: deleted by somebody, or never written because \
                             the disk failed"
                        );
                    }
                    for error in &recovered.unrepaired {
                        warn!(%error, "the log is read as it is, without this repair");
                    }
                    if recovered.cursor_slots_damaged > 0 {
                        warn!(
                            dir = %self.dir().display(),
                            slots = recovered.cursor_slots_damaged,
                            "cursor file damaged: what its endpoints had acknowledged may be sent again"
                        );
                    }
                    info!(
                        dir = %self.dir().display(),
                        segments = recovered.segments.count(),
                        bytes = recovered.segments.bytes(),
                        "log opened"
                    );
                    self.log.borrow_mut().adopt(recovered);
                    return;
                }
                Err(error) => {
                    error!(%error, "cannot recover the log; trying again in 10 s");
                    for _ in 0..100 {
                        if self.stop.get() {
                            return;
                        }
                        self.disk.sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    }

    fn poll(&self, now: Instant) -> Option<Instant> {
        let unsynced = self.is_unsynced();
        let view = {
            let log = self.log.borrow();
            View {
                pending_bytes: log.pending_bytes(),
                suspended: log.suspended(),
                adopted: log.adopted(),
                cursors_moved: log.cursors().dirty(),
                unsynced,
                end: log.end(),
                low_water: log.cursors().low_water(log.end()),
            }
        };
        let due = self.pace.borrow_mut().due(now, view);
        if due.housekeep {
            self.keeping.set(true);
        }
        if due.write || due.housekeep {
            self.writing.open();
        }
        if due.sync {
            self.syncing.open();
        }
        [due.next, self.thin.poll(now)].into_iter().flatten().min()
    }

    fn is_unsynced(&self) -> bool {
        let current = self.current.borrow();
        let end = current.as_ref().map(|open| Position {
            segment: open.segment,
            offset: open.written,
        });
        !self.closing.borrow().is_empty() || end > Some(self.log.borrow().synced_end())
    }

    async fn write_loop(&self) {
        while !self.stop.get() {
            self.writing.passed().await;
            self.active.update(|active| active + 1);
            self.write().await;
            if self.keeping.take() {
                self.housekeep().await;
            }
            self.active.update(|active| active - 1);
        }
        self.write_last().await;
    }

    /// What was appended last, at once: a sync that is running may take long.
    async fn write_last(&self) {
        if self.log.borrow().suspended() && !self.resume(true).await {
            return;
        }
        self.log.borrow_mut().close();
        self.write().await;
    }

    async fn sync_loop(&self) {
        if !matches!(self.options.sync, SyncPolicy::Every(_)) {
            return;
        }
        while !self.stop.get() {
            self.syncing.passed().await;
            self.active.update(|active| active + 1);
            self.sync_all().await;
            self.active.update(|active| active - 1);
        }
    }

    async fn finish(&self) {
        for _ in 0..STOP_ATTEMPTS {
            if self.options.sync != SyncPolicy::Never {
                self.sync_all().await;
            }
            if !self.log.borrow().suspended() {
                break;
            }
            self.write_last().await;
        }
        let stats = self.log.borrow().stats();
        if self.log.borrow().suspended() && stats.tail_records > 0 {
            error!(
                dir = %self.dir().display(),
                records = stats.tail_records,
                "stopped while the log could not be written: of the scrapes held in memory, those \
                 not sent are lost"
            );
        }
        self.close_files().await;
        self.save_cursors().await;
        self.close_cursor_file().await;
    }

    /// Brings to the files what the log has gathered.
    async fn write(&self) {
        if self.log.borrow().suspended() && !self.resume(false).await {
            return;
        }
        let now_ms = (self.options.now_ms)();
        let writes = self.log.borrow_mut().take_writes(now_ms);
        if writes.is_empty() {
            return;
        }
        for write in writes {
            if let Err(failed) = self.apply(write).await {
                self.give_up("write to", failed);
                return;
            }
            // The sync loop, or the log itself, may have given up meanwhile: then what is left of
            // these writes belongs to a segment that gets no more.
            if self.log.borrow().suspended() {
                self.close_current();
                return;
            }
        }
        self.retry.set(None);
        if self.options.sync == SyncPolicy::Always {
            self.sync_all().await;
        } else if self.options.sync == SyncPolicy::Never {
            self.close_files().await;
        }
    }

    async fn apply(&self, write: Write) -> Result<(), Failed> {
        match write {
            Write::Create { segment } => {
                let file = self.disk.create_new(&self.segment_path(segment)).await?;
                if self.options.sync != SyncPolicy::Never {
                    self.disk.sync_dir(self.dir()).await?;
                }
                if self.log.borrow().suspended() {
                    // Given up meanwhile: it gets nothing, and is not to count as synced.
                    return Ok(());
                }
                self.current.replace(Some(OpenFile {
                    segment,
                    file: Rc::new(file),
                    written: 0,
                }));
            }
            Write::Bytes {
                segment,
                offset,
                bytes,
            } => {
                let open = self.current.borrow().clone();
                let Some(open) = open.filter(|open| open.segment == segment) else {
                    // Given up by the sync loop while this was on its way.
                    return Ok(());
                };
                let end = offset + bytes.len() as u32;
                self.disk
                    .write_all(&open.file, u64::from(offset), bytes)
                    .await?;
                if self.log.borrow().suspended() {
                    return Ok(());
                }
                if let Some(current) = &mut *self.current.borrow_mut() {
                    current.written = end;
                }
                let end = Position {
                    segment,
                    offset: end,
                };
                self.log.borrow_mut().written(end);
            }
            Write::Close { segment } => {
                let open = self.current.borrow_mut().take();
                if let Some(open) = open.filter(|open| open.segment == segment) {
                    self.closing.borrow_mut().push_back(open);
                }
            }
        }
        Ok(())
    }

    /// Syncs what is written; closes what gets no more.
    async fn sync_all(&self) {
        loop {
            let closing = self.closing.borrow().front().cloned();
            let Some(open) = closing else {
                break;
            };
            if !self.sync_one(&open).await {
                return;
            }
            let synced = self
                .closing
                .borrow_mut()
                .pop_front_if(|front| front.segment == open.segment);
            drop(synced);
            self.close(open).await;
        }
        let current = self.current.borrow().clone();
        if let Some(open) = current {
            self.sync_one(&open).await;
        }
    }

    async fn sync_one(&self, open: &OpenFile<D::File>) -> bool {
        let end = Position {
            segment: open.segment,
            offset: open.written,
        };
        if self.log.borrow().synced_end() >= end {
            return true;
        }
        let started = self.disk.now();
        if let Err(failed) = self.disk.sync(&open.file).await {
            self.give_up("sync", failed);
            return false;
        }
        let mut log = self.log.borrow_mut();
        log.synced(end);
        log.count_sync(self.disk.now().duration_since(started).as_micros() as u64);
        true
    }

    async fn close_files(&self) {
        let mut left = std::mem::take(&mut *self.closing.borrow_mut());
        left.extend(self.current.borrow_mut().take_if(|_| self.stop.get()));
        for open in left {
            self.close(open).await;
        }
    }

    /// Closes the file unless a sync holds it still; then the last one to let go does.
    async fn close(&self, open: OpenFile<D::File>) {
        if let Ok(file) = Rc::try_unwrap(open.file) {
            self.disk.close(file).await;
        }
    }
}

fn report_damage(dir: &Path, damage: &[Damage]) {
    for place in damage {
        let what = match place.kind {
            DamageKind::Version => {
                "written by a newer ringscrape: not read, and left as it is; start that one to \
                 have it sent"
            }
            DamageKind::TornTail => "the end of a segment was not written whole: cut",
            _ => "damaged bytes in the log: skipped, and copied to the quarantine folder",
        };
        warn!(
            dir = %dir.display(),
            segment = place.segment,
            from = place.from,
            to = place.to,
            kind = ?place.kind,
            "{what}"
        );
    }
}
