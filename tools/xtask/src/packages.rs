//! The programs that tests drive -> Debian packages, installed where that is allowed.

use std::path::Path;
use std::process::Command;

use crate::report::Report;
use crate::run;

/// A program that must be found, and the Debian package that has it.
const NEEDED: &[(&str, &str)] = &[
    ("prometheus", "prometheus"),
    ("prometheus-node-exporter", "prometheus-node-exporter"),
    ("etcd", "etcd-server"),
    // Looks at the pages.
    ("chromium", "chromium"),
    // Shifts the clock of a node.
    ("faketime", "faketime"),
    // Answers for names that nodes look up.
    ("dnsmasq", "dnsmasq-base"),
    ("victoria-metrics", "victoria-metrics"),
    // Makes certificates.
    ("openssl", "openssl"),
    // Asks web servers.
    ("curl", "curl"),
    // Counts instructions.
    ("valgrind", "valgrind"),
    // Compiles the fuzzing runtime and the C parts of dependencies.
    ("c++", "g++"),
];

/// Installs what is missing; what stays missing is a note, since tests say themselves what they
/// skip (or, with `CI=true`, fail on).
pub(crate) fn run(report: &mut Report) {
    let missing = missing();
    if missing.is_empty() {
        return;
    }
    run::say(&format!("missing Debian packages: {}", missing.join(" ")));
    let Some(prefix) = administrator() else {
        report.note(&format!(
            "may not install Debian packages here; run: apt-get install {}",
            missing.join(" ")
        ));
        return;
    };
    let mut words = vec!["install", "--yes", "--no-install-recommends"];
    words.extend(&missing);
    if !apt(&prefix, &words) && apt(&prefix, &["update"]) {
        apt(&prefix, &words);
    }
    let missing = self::missing();
    if !missing.is_empty() {
        report.note(&format!("apt-get could not install: {}", missing.join(" ")));
    }
}

fn missing() -> Vec<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    NEEDED
        .iter()
        .filter(|(name, _)| !is_there(name))
        .map(|(_, package)| *package)
        .collect()
}

/// The words before `apt-get`: none for root, sudo where it asks for no password.
fn administrator() -> Option<Vec<&'static str>> {
    if !Path::new("/etc/debian_version").exists() {
        return None;
    }
    let is_root = run::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if is_root {
        return Some(Vec::new());
    }
    let may_sudo = run::output(Command::new("sudo").args(["-n", "true"])).is_ok();
    may_sudo.then(|| vec!["sudo", "-n"])
}

fn apt(prefix: &[&str], words: &[&str]) -> bool {
    // At run level 1 the packages' services are not started: tests start what they need.
    let mut all: Vec<&str> = prefix.to_vec();
    all.extend([
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "RUNLEVEL=1",
        "apt-get",
    ]);
    all.extend(words);
    run::shown(Command::new(all[0]).args(&all[1..])).is_empty()
}
