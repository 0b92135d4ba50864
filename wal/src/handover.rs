//! What a node knows of targets' series -> bytes for the node that scrapes them next -> the same.
//!
//! The bytes are a closed segment in memory: definitions once, one record a target, checksums, an
//! index that shows that nothing was cut off. Values are left out: the next owner has to know which
//! series there are, and when they were scraped.

use crate::codec::record::access_record;
use crate::error::DamageKind;
use crate::format::{FRAMES_START, Kind};
use crate::scrape::Scrape;
use crate::segment::file::{Fault, SegmentFile, Window};
use crate::segment::header::{SegmentHeader, file_name};
use crate::segment::load::Loader;
use crate::segment::writer::{Encoder, SegmentWriter};
use crate::storage::MemoryStorage;
use std::path::Path;
use std::sync::Arc;

/// The segment's number; nobody else sees it.
const SEGMENT: u64 = 1;
/// How much is looked at at once (bytes).
const AHEAD_BYTES: usize = 64 << 10;
/// What is kept of definitions while decoding (bytes).
const CACHE_BYTES: usize = 64 << 20;

/// Bytes that are no handover, or not a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sound handover ({0:?})")]
pub struct HandoverError(pub DamageKind);

/// Bytes that `decode` reads. Of each scrape all is kept but its values, which may be left out
/// (empty). A scrape that is larger than the format allows is left out.
pub fn encode(scrapes: &[Arc<Scrape>]) -> Vec<u8> {
    let header = SegmentHeader {
        segment: SEGMENT,
        salt: 0,
        created_ms: 0,
        replaces: None,
        map_bytes: 0,
    };
    let mut encoder = Encoder::new();
    let mut writer = SegmentWriter::new(header, Vec::new(), scrapes.len() as u64);
    for scrape in scrapes {
        let plain = Arc::new(Scrape {
            values: vec![0.0; scrape.layout.len as usize],
            ..Scrape::clone(scrape)
        });
        let _ = writer.append(&mut encoder, &plain, 1);
    }
    let _ = writer.finish(&mut encoder);
    writer.take(Vec::new()).1
}

/// What `encode` was given, without values. Definitions have ids of this process.
///
/// # Errors
/// These are not all bytes of one call of `encode`.
pub fn decode(bytes: &[u8]) -> Result<Vec<Scrape>, HandoverError> {
    read(bytes).map_err(|fault| match fault {
        Fault::Damage(kind) => HandoverError(kind),
        // Memory can be read: a place that cannot be is not there.
        Fault::Io(_) => HandoverError(DamageKind::TornTail),
    })
}

