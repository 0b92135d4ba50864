//! An uncompressed request, 1.0 or 2.0 -> its series one by one, and two requests of them.

use super::request::Message;
use super::v2::rewrite::{Part, Reader};
use super::wire::SeriesWalk;

/// Deals the series of a request out to two others.
pub(super) enum Cut<'a> {
    First {
        raw: &'a [u8],
        walk: SeriesWalk<'a>,
        /// The present series.
        field: &'a [u8],
        parts: [Vec<u8>; 2],
    },
    Second {
        reader: Reader<'a>,
        /// The present series.
        series: &'a [u8],
        /// Its labels in the form of 1.0.
        labels: Vec<u8>,
        parts: Box<[Part; 2]>,
    },
}

impl<'a> Cut<'a> {
    pub(super) fn new(raw: &'a [u8], message: Message) -> Self {
        match message {
            Message::V1 => Self::First {
                raw,
                walk: SeriesWalk::new(raw),
                field: &[],
                parts: Default::default(),
            },
            Message::V2 => Self::Second {
                reader: Reader::new(raw),
                series: &[],
                labels: Vec::new(),
                parts: Default::default(),
            },
        }
    }

    /// Goes on to the next series and gives its labels in the form of 1.0.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        match self {
            Self::First {
                raw, walk, field, ..
            } => {
                let (whole, labels) = walk.next()?;
                *field = &raw[whole];
                Some(&raw[labels])
            }
            Self::Second {
                reader,
                series,
                labels,
                ..
            } => {
                *series = reader.next()?;
                labels.clear();
                reader.labels(labels, series);
                Some(labels)
            }
        }
    }

    /// Puts the present series in one of the parts.
    pub(super) fn put(&mut self, part: usize) {
        match self {
            Self::First { field, parts, .. } => parts[part].extend_from_slice(field),
            Self::Second {
                reader,
                series,
                parts,
                ..
            } => parts[part].put(reader, series),
        }
    }

    /// The parts; one without series is empty.
    pub(super) fn finish(self) -> [Vec<u8>; 2] {
        match self {
            Self::First { parts, .. } => parts,
            Self::Second { parts, .. } => (*parts).map(Part::finish),
        }
    }
}
