//! The driver on a real file system.

use crate::log::driver::{Driver, DriverOptions};
use crate::log::*;
use glommio::{LocalExecutorBuilder, Placement};
use ringscrape_wal::backlog::Backlog;
use ringscrape_wal::definition::{Block, BlockEntry, Layout, Route, Run, Target, next_id};
use ringscrape_wal::log::{LogOptions, ShardLog};
use ringscrape_wal::reader::LogReader;
use ringscrape_wal::scrape::{Position, Scrape};
use ringscrape_wal::segments::{DiskRead, Segments};
use ringscrape_wal::tail::{Entry, TailRead};
use ringscrape_wal::tools::{IndexState, segments, verify};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

pub(super) fn now_ms() -> i64 {
    1_700_000_000_000
}

/// Scrapes of one target with `len` series.
pub(super) struct Source {
    pub(super) target: Arc<Target>,
    route: Arc<Route>,
    layout: Arc<Layout>,
}

impl Source {
    pub(super) fn new(len: u32) -> Self {
        Self::of("e", len)
    }

    /// Same, for another endpoint.
    pub(super) fn of(endpoint: &str, len: u32) -> Self {
        let block = Arc::new(Block {
            id: next_id(),
            bytes: vec![7; len as usize].into(),
            entries: (1..=len)
                .map(|end| BlockEntry {
                    bytes_end: end,
                    holes_end: 0,
                })
                .collect(),
            holes: [].into(),
            families: [].into(),
        });
        Self {
            target: Arc::new(Target {
                id: next_id(),
                key: 5,
                labels: [("job".into(), "j".into())].into(),
            }),
            route: Arc::new(Route {
                id: next_id(),
                endpoints: [endpoint.into()].into(),
            }),
            layout: Arc::new(Layout {
                id: next_id(),
                runs: [Run {
                    block,
                    from: 0,
                    to: len,
                }]
                .into(),
                len,
            }),
        }
    }

    /// Values that do not compress, so that sizes are known.
    pub(super) fn scrape(&self, number: u32) -> Arc<Scrape> {
        Arc::new(Scrape {
            target: self.target.clone(),
            route: self.route.clone(),
            timestamp_ms: i64::from(number),
            layout: self.layout.clone(),
            values: (0..self.layout.len)
                .map(|i| f64::from(number) + f64::from(i) / 3.0)
                .collect(),
            stale: [].into(),
            sides: None,
        })
    }
}

fn on_executor<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F + Send + 'static) {
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 << 10)
        .spawn(move || async move { test().await })
        .unwrap()
        .join()
        .unwrap();
}

fn options(dir: &Path, first_segment: u64, sync: SyncPolicy) -> DriverOptions {
    DriverOptions {
        dir: dir.to_path_buf(),
        first_segment,
        sync,
        cursor_keep_ms: 1000,
        now_ms,
    }
}

/// A log and its driver, running.
struct Running {
    log: Rc<RefCell<ShardLog>>,
    driver: Driver,
    task: glommio::Task<()>,
    first_segment: u64,
}

impl Running {
    fn start(dir: &Path, sync: SyncPolicy, log_options: LogOptions) -> Self {
        let first_segment = prepare(dir).unwrap();
        let log = Rc::new(RefCell::new(ShardLog::new(log_options, first_segment)));
        let driver = Driver::new(log.clone(), options(dir, first_segment, sync));
        let running = driver.clone();
        Self {
            log,
            driver,
            task: glommio::spawn_local(async move { running.run().await }),
            first_segment,
        }
    }

    async fn until(&self, what: &str, mut holds: impl FnMut(&ShardLog) -> bool) {
        for _ in 0..1000 {
            self.driver.poll(std::time::Instant::now());
            if holds(&self.log.borrow()) {
                return;
            }
            glommio::timer::sleep(Duration::from_millis(20)).await;
        }
        panic!("never happened: {what}");
    }

    async fn stop(self) {
        self.driver.stop();
        self.task.await;
    }
}

