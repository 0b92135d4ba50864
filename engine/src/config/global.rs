//! The file's outermost mapping and `global` -> defaults for all jobs.

use super::expand::expand;
use super::section::{Fields, Section, key, one_of, pick};
use super::yaml::Value;
use super::{ScrapeProtocol, ScrapeRules};
use crate::labels::Labels;

/// The file itself.
pub(crate) const FILE: Section = Section {
    path: "configuration file",
    keys: &[
        key(
            "global",
            "mapping",
            "none",
            "Defaults for all jobs, and labels for all series.",
        ),
        key(
            "scrape_configs",
            "list",
            "none",
            "What to scrape: one entry per job.",
        ),
        key(
            "remote_write",
            "list",
            "none",
            "Where to send to; may be empty.",
        ),
        key(
            "scraping_service",
            "mapping",
            "none",
            "Jobs and endpoints from a store that all nodes share, changed through the API.",
        ),
    ],
    unsupported: &[&[
        "alerting",
        "otlp",
        "remote_read",
        "rule_files",
        "runtime",
        "scrape_config_files",
        "storage",
        "tracing",
    ]],
};

/// `global`.
pub(crate) const GLOBAL: Section = Section {
    path: "global",
    keys: &[
        key(
            "scrape_interval",
            "duration",
            "1m",
            "Time between two scrapes of a target.",
        ),
        key(
            "scrape_timeout",
            "duration",
            "10s, at most the interval",
            "Time that a scrape may take, from connecting to the last byte.",
        ),
        key(
            "evaluation_interval",
            "duration",
            "1m",
            "No effect: there are no rules to evaluate.",
        ),
        key(
            "external_labels",
            "mapping of texts",
            "none",
            "Added when sending, to series that lack the name; `$VAR` and `${VAR}` are replaced \
             by environment variables, `$$` by `$`.",
        ),
        key("scrape_protocols", "list", PROTOCOLS_DEFAULT, PROTOCOLS),
        key("body_size_limit", "size", "0 = none", LIMIT_BODY),
        key("sample_limit", "count", "0 = none", LIMIT_SAMPLES),
        key("target_limit", "count", "0 = none", LIMIT_TARGETS),
        key("label_limit", "count", "0 = none", LIMIT_LABELS),
        key("label_name_length_limit", "bytes", "0 = none", LIMIT_NAMES),
        key(
            "label_value_length_limit",
            "bytes",
            "0 = none",
            LIMIT_VALUES,
        ),
        key("keep_dropped_targets", "count", "0 = all", KEEP_DROPPED),
        key(
            "extra_scrape_metrics",
            "true or false",
            "false",
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
        key("scrape_native_histograms", "true or false", "false", NATIVE),
        key(
            "always_scrape_classic_histograms",
            "true or false",
            "false",
            ALWAYS_CLASSIC,
        ),
        key(
            "convert_classic_histograms_to_nhcb",
            "`false`",
            "false",
            "Only the default.",
        ),
    ],
    unsupported: &[&[
        "query_log_file",
        "rule_query_offset",
        "scrape_failure_log_file",
    ]],
};

pub(crate) const PROTOCOLS_DEFAULT: &str = "`OpenMetricsText1.0.0`, `OpenMetricsText0.0.1`, \
                                            `PrometheusText1.0.0`, `PrometheusText0.0.4`";
pub(crate) const PROTOCOLS: &str = "Formats offered, best first. If no list is given, \
                                    `scrape_native_histograms` puts `PrometheusProto` first.";
pub(crate) const NATIVE: &str = "Whether native histograms are read, from `PrometheusProto`; their \
                                 classic buckets are not, then.";
pub(crate) const ALWAYS_CLASSIC: &str =
    "Whether classic buckets are read also of histograms that have native ones.";
pub(crate) const LIMIT_BODY: &str = "A scrape whose uncompressed body reaches this size fails.";
pub(crate) const LIMIT_SAMPLES: &str =
    "A scrape with more samples after `metric_relabel_configs` fails.";
pub(crate) const LIMIT_TARGETS: &str =
    "With more targets after `relabel_configs` every scrape of the job fails.";
pub(crate) const LIMIT_LABELS: &str =
    "A scrape with a sample of more labels, the name included, fails.";
pub(crate) const LIMIT_NAMES: &str = "A scrape with a longer label name fails.";
pub(crate) const LIMIT_VALUES: &str = "A scrape with a longer label value fails.";
pub(crate) const KEEP_DROPPED: &str =
    "How many targets dropped by `relabel_configs` are kept to be shown.";
pub(crate) const EXTRA_METRICS: &str = "Writes `scrape_timeout_seconds`, `scrape_sample_limit` \
                                        and `scrape_body_size_bytes` for each target.";

/// `scrape_interval`, default 1m.
const INTERVAL_MS_DEFAULT: u64 = 60_000;
/// `scrape_timeout`, default 10s.
const TIMEOUT_MS_DEFAULT: u64 = 10_000;

const PROTOCOL_NAMES: [(ScrapeProtocol, &str); 5] = [
    (ScrapeProtocol::OpenMetricsText1_0_0, "OpenMetricsText1.0.0"),
    (ScrapeProtocol::OpenMetricsText0_0_1, "OpenMetricsText0.0.1"),
    (ScrapeProtocol::PrometheusText1_0_0, "PrometheusText1.0.0"),
    (ScrapeProtocol::PrometheusText0_0_4, "PrometheusText0.0.4"),
    (ScrapeProtocol::PrometheusProto, "PrometheusProto"),
];

/// What a job takes from `global` unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Global {
    pub(crate) scrape_interval_ms: u64,
    pub(crate) scrape_timeout_ms: u64,
    pub(crate) external_labels: Labels,
    /// If given.
    pub(crate) scrape_protocols: Option<Vec<ScrapeProtocol>>,
    pub(crate) scrape_native_histograms: bool,
    pub(crate) always_scrape_classic_histograms: bool,
    pub(crate) limits: Limits,
    pub(crate) extra_scrape_metrics: bool,
}

