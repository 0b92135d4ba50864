//! A damaged place of a log -> its file, its bytes, what is wrong, what it means, what to do.

use super::moment;
use crate::text::{line, size, table, words};
use ringscrape_wal::error::{Damage, DamageKind};
use ringscrape_wal::tools::survey::Sum;
use serde::Serialize;
use std::path::Path;

/// A damaged place.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DamageView {
    /// The file.
    pub(super) file: String,
    /// First byte.
    pub(super) from: u32,
    /// Byte after the last one.
    pub(super) to: u32,
    /// What is wrong, in a word.
    pub(super) kind: &'static str,
    /// What that means, and what to do.
    pub(super) advice: &'static str,
}

impl DamageView {
    pub(super) fn new(dir: &Path, place: &Damage) -> Self {
        let (kind, advice) = match place.kind {
            DamageKind::SegmentHeader => (
                "header",
                "nothing in this file can be read; the next start moves it to quarantine/. Check \
                 the disk",
            ),
            DamageKind::Frame => (
                "checksum",
                "what stood here is lost, the rest of the file is read and sent. Check the disk",
            ),
            DamageKind::TornTail => (
                "torn tail",
                "a write was cut off when its process or machine ended; the next start cuts these \
                 bytes off. Nothing to do",
            ),
            DamageKind::Content => (
                "content",
                "the bytes are as they were written, but break the rules of the format: this \
                 record is passed over. Report it",
            ),
            DamageKind::Reference => (
                "reference",
                "what this record refers to is damaged: it is passed over, the rest is sent",
            ),
            DamageKind::Version => (
                "newer version",
                "written by a newer ringscrape, and left alone: run that one to send it",
            ),
            DamageKind::Unreadable => (
                "unreadable",
                "the disk fails to read this, again and again: it is passed over, the rest is \
                 sent. Check the disk",
            ),
        };
        Self {
            file: file(dir, place.segment),
            from: place.from,
            to: place.to,
            kind,
            advice,
        }
    }
}

/// The path of a segment's file.
pub(super) fn file(dir: &Path, segment: u64) -> String {
    dir.join(format!("{segment:020}.wal")).display().to_string()
}

/// Damage as a table with the advice below.
pub(super) fn damage(text: &mut String, places: &[DamageView]) {
    if places.is_empty() {
        line(text, "no damage");
        return;
    }
    let bytes: u64 = places
        .iter()
        .map(|p| u64::from(p.to.saturating_sub(p.from)))
        .sum();
    let count = places.len();
    line(text, &format!("{count} damaged places, {}:", size(bytes)));
    let mut rows = vec![words(&["FROM", "TO", "WHAT", "FILE"])];
    rows.extend(places.iter().map(|place| {
        vec![
            place.from.to_string(),
            place.to.to_string(),
            place.kind.to_owned(),
            place.file.clone(),
        ]
    }));
    table(text, &rows, &[0, 1]);
    let mut told: Vec<&str> = Vec::new();
    for place in places {
        if !told.contains(&place.kind) {
            told.push(place.kind);
            line(text, &format!("{}: {}.", place.kind, place.advice));
        }
    }
}

/// Some records.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SumView {
    pub(super) records: u64,
    pub(super) samples: u64,
    /// Of the records, without definitions and indexes.
    pub(super) bytes: u64,
    /// RFC 3339; nothing without records.
    pub(super) oldest: Option<String>,
    pub(super) newest: Option<String>,
}

impl From<&Sum> for SumView {
    fn from(sum: &Sum) -> Self {
        let time = |ms| (sum.records > 0).then(|| moment::format(ms));
        Self {
            records: sum.records,
            samples: sum.samples,
            bytes: sum.bytes,
            oldest: time(sum.oldest_ms),
            newest: time(sum.newest_ms),
        }
    }
}