fn read_all(dir: &Path, segments: &Segments, mut from: Position) -> Vec<Entry> {
    let mut reader = LogReader::new(Arc::new(FsStorage), dir.to_path_buf());
    let mut entries = Vec::new();
    while let DiskRead::Segment(readable) = segments.readable_from(from) {
        match reader.next(&readable, from, &mut |_| true).unwrap() {
            Some(entry) => {
                from = entry.end;
                entries.push(entry);
            }
            None => from = readable.next,
        }
    }
    assert_eq!(reader.take_damage(), []);
    entries
}

fn times(entries: &[Entry]) -> Vec<i64> {
    entries.iter().map(|e| e.scrape.timestamp_ms).collect()
}

#[test]
fn what_one_run_writes_the_next_one_reads() {
    for sync in [
        SyncPolicy::Every(Duration::from_millis(10)),
        SyncPolicy::Always,
        SyncPolicy::Never,
    ] {
        let temp = tempfile::tempdir().unwrap();
        let dir = shard_dir(temp.path(), 0);
        on_executor(move || async move {
            let source = Source::new(100);
            let small = LogOptions {
                segment_bytes_max: 20_000,
                ..LogOptions::default()
            };
            let run = Running::start(&dir, sync, small.clone());
            assert_eq!(run.first_segment, 1);
            run.until("adopted", ShardLog::adopted).await;
            let end = run.log.borrow().end();
            run.log.borrow_mut().cursors_mut().configure(["e"], end, 0);
            for number in 0..50 {
                run.log.borrow_mut().append(source.scrape(number), now_ms());
            }
            let end = run.log.borrow().end();
            // The live log can be read from its files before it is closed.
            run.until("written", |log| log.written_end() >= end).await;
            let live = read_all(&dir, run.log.borrow().segments(), Position::default());
            assert_eq!(times(&live), (0..50).collect::<Vec<_>>());
            let tenth = live[10].position;
            run.log.borrow_mut().cursors_mut().advance("e", tenth, end);
            if sync != SyncPolicy::Never {
                run.until("synced", |log| log.synced_end() >= end).await;
            }
            run.stop().await;
            let all = segments(&FsStorage, &dir).unwrap();
            assert!(all.len() > 1);
            for segment in all {
                let report = verify(Arc::new(FsStorage), &dir, segment).unwrap();
                assert_eq!((report.index, &*report.damage), (IndexState::Good, &[][..]));
            }

            let run = Running::start(&dir, sync, small);
            assert!(run.first_segment > end.segment);
            assert!(matches!(
                run.log.borrow().tail_after(tenth),
                TailRead::Behind
            ));
            assert_eq!(
                run.log.borrow().segments().readable_from(tenth),
                DiskRead::NotYet
            );
            run.until("adopted", ShardLog::adopted).await;
            let cursor = run.log.borrow().cursors().get("e").unwrap().clone();
            assert_eq!((cursor.low_water, cursor.highest_sent), (tenth, end));
            let rest = read_all(&dir, run.log.borrow().segments(), tenth);
            assert_eq!(times(&rest), (10..50).collect::<Vec<_>>());

            let mut last = Vec::new();
            restore::last_scrapes(&run.log, &dir, run.first_segment, 0, |entry| {
                last.push(entry);
            })
            .await;
            assert_eq!(times(&last), [49]);

            // Acknowledged: the files go, after the endpoint is known to be configured.
            let end = run.log.borrow().end();
            {
                let mut log = run.log.borrow_mut();
                log.cursors_mut().configure(["e"], end, 0);
                log.cursors_mut().advance("e", end, end);
            }
            run.until("deleted", |log| log.segments().count() == 0)
                .await;
            run.stop().await;
            assert!(segments(&FsStorage, &dir).unwrap().is_empty());
            assert!(prepare(&dir).unwrap() >= end.segment);
        });
    }
}

#[test]
fn a_directory_of_a_former_shard_is_drained_and_removed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = shard_dir(temp.path(), 3);
    on_executor(move || async move {
        let source = Source::new(10);
        let run = Running::start(&dir, SyncPolicy::Always, LogOptions::default());
        for number in 0..5 {
            run.log.borrow_mut().append(source.scrape(number), now_ms());
        }
        run.stop().await;
        let mut backlog = Backlog::open(Arc::new(FsStorage), dir.clone()).unwrap();
        let begin = backlog.begin();
        backlog.cursors_mut().configure(["e"], begin, 0);
        assert!(!backlog.release().unwrap());
        let entries = read_all(&dir, backlog.segments(), begin);
        assert_eq!(times(&entries), [0, 1, 2, 3, 4]);
        let end = backlog.end();
        backlog.cursors_mut().advance("e", end, end);
        assert!(backlog.release().unwrap());
        assert!(!dir.exists());
    });
}

