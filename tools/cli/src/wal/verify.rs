//! `ringscrape wal verify`: every byte of a log -> sound, or where it is not.

use super::directory::{Directory, storage};
use super::progress::Progress;
use super::report::{self, DamageView};
use super::{EXIT_DAMAGE, Failure, OutputFormat, print};
use crate::text::{line, size};
use ringscrape_wal::error::{Damage, DamageKind};
use ringscrape_wal::format::{CURSOR_FILE, Kind};
use ringscrape_wal::tools::{IndexState, SegmentReport, cursors, segment_sizes, verify};
use serde::Serialize;
use std::io::ErrorKind;
use std::path::Path;

#[derive(Debug, Serialize)]
struct VerifyView {
    directory: String,
    in_use_by: Option<u32>,
    sound: bool,
    segments: u64,
    disk_bytes: u64,
    records: u64,
    samples: u64,
    /// Indexes that do not say what their segment holds.
    wrong_indexes: Vec<String>,
    /// Cursor files with a slot that cannot be read.
    damaged_cursors: Vec<String>,
    damage: Vec<DamageView>,
}

pub(super) fn run(dir: &Path, format: OutputFormat) -> Result<u8, Failure> {
    let directory = Directory::open(dir)?;
    let view = read(&directory)?;
    let code = if view.sound { 0 } else { EXIT_DAMAGE };
    print(format, &view, |view| render(view, directory.notice()));
    Ok(code)
}

fn read(directory: &Directory) -> Result<VerifyView, Failure> {
    let storage = storage();
    let mut view = VerifyView {
        directory: directory.path.display().to_string(),
        in_use_by: directory.in_use_by,
        sound: false,
        segments: 0,
        disk_bytes: 0,
        records: 0,
        samples: 0,
        wrong_indexes: Vec::new(),
        damaged_cursors: Vec::new(),
        damage: Vec::new(),
    };
    let mut listed = Vec::new();
    for (name, dir) in &directory.shards {
        listed.push((name, dir, segment_sizes(&*storage, dir)?));
    }
    let bytes_total = listed
        .iter()
        .flat_map(|one| &one.2)
        .map(|file| file.1)
        .sum();
    let mut progress = Progress::new("read", bytes_total);
    for (name, dir, files) in listed {
        // While a process writes one slot, the other one is good.
        if cursors(&*storage, dir)?.slots_damaged > u32::from(directory.in_use_by.is_some()) {
            view.damaged_cursors
                .push(dir.join(CURSOR_FILE).display().to_string());
        }
        let newest = files.last().map(|file| file.0);
        for (segment, bytes) in files {
            let report = match verify(storage.clone(), dir, segment) {
                Ok(report) => report,
                // Acknowledged and deleted meanwhile.
                Err(error) if error.source.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let is_written = directory.in_use_by.is_some() && Some(segment) == newest;
            take_in(&mut view, dir, &report, is_written);
            progress.add(bytes, name);
        }
    }
    view.sound =
        view.damage.is_empty() && view.wrong_indexes.is_empty() && view.damaged_cursors.is_empty();
    Ok(view)
}

/// `is_written`: a process goes on writing to it, so its end may be half there.
fn take_in(view: &mut VerifyView, dir: &Path, report: &SegmentReport, is_written: bool) {
    view.segments += 1;
    view.disk_bytes += report.bytes;
    view.records += report.frames[Kind::Record as usize].frames;
    view.samples += report.samples;
    if report.index == IndexState::Wrong && !is_written {
        view.wrong_indexes.push(report::file(dir, report.segment));
    }
    let counts = |place: &&Damage| !(is_written && place.kind == DamageKind::TornTail);
    let places = report.damage.iter().filter(counts);
    view.damage
        .extend(places.map(|place| DamageView::new(dir, place)));
}

fn render(view: &VerifyView, notice: Option<String>) -> String {
    let mut text = String::new();
    let out = &mut text;
    line(out, &format!("log in {}", view.directory));
    if let Some(notice) = notice {
        line(out, &notice);
    }
    line(
        out,
        &format!(
            "{} segments, {}, {} scrapes, {} samples read",
            view.segments,
            size(view.disk_bytes),
            view.records,
            view.samples
        ),
    );
    for file in &view.damaged_cursors {
        line(
            out,
            &format!(
                "{file}: damaged; with one slot of two the other is used, without both everything \
                 in this folder is sent again"
            ),
        );
    }
    for file in &view.wrong_indexes {
        line(
            out,
            &format!(
                "{file}: its index does not say what it holds: some of its records may not be \
                 sent. Report it"
            ),
        );
    }
    report::damage(out, &view.damage);
    text
}
