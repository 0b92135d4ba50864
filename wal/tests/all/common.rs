//! Random scrapes, and a disk for a log to write to.

use proptest::prelude::*;
use ringscrape_wal::definition::{
    Block, BlockEntry, Family, FamilyKind, Hole, Layout, Route, Run, Target, next_id,
};
use ringscrape_wal::log::{LogOptions, ShardLog, Write};
use ringscrape_wal::reader::LogReader;
use ringscrape_wal::scrape::{Exemplar, Position, Scrape, SideBytes, SideTimestamp, Sides};
use ringscrape_wal::segments::DiskRead;
use ringscrape_wal::storage::{MemoryStorage, Storage};
use ringscrape_wal::tail::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn dir() -> &'static Path {
    Path::new("/wal/shard-000")
}

pub fn segment_path(segment: u64) -> PathBuf {
    dir().join(format!("{segment:020}.wal"))
}

pub fn block(entries: u32, tag: u32) -> Arc<Block> {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    let mut holes = Vec::new();
    for entry in 0..entries {
        bytes.extend_from_slice(format!("\n\x10m_{tag}_{entry}").as_bytes());
        holes.push(Hole {
            offset: bytes.len() as u32,
            target_label: (entry % 2) as u16,
        });
        ends.push(BlockEntry {
            bytes_end: bytes.len() as u32,
            holes_end: holes.len() as u32,
        });
    }
    Arc::new(Block {
        id: next_id(),
        bytes: bytes.into(),
        entries: ends.into(),
        holes: holes.into(),
        families: [Family {
            name: format!("m_{tag}").into(),
            help: "some help text".into(),
            unit: "".into(),
            kind: FamilyKind::Counter,
        }]
        .into(),
    })
}

pub fn layout(runs: &[(Arc<Block>, u32, u32)]) -> Arc<Layout> {
    Arc::new(Layout {
        id: next_id(),
        len: runs.iter().map(|(_, from, to)| to - from).sum(),
        runs: runs
            .iter()
            .map(|(block, from, to)| Run {
                block: block.clone(),
                from: *from,
                to: *to,
            })
            .collect(),
    })
}

pub fn target(key: u64) -> Arc<Target> {
    Arc::new(Target {
        id: next_id(),
        key,
        labels: [
            ("instance".into(), format!("host-{key}:9100").into()),
            ("job".into(), "node".into()),
        ]
        .into(),
    })
}

pub fn route(endpoints: &[&str]) -> Arc<Route> {
    Arc::new(Route {
        id: next_id(),
        endpoints: endpoints.iter().map(|e| (*e).into()).collect(),
    })
}

/// What stays the same while scrapes come and go.
#[derive(Debug, Clone)]
pub struct World {
    pub blocks: Vec<Arc<Block>>,
    pub layouts: Vec<Arc<Layout>>,
    pub targets: Vec<Arc<Target>>,
    pub routes: Vec<Arc<Route>>,
}

impl World {
    pub fn new() -> Self {
        let blocks: Vec<_> = (0..4).map(|tag| block(8, tag)).collect();
        let b = |i: usize, from, to| (blocks[i].clone(), from, to);
        let layouts = vec![
            layout(&[]),
            layout(&[b(0, 0, 8)]),
            layout(&[b(0, 0, 8), b(1, 0, 8), b(2, 0, 3)]),
            layout(&[b(0, 0, 3), b(3, 2, 4), b(0, 4, 8), b(1, 0, 8)]),
            layout(&[b(1, 0, 8), b(0, 0, 8)]),
            layout(&[b(2, 7, 8), b(3, 0, 8), b(2, 0, 1)]),
        ];
        Self {
            blocks,
            layouts,
            targets: (1..4).map(target).collect(),
            routes: vec![route(&["a"]), route(&["a", "b"])],
        }
    }

    pub fn scrape(&self, step: &Step) -> Arc<Scrape> {
        let layout = self.layouts[step.layout % self.layouts.len()].clone();
        let len = layout.len as usize;
        let values = (0..len)
            .map(|i| step.values[i % step.values.len()])
            .collect();
        let stale = step
            .stale
            .iter()
            .map(|(block, from, len)| Run {
                block: self.blocks[block % self.blocks.len()].clone(),
                from: *from,
                to: from + len,
            })
            .collect();
        Arc::new(Scrape {
            target: self.targets[step.target % self.targets.len()].clone(),
            route: self.routes[step.route % self.routes.len()].clone(),
            timestamp_ms: step.timestamp_ms,
            values,
            stale,
            sides: (step.sides && len > 2).then(|| Box::new(sides(len as u32, step.timestamp_ms))),
            layout,
        })
    }
}

fn sides(len: u32, timestamp_ms: i64) -> Sides {
    let at = |index, timestamp_ms| SideTimestamp {
        index,
        timestamp_ms,
    };
    Sides {
        timestamps: vec![at(0, timestamp_ms - 7), at(len - 1, i64::MIN)],
        start_timestamps: vec![at(1, i64::MAX)],
        exemplars: [0, 0, 2]
            .map(|index| Exemplar {
                index,
                timestamp_ms,
                value: f64::NAN,
                labels: [("trace_id".into(), "äöü".into())].into(),
            })
            .into(),
        histograms: vec![SideBytes {
            index: 1,
            bytes: [0, 255, 3].into(),
        }],
        skipped: vec![0, len - 1],
    }
}

