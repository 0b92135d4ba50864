//! `scraping_service` -> where stored configurations come from, and what they may do.
//!
//! Source of names: Grafana Agent, static mode, "scraping_service_config".

use super::section::{Fields, Section, key, texts};
use super::yaml::{At, Node, Value};
use crate::service::settings::{
    EtcdSettings, EtcdTls, InstanceLimits, Network, Networks, ServiceSettings, StoreKind,
    StoreSettings,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// `scraping_service`.
pub(crate) const SERVICE: Section = Section {
    path: "scraping_service",
    keys: &[
        key(
            "enabled",
            "true or false",
            "false",
            "Whether jobs and endpoints come from the store too, beside those of this file.",
        ),
        key("kvstore", "mapping", "required", "Where they are stored."),
        key(
            "reshard_interval",
            "duration",
            "1m",
            "How often the store is listed anew. Changes are noticed at once besides.",
        ),
        key(
            "reshard_timeout",
            "duration",
            "30s; 0 = none",
            "How long such a listing may take.",
        ),
        key("lifecycler", "mapping", "none", "The node on the ring."),
        key(
            "limits",
            "mapping",
            "none",
            "What one configuration may have.",
        ),
        key(
            "secrets",
            "mapping of names to files",
            "none",
            "What `${secret:NAME}` stands for in `headers` of `remote_write` of stored \
             configurations: the file's text without white space around it, read at start and \
             reload. Whoever may store a configuration may send it to any receiver.",
        ),
        key(
            "allow_networks",
            "list of networks",
            "all but link-local ones",
            "Where stored configurations may reach to, such as `10.0.0.0/8` or `fd00::/8`: checked \
             on the address of each connection for scraping, discovery and sending.",
        ),
        key(
            "enable_read_api",
            "true or false",
            "false",
            "Whether the text of stored configurations can be read.",
        ),
        key(
            "tokens_file",
            "path",
            "none",
            "Bearer tokens with their roles, for changes and reads.",
        ),
        key(
            "dangerous_allow_reading_files",
            "`false`",
            "false",
            "Only the default; name what may be read under `secrets`.",
        ),
    ],
    unsupported: &[],
};

/// Keys of the agent's `scraping_service` that mean nothing here, each with what to do.
const SERVICE_HINTS: &[(&str, &str)] = &[(
    "cluster_reshard_event_timeout",
    "nodes are told by the store and by gossip; leave it out",
)];

/// `scraping_service.kvstore`.
pub(crate) const KVSTORE: Section = Section {
    path: "scraping_service.kvstore",
    keys: &[
        key(
            "store",
            "`etcd`, `local` or `gossip`",
            "required",
            "`etcd`: a cluster of etcd. `local`: a file in this node's storage folder, for one \
             node. `gossip`: kept by the nodes of the cluster themselves.",
        ),
        key(
            "prefix",
            "text",
            "`configurations/`",
            "What the keys in the store begin with.",
        ),
        key("etcd", "mapping", "none", "How etcd is reached."),
    ],
    unsupported: &[],
};

/// Stores of the agent that are not here.
const STORE_HINTS: &[(&str, &str)] = &[
    (
        "consul",
        "give etcd, or gossip, which needs no other program",
    ),
    ("memberlist", "give gossip"),
    ("inmemory", "give local"),
    ("multi", "give one store"),
];

const KVSTORE_HINTS: &[(&str, &str)] = &[
    (
        "consul",
        "Consul is not supported: give `store: etcd` or `store: gossip`",
    ),
    ("memberlist", "give `store: gossip`"),
    ("multi", "give one store"),
];

/// `scraping_service.kvstore.etcd`.
pub(crate) const ETCD: Section = Section {
    path: "scraping_service.kvstore.etcd",
    keys: &[
        key(
            "endpoints",
            "list of `host:port` or URLs",
            "required",
            "Members of etcd.",
        ),
        key(
            "dial_timeout",
            "duration",
            "10s",
            "How long a connection may take.",
        ),
        key(
            "max_retries",
            "count",
            "10",
            "How often a request is tried again.",
        ),
        key("username", "text", "none", "User of etcd."),
        key("password", "text", "none", "Its password."),
        key(
            "tls_enabled",
            "true or false",
            "false",
            "Whether TLS is used.",
        ),
        key(
            "tls_ca_path",
            "path",
            "the system's",
            "Certificates that are trusted.",
        ),
        key("tls_cert_path", "path", "none", "This node's certificate."),
        key("tls_key_path", "path", "none", "Its key."),
        key(
            "tls_server_name",
            "text",
            "the endpoint's host",
            "The name in etcd's certificate.",
        ),
        key(
            "tls_insecure_skip_verify",
            "true or false",
            "false",
            "Whether any certificate is taken.",
        ),
    ],
    unsupported: &[],
};

const ETCD_HINTS: &[(&str, &str)] = &[
    ("tls_cipher_suites", "secure ones are chosen; leave it out"),
    ("tls_min_version", "it is TLS 1.2; leave it out"),
];

/// `scraping_service.lifecycler`.
pub(crate) const LIFECYCLER: Section = Section {
    path: "scraping_service.lifecycler",
    keys: &[
        key(
            "ring",
            "mapping",
            "none",
            "No effect: nodes find each other by gossip (`--cluster.enabled`).",
        ),
        key(
            "num_tokens",
            "`128`",
            "128",
            "Tokens on the ring for each unit of a node's weight. Only the default: nodes must \
             have equal rings.",
        ),
    ],
    unsupported: &[],
};

const BY_GOSSIP: &str = "nodes find each other by gossip: see `--cluster.*`";

const LIFECYCLER_HINTS: &[(&str, &str)] = &[
    ("heartbeat_period", "give `--cluster.detection-time`"),
    ("observe_period", BY_GOSSIP),
    ("join_after", BY_GOSSIP),
    ("min_ready_duration", BY_GOSSIP),
    (
        "final_sleep",
        "a node that stops hands its targets over; leave it out",
    ),
    ("interface_names", "give `--cluster.advertise-address`"),
    (
        "tokens_file_path",
        "tokens come from the node's name; leave it out",
    ),
    ("availability_zone", "give `--cluster.zone`"),
    ("address", "give `--cluster.advertise-address`"),
    ("port", "give `--cluster.listen-address`"),
    ("id", "give `--cluster.node-name`"),
    (
        "unregister_on_shutdown",
        "a node that stops always leaves; leave it out",
    ),
    ("readiness_check_ring_health", BY_GOSSIP),
    ("enable_inet6", BY_GOSSIP),
];

/// `scraping_service.lifecycler.ring`.
pub(crate) const RING: Section = Section {
    path: "scraping_service.lifecycler.ring",
    keys: &[
        key(
            "kvstore",
            "mapping",
            "none",
            "No effect: who is there is known by gossip.",
        ),
        key("replication_factor", "`1`", "1", "Only the default."),
    ],
    unsupported: &[],
};

const RING_HINTS: &[(&str, &str)] = &[
    ("heartbeat_timeout", "give `--cluster.detection-time`"),
    ("zone_awareness_enabled", BY_GOSSIP),
    ("excluded_zones", BY_GOSSIP),
];

/// `scraping_service.limits`.
pub(crate) const LIMITS: Section = Section {
    path: "scraping_service.limits",
    keys: &[
        key("configs", "count", "20000", "Configurations in the store."),
        key("config_bytes", "size", "1MB", "The text of one."),
        key("jobs", "count", "1000", "Jobs of one."),
        key("endpoints", "count", "16", "Endpoints of one."),
        key(
            "targets",
            "count",
            "100000",
            "Targets of one, all its jobs together; with more every scrape of it fails.",
        ),
        key(
            "series",
            "count",
            "0",
            "Samples of one scrape: a job's `sample_limit` may be lower, not higher.",
        ),
        key(
            "bytes",
            "size",
            "0",
            "Body of one scrape: a job's `body_size_limit` may be lower, not higher.",
        ),
        key(
            "scrape_interval",
            "duration",
            "1s",
            "The shortest interval of scrapes, and `refresh_interval` of `http_sd_configs`, unless \
             that of `global` in this file is shorter.",
        ),
    ],
    unsupported: &[],
};

const NOTHING: Node = Node {
    at: At { line: 0, column: 0 },
    value: Value::Null,
};

/// Reads the block; `None`: it is not there or not enabled. `folder`: where relative paths start.
pub(crate) fn read(file: &Fields<'_>, folder: &Path) -> Option<Arc<ServiceSettings>> {
    let node = file.node("scraping_service")?;
    let fields = Fields::hinted(node, &SERVICE, SERVICE_HINTS, file.problems);
    let path = |text: &str| (!text.is_empty()).then(|| folder.join(text));
    if fields.flag("dangerous_allow_reading_files") == Some(true) {
        let message = "`dangerous_allow_reading_files: true` is not supported: name what may be \
                       read under `secrets`";
        fields.refuse("dangerous_allow_reading_files", message);
    }
    let is_enabled = fields.flag("enabled").unwrap_or(false);
    let settings = ServiceSettings {
        store: store(&fields, folder, is_enabled),
        reshard_interval_ms: duration_ms(&fields, "reshard_interval").unwrap_or(60_000),
        reshard_timeout_ms: fields.duration_ms("reshard_timeout").unwrap_or(30_000),
        num_tokens: tokens(&fields),
        limits: limits(&fields),
        secrets: secrets(&fields, folder),
        allow_networks: networks(&fields),
        enable_read_api: fields.flag("enable_read_api").unwrap_or(false),
        tokens_file: fields.text("tokens_file").and_then(path),
    };
    is_enabled.then(|| Arc::new(settings))
}

/// A duration that is given and not 0.
fn duration_ms(fields: &Fields<'_>, name: &str) -> Option<u64> {
    fields.duration_ms(name).filter(|ms| *ms > 0)
}

fn below<'a>(
    fields: &Fields<'a>,
    name: &str,
    section: &'static Section,
    hints: &[(&str, &str)],
) -> Fields<'a> {
    let node = fields.node(name).unwrap_or(&NOTHING);
    Fields::hinted(node, section, hints, fields.problems)
}

