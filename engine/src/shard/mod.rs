//! One core's data plane: schedule -> fetch -> match -> append -> log -> requests.
//!
//! **Runs on**: shard: a glommio executor pinned to a core. Two tasks: the loop here, which sleeps
//! only when nothing is to be done, and the log's driver, which waits for the disk.
//!
//! **Wake-ups** are most of what a scrape costs, so the loop has few. While scrapes come due every
//! few milliseconds, everything else waits for the next ones: responses that have arrived are read,
//! requests sent and the log written in the same turn. The kernel says when bytes arrived, so that
//! durations are exact all the same.

mod costs;
mod former;
mod moves;
mod names;
mod scrapes;
mod sender;
mod sending;
mod shown;
mod targets;
#[cfg(test)]
mod tests;
mod thread;
mod waiting;

pub(crate) use thread::{ShardOptions, ShardThread};

use crate::clock;
use crate::fetch::{Fetcher, FetcherLimits};
use crate::log::driver::{Driver, DriverOptions};
use crate::log::{SyncPolicy, prepare, restore, shard_dir};
use crate::mailbox::{EndpointLink, FromShard, ShardIndex, ToShard};
use crate::memory;
use crate::metrics::ShardFigures;
use former::Former;
use glommio::Task;
use ringscrape_wal::log::{LogOptions, ShardLog};
use ringscrape_wal::scrape::Scrape;
use scrapes::Scrapes;
use sending::Sending;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often is looked for what must not wait, in milliseconds: a connection being made, more of a
/// response that has begun to arrive, the end of the process.
const TICK_MS: u64 = 4;
/// How long that is done after a step of a connection or a response, in milliseconds: what takes
/// longer, a dead host or a slow response, is looked for with the next scrapes.
const URGENT_MS: u64 = 3 * TICK_MS;
/// Responses are looked for after `TICK_MS`, and then, while none has come, after twice as long
/// each time, up to this, in milliseconds.
const TICK_MS_MAX: u64 = 32;
/// What can wait is done with the next scrapes if these are due within this time, in milliseconds:
/// the longest distance of two places of the grid.
const JOIN_MS: u64 = 50;
/// Longest sleep, in milliseconds.
const SLEEP_MS_MAX: u64 = 1_000;
/// Messages taken in one turn.
const MESSAGES_PER_TURN_MAX: usize = 4;
/// How often it is looked whether the log has been recovered, in milliseconds.
const RECOVERY_POLL_MS: u64 = 10;
/// Series of former runs that are older have ended for every receiver, in milliseconds.
const RESTORE_AGE_MS_MAX: i64 = 10 * 60_000;
/// How long the cursor of an endpoint that left the configuration is kept, in milliseconds.
const CURSOR_KEEP_MS: i64 = 24 * 3_600_000;
/// How often unused blocks and layouts are dropped, in milliseconds.
const SWEEP_MS: u64 = 10_000;
/// Freed memory that is worth the milliseconds of giving it back to the system (bytes).
const FREED_BYTES_MIN: usize = 1 << 20;

/// One shard.
struct Shard {
    options: ShardOptions,
    messages: mpsc::Receiver<ToShard>,
    /// A message that ended a sleep.
    message: Option<ToShard>,
    reports: mpsc::Sender<(ShardIndex, FromShard)>,
    fetcher: Fetcher,
    scrapes: Scrapes,
    sending: Sending,
    /// Logs of a former number of shards.
    former: Rc<RefCell<Former>>,
    log: Rc<RefCell<ShardLog>>,
    driver: Driver,
    driving: Task<()>,
    /// Endpoints that wait for the log's recovery: before it no cursor is known.
    links: Option<Vec<EndpointLink>>,
    /// What targets last had in the log of former runs, by key, until it has been taken over.
    restored: Rc<RefCell<HashMap<u64, Arc<Scrape>>>>,
    /// Former scrapes are being read back.
    restoring: Rc<Cell<bool>>,
    /// Ends the loop's sleep.
    waker: Waker,
    /// The pause before responses are looked for again.
    tick_ms: u64,
    /// Until when responses are looked for at every tick.
    urgent_until_ms: u64,
    /// The pause before the executor gets another turn; 0 = it has nothing to do.
    busy_ms: u64,
    stop_deadline_ms: Option<i64>,
    sweep_at_ms: u64,
    /// Freed since memory was last given back to the system.
    bytes_freed: usize,
    restored_until_ms: u64,
    /// When the loop meant to take its next turn, on the monotonic clock.
    turn_at_ms: u64,
    /// When the present one began.
    turn_began_ms: u64,
}

