//! A stored configuration's text + the node's rules -> its jobs and endpoints, or what is wrong.
//!
//! Pure: the same checks for a dry run, for a change, and for what is found in the store.
//!
//! An endpoint that equals one of the file is that one. Any other's identity is its URL without
//! user, password and query, and a hash of its settings, so that configurations with equal settings
//! share it, whichever came first, and nobody shares a cursor with another endpoint. Changed
//! settings are another endpoint; what the former one has not sent yet it goes on sending for a
//! while.

use super::reach;
use super::settings::{InstanceLimits, Networks, ServiceSettings};
use crate::config::{
    Config, Endpoint, Global, InstanceConfig, ScrapeConfig, ScrapeRules, StartAt, endpoint_hash,
    format_duration, read_instance,
};
use crate::labels::Labels;
use ringscrape_cluster::TargetKey;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// What a node's file says of all stored configurations.
#[derive(Clone, PartialEq, Eq)]
pub struct InstanceRules {
    limits: InstanceLimits,
    secrets: BTreeMap<String, String>,
    networks: Arc<Networks>,
    defaults: Global,
    endpoints: Vec<Arc<Endpoint>>,
    jobs: HashSet<String>,
}

/// Without secrets.
impl fmt::Debug for InstanceRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceRules")
            .field("limits", &self.limits)
            .field("networks", &self.networks)
            .finish_non_exhaustive()
    }
}

/// A stored configuration that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its jobs; names are unique.
    pub scrape_configs: Vec<Arc<ScrapeConfig>>,
    /// Where their samples go; identities are unique.
    pub endpoints: Vec<Arc<Endpoint>>,
}

impl InstanceRules {
    /// `secrets`: the texts of the files that the settings name.
    pub fn new(
        config: &Config,
        settings: &ServiceSettings,
        secrets: BTreeMap<String, String>,
    ) -> Self {
        let jobs = config.scrape_configs.iter();
        Self {
            limits: settings.limits,
            secrets,
            networks: Arc::new(settings.allow_networks.clone()),
            defaults: config.defaults.clone(),
            endpoints: config.remote_write.clone(),
            jobs: jobs.map(|job| job.job_name.clone()).collect(),
        }
    }

    /// What one configuration may have.
    pub fn limits(&self) -> &InstanceLimits {
        &self.limits
    }

    /// The shortest interval: what is good for the file is for all.
    fn interval_min_ms(&self) -> u64 {
        let of_file = self.defaults.scrape_interval_ms;
        self.limits.scrape_interval_min_ms.min(of_file)
    }
}

