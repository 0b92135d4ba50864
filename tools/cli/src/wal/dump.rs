//! `ringscrape wal dump`: the samples of a log that fit some selectors, one a line.

use super::directory::{Directory, storage};
use super::{EXIT_UNREADABLE, Failure, OutputFormat, moment};
use clap::Args;
use ringscrape_wal::definition::Run;
use ringscrape_wal::reader::LogReader;
use ringscrape_wal::scrape::{Position, STALE_NAN_BITS, Scrape};
use ringscrape_wal::segments::Readable;
use ringscrape_wal::tools::labels::series_labels;
use ringscrape_wal::tools::segment_sizes;
use serde_json::json;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct DumpArguments {
    /// The folder of --storage.path.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Not before: how long ago (2h), a date (2026-01-31T12:00:00Z), or Unix seconds.
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    since: Option<i64>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    until: Option<i64>,
    /// Of this job.
    #[arg(long)]
    job: Option<String>,
    /// Of this instance.
    #[arg(long)]
    instance: Option<String>,
    /// Of this metric name.
    #[arg(long)]
    name: Option<String>,
    /// With this label; may be given several times.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// How many samples at most; 0 = all.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: u64,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// One sample of a scrape.
struct Sample<'a> {
    labels: Vec<(&'a str, &'a str)>,
    timestamp_ms: i64,
    value: f64,
    /// Bytes of its native histogram.
    histogram_bytes: Option<usize>,
}

pub(super) fn run(arguments: &DumpArguments, format: OutputFormat) -> Result<u8, Failure> {
    let directory = Directory::open(&arguments.dir)?;
    if let Some(notice) = directory.notice() {
        eprintln!("{notice}");
    }
    let mut wanted = arguments.labels.clone();
    for (name, value) in [
        ("job", &arguments.job),
        ("instance", &arguments.instance),
        ("__name__", &arguments.name),
    ] {
        wanted.extend(value.clone().map(|value| (name.to_owned(), value)));
    }
    let limit = match arguments.limit {
        0 => u64::MAX,
        limit => limit,
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut printed = 0;
    let mut skipped = 0;
    for (name, dir) in &directory.shards {
        let storage = storage();
        let files = segment_sizes(&*storage, dir)?;
        let mut reader = LogReader::new(storage, dir.clone());
        for (segment, bytes) in files {
            let end_offset = u32::try_from(bytes).unwrap_or(u32::MAX);
            let at = |offset| Position { segment, offset };
            let readable = Readable {
                segment,
                end_offset,
                next: at(end_offset),
            };
            let mut from = at(0);
            loop {
                let entry = match reader.next(&readable, from, &mut |_| true) {
                    Ok(Some(entry)) => entry,
                    Ok(None) => break,
                    // Acknowledged and deleted meanwhile.
                    Err(error) if error.source.kind() == ErrorKind::NotFound => break,
                    Err(error) => return Err(error.into()),
                };
                from = entry.end;
                for sample in samples(&entry.scrape) {
                    let in_time = arguments.since.is_none_or(|ms| sample.timestamp_ms >= ms)
                        && arguments.until.is_none_or(|ms| sample.timestamp_ms < ms);
                    if !in_time || !fits(&sample, &wanted) {
                        continue;
                    }
                    if printed == limit {
                        eprintln!("stopped after {printed} samples: see --limit");
                        return Ok(0);
                    }
                    printed += 1;
                    let line = match format {
                        OutputFormat::Table => text(&sample),
                        OutputFormat::Json => object(&sample, name, entry.position),
                    };
                    if writeln!(out, "{line}").is_err() {
                        // Whoever reads has seen enough.
                        return Ok(0);
                    }
                }
            }
        }
        skipped += reader.take_damage().len();
    }
    if out.flush().is_err() {
        return Ok(EXIT_UNREADABLE);
    }
    if skipped > 0 && directory.in_use_by.is_none() {
        eprintln!("{skipped} damaged places passed over: see `ringscrape wal verify`");
    }
    Ok(0)
}

fn fits(sample: &Sample<'_>, wanted: &[(String, String)]) -> bool {
    wanted.iter().all(|(name, value)| {
        let found = sample.labels.iter().find(|(have, _)| have == name);
        found.map_or("", |(_, value)| *value) == value
    })
}

/// The samples of a scrape that are sent, in order.
fn samples(scrape: &Scrape) -> impl Iterator<Item = Sample<'_>> {
    let sides = scrape.sides.as_deref();
    let mut index = 0;
    let values = entries(&scrape.layout.runs).filter_map(move |(run, entry)| {
        let at = index;
        index += 1;
        if sides.is_some_and(|sides| sides.skipped.binary_search(&at).is_ok()) {
            return None;
        }
        let own_time = sides.and_then(|sides| {
            let times = &sides.timestamps;
            let found = times.binary_search_by_key(&at, |time| time.index).ok()?;
            Some(times[found].timestamp_ms)
        });
        let histogram_bytes = sides.and_then(|sides| {
            let all = &sides.histograms;
            let found = all.binary_search_by_key(&at, |one| one.index).ok()?;
            Some(all[found].bytes.len())
        });
        Some(Sample {
            labels: series_labels(&run.block, entry, &scrape.target)?,
            timestamp_ms: own_time.unwrap_or(scrape.timestamp_ms),
            value: *scrape.values.get(at as usize)?,
            histogram_bytes,
        })
    });
    let stale = entries(&scrape.stale).filter_map(|(run, entry)| {
        Some(Sample {
            labels: series_labels(&run.block, entry, &scrape.target)?,
            timestamp_ms: scrape.timestamp_ms,
            value: f64::from_bits(STALE_NAN_BITS),
            histogram_bytes: None,
        })
    });
    values.chain(stale)
}

