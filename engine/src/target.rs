//! Discovered target groups + a job's settings -> the targets to scrape, the dropped and the
//! failed.
//!
//! Source: Prometheus scrape/target.go, `PopulateLabels`, `TargetsFromGroup` and `Target.URL`;
//! scrape/scrape.go, `scrapePool.Sync`. The order of steps is theirs: rules can tell.

#[cfg(test)]
mod tests;
mod url;

pub use url::TargetUrl;

use crate::config::{KeyLabels, ScrapeConfig, format_duration, parse_duration_ms};
use crate::discovery::TargetGroup;
use crate::labels::{Labels, LabelsBuilder};
use crate::relabel::Verdict;
use ringscrape_cluster::member::{JobId, ZoneId};
use ringscrape_cluster::{Replica, Slots, Spot, TargetKey};
use std::collections::HashSet;
use std::sync::Arc;

/// Something to scrape. Immutable: a change of labels or settings is another target.
#[derive(Debug, Clone)]
pub struct Target {
    /// Stable hash of job, final labels and URL; unique among the targets of a job.
    pub key: TargetKey,
    /// The same without the label that tells replicas apart: they have it in common, and their
    /// slots follow from it.
    pub common_key: TargetKey,
    /// Its job's number in a cluster.
    pub job: JobId,
    /// What decides in a cluster which node scrapes it. Its place is the same as the common key, or
    /// a hash of the labels that the job names, or one that all targets of a configuration have in
    /// common.
    pub spot: Spot,
    /// The name of the zone that it is in; empty = none.
    pub zone_name: Box<str>,
    /// The job's settings.
    pub scrape_config: Arc<ScrapeConfig>,
    /// Final labels: what samples get. No name begins with `__`, but for that of replicas if the
    /// job says so.
    pub labels: Labels,
    /// Labels before `relabel_configs`.
    pub discovered: Labels,
    /// Where to ask.
    pub url: TargetUrl,
    /// The same as one text, as Prometheus shows it.
    pub scrape_url: String,
    /// Time between two scrapes; at least 1.
    pub interval_ms: u64,
    /// Time that a scrape may take; at least 1, at most the interval.
    pub timeout_ms: u64,
    /// If set, the target can't be asked: each of its scrapes fails with this reason, without a
    /// connection, so that `up` is 0 as with any other failure.
    pub blocked: Option<String>,
}

impl Target {
    /// Whether it stays with all other targets of its configuration.
    pub fn is_of_unit(&self) -> bool {
        self.scrape_config.unit.is_some()
    }

    /// When it is scraped.
    pub fn slots(&self) -> Slots {
        Slots::of_replica(self.common_key, self.interval_ms, self.spot.replica)
    }

    /// Another replica of the same target.
    fn with_replica(&self, replica: Replica) -> Self {
        let label = (
            &*self.scrape_config.replica_label,
            replica.index.to_string(),
        );
        let mut labels = LabelsBuilder::from(&self.labels);
        labels.set_text(label.0, &label.1);
        let labels = labels.into_labels();
        let job = &self.scrape_config.job_name;
        Self {
            key: TargetKey::new(job, &self.scrape_url, labels.iter()),
            spot: Spot::new(self.spot.place(), self.spot.zone, replica),
            labels,
            ..self.clone()
        }
    }
}

/// What a job's groups amount to.
#[derive(Debug, Default)]
pub struct JobTargets {
    /// In the order of the groups, all replicas of a target together; keys are unique.
    pub targets: Vec<Arc<Target>>,
    /// Discovered labels of targets that `relabel_configs` dropped, at most
    /// `keep_dropped_targets` of them (0 = all).
    pub dropped: Vec<Labels>,
    /// How many were dropped.
    pub dropped_count: u64,
    /// Targets whose labels are no target, at most [`FAILED_KEPT_MAX`] of them.
    pub failed: Vec<FailedTarget>,
    /// How many failed.
    pub failed_count: u64,
    /// How many were left out because another one has the same final labels and URL.
    pub duplicate_count: u64,
    /// There are more targets than `target_limit` allows: each scrape must fail.
    pub target_limit_exceeded: bool,
}

/// A target that can't be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedTarget {
    /// The group that it came from.
    pub source: String,
    /// Labels before `relabel_configs`.
    pub discovered: Labels,
    /// What is wrong.
    pub reason: String,
}

