//! Fixed workloads under valgrind -> instructions per sample, compared with a budget in a file.
//!
//! Each workload runs twice, one time oftener; the difference of the two counts is free of what
//! starting and setting up take. Counts do not depend on how busy or fast a machine is, so a change
//! of a few percent shows where a timing shows nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::Report;
use crate::run::{self, say};

const BUDGET: &str = "bench/micro/instructions.toml";
const HEAD: &str = "\
# Instructions per sample of the workloads in examples/workloads.rs, release build, under callgrind.
# `cargo xtask instructions` compares, `cargo xtask instructions --update` writes.
";
/// Above the budget by this factor is a failure …
const FACTOR_MAX: f64 = 1.03;
/// … and below it by this one asks for a lower budget.
const FACTOR_LOW: f64 = 0.90;
/// Runs of the first count and of the second.
const RUNS: [u32; 2] = [10, 40];

/// What to do with the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Compare them with the budget; without valgrind that is a failure.
    Compare,
    /// The same, but without valgrind there is only a note.
    CompareIfThere,
    /// Make them the budget.
    Update,
}

/// Counts all workloads.
pub(crate) fn run(root: &Path, purpose: Purpose, report: &mut Report) {
    if run::output(Command::new("valgrind").arg("--version")).is_err() {
        let text = "valgrind is missing (Debian: apt-get install valgrind)";
        match purpose {
            Purpose::CompareIfThere => report.note(&format!("instructions not counted: {text}")),
            _ => report.step("instructions", &[text.to_owned()]),
        }
        return;
    }
    let counts = match count_all(root) {
        Ok(counts) => counts,
        Err(error) => return report.step("instructions", &[error]),
    };
    let path = root.join(BUDGET);
    if purpose == Purpose::Update {
        let written = std::fs::write(&path, text_of(&counts));
        let complaints = written
            .err()
            .map(|error| format!("cannot write {BUDGET}: {error}"));
        return report.step("instructions", &complaints.into_iter().collect::<Vec<_>>());
    }
    let budget = std::fs::read_to_string(&path).unwrap_or_default();
    let verdict = compare(&read(&budget), &counts);
    for note in &verdict.notes {
        report.note(note);
    }
    report.step("instructions", &verdict.complaints);
}

type Counts = BTreeMap<String, f64>;

fn count_all(root: &Path) -> Result<Counts, String> {
    let words = [
        "build",
        "--release",
        "--package",
        "ringscrape-micro",
        "--example",
        "workloads",
    ];
    let complaints = run::shown(&mut run::cargo(root, &words));
    if let Some(complaint) = complaints.first() {
        return Err(format!("the workloads do not build: {complaint}"));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |dir| root.join(dir));
    let program = target.join("release").join("examples").join("workloads");
    let names = run::output(&mut Command::new(&program))?;
    let mut counts = Counts::new();
    for name in names.lines() {
        let [(few, samples), (many, _)] = [
            count(&program, &target, name, RUNS[0])?,
            count(&program, &target, name, RUNS[1])?,
        ];
        let runs = f64::from(RUNS[1] - RUNS[0]);
        let per_sample = many.saturating_sub(few) as f64 / runs / samples;
        say(&format!("{name}: {per_sample:.2} instructions per sample"));
        counts.insert(name.to_owned(), per_sample);
    }
    Ok(counts)
}

/// Instructions of the whole program, and the samples of one run.
fn count(program: &Path, target: &Path, name: &str, runs: u32) -> Result<(u64, f64), String> {
    let profile: PathBuf = target.join(format!("callgrind.{name}.out"));
    let mut command = Command::new("valgrind");
    command
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .arg(name)
        .arg(runs.to_string());
    let output = command
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    let samples = String::from_utf8_lossy(&output.stdout).trim().parse();
    match (output.status.success(), collected(&log), samples) {
        (true, Some(count), Ok(samples)) => Ok((count, samples)),
        _ => Err(format!(
            "{name} under valgrind: {}",
            log.lines().last().unwrap_or("no output")
        )),
    }
}

/// The total that callgrind prints at its end.
fn collected(log: &str) -> Option<u64> {
    let (_, count) = log
        .lines()
        .rev()
        .find_map(|line| line.split_once("Collected : "))?;
    count.trim().parse().ok()
}

#[derive(Debug, Default)]
struct Verdict {
    complaints: Vec<String>,
    notes: Vec<String>,
}

fn compare(budget: &Counts, counts: &Counts) -> Verdict {
    let mut verdict = Verdict::default();
    for (name, count) in counts {
        let Some(most) = budget.get(name) else {
            verdict
                .complaints
                .push(format!("{name}: not in {BUDGET}; run with --update"));
            continue;
        };
        let text = format!("{name}: {count:.2} instructions per sample, the budget is {most:.2}");
        if *count > most * FACTOR_MAX {
            verdict.complaints.push(text);
        } else if *count < most * FACTOR_LOW {
            verdict.notes.push(format!(
                "{text}: lower it with `cargo xtask instructions --update`"
            ));
        }
    }
    for name in budget.keys().filter(|name| !counts.contains_key(*name)) {
        verdict
            .complaints
            .push(format!("{name}: in {BUDGET}, but no workload"));
    }
    verdict
}

fn text_of(counts: &Counts) -> String {
    let mut text = HEAD.to_owned();
    for (name, count) in counts {
        let _infallible = writeln!(text, "{name} = {count:.2}");
    }
    text
}

/// Lines of `name = number`; others do not count.
fn read(text: &str) -> Counts {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines
        .filter_map(|(name, count)| Some((name.trim().to_owned(), count.trim().parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, f64)]) -> Counts {
        all.iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn tolerance() {
        let budget = read("# x = y\na = 100.00\nb=100\nc = 100\nd = 100\n");
        let verdict = compare(
            &budget,
            &counts(&[("a", 102.9), ("b", 103.1), ("c", 89.0), ("e", 1.0)]),
        );
        assert_eq!(verdict.complaints.len(), 3, "{verdict:?}");
        assert!(verdict.complaints[0].starts_with("b: 103.10"));
        assert!(verdict.complaints[1].starts_with("e: not in"));
        assert!(verdict.complaints[2].starts_with("d: in "));
        assert_eq!(verdict.notes.len(), 1);
    }

    #[test]
    fn a_budget_written_is_read() {
        let all = counts(&[("a", 1.25), ("b", 100.0)]);
        assert_eq!(read(&text_of(&all)), all);
    }

    #[test]
    fn totals_of_callgrind() {
        let log = "==1== Events    : Ir\n==1== Collected : 216842\n==1== \n==1== I   refs:      216,842\n";
        assert_eq!(collected(log), Some(216_842));
        assert_eq!(collected("valgrind: x"), None);
    }
}