impl Shard {
    /// Opens the shard's log and gets ready to take messages.
    fn open(
        options: ShardOptions,
        messages: mpsc::Receiver<ToShard>,
        reports: mpsc::Sender<(ShardIndex, FromShard)>,
    ) -> Result<Self, String> {
        let fetcher = Fetcher::new(FetcherLimits {
            connections_max: options.connections_max,
            ..FetcherLimits::default()
        })
        .map_err(|error| format!("cannot create an epoll descriptor: {error}"))?;
        let dir = shard_dir(&options.storage_path, options.shard);
        let first_segment = prepare(&dir).map_err(|error| error.to_string())?;
        let log = Rc::new(RefCell::new(ShardLog::new(
            LogOptions {
                retention_bytes_max: Some(options.retention_bytes_max).filter(|max| *max > 0),
                retention_age_ms_max: i64::try_from(options.retention_age_ms_max)
                    .ok()
                    .filter(|max| *max > 0),
                hold_until_synced: options.sync != SyncPolicy::Never,
                salt: salt(),
                ..LogOptions::default()
            },
            first_segment,
        )));
        let driver = Driver::new(
            log.clone(),
            DriverOptions {
                dir: dir.clone(),
                first_segment,
                sync: options.sync,
                cursor_keep_ms: CURSOR_KEEP_MS,
                now_ms: clock::now_ms,
            },
        );
        let task = driver.clone();
        let driving = glommio::spawn_local(async move { task.run().await });
        let restored = Rc::new(RefCell::new(HashMap::new()));
        let restoring = Rc::new(Cell::new(true));
        let (restore, ended) = (
            restore_former(log.clone(), dir.clone(), first_segment, restored.clone()),
            restoring.clone(),
        );
        glommio::spawn_local(async move {
            restore.await;
            ended.set(false);
        })
        .detach();
        let run_start = log.borrow().end();
        let shard = options.shard;
        let former = Rc::new(RefCell::new(Former::of(&options, reports.clone())));
        let sending = Sending::new(shard, options.shard_count, run_start, dir, former.clone());
        Ok(Self {
            scrapes: Scrapes::new(shard, log.clone(), reports.clone(), options.standstill_ms),
            sending,
            former,
            waker: Waker::from(fetcher.waker()),
            fetcher,
            log,
            driver,
            driving,
            links: None,
            restored,
            messages,
            message: None,
            reports,
            restoring,
            tick_ms: TICK_MS,
            busy_ms: 0,
            urgent_until_ms: 0,
            stop_deadline_ms: None,
            sweep_at_ms: 0,
            bytes_freed: 0,
            restored_until_ms: clock::monotonic_ms() + RESTORE_AGE_MS_MAX as u64,
            turn_at_ms: clock::monotonic_ms(),
            turn_began_ms: clock::monotonic_ms(),
            options,
        })
    }

