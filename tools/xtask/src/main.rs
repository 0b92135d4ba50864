//! `cargo xtask COMMAND` -> the chores of this repository, with one summary line at the end.

mod cost;
mod fuzz;
mod instructions;
mod licences;
mod packages;
mod report;
mod run;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use instructions::Purpose;
use report::Report;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

Commands:
  test [--quick]   everything: format, tidy, clippy, licences, build, tests, fuzzing, counts;
                   --quick leaves out fuzzing, counts and the tests that run whole processes
  tidy             the rules of this repository that no other tool checks
  licences         the licences of all dependencies
  fuzz [SECONDS]   each fuzz target for that long (60)
  cost             writes the README's cost section and chart from the newest bench/records
  instructions [--update]
                   instructions per sample of the hot paths against bench/micro/instructions.toml,
                   or written to it; needs valgrind
  packages         installs the Debian packages that the tests use
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let root = root();
    let mut report = Report::default();
    match words.as_slice() {
        ["test"] => test::run(&root, test::Extent::Everything, &mut report),
        ["test", "--quick"] => test::run(&root, test::Extent::Quick, &mut report),
        ["tidy"] => tidy::run(&root, &mut report),
        ["licences"] => licences::run(&root, &mut report),
        ["instructions"] => instructions::run(&root, Purpose::Compare, &mut report),
        ["instructions", "--update"] => instructions::run(&root, Purpose::Update, &mut report),
        ["cost"] => cost::write(&root, &mut report),
        ["packages"] => packages::run(&mut report),
        ["fuzz"] => fuzz::run(&root, fuzz::SECONDS, &mut report),
        ["fuzz", seconds] => match seconds.parse() {
            Ok(seconds) => fuzz::run(&root, seconds, &mut report),
            Err(_) => return usage(),
        },
        _ => return usage(),
    }
    report.print();
    if report.failed() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn usage() -> ExitCode {
    run::say(USAGE.trim_end());
    ExitCode::from(2)
}

/// The root of the workspace, from where this package lies in it: as cargo says now, since a binary
/// may have been built elsewhere.
fn root() -> PathBuf {
    let built = || env!("CARGO_MANIFEST_DIR").into();
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(built);
    let root = Path::new(&package).ancestors().nth(2);
    root.expect("BUG: xtask lies in tools/xtask").to_owned()
}