/// A mounted file system; unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Drop for Mount {
    fn drop(&mut self) {
        let path = std::ffi::CString::new(self.0.path().to_str().unwrap()).unwrap();
        // SAFETY: the pointer is to a NUL-terminated string that outlives the call.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Mounts a file system that is soon full; `None` (with the reason printed) without the right to.
fn small_file_system(bytes: u32) -> Option<Mount> {
    let temp = tempfile::tempdir().unwrap();
    let path = std::ffi::CString::new(temp.path().to_str().unwrap()).unwrap();
    let size = std::ffi::CString::new(format!("size={bytes}")).unwrap();
    // SAFETY: all pointers are to NUL-terminated strings that outlive the call.
    let done = unsafe {
        libc::mount(
            c"tmpfs".as_ptr(),
            path.as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            size.as_ptr().cast(),
        )
    };
    if done == 0 {
        return Some(Mount(temp));
    }
    println!(
        "skipped: cannot mount a tmpfs: {}",
        std::io::Error::last_os_error()
    );
    None
}

#[test]
fn a_full_disk_is_survived() {
    let Some(temp) = small_file_system(1 << 20) else {
        return;
    };
    let path = temp.0.path().to_path_buf();
    let dir = shard_dir(&path, 0);
    let filler = path.join("filler");
    let inside = dir.clone();
    on_executor(move || async move {
        let dir = inside;
        let source = Source::new(1000);
        std::fs::write(&filler, vec![0; 900 << 10]).unwrap();
        let run = Running::start(&dir, SyncPolicy::Always, LogOptions::default());
        run.until("adopted", ShardLog::adopted).await;
        let end = run.log.borrow().end();
        run.log.borrow_mut().cursors_mut().configure(["e"], end, 0);
        for number in 0..30 {
            run.log.borrow_mut().append(source.scrape(number), now_ms());
        }
        run.until("given up", |log| log.stats().failures_no_space > 0)
            .await;
        assert!(run.log.borrow().suspended());
        // Nothing is lost to a reader of the tail, and scraping goes on.
        run.log.borrow_mut().append(source.scrape(30), now_ms());
        let mut from = Position::default();
        let mut seen = Vec::new();
        while let TailRead::Entry(entry) = run.log.borrow().tail_after(from) {
            seen.push(entry.scrape.timestamp_ms);
            from = entry.end;
        }
        assert_eq!(seen, (0..31).collect::<Vec<_>>());
        assert!(run.log.borrow().stats().records_not_durable > 0);

        std::fs::remove_file(&filler).unwrap();
        run.until("trying again", |log| !log.suspended()).await;
        for number in 31..34 {
            run.log.borrow_mut().append(source.scrape(number), now_ms());
        }
        let end = run.log.borrow().end();
        run.until("synced", |log| log.synced_end() >= end).await;
        // What was in memory only is on disk as well, in its place.
        let written = read_all(&dir, run.log.borrow().segments(), Position::default());
        assert_eq!(times(&written), (0..34).collect::<Vec<_>>());
        run.stop().await;
    });
    drop(temp);
}

#[test]
fn sync_policies_are_read_strictly() {
    let every = |ms| Ok(SyncPolicy::Every(Duration::from_millis(ms)));
    assert_eq!("1s".parse::<SyncPolicy>(), every(1000));
    assert_eq!("100ms".parse::<SyncPolicy>(), every(100));
    assert_eq!("always".parse::<SyncPolicy>(), Ok(SyncPolicy::Always));
    assert_eq!("never".parse::<SyncPolicy>(), Ok(SyncPolicy::Never));
    for bad in [
        "", "1", "s", "1m", "0s", "-1s", "61s", "Always", "1 s", "9ms",
    ] {
        assert!(bad.parse::<SyncPolicy>().is_err(), "{bad}");
    }
}
