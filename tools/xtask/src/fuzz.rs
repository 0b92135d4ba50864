//! The fuzz targets -> built with coverage and the address sanitizer, run for a while each.
//!
//! No tool is installed: libFuzzer comes with the `libfuzzer-sys` crate, and the stable compiler
//! has the instrumentation; `RUSTC_BOOTSTRAP` unlocks `-Zsanitizer`, for these builds only.
//! The flags are those that cargo-fuzz passes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::Report;
use crate::run::{self, say};

/// How long each target runs.
pub(crate) const SECONDS: u32 = 40;

const TARGETS: &[&str] = &[
    "text",
    "openmetrics",
    "protobuf",
    "http_response",
    "wal_directory",
    "wal_reader",
    "agent_log",
    "gossip_packet",
    "exchange_frames",
];
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
const FLAGS: &str = "-Zsanitizer=address -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing -Cforce-frame-pointers -Ccodegen-units=1";
/// C dependencies are instrumented too (the `cc` crate passes the sanitizer on). Two functions of
/// libdeflate, made of one template, have a constant each that gcc keeps once but registers twice,
/// which the check for variables that are defined twice takes for one. Rust has no such variables.
const SANITIZER_OPTIONS: &str = "detect_odr_violation=0";

/// Builds all targets, then runs them two at a time. What was found is kept under `target/fuzz`.
pub(crate) fn run(root: &Path, seconds: u32, report: &mut Report) {
    let complaints = build(root);
    if !complaints.is_empty() {
        report.step("fuzz build", &complaints);
        return;
    }
    for pair in TARGETS.chunks(2) {
        let results: Vec<Vec<String>> = std::thread::scope(|scope| {
            let started: Vec<_> = pair
                .iter()
                .map(|name| scope.spawn(|| fuzz(root, name, seconds)))
                .collect();
            let panicked = |_| vec!["the runner panicked".to_owned()];
            started
                .into_iter()
                .map(|t| t.join().unwrap_or_else(panicked))
                .collect()
        });
        for (name, complaints) in pair.iter().zip(results) {
            report.step(&format!("fuzz {name} for {seconds} s"), &complaints);
        }
    }
}

fn folder(root: &Path) -> PathBuf {
    root.join("target").join("fuzz")
}

fn build(root: &Path) -> Vec<String> {
    let project = root.join("tests").join("fuzz");
    // The same versions as everything else is tested with.
    if let Err(error) = std::fs::copy(root.join("Cargo.lock"), project.join("Cargo.lock")) {
        return vec![format!("cannot copy Cargo.lock: {error}")];
    }
    let mut command = run::cargo(
        &project,
        &["build", "--release", "--bins", "--target", PLATFORM],
    );
    command.arg("--target-dir").arg(folder(root));
    command.env("RUSTFLAGS", FLAGS).env("RUSTC_BOOTSTRAP", "1");
    run::shown(&mut command)
}

fn fuzz(root: &Path, name: &str, seconds: u32) -> Vec<String> {
    let folder = folder(root);
    let corpus = folder.join("corpus").join(name);
    let findings = folder.join("findings").join(name);
    for dir in [&corpus, &findings] {
        if let Err(error) = std::fs::create_dir_all(dir) {
            return vec![format!("cannot make {}: {error}", dir.display())];
        }
    }
    let mut command = Command::new(folder.join(PLATFORM).join("release").join(name));
    command
        .env("ASAN_OPTIONS", SANITIZER_OPTIONS)
        .arg(format!("-max_total_time={seconds}"))
        .arg("-timeout=10")
        .arg("-rss_limit_mb=2048")
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(corpus)
        .arg(root.join("tests").join("fuzz").join("seeds").join(name));
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return vec![format!("cannot start: {error}")],
    };
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let runs = text
            .lines()
            .find_map(|l| l.strip_prefix("stat::number_of_executed_units:"));
        say(&format!("fuzz {name}: {} runs", runs.unwrap_or("?").trim()));
        return Vec::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(40);
    let mut complaints = vec![format!("found something; see {}", findings.display())];
    complaints.extend(lines[from..].iter().map(|line| (*line).to_owned()));
    complaints
}