fn entries(runs: &[Run]) -> impl Iterator<Item = (&Run, u32)> {
    runs.iter()
        .flat_map(|run| (run.from..run.to).map(move |entry| (run, entry)))
}

/// As the exposition format writes numbers.
fn number(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if size >= 1e21 || (size > 0.0 && size < 1e-6) {
        format!("{value:e}")
    } else {
        format!("{value}")
    }
}

fn value(sample: &Sample<'_>) -> String {
    match sample.histogram_bytes {
        Some(bytes) => format!("histogram({bytes} bytes)"),
        None if sample.value.to_bits() == STALE_NAN_BITS => "stale".to_owned(),
        None => number(sample.value),
    }
}

/// `name{label="value"} VALUE TIME`.
fn text(sample: &Sample<'_>) -> String {
    let mut line = String::new();
    let mut set = String::new();
    for (name, value) in &sample.labels {
        if *name == "__name__" {
            line.push_str(value);
        } else {
            let comma = if set.is_empty() { "" } else { "," };
            set.push_str(&format!("{comma}{name}={value:?}"));
        }
    }
    let time = moment::format(sample.timestamp_ms);
    format!("{line}{{{set}}} {} {time}", value(sample))
}

fn object(sample: &Sample<'_>, shard: &str, position: Position) -> String {
    let labels: serde_json::Map<String, serde_json::Value> = sample
        .labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    json!({
        "labels": labels,
        "value": value(sample),
        "timestamp_ms": sample.timestamp_ms,
        "shard": shard,
        "position": format!("{}:{}", position.segment, position.offset),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_exposition_format() {
        let all = [
            0.0,
            -0.0,
            1.5,
            1e21,
            1e-7,
            f64::NAN,
            f64::INFINITY,
            9007199254740993.0,
        ];
        let wanted = [
            "0",
            "-0",
            "1.5",
            "1e21",
            "1e-7",
            "NaN",
            "+Inf",
            "9007199254740992",
        ];
        assert_eq!(all.map(number), wanted);
    }
}
