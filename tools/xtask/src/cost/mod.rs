//! The newest records in `bench/records` -> the README's cost section and its chart, or a complaint
//! that these are stale.

mod chart;
mod record;
mod table;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::report::Report;

const FOLDER: &str = "bench/records";
const README: &str = "README.md";
const BEGIN: &str = "<!-- cost: written by `cargo xtask cost` -->";
const END: &str = "<!-- /cost -->";

/// A record and where it lies, relative to the root.
#[derive(Debug)]
struct Found {
    path: String,
    content: Value,
}

/// What the newest records say.
#[derive(Debug)]
struct Output {
    /// The text between the README's markers.
    section: String,
    /// Path relative to the root, and content.
    chart: (String, String),
}

/// Writes section and chart.
pub(crate) fn write(root: &Path, report: &mut Report) {
    let complaints = match output(root) {
        Ok(Some(output)) => match replaced(root, &output) {
            Ok((readme, _)) => [
                (root.join(README), readme),
                (root.join(&output.chart.0), output.chart.1.clone()),
            ]
            .into_iter()
            .filter_map(|(path, text)| {
                let error = std::fs::write(&path, text).err()?;
                Some(format!("cannot write {}: {error}", path.display()))
            })
            .collect(),
            Err(complaint) => vec![complaint],
        },
        Ok(None) => vec![format!(
            "no record in {FOLDER}: `ringscrape load compare --report`"
        )],
        Err(complaint) => vec![complaint],
    };
    report.step("cost", &complaints);
}

/// What is not as the newest records say; without records nothing is checked.
pub(crate) fn stale(root: &Path) -> Vec<String> {
    let output = match output(root) {
        Ok(Some(output)) => output,
        Ok(None) => return Vec::new(),
        Err(complaint) => return vec![complaint],
    };
    let mut complaints = Vec::new();
    match replaced(root, &output) {
        Ok((_, true)) => {}
        Ok((_, false)) => complaints.push(format!(
            "{README}: the cost section is not what {FOLDER} says: `cargo xtask cost`"
        )),
        Err(complaint) => complaints.push(complaint),
    }
    let (path, text) = &output.chart;
    if std::fs::read_to_string(root.join(path)).ok().as_ref() != Some(text) {
        complaints.push(format!(
            "{path}: not what its record says: `cargo xtask cost`"
        ));
    }
    complaints
}

/// The README with its section replaced, and whether it was that already.
fn replaced(root: &Path, output: &Output) -> Result<(String, bool), String> {
    let text =
        std::fs::read_to_string(root.join(README)).map_err(|error| format!("{README}: {error}"))?;
    let new = between(&text, BEGIN, END, &output.section)
        .ok_or_else(|| format!("{README}: no `{BEGIN}` with a `{END}` behind it"))?;
    let same = new == text;
    Ok((new, same))
}

/// `text` with what is between two markers replaced; `None` without the markers.
pub(crate) fn between(text: &str, begin: &str, end: &str, new: &str) -> Option<String> {
    let start = text.find(begin)? + begin.len();
    let stop = start + text[start..].find(end)?;
    Some(format!(
        "{}\n\n{}\n\n{}",
        &text[..start],
        new.trim(),
        &text[stop..]
    ))
}

fn output(root: &Path) -> Result<Option<Output>, String> {
    let records = records(root)?;
    let newest = |key: &str| {
        records
            .iter()
            .rev()
            .find(|found| !found.content[key].is_null())
    };
    let Some(found) = newest("scenarios") else {
        return Ok(None);
    };
    let chart = Path::new(&found.path)
        .with_extension("svg")
        .display()
        .to_string();
    let measured =
        record::read(&found.content).ok_or_else(|| format!("{}: lacks figures", found.path))?;
    let saturation = newest("saturation");
    Ok(Some(Output {
        section: table::section(&measured, &found.path, &chart, saturation),
        chart: (chart, chart::svg(&measured)),
    }))
}

/// All records, by name, which begins with the date.
fn records(root: &Path) -> Result<Vec<Found>, String> {
    let entries = std::fs::read_dir(root.join(FOLDER)).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
        Ok(Found {
            path: format!("{FOLDER}/{name}"),
            content: serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))?,
        })
    };
    paths.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURE: &str = include_str!("fixture.json");

    #[test]
    fn markers() {
        assert_eq!(
            between("a<b>x</b>c", "<b>", "</b>", " y ").as_deref(),
            Some("a<b>\n\ny\n\n</b>c")
        );
        assert_eq!(between("a</b><b>c", "<b>", "</b>", "y"), None);
    }

    #[test]
    fn a_stale_section_is_found_and_written_anew() {
        let root = std::env::temp_dir().join(format!("xtask-cost-{}", std::process::id()));
        let put = |path: &str, text: &str| std::fs::write(root.join(path), text).unwrap();
        std::fs::create_dir_all(root.join(FOLDER)).unwrap();
        put(README, &format!("# x\n{BEGIN}\nold\n{END}\n"));
        assert!(stale(&root).is_empty(), "no records, nothing to check");
        put("bench/records/2026-01-01-a.json", FIXTURE);
        assert_eq!(stale(&root).len(), 2);
        let mut report = Report::default();
        write(&root, &mut report);
        assert_eq!((report.failed(), stale(&root).len()), (0, 0));
        // A newer record makes both stale: the README and the chart that it now asks for.
        put(
            "bench/records/2026-01-02-b.json",
            &FIXTURE.replace("\"6.1.0\"", "\"6.2.0\""),
        );
        assert_eq!(stale(&root).len(), 2);
        put("bench/records/2026-01-02-b.json", "{");
        assert_eq!(stale(&root).len(), 1);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
