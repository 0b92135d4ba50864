//! `ringscrape wal import`: the log of Prometheus in agent mode, or of Alloy -> its endpoint.

use super::directory::{holder, storage, user};
use super::progress::Progress;
use super::{EXIT_DAMAGE, Failure, OutputFormat, moment, print};
use crate::cluster::client::Client;
use crate::http::AccessArguments;
use crate::text::{line, or_dash, table, words};
use clap::Args;
use ringscrape_engine::config::{Config, Endpoint, parse_duration_ms};
use ringscrape_engine::import::{Supply, send};
use ringscrape_engine::remote_write::{DropCause, Notice, QueueStats};
use ringscrape_wal::error::ReadError;
use ringscrape_wal::import::agent_log::AgentLog;
use ringscrape_wal::import::scrapes::Since;
use ringscrape_wal::scrape::Scrape;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How far back a receiver is asked for its newest samples.
const ASK_RANGE: &str = "7d";

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// The --storage.agent.path of Prometheus, or the folder of a prometheus.remote_write component
    /// in Alloy's --storage.path. It is only read.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    to: To,
    /// Of the configuration file's endpoints only the one with this name or URL; may be given
    /// several times.
    #[arg(long = "endpoint", value_name = "NAME", conflicts_with = "url")]
    endpoints: Vec<String>,
    /// Send what was scraped from here on: how long ago (2h), a date (2026-01-31T12:00:00Z), Unix
    /// seconds, or 0 for all. The log of an agent does not say what its endpoint got: give the time
    /// at which it stopped taking samples, or an earlier one; it does no harm to send some twice.
    #[arg(long, value_name = "TIME", value_parser = moment::parse, required_unless_present = "ask")]
    since: Option<i64>,
    /// Ask this address (http://host:port, of Prometheus, VictoriaMetrics or Mimir's /prometheus)
    /// for the newest `up` of each job and instance in the last 7 days, and begin --overlap before
    /// it. What it does not know is sent from --since on, or whole.
    #[arg(long, value_name = "URL")]
    ask: Option<String>,
    /// With --ask: how long before the newest sample to begin. Queues of an agent send in parallel:
    /// `up` may have arrived where other series of the same scrape have not.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration_ms)]
    overlap: u64,
    /// Read everything and say what would be sent.
    #[arg(long)]
    dry_run: bool,
    /// For --ask.
    #[command(flatten)]
    access: AccessArguments,
}

