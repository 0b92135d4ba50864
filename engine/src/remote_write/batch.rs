//! Encoded samples -> compressed requests that can be cut in parts without the log.
//!
//! A batch keeps only its compressed requests: to halve one it is uncompressed and walked, so what
//! waits for a receiver costs about a tenth of its encoded size.

use super::wire::SeriesWalk;
use ahash::AHashMap;
use bytes::Bytes;
use ringscrape_wal::scrape::Position;

/// A slice of one record inside a request: what either arrived as a whole or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    /// The record.
    pub(super) position: Position,
    /// `timeseries` fields of the unit that are in this request.
    pub(super) series: u32,
}

/// Which records of one target a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Position,
    pub(super) last: Position,
}

impl Span {
    /// Whether requests with these two may be on their way together: slices of one record may,
    /// because no series is in two of them.
    pub(super) fn may_overlap(self, other: Self) -> bool {
        self.first == self.last && self == other
    }
}

/// Snappy in block format with reused memory.
#[derive(Debug)]
pub(super) struct Compressor {
    encoder: snap::raw::Encoder,
    scratch: Vec<u8>,
}

impl Compressor {
    pub(super) fn new() -> Self {
        Self {
            encoder: snap::raw::Encoder::new(),
            scratch: Vec::new(),
        }
    }

    /// Compresses `raw`, which is far below the 4 GiB that the format allows.
    pub(super) fn compress(&mut self, raw: &[u8]) -> Bytes {
        let len_max = snap::raw::max_compress_len(raw.len());
        if self.scratch.len() < len_max {
            self.scratch.resize(len_max, 0);
        }
        let len = self
            .encoder
            .compress(raw, &mut self.scratch)
            .expect("BUG: a request is larger than snappy allows");
        Bytes::copy_from_slice(&self.scratch[..len])
    }
}

/// One request's content: `series` samples, compressed.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) body: Bytes,
    pub(super) series: u32,
    /// In log order; the sum of their series is `series`.
    pub(super) units: Vec<Unit>,
    /// An attempt ended without a clear answer: the receiver may have it.
    pub(super) may_have_arrived: bool,
}

impl Piece {
    pub(super) fn new(raw: &[u8], units: Vec<Unit>, compressor: &mut Compressor) -> Self {
        Self {
            body: compressor.compress(raw),
            series: units.iter().map(|unit| unit.series).sum(),
            units,
            may_have_arrived: false,
        }
    }

    /// The uncompressed request.
    pub(super) fn raw(&self) -> Vec<u8> {
        snap::raw::Decoder::new()
            .decompress_vec(&self.body)
            .expect("BUG: own snappy output does not uncompress")
    }

    /// Label fields of the first series.
    pub(super) fn first_labels(&self) -> Vec<u8> {
        let raw = self.raw();
        let first = SeriesWalk::new(&raw).next();
        first.map_or_else(Vec::new, |(_, labels)| raw[labels].to_vec())
    }

    /// Cuts it in two, order kept in both: the series for which `in_first` holds (given their
    /// index and label fields), and the others. An empty part is `None`.
    pub(super) fn split(
        &self,
        compressor: &mut Compressor,
        mut in_first: impl FnMut(u32, &[u8]) -> bool,
    ) -> [Option<Self>; 2] {
        let raw = self.raw();
        let mut parts = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
        let mut units = self.units.iter();
        let (mut position, mut left) = (Position::default(), 0);
        for (index, (field, labels)) in SeriesWalk::new(&raw).enumerate() {
            while left == 0
                && let Some(unit) = units.next()
            {
                (position, left) = (unit.position, unit.series);
            }
            left = left.saturating_sub(1);
            let first = in_first(index as u32, &raw[labels]);
            let (bytes, units) = &mut parts[usize::from(!first)];
            bytes.extend_from_slice(&raw[field]);
            match units.last_mut() {
                Some(Unit {
                    position: last,
                    series,
                }) if *last == position => *series += 1,
                _ => units.push(Unit {
                    position,
                    series: 1,
                }),
            }
        }
        parts.map(|(bytes, units)| {
            (!units.is_empty()).then(|| Self {
                may_have_arrived: self.may_have_arrived,
                ..Self::new(&bytes, units, compressor)
            })
        })
    }

    /// Cuts it in the middle; the second is `None` if there is one series only.
    pub(super) fn halve(&self, compressor: &mut Compressor) -> [Option<Self>; 2] {
        let middle = self.series.div_ceil(2);
        self.split(compressor, |index, _| index < middle)
    }

    /// Cuts it between units, near the middle; the second is `None` if there is one unit only.
    pub(super) fn halve_between_units(&self, compressor: &mut Compressor) -> [Option<Self>; 2] {
        let first = &self.units[..self.units.len().div_ceil(2)];
        let middle: u32 = first.iter().map(|unit| unit.series).sum();
        self.split(compressor, |index, _| index < middle)
    }
}

/// Samples that are gathered for the next batch.
#[derive(Debug, Default)]
pub(super) struct OpenBatch {
    /// `timeseries` fields.
    pub(super) raw: Vec<u8>,
    pub(super) units: Vec<Unit>,
    pub(super) samples: u32,
    /// By target key.
    pub(super) targets: AHashMap<u64, Span>,
    /// Nothing more may be added.
    pub(super) full: bool,
    /// Monotonic time of the first sample.
    pub(super) opened_ms: u64,
    /// First record.
    pub(super) first: Position,
    /// End of the last record.
    pub(super) end: Position,
    /// Scrape time of the first record, Unix ms.
    pub(super) timestamp_ms_oldest: i64,
    /// Newest sample, Unix ms.
    pub(super) timestamp_ms_newest: i64,
}