/// The limits that `global` and jobs have in common; 0 = none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) body_size_bytes: u64,
    pub(crate) samples: u64,
    pub(crate) targets: u64,
    pub(crate) labels: u64,
    pub(crate) label_name_bytes: u64,
    pub(crate) label_value_bytes: u64,
    pub(crate) dropped_targets: u64,
}

impl Limits {
    pub(crate) fn read(fields: &Fields<'_>) -> Self {
        let count = |name| fields.count(name).unwrap_or(0);
        Self {
            body_size_bytes: fields.size_bytes("body_size_limit").unwrap_or(0),
            samples: count("sample_limit"),
            targets: count("target_limit"),
            labels: count("label_limit"),
            label_name_bytes: count("label_name_length_limit"),
            label_value_bytes: count("label_value_length_limit"),
            dropped_targets: count("keep_dropped_targets"),
        }
    }

    /// A limit of 0 takes the value of `global`.
    pub(crate) fn or(self, global: Self) -> Self {
        let or = |own, global| if own == 0 { global } else { own };
        Self {
            body_size_bytes: or(self.body_size_bytes, global.body_size_bytes),
            samples: or(self.samples, global.samples),
            targets: or(self.targets, global.targets),
            labels: or(self.labels, global.labels),
            label_name_bytes: or(self.label_name_bytes, global.label_name_bytes),
            label_value_bytes: or(self.label_value_bytes, global.label_value_bytes),
            dropped_targets: or(self.dropped_targets, global.dropped_targets),
        }
    }
}

/// Reads `global`. `variable` looks up an environment variable.
pub(crate) fn read(fields: &Fields<'_>, variable: &dyn Fn(&str) -> Option<String>) -> Global {
    let given = |name| fields.duration_ms(name).filter(|ms| *ms > 0);
    let scrape_interval_ms = given("scrape_interval").unwrap_or(INTERVAL_MS_DEFAULT);
    let scrape_timeout_ms = timeout(fields, given("scrape_timeout"), scrape_interval_ms);
    fields.duration_ms("evaluation_interval");
    refuse_schemes(fields);
    let default = ScrapeRules::default();
    let flag = |name, default| fields.flag(name).unwrap_or(default);
    let extra = fields.flag("extra_scrape_metrics");
    Global {
        scrape_interval_ms,
        scrape_timeout_ms: scrape_timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT.min(scrape_interval_ms)),
        external_labels: fields.labels("external_labels", |value| expand(value, variable)),
        scrape_protocols: protocols(fields),
        scrape_native_histograms: flag(
            "scrape_native_histograms",
            default.scrape_native_histograms,
        ),
        always_scrape_classic_histograms: flag(
            "always_scrape_classic_histograms",
            default.always_scrape_classic_histograms,
        ),
        limits: Limits::read(fields),
        extra_scrape_metrics: extra.unwrap_or(default.extra_scrape_metrics),
    }
}

/// The timeout given; notes one that is longer than the interval.
pub(crate) fn timeout(fields: &Fields<'_>, given: Option<u64>, interval_ms: u64) -> Option<u64> {
    let timeout_ms = given?;
    if timeout_ms > interval_ms {
        let (timeout, interval) = (
            super::format_duration(timeout_ms),
            super::format_duration(interval_ms),
        );
        let message =
            format!("`scrape_timeout` {timeout} is longer than the scrape interval, {interval}");
        fields.refuse("scrape_timeout", message);
    }
    Some(timeout_ms)
}

/// Settings whose other values need another naming scheme or histograms with bounds of their own.
pub(crate) fn refuse_schemes(fields: &Fields<'_>) {
    fields.only("metric_name_validation_scheme", &["utf8", ""]);
    fields.only("metric_name_escaping_scheme", &["allow-utf-8", ""]);
    fields.only("convert_classic_histograms_to_nhcb", &["false"]);
}

/// `scrape_protocols`, if given.
pub(crate) fn protocols(fields: &Fields<'_>) -> Option<Vec<ScrapeProtocol>> {
    let items = fields.list("scrape_protocols")?;
    let mut protocols = Vec::new();
    for item in items {
        let text = match &item.value {
            Value::Text(text) => text.as_str(),
            _ => "",
        };
        match protocol(text) {
            Ok(protocol) if protocols.contains(&protocol) => {
                let message = format!("`scrape_protocols`: {text} is there twice");
                fields.problems.add(item.at, message);
            }
            Ok(protocol) => protocols.push(protocol),
            Err(cause) => {
                fields
                    .problems
                    .add(item.at, format!("`scrape_protocols`: {cause}"));
            }
        }
    }
    if items.is_empty() {
        fields.refuse(
            "scrape_protocols",
            "`scrape_protocols` is empty; leave it out or fill it",
        );
    }
    Some(protocols)
}

/// What is offered where no list is given.
pub(crate) fn protocols_default(native_histograms: bool) -> Vec<ScrapeProtocol> {
    let first = native_histograms.then_some(ScrapeProtocol::PrometheusProto);
    let others = ScrapeRules::default().scrape_protocols;
    first.into_iter().chain(others).collect()
}

/// A format by name.
pub(crate) fn protocol(name: &str) -> Result<ScrapeProtocol, String> {
    pick(name, &PROTOCOL_NAMES).ok_or_else(|| {
        let allowed = one_of(PROTOCOL_NAMES.iter().map(|(_, name)| *name));
        format!("{name:?} is not allowed here; give {allowed}")
    })
}
