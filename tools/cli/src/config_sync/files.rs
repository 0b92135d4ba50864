//! A directory -> the configurations in it, by name; or everything that is wrong with it.

use ringscrape_engine::api::configs::check_syntax;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Reads all configurations. Symbolic links are followed.
///
/// # Errors
/// The directory or a file of it cannot be used: nothing may be done then.
pub(super) fn read(directory: &Path) -> Result<BTreeMap<String, String>, String> {
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", directory.display());
    let mut paths = Vec::<PathBuf>::new();
    for entry in std::fs::read_dir(directory).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let ending = path.extension().and_then(OsStr::to_str);
        if matches!(ending, Some("yml" | "yaml")) && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    let mut found = BTreeMap::<String, (PathBuf, String)>::new();
    let mut problems = Vec::new();
    for path in paths {
        let Some(name) = path.file_stem().and_then(OsStr::to_str) else {
            problems.push(format!("{}: its name is not UTF-8", path.display()));
            continue;
        };
        if let Some((other, _)) = found.get(name) {
            problems.push(format!(
                "{} and {} are both called {name:?}",
                other.display(),
                path.display()
            ));
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let text = text.and_then(|text| check_syntax(&text).map(|()| text));
        match text {
            Ok(text) => drop(found.insert(name.to_owned(), (path, text))),
            Err(error) => problems.push(format!("{}: {error}", path.display())),
        }
    }
    match problems.is_empty() {
        true => Ok(found
            .into_iter()
            .map(|(name, (_, text))| (name, text))
            .collect()),
        false => Err(format!("nothing was sent: {}", problems.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    #[test]
    fn top_level_yaml_files_are_named_like_themselves() {
        let files = directory(&[
            ("a.yml", b"x: 1"),
            ("b.c.yaml", b""),
            ("d.txt", b"["),
            ("yml", b"["),
            ("e.YML", b"["),
        ]);
        std::fs::create_dir(files.path().join("inner.yml")).unwrap();
        std::fs::write(files.path().join("inner.yml/f.yml"), "[").unwrap();
        let target = files.path().join("a.yml");
        std::os::unix::fs::symlink(target, files.path().join("link.yml")).unwrap();
        let read = read(files.path()).unwrap();
        let have: Vec<(&str, &str)> = read
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        assert_eq!(have, [("a", "x: 1"), ("b.c", ""), ("link", "x: 1")]);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let files = directory(&[
            ("a.yml", b"x: 1"),
            ("a.yaml", b"x: 1"),
            ("b.yml", b"["),
            ("c.yml", b"- 1"),
            ("d.yml", b"\xff"),
        ]);
        std::os::unix::fs::symlink("/nowhere", files.path().join("e.yml")).unwrap();
        let error = read(files.path()).unwrap_err();
        for part in [
            "both called \"a\"",
            "b.yml: line",
            "c.yml: a config",
            "d.yml",
            "e.yml",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(
            read(&files.path().join("none"))
                .unwrap_err()
                .contains("cannot read")
        );
    }
}
