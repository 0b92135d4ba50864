//! The validated configuration: what the rest of the engine reads. Defaults are filled in.

use super::Global;
use crate::labels::Labels;
use crate::relabel::Rules;
use crate::service::settings::{Networks, ServiceSettings};
use ringscrape_cluster::TargetKey;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// One configuration file, read and validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// In file order; job names are unique.
    pub scrape_configs: Vec<Arc<ScrapeConfig>>,
    /// In file order; identities are unique (equal settings are one endpoint).
    pub remote_write: Vec<Arc<Endpoint>>,
    /// `global.external_labels`.
    pub external_labels: Labels,
    /// `scraping_service`, if it is enabled.
    pub scraping_service: Option<Arc<ServiceSettings>>,
    /// `global`.
    pub(crate) defaults: Global,
}

/// One job: `scrape_configs[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeConfig {
    /// `job_name`.
    pub job_name: String,
    /// `scrape_interval`, default 1m; at least 1 ms.
    pub scrape_interval_ms: u64,
    /// `scrape_timeout`, default 10s, capped to the interval if only the global one is longer.
    pub scrape_timeout_ms: u64,
    /// `metrics_path`, default `/metrics`.
    pub metrics_path: String,
    /// `scheme`: `http`.
    pub scheme: String,
    /// `params`, sorted by key.
    pub params: Vec<(String, Vec<String>)>,
    /// What the scraper does with exposed text.
    pub rules: Arc<ScrapeRules>,
    /// `target_limit`; 0 = none. Over it every target of the job fails.
    pub target_limit: u64,
    /// `keep_dropped_targets`; 0 = no bound.
    pub keep_dropped_targets: u64,
    /// `clustering.enabled`, default true: in a cluster, each target is one node's.
    pub is_clustered: bool,
    /// `clustering.key_labels` or `clustering.exclude_labels`.
    pub key_labels: KeyLabels,
    /// `clustering.replication_factor`, default 1, at most 8: how many nodes scrape a target.
    pub replication_factor: u8,
    /// `clustering.replica_label`; empty = none.
    pub replica_label: String,
    /// `relabel_configs`.
    pub relabel_configs: Rules,
    /// `static_configs`.
    pub static_configs: Vec<StaticConfig>,
    /// `file_sd_configs`.
    pub file_sd_configs: Vec<FileSdConfig>,
    /// `http_sd_configs`.
    pub http_sd_configs: Vec<HttpSdConfig>,
    /// If set, one node of a cluster has all targets: the one that owns this key.
    pub unit: Option<TargetKey>,
    /// If so, a hash of that configuration's text: its jobs change together. Else 0.
    pub unit_version: u64,
    /// Targets with a shorter interval are not scraped; 0 = any may be.
    pub interval_min_ms: u64,
}

/// What decides which node of a cluster scrapes a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeyLabels {
    /// Its URL and all of its labels.
    #[default]
    All,
    /// These labels; sorted.
    Only(Vec<String>),
    /// Its URL and its labels but these; sorted.
    Without(Vec<String>),
}

/// What a scrape does with the response: settings that decide the resulting series. Jobs with
/// equal settings share one `Arc`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ScrapeRules {
    /// `honor_labels`, default false.
    pub honor_labels: bool,
    /// `honor_timestamps`, default true.
    pub honor_timestamps: bool,
    /// `track_timestamps_staleness`, default false.
    pub track_timestamps_staleness: bool,
    /// `metric_relabel_configs`.
    pub metric_relabel_configs: Rules,
    /// `sample_limit`; 0 = none.
    pub sample_limit: u64,
    /// `label_limit`; 0 = none.
    pub label_limit: u64,
    /// `label_name_length_limit` in bytes; 0 = none.
    pub label_name_length_limit: u64,
    /// `label_value_length_limit` in bytes; 0 = none.
    pub label_value_length_limit: u64,
    /// `body_size_limit` in uncompressed bytes; 0 = none. Reaching it fails the scrape.
    pub body_size_limit_bytes: u64,
    /// `extra_scrape_metrics`, default false.
    pub extra_scrape_metrics: bool,
    /// `enable_compression`, default true: offer gzip.
    pub enable_compression: bool,
    /// `follow_redirects`, default true.
    pub follow_redirects: bool,
    /// Content types offered, in order of preference.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// `fallback_scrape_protocol`: for a missing or unknown Content-Type.
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// `scrape_native_histograms`, default false: native buckets are read, where there are any.
    pub scrape_native_histograms: bool,
    /// `always_scrape_classic_histograms`, default false: classic buckets are read also where
    /// there are native ones.
    pub always_scrape_classic_histograms: bool,
    /// `native_histogram_bucket_limit`; 0 = none. A histogram with more is made coarser.
    pub native_histogram_bucket_limit: u64,
    /// The finest schema that `native_histogram_min_bucket_factor` allows, default 8.
    pub native_histogram_schema_max: i32,
    /// Where connections may lead; `None`: anywhere.
    pub networks: Option<Arc<Networks>>,
}

impl ScrapeRules {
    /// Whether the job is of a stored configuration, whose author may not see what its targets say.
    pub(crate) fn is_stored(&self) -> bool {
        self.networks.is_some()
    }
}

/// Schemas of native histograms, from the coarsest to the finest: at schema n the bounds of a
/// bucket are a factor of 2^(2^-n) apart.
pub(crate) const NATIVE_SCHEMAS: RangeInclusive<i32> = -4..=8;