/// Failed targets of a job that are kept to be shown.
pub const FAILED_KEPT_MAX: usize = 1000;

const ADDRESS: &str = "__address__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const METRICS_PATH: &str = "__metrics_path__";
const SCHEME: &str = "__scheme__";
const PARAM_PREFIX: &str = "__param_";
const META_PREFIX: &str = "__meta_";
const RESERVED_PREFIX: &str = "__";
/// Label of the zone; rules may set it.
const ZONE: &str = "__zone__";
const UNIX_SOCKET: &str = "__unix_socket__";

/// Builds the targets of one job from all its groups.
pub fn targets(config: &Arc<ScrapeConfig>, groups: &[Arc<TargetGroup>]) -> JobTargets {
    let mut result = JobTargets::default();
    let mut keys = HashSet::<TargetKey>::new();
    let keep_dropped = match config.keep_dropped_targets {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    for group in groups {
        for own in &group.targets {
            match populate(config, own, &group.labels) {
                Populated::Target(target) => {
                    // The key stands for labels and URL: two that differ in these and share a key
                    // could not both run, and one pair in 2^64 does.
                    if !keys.insert(target.common_key) {
                        result.duplicate_count += 1;
                        continue;
                    }
                    if config.replica_label.is_empty() {
                        result.targets.push(Arc::new(*target));
                        continue;
                    }
                    for replica in Replica::of(config.replication_factor) {
                        result.targets.push(Arc::new(target.with_replica(replica)));
                    }
                }
                Populated::Dropped(discovered) => {
                    result.dropped_count += 1;
                    if result.dropped.len() < keep_dropped {
                        result.dropped.push(discovered);
                    }
                }
                Populated::Failed(discovered, reason) => {
                    result.failed_count += 1;
                    if result.failed.len() < FAILED_KEPT_MAX {
                        let source = group.source.clone();
                        result.failed.push(FailedTarget {
                            source,
                            discovered,
                            reason,
                        });
                    }
                }
            }
        }
    }
    result.target_limit_exceeded =
        config.target_limit > 0 && keys.len() as u64 > config.target_limit;
    result
}

enum Populated {
    Target(Box<Target>),
    Dropped(Labels),
    Failed(Labels, String),
}

fn populate(config: &Arc<ScrapeConfig>, own: &Labels, group: &Labels) -> Populated {
    let mut labels = discovered_labels(config, own, group);
    let discovered = labels.clone().into_labels();
    if config.relabel_configs.apply(&mut labels) == Verdict::Drop {
        return Populated::Dropped(discovered);
    }
    match build(config, labels, &discovered) {
        Ok(target) => Populated::Target(Box::new(target)),
        Err(reason) => Populated::Failed(discovered, reason),
    }
}

/// A target's own labels, then its group's, then what the job sets where they don't.
fn discovered_labels(config: &ScrapeConfig, own: &Labels, group: &Labels) -> LabelsBuilder {
    let mut labels = LabelsBuilder::from(group);
    for (name, value) in own.iter() {
        labels.set_text(name, value);
    }
    let mut default = |name: &str, value: &str| {
        if labels.get(name).is_none() {
            labels.set_text(name, value);
        }
    };
    default("job", &config.job_name);
    default(INTERVAL, &format_duration(config.scrape_interval_ms));
    default(TIMEOUT, &format_duration(config.scrape_timeout_ms));
    default(METRICS_PATH, &config.metrics_path);
    default(SCHEME, &config.scheme);
    default("__convert_classic_histograms_to_nhcb__", "false");
    let word = |flag| if flag { "true" } else { "false" };
    let rules = &config.rules;
    let classic = word(rules.always_scrape_classic_histograms);
    default("__always_scrape_classic_histograms__", classic);
    let native = word(rules.scrape_native_histograms);
    default("__scrape_native_histograms__", native);
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            default(&format!("{PARAM_PREFIX}{name}"), first);
        }
    }
    labels
}

