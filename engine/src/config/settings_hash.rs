//! A job's settings -> a hash that is equal on all nodes that scrape its targets alike.
//!
//! XXH3-64, seed 0, of the settings in the order below, texts and lists with their length before
//! them. It covers what decides which targets the job has, how they are asked and what becomes of
//! their samples; secrets in URLs too. Not: where the files of `file_sd_configs` lie and how often
//! sources are asked, where connections may lead and how short an interval may be, which are a
//! node's own matter, and `keep_dropped_targets`, which only decides what is shown. The function
//! never changes: nodes of different releases compare it.

use super::{
    CompressionChoice, Endpoint, KeyLabels, ProtobufMessage, ScrapeConfig, ScrapeProtocol,
    ScrapeRules, StaticConfig,
};
use crate::labels::Labels;
use crate::relabel::{Action, RuleConfig, Rules};
use xxhash_rust::xxh3::Xxh3;

/// The hash of all that nodes must have in common to share a job's targets.
pub(crate) fn settings_hash(job: &ScrapeConfig) -> u64 {
    let mut form = Form(Xxh3::new());
    form.text(&job.job_name);
    form.number(job.scrape_interval_ms);
    form.number(job.scrape_timeout_ms);
    form.text(&job.metrics_path);
    form.text(&job.scheme);
    form.list(&job.params, |form, (name, values)| {
        form.text(name);
        form.list(values, |form, value| form.text(value));
    });
    form.rules(&job.rules);
    form.number(job.target_limit);
    form.flag(job.is_clustered);
    form.relabel(&job.relabel_configs);
    form.list(&job.static_configs, Form::statics);
    form.number(job.file_sd_configs.len() as u64);
    form.list(&job.http_sd_configs, |form, source| form.text(&source.url));
    // What comes later in the life of this function leaves no trace where it is not used.
    if let Some(unit) = job.unit {
        form.number(unit.0);
        form.number(job.unit_version);
    }
    match &job.key_labels {
        KeyLabels::All => {}
        KeyLabels::Only(names) => form.names("key_labels", names),
        KeyLabels::Without(names) => form.names("exclude_labels", names),
    }
    if !job.replica_label.is_empty() {
        form.text("replica_label");
        form.text(&job.replica_label);
        form.number(job.replication_factor.into());
    }
    form.0.digest()
}

/// The hash of an endpoint's settings without its identity and the networks it may be in: two
/// with equal ones are one endpoint. Like the other it never changes: cursors are kept under it.
pub(crate) fn endpoint_hash(endpoint: &Endpoint) -> u64 {
    let mut form = Form(Xxh3::new());
    form.text(&endpoint.url);
    form.list(&endpoint.headers, |form, (name, value)| {
        form.text(name);
        form.text(value);
    });
    form.number(endpoint.remote_timeout_ms);
    form.relabel(&endpoint.write_relabel_configs);
    form.labels(&endpoint.external_labels);
    form.number(match endpoint.protobuf_message {
        ProtobufMessage::Version1 => 1,
        ProtobufMessage::Version2 => 2,
    });
    form.number(match endpoint.compression {
        CompressionChoice::Auto => 1,
        CompressionChoice::Snappy => 2,
        CompressionChoice::Zstd => 3,
    });
    form.flag(endpoint.send_exemplars);
    form.flag(endpoint.send_metadata);
    form.number(endpoint.metadata_interval_ms);
    let queue = &endpoint.queue;
    form.number(queue.requests_in_flight_max.into());
    form.number(queue.samples_per_send_max.into());
    form.number(queue.batch_send_deadline_ms);
    form.number(queue.backoff_min_ms);
    form.number(queue.backoff_max_ms);
    form.flag(queue.retry_on_http_429);
    form.number(queue.sample_age_limit_ms);
    if endpoint.send_native_histograms {
        form.text("send_native_histograms");
    }
    form.0.digest()
}

/// The settings of native histograms.
fn native_of(rules: &ScrapeRules) -> [u64; 4] {
    [
        rules.scrape_native_histograms.into(),
        rules.always_scrape_classic_histograms.into(),
        rules.native_histogram_bucket_limit,
        rules.native_histogram_schema_max as u64,
    ]
}

/// What has been written so far.
struct Form(Xxh3);

impl Form {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn names(&mut self, of: &str, names: &[String]) {
        self.text(of);
        self.list(names, |form, name| form.text(name));
    }

    fn flag(&mut self, flag: bool) {
        self.number(u64::from(flag));
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }

    fn option<T>(&mut self, item: Option<&T>, write: impl Fn(&mut Self, &T)) {
        self.flag(item.is_some());
        if let Some(item) = item {
            write(self, item);
        }
    }

    fn statics(&mut self, group: &StaticConfig) {
        self.list(&group.targets, |form, target| form.text(target));
        self.labels(&group.labels);
    }

    fn labels(&mut self, labels: &Labels) {
        self.number(labels.as_slice().len() as u64);
        for (name, value) in labels.iter() {
            self.text(name);
            self.text(value);
        }
    }