    /// Works until told to stop. `Ok`: stopped as told, the log is synced, the cursors are saved.
    async fn run(mut self) -> Result<(), String> {
        let mut ready = false;
        loop {
            let now = scrapes::now();
            let (in_flight, activity) = (self.fetcher.in_flight(), self.fetcher.activity());
            if !ready {
                // Never waits: the control loop may be waiting for this shard.
                let message = (self.options.shard, FromShard::Ready);
                ready = self.reports.try_send(message).is_ok();
            }
            self.turn_began_ms = now.monotonic_ns / 1_000_000;
            self.take_messages();
            // After them: a word to go on is older than the standstill.
            self.notice_standstill(self.turn_began_ms, self.turn_at_ms);
            self.set_endpoints();
            if self.stop_deadline_ms.is_none() {
                self.scrapes.advance(&mut self.fetcher, now);
            }
            let mut more = self
                .fetcher
                .poll(now, &mut self.scrapes)
                .map_err(|error| format!("epoll failed: {error}"))?;
            if self.fetcher.in_flight() < in_flight {
                self.tick_ms = TICK_MS;
            }
            if self.fetcher.activity() != activity {
                self.urgent_until_ms = clock::monotonic_ms() + URGENT_MS;
            }
            more |= self.scrapes.hand_over_some();
            if self.scrapes.moves.take_hurried() {
                self.sending.hurry();
            }
            let send_at_ms = self.sending.poll(&mut self.scrapes.log.borrow_mut());
            former::keep(&self.former, &self.log, self.turn_began_ms);
            self.sweep();
            if let Some(deadline_ms) = self.stop_deadline_ms
                && (self.sending.is_drained() || clock::now_ms() >= deadline_ms)
            {
                break;
            }
            self.wait(more, send_at_ms).await?;
        }
        self.driver.stop();
        let mut context = Context::from_waker(Waker::noop());
        while Pin::new(&mut self.driving).poll(&mut context).is_pending() {
            glommio::executor().yield_task_queue_now().await;
            self.sleep(Duration::from_millis(1))?;
        }
        while self.former.borrow().is_working() {
            glommio::executor().yield_task_queue_now().await;
            self.sleep(Duration::from_millis(1))?;
        }
        self.former.borrow_mut().finish();
        Ok(())
    }

