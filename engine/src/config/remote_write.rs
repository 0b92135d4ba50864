//! `remote_write[]` -> endpoints, each under an identity that its cursor is kept under.

use super::discovery::http_url;
use super::global::Global;
use super::section::{Fields, HTTP_CLIENT, Section, key};
use super::yaml::{At, Node, Value};
use super::{CompressionChoice, Endpoint, ProtobufMessage, QueueConfig, StartAt, relabel};
use std::sync::Arc;

/// `remote_write[]`.
pub(crate) const REMOTE_WRITE: Section = Section {
    path: "remote_write[]",
    keys: &[
        key("url", "URL", "required", "Receives the samples."),
        key(
            "name",
            "text",
            "none",
            "Names the endpoint in metrics, and its position in the log: with a name it keeps \
             its position when the URL changes. Unique. Without one, the URL without user and \
             password and the tenant header `X-Scope-OrgID` count; so other credentials, and a \
             name that is given later, change nothing.",
        ),
        key(
            "former_names",
            "list of texts",
            "none (not in Prometheus)",
            "Names, or URLs while there was no name, that the endpoint had before: it goes on \
             at their position in the log, if no other endpoint has them now.",
        ),
        key(
            "start_at",
            "`now` or `oldest`",
            "now (not in Prometheus)",
            "What an endpoint gets that is new: what is scraped from now on, or also what is in \
             the log, whichever endpoint that was for.",
        ),
        key(
            "remote_timeout",
            "duration",
            "30s",
            "Time that a request may take.",
        ),
        key(
            "headers",
            "mapping of texts",
            "none",
            "Added to each request.",
        ),
        key(
            "write_relabel_configs",
            "list of rules",
            "none",
            "Change or drop series when sending.",
        ),
        key(
            "send_exemplars",
            "true or false",
            "false",
            "Whether exemplars are sent.",
        ),
        key(
            "send_native_histograms",
            "true or false",
            "false",
            "Whether native histograms are sent. In remote write 2.0 they always are.",
        ),
        key("round_robin_dns", "`false`", "false", "Only the default."),
        key("enable_http2", "`false`", "false", "Only the default."),
        key(
            "follow_redirects",
            "`false`",
            "false (Prometheus: true)",
            "A redirect is not followed; it is reported and tried again like a wrong address.",
        ),
        key(
            "protobuf_message",
            "`prometheus.WriteRequest` or `io.prometheus.write.v2.Request`",
            "`prometheus.WriteRequest`",
            "Remote write 1.0 or 2.0. An endpoint that does not take 2.0 gets 1.0, which is logged.",
        ),
        key(
            "compression",
            "`auto`, `snappy` or `zstd`",
            "auto (not in Prometheus: snappy)",
            "`auto` offers zstd as VictoriaMetrics takes it, which is half the size, and sends \
             snappy to an endpoint that refuses it; for remote write 2.0 it is snappy. The others \
             are sent whatever is answered.",
        ),
        key("queue_config", "mapping", "none", "How sending is paced."),
        key(
            "metadata_config",
            "mapping",
            "none",
            "Whether HELP, TYPE and UNIT are sent.",
        ),
    ],
    unsupported: &[HTTP_CLIENT, &["azuread", "google_iam", "sigv4"]],
};

/// `remote_write[].queue_config`.
pub(crate) const QUEUE: Section = Section {
    path: "queue_config",
    keys: &[
        key(
            "capacity",
            "count",
            "10000",
            "No effect: the log on disk is the queue.",
        ),
        key(
            "min_shards",
            "count",
            "1",
            "Requests that may be in flight at once, however slow or overloaded the receiver is; \
             sending begins with so many.",
        ),
        key(
            "max_shards",
            "count, 1 or more",
            "50",
            "Requests in flight at once, in the process. How many there are follows the \
             receiver's answers.",
        ),
        key(
            "max_samples_per_send",
            "count, 1 or more",
            "10000",
            "Samples in one request.",
        ),
        key(
            "batch_send_deadline",
            "duration",
            "5s",
            "How long samples wait for more before a request goes that is not full.",
        ),
        key(
            "min_backoff",
            "duration",
            "30ms",
            "First pause after a failure; doubled each time.",
        ),
        key("max_backoff", "duration", "5s", "Longest pause."),
        key(
            "retry_on_http_429",
            "true or false",
            "true (Prometheus: false)",
            "Whether a request is tried again that the receiver refused for its rate.",
        ),
        key(
            "sample_age_limit",
            "duration",
            "0 = none",
            "Samples older than this are dropped, and counted, instead of sent.",
        ),
    ],
    unsupported: &[],
};