impl Instance {
    /// Reads the configuration called `name`.
    ///
    /// # Errors
    /// All problems, with line and column where they have a place. They quote no secret.
    pub fn parse(name: &str, text: &str, rules: &InstanceRules) -> Result<Self, Vec<String>> {
        let limits = &rules.limits;
        if over(limits.config_bytes_max, text.len()) {
            let (found, most) = (text.len(), limits.config_bytes_max);
            return Err(vec![format!(
                "the configuration has {found} bytes; at most {most} are allowed"
            )]);
        }
        let config = read_instance(text, &rules.defaults, &rules.secrets)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let mut problems = beyond(&config, limits);
        problems.extend(too_often(&config, rules.interval_min_ms()));
        problems.extend(out_of_reach(&config, &rules.networks));
        for job in &config.scrape_configs {
            if rules.jobs.contains(&job.job_name) {
                let name = &job.job_name;
                problems.push(format!(
                    "job name {name:?} is taken by a job of the node's file"
                ));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let unit = config
            .is_unit
            .then(|| (unit_key(name), xxh3_64(text.as_bytes())));
        let mut jobs = Vec::<Arc<ScrapeConfig>>::with_capacity(config.scrape_configs.len());
        for job in &config.scrape_configs {
            let mut job = bounded(job, rules, unit);
            // Jobs that treat samples equally share what is derived from them.
            if let Some(same) = jobs.iter().find(|have| have.rules == job.rules) {
                job.rules = same.rules.clone();
            }
            jobs.push(Arc::new(job));
        }
        Ok(Self {
            scrape_configs: jobs,
            endpoints: endpoints(config.remote_write, &config.external_labels, rules),
        })
    }

    /// The names of its jobs.
    pub fn job_names(&self) -> impl Iterator<Item = &str> {
        self.scrape_configs.iter().map(|job| job.job_name.as_str())
    }
}

/// The place on the ring of a configuration whose targets stay together.
fn unit_key(name: &str) -> TargetKey {
    TargetKey(xxh3_64(name.as_bytes()))
}

/// Whether there are more than a limit allows; 0 = no limit.
fn over(limit: u64, count: usize) -> bool {
    limit > 0 && count as u64 > limit
}

fn beyond(config: &InstanceConfig, limits: &InstanceLimits) -> Vec<String> {
    let statics = config
        .scrape_configs
        .iter()
        .flat_map(|job| &job.static_configs);
    let targets: usize = statics.map(|group| group.targets.len()).sum();
    let endpoints = config.remote_write.as_ref().map_or(0, Vec::len);
    let counts = [
        ("jobs", config.scrape_configs.len(), limits.jobs_max),
        ("endpoints", endpoints, limits.endpoints_max),
        ("targets", targets, limits.targets_max),
    ];
    let beyond = counts.into_iter().filter(|(_, n, most)| over(*most, *n));
    let message = |(what, found, most)| {
        format!("the configuration has {found} {what}; at most {most} are allowed")
    };
    beyond.map(message).collect()
}

/// What is to be done more often than it may. Intervals of targets are looked at when these are
/// found.
fn too_often(config: &InstanceConfig, least_ms: u64) -> Vec<String> {
    let mut problems = Vec::new();
    for job in &config.scrape_configs {
        let sources = job.http_sd_configs.iter();
        let sources = sources.map(|source| ("refresh_interval", source.refresh_interval_ms));
        let own = [("scrape_interval", job.scrape_interval_ms)];
        for (key, ms) in own.into_iter().chain(sources) {
            if ms < least_ms {
                problems.push(format!(
                    "job {:?}: `{key}` of {} is too short; stored configurations may have {} or \
                     more (`limits.scrape_interval`)",
                    job.job_name,
                    format_duration(ms),
                    format_duration(least_ms)
                ));
            }
        }
    }
    problems
}

/// URLs that hold an address which may not be reached; names are checked when they are resolved.
fn out_of_reach(config: &InstanceConfig, networks: &Networks) -> Vec<String> {
    let jobs = config.scrape_configs.iter();
    let sources = jobs.flat_map(|job| &job.http_sd_configs);
    let endpoints = config.remote_write.iter().flatten();
    let urls = sources
        .map(|source| &source.url)
        .chain(endpoints.map(|endpoint| &endpoint.url));
    let check = |url: &String| reach::check(networks, &url::Url::parse(url).ok()?).err();
    urls.filter_map(check).collect()
}

/// A job within the limits of stored configurations.
fn bounded(
    job: &ScrapeConfig,
    rules: &InstanceRules,
    unit: Option<(TargetKey, u64)>,
) -> ScrapeConfig {
    let lower = |own: u64, limit: u64| match (own, limit) {
        (own, 0) => own,
        (0, limit) => limit,
        (own, limit) => own.min(limit),
    };
    let networks = Some(rules.networks.clone());
    let mut bounded = job.clone();
    bounded.unit = unit.map(|(place, _)| place);
    bounded.interval_min_ms = rules.interval_min_ms();
    bounded.unit_version = unit.map_or(0, |(_, version)| version);
    bounded.rules = Arc::new(ScrapeRules {
        sample_limit: lower(job.rules.sample_limit, rules.limits.series_max),
        body_size_limit_bytes: lower(job.rules.body_size_limit_bytes, rules.limits.bytes_max),
        networks: networks.clone(),
        ..(*job.rules).clone()
    });
    for source in &mut bounded.http_sd_configs {
        // Somewhat more than the limit is taken, and each scrape says that it is too much.
        let most = rules.limits.targets_max.saturating_mul(2);
        source.targets_max = Some(most).filter(|most| *most > 0);
        source.networks.clone_from(&networks);
    }
    bounded
}

fn endpoints(
    given: Option<Vec<Arc<Endpoint>>>,
    external_labels: &Labels,
    rules: &InstanceRules,
) -> Vec<Arc<Endpoint>> {
    let is_given = given.is_some();
    let own = given.unwrap_or_else(|| rules.endpoints.clone());
    let mut endpoints = Vec::<Arc<Endpoint>>::with_capacity(own.len());
    for endpoint in own {
        let mut endpoint = (*endpoint).clone();
        endpoint.external_labels = external_labels.clone();
        let same = |file: &&Arc<Endpoint>| endpoint_hash(file) == endpoint_hash(&endpoint);
        let endpoint = match rules.endpoints.iter().find(same) {
            Some(file) => file.clone(),
            None => {
                // It is shown: neither the URL's query nor a header may be a part of it.
                let (url, hash) = (endpoint.display_url(), endpoint_hash(&endpoint));
                endpoint.identity = format!("{url} #{hash:016x}");
                // No other configuration's cursor and records are its own.
                endpoint.former_identities.clear();
                endpoint.start_at = StartAt::Now;
                // Where the file's own endpoints are is the operator's matter.
                endpoint.networks = is_given.then(|| rules.networks.clone());
                Arc::new(endpoint)
            }
        };
        if endpoints.iter().all(|e| e.identity != endpoint.identity) {
            endpoints.push(endpoint);
        }
    }
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::settings::{StoreKind, StoreSettings};
    use std::path::Path;

    fn rules(limits: InstanceLimits) -> InstanceRules {
        let file = "global: {external_labels: {dc: a}, scrape_interval: 7s}
scrape_configs: [{job_name: own}]
remote_write: [{url: 'http://u:p@file/', name: f}]
";
        let config = Config::parse(Path::new("/r.yml"), file, &|_| None).unwrap();
        let settings = ServiceSettings {
            store: StoreSettings {
                prefix: String::new(),
                kind: StoreKind::Local,
            },
            reshard_interval_ms: 1,
            reshard_timeout_ms: 1,
            num_tokens: 128,
            limits,
            secrets: BTreeMap::new(),
            allow_networks: Networks::default(),
            enable_read_api: false,
            tokens_file: None,
        };
        let secrets = [("key".to_owned(), "hush".to_owned())].into();
        InstanceRules::new(&config, &settings, secrets)
    }

    #[track_caller]
    fn good(text: &str) -> Instance {
        Instance::parse("n", text, &rules(InstanceLimits::default())).unwrap()
    }

    #[track_caller]
    fn bad(text: &str) -> Vec<String> {
        Instance::parse("n", text, &rules(InstanceLimits::default())).unwrap_err()
    }

    #[test]
    fn an_instance_of_the_agent_is_read_with_the_defaults_of_the_file() {
        let instance = good(
            "name: other
host_filter: false
scrape_configs:
- job_name: self
  static_configs: [{targets: ['127.0.0.1:12345']}]
remote_write: [{url: 'http://127.0.0.1:9009/api/prom/push'}]
",
        );
        let [job] = &instance.scrape_configs[..] else {
            panic!("one job");
        };
        assert_eq!(job.scrape_interval_ms, 7_000);
        let [endpoint] = &instance.endpoints[..] else {
            panic!("one endpoint");
        };
        assert_eq!(endpoint.external_labels.get("dc"), "a");
        let identity = &endpoint.identity;
        assert!(
            identity.starts_with("http://127.0.0.1:9009/api/prom/push #"),
            "{identity}"
        );
    }

    #[test]
    fn endpoints_are_the_files_if_equal_and_told_apart_by_their_settings() {
        let identity = |text: &str| good(text).endpoints[0].identity.clone();
        assert_eq!(identity("scrape_configs: []"), "f", "none are given");
        assert_eq!(identity("remote_write: [{url: 'http://u:p@file/'}]"), "f");
        let texts = [
            "external_labels: {a: b}",
            "external_labels: {dc: b}",
            "remote_write: [{url: 'http://u:q@file/'}]",
            "remote_write: [{url: 'http://u:p@file/', send_exemplars: true}]",
            "remote_write: [{url: 'http://u:p@file/', headers: {X-Scope-OrgID: t}}]",
            "remote_write: [{url: 'http://u:p@file/', headers: {X-Scope-OrgID: s}}]",
            "remote_write: [{url: 'http://u:p@file/', queue_config: {max_shards: 3}}]",
        ];
        let all: HashSet<String> = texts.iter().map(|text| identity(text)).collect();
        assert_eq!(all.len(), texts.len());
        for identity in &all {
            assert!(identity.starts_with("http://file/"), "{identity}");
        }
        let named = "remote_write: [{url: 'http://a/', name: x}]";
        let other = "remote_write: [{url: 'http://a/', name: f}]";
        assert_eq!(
            identity(named),
            identity(other),
            "names are a configuration's own"
        );
    }

    #[test]
    fn no_configuration_takes_what_is_logged_for_others() {
        let problems = bad("remote_write:
- url: http://a/
  start_at: oldest
  former_names: ['http://b/']
");
        assert_eq!(problems.len(), 2, "{problems:?}");
        let named = good("remote_write: [{url: 'http://a/', name: x}]");
        assert!(named.endpoints[0].former_identities.is_empty());
    }

    #[test]
    fn an_identity_which_is_shown_has_no_secret() {
        let text = "remote_write: [{url: 'http://u:hush@a/w?key=hush', headers: {X-Scope-OrgID: \
                    '${secret:key}'}}]";
        let identity = &good(text).endpoints[0].identity;
        assert!(identity.starts_with("http://a/w #"), "{identity}");
        assert!(!identity.contains("hush"), "{identity}");
    }

    #[test]
    fn rules_are_bounded_in_number_and_size() {
        let rule = "{source_labels: [a], regex: b, action: drop}, ";
        let job =
            |rules: &str| format!("scrape_configs: [{{job_name: j, relabel_configs: [{rules}]}}]");
        good(&job(&rule.repeat(500)));
        let problems = bad(&job(&rule.repeat(501)));
        assert!(problems[0].contains("at most 500 rules"), "{problems:?}");
        let large = "{source_labels: [a], regex: '(\\pL{500}){2}', action: drop}";
        assert!(
            bad(&job(large))[0].contains("regex"),
            "larger than it may be"
        );
    }

    #[test]
    fn nothing_reads_files_of_the_node() {
        let problems = bad("scrape_configs:
- job_name: a
  file_sd_configs: [{files: [/etc/passwd.yml]}]
  bearer_token_file: /etc/shadow
- job_name: b
  authorization: {credentials_file: /etc/shadow}
remote_write:
- url: http://a/
  headers: {X-A: '${secret:key}', X-B: '${secret:other}'}
  basic_auth: {password_file: /etc/shadow}
");
        assert_eq!(problems.len(), 5, "{problems:#?}");
        for (problem, part) in problems.iter().zip([
            "line 3, column 3: `file_sd_configs` is not for stored",
            "line 4, column 3: `bearer_token_file`",
            "line 6, column 3: `authorization`",
            "line 9, column 40: `headers`: there is no secret \"other\"",
            "line 10, column 3: `basic_auth`",
        ]) {
            assert!(problem.starts_with(part), "{problem}");
        }
    }

    #[test]
    fn a_named_secret_is_put_into_headers_and_shown_nowhere() {
        let text = "remote_write: [{url: 'http://a/', headers: {X-A: 'Key ${secret:key}!'}}]";
        let instance = good(text);
        let value = &instance.endpoints[0].headers[0].1;
        assert_eq!(value, "Key hush!");
        assert!(!instance.endpoints[0].identity.contains("hush"));
        assert!(!format!("{:?}", rules(InstanceLimits::default())).contains("hush"));
        let problems = bad("remote_write: [{url: 'http://a/', headers: {'a b': '${secret:key}'}}]");
        assert!(problems.iter().all(|p| !p.contains("hush")), "{problems:?}");
        let open = bad("remote_write: [{url: 'http://a/', headers: {X-A: '${secret:key'}}]");
        assert!(open[0].contains("without its `}`"), "{open:?}");
    }

    #[test]
    fn limits_hold_for_what_a_configuration_says() {
        let limits = InstanceLimits {
            config_bytes_max: 200,
            jobs_max: 1,
            endpoints_max: 1,
            targets_max: 2,
            series_max: 10,
            bytes_max: 100,
            ..InstanceLimits::default()
        };
        let rules = rules(limits);
        let parse = |text: &str| Instance::parse("n", text, &rules);
        let wrong = |text: &str, part: &str| {
            let problems = parse(text).unwrap_err();
            assert!(problems.iter().any(|p| p.contains(part)), "{problems:?}");
        };
        wrong(&" ".repeat(201), "201 bytes");
        wrong("scrape_configs: [{job_name: a}, {job_name: b}]", "2 jobs");
        wrong(
            "remote_write: [{url: 'http://a/'}, {url: 'http://b/'}]",
            "2 endpoints",
        );
        wrong(
            "scrape_configs: [{job_name: a, static_configs: [{targets: [a, b, c]}]}]",
            "3 targets",
        );
        wrong(
            "scrape_configs: [{job_name: own}]",
            "taken by a job of the node's file",
        );
        let limits_of = |job: &str| {
            let instance = parse(&format!("scrape_configs: [{{job_name: a{job}}}]")).unwrap();
            let rules = &instance.scrape_configs[0].rules;
            (rules.sample_limit, rules.body_size_limit_bytes)
        };
        assert_eq!(limits_of(""), (10, 100));
        assert_eq!(limits_of(", sample_limit: 3, body_size_limit: 5B"), (3, 5));
        assert_eq!(
            limits_of(", sample_limit: 30, body_size_limit: 5KB"),
            (10, 100)
        );
    }

    #[test]
    fn nothing_stored_is_done_too_often() {
        let job = |more: &str| format!("scrape_configs: [{{job_name: a, {more}}}]");
        let http =
            |ms| format!("http_sd_configs: [{{url: 'http://h/', refresh_interval: {ms}ms}}]");
        good(&job("scrape_interval: 1s, scrape_timeout: 1s"));
        good(&job(&http(1_000)));
        for (text, part) in [
            (
                "scrape_interval: 999ms, scrape_timeout: 1ms",
                "`scrape_interval` of 999ms is too",
            ),
            (&*http(10), "`refresh_interval` of 10ms is too short"),
        ] {
            let problems = bad(&job(text));
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with("job \"a\": "), "{problems:?}");
            assert!(problems[0].contains(part), "{problems:?}");
            assert!(
                problems[0].contains("1s or more (`limits.scrape_interval`)"),
                "{problems:?}"
            );
        }
        let limits = InstanceLimits {
            scrape_interval_min_ms: 60_000,
            ..InstanceLimits::default()
        };
        let rules = rules(limits);
        let read = |text: &str| Instance::parse("n", &job(text), &rules);
        let instance = read("scrape_timeout: 1s").unwrap();
        assert_eq!(
            instance.scrape_configs[0].interval_min_ms, 7_000,
            "what the file does for itself is good"
        );
        assert!(read("scrape_interval: 6s, scrape_timeout: 1s").is_err());
    }

    #[test]
    fn what_means_nothing_here_is_refused_with_a_hint() {
        for (text, part) in [
            ("host_filter: true", "`host_filter: true` is not supported"),
            ("host_filter_relabel_configs: []", "has no meaning here"),
            ("global: {}", "has no meaning here"),
            ("write_stale_on_shutdown: true", "not supported"),
            ("scrape_config: []", "did you mean `scrape_configs`"),
            ("distribute_by: node", "give one of target, config"),
            ("a: [", "not YAML"),
            (
                "remote_write: [{url: 'http://169.254.169.254/'}]",
                "169.254.169.254 is in none of the networks",
            ),
            (
                "scrape_configs: [{job_name: a, http_sd_configs: [{url: 'http://[fe80::1]/'}]}]",
                "fe80::1 is in none of the networks",
            ),
        ] {
            let problems = bad(text);
            assert!(problems[0].contains(part), "{problems:?}");
        }
        good("wal_truncate_frequency: 60m\nmin_wal_time: 5m\nmax_wal_time: 4h");
    }

    #[test]
    fn a_unit_has_its_place_by_its_name() {
        let text = "distribute_by: config\nscrape_configs: [{job_name: a}]";
        let unit = |name| {
            let rules = rules(InstanceLimits::default());
            Instance::parse(name, text, &rules).unwrap().scrape_configs[0].unit
        };
        assert!(unit("a").is_some());
        assert_ne!(unit("a"), unit("b"));
        assert_eq!(
            good("scrape_configs: [{job_name: a}]").scrape_configs[0].unit,
            None
        );
    }
}