fn store(service: &Fields<'_>, folder: &Path, is_enabled: bool) -> StoreSettings {
    let fields = below(service, "kvstore", &KVSTORE, KVSTORE_HINTS);
    let hint = fields.text("store").and_then(|store| {
        let mut hints = STORE_HINTS.iter();
        hints.find(|(name, _)| *name == store)
    });
    let etcd = etcd(&fields, folder);
    let kind = match (fields.text("store"), hint) {
        (_, Some((name, hint))) => {
            fields.refuse("store", format!("`store: {name}` is not supported: {hint}"));
            StoreKind::Local
        }
        (None | Some(""), _) => {
            if is_enabled {
                let message = "`kvstore.store` is missing; give etcd, local or gossip";
                service.refuse("kvstore", message);
            }
            StoreKind::Local
        }
        _ => {
            let choices = [(0, "etcd"), (1, "local"), (2, "gossip")];
            match fields.choice("store", &choices) {
                Some(0) => {
                    if etcd.endpoints.is_empty() {
                        fields.refuse("store", "`etcd.endpoints` is missing or empty");
                    }
                    StoreKind::Etcd(etcd)
                }
                Some(2) => StoreKind::Gossip,
                _ => StoreKind::Local,
            }
        }
    };
    let prefix = fields.text("prefix").filter(|prefix| !prefix.is_empty());
    StoreSettings {
        prefix: prefix.unwrap_or("configurations/").to_owned(),
        kind,
    }
}