/// What `OpenBatch::add` is told about a unit whose bytes are in `raw` already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added {
    pub(super) target_key: u64,
    pub(super) position: Position,
    pub(super) end: Position,
    pub(super) samples: u32,
    pub(super) timestamp_ms: i64,
    pub(super) timestamp_ms_newest: i64,
    pub(super) now_ms: u64,
}

impl OpenBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Takes note of a unit of at least one sample.
    pub(super) fn add(&mut self, added: Added) {
        if self.is_empty() {
            self.opened_ms = added.now_ms;
            self.first = added.position;
            self.timestamp_ms_oldest = added.timestamp_ms;
            self.timestamp_ms_newest = added.timestamp_ms_newest;
        }
        self.end = added.end;
        self.samples += added.samples;
        self.timestamp_ms_oldest = self.timestamp_ms_oldest.min(added.timestamp_ms);
        self.timestamp_ms_newest = self.timestamp_ms_newest.max(added.timestamp_ms_newest);
        self.units.push(Unit {
            position: added.position,
            series: added.samples,
        });
        let span = Span {
            first: added.position,
            last: added.position,
        };
        self.targets
            .entry(added.target_key)
            .and_modify(|span| span.last = added.position)
            .or_insert(span);
    }

    /// Compresses what was gathered into requests of at most `series_max` and starts anew.
    pub(super) fn take_pieces(
        &mut self,
        series_max: u32,
        compressor: &mut Compressor,
    ) -> std::collections::VecDeque<Piece> {
        let units = std::mem::take(&mut self.units);
        let mut piece = Some(Piece::new(&self.raw, units, compressor));
        let mut pieces = std::collections::VecDeque::new();
        while let Some(whole) = piece.take() {
            if whole.series <= series_max {
                pieces.push_back(whole);
                break;
            }
            let [first, rest] = whole.split(compressor, |index, _| index < series_max);
            pieces.extend(first);
            piece = rest;
        }
        self.raw.clear();
        self.samples = 0;
        self.full = false;
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{put_bytes, put_label};
    use super::*;

    fn series(name: &str) -> Vec<u8> {
        let mut labels = Vec::new();
        put_label(&mut labels, "__name__", name);
        labels.extend_from_slice(&[0x12, 2, 0x10, 1]);
        let mut field = Vec::new();
        put_bytes(&mut field, 0x0a, &labels);
        field
    }

    fn position(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    #[test]
    fn parts_are_the_whole_with_units_kept() {
        let raw: Vec<u8> = (0..9).flat_map(|n| series(&format!("s{n}"))).collect();
        let unit = |offset, series| Unit {
            position: position(offset),
            series,
        };
        let mut compressor = Compressor::new();
        let whole = Piece::new(
            &raw,
            vec![unit(0, 2), unit(5, 3), unit(9, 4)],
            &mut compressor,
        );
        assert_eq!(whole.series, 9);

        let [Some(a), Some(b)] = whole.halve(&mut compressor) else {
            panic!("two halves")
        };
        assert_eq!([a.raw(), b.raw()].concat(), raw);
        assert_eq!(a.units, [unit(0, 2), unit(5, 3)]);
        assert_eq!(b.units, [unit(9, 4)]);

        let [Some(a), Some(b)] = whole.halve_between_units(&mut compressor) else {
            panic!("two halves")
        };
        assert_eq!((a.units.len(), b.units.len()), (2, 1));
        let [Some(same), None] = b.halve_between_units(&mut compressor) else {
            panic!("one unit cannot be cut between units")
        };
        assert_eq!(same.raw(), b.raw());

        let [Some(even), Some(odd)] = whole.split(&mut compressor, |index, _| index % 2 == 0)
        else {
            panic!("two parts")
        };
        assert_eq!(even.units, [unit(0, 1), unit(5, 2), unit(9, 2)]);
        assert_eq!(odd.units, [unit(0, 1), unit(5, 1), unit(9, 2)]);
        assert_eq!(
            odd.first_labels()[6..],
            *b"__name__\x12\x02s1".as_slice().split_at(2).1
        );
    }

    #[test]
    fn a_batch_is_cut_to_the_size_allowed() {
        let mut open = OpenBatch {
            raw: (0..7).flat_map(|n| series(&format!("s{n}"))).collect(),
            ..OpenBatch::default()
        };
        let raw = open.raw.clone();
        open.add(Added {
            target_key: 1,
            position: position(0),
            end: position(9),
            samples: 7,
            timestamp_ms: 1,
            timestamp_ms_newest: 2,
            now_ms: 3,
        });
        let pieces = open.take_pieces(3, &mut Compressor::new());
        let sizes: Vec<u32> = pieces.iter().map(|piece| piece.series).collect();
        assert_eq!(sizes, [3, 3, 1]);
        let together: Vec<u8> = pieces.iter().flat_map(Piece::raw).collect();
        assert_eq!(together, raw);
        assert!(open.is_empty());
    }
}
