//! Each kind of damage -> what tools, a start, and the sender's reader say of it, what each keeps,
//! and that a log goes on behind it.

use super::disk::TestDisk;
use super::run::{Life, Model, dir, drain};
use crate::log::SyncPolicy;
use ringscrape_wal::error::DamageKind;
use ringscrape_wal::format::{CURSOR_FILE, CURSOR_SLOT_BYTES};
use ringscrape_wal::log::LogOptions;
use ringscrape_wal::tools::{self, IndexState, verify};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

const RECORDS: u32 = 40;

fn path(segment: u64) -> PathBuf {
    dir().join(format!("{segment:020}.wal"))
}

fn change(disk: &TestDisk, segment: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.get(&path(segment)).unwrap();
    change(&mut bytes);
    disk.set(&path(segment), bytes);
}

/// A log of three closed segments, of 15, 15 and 10 records, and the places of all records.
fn log() -> (TestDisk, Model, Vec<(u64, usize)>) {
    let (disk, mut model) = (TestDisk::new(7), Model::new());
    let options = LogOptions {
        segment_bytes_max: 9_000,
        keyframe_every: 3,
        salt: 9,
        ..LogOptions::default()
    };
    let mut life = Life::start(&disk, SyncPolicy::Always, options).unwrap();
    life.until("recovered", |life| life.log.borrow().adopted());
    life.receive(&mut model, 0, true);
    for _ in 0..RECORDS {
        life.append(&mut model);
    }
    let places = life.places();
    life.until("written", |life| life.stats().written_bytes > 20_000);
    life.stop(&mut model);
    assert_eq!(tools::segments(&disk, &dir()).unwrap(), [1, 2, 3]);
    (disk, model, places)
}

/// One kind of damage, and what is to come of it.
struct Row {
    name: &'static str,
    harm: fn(&TestDisk, &[(u64, usize)]),
    /// What a start says: of segments, and cursor slots.
    start: &'static [DamageKind],
    slots: u32,
    missing: &'static [(u64, u64)],
    /// What verifying all segments says, but for lost references.
    tools: &'static [DamageKind],
    /// Places that the sender's reader says it passed over.
    passed_over: usize,
    /// Records that are gone.
    lost: fn(u32) -> bool,
    /// A file that is kept for people.
    kept: Option<&'static str>,
}

const NO_ROW: Row = Row {
    name: "",
    harm: |_, _| {},
    start: &[],
    slots: 0,
    missing: &[],
    tools: &[],
    passed_over: 0,
    lost: |_| false,
    kept: None,
};

const TABLE: &[Row] = &[
    NO_ROW,
    Row {
        name: "a flipped bit in a record of a closed segment",
        // Not a keyframe: the third of its target since one.
        harm: |disk, places| change(disk, 2, |bytes| bytes[places[21].1 + 40] ^= 1),
        tools: &[DamageKind::Frame],
        passed_over: 1,
        lost: |number| number == 21,
        ..NO_ROW
    },
    Row {
        name: "a flipped bit in a keyframe: what is coded against it goes too",
        harm: |disk, places| change(disk, 2, |bytes| bytes[places[15].1 + 40] ^= 1),
        tools: &[DamageKind::Frame],
        passed_over: 3,
        lost: |number| [15, 18, 21].contains(&number),
        ..NO_ROW
    },
    Row {
        name: "a flipped bit in a segment without an index",
        harm: |disk, places| {
            change(disk, 3, |bytes| {
                bytes.truncate(places[39].1);
                bytes[places[36].1 + 40] ^= 1;
            });
        },
        start: &[DamageKind::Frame],
        tools: &[DamageKind::Frame],
        passed_over: 1,
        lost: |number| number == 36 || number == 39,
        kept: Some("quarantine/"),
        ..NO_ROW
    },
    Row {
        name: "a page of zeros in the middle",
        harm: |disk, places| {
            change(disk, 2, |bytes| {
                bytes[places[20].1..places[24].1].fill(0);
            });
        },
        tools: &[DamageKind::Frame],
        passed_over: 1,
        lost: |number| (20..24).contains(&number),
        ..NO_ROW
    },
    Row {
        name: "a torn end",
        harm: |disk, places| change(disk, 3, |bytes| bytes.truncate(places[38].1 + 50)),
        start: &[DamageKind::TornTail],
        tools: &[DamageKind::TornTail],
        lost: |number| number >= 38,
        ..NO_ROW
    },
    Row {
        name: "a torn index: its records are all there",
        harm: |disk, _| {
            change(disk, 3, |bytes| {
                let len = bytes.len();
                bytes.truncate(len - 3);
            });
        },
        tools: &[DamageKind::TornTail],
        ..NO_ROW
    },
    Row {
        name: "an empty file",
        harm: |disk, _| change(disk, 3, Vec::clear),
        start: &[DamageKind::TornTail],
        tools: &[DamageKind::SegmentHeader],
        lost: |number| number >= 30,
        ..NO_ROW
    },
    Row {
        name: "both headers gone",
        harm: |disk, _| change(disk, 2, |bytes| bytes[..128].fill(0xff)),
        start: &[DamageKind::SegmentHeader],
        tools: &[DamageKind::SegmentHeader],
        lost: |number| (15..30).contains(&number),
        kept: Some("quarantine/00000000000000000002.wal"),
        ..NO_ROW
    },
    Row {
        name: "a segment under another one's name",
        harm: |disk, _| {
            let other = disk.get(&path(1)).unwrap();
            disk.set(&path(2), other);
        },
        start: &[DamageKind::SegmentHeader],
        tools: &[DamageKind::SegmentHeader],
        lost: |number| (15..30).contains(&number),
        kept: Some("quarantine/00000000000000000002.wal"),
        ..NO_ROW
    },
    Row {
        name: "a segment of a newer version: left where it is",
        harm: |disk, _| {
            change(disk, 2, |bytes| {
                bytes[8] = 3;
                let crc = crc32c(&bytes[..60]).to_le_bytes();
                bytes[60..64].copy_from_slice(&crc);
            });
        },
        start: &[DamageKind::Version],
        tools: &[DamageKind::Version],
        lost: |number| (15..30).contains(&number),
        kept: Some("00000000000000000002.wal"),
        ..NO_ROW
    },
    Row {
        name: "a missing segment",
        harm: |disk, _| ringscrape_wal::storage::Storage::remove(disk, &path(2)).unwrap(),
        missing: &[(2, 2)],
        lost: |number| (15..30).contains(&number),
        ..NO_ROW
    },
    Row {
        name: "one cursor slot damaged: the other one holds",
        harm: |disk, _| {
            let file = dir().join(CURSOR_FILE);
            let mut bytes = disk.get(&file).unwrap();
            bytes.resize(2 * CURSOR_SLOT_BYTES, 0);
            bytes[20] ^= 1;
            disk.set(&file, bytes);
        },
        slots: 1,
        ..NO_ROW
    },
    Row {
        name: "the cursor file is garbage: all is sent again",
        harm: |disk, _| disk.set(&dir().join(CURSOR_FILE), vec![0xa5; 1_500_000]),
        slots: 2,
        ..NO_ROW
    },
];