fn etcd(kvstore: &Fields<'_>, folder: &Path) -> EtcdSettings {
    let fields = below(kvstore, "etcd", &ETCD, ETCD_HINTS);
    let text = |name| fields.text(name).unwrap_or_default().to_owned();
    let path = |name| {
        let given = fields.text(name).filter(|text| !text.is_empty());
        given.map(|text| folder.join(text))
    };
    let tls = EtcdTls {
        ca_path: path("tls_ca_path"),
        cert_path: path("tls_cert_path"),
        key_path: path("tls_key_path"),
        server_name: text("tls_server_name"),
        insecure_skip_verify: fields.flag("tls_insecure_skip_verify").unwrap_or(false),
    };
    if tls.cert_path.is_some() != tls.key_path.is_some() {
        fields.refuse(
            "tls_cert_path",
            "`tls_cert_path` and `tls_key_path` go together",
        );
    }
    let max_retries = fields.count("max_retries").unwrap_or(10);
    EtcdSettings {
        endpoints: fields.texts("endpoints").unwrap_or_default(),
        dial_timeout_ms: duration_ms(&fields, "dial_timeout").unwrap_or(10_000),
        max_retries: u32::try_from(max_retries).unwrap_or(u32::MAX),
        tls: fields.flag("tls_enabled").unwrap_or(false).then_some(tls),
        username: text("username"),
        password: text("password"),
    }
}