/// `remote_write[].metadata_config`.
pub(crate) const METADATA: Section = Section {
    path: "metadata_config",
    keys: &[
        key(
            "send",
            "true or false",
            "true",
            "Whether HELP, TYPE and UNIT are sent.",
        ),
        key(
            "send_interval",
            "duration",
            "1m",
            "How often; in remote write 2.0 they are part of every series.",
        ),
        key(
            "max_samples_per_send",
            "count",
            "2000",
            "No effect: metadata goes with samples.",
        ),
    ],
    unsupported: &[],
};

/// Headers that the protocol sets itself.
const RESERVED_HEADERS: [&str; 15] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "transfer-encoding",
    "user-agent",
    "www-authenticate",
    "x-prometheus-remote-write-version",
    "x-victoriametrics-remote-write-version",
];

const MESSAGES: [(ProtobufMessage, &str); 2] = [
    (ProtobufMessage::Version1, "prometheus.WriteRequest"),
    (ProtobufMessage::Version2, "io.prometheus.write.v2.Request"),
];

const STARTS: [(StartAt, &str); 2] = [(StartAt::Now, "now"), (StartAt::Oldest, "oldest")];

const COMPRESSIONS: [(CompressionChoice, &str); 3] = [
    (CompressionChoice::Auto, "auto"),
    (CompressionChoice::Snappy, "snappy"),
    (CompressionChoice::Zstd, "zstd"),
];

/// The header that tells a receiver's tenants apart (Mimir, Cortex, Loki).
const TENANT_HEADER: &str = "X-Scope-OrgID";

const NO_SECTION: Node = Node {
    at: At { line: 0, column: 0 },
    value: Value::Null,
};

/// Reads all endpoints; equal ones become one.
pub(crate) fn read(file: &Fields<'_>, global: &Global) -> Vec<Arc<Endpoint>> {
    let mut endpoints = Vec::<(Arc<Endpoint>, At)>::new();
    for node in file.list("remote_write").unwrap_or_default() {
        if matches!(node.value, Value::Null) {
            file.problems.add(node.at, "empty entry in `remote_write`");
            continue;
        }
        let fields = Fields::new(node, &REMOTE_WRITE, file.problems);
        let endpoint = endpoint(&fields, global);
        match endpoints
            .iter()
            .find(|(have, _)| have.identity == endpoint.identity)
        {
            Some((have, _)) if **have == endpoint => {}
            Some((_, at)) => {
                let message = format!(
                    "this endpoint and the one at line {} are both {:?} but differ in settings: \
                     set a `name` of its own for each",
                    at.line, endpoint.identity
                );
                file.problems.add(node.at, message);
            }
            None => endpoints.push((Arc::new(endpoint), node.at)),
        }
    }
    endpoints
        .into_iter()
        .map(|(endpoint, _)| endpoint)
        .collect()
}

