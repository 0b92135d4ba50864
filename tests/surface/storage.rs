//! A disk that is full, a directory that is taken -> a clear answer, and nothing lost in silence.

use std::ffi::CString;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringscrape_tests::engine::{Running, metrics_above_zero};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::recorder::{Answer, Recorder, Sample};
use ringscrape_tests::{net, wait};
use tempfile::TempDir;

use crate::{LIMIT, one_job, ringscrape, subject};

/// A memory file system of a fixed size; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with the reason printed, where mounting is not permitted.
    fn mount(at: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(at).expect("cannot make a directory");
        let target = CString::new(at.as_os_str().as_bytes()).expect("a path without NUL");
        let size = CString::new(format!("size={bytes}")).expect("no NUL");
        // SAFETY: all pointers are to NUL-terminated strings that outlive the call.
        let result = unsafe {
            libc::mount(
                c"tmpfs".as_ptr(),
                target.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                size.as_ptr().cast(),
            )
        };
        if result == 0 {
            return Some(Self(at.to_owned()));
        }
        let error = std::io::Error::last_os_error();
        // No failure under CI=true: a container may well lack this permission.
        eprintln!("skipped: cannot mount a small file system: {error}");
        None
    }

    /// Fills all space with one file.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).expect("cannot create a file");
        let piece = [0; 4096];
        while file.write_all(&piece).is_ok() {}
        while file.write_all(&piece[..1]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let target = CString::new(self.0.as_os_str().as_bytes()).expect("BUG: mounted by it");
        // SAFETY: the pointer is to a NUL-terminated string that outlives the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn a_full_disk_stops_neither_scraping_nor_sending_and_heals() {
    let Some(engine) = ringscrape() else { return };
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let Some(disk) = SmallDisk::mount(&dir.path().join("data"), 64 << 20) else {
        return;
    };
    let exporter = Exporter::start(|scrape| {
        let mut page = String::new();
        for series in 0..500 {
            let value = scrape.number * 1_000_003 + series;
            page.push_str(&format!("x{{series=\"{series}\"}} {value}.{value}\n"));
        }
        Page::text(page)
    });
    let recorder = Recorder::start();
    let config = one_job(&recorder.url("w"), &exporter.address().to_string());
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    running.wait_ready();
    let ups = || recorder.count("w", |s: &Sample| s.name() == "up" && s.value() == 1.0);
    let mut more = |what: &str, count: usize| {
        let wanted = ups() + count;
        let state = || format!("{} scrapes arrived", ups());
        wait::until(what, LIMIT, state, || {
            assert!(running.process.is_alive(), "the engine ended");
            (ups() >= wanted).then_some(())
        });
    };
    more("scrapes arrive while there is space", 2);
    let filler = disk.fill();
    more("scrapes arrive while the disk is full", 8);
    std::fs::remove_file(filler).expect("cannot remove the filler");
    more("scrapes arrive after space came back", 3);

    let log = running.process.log();
    assert!(
        log.to_lowercase().contains("no space"),
        "the log says nothing of it:\n{log}"
    );
    let page = running.get("/metrics").expect("metrics").text();
    let told = metrics_above_zero(
        &page,
        &["wal|log|disk", "fail|error|full|not_durable|refused"],
    );
    assert!(!told.is_empty(), "no metric tells of it");
    assert_eq!(recorder.violations(), Vec::<String>::new());
    assert!(running.process.terminate(LIMIT).success());
}