fn tokens(service: &Fields<'_>) -> u32 {
    let fields = below(service, "lifecycler", &LIFECYCLER, LIFECYCLER_HINTS);
    let ring = below(&fields, "ring", &RING, RING_HINTS);
    ring.map("kvstore");
    if ring
        .count("replication_factor")
        .is_some_and(|factor| factor != 1)
    {
        let message = "`replication_factor` is always 1: one node scrapes a target";
        ring.refuse("replication_factor", message);
    }
    let default = ringscrape_cluster::ring::TOKENS_PER_WEIGHT;
    let given = fields.count_from_1("num_tokens").unwrap_or(default);
    if given != default {
        let message = format!("`num_tokens` is always {default}: nodes must have equal rings");
        fields.refuse("num_tokens", message);
    }
    given
}

fn limits(service: &Fields<'_>) -> InstanceLimits {
    let fields = below(service, "limits", &LIMITS, &[]);
    let default = InstanceLimits::default();
    let count = |name, default| fields.count(name).unwrap_or(default);
    let size = |name, default| fields.size_bytes(name).unwrap_or(default);
    InstanceLimits {
        configs_max: count("configs", default.configs_max),
        config_bytes_max: size("config_bytes", default.config_bytes_max),
        jobs_max: count("jobs", default.jobs_max),
        endpoints_max: count("endpoints", default.endpoints_max),
        targets_max: count("targets", default.targets_max),
        series_max: count("series", default.series_max),
        bytes_max: size("bytes", default.bytes_max),
        scrape_interval_min_ms: fields
            .duration_ms("scrape_interval")
            .unwrap_or(default.scrape_interval_min_ms),
    }
}

fn secrets(service: &Fields<'_>, folder: &Path) -> BTreeMap<String, std::path::PathBuf> {
    let mut secrets = BTreeMap::new();
    for (name, file, at) in service.text_map("secrets") {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || !name.chars().all(is_name) {
            let message = format!(
                "`secrets`: {name:?} is not a name: give letters, digits, `_`, `-` and `.`"
            );
            service.problems.add(at, message);
        } else if file.is_empty() {
            let message = format!("`secrets`: {name:?} names no file");
            service.problems.add(at, message);
        }
        secrets.insert(name.to_owned(), folder.join(file));
    }
    secrets
}

fn networks(service: &Fields<'_>) -> Networks {
    let Some(items) = service.list("allow_networks") else {
        return Networks::default();
    };
    let mut networks = Vec::new();
    for (text, item) in texts("allow_networks", items, service.problems)
        .iter()
        .zip(items)
    {
        match Network::parse(text) {
            Some(network) => networks.push(network),
            None => {
                let message = format!(
                    "`allow_networks`: {text:?} is not a network such as 10.0.0.0/8 or fd00::/8"
                );
                service.problems.add(item.at, message);
            }
        }
    }
    Networks::Listed(networks)
}
