//! The repository -> breaches of its own rules, those that no other tool checks.

mod layers;
mod lines;
mod pure;
mod root;

use std::path::{Path, PathBuf};

use crate::report::Report;
use crate::{cost, run};

/// A text file of the repository.
#[derive(Debug)]
pub(crate) struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

/// Checks everything.
pub(crate) fn run(root: &Path, report: &mut Report) {
    let mut complaints = Vec::new();
    match std::fs::read_dir(root) {
        Ok(entries) => {
            let names = entries
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned());
            complaints.extend(root::check(names));
        }
        Err(error) => complaints.push(format!("cannot list {}: {error}", root.display())),
    }
    let files = files(root, &mut complaints);
    for file in &files {
        complaints.extend(lines::check(file));
    }
    complaints.extend(pure::check(&files));
    complaints.extend(cost::stale(root));
    let arguments = ["metadata", "--format-version", "1", "--no-deps"];
    match run::output(&mut run::cargo(root, &arguments))
        .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
    {
        Ok(metadata) => complaints.extend(layers::check(&metadata)),
        Err(error) => complaints.push(error),
    }
    report.step("tidy", &complaints);
}

/// The text files that rules look at, sorted by path.
fn files(root: &Path, complaints: &mut Vec<String>) -> Vec<File> {
    let mut paths = Vec::new();
    walk(root, &root.join("target"), &mut paths);
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        match std::fs::read_to_string(&path) {
            Ok(text) => files.push(File { path: name, text }),
            Err(error) => complaints.push(format!("{name}: cannot read: {error}")),
        }
    }
    files
}

/// `build` is the folder for build output; other workspaces have theirs where cargo marks it.
fn walk(folder: &Path, build: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            let is_build = path == build || path.join("CACHEDIR.TAG").exists();
            if !is_build && name != ".git" {
                walk(&path, build, paths);
            }
        } else if path
            .extension()
            .is_some_and(|end| end == "rs" || end == "md" || end == "toml")
        {
            paths.push(path);
        }
    }
}

/// Where the code of a Rust file ends and its inner `mod tests` begins, as a line index.
fn code_end(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1] == "mod tests {")
        .unwrap_or(lines.len())
}

/// Whether a file holds tests and nothing else.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
}