#[test]
fn damage_is_said_and_costs_what_it_hit_and_nothing_else() {
    for row in TABLE {
        let (disk, mut model, places) = log();
        (row.harm)(&disk, &places);
        let name = row.name;

        let mut said = Vec::new();
        for segment in tools::segments(&disk, &dir()).unwrap() {
            let report = verify(Arc::new(disk.clone()), &dir(), segment).unwrap();
            assert!(
                report.index != IndexState::Good || report.samples > 0,
                "{name}: {report:?}"
            );
            said.extend(report.damage.iter().map(|place| place.kind));
        }
        said.retain(|kind| *kind != DamageKind::Reference);
        assert_eq!(said, row.tools, "{name}: tools");

        let found = super::run::recovered(&disk.after_kill());
        let said: Vec<DamageKind> = found.damage.iter().map(|place| place.kind).collect();
        assert_eq!(said, row.start, "{name}: start");
        assert_eq!(found.cursor_slots_damaged, row.slots, "{name}: slots");
        assert_eq!(found.missing, row.missing, "{name}: missing");
        assert!(
            found.unrepaired.is_empty(),
            "{name}: {:?}",
            found.unrepaired
        );

        // The writer starts on it, and goes on; a second start finds it mended.
        let mut life = Life::start(&disk, SyncPolicy::Always, LogOptions::default()).unwrap();
        life.until("recovered", |life| life.log.borrow().adopted());
        assert_eq!(
            life.stats().damaged_places,
            row.start.len() as u64,
            "{name}"
        );
        for kind in DamageKind::ALL {
            let said = row.start.iter().filter(|said| **said == kind).count();
            assert_eq!(
                life.stats().damage[kind as usize],
                said as u64,
                "{name}: {kind:?}"
            );
        }
        assert_eq!(
            life.stats().segments_missing,
            row.missing.len() as u64,
            "{name}"
        );
        for _ in 0..5 {
            life.append(&mut model);
        }
        life.receive(&mut model, 100, false);
        assert_eq!(life.passed_over(), row.passed_over, "{name}: passed over");
        life.stop(&mut model);
        let lost: BTreeSet<u32> = (0..RECORDS).filter(|number| (row.lost)(*number)).collect();
        let all = 0..RECORDS + 5;
        let kept: BTreeSet<u32> = all.filter(|number| !lost.contains(number)).collect();
        assert_eq!(model.received, kept, "{name}");
        model.received.clear();
        drain(&disk, &mut model, SyncPolicy::Always);
        assert_eq!(model.received, kept, "{name}: second start");
        if let Some(kept) = row.kept {
            let kept = dir().join(kept);
            let files = disk.paths();
            assert!(
                files
                    .iter()
                    .any(|file| file.starts_with(&kept) && *file != kept
                        || (*file == kept && disk.get(file).is_some())),
                "{name}: {files:?}"
            );
        }
    }
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
