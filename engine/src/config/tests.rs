//! Whole files -> settings or messages; the reference page -> fresh or not.
//!
//! `tests/config/NAME.good.yml` must be accepted; `NAME.bad.yml` must give the text of
//! `NAME.bad.err`. With `UPDATE_EXPECT=1` in the environment expected texts are written.

use super::*;
use std::path::PathBuf;

fn room() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str, text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new(name), text, &|name| {
        (name == "REGION").then(|| "eu".to_owned())
    })
}

#[track_caller]
fn good(text: &str) -> Config {
    read("/etc/x/c.yml", text).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn expect(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, text).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    let path = path.display();
    assert_eq!(expected, text, "{path} is stale; UPDATE_EXPECT=1 writes it");
}

#[test]
fn files_are_accepted_or_refused_with_the_expected_message() {
    let (mut good, mut bad) = (0, 0);
    for entry in std::fs::read_dir(room().join("tests/config")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let result = || read(name, &std::fs::read_to_string(&path).unwrap());
        if name.ends_with(".good.yml") {
            good += 1;
            if let Err(error) = result() {
                panic!("{error}");
            }
        } else if name.ends_with(".bad.yml") {
            bad += 1;
            let error = result().expect_err(name).to_string();
            expect(&path.with_extension("err"), &(error + "\n"));
        }
    }
    assert!(good >= 3 && bad >= 10, "{good} good and {bad} bad files");
}

#[test]
fn the_reference_page_is_fresh() {
    expect(&room().join("docs/configuration.md"), &reference());
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load("/nonexistent/c.yml").unwrap_err().to_string();
    assert!(
        error.starts_with("/nonexistent/c.yml: cannot read the configuration file"),
        "{error}"
    );
}

#[test]
fn many_problems_are_cut_short() {
    let text: String = (0..50).map(|n| format!("key{n}: 1\n")).collect();
    let error = read("c.yml", &text).unwrap_err();
    assert_eq!(error.problem_count(), 50);
    let text = error.to_string();
    assert_eq!(text.lines().count(), 21);
    assert!(text.ends_with("c.yml: and 30 more"), "{text}");
}

#[test]
fn nothing_is_a_configuration_with_nothing() {
    for text in [
        "",
        "# nothing\n",
        "global:\nscrape_configs: []\nremote_write:\n",
    ] {
        let config = good(text);
        assert!(config.scrape_configs.is_empty() && config.remote_write.is_empty());
    }
}

#[test]
fn defaults_are_those_of_prometheus() {
    let config = good("scrape_configs: [{job_name: a}]\nremote_write: [{url: 'http://h/w'}]\n");
    let job = &config.scrape_configs[0];
    assert_eq!(
        (job.scrape_interval_ms, job.scrape_timeout_ms),
        (60_000, 10_000)
    );
    assert_eq!(
        (job.metrics_path.as_str(), job.scheme.as_str()),
        ("/metrics", "http")
    );
    let rules = &job.rules;
    assert_eq!(**rules, ScrapeRules::default());
    assert!(!rules.honor_labels && rules.honor_timestamps && !rules.track_timestamps_staleness);
    assert!(rules.enable_compression && rules.follow_redirects && !rules.extra_scrape_metrics);
    use ScrapeProtocol::*;
    assert_eq!(
        rules.scrape_protocols,
        [
            OpenMetricsText1_0_0,
            OpenMetricsText0_0_1,
            PrometheusText1_0_0,
            PrometheusText0_0_4
        ]
    );
    assert_eq!(rules.fallback_scrape_protocol, None);
    let endpoint = &config.remote_write[0];
    assert_eq!(endpoint.identity, "http://h/w");
    assert_eq!(endpoint.remote_timeout_ms, 30_000);
    assert!(endpoint.send_metadata && !endpoint.send_exemplars);
    let queue = QueueConfig {
        requests_in_flight_min: 1,
        requests_in_flight_max: 50,
        samples_per_send_max: 10_000,
        batch_send_deadline_ms: 5_000,
        backoff_min_ms: 30,
        backoff_max_ms: 5_000,
        retry_on_http_429: true,
        sample_age_limit_ms: 0,
    };
    assert_eq!(endpoint.queue, queue);
}

