//! A configuration file with a fault -> no start, and a message that names file, line and text.

use std::path::Path;

use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::net;

use crate::{LIMIT, ringscrape, subject};

/// Starts on `config`, expects a refusal, and that the message has each of `words`.
fn refused(engine: Engine, config: &str, words: &[&str]) {
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    let mut running = Running::start(engine, dir.path(), config, &[]);
    let status = running.process.wait(LIMIT);
    assert!(!status.success(), "accepted: {config}");
    let log = running.process.log();
    for word in words.iter().chain(&["config.yml"]) {
        assert!(log.contains(word), "{word:?} is not in the message:\n{log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn broken_yaml() {
    let Some(engine) = subject() else { return };
    refused(
        engine,
        "global:\n  scrape_interval: [1s\nscrape_configs: x: y\n",
        &[],
    );
    refused(
        engine,
        "scrape_configs:\n- job_name: a\n\t static_configs: []\n",
        &["3"],
    );
    refused(engine, "just text\n", &["just text"]);
}

#[test]
fn unknown_key_with_its_line() {
    let Some(engine) = subject() else { return };
    let config = "global: {}\nscrape_configs:\n- job_name: a\n  metrics_pathh: /x\n";
    refused(engine, config, &["metrics_pathh", "4"]);
    refused(
        engine,
        "global: {}\n\nscrape_config: []\n",
        &["scrape_config", "3"],
    );
    let config =
        "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - {action: keep, regx: a}\n";
    refused(engine, config, &["regx", "4"]);
}

#[test]
fn bad_values() {
    let Some(engine) = subject() else { return };
    refused(
        engine,
        "global: {scrape_interval: 5 parsecs}\n",
        &["5 parsecs"],
    );
    let config = "scrape_configs:\n- {job_name: a, scrape_interval: 1s, scrape_timeout: 2s}\n";
    refused(engine, config, &["timeout", "a"]);
    let config = "scrape_configs:\n- {job_name: twin}\n- {job_name: twin}\n";
    refused(engine, config, &["twin"]);
    let config = "scrape_configs:\n- job_name: a\n  relabel_configs: [{regex: 'a(', action: keep, \
                  source_labels: [x]}]\n";
    refused(engine, config, &["a("]);
    let config = "scrape_configs:\n- job_name: a\n  relabel_configs: [{action: explode}]\n";
    refused(engine, config, &["explode"]);
    refused(
        engine,
        "remote_write: [{url: 'not a url:'}]\n",
        &["not a url:"],
    );
    refused(
        engine,
        "scrape_configs: [{metrics_path: /x}]\n",
        &["job_name"],
    );
}

#[test]
fn keys_of_prometheus_that_are_not_supported_are_refused_by_name() {
    let Some(engine) = subject() else { return };
    refused(engine, "rule_files: [a.yml]\n", &["rule"]);
    let Some(engine) = ringscrape() else { return };
    refused(engine, "rule_files: [a.yml]\n", &["rule_files", "1"]);
    let config = "\nalerting: {alert_relabel_configs: []}\n";
    refused(engine, config, &["alerting", "2"]);
    let config = "scrape_configs:\n- job_name: a\n  kubernetes_sd_configs: [{role: pod}]\n";
    refused(engine, config, &["kubernetes_sd_configs", "3"]);
}

#[test]
fn a_missing_file() {
    let Some(engine) = subject() else { return };
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    let file = dir.path().join("nowhere.yml");
    let address = net::free_address();
    let mut running = Running::start_on(engine, dir.path(), Path::new(&file), address, &[]);
    assert!(!running.process.wait(LIMIT).success());
    let log = running.process.log();
    assert!(
        log.contains("nowhere.yml") && log.contains("no such file or directory")
            || log.contains("No such file or directory"),
        "{log}"
    );
}

#[test]
fn an_address_that_is_taken() {
    let Some(engine) = subject() else { return };
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    let file = dir.path().join("config.yml");
    std::fs::write(&file, "global: {}\n").expect("cannot write a configuration file");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let mut running = Running::start_on(engine, dir.path(), &file, address, &[]);
    assert!(!running.process.wait(LIMIT).success());
    let log = running.process.log();
    assert!(log.contains(&address.to_string()), "{log}");
}
