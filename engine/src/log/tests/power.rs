//! Power cuts at every operation of a log's driver, from a seed: nothing promised is lost, nothing
//! is invented, order is kept.
//!
//! `RINGSCRAPE_POWER_CASES` says how many cases to run (each is cut at all of its operations),
//! `RINGSCRAPE_POWER_CASE=CASE:CUT` runs one that failed, as its message says.

use super::disk::TestDisk;
use super::image::{Faults, Random};
use super::run::{Life, Model, drain, live};
use crate::log::SyncPolicy;
use ringscrape_wal::log::LogOptions;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Cases that are run unless told otherwise; about a hundred power cuts each.
const CASES: u64 = 60;

/// What one case came to.
struct Outcome {
    /// Operations of its first life.
    operations: u64,
    cuts: u64,
    appended: u32,
    again: u32,
    thinned: u64,
}

/// Two lives that may lose power, and one that reads what is left.
fn case(seed: u64, cut_at: Option<u64>) -> Outcome {
    let random = &mut Random::new(seed);
    let sync = match random.below(3) {
        0 => SyncPolicy::Always,
        1 => SyncPolicy::Every(Duration::from_millis(100)),
        _ => SyncPolicy::default(),
    };
    let options = LogOptions {
        segment_bytes_max: [2_000, 9_000, 60_000][random.below(3) as usize],
        keyframe_every: 3,
        thin_bytes_min: 1,
        tail_bytes_max: [3_000, 1 << 20][random.below(2) as usize],
        salt: seed,
        ..LogOptions::default()
    };
    let faults = match random.below(8) {
        0 => Some(Faults {
            write_fails_in: 4,
            ..Faults::default()
        }),
        1 | 2 => Some(Faults {
            sync_fails_in: 3,
            ..Faults::default()
        }),
        3 => Some(Faults {
            space_bytes: Some(random.below(4_000)),
            ..Faults::default()
        }),
        4 => Some(Faults {
            read_only: true,
            ..Faults::default()
        }),
        _ => None,
    };
    // Without memory for what cannot be written, some is lost, as is said and counted.
    let options = match faults {
        Some(_) => LogOptions {
            tail_bytes_max: 1 << 20,
            ..options
        },
        None => options,
    };
    let mut model = Model::new();
    // In half of the cases the log is another endpoint's for the most part.
    model.others_share = [0, 0, 6, 7][random.below(4) as usize];
    let mut disk = TestDisk::new(seed);
    let mut cuts = 0;
    let mut thinned = 0;
    let mut operations = 0;
    for number in 0..2 {
        match number {
            0 => cut_at.into_iter().for_each(|at| disk.cut_at(at)),
            _ => disk.cut_at(1 + random.below(80)),
        }
        if let Some(mut life) = Life::start(&disk, sync, options.clone()) {
            live(&mut life, &mut model, random, 40, faults);
            thinned += life.stats().segments_thinned;
            if !disk.is_cut() {
                life.stop(&mut model);
            } else {
                life.drop_dead(&mut model);
            }
        }
        if number == 0 {
            operations = disk.operations();
        }
        if disk.is_cut() {
            cuts += 1;
            disk = disk.after_power_cut();
        } else {
            disk = disk.after_kill();
        }
    }
    drain(&disk, &mut model, sync);
    assert_eq!(model.lost(), [0; 0], "promised, and lost");
    Outcome {
        operations,
        cuts,
        appended: model.appended,
        again: model.again,
        thinned,
    }
}

fn checked(seed: u64, cut_at: Option<u64>) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| case(seed, cut_at))).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map_or("see above", |text| text.as_str());
        let cut = cut_at.unwrap_or(0);
        panic!("to repeat it: RINGSCRAPE_POWER_CASE={seed}:{cut}: {message}")
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_power_cut_loses_invents_or_reorders_anything() {
    if let Ok(one) = std::env::var("RINGSCRAPE_POWER_CASE") {
        let (seed, cut) = one.split_once(':').expect("CASE:CUT");
        let cut = cut.parse::<u64>().unwrap();
        checked(seed.parse().unwrap(), Some(cut).filter(|cut| *cut > 0));
        return;
    }
    let cases = number("RINGSCRAPE_POWER_CASES").unwrap_or(CASES);
    let first = number("RINGSCRAPE_POWER_FIRST").unwrap_or(1);
    let next = AtomicU64::new(first);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let (mut cuts, mut appended, mut again, mut thinned) = (0, 0, 0, 0);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + cases {
                return (cuts, appended, again, thinned);
            }
            let mut add = |outcome: &Outcome| {
                cuts += outcome.cuts;
                appended += u64::from(outcome.appended);
                again += u64::from(outcome.again);
                thinned += outcome.thinned;
            };
            let whole = checked(seed, None);
            add(&whole);
            for cut in 1..=whole.operations {
                add(&checked(seed, Some(cut)));
            }
        }
    };
    let (mut cuts, mut appended, mut again, mut thinned) = (0, 0, 0, 0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let done = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            cuts += done.0;
            appended += done.1;
            again += done.2;
            thinned += done.3;
        }
    });
    println!(
        "{cases} cases, {cuts} power cuts, {appended} records, {again} received again, {thinned} \
         segments made smaller"
    );
    assert!(cuts > 20 * cases, "{cuts} power cuts only");
    assert!(thinned > cases, "{thinned} segments made smaller only");
}