/// One append, drawn at random.
#[derive(Debug, Clone)]
pub struct Step {
    pub target: usize,
    pub layout: usize,
    pub route: usize,
    pub timestamp_ms: i64,
    pub values: Vec<f64>,
    pub stale: Vec<(usize, u32, u32)>,
    pub sides: bool,
    /// Write what is pending after this one.
    pub flush: bool,
}

pub fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-40000i64..40000).prop_map(|v| v as f64),
        1 => (-(1i64 << 33)..(1i64 << 33)).prop_map(|v| v as f64),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => prop_oneof![
            Just(0.0), Just(-0.0), Just(f64::NAN), Just(9007199254740992.0),
            Just(f64::from_bits(0x7ff0_0000_0000_0002)), Just(5e-324),
        ],
    ]
}

pub fn any_step() -> impl Strategy<Value = Step> {
    (
        (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        0usize..2,
        any::<i64>(),
        prop::collection::vec(any_value(), 1..20),
        prop::collection::vec((0usize..4, 0u32..4, 1u32..4), 0..3),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.3),
    )
        .prop_map(
            |((target, layout), route, time, values, stale, sides, flush)| Step {
                target: target.index(3),
                layout: layout.index(6),
                route,
                timestamp_ms: time >> 8,
                values,
                stale,
                sides,
                flush,
            },
        )
}

/// A log, the disk it writes to, and all that was appended.
pub struct Bench {
    pub log: ShardLog,
    pub storage: MemoryStorage,
    pub appended: Vec<(Position, Arc<Scrape>)>,
}

impl Bench {
    pub fn new(options: LogOptions) -> Self {
        let mut log = ShardLog::new(options, 1);
        log.adopt(Default::default());
        Self {
            log,
            storage: MemoryStorage::new(),
            appended: Vec::new(),
        }
    }

    pub fn append(&mut self, scrape: Arc<Scrape>) -> Position {
        let position = self.log.append(scrape.clone(), 0);
        self.appended.push((position, scrape));
        position
    }

    /// Does what the driver does.
    pub fn flush(&mut self) {
        for write in self.log.take_writes(0) {
            if let Write::Bytes {
                segment,
                offset,
                bytes,
            } = write
            {
                let path = segment_path(segment);
                self.storage
                    .write_at(&path, u64::from(offset), &bytes)
                    .unwrap();
                let end = Position {
                    segment,
                    offset: offset + bytes.len() as u32,
                };
                self.log.written(end);
                self.log.synced(end);
            }
        }
    }

    pub fn shared(&self) -> Arc<dyn Storage> {
        Arc::new(self.storage.clone())
    }

    /// All records from `from` on, from the disk.
    pub fn read_from(&self, reader: &mut LogReader, from: Position) -> Vec<Entry> {
        read_from(reader, self.log.segments(), from)
    }
}

pub fn read_from(
    reader: &mut LogReader,
    segments: &ringscrape_wal::segments::Segments,
    mut from: Position,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let DiskRead::Segment(readable) = segments.readable_from(from) {
        match reader.next(&readable, from, &mut |_| true).unwrap() {
            Some(entry) => {
                assert!(entry.position >= from && entry.end > entry.position);
                from = entry.end;
                entries.push(entry);
            }
            None => {
                if readable.next <= from {
                    break;
                }
                from = readable.next;
            }
        }
    }
    entries
}

fn same_runs(a: &[Run], b: &[Run]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.from == b.from && a.to == b.to && same_block(&a.block, &b.block))
}

fn same_block(a: &Block, b: &Block) -> bool {
    a.bytes == b.bytes && a.entries == b.entries && a.holes == b.holes && a.families == b.families
}

/// Equal bit for bit, but for the ids.
#[track_caller]
pub fn assert_same(read: &Scrape, written: &Scrape) {
    let bits = |s: &Scrape| s.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(read.timestamp_ms, written.timestamp_ms);
    assert_eq!(bits(read), bits(written));
    assert_eq!(read.target.key, written.target.key);
    assert_eq!(read.target.labels, written.target.labels);
    assert_eq!(read.route.endpoints, written.route.endpoints);
    assert_eq!(read.layout.len, written.layout.len);
    assert!(same_runs(&read.layout.runs, &written.layout.runs));
    assert!(same_runs(&read.stale, &written.stale));
    // NaN in exemplars: compare their text.
    assert_eq!(format!("{:?}", read.sides), format!("{:?}", written.sides));
}

#[track_caller]
pub fn assert_read(entries: &[Entry], appended: &[(Position, Arc<Scrape>)]) {
    assert_eq!(
        entries.iter().map(|e| e.position).collect::<Vec<_>>(),
        appended.iter().map(|(p, _)| *p).collect::<Vec<_>>()
    );
    for (entry, (_, scrape)) in entries.iter().zip(appended) {
        assert_same(&entry.scrape, scrape);
    }
}
