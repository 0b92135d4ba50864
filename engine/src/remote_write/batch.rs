//! Encoded samples -> compressed requests that can be cut in parts without the log.
//!
//! A batch keeps only its compressed requests: to halve one it is uncompressed and walked, so what
//! waits for a receiver costs a tenth or less of its encoded size.

use super::cut::Cut;
use super::request::{Compressor, Form, Message, OpenRequest, uncompress};
use super::v2::rewrite::as_first_version;
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

/// One request's content: `series` samples, compressed.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) body: Bytes,
    pub(super) form: Form,
    pub(super) series: u32,
    /// In log order; the sum of their series is `series`.
    pub(super) units: Vec<Unit>,
    /// An attempt ended without a clear answer: the receiver may have it.
    pub(super) may_have_arrived: bool,
}

impl Piece {
    fn new(body: Bytes, form: Form, units: Vec<Unit>) -> Self {
        Self {
            body,
            form,
            series: units.iter().map(|unit| unit.series).sum(),
            units,
            may_have_arrived: false,
        }
    }

    /// The uncompressed request.
    pub(super) fn raw(&self) -> Vec<u8> {
        uncompress(&self.body, self.form.compression)
    }

    /// Makes it of this form if it is not. A 1.0 message stays one.
    pub(super) fn transform(&mut self, form: Form, compressor: &mut Compressor) {
        if self.form == form || self.form == Form::v1(form.compression) {
            return;
        }
        let mut raw = self.raw();
        let message = self.form.message;
        self.form.compression = form.compression;
        if message != form.message && message == Message::V2 {
            raw = as_first_version(&raw);
            self.form.message = Message::V1;
        }
        self.body = compressor.compress_message(&raw, self.form);
    }

    /// Label fields of the first series, in the form of 1.0.
    pub(super) fn first_labels(&self) -> Vec<u8> {
        let raw = self.raw();
        let mut cut = Cut::new(&raw, self.form.message);
        cut.next().map_or_else(Vec::new, <[u8]>::to_vec)
    }

    /// Cuts it in two, order kept in both: the series for which `in_first` holds (given their
    /// index and label fields as in 1.0), and the others. An empty part is `None`.
    pub(super) fn split(
        &self,
        compressor: &mut Compressor,
        mut in_first: impl FnMut(u32, &[u8]) -> bool,
    ) -> [Option<Self>; 2] {
        let raw = self.raw();
        let mut cut = Cut::new(&raw, self.form.message);
        let mut parts = [Vec::new(), Vec::new()];
        let mut units = self.units.iter();
        let (mut position, mut left) = (Position::default(), 0);
        let mut index = 0;
        while let Some(labels) = cut.next() {
            let part = usize::from(!in_first(index, labels));
            index += 1;
            cut.put(part);
            while left == 0
                && let Some(unit) = units.next()
            {
                (position, left) = (unit.position, unit.series);
            }
            left = left.saturating_sub(1);
            let units: &mut Vec<Unit> = &mut parts[part];
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
        let [first, second] = cut.finish();
        let mut part = |raw: &[u8], units: Vec<Unit>| {
            (!units.is_empty()).then(|| {
                let body = compressor.compress_message(raw, self.form);
                Self {
                    may_have_arrived: self.may_have_arrived,
                    ..Self::new(body, self.form, units)
                }
            })
        };
        let [units_first, units_second] = parts;
        [part(&first, units_first), part(&second, units_second)]
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
    /// What was gathered, compressed.
    pub(super) request: OpenRequest,
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

/// What `OpenBatch::add` is told about a unit whose samples are in `request` already.
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

    /// Makes what was gathered requests of at most `series_max` and starts anew.
    pub(super) fn take_pieces(
        &mut self,
        series_max: u32,
        compressor: &mut Compressor,
    ) -> std::collections::VecDeque<Piece> {
        let units = std::mem::take(&mut self.units);
        let form = self.request.form();
        let body = self.request.finish(compressor);
        let mut piece = Some(Piece::new(body, form, units));
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
        self.samples = 0;
        self.full = false;
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::Compression;
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
        let body = compressor.compress(&raw, Compression::Snappy);
        let units = vec![unit(0, 2), unit(5, 3), unit(9, 4)];
        let mut whole = Piece::new(body, Form::v1(Compression::Snappy), units);
        assert_eq!(whole.series, 9);
        whole.transform(Form::v1(Compression::Zstd), &mut compressor);

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
        let mut open = OpenBatch::default();
        let raw: Vec<u8> = (0..7).flat_map(|n| series(&format!("s{n}"))).collect();
        open.request.write_raw(&raw);
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