fn duration_ms(text: &str) -> Result<u64, String> {
    parse_duration_ms(text).ok_or_else(|| format!("{text:?} is no duration, as in 10m"))
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct To {
    /// Send to the endpoints of this file, with its external_labels and write_relabel_configs.
    #[arg(long = "config.file", value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Send here, as it is in the log.
    #[arg(long = "remote-write.url", value_name = "URL")]
    url: Option<String>,
}

#[derive(Debug, Serialize)]
struct ImportView {
    directory: String,
    in_use_by: Option<u32>,
    sent: bool,
    endpoints: Vec<EndpointView>,
    /// Of the last reading; they are the same for every endpoint but for `--ask`.
    targets: usize,
    series: u64,
    samples_without_series: u64,
    exemplars_without_sample: u64,
    series_malformed: u64,
    records_malformed: u64,
    records_unknown: u64,
    segments_missing: Vec<String>,
    damage: Vec<PlaceView>,
}

#[derive(Debug, Serialize)]
struct EndpointView {
    endpoint: String,
    /// Samples and histograms that were to be sent.
    samples: u64,
    histograms: u64,
    exemplars: u64,
    /// Left out because of --since or --ask.
    samples_before: u64,
    acknowledged: u64,
    /// Refused as out of order, duplicate or too old: the receiver has them, or newer ones of
    /// their series.
    refused_as_known: u64,
    /// By cause.
    dropped: Vec<DroppedView>,
}

#[derive(Debug, Serialize)]
struct DroppedView {
    cause: &'static str,
    samples: u64,
}

#[derive(Debug, Serialize)]
struct PlaceView {
    file: String,
    from: u64,
    to: u64,
    kind: &'static str,
}

/// An agent's log on its way to an endpoint.
struct Import {
    log: AgentLog,
    progress: Progress,
    bytes_shown: u64,
    is_retrying: bool,
}

impl Import {
    fn step(&mut self, about: &str) {
        let read = self.log.bytes_read();
        self.progress.add(read - self.bytes_shown, about);
        self.bytes_shown = read;
    }
}

impl Supply for Import {
    fn next_scrape(&mut self) -> Result<Option<Arc<Scrape>>, ReadError> {
        self.log.next_scrape()
    }

    fn watch(&mut self, stats: &QueueStats, notices: &[Notice]) {
        for notice in notices {
            match notice {
                Notice::Retrying { answer } if !self.is_retrying => {
                    self.is_retrying = true;
                    eprintln!("the receiver takes nothing now, trying again: {answer}");
                }
                Notice::Retrying { .. } => {}
                Notice::Recovered => self.is_retrying = false,
                Notice::ConfigFault { code, reason } => eprintln!(
                    "the receiver refuses our requests with {code}, trying again every 30 s: \
                     {reason}"
                ),
                Notice::FellBack { answer } => {
                    eprintln!("the receiver does not take remote write 2.0, sending 1.0: {answer}");
                }
                Notice::NotWritten {
                    samples,
                    of,
                    answer,
                } => eprintln!("the receiver has not written {samples} of {of} samples: {answer}"),
                Notice::Dropped {
                    cause,
                    samples,
                    series,
                    answer,
                } => eprintln!(
                    "{samples} samples given up ({}), one of them of {series}: {answer}",
                    cause.name()
                ),
            }
        }
        self.step(&format!("{} samples acknowledged", stats.samples_sent));
    }
}

pub(super) fn run(arguments: &ImportArguments, format: OutputFormat) -> Result<u8, Failure> {
    let endpoints = endpoints(arguments)?;
    let in_use_by = holder(&arguments.dir).or_else(|| user(&arguments.dir));
    if let Some(id) = in_use_by {
        eprintln!(
            "process {id} still writes this log: what it scrapes after this has read it is not sent"
        );
    }
    let mut view = ImportView {
        directory: arguments.dir.display().to_string(),
        in_use_by,
        sent: !arguments.dry_run,
        endpoints: Vec::new(),
        targets: 0,
        series: 0,
        samples_without_series: 0,
        exemplars_without_sample: 0,
        series_malformed: 0,
        records_malformed: 0,
        records_unknown: 0,
        segments_missing: Vec::new(),
        damage: Vec::new(),
    };
    for endpoint in &endpoints {
        let since = since(arguments, endpoint)?;
        let log = AgentLog::open(storage(), &arguments.dir, since)?;
        let mut import = Import {
            progress: Progress::new("read", log.bytes_total()),
            log,
            bytes_shown: 0,
            is_retrying: false,
        };
        let stats = match arguments.dry_run {
            true => {
                while import.next_scrape()?.is_some() {
                    import.step("nothing is sent");
                }
                QueueStats::default()
            }
            false => send(endpoint, &mut import).map_err(|error| {
                Failure::Other(format!("endpoint {}: {error}", endpoint.identity))
            })?,
        };
        take_in(&mut view, endpoint, &import.log, &stats);
    }
    let is_whole = view.damage.is_empty()
        && view.segments_missing.is_empty()
        && view.samples_without_series == 0
        && view.records_malformed + view.records_unknown + view.series_malformed == 0
        && view.endpoints.iter().all(|one| one.dropped.is_empty());
    print(format, &view, render);
    Ok(if is_whole { 0 } else { EXIT_DAMAGE })
}

fn endpoints(arguments: &ImportArguments) -> Result<Vec<Arc<Endpoint>>, Failure> {
    let other = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
    let config = match (&arguments.to.config_file, &arguments.to.url) {
        (Some(file), _) => Config::load(file).map_err(|error| other(&error))?,
        (None, url) => {
            // The defaults of the configuration file. JSON is YAML.
            let url = url.clone().unwrap_or_default();
            let text = serde_json::json!({"remote_write": [{"url": url}]}).to_string();
            Config::parse(Path::new("--remote-write.url"), &text, &|_| None)
                .map_err(|error| other(&error))?
        }
    };
    let mut chosen = config.remote_write;
    let known: Vec<String> = chosen.iter().map(|one| one.identity.clone()).collect();
    for name in &arguments.endpoints {
        if !known.contains(name) {
            let known = known.join(", ");
            let text = format!("no endpoint {name:?} in the configuration file, but {known}");
            return Err(Failure::Other(text));
        }
    }
    if !arguments.endpoints.is_empty() {
        chosen.retain(|one| arguments.endpoints.contains(&one.identity));
    }
    if chosen.is_empty() {
        return Err(Failure::Other(
            "the configuration file has no remote_write".to_owned(),
        ));
    }
    Ok(chosen
        .into_iter()
        .map(|endpoint| {
            let mut endpoint = (*endpoint).clone();
            // There is none in the log of an agent.
            endpoint.send_metadata = false;
            Arc::new(endpoint)
        })
        .collect())
}

/// From when on each target's samples are sent to an endpoint.
fn since(arguments: &ImportArguments, endpoint: &Endpoint) -> Result<Since, Failure> {
    let default_ms = arguments.since.unwrap_or(i64::MIN);
    let Some(address) = &arguments.ask else {
        return Ok(Box::new(move |_, _| default_ms));
    };
    let client = Client::new(address, &arguments.access);
    let client = client.map_err(|error| Failure::Other(error.to_string()))?;
    let query = query(endpoint);
    let data = client
        .get("/api/v1/query", &[("query", &query)])
        .map_err(|error| Failure::Other(format!("--ask: {error}")))?;
    let newest = newest_ms(&data).ok_or_else(|| {
        Failure::Other(format!(
            "--ask: {address} answered {query:?} with what is no vector"
        ))
    })?;
    let overlap_ms = i64::try_from(arguments.overlap).unwrap_or(i64::MAX);
    Ok(Box::new(move |job, instance| {
        let newest = newest.get(&(job.to_owned(), instance.to_owned()));
        newest.map_or(default_ms, |ms| {
            ms.saturating_sub(overlap_ms).max(default_ms)
        })
    }))
}

/// The time of the newest `up` of each target of this agent.
fn query(endpoint: &Endpoint) -> String {
    let labels: Vec<String> = endpoint
        .external_labels
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    let labels = labels.join(",");
    format!("max by (job, instance) (max_over_time(timestamp(up{{{labels}}})[{ASK_RANGE}:30s]))")
}

/// An instant vector of seconds -> milliseconds by job and instance.
fn newest_ms(data: &Value) -> Option<HashMap<(String, String), i64>> {
    let mut newest = HashMap::new();
    for one in data.get("result")?.as_array()? {
        let label = |name: &str| one["metric"][name].as_str().unwrap_or_default().to_owned();
        let seconds: f64 = one["value"].get(1)?.as_str()?.parse().ok()?;
        newest.insert((label("job"), label("instance")), (seconds * 1e3) as i64);
    }
    Some(newest)
}

fn take_in(view: &mut ImportView, endpoint: &Endpoint, log: &AgentLog, stats: &QueueStats) {
    let counts = log.counts();
    view.targets = log.target_count();
    view.series = counts.series;
    view.samples_without_series = counts.without_series;
    view.exemplars_without_sample = counts.without_sample;
    view.series_malformed = counts.series_malformed;
    view.records_malformed = counts.records_malformed;
    view.records_unknown = counts.records_unknown;
    view.segments_missing = log
        .missing()
        .iter()
        .map(|(from, to)| format!("{from:08} to {to:08}"))
        .collect();
    view.damage = log
        .damage()
        .iter()
        .map(|(path, place)| PlaceView {
            file: path.display().to_string(),
            from: place.from,
            to: place.to,
            kind: place.fault.name(),
        })
        .collect();
    view.endpoints.push(EndpointView {
        endpoint: endpoint.identity.clone(),
        samples: counts.samples,
        histograms: counts.histograms,
        exemplars: counts.exemplars,
        samples_before: counts.too_old,
        acknowledged: stats.samples_sent,
        refused_as_known: stats.samples_resent,
        dropped: DropCause::ALL
            .into_iter()
            .map(|cause| DroppedView {
                cause: cause.name(),
                samples: stats.samples_dropped[cause as usize],
            })
            .filter(|dropped| dropped.samples > 0)
            .collect(),
    });
}

fn render(view: &ImportView) -> String {
    let mut text = String::new();
    let out = &mut text;
    line(out, &format!("log of an agent in {}", view.directory));
    line(
        out,
        &format!("{} targets, {} series", view.targets, view.series),
    );
    let mut rows = vec![words(&[
        "ENDPOINT",
        "SAMPLES",
        "HISTOGRAMS",
        "EXEMPLARS",
        "BEFORE",
        "ACKNOWLEDGED",
        "KNOWN",
        "DROPPED",
    ])];
    rows.extend(view.endpoints.iter().map(|one| {
        let dropped: Vec<String> = one
            .dropped
            .iter()
            .map(|dropped| format!("{} {}", dropped.samples, dropped.cause))
            .collect();
        vec![
            one.endpoint.clone(),
            one.samples.to_string(),
            one.histograms.to_string(),
            one.exemplars.to_string(),
            one.samples_before.to_string(),
            one.acknowledged.to_string(),
            one.refused_as_known.to_string(),
            or_dash(&dropped.join(", ")),
        ]
    }));
    table(out, &rows, &[1, 2, 3, 4, 5, 6]);
    let known: u64 = view.endpoints.iter().map(|one| one.refused_as_known).sum();
    if known > 0 {
        line(
            out,
            &format!(
                "{known} samples were refused as out of order, duplicate or too old: the receiver \
                 has them, or newer ones of their series"
            ),
        );
    }
    for (count, what) in [
        (
            view.samples_without_series,
            "samples of series that no readable record names",
        ),
        (
            view.exemplars_without_sample,
            "exemplars that stand beside no sample",
        ),
        (
            view.series_malformed,
            "series with labels that cannot be sent",
        ),
        (
            view.records_malformed,
            "records that break the rules of the format",
        ),
        (
            view.records_unknown,
            "records of types that this release does not know",
        ),
    ] {
        if count > 0 {
            line(out, &format!("left out: {count} {what}"));
        }
    }
    for missing in &view.segments_missing {
        line(out, &format!("missing: segments {missing}"));
    }
    for place in &view.damage {
        let PlaceView {
            file,
            from,
            to,
            kind,
        } = place;
        line(
            out,
            &format!("damaged: {file}, bytes {from} to {to}: {kind}; the rest was read"),
        );
    }
    if !view.sent {
        line(out, "nothing was sent: leave --dry-run out to do it");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_where_each_target_stands() {
        let data = serde_json::json!({"resultType": "vector", "result": [
            {"metric": {"job": "a", "instance": "h:1"}, "value": [9, "1700000000.5"]},
            {"metric": {}, "value": [9, "1"]},
        ]});
        let newest = newest_ms(&data).unwrap();
        assert_eq!(
            newest[&("a".to_owned(), "h:1".to_owned())],
            1_700_000_000_500
        );
        assert_eq!(newest[&(String::new(), String::new())], 1_000);
        assert_eq!(newest_ms(&serde_json::json!({"result": "no"})), None);
        assert_eq!(
            newest_ms(&serde_json::json!({"result": [{"value": [1, "x"]}]})),
            None
        );
    }
}
