//! Scrapes of known times and values -> a storage path that holds them.

use ringscrape_wal::cursor::CursorSet;
use ringscrape_wal::definition::{Block, BlockEntry, Hole, Layout, Route, Run, Target, next_id};
use ringscrape_wal::format::CURSOR_FILE;
use ringscrape_wal::log::{LogOptions, ShardLog, Write};
use ringscrape_wal::scrape::{Position, Scrape};
use ringscrape_wal::storage::{FsStorage, Storage};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Time of the first scrape, milliseconds since the Unix epoch: 2023-11-14T22:13:20Z.
pub(crate) const BEGIN_MS: i64 = 1_700_000_000_000;

/// A storage path with one shard, in segments of ten scrapes.
pub(crate) struct Made {
    dir: TempDir,
    /// Of each scrape, in order.
    pub(crate) positions: Vec<Position>,
    /// Behind the last one.
    pub(crate) end: Position,
}

impl Made {
    /// `scrapes` scrapes, 10 s apart, in turn of `host-0` and `host-1` of job `node`, each with
    /// the series `up` and `load`; the second one is also for endpoint `second`.
    pub(crate) fn new(scrapes: u32) -> Self {
        let dir = TempDir::new().expect("cannot make a temporary directory");
        let shard = dir.path().join("wal/shard-000");
        std::fs::create_dir_all(&shard).expect("cannot make a directory");
        let mut log = ShardLog::new(
            LogOptions {
                salt: 5,
                ..LogOptions::default()
            },
            1,
        );
        log.adopt(Default::default());
        let targets = [target(0), target(1)];
        let routes = [route(&["first"]), route(&["first", "second"])];
        let layout = layout();
        let mut positions = Vec::new();
        for number in 0..scrapes {
            let at_ms = BEGIN_MS + 10_000 * i64::from(number);
            let which = number as usize % 2;
            positions.push(log.append(
                Arc::new(Scrape {
                    target: targets[which].clone(),
                    route: routes[which].clone(),
                    timestamp_ms: at_ms,
                    layout: layout.clone(),
                    values: vec![1.0, f64::from(number) + 0.5],
                    stale: [].into(),
                    sides: None,
                }),
                at_ms,
            ));
            if number % 10 == 9 {
                log.close();
            }
        }
        let end = log.end();
        log.close();
        for write in log.take_writes(BEGIN_MS) {
            if let Write::Bytes {
                segment,
                offset,
                bytes,
            } = write
            {
                let path = shard.join(format!("{segment:020}.wal"));
                let written = FsStorage.write_at(&path, u64::from(offset), &bytes);
                written.expect("cannot write a segment");
            }
        }
        Self {
            dir,
            positions,
            end,
        }
    }

    /// The storage path.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The file of a segment.
    pub(crate) fn segment(&self, number: u64) -> PathBuf {
        self.path().join(format!("wal/shard-000/{number:020}.wal"))
    }

    /// Saves cursors: endpoint, what it acknowledged, what was sent to it.
    pub(crate) fn save_cursors(&self, cursors: &[(&str, Position, Position)]) {
        let mut set = CursorSet::default();
        for (endpoint, low_water, highest_sent) in cursors {
            set.add(endpoint, *low_water);
            set.advance(endpoint, *low_water, *highest_sent);
        }
        let slot = set.encode().expect("few cursors");
        let path = self.path().join("wal/shard-000").join(CURSOR_FILE);
        let written = FsStorage.write_at(&path, slot.offset, &slot.bytes);
        written.expect("cannot write cursors");
    }

    /// Flips a bit of a file.
    pub(crate) fn damage(&self, segment: u64, offset: u32) {
        let path = self.segment(segment);
        let mut bytes = std::fs::read(&path).expect("a segment");
        bytes[offset as usize] ^= 1;
        std::fs::write(&path, bytes).expect("cannot write a segment");
    }
}

fn target(number: u32) -> Arc<Target> {
    Arc::new(Target {
        id: next_id(),
        key: u64::from(number) + 1,
        labels: [
            ("instance".into(), format!("host-{number}").into()),
            ("job".into(), "node".into()),
        ]
        .into(),
    })
}

fn route(endpoints: &[&str]) -> Arc<Route> {
    Arc::new(Route {
        id: next_id(),
        endpoints: endpoints.iter().map(|name| (*name).into()).collect(),
    })
}

/// `load` and `up`, with both labels of the target.
fn layout() -> Arc<Layout> {
    let mut bytes = Vec::new();
    let mut entries = Vec::new();
    let mut holes = Vec::new();
    for name in ["up", "load"] {
        let mut label = vec![0x0a, 8];
        label.extend_from_slice(b"__name__");
        label.extend_from_slice(&[0x12, name.len() as u8]);
        label.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&[0x0a, label.len() as u8]);
        bytes.extend(label);
        holes.extend([0, 1].map(|target_label| Hole {
            offset: bytes.len() as u32,
            target_label,
        }));
        entries.push(BlockEntry {
            bytes_end: bytes.len() as u32,
            holes_end: holes.len() as u32,
        });
    }
    let block = Arc::new(Block {
        id: next_id(),
        bytes: bytes.into(),
        entries: entries.into(),
        holes: holes.into(),
        families: [].into(),
    });
    Arc::new(Layout {
        id: next_id(),
        runs: [Run {
            block,
            from: 0,
            to: 2,
        }]
        .into(),
        len: 2,
    })
}