#[test]
fn jobs_take_from_global_what_they_do_not_set() {
    let config = good(
        "global: {scrape_interval: 5s, sample_limit: 7, label_limit: 9, body_size_limit: 1MB,
            extra_scrape_metrics: true, scrape_protocols: [PrometheusText0.0.4]}
scrape_configs:
- {job_name: a}
- {job_name: b, scrape_interval: 1s, sample_limit: 8, extra_scrape_metrics: false}
- {job_name: c, scrape_interval: 30s, sample_limit: 0, honor_timestamps: ,
    metrics_path: , fallback_scrape_protocol: PrometheusText0.0.4}
",
    );
    let [a, b, c] = &config.scrape_configs[..] else {
        panic!("three jobs")
    };
    let times = |job: &ScrapeConfig| (job.scrape_interval_ms, job.scrape_timeout_ms);
    assert_eq!(
        (times(a), times(b), times(c)),
        ((5_000, 5_000), (1_000, 1_000), (30_000, 5_000))
    );
    let limits = |job: &ScrapeConfig| (job.rules.sample_limit, job.rules.label_limit);
    assert_eq!((limits(a), limits(b), limits(c)), ((7, 9), (8, 9), (7, 9)));
    assert!(a.rules.extra_scrape_metrics && !b.rules.extra_scrape_metrics);
    assert_eq!(a.rules.body_size_limit_bytes, 1 << 20);
    assert_eq!(
        c.rules.scrape_protocols,
        [ScrapeProtocol::PrometheusText0_0_4]
    );
    assert!(!c.rules.honor_timestamps && c.metrics_path.is_empty());
}

#[test]
fn native_histograms_put_protobuf_first_unless_formats_are_listed() {
    use ScrapeProtocol::*;
    let config = good(
        "global: {scrape_native_histograms: true, always_scrape_classic_histograms: true}
scrape_configs:
- {job_name: a}
- {job_name: b, scrape_native_histograms: false, native_histogram_min_bucket_factor: 1.1}
- {job_name: c, scrape_protocols: [PrometheusText0.0.4, PrometheusProto],
    always_scrape_classic_histograms: false, native_histogram_bucket_limit: 160}
",
    );
    let [a, b, c] = &config.scrape_configs[..] else {
        panic!("three jobs")
    };
    assert_eq!(
        a.rules.scrape_protocols[..2],
        [PrometheusProto, OpenMetricsText1_0_0]
    );
    assert_eq!(a.rules.scrape_protocols.len(), 5);
    assert!(a.rules.scrape_native_histograms && a.rules.always_scrape_classic_histograms);
    assert_eq!(a.rules.native_histogram_schema_max, 8);
    assert_eq!(
        b.rules.scrape_protocols,
        ScrapeRules::default().scrape_protocols
    );
    assert!(!b.rules.scrape_native_histograms);
    assert_eq!(b.rules.native_histogram_schema_max, 2);
    assert_eq!(
        c.rules.scrape_protocols,
        [PrometheusText0_0_4, PrometheusProto]
    );
    assert!(c.rules.scrape_native_histograms && !c.rules.always_scrape_classic_histograms);
    assert_eq!(c.rules.native_histogram_bucket_limit, 160);
}

#[test]
fn bucket_factors_are_schemas() {
    // Source of the rows: Prometheus scrape/scrape_test.go, `TestPickSchema`.
    for (factor, schema) in [
        ("65536", -4),
        ("256", -3),
        ("16", -2),
        ("4", -1),
        ("2", 0),
        ("1.4", 1),
        ("1.1", 2),
        ("1.09", 3),
        ("1.04", 4),
        ("1.02", 5),
        ("1.01", 6),
        ("1.005", 7),
        ("1.002", 8),
        ("0", 8),
        ("-3", 8),
        ("1e300", -4),
    ] {
        let text = format!(
            "scrape_configs: [{{job_name: a, native_histogram_min_bucket_factor: {factor}}}]"
        );
        let found = good(&text).scrape_configs[0]
            .rules
            .native_histogram_schema_max;
        assert_eq!(found, schema, "{factor}");
    }
}

#[test]
fn jobs_with_equal_rules_share_them() {
    let config = good(
        "scrape_configs:
- {job_name: a, metric_relabel_configs: [{action: labeldrop, regex: x}]}
- {job_name: b, honor_labels: true}
- {job_name: c, metrics_path: /m, metric_relabel_configs: [{action: labeldrop, regex: x}]}
",
    );
    let [a, b, c] = &config.scrape_configs[..] else {
        panic!("three jobs")
    };
    assert!(std::sync::Arc::ptr_eq(&a.rules, &c.rules));
    assert!(!std::sync::Arc::ptr_eq(&a.rules, &b.rules));
}

