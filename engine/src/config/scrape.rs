//! `scrape_configs[]` -> jobs, with the defaults of `global` filled in.

use super::global::{self, *};
use super::model::NATIVE_SCHEMAS;
use super::section::{Fields, HTTP_CLIENT, Problems, Section, key, not_supported};
use super::yaml::{At, Node, Value};
use super::{ScrapeConfig, ScrapeRules, StaticConfig, clustering, discovery, relabel};
use std::path::Path;
use std::sync::Arc;

/// `scrape_configs[]`.
pub(crate) const SCRAPE: Section = Section {
    path: "scrape_configs[]",
    keys: &[
        key(
            "job_name",
            "text",
            "required",
            "Label `job`; unique in the file.",
        ),
        key(
            "scrape_interval",
            "duration",
            "as `global`",
            "Time between two scrapes of a target.",
        ),
        key(
            "scrape_timeout",
            "duration",
            "as `global`, at most the interval",
            "Time that a scrape may take, from connecting to the last byte.",
        ),
        key("scrape_protocols", "list", "as `global`", PROTOCOLS),
        key(
            "fallback_scrape_protocol",
            "one of the formats",
            "none: such a scrape fails",
            "How to read a response whose Content-Type is missing or unknown.",
        ),
        key(
            "metrics_path",
            "path",
            "`/metrics`",
            "Label `__metrics_path__`: path of the URL.",
        ),
        key("scheme", "`http`", "`http`", "Label `__scheme__`."),
        key(
            "params",
            "mapping of lists",
            "none",
            "Query parameters of the URL.",
        ),
        key(
            "honor_labels",
            "true or false",
            "false",
            "Whether an exposed label wins over a target's; else it is renamed `exported_...`.",
        ),
        key(
            "honor_timestamps",
            "true or false",
            "true",
            "Whether exposed timestamps are kept.",
        ),
        key(
            "track_timestamps_staleness",
            "true or false",
            "false",
            "Whether series with exposed timestamps get staleness markers.",
        ),
        key(
            "enable_compression",
            "true or false",
            "true",
            "Whether gzip is offered.",
        ),
        key(
            "follow_redirects",
            "true or false",
            "true",
            "Whether redirects are followed.",
        ),
        key(
            "enable_http2",
            "true or false",
            "true",
            "No effect: HTTP/2 needs TLS.",
        ),
        key("body_size_limit", "size", "as `global`", LIMIT_BODY),
        key("sample_limit", "count", "as `global`", LIMIT_SAMPLES),
        key("target_limit", "count", "as `global`", LIMIT_TARGETS),
        key("label_limit", "count", "as `global`", LIMIT_LABELS),
        key(
            "label_name_length_limit",
            "bytes",
            "as `global`",
            LIMIT_NAMES,
        ),
        key(
            "label_value_length_limit",
            "bytes",
            "as `global`",
            LIMIT_VALUES,
        ),
        key("keep_dropped_targets", "count", "as `global`", KEEP_DROPPED),
        key(
            "extra_scrape_metrics",
            "true or false",
            "as `global`",
            EXTRA_METRICS,
        ),
        key(
            "metric_name_validation_scheme",
            "`utf8`",
            "`utf8`",
            "Only the default.",
        ),
        key(
            "metric_name_escaping_scheme",
            "`allow-utf-8`",
            "`allow-utf-8`",
            "Only the default.",
        ),
        key(
            "scrape_native_histograms",
            "true or false",
            "as `global`",
            NATIVE,
        ),
        key(
            "always_scrape_classic_histograms",
            "true or false",
            "as `global`",
            ALWAYS_CLASSIC,
        ),
        key(
            "convert_classic_histograms_to_nhcb",
            "`false`",
            "false",
            "Only the default.",
        ),
        key(
            "native_histogram_bucket_limit",
            "count",
            "0 = none",
            "A native histogram with more buckets is made coarser; the scrape fails if the coarsest \
             form has more.",
        ),
        key(
            "native_histogram_min_bucket_factor",
            "number",
            "0 = none",
            "A native histogram whose buckets grow by a smaller factor is made coarser.",
        ),
        key(
            "clustering",
            "mapping",
            "enabled",
            "How the nodes of a cluster share the job's targets.",
        ),
        key("static_configs", "list", "none", "Targets given here."),
        key(
            "file_sd_configs",
            "list",
            "none",
            "Targets read from files.",
        ),
        key(
            "http_sd_configs",
            "list",
            "none",
            "Targets asked for over HTTP.",
        ),
        key(
            "relabel_configs",
            "list of rules",
            "none",
            "Change or drop targets.",
        ),
        key(
            "metric_relabel_configs",
            "list of rules",
            "none",
            "Change or drop scraped series.",
        ),
    ],
    unsupported: &[
        HTTP_CLIENT,
        discovery::OTHER_KINDS,
        &["scrape_failure_log_file"],
    ],
};

