//! `ringscrape wal`, as from a shell -> what it prints, how it exits, and what it leaves.

mod agent;
mod caps;
mod endpoints;
mod golden;
mod live;
mod made;
mod thin;

use ringscrape_tests::engine;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `ringscrape wal` to its end.
fn wal(arguments: &[&str], dir: &Path) -> Output {
    wal_with(arguments, dir, &[])
}

/// The same with arguments after the folder.
fn wal_with(arguments: &[&str], dir: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(engine::ringscrape());
    command.arg("wal").args(arguments).arg(dir).args(more);
    command.output().expect("cannot start ringscrape")
}

/// What it prints, if it exits with `code`; the folder's path is replaced by `DIR`.
#[track_caller]
fn printed(arguments: &[&str], dir: &Path, code: i32) -> String {
    let output = wal(arguments, dir);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.replace(&*dir.to_string_lossy(), "DIR")
}

/// What it prints with `--output=json`.
#[track_caller]
fn json(arguments: &[&str], dir: &Path, code: i32) -> serde_json::Value {
    let mut arguments = arguments.to_vec();
    arguments.push("--output=json");
    serde_json::from_str(&printed(&arguments, dir, code)).expect("JSON")
}
