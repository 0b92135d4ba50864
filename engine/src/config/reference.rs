//! The tables of keys -> the reference page `docs/configuration.md`.

use super::section::{HTTP_CLIENT, Section};
use super::{
    agent_file, clustering, discovery, global, instance, relabel, remote_write, scrape, service,
    web,
};
use std::fmt::Write as _;

const INTRODUCTION: &str = "\
# Configuration

The file that `--config.file` names is YAML with the schema of Prometheus' configuration. This
page is made from the tables that the reader checks against.

- Nothing is ignored: a key that doesn't exist or a value that can't be used is an error with file,
  line and column, and so is a key of Prometheus that this version doesn't support. All problems
  are shown at once. A file with a problem changes nothing in a running process.
- A duration is written `15s`, `1m30s`, `2h` or `100ms`; units are `y w d h m s ms`, from large to
  small. A size is written `512KB` or `16MB`; 1KB is 1024 bytes.
- A key without a value has the empty value of its type, as in Prometheus: an empty text, `false`,
  or for the rest the same as no key.
- A limit of 0 in a job takes the value of `global`.
";

const SECTIONS: [(&Section, &str); 24] = [
    (&global::FILE, "The file"),
    (&global::GLOBAL, "`global`"),
    (&scrape::SCRAPE, "`scrape_configs[]`: one job"),
    (&clustering::CLUSTERING, "`clustering`"),
    (&scrape::STATIC, "`static_configs[]`"),
    (&discovery::FILE_SD, "`file_sd_configs[]`"),
    (&discovery::HTTP_SD, "`http_sd_configs[]`"),
    (
        &relabel::RULE,
        "`relabel_configs[]`, `metric_relabel_configs[]`, `write_relabel_configs[]`",
    ),
    (
        &remote_write::REMOTE_WRITE,
        "`remote_write[]`: one endpoint",
    ),
    (&remote_write::QUEUE, "`remote_write[].queue_config`"),
    (&remote_write::METADATA, "`remote_write[].metadata_config`"),
    (
        &service::SERVICE,
        "`scraping_service`: jobs and endpoints from a store",
    ),
    (&service::KVSTORE, "`scraping_service.kvstore`"),
    (&service::ETCD, "`scraping_service.kvstore.etcd`"),
    (&service::LIFECYCLER, "`scraping_service.lifecycler`"),
    (&service::RING, "`scraping_service.lifecycler.ring`"),
    (&service::LIMITS, "`scraping_service.limits`"),
    (
        &instance::INSTANCE,
        "A stored configuration (not a part of the file)",
    ),
    (
        &agent_file::AGENT_FILE,
        "A file in the layout of Grafana Agent's scraping service mode",
    ),
    (&agent_file::SERVER, "`server` in that layout"),
    (&agent_file::METRICS, "`metrics` in that layout"),
    (&web::WEB, "The file that `--web.config.file` names"),
    (&web::TLS_SERVER, "`tls_server_config` in it"),
    (&web::HTTP_SERVER, "`http_server_config` in it"),
];

/// The whole page, in Markdown.
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (section, title) in SECTIONS {
        let _ = write!(page, "\n## {title}\n\n");
        page.push_str("| Key | Type, unit | Default | Effect |\n| --- | --- | --- | --- |\n");
        for key in section.keys {
            let (name, kind, default, effect) = (key.name, key.kind, key.default, key.effect);
            let _ = writeln!(page, "| `{name}` | {kind} | {default} | {effect} |");
        }
        let refused: Vec<String> = section
            .unsupported
            .iter()
            .filter(|names| **names != HTTP_CLIENT)
            .flat_map(|names| names.iter().map(|name| format!("`{name}`")))
            .collect();
        if !refused.is_empty() {
            let _ = write!(
                page,
                "\nNot supported by this version: {}.\n",
                refused.join(", ")
            );
        }
        if section.unsupported.contains(&HTTP_CLIENT) {
            page.push_str("\nNeither are the settings of HTTP clients (below).\n");
        }
    }
    page.push_str("\n## Settings of HTTP clients\n\nNot supported by this version: ");
    let names: Vec<String> = HTTP_CLIENT.iter().map(|name| format!("`{name}`")).collect();
    let _ = writeln!(page, "{}.", names.join(", "));
    page
}