    fn take_messages(&mut self) {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let message = match self.message.take() {
                Some(message) => message,
                None => match self.messages.try_recv() {
                    Ok(message) => message,
                    Err(_) => return,
                },
            };
            self.take(message);
        }
    }

    fn take(&mut self, message: ToShard) {
        let now_ms = clock::now_ms();
        match message {
            ToShard::Add(assignments) => {
                for assignment in assignments {
                    let (index, to_schedule) = self.scrapes.targets.add(assignment, now_ms);
                    let idle = self.scrapes.targets.slab[index].flight.is_none();
                    if to_schedule && idle {
                        self.scrapes.schedule(index);
                    }
                }
            }
            ToShard::Remove(keys) => {
                for removal in &keys {
                    self.scrapes.remove(&mut self.fetcher, removal);
                }
            }
            ToShard::Restore(scrapes) => self.scrapes.restore(scrapes),
            ToShard::FormerScrapes(scrapes) => {
                let restored = &mut *self.restored.borrow_mut();
                restored.extend(
                    scrapes
                        .into_iter()
                        .map(|scrape| (scrape.target.key, scrape)),
                );
            }
            ToShard::FormerSent {
                endpoint,
                generation,
            } => self.former.borrow_mut().all_have_sent(endpoint, generation),
            ToShard::Hold => self.scrapes.is_held = true,
            ToShard::GoOn => self.scrapes.go_on(),
            ToShard::Endpoints(links) => self.keep_links(links),
            ToShard::Resolved(name, result) => {
                self.scrapes.resolved(&mut self.fetcher, &name, result);
            }
            // Who asked may have gone away.
            ToShard::Figures(answer) => {
                let _ = answer.send(self.figures());
            }
            ToShard::Statuses(answer) => {
                let _ = answer.send(self.scrapes.targets.statuses());
            }
            ToShard::StatusesOf(keys, answer) => {
                let _ = answer.send(self.scrapes.targets.statuses_of(&keys));
            }
            ToShard::Costs(places, answer) => {
                let _ = answer.send(self.scrapes.targets.costs(&places));
            }
            ToShard::Remaining(answer) => {
                let _ = answer.send(self.scrapes.remaining());
            }
            ToShard::Stop { deadline_ms } => {
                self.stop_deadline_ms = Some(deadline_ms);
                self.scrapes.drop_flights(&mut self.fetcher);
                self.sending.flush();
            }
        }
    }

    /// Keeps endpoints until the log is recovered. Channels that came with earlier ones which still
    /// wait go on to these: they come once.
    fn keep_links(&mut self, mut links: Vec<EndpointLink>) {
        for before in self.links.take().into_iter().flatten() {
            let same =
                |link: &&mut EndpointLink| link.endpoint.identity == before.endpoint.identity;
            if let Some(link) = links.iter_mut().find(same)
                && link.channel.is_none()
            {
                link.channel = before.channel;
            }
        }
        self.links = Some(links);
    }

    /// Takes over new endpoints, once the log knows the cursors of former runs.
    fn set_endpoints(&mut self) {
        let mut log = self.log.borrow_mut();
        if let Some(links) = self.links.take_if(|_| log.adopted()) {
            self.sending.set_endpoints(links, &mut log);
        }
    }

    fn sweep(&mut self) {
        let now_ms = clock::monotonic_ms();
        if now_ms >= self.sweep_at_ms {
            self.sweep_at_ms = now_ms + SWEEP_MS;
            self.scrapes.tables.sweep();
            self.scrapes.names.sweep(now_ms);
            self.scrapes.sweep_moves(now_ms);
            if self.scrapes.targets.have_shrunk() {
                // Some milliseconds, after many targets have gone: what they held goes back to the
                // system.
                self.scrapes.tables.trim();
                self.log.borrow_mut().trim();
                memory::trim();
            }
            self.give_back();
        }
        let former = &mut *self.restored.borrow_mut();
        self.scrapes.moves.add_former(former.drain());
        if now_ms >= self.restored_until_ms {
            self.scrapes.moves.forget_former();
        }
    }

    /// What a burst of records or a backlog needed goes back to the system.
    fn give_back(&mut self) {
        self.bytes_freed += self.log.borrow().pool().shrink();
        let caught_up = self.sending.take_caught_up();
        if self.bytes_freed >= FREED_BYTES_MIN || caught_up {
            self.bytes_freed = 0;
            memory::trim();
        }
    }

    fn figures(&self) -> ShardFigures {
        let mut figures = self.scrapes.figures.clone();
        figures.log = self.log.borrow().stats();
        figures.damaged = self.log.borrow().stats().damaged_places + self.sending.skipped();
        figures.endpoints = self.sending.figures(&self.log.borrow(), clock::now_ms());
        figures.caps = self.log.borrow().cap_uses(clock::now_ms());
        figures.cursor_saves_failed = self.log.borrow().cursors().failed_saves();
        figures.former_unreadable = self.former.borrow().unreadable();
        figures.former_dirs = self.former.borrow().dirs_left();
        figures.memory = self.memory();
        figures
    }

    fn memory(&self) -> BTreeMap<&'static str, u64> {
        let tables = self.scrapes.tables.memory_use();
        let fetcher = self.fetcher.memory_use();
        let log = self.log.borrow();
        BTreeMap::from([
            ("text", tables.text_bytes as u64),
            ("line_hashes", tables.hashed_bytes as u64),
            ("derived", tables.derived_bytes as u64),
            ("layouts", tables.layout_bytes as u64),
            ("targets", self.scrapes.targets.memory_bytes() as u64),
            ("connections", fetcher.connections_bytes as u64),
            ("bodies", fetcher.bodies_bytes as u64),
            (
                "pooled",
                (tables.scratch_bytes + fetcher.pooled_bytes + log.pool().bytes()) as u64,
            ),
            ("wal_tail", log.stats().tail_bytes),
            ("wal_pending", log.pending_bytes()),
            ("keyframes", log.keyframe_bytes() as u64),
        ])
    }
}

/// Reads back, beside everything else, what each target had last.
async fn restore_former(
    log: Rc<RefCell<ShardLog>>,
    dir: PathBuf,
    first_segment: u64,
    restored: Rc<RefCell<HashMap<u64, Arc<Scrape>>>>,
) {
    while !log.borrow().adopted() {
        glommio::timer::sleep(Duration::from_millis(RECOVERY_POLL_MS)).await;
    }
    let oldest_ms = clock::now_ms() - RESTORE_AGE_MS_MAX;
    restore::last_scrapes(&log, &dir, first_segment, oldest_ms, |entry| {
        restored
            .borrow_mut()
            .insert(entry.scrape.target.key, entry.scrape);
    })
    .await;
}

/// A number that differs in each run: the log's checksums are salted with it.
fn salt() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}
