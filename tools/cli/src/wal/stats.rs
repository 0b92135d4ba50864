//! `ringscrape wal stats`: every record of a log, without its values -> totals.

use super::directory::{Directory, storage};
use super::progress::Progress;
use super::report::{self, DamageView, SumView};
use super::{Failure, OutputFormat, moment, print};
use crate::text::{line, or_dash, size, span, table, words};
use ringscrape_wal::error::DamageKind;
use ringscrape_wal::format::QUARANTINE_DIR;
use ringscrape_wal::scrape::Position;
use ringscrape_wal::tools::survey::{EndpointSum, Survey};
use ringscrape_wal::tools::walk::walk;
use ringscrape_wal::tools::{cursors, segment_sizes};
use serde::Serialize;
use std::io::ErrorKind;
use std::path::Path;

/// Rows of samples by time.
const SLOTS_MAX: usize = 24;
/// Characters of the longest bar.
const BAR_WIDTH: u64 = 40;

#[derive(Debug, Serialize)]
struct StatsView {
    directory: String,
    in_use_by: Option<u32>,
    /// Files, and all their bytes.
    segments: u64,
    disk_bytes: u64,
    #[serde(flatten)]
    total: SumView,
    shards: Vec<ShardView>,
    by_time: ByTimeView,
    targets: Vec<TargetView>,
    targets_total: usize,
    endpoints: Vec<EndpointView>,
    cursor_slots_damaged: u32,
    quarantined_bytes: u64,
    damage: Vec<DamageView>,
}

#[derive(Debug, Serialize)]
struct ShardView {
    shard: String,
    segments: u64,
    disk_bytes: u64,
    samples: u64,
}

#[derive(Debug, Serialize)]
struct ByTimeView {
    slot_seconds: i64,
    slots: Vec<SlotView>,
}

#[derive(Debug, Serialize)]
struct SlotView {
    begin: String,
    samples: u64,
}

#[derive(Debug, Serialize)]
struct TargetView {
    job: String,
    instance: String,
    series: u32,
    #[serde(flatten)]
    sum: SumView,
}

#[derive(Debug, Serialize)]
struct EndpointView {
    endpoint: String,
    /// What it has not acknowledged.
    unsent: SumView,
    /// From its oldest unsent sample to the newest one in the log, seconds.
    behind_seconds: f64,
    /// Of the unsent samples those that were on their way when the cursors were saved.
    unacknowledged_samples: u64,
    cursors: Vec<CursorView>,
}

#[derive(Debug, Serialize)]
struct CursorView {
    shard: String,
    /// Segment and offset: everything before is acknowledged.
    low_water: String,
    highest_sent: String,
    /// When the endpoint left the configuration.
    removed_at: Option<String>,
}

pub(super) fn run(dir: &Path, targets_max: usize, format: OutputFormat) -> Result<u8, Failure> {
    let directory = Directory::open(dir)?;
    let view = read(&directory, targets_max)?;
    print(format, &view, |view| render(view, directory.notice()));
    Ok(0)
}