/// `static_configs[]`.
pub(crate) const STATIC: Section = Section {
    path: "static_configs[]",
    keys: &[
        key(
            "targets",
            "list of `host:port`",
            "none",
            "Label `__address__`, one target each.",
        ),
        key(
            "labels",
            "mapping of texts",
            "none",
            "Labels of all these targets.",
        ),
    ],
    unsupported: &[],
};

/// Reads all jobs. `folder`: where relative paths start.
pub(crate) fn read(file: &Fields<'_>, global: &Global, folder: &Path) -> Vec<Arc<ScrapeConfig>> {
    let mut jobs = Vec::<Arc<ScrapeConfig>>::new();
    let mut names = Vec::<(&str, At)>::new();
    for node in file.list("scrape_configs").unwrap_or_default() {
        if matches!(node.value, Value::Null) {
            file.problems
                .add(node.at, "empty entry in `scrape_configs`");
            continue;
        }
        let fields = Fields::new(node, &SCRAPE, file.problems);
        let name = fields.text("job_name").unwrap_or_default();
        if name.is_empty() {
            fields.refuse("job_name", "`job_name` is missing or empty");
        } else if let Some((_, at)) = names.iter().find(|(have, _)| *have == name) {
            let message = format!("job name {name:?} is taken by the job at line {}", at.line);
            fields.refuse("job_name", message);
        }
        names.push((name, fields.at("job_name")));
        let mut job = job(&fields, name, global, folder);
        // Jobs that treat samples equally share what is derived from them.
        if let Some(same) = jobs.iter().find(|have| have.rules == job.rules) {
            job.rules = same.rules.clone();
        }
        jobs.push(Arc::new(job));
    }
    jobs
}

fn job(fields: &Fields<'_>, name: &str, global: &Global, folder: &Path) -> ScrapeConfig {
    let given = |name| fields.duration_ms(name).filter(|ms| *ms > 0);
    let scrape_interval_ms = given("scrape_interval").unwrap_or(global.scrape_interval_ms);
    let timeout = global::timeout(fields, given("scrape_timeout"), scrape_interval_ms);
    if fields.text("scheme") == Some("https") {
        fields.refuse("scheme", not_supported("`scheme: https`"));
    } else {
        fields.choice("scheme", &[((), "http")]);
    }
    fields.flag("enable_http2");
    global::refuse_schemes(fields);
    let limits = Limits::read(fields).or(global.limits);
    let relabel_configs = relabel::rules(fields, "relabel_configs");
    let clustering = clustering::read(fields);
    ScrapeConfig {
        job_name: name.to_owned(),
        scrape_interval_ms,
        scrape_timeout_ms: timeout.unwrap_or(global.scrape_timeout_ms.min(scrape_interval_ms)),
        metrics_path: fields.text("metrics_path").unwrap_or("/metrics").to_owned(),
        scheme: "http".to_owned(),
        params: params(fields),
        rules: Arc::new(rules(fields, global, limits)),
        target_limit: limits.targets,
        keep_dropped_targets: limits.dropped_targets,
        is_clustered: clustering.is_enabled,
        key_labels: clustering.key_labels,
        replication_factor: clustering.factor,
        replica_label: clustering.replica_label,
        static_configs: static_configs(fields, relabel_configs.is_empty()),
        relabel_configs,
        file_sd_configs: discovery::file_sd_configs(fields, folder),
        http_sd_configs: discovery::http_sd_configs(fields),
        unit: None,
        unit_version: 0,
        interval_min_ms: 0,
    }
}

