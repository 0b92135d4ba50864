//! `file_sd_configs[]` and `http_sd_configs[]` -> where to look for targets.

use super::section::{Fields, HTTP_CLIENT, Section, key, not_supported};
use super::yaml::Value;
use super::{FileSdConfig, HttpSdConfig};
use std::path::Path;

/// `file_sd_configs[]`.
pub(crate) const FILE_SD: Section = Section {
    path: "file_sd_configs[]",
    keys: &[
        key(
            "files",
            "list of paths",
            "required",
            "JSON or YAML files of target groups; the last element of a path may hold one `*`. \
             Relative paths start at the folder of the configuration.",
        ),
        key(
            "refresh_interval",
            "duration",
            "5m",
            "How often all files are read again; changes are noticed at once besides.",
        ),
    ],
    unsupported: &[],
};

/// `http_sd_configs[]`.
pub(crate) const HTTP_SD: Section = Section {
    path: "http_sd_configs[]",
    keys: &[
        key(
            "url",
            "URL",
            "required",
            "Answers with a JSON list of target groups.",
        ),
        key(
            "refresh_interval",
            "duration",
            "1m",
            "How often it is asked.",
        ),
        key("follow_redirects", "`true`", "true", "Only the default."),
        key(
            "enable_http2",
            "true or false",
            "true",
            "No effect: HTTP/2 needs TLS.",
        ),
    ],
    unsupported: &[HTTP_CLIENT],
};

/// Kinds of discovery that this version doesn't have.
pub(crate) const OTHER_KINDS: &[&str] = &[
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "dns_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "ionos_sd_configs",
    "kubernetes_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "oci_sd_configs",
    "openstack_sd_configs",
    "outscale_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
];

/// `refresh_interval` of file_sd, default 5m.
const FILE_REFRESH_MS_DEFAULT: u64 = 5 * 60_000;
/// `refresh_interval` of http_sd, default 1m.
const HTTP_REFRESH_MS_DEFAULT: u64 = 60_000;

fn refresh_interval_ms(fields: &Fields<'_>, default: u64) -> u64 {
    fields
        .duration_ms("refresh_interval")
        .filter(|ms| *ms > 0)
        .unwrap_or(default)
}

pub(crate) fn file_sd_configs(job: &Fields<'_>, folder: &Path) -> Vec<FileSdConfig> {
    let nodes = job.list("file_sd_configs").unwrap_or_default();
    let configs = nodes.iter().map(|node| {
        let fields = Fields::new(node, &FILE_SD, job.problems);
        let items = fields.list("files").unwrap_or_default();
        if items.is_empty() {
            fields.refuse("files", "`files` is missing or empty");
        }
        for item in items {
            if let Value::Text(path) = &item.value
                && !is_file_pattern(path)
            {
                let message = format!(
                    "path {path:?}: must end in .json, .yml or .yaml, and only its last element \
                     may hold a `*`, once"
                );
                fields.problems.add(item.at, message);
            }
        }
        let files = fields.texts("files").unwrap_or_default();
        FileSdConfig {
            files: files.iter().map(|file| folder.join(file)).collect(),
            refresh_interval_ms: refresh_interval_ms(&fields, FILE_REFRESH_MS_DEFAULT),
        }
    });
    configs.collect()
}

/// Source: Prometheus discovery/file/file.go, `patFileSDName`.
fn is_file_pattern(path: &str) -> bool {
    let (before, after) = path.split_once('*').unwrap_or((path, ""));
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    let known = ["json", "yml", "yaml", "JSON", "YML", "YAML"].contains(&extension);
    known && !after.contains(['/', '*']) && !(before.is_empty() && path.starts_with('.'))
}

pub(crate) fn http_sd_configs(job: &Fields<'_>) -> Vec<HttpSdConfig> {
    let nodes = job.list("http_sd_configs").unwrap_or_default();
    let configs = nodes.iter().map(|node| {
        let fields = Fields::new(node, &HTTP_SD, job.problems);
        fields.only("follow_redirects", &["true"]);
        fields.flag("enable_http2");
        HttpSdConfig {
            url: http_url(&fields),
            refresh_interval_ms: refresh_interval_ms(&fields, HTTP_REFRESH_MS_DEFAULT),
            targets_max: None,
            networks: None,
        }
    });
    configs.collect()
}

/// Key `url`: an http URL with a host, else noted.
pub(crate) fn http_url(fields: &Fields<'_>) -> String {
    let text = fields.text("url").unwrap_or_default();
    if text.is_empty() {
        fields.refuse("url", "`url` is missing or empty");
        return String::new();
    }
    match url::Url::parse(text) {
        Ok(url) if url.scheme() == "https" => {
            fields.refuse("url", not_supported("`url` with https"));
        }
        Ok(url) if url.scheme() == "http" && url.has_host() => {}
        // A URL may hold a password: what stands before an `@` is not shown.
        Ok(_) => {
            let shown = text.rsplit('@').next().unwrap_or_default();
            fields.refuse("url", format!("`url`: {shown:?} must begin with http://"));
        }
        Err(cause) => {
            let shown = text.rsplit('@').next().unwrap_or_default();
            fields.refuse("url", format!("`url`: {shown:?} is not a URL: {cause}"));
        }
    }
    text.to_owned()
}