fn read(directory: &Directory, targets_max: usize) -> Result<StatsView, Failure> {
    let storage = storage();
    let mut survey = Survey::default();
    let mut shards = Vec::new();
    let mut damage = Vec::new();
    let mut cursor_slots_damaged = 0;
    let mut quarantined_bytes = 0;
    let mut listed = Vec::new();
    for (name, dir) in &directory.shards {
        // The cursors first: what is acknowledged while this reads is not counted as lost then.
        let cursors = cursors(&*storage, dir)?;
        listed.push((name, dir, cursors, segment_sizes(&*storage, dir)?));
    }
    let bytes_total = listed
        .iter()
        .flat_map(|one| &one.3)
        .map(|file| file.1)
        .sum();
    let mut progress = Progress::new("read", bytes_total);
    for (name, dir, cursors, files) in listed {
        cursor_slots_damaged += cursors.slots_damaged;
        survey.begin_dir(name, &cursors.cursors);
        let samples_before = survey.all.samples;
        let mut shard = ShardView {
            shard: name.clone(),
            segments: 0,
            disk_bytes: 0,
            samples: 0,
        };
        let newest = files.last().map(|file| file.0);
        for (segment, bytes) in files {
            let walked = match walk(&*storage, dir, segment, &mut |head| survey.record(head)) {
                Ok(walked) => walked,
                // Acknowledged and deleted meanwhile.
                Err(error) if error.source.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            shard.segments += 1;
            shard.disk_bytes += walked.bytes;
            let is_written = directory.in_use_by.is_some() && Some(segment) == newest;
            damage.extend(
                walked
                    .damage
                    .iter()
                    .filter(|place| !(is_written && place.kind == DamageKind::TornTail))
                    .map(|place| DamageView::new(dir, place)),
            );
            progress.add(bytes, name);
        }
        let quarantine = storage.list(&dir.join(QUARANTINE_DIR));
        quarantined_bytes += quarantine
            .iter()
            .flatten()
            .map(|entry| entry.bytes)
            .sum::<u64>();
        shard.samples = survey.all.samples - samples_before;
        shards.push(shard);
    }
    drop(progress);
    let (slot_ms, slots) = survey.by_time(SLOTS_MAX);
    let newest_ms = survey.all.newest_ms;
    let mut targets: Vec<_> = survey.targets.values().collect();
    targets.sort_by(|a, b| {
        let key = |one: &ringscrape_wal::tools::survey::TargetSum| {
            (one.job.clone(), one.instance.clone())
        };
        let by_samples = b.sum.samples.cmp(&a.sum.samples);
        by_samples.then_with(|| key(a).cmp(&key(b)))
    });
    Ok(StatsView {
        directory: directory.path.display().to_string(),
        in_use_by: directory.in_use_by,
        segments: shards.iter().map(|shard| shard.segments).sum(),
        disk_bytes: shards.iter().map(|shard| shard.disk_bytes).sum(),
        total: SumView::from(&survey.all),
        shards,
        by_time: ByTimeView {
            slot_seconds: slot_ms / 1_000,
            slots: slots
                .into_iter()
                .map(|(begin, samples)| SlotView {
                    begin: moment::format(begin),
                    samples,
                })
                .collect(),
        },
        targets_total: targets.len(),
        targets: targets
            .into_iter()
            .take(targets_max)
            .map(|target| TargetView {
                job: target.job.clone(),
                instance: target.instance.clone(),
                series: target.series,
                sum: SumView::from(&target.sum),
            })
            .collect(),
        endpoints: survey
            .endpoints
            .iter()
            .map(|(endpoint, sum)| endpoint_view(endpoint, sum, newest_ms))
            .collect(),
        cursor_slots_damaged,
        quarantined_bytes,
        damage,
    })
}

fn endpoint_view(endpoint: &str, sum: &EndpointSum, newest_ms: i64) -> EndpointView {
    let text = |at: Position| format!("{}:{}", at.segment, at.offset);
    let behind_ms = match sum.unsent.records {
        0 => 0,
        _ => newest_ms.saturating_sub(sum.unsent.oldest_ms),
    };
    EndpointView {
        endpoint: endpoint.to_owned(),
        unsent: SumView::from(&sum.unsent),
        behind_seconds: behind_ms as f64 / 1e3,
        unacknowledged_samples: sum.sent_unacknowledged.samples,
        cursors: sum
            .cursors
            .iter()
            .map(|(shard, cursor)| CursorView {
                shard: shard.clone(),
                low_water: text(cursor.low_water),
                highest_sent: text(cursor.highest_sent),
                removed_at: cursor.removed_at_ms.map(moment::format),
            })
            .collect(),
    }
}

fn render(view: &StatsView, notice: Option<String>) -> String {
    let mut text = String::new();
    let out = &mut text;
    line(out, &format!("log in {}", view.directory));
    if let Some(notice) = notice {
        line(out, &notice);
    }
    let per_sample = view.disk_bytes as f64 / view.total.samples.max(1) as f64;
    line(
        out,
        &format!(
            "{} shards, {} segments, {} on disk, {} scrapes, {} samples, {per_sample:.2} bytes a \
             sample",
            view.shards.len(),
            view.segments,
            size(view.disk_bytes),
            view.total.records,
            view.total.samples,
        ),
    );
    if let (Some(oldest), Some(newest)) = (&view.total.oldest, &view.total.newest) {
        line(out, &format!("from {oldest} to {newest}"));
    }
    if view.shards.len() > 1 {
        out.push('\n');
        let mut rows = vec![words(&["SHARD", "SEGMENTS", "DISK", "SAMPLES"])];
        rows.extend(view.shards.iter().map(|shard| {
            vec![
                shard.shard.clone(),
                shard.segments.to_string(),
                size(shard.disk_bytes),
                shard.samples.to_string(),
            ]
        }));
        table(out, &rows, &[1, 2, 3]);
    }
    by_time(out, &view.by_time);
    targets(out, view);
    endpoints(out, view);
    out.push('\n');
    if view.cursor_slots_damaged > 0 {
        line(
            out,
            &format!(
                "{} damaged slots in the cursor files: what its endpoints had may be sent again",
                view.cursor_slots_damaged
            ),
        );
    }
    if view.quarantined_bytes > 0 {
        let bytes = size(view.quarantined_bytes);
        line(
            out,
            &format!("{bytes} of damaged bytes in quarantine folders"),
        );
    }
    report::damage(out, &view.damage);
    text
}

fn by_time(out: &mut String, by_time: &ByTimeView) {
    if by_time.slots.is_empty() {
        return;
    }
    line(out, "");
    let length = span(by_time.slot_seconds.unsigned_abs() * 1_000);
    let most = by_time.slots.iter().map(|slot| slot.samples).max();
    let most = most.unwrap_or(1).max(1);
    let mut rows = vec![vec![
        "FROM".to_owned(),
        "SAMPLES".to_owned(),
        format!("in {length} each"),
    ]];
    rows.extend(by_time.slots.iter().map(|slot| {
        let bar = (u128::from(slot.samples) * u128::from(BAR_WIDTH)).div_ceil(u128::from(most));
        vec![
            slot.begin.clone(),
            slot.samples.to_string(),
            "#".repeat(bar as usize),
        ]
    }));
    table(out, &rows, &[1]);
}

fn targets(out: &mut String, view: &StatsView) {
    line(out, "");
    let mut rows = vec![words(&[
        "JOB", "INSTANCE", "SERIES", "SCRAPES", "SAMPLES", "BYTES", "OLDEST", "NEWEST",
    ])];
    rows.extend(view.targets.iter().map(|target| {
        vec![
            or_dash(&target.job),
            or_dash(&target.instance),
            target.series.to_string(),
            target.sum.records.to_string(),
            target.sum.samples.to_string(),
            size(target.sum.bytes),
            or_dash(target.sum.oldest.as_deref().unwrap_or_default()),
            or_dash(target.sum.newest.as_deref().unwrap_or_default()),
        ]
    }));
    table(out, &rows, &[2, 3, 4, 5]);
    let hidden = view.targets_total - view.targets.len();
    if hidden > 0 {
        line(out, &format!("and {hidden} more targets: see --targets"));
    }
}

fn endpoints(out: &mut String, view: &StatsView) {
    line(out, "");
    if view.endpoints.is_empty() {
        line(out, "no endpoint");
        return;
    }
    let mut rows = vec![words(&[
        "ENDPOINT",
        "UNSENT",
        "SAMPLES",
        "ON THE WAY",
        "BEHIND",
        "OLDEST UNSENT",
        "STATE",
    ])];
    rows.extend(view.endpoints.iter().map(|endpoint| {
        let removed = endpoint
            .cursors
            .iter()
            .find_map(|c| c.removed_at.as_deref());
        let state = match removed {
            _ if endpoint.cursors.is_empty() => "no cursor: gets all".to_owned(),
            Some(at) => format!("left the configuration {at}"),
            None => "configured".to_owned(),
        };
        vec![
            endpoint.endpoint.clone(),
            size(endpoint.unsent.bytes),
            endpoint.unsent.samples.to_string(),
            endpoint.unacknowledged_samples.to_string(),
            span((endpoint.behind_seconds * 1e3) as u64),
            or_dash(endpoint.unsent.oldest.as_deref().unwrap_or_default()),
            state,
        ]
    }));
    table(out, &rows, &[1, 2, 3, 4]);
}