#[test]
fn texts_keep_what_is_written() {
    let config = good(
        "global: {external_labels: {region: '${REGION}-1', none: $NONE, dollar: $$x, n: 0x10}}
scrape_configs:
- job_name: 1.0
  params: {b: [yes, 010], a: ['x y'], n: null}
  static_configs:
  - {targets: ['h:1', ::1], labels: {t: true, e: '', f: 1e3}}
  file_sd_configs: [{files: [a/*.yml, /b.json], refresh_interval: 1m}]
",
    );
    let pairs = |labels: &crate::labels::Labels| {
        let pairs = labels.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        pairs(&config.external_labels),
        "dollar=$x n=0x10 region=eu-1"
    );
    let job = &config.scrape_configs[0];
    assert_eq!(job.job_name, "1.0");
    let params: [(String, Vec<String>); 2] = [
        ("a".into(), vec!["x y".into()]),
        ("b".into(), vec!["yes".into(), "010".into()]),
    ];
    assert_eq!(job.params, params);
    assert_eq!(job.static_configs[0].targets, ["h:1", "::1"]);
    assert_eq!(pairs(&job.static_configs[0].labels), "f=1e3 t=true");
    let files = &job.file_sd_configs[0].files;
    assert_eq!(
        files,
        &[PathBuf::from("/etc/x/a/*.yml"), PathBuf::from("/b.json")]
    );
}

#[test]
fn an_endpoint_remembers_the_identities_it_had() {
    let config = good(
        "remote_write:
- {url: 'http://u:p@h/w', headers: {X-Scope-OrgID: t}}
- {url: 'http://h/v', name: b, former_names: [a, b], start_at: oldest}
",
    );
    let [plain, named] = &config.remote_write[..] else {
        panic!("{} endpoints", config.remote_write.len());
    };
    assert_eq!(plain.identity, "http://h/w X-Scope-OrgID=t");
    assert!(plain.former_identities.is_empty());
    assert_eq!(plain.start_at, StartAt::Now);
    assert_eq!(named.identity, "b");
    assert_eq!(named.former_identities, ["a", "http://h/v"]);
    assert_eq!(named.start_at, StartAt::Oldest);
}

#[test]
fn endpoints_are_told_apart_by_identity() {
    let config = good(
        "remote_write:
- {url: 'http://u:p@h:9/w?a=b', headers: {x-scope-orgid: t1}}
- {url: 'http://u:p@h:9/w?a=b', headers: {X-Scope-OrgID: t2}}
- {url: 'http://h:9/w', name: n}
- {url: 'http://h:9/w'}
- {url: 'http://h:9/w'}
",
    );
    let identities: Vec<&str> = config
        .remote_write
        .iter()
        .map(|endpoint| endpoint.identity.as_str())
        .collect();
    assert_eq!(
        identities,
        [
            "http://h:9/w?a=b X-Scope-OrgID=t1",
            "http://h:9/w?a=b X-Scope-OrgID=t2",
            "n",
            "http://h:9/w"
        ]
    );
    assert_eq!(config.remote_write[0].url, "http://u:p@h:9/w?a=b");
}

#[test]
fn each_key_is_in_one_table_once() {
    for text in [
        "scrape_interval",
        "tls_config",
        "kubernetes_sd_configs",
        "max_shards",
    ] {
        assert!(reference().contains(&format!("`{text}`")), "{text}");
    }
}

/// Pieces of files; put together at random they are rarely a configuration and sometimes YAML.
const PIECES: [&str; 24] = [
    "global:",
    "scrape_configs:",
    "remote_write:",
    "\n",
    "\n  ",
    "\n- ",
    "\n  - ",
    "job_name: a",
    "relabel_configs:",
    "static_configs:",
    "targets: [a]",
    "labels: {a: b}",
    "url: http://h",
    "params:",
    "file_sd_configs:",
    "headers: {a: b}",
    "queue_config:",
    "&x",
    "*x",
    "<<: *x",
    "[",
    "{",
    "null",
    "external_labels: {a: $}",
];

proptest::proptest! {
    #[test]
    fn no_text_panics(
        pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..24),
        noise in "\\PC{0,8}",
    ) {
        if let Err(error) = read("c.yml", &(pieces.concat() + &noise)) {
            assert!(error.problem_count() > 0 && !error.to_string().is_empty());
        }
    }
}
