//! A disk that fails, fills up or cannot be written: what is said, and what is kept once it works.

use super::disk::TestDisk;
use super::image::Faults;
use super::run::{Life, Model, drain, segments};
use crate::log::SyncPolicy;
use ringscrape_wal::log::LogOptions;
use std::time::Duration;

const EVERY: SyncPolicy = SyncPolicy::Every(Duration::from_millis(100));

fn start(disk: &TestDisk, sync: SyncPolicy) -> Life {
    let mut life = Life::start(disk, sync, LogOptions::default()).expect("power stays");
    life.until("recovered", |life| life.log.borrow().adopted());
    life
}

fn append(life: &mut Life, model: &mut Model, count: u32) {
    for _ in 0..count {
        life.append(model);
    }
}

fn all_synced(life: &Life) -> bool {
    let log = life.log.borrow();
    !log.suspended() && log.synced_end() >= log.end()
}

/// Everything that was appended comes out of what is on disk, once and in order.
fn assert_whole(disk: &TestDisk, model: &mut Model) {
    model.received.clear();
    model.again = 0;
    drain(disk, model, EVERY);
    assert_eq!(model.received.len(), model.appended as usize);
    assert_eq!(model.again, 0);
}

#[test]
fn after_a_failed_sync_records_are_written_again_and_none_is_synced_twice() {
    for sync in [EVERY, SyncPolicy::Always] {
        let (disk, mut model) = (TestDisk::new(1), Model::new());
        let mut life = start(&disk, sync);
        append(&mut life, &mut model, 10);
        life.until("synced", all_synced);
        disk.set_faults(Faults {
            sync_fails_in: 1,
            ..Faults::default()
        });
        append(&mut life, &mut model, 10);
        life.until("failed", |life| life.stats().failures_sync > 0);
        append(&mut life, &mut model, 5);
        disk.set_faults(Faults::default());
        life.until("synced again", all_synced);
        let stats = life.stats();
        assert_eq!(stats.failures_sync, 1);
        assert_eq!(
            (stats.records_not_durable, stats.records_rewritten),
            (15, 15)
        );
        life.drop_dead(&mut model);
        // The pages that the failed sync dropped are not on disk; what was written again is.
        assert_whole(&disk.after_power_cut(), &mut model);
    }
}

#[test]
fn a_full_disk_costs_nothing_once_space_returns() {
    for at_stop in [false, true] {
        let (disk, mut model) = (TestDisk::new(2), Model::new());
        let mut life = start(&disk, EVERY);
        append(&mut life, &mut model, 10);
        life.until("synced", all_synced);
        disk.set_faults(Faults {
            space_bytes: Some(disk.used_bytes() + 100),
            ..Faults::default()
        });
        append(&mut life, &mut model, 10);
        life.until("full", |life| life.stats().failures_no_space > 0);
        append(&mut life, &mut model, 30);
        // It is tried now and then, and its segments do not multiply.
        for _ in 0..100 {
            life.turn(Duration::from_secs(1), 20);
        }
        assert!(life.log.borrow().suspended());
        assert!(life.stats().failures_no_space > 3);
        assert!(segments(&disk) <= 2, "{}", segments(&disk));
        disk.set_faults(Faults::default());
        if !at_stop {
            life.until("synced again", all_synced);
            assert_eq!(life.stats().records_rewritten, 40);
        }
        life.stop(&mut model);
        assert_whole(&disk.after_power_cut(), &mut model);
    }
}

#[test]
fn a_disk_that_stays_full_keeps_what_it_took() {
    let (disk, mut model) = (TestDisk::new(3), Model::new());
    let mut life = start(&disk, EVERY);
    append(&mut life, &mut model, 10);
    life.until("synced", all_synced);
    disk.set_faults(Faults {
        space_bytes: Some(disk.used_bytes()),
        ..Faults::default()
    });
    append(&mut life, &mut model, 10);
    life.until("full", |life| life.stats().failures_no_space > 0);
    life.stop(&mut model);
    drain(&disk.after_power_cut(), &mut model, EVERY);
    assert_eq!(model.received, (0..10).collect());
}

#[test]
fn a_directory_that_cannot_be_written_is_read_and_heals() {
    let (disk, mut model) = (TestDisk::new(4), Model::new());
    let mut life = start(&disk, EVERY);
    append(&mut life, &mut model, 10);
    life.until("synced", all_synced);
    life.drop_dead(&mut model);
    // The end is torn, and cannot be cut.
    let torn = super::run::dir().join(format!("{:020}.wal", 1));
    let mut bytes = disk.get(&torn).unwrap();
    bytes.truncate(bytes.len() - 5);
    disk.set(&torn, bytes.clone());
    disk.set_faults(Faults {
        read_only: true,
        ..Faults::default()
    });
    let mut life = start(&disk, EVERY);
    append(&mut life, &mut model, 10);
    life.receive(&mut model, 100, false);
    let received: Vec<u32> = model.received.iter().copied().collect();
    assert_eq!(received, (0..9).chain(10..20).collect::<Vec<_>>());
    assert_eq!(disk.get(&torn), Some(bytes));
    life.until("refused", |life| life.stats().failures_io > 0);
    disk.set_faults(Faults::default());
    life.until("synced again", all_synced);
    life.stop(&mut model);
    model.received.clear();
    drain(&disk.after_power_cut(), &mut model, EVERY);
    let received: Vec<u32> = model.received.iter().copied().collect();
    assert_eq!(received, (0..9).chain(10..20).collect::<Vec<_>>());
}
