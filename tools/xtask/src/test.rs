//! The second command of the README -> every check and test of the repository, counted.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::instructions::{self, Purpose};
use crate::report::Report;
use crate::{fuzz, licences, packages, run, tidy};

/// One profile for everything, so that nothing is built twice.
const PROFILE: &str = "checked";

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Everything,
    /// Without fuzzing, counting instructions and the suites that drive whole processes.
    Quick,
}

/// Runs all steps; a failed one does not stop the others, except that tests need a build.
pub(crate) fn run(root: &Path, extent: Extent, report: &mut Report) {
    packages::run(report);
    components(report);
    report.step(
        "format",
        &run::shown(&mut run::cargo(root, &["fmt", "--all", "--check"])),
    );
    tidy::run(root, report);
    licences::run(root, report);
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--profile",
        PROFILE,
    ];
    let mut clippy = run::cargo(root, &clippy);
    report.step("clippy", &run::shown(clippy.args(["--", "-D", "warnings"])));
    let build = ["build", "--workspace", "--profile", PROFILE];
    let build = run::shown(&mut run::cargo(root, &build));
    let is_built = build.is_empty();
    report.step("build", &build);
    if is_built {
        match extent {
            Extent::Everything => tests(root, &["--workspace"], report),
            Extent::Quick => {
                tests(
                    root,
                    &["--workspace", "--exclude", "ringscrape-tests"],
                    report,
                );
                tests(root, &["--package", "ringscrape-tests", "--lib"], report);
            }
        }
    }
    if extent == Extent::Everything {
        fuzz::run(root, fuzz::SECONDS, report);
        instructions::run(root, Purpose::CompareIfThere, report);
    }
}

/// Adds rustfmt and clippy where rustup is there and they are not.
fn components(report: &mut Report) {
    for (program, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        if run::output(Command::new(program).arg("--version")).is_err() {
            let complaints =
                run::shown(Command::new("rustup").args(["component", "add", component]));
            if !complaints.is_empty() {
                report.note(&format!(
                    "{component} is missing and rustup could not add it"
                ));
            }
        }
    }
}

fn tests(root: &Path, which: &[&str], report: &mut Report) {
    let mut command = run::cargo(root, &["test", "--profile", PROFILE, "--no-fail-fast"]);
    command.args(which).env("RINGSCRAPE_BIN", binary(root));
    let mut counts = Counts::default();
    let succeeded = run::each_line(&mut command, |line| counts.take(line));
    if !succeeded && counts.failed.is_empty() {
        counts
            .failed
            .push(format!("cargo test {} (no test named)", which.join(" ")));
    }
    report.tests(counts.passed, &counts.failed);
    if counts.ignored > 0 {
        report.note(&format!(
            "{} tests are ignored: tools, or run on demand",
            counts.ignored
        ));
    }
}

fn binary(root: &Path) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || root.join("target"),
        |dir| {
            root.join(dir) // An absolute path replaces the root.
        },
    );
    target.join(PROFILE).join("ringscrape")
}

/// What the lines of `cargo test` say.
#[derive(Debug, Default)]
struct Counts {
    passed: usize,
    ignored: usize,
    failed: Vec<String>,
    /// Failures that the current binary has named.
    named: usize,
}

impl Counts {
    fn take(&mut self, line: &str) {
        if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|l| l.strip_suffix(" ... FAILED"))
        {
            self.failed.push(format!("test {name}"));
            self.named += 1;
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            let number = |word: &str| -> usize {
                let before = rest.split(word).next().unwrap_or_default().trim_end();
                before
                    .rsplit(' ')
                    .next()
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(0)
            };
            self.passed += number("passed");
            self.ignored += number("ignored");
            // A name can be torn by a test's own output; the count cannot.
            for _ in self.named..number("failed") {
                self.failed.push("a test that is not named".to_owned());
            }
            self.named = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo_test_are_counted() {
        let mut counts = Counts::default();
        for line in [
            "test a::b ... ok",
            "test c ... FAILED",
            "test result: FAILED. 12 passed; 2 failed; 3 ignored; 0 measured; 0 filtered out",
            "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 6 filtered out; finished",
        ] {
            counts.take(line);
        }
        assert_eq!((counts.passed, counts.ignored), (17, 3));
        assert_eq!(counts.failed, ["test c", "a test that is not named"]);
    }
}
