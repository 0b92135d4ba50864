//! `ringscrape wal cut`: a log that no process uses -> the same without a part of it.

use super::directory::{Directory, storage};
use super::progress::Progress;
use super::report::{DamageView, SumView};
use super::{EXIT_DAMAGE, Failure, OutputFormat, moment, print};
use crate::text::{line, or_dash, size, table, words};
use clap::Args;
use ringscrape_wal::error::DamageKind;
use ringscrape_wal::recovery::recover;
use ringscrape_wal::storage::Storage;
use ringscrape_wal::tools::cut::{CutPlan, apply, plan_before, plan_segment};
use ringscrape_wal::tools::segment_sizes;
use ringscrape_wal::tools::survey::Sum;
use ringscrape_wal::tools::walk::walk;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct CutArguments {
    /// The folder of --storage.path.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    part: Part,
    /// Move whole segments to the folder `quarantine` beside them instead of deleting them.
    #[arg(long)]
    keep: bool,
    /// Do it. What goes was sent, or is lost: the answer without this flag says how much.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Part {
    /// What was scraped before: how long ago (2h), a date (2026-01-31T12:00:00Z), or Unix seconds.
    /// Segments that hold nothing else go; in the next one the endpoints go on behind it.
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    before: Option<i64>,
    /// Torn tails, and files of which nothing can be read (to `quarantine`). A damaged place
    /// between sound records stays: it is passed over.
    #[arg(long)]
    damaged: bool,
    /// One segment, damaged or not, as in shard-000/7.
    #[arg(long, value_name = "SHARD/NUMBER", value_parser = segment)]
    segment: Option<(String, u64)>,
}

fn segment(text: &str) -> Result<(String, u64), String> {
    let parsed = text.rsplit_once('/').and_then(|(shard, number)| {
        let number = number.strip_suffix(".wal").unwrap_or(number);
        Some((shard.to_owned(), number.parse().ok()?))
    });
    parsed.ok_or_else(|| format!("{text:?} is not SHARD/NUMBER, as in shard-000/7"))
}

#[derive(Debug, Serialize)]
struct CutView {
    directory: String,
    in_use_by: Option<u32>,
    done: bool,
    /// Files that go whole.
    files: Vec<String>,
    disk_bytes: u64,
    removed: SumView,
    /// Of that, what each endpoint never gets.
    lost: Vec<LostView>,
    /// Torn tails that are cut, and files that are moved to quarantine.
    damage_removed: Vec<DamageView>,
    /// Damaged places that stay.
    damage_left: Vec<DamageView>,
}

#[derive(Debug, Serialize)]
struct LostView {
    endpoint: String,
    #[serde(flatten)]
    sum: SumView,
}

pub(super) fn run(arguments: &CutArguments, format: OutputFormat) -> Result<u8, Failure> {
    // Taken before anything is read: what is planned is what is there when it is done.
    let _lock = match arguments.yes {
        true => Some(lock(&arguments.dir)?),
        false => None,
    };
    let directory = Directory::open(&arguments.dir)?;
    let mut view = CutView {
        directory: directory.path.display().to_string(),
        in_use_by: directory.in_use_by.filter(|_| !arguments.yes),
        done: arguments.yes,
        files: Vec::new(),
        disk_bytes: 0,
        removed: SumView::from(&Sum::default()),
        lost: Vec::new(),
        damage_removed: Vec::new(),
        damage_left: Vec::new(),
    };
    let storage = storage();
    if arguments.part.damaged {
        for (name, dir) in &directory.shards {
            find_damage(&*storage, name, dir, &mut view)?;
            if arguments.yes {
                recover(&*storage, dir, u64::MAX)?;
            }
        }
    } else {
        let plans = plan(&*storage, &directory, &arguments.part)?;
        take_in(&mut view, &plans);
        if arguments.yes {
            for (dir, plan) in &plans {
                apply(&*storage, dir, plan, arguments.keep)?;
            }
        }
    }
    print(format, &view, render);
    Ok(if arguments.yes { 0 } else { EXIT_DAMAGE })
}

/// The lock that a running engine holds, so that none starts while this cuts.
fn lock(dir: &Path) -> Result<ringscrape_engine::Storage, Failure> {
    if !dir.join("wal").is_dir() {
        return Err(Failure::Other(format!(
            "{}: no folder `wal` in it; to cut, give the folder of --storage.path itself",
            dir.display()
        )));
    }
    Ok(ringscrape_engine::Storage::lock(dir)?)
}