/// The rules of a job that sets none.
impl Default for ScrapeRules {
    fn default() -> Self {
        Self {
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            metric_relabel_configs: Rules::default(),
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            body_size_limit_bytes: 0,
            extra_scrape_metrics: false,
            enable_compression: true,
            follow_redirects: true,
            scrape_protocols: vec![
                ScrapeProtocol::OpenMetricsText1_0_0,
                ScrapeProtocol::OpenMetricsText0_0_1,
                ScrapeProtocol::PrometheusText1_0_0,
                ScrapeProtocol::PrometheusText0_0_4,
            ],
            fallback_scrape_protocol: None,
            scrape_native_histograms: false,
            always_scrape_classic_histograms: false,
            native_histogram_bucket_limit: 0,
            native_histogram_schema_max: *NATIVE_SCHEMAS.end(),
            networks: None,
        }
    }
}

/// An exposition format that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ScrapeProtocol {
    PrometheusProto,
    OpenMetricsText1_0_0,
    OpenMetricsText0_0_1,
    PrometheusText1_0_0,
    PrometheusText0_0_4,
}

/// `static_configs[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticConfig {
    /// Addresses.
    pub targets: Vec<String>,
    /// Labels of all of them.
    pub labels: Labels,
}

/// `file_sd_configs[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSdConfig {
    /// Paths; the last element may hold a glob. Relative ones start at the configuration's folder.
    pub files: Vec<std::path::PathBuf>,
    /// `refresh_interval`, default 5m.
    pub refresh_interval_ms: u64,
}

/// `http_sd_configs[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSdConfig {
    /// Where to ask.
    pub url: String,
    /// `refresh_interval`, default 1m.
    pub refresh_interval_ms: u64,
    /// Targets that an answer may have; `None`: any number.
    pub targets_max: Option<u64>,
    /// Where connections may lead; `None`: anywhere.
    pub networks: Option<Arc<Networks>>,
}

/// One receiver: `remote_write[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What its cursor is kept under: `name` if set, else the URL without credentials plus the
    /// tenant header (`X-Scope-OrgID`).
    pub identity: String,
    /// `former_names`, and the identity without `name` if there is one: under these the endpoint
    /// may have a cursor, and records in the log.
    pub former_identities: Vec<String>,
    /// `start_at`, default now.
    pub start_at: StartAt,
    /// Where to send to.
    pub url: String,
    /// Extra headers, in file order.
    pub headers: Vec<(String, String)>,
    /// `remote_timeout`, default 30s: of one request.
    pub remote_timeout_ms: u64,
    /// `write_relabel_configs`.
    pub write_relabel_configs: Rules,
    /// `global.external_labels`: added where the series lacks the name, before write relabelling.
    pub external_labels: Labels,
    /// `protobuf_message`, default 1.0.
    pub protobuf_message: ProtobufMessage,
    /// `compression`, default auto.
    pub compression: CompressionChoice,
    /// `send_exemplars`, default false.
    pub send_exemplars: bool,
    /// `send_native_histograms`, default false; in remote write 2.0 always.
    pub send_native_histograms: bool,
    /// `metadata_config.send`, default true.
    pub send_metadata: bool,
    /// `metadata_config.send_interval`, default 1m.
    pub metadata_interval_ms: u64,
    /// `queue_config`.
    pub queue: QueueConfig,
    /// Where connections may lead; `None`: anywhere.
    pub networks: Option<Arc<Networks>>,
}

/// `start_at`: what an endpoint gets that has no cursor yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StartAt {
    /// What is scraped from now on.
    #[default]
    Now,
    /// Also what is in the log already, whichever endpoint that was for.
    Oldest,
}

/// `protobuf_message`: what requests hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProtobufMessage {
    /// `prometheus.WriteRequest`: remote write 1.0.
    #[default]
    Version1,
    /// `io.prometheus.write.v2.Request`: remote write 2.0, or 1.0 where that is not taken.
    Version2,
}

/// `compression`: how requests are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CompressionChoice {
    /// Zstd where it is taken, else snappy; for remote write 2.0 snappy.
    #[default]
    Auto,
    /// As Prometheus does.
    Snappy,
    /// VictoriaMetrics' remote write protocol.
    Zstd,
}

/// `queue_config`, with the meaning its fields have for a queue that is a log on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// `min_shards`, default 1: requests that may be in flight however slow the receiver is.
    pub requests_in_flight_min: u32,
    /// `max_shards`, default 50: requests in flight at once for the endpoint, in the whole process.
    pub requests_in_flight_max: u32,
    /// `max_samples_per_send`, default 10,000.
    pub samples_per_send_max: u32,
    /// `batch_send_deadline`, default 5s: how long a small batch may wait for more.
    pub batch_send_deadline_ms: u64,
    /// `min_backoff`, default 30ms: first pause after a failure that is retried.
    pub backoff_min_ms: u64,
    /// `max_backoff`, default 5s.
    pub backoff_max_ms: u64,
    /// `retry_on_http_429`, default true.
    pub retry_on_http_429: bool,
    /// `sample_age_limit`, default 0 = none: older samples are dropped and counted when sending.
    pub sample_age_limit_ms: u64,
}

impl Endpoint {
    /// The URL as it may be shown: without user name, password and query.
    pub fn display_url(&self) -> String {
        match url::Url::parse(&self.url) {
            Ok(mut url) => {
                // Neither can fail for a URL that has a host.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.set_query(None);
                url.to_string()
            }
            Err(_) => String::new(),
        }
    }
}