/// The receiver refuses, the disk is full: what is scraped meanwhile is in memory only, until space
/// returns. After a kill all of it comes from the disk.
#[test]
fn what_a_full_disk_did_not_take_is_written_when_space_returns() {
    let Some(engine) = subject() else { return };
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let Some(disk) = SmallDisk::mount(&dir.path().join("data"), 64 << 20) else {
        return;
    };
    let exporter = Exporter::start(|scrape| {
        let mut page = String::new();
        for series in 0..500 {
            let value = scrape.number * 1_000_003 + series;
            page.push_str(&format!("x{{series=\"{series}\"}} {value}\n"));
        }
        Page::text(page)
    });
    let refuses = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&refuses);
    let recorder = Recorder::scripted(move |_| {
        Answer::status(if script.load(Ordering::SeqCst) {
            503
        } else {
            204
        })
    });
    let config = one_job(&recorder.url("w"), &exporter.address().to_string());
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    running.wait_ready();
    let samples = || recorder.count("w", |s: &Sample| s.name() == "x");
    let state = || {
        format!(
            "{} samples arrived, {} scrapes",
            samples(),
            exporter.served().len()
        )
    };
    wait::until("samples arrive", LIMIT, state, || {
        (samples() > 0).then_some(())
    });
    refuses.store(true, Ordering::SeqCst);
    let filler = disk.fill();
    let metric = |running: &Running, name: &str| {
        let page = running.get("/metrics").expect("metrics").text();
        let line = page
            .lines()
            .find(|line| line.starts_with(name))
            .map(str::to_owned);
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        value.unwrap_or(0.0)
    };
    let not_durable = "ringscrape_wal_not_durable_records_total";
    wait::until("scrapes are in memory only", LIMIT, state, || {
        (metric(&running, not_durable) >= 5.0).then_some(())
    });
    std::fs::remove_file(filler).expect("cannot remove the filler");
    let rewritten = "ringscrape_wal_rewritten_records_total";
    // All in one step, but for those that the receiver had taken before it refused.
    wait::until("they are written", LIMIT, state, || {
        (metric(&running, rewritten) > 0.0).then_some(())
    });
    let required = exporter.served().len();
    wait::until("they are synced", LIMIT, state, || {
        (exporter.served().len() >= required + 4).then_some(())
    });
    running.process.kill();
    refuses.store(false, Ordering::SeqCst);

    let file = running.config.clone();
    let mut running = Running::start_on(engine, dir.path(), &file, net::free_address(), &[]);
    running.wait_ready();
    let lacks = || {
        let arrived: std::collections::BTreeSet<u64> = recorder
            .samples("w")
            .iter()
            .filter(|sample| sample.name() == "x" && sample.label("series") == Some("0"))
            .filter(|sample| !sample.is_stale())
            .map(|sample| sample.value() as u64 / 1_000_003)
            .collect();
        let served = exporter.served();
        let numbers = served.iter().take(required).map(|scrape| scrape.number);
        numbers
            .filter(|number| !arrived.contains(number))
            .collect::<Vec<_>>()
    };
    wait::until(
        "all scrapes arrive",
        LIMIT,
        || format!("lacking {:?}", lacks()),
        || lacks().is_empty().then_some(()),
    );
    assert_eq!(recorder.violations(), Vec::<String>::new());
    assert!(running.process.terminate(LIMIT).success());
}

#[test]
fn a_storage_path_is_held_by_one_process() {
    // The reference says so as well, but does not end.
    let Some(engine) = ringscrape() else { return };
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let recorder = Recorder::start();
    let config = one_job(&recorder.url("w"), "127.0.0.1:1");
    let mut first = Running::start(engine, dir.path(), &config, &[]);
    first.wait_ready();
    let file = first.config.clone();
    let mut second = Running::start_on(engine, dir.path(), &file, net::free_address(), &[]);
    assert!(
        !second.process.wait(LIMIT).success(),
        "a second process took the same path"
    );
    let log = second.process.log();
    let path = dir.path().join("data");
    assert!(
        log.contains("locked by another") && log.contains(&*path.to_string_lossy()),
        "{log}"
    );
    assert!(first.process.is_alive());
    first.process.kill();
    // The lock goes with its process, however it ended.
    let mut third = Running::start_on(engine, dir.path(), &file, net::free_address(), &[]);
    third.wait_ready();
    assert!(third.process.terminate(LIMIT).success());
}

#[test]
fn a_storage_path_that_cannot_be_written_is_named() {
    let Some(engine) = subject() else { return };
    let dir = TempDir::new().expect("cannot make a temporary directory");
    std::fs::write(
        dir.path().join("data"),
        "a file, where a directory should be",
    )
    .expect("file");
    let mut running = Running::start(engine, dir.path(), "global: {}\n", &[]);
    assert!(!running.process.wait(LIMIT).success());
    let log = running.process.log();
    let path = dir.path().join("data");
    assert!(log.contains(&*path.to_string_lossy()), "{log}");
}