fn plan(
    storage: &dyn Storage,
    directory: &Directory,
    part: &Part,
) -> Result<Vec<(PathBuf, CutPlan)>, Failure> {
    let mut plans = Vec::new();
    for (name, dir) in &directory.shards {
        if let Some(before_ms) = part.before {
            plans.push((dir.clone(), plan_before(storage, dir, before_ms)?));
        } else if let Some((shard, number)) = &part.segment
            && shard == name
        {
            plans.push((dir.clone(), plan_segment(storage, dir, *number)?));
        }
    }
    if let (true, Some((shard, _))) = (plans.is_empty(), &part.segment) {
        let have: Vec<&str> = directory.shards.iter().map(|one| one.0.as_str()).collect();
        let have = have.join(", ");
        return Err(Failure::Other(format!(
            "no shard {shard:?} here, but {have}"
        )));
    }
    Ok(plans)
}

fn find_damage(
    storage: &dyn Storage,
    name: &str,
    dir: &Path,
    view: &mut CutView,
) -> Result<(), Failure> {
    let files = segment_sizes(storage, dir)?;
    let mut progress = Progress::new("read", files.iter().map(|file| file.1).sum());
    for (segment, bytes) in files {
        let walked = walk(storage, dir, segment, &mut |_| {})?;
        for place in &walked.damage {
            let goes = match place.kind {
                DamageKind::TornTail => true,
                DamageKind::Version => false,
                _ => walked.created_ms.is_none(),
            };
            let list = match goes {
                true => &mut view.damage_removed,
                false => &mut view.damage_left,
            };
            list.push(DamageView::new(dir, place));
        }
        progress.add(bytes, name);
    }
    Ok(())
}

fn take_in(view: &mut CutView, plans: &[(PathBuf, CutPlan)]) {
    let mut removed = Sum::default();
    let mut lost: BTreeMap<&str, Sum> = BTreeMap::new();
    for (dir, plan) in plans {
        removed.add(&plan.removed);
        for (segment, bytes) in &plan.segments {
            view.files.push(super::report::file(dir, *segment));
            view.disk_bytes += bytes;
        }
        for (endpoint, sum) in &plan.lost {
            lost.entry(endpoint).or_default().add(sum);
        }
    }
    view.removed = SumView::from(&removed);
    view.lost = lost
        .into_iter()
        .map(|(endpoint, sum)| LostView {
            endpoint: endpoint.to_owned(),
            sum: SumView::from(&sum),
        })
        .collect();
}

fn render(view: &CutView) -> String {
    let mut text = String::new();
    let out = &mut text;
    line(out, &format!("log in {}", view.directory));
    let verb = if view.done { "removed" } else { "would remove" };
    if !view.files.is_empty() || view.removed.records > 0 {
        line(
            out,
            &format!(
                "{verb} {} segments, {}, {} scrapes, {} samples, from {} to {}",
                view.files.len(),
                size(view.disk_bytes),
                view.removed.records,
                view.removed.samples,
                or_dash(view.removed.oldest.as_deref().unwrap_or_default()),
                or_dash(view.removed.newest.as_deref().unwrap_or_default()),
            ),
        );
        for file in &view.files {
            line(out, &format!("  {file}"));
        }
    } else if view.damage_removed.is_empty() {
        line(out, "nothing to remove");
    }
    for place in &view.damage_removed {
        let DamageView {
            file,
            from,
            to,
            kind,
            ..
        } = place;
        line(
            out,
            &format!("{verb} {kind} of {file}, bytes {from} to {to}"),
        );
    }
    for place in &view.damage_left {
        let DamageView {
            file,
            from,
            to,
            kind,
            ..
        } = place;
        let between = "it lies between sound records and is passed over";
        line(
            out,
            &format!("stays: {kind} in {file}, bytes {from} to {to}: {between}"),
        );
    }
    if view.lost.is_empty() && view.removed.records > 0 {
        line(out, "every endpoint has all of it");
    } else if !view.lost.is_empty() {
        line(out, if view.done { "lost:" } else { "would be lost:" });
        let mut rows = vec![words(&["ENDPOINT", "SAMPLES", "OLDEST", "NEWEST"])];
        rows.extend(view.lost.iter().map(|lost| {
            vec![
                lost.endpoint.clone(),
                lost.sum.samples.to_string(),
                or_dash(lost.sum.oldest.as_deref().unwrap_or_default()),
                or_dash(lost.sum.newest.as_deref().unwrap_or_default()),
            ]
        }));
        table(out, &rows, &[1]);
    }
    if let Some(id) = view.in_use_by {
        line(
            out,
            &format!("nothing was changed: process {id} has this log open, stop it first"),
        );
    } else if !view.done {
        line(out, "nothing was changed: add --yes to do it");
    }
    text
}