/// After relabelling: checks, URL, final labels.
fn build(
    config: &Arc<ScrapeConfig>,
    mut labels: LabelsBuilder,
    discovered: &Labels,
) -> Result<Target, String> {
    let address = labels.text(ADDRESS).to_owned();
    if address.is_empty() {
        return Err("no address: `__address__` is empty after relabel_configs".into());
    }
    if address.contains('/') {
        return Err(format!(
            "address {address:?} is not a `host:port`: it holds a \"/\""
        ));
    }
    let interval_ms = duration(&labels, INTERVAL)?;
    if interval_ms < config.interval_min_ms {
        return Err(format!(
            "scrape interval {} is shorter than the job's least, {}",
            labels.text(INTERVAL),
            format_duration(config.interval_min_ms)
        ));
    }
    let timeout_ms = duration(&labels, TIMEOUT)?;
    if timeout_ms > interval_ms {
        let (timeout, interval) = (labels.text(TIMEOUT), labels.text(INTERVAL));
        return Err(format!(
            "scrape timeout {timeout} is longer than the scrape interval {interval}"
        ));
    }
    labels.retain(|name| !name.starts_with(META_PREFIX));
    if labels.get("instance").is_none() {
        labels.set_text("instance", &address);
    }
    let query = url::encode_query(&query(config, &labels));
    let scheme = labels.text(SCHEME).to_owned();
    let (url, mut blocked) = TargetUrl::new(&scheme, &address, labels.text(METRICS_PATH), &query);
    if labels.get(UNIX_SOCKET).is_some() {
        blocked = Some("`__unix_socket__` is not supported by this version of ringscrape".into());
    }
    let scrape_url = url::display(&scheme, &address, labels.text(METRICS_PATH), &query);
    let zone_name = Box::<str>::from(labels.text(ZONE));
    labels.retain(|name| !name.starts_with(RESERVED_PREFIX));
    // Each replica has its own value.
    labels.retain(|name| name != config.replica_label);
    let labels = labels.into_labels();
    let key = TargetKey::new(&config.job_name, &scrape_url, labels.iter());
    Ok(Target {
        key,
        common_key: key,
        job: JobId::new(&config.job_name),
        spot: Spot::new(
            place(config, &scrape_url, &labels, key),
            match config.unit {
                // All of them stay together, wherever they are.
                Some(_) => ZoneId::NONE,
                None => ZoneId::new(&zone_name),
            },
            Replica::ONLY,
        ),
        zone_name,
        scrape_config: config.clone(),
        labels,
        discovered: discovered.clone(),
        url,
        scrape_url,
        interval_ms,
        timeout_ms,
        blocked,
    })
}

/// What decides in a cluster which node scrapes a target.
fn place(config: &ScrapeConfig, url: &str, labels: &Labels, key: TargetKey) -> TargetKey {
    let some = |names: &[String], are_meant: bool| {
        let has = |name: &str| names.binary_search_by(|have| (**have).cmp(name)).is_ok();
        let labels = labels.iter().filter(|(name, _)| has(name) == are_meant);
        labels.collect::<Vec<_>>()
    };
    if let Some(unit) = config.unit {
        return unit;
    }
    match &config.key_labels {
        KeyLabels::All => key,
        KeyLabels::Only(names) => TargetKey::new(&config.job_name, "", some(names, true)),
        KeyLabels::Without(names) => TargetKey::new(&config.job_name, url, some(names, false)),
    }
}

fn duration(labels: &LabelsBuilder, name: &str) -> Result<u64, String> {
    let text = labels.text(name);
    match parse_duration_ms(text) {
        None => Err(format!(
            "label `{name}`: {text:?} is not a duration such as 15s or 1m30s"
        )),
        Some(0) => Err(format!("label `{name}` must not be 0")),
        Some(ms) => Ok(ms),
    }
}

/// The job's `params`, the first value of each replaced by the label `__param_NAME`.
fn query(config: &ScrapeConfig, labels: &LabelsBuilder) -> Vec<(String, Vec<String>)> {
    let mut params = config.params.clone();
    for (label, _) in labels.iter() {
        let Some(name) = label.strip_prefix(PARAM_PREFIX) else {
            continue;
        };
        let value = labels.text(label).to_owned();
        match params.iter_mut().find(|(have, _)| have == name) {
            Some((_, values)) => match values.first_mut() {
                Some(first) => *first = value,
                None => values.push(value),
            },
            None => params.push((name.to_owned(), vec![value])),
        }
    }
    params.sort_by(|a, b| a.0.cmp(&b.0));
    params
}