fn read(bytes: &[u8]) -> Result<Vec<Scrape>, Fault> {
    let dir = Path::new("");
    let storage = MemoryStorage::new();
    storage.set(&dir.join(file_name(SEGMENT)), bytes.to_vec());
    let file = SegmentFile::open(&storage, dir, SEGMENT)?;
    let mut window = Window::new(AHEAD_BYTES);
    let index = file.index(&mut window).map_err(Fault::Io)?;
    let Some((_, end)) = index else {
        return Err(DamageKind::TornTail.into());
    };
    let mut loader = Loader::new(CACHE_BYTES);
    let mut scrapes = Vec::new();
    let mut offset = FRAMES_START;
    while offset < end {
        let (header, payload) = file.frame(&mut window, offset, end)?;
        if header.kind == Kind::Record {
            let record = access_record(payload)?;
            let scrape = loader.scrape(&file, offset, end, record)?;
            scrapes.push(Scrape {
                target: scrape.target.clone(),
                route: scrape.route.clone(),
                timestamp_ms: scrape.timestamp_ms,
                layout: scrape.layout.clone(),
                values: Vec::new(),
                stale: scrape.stale.clone(),
                sides: scrape.sides.clone(),
            });
        }
        offset += header.frame_bytes();
    }
    Ok(scrapes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Block, BlockEntry, Family, Hole, Layout, Route, Run, Target, next_id};
    use crate::scrape::Sides;
    use proptest::prelude::*;

    /// A block of `count` entries of three bytes, each with a hole for the target's first label.
    fn block(count: u32) -> Arc<Block> {
        Arc::new(Block {
            id: next_id(),
            bytes: (0..count * 3).map(|n| n as u8).collect(),
            entries: (1..=count)
                .map(|n| BlockEntry {
                    bytes_end: n * 3,
                    holes_end: n,
                })
                .collect(),
            holes: (0..count)
                .map(|n| Hole {
                    offset: n * 3 + 1,
                    target_label: 0,
                })
                .collect(),
            families: [Family {
                name: "f".into(),
                ..Family::default()
            }]
            .into(),
        })
    }

    fn scrape(number: u64, blocks: &[Arc<Block>], cut: u32) -> Arc<Scrape> {
        let runs: Box<[Run]> = blocks
            .iter()
            .map(|block| Run {
                block: block.clone(),
                from: cut.min(block.entries.len() as u32 - 1),
                to: block.entries.len() as u32,
            })
            .collect();
        let len = runs.iter().map(|run| run.to - run.from).sum();
        Arc::new(Scrape {
            target: Arc::new(Target {
                id: next_id(),
                key: number,
                labels: [("instance".into(), number.to_string().into())].into(),
            }),
            route: Arc::new(Route {
                id: next_id(),
                endpoints: Box::default(),
            }),
            timestamp_ms: number as i64 * 1_000,
            stale: runs[..1].into(),
            layout: Arc::new(Layout {
                id: next_id(),
                runs,
                len,
            }),
            values: Vec::new(),
            sides: Some(Box::new(Sides {
                skipped: vec![0, len - 1].into_iter().take(len as usize).collect(),
                ..Sides::default()
            })),
        })
    }

    /// All of a scrape that does not depend on ids.
    fn plain(scrape: &Scrape) -> impl PartialEq + std::fmt::Debug + use<> {
        let run = |run: &Run| {
            let Block {
                bytes,
                entries,
                holes,
                families,
                ..
            } = Block::clone(&run.block);
            (bytes, entries, holes, families, run.from, run.to)
        };
        (
            (scrape.target.key, scrape.target.labels.clone()),
            scrape.route.endpoints.clone(),
            scrape.timestamp_ms,
            scrape.layout.runs.iter().map(run).collect::<Vec<_>>(),
            (scrape.layout.len, scrape.sides.clone()),
            scrape.stale.iter().map(run).collect::<Vec<_>>(),
        )
    }

    fn some(sizes: &[u32], cuts: &[u32]) -> Vec<Arc<Scrape>> {
        let blocks: Vec<_> = sizes.iter().map(|count| block(*count)).collect();
        let numbered = cuts.iter().enumerate();
        numbered
            .map(|(n, cut)| scrape(n as u64 + 1, &blocks, *cut))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_handed_over_comes_back(
            sizes in prop::collection::vec(2u32..50, 1..4),
            cuts in prop::collection::vec(0u32..60, 0..8),
        ) {
            let scrapes = some(&sizes, &cuts);
            let read = decode(&encode(&scrapes)).unwrap();
            let expected: Vec<_> = scrapes.iter().map(|scrape| plain(scrape)).collect();
            prop_assert_eq!(read.iter().map(plain).collect::<Vec<_>>(), expected);
            prop_assert!(read.iter().all(|scrape| scrape.values.is_empty()));
            let known = |id| scrapes.iter().any(|scrape| scrape.layout.id == id);
            prop_assert!(read.iter().all(|scrape| !known(scrape.layout.id)));
            // What targets share is shared again.
            let first = read.first().map(|scrape| scrape.layout.runs[0].block.id);
            prop_assert!(read.iter().all(|s| Some(s.layout.runs[0].block.id) == first));
        }

        #[test]
        fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn a_damaged_handover_is_refused(
            cuts in prop::collection::vec(0u32..5, 1..4),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let good = encode(&some(&[3, 7], &cuts));
            prop_assert!(decode(&good[..at.index(good.len())]).is_err());
            let mut changed = good.clone();
            let place = at.index(good.len());
            changed[place] ^= 1 << bit;
            // One of the header's two copies may be damaged, and padding says nothing.
            if let Ok(read) = decode(&changed) {
                let expected = decode(&good).unwrap();
                prop_assert_eq!(
                    read.iter().map(plain).collect::<Vec<_>>(),
                    expected.iter().map(plain).collect::<Vec<_>>()
                );
            }
        }
    }
}