    fn rules(&mut self, rules: &ScrapeRules) {
        self.flag(rules.honor_labels);
        self.flag(rules.honor_timestamps);
        self.flag(rules.track_timestamps_staleness);
        self.relabel(&rules.metric_relabel_configs);
        self.number(rules.sample_limit);
        self.number(rules.label_limit);
        self.number(rules.label_name_length_limit);
        self.number(rules.label_value_length_limit);
        self.number(rules.body_size_limit_bytes);
        self.flag(rules.extra_scrape_metrics);
        self.flag(rules.enable_compression);
        self.flag(rules.follow_redirects);
        self.list(&rules.scrape_protocols, Self::protocol);
        self.option(rules.fallback_scrape_protocol.as_ref(), Self::protocol);
        // What came later counts where it is set.
        let (native, default) = (native_of(rules), native_of(&ScrapeRules::default()));
        if native != default {
            self.text("native_histograms");
            for number in native {
                self.number(number);
            }
        }
    }

    fn protocol(&mut self, protocol: &ScrapeProtocol) {
        self.number(match protocol {
            ScrapeProtocol::OpenMetricsText1_0_0 => 1,
            ScrapeProtocol::OpenMetricsText0_0_1 => 2,
            ScrapeProtocol::PrometheusText1_0_0 => 3,
            ScrapeProtocol::PrometheusText0_0_4 => 4,
            ScrapeProtocol::PrometheusProto => 5,
        });
    }

    fn relabel(&mut self, rules: &Rules) {
        self.number(rules.configs().len() as u64);
        for rule in rules.configs() {
            self.rule(rule);
        }
    }

    fn rule(&mut self, rule: &RuleConfig) {
        self.option(rule.source_labels.as_ref(), |form, labels| {
            form.list(labels, |form, label| form.text(label));
        });
        self.text(&rule.separator);
        self.option(rule.regex.as_ref(), |form, regex| form.text(regex));
        self.number(rule.modulus);
        self.text(&rule.target_label);
        self.text(&rule.replacement);
        let named = Action::ALL
            .iter()
            .find(|(action, _)| *action == rule.action);
        self.text(named.map_or("", |(_, name)| name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::collections::HashSet;
    use std::path::Path;

    fn hash(settings: &str) -> u64 {
        let text = format!("scrape_configs:\n- job_name: a\n{settings}");
        let config = Config::parse(Path::new("/etc/r.yml"), &text, &|_| None).unwrap();
        settings_hash(&config.scrape_configs[0])
    }

    /// If this fails, nodes of two releases don't share their jobs.
    #[test]
    fn the_hash_never_changes() {
        let settings = "  params: {a: [x, y]}
  static_configs: [{targets: ['a:1'], labels: {z: w}}]
  relabel_configs: [{source_labels: [q], regex: b, action: drop}]
  http_sd_configs: [{url: 'http://h/'}]
";
        assert_eq!(hash(settings), 13_013_097_975_118_328_589);
    }

    #[test]
    fn what_decides_on_samples_decides_on_the_hash() {
        let settings = [
            "",
            "  scrape_interval: 7s\n",
            "  metrics_path: /x\n",
            "  honor_labels: true\n",
            "  clustering: {enabled: false}\n",
            "  clustering: {key_labels: [a]}\n",
            "  clustering: {key_labels: [a, b]}\n",
            "  clustering: {exclude_labels: [a]}\n",
            "  clustering: {replica_label: a}\n",
            "  clustering: {replica_label: b}\n",
            "  clustering: {replica_label: a, replication_factor: 2}\n",
            "  clustering: {replica_label: a, replication_factor: 3}\n",
            "  params: {a: [x, y]}\n",
            "  params: {a: [x], b: [y]}\n",
            "  static_configs: [{targets: ['a:1', 'b:1']}]\n",
            "  static_configs: [{targets: ['a:1']}, {targets: ['b:1']}]\n",
            "  static_configs: [{targets: ['a:1'], labels: {b: '1'}}]\n",
            "  relabel_configs: [{source_labels: [q], regex: b, action: drop}]\n",
            "  relabel_configs: [{source_labels: [q], regex: b, action: keep}]\n",
            "  metric_relabel_configs: [{source_labels: [q], regex: b, action: keep}]\n",
            "  file_sd_configs: [{files: [a.json]}]\n",
            "  http_sd_configs: [{url: 'http://u:p@h/'}]\n",
            "  http_sd_configs: [{url: 'http://u:q@h/'}]\n",
            "  scrape_native_histograms: true\n",
            "  always_scrape_classic_histograms: true\n",
            "  native_histogram_bucket_limit: 5\n",
            "  native_histogram_min_bucket_factor: 1.5\n",
        ];
        let hashes: HashSet<u64> = settings.iter().map(|settings| hash(settings)).collect();
        assert_eq!(hashes.len(), settings.len());
        let same = |a: &str, b: &str| assert_eq!(hash(a), hash(b));
        same("", "  keep_dropped_targets: 5\n");
        same("", "  scrape_interval: 1m\n");
        same("", "  clustering: {key_labels: []}\n");
        same("", "  clustering: {replication_factor: 1}\n");
        same(
            "  clustering: {key_labels: [a, b]}\n",
            "  clustering: {key_labels: [b, a, b]}\n",
        );
        same(
            "  file_sd_configs: [{files: [a.json]}]\n",
            "  file_sd_configs: [{files: [/b/c.json], refresh_interval: 1s}]\n",
        );
    }
}