fn endpoint(fields: &Fields<'_>, global: &Global) -> Endpoint {
    let url = http_url(fields);
    let headers = headers(fields);
    fields.only("round_robin_dns", &["false"]);
    fields.only("enable_http2", &["false"]);
    fields.only("follow_redirects", &["false"]);
    let metadata = Fields::new(
        fields.node("metadata_config").unwrap_or(&NO_SECTION),
        &METADATA,
        fields.problems,
    );
    metadata.count("max_samples_per_send");
    let name = fields.text("name").filter(|name| !name.is_empty());
    let unnamed = identity(&url, &headers);
    let mut former_identities = fields.texts("former_names").unwrap_or_default();
    former_identities.extend(name.map(|_| unnamed.clone()));
    let identity = name.map_or(unnamed, str::to_owned);
    former_identities.retain(|former| *former != identity);
    Endpoint {
        identity,
        former_identities,
        start_at: fields.choice("start_at", &STARTS).unwrap_or_default(),
        remote_timeout_ms: positive(fields, "remote_timeout").unwrap_or(30_000),
        write_relabel_configs: relabel::rules(fields, "write_relabel_configs"),
        external_labels: global.external_labels.clone(),
        protobuf_message: match fields.text("protobuf_message") {
            Some("") => ProtobufMessage::default(),
            _ => fields
                .choice("protobuf_message", &MESSAGES)
                .unwrap_or_default(),
        },
        compression: fields
            .choice("compression", &COMPRESSIONS)
            .unwrap_or_default(),
        send_exemplars: fields.flag("send_exemplars").unwrap_or(false),
        send_native_histograms: fields.flag("send_native_histograms").unwrap_or(false),
        send_metadata: metadata.flag("send").unwrap_or(true),
        metadata_interval_ms: positive(&metadata, "send_interval").unwrap_or(60_000),
        queue: queue(fields.node("queue_config").unwrap_or(&NO_SECTION), fields),
        networks: None,
        url,
        headers,
    }
}

/// A duration that is given and not 0.
fn positive(fields: &Fields<'_>, name: &str) -> Option<u64> {
    fields.duration_ms(name).filter(|ms| *ms > 0)
}

/// The URL without user and password, and the tenant if there is one.
pub(crate) fn identity(url: &str, headers: &[(String, String)]) -> String {
    let mut identity = match url::Url::parse(url) {
        Ok(mut parsed) => {
            // Both fail only for URLs that can't have a host.
            let _ = parsed.set_username("");
            let _ = parsed.set_password(None);
            parsed.to_string()
        }
        Err(_) => url.to_owned(),
    };
    let tenant = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(TENANT_HEADER));
    if let Some((_, tenant)) = tenant {
        identity.push_str(&format!(" {TENANT_HEADER}={tenant}"));
    }
    identity
}

fn headers(fields: &Fields<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::<(String, String)>::new();
    for (name, value, at) in fields.text_map("headers") {
        let lower = name.to_ascii_lowercase();
        if RESERVED_HEADERS.contains(&lower.as_str()) {
            let message = format!("`headers`: {name:?} is set by ringscrape itself");
            fields.problems.add(at, message);
        } else if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            fields
                .problems
                .add(at, format!("`headers`: {name:?} is not a header name"));
        } else if http::HeaderValue::from_str(value).is_err() {
            // The value may be a secret: it is not shown.
            fields.problems.add(
                at,
                format!("`headers`: the value of {name:?} can't be sent"),
            );
        } else if headers
            .iter()
            .any(|(have, _)| have.eq_ignore_ascii_case(name))
        {
            fields
                .problems
                .add(at, format!("`headers`: {name:?} is there twice"));
        }
        headers.push((name.to_owned(), value.to_owned()));
    }
    headers
}

fn queue(node: &Node, endpoint: &Fields<'_>) -> QueueConfig {
    let fields = Fields::new(node, &QUEUE, endpoint.problems);
    fields.count("capacity");
    let requests_in_flight_max = fields.count_from_1("max_shards").unwrap_or(50);
    let backoff_min_ms = positive(&fields, "min_backoff").unwrap_or(30);
    let backoff_max_ms = positive(&fields, "max_backoff").unwrap_or(5_000.max(backoff_min_ms));
    if backoff_min_ms > backoff_max_ms {
        fields.refuse("min_backoff", "`min_backoff` is longer than `max_backoff`");
    }
    QueueConfig {
        requests_in_flight_min: fields
            .count("min_shards")
            .map_or(1, |min| u32::try_from(min).unwrap_or(u32::MAX))
            .clamp(1, requests_in_flight_max),
        requests_in_flight_max,
        samples_per_send_max: fields
            .count_from_1("max_samples_per_send")
            .unwrap_or(10_000),
        batch_send_deadline_ms: positive(&fields, "batch_send_deadline").unwrap_or(5_000),
        backoff_min_ms,
        backoff_max_ms,
        retry_on_http_429: fields.flag("retry_on_http_429").unwrap_or(true),
        sample_age_limit_ms: fields.duration_ms("sample_age_limit").unwrap_or(0),
    }
}