fn rules(fields: &Fields<'_>, global: &Global, limits: Limits) -> ScrapeRules {
    let default = ScrapeRules::default();
    let flag = |name, default| fields.flag(name).unwrap_or(default);
    let fallback = fields
        .text("fallback_scrape_protocol")
        .filter(|name| !name.is_empty());
    let native = flag("scrape_native_histograms", global.scrape_native_histograms);
    let offered = protocols(fields).or_else(|| global.scrape_protocols.clone());
    ScrapeRules {
        honor_labels: flag("honor_labels", default.honor_labels),
        honor_timestamps: flag("honor_timestamps", default.honor_timestamps),
        track_timestamps_staleness: flag(
            "track_timestamps_staleness",
            default.track_timestamps_staleness,
        ),
        metric_relabel_configs: relabel::rules(fields, "metric_relabel_configs"),
        sample_limit: limits.samples,
        label_limit: limits.labels,
        label_name_length_limit: limits.label_name_bytes,
        label_value_length_limit: limits.label_value_bytes,
        body_size_limit_bytes: limits.body_size_bytes,
        extra_scrape_metrics: flag("extra_scrape_metrics", global.extra_scrape_metrics),
        enable_compression: flag("enable_compression", default.enable_compression),
        follow_redirects: flag("follow_redirects", default.follow_redirects),
        scrape_protocols: offered.unwrap_or_else(|| protocols_default(native)),
        scrape_native_histograms: native,
        always_scrape_classic_histograms: flag(
            "always_scrape_classic_histograms",
            global.always_scrape_classic_histograms,
        ),
        native_histogram_bucket_limit: fields.count("native_histogram_bucket_limit").unwrap_or(0),
        native_histogram_schema_max: fields
            .number("native_histogram_min_bucket_factor")
            .map_or(default.native_histogram_schema_max, schema_max),
        networks: None,
        fallback_scrape_protocol: fallback.and_then(|name| match protocol(name) {
            Ok(protocol) => Some(protocol),
            Err(cause) => {
                let message = format!("`fallback_scrape_protocol`: {cause}");
                fields.refuse("fallback_scrape_protocol", message);
                None
            }
        }),
    }
}

/// The finest schema whose buckets grow by `bucket_factor` at least.
/// Source: Prometheus scrape/scrape.go, `pickSchema`.
fn schema_max(bucket_factor: f64) -> i32 {
    let (coarsest, finest) = (*NATIVE_SCHEMAS.start(), *NATIVE_SCHEMAS.end());
    // Just above the factor of the finest, 2^(2^-8).
    let factor = if bucket_factor <= 1.0 {
        1.00271
    } else {
        bucket_factor
    };
    let schema = (-factor.log2().log2()).floor();
    (schema as i32).clamp(coarsest, finest)
}

fn params(fields: &Fields<'_>) -> Vec<(String, Vec<String>)> {
    let mut params = Vec::new();
    for entry in fields.map("params") {
        match &entry.node.value {
            Value::Null => {}
            Value::List(items) => {
                let values = super::section::texts("params", items, fields.problems);
                params.push((entry.key.clone(), values));
            }
            _ => {
                let found = entry.node.describe();
                let message = format!("`params`: {:?} must be a list, not {found}", entry.key);
                fields.problems.add(entry.node.at, message);
            }
        }
    }
    params.sort();
    params
}

fn static_configs(fields: &Fields<'_>, check_addresses: bool) -> Vec<StaticConfig> {
    let groups = fields.list("static_configs").unwrap_or_default();
    groups
        .iter()
        .map(|node| static_config(node, check_addresses, fields.problems))
        .collect()
}

fn static_config(node: &Node, check_addresses: bool, problems: &Problems) -> StaticConfig {
    let fields = Fields::new(node, &STATIC, problems);
    for item in fields.list("targets").unwrap_or_default() {
        if let Value::Text(address) = &item.value
            && check_addresses
            && address.contains('/')
        {
            let message = format!(
                "target {address:?} is not a `host:port`: give the path as `metrics_path`, or \
                 take it apart in `relabel_configs`"
            );
            problems.add(item.at, message);
        }
    }
    StaticConfig {
        targets: fields.texts("targets").unwrap_or_default(),
        labels: fields.labels("labels", str::to_owned),
    }
}
