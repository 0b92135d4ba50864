//! `cargo metadata` -> dependencies whose licence is not on the list.

use std::path::Path;

use serde_json::Value;

use crate::report::Report;
use crate::run;

/// Licences, by SPDX identifier, that a dependency may be under.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Dependencies let in by name, with the licence that was looked at.
const EXCEPTIONS: &[(&str, &str)] = &[
    // Copyleft by file: used unchanged, through glommio, it asks nothing of our files.
    ("bitmaps", "MPL-2.0+"),
    // The same, by ourselves.
    ("foca", "MPL-2.0"),
];

/// Checks the whole workspace, the fuzz targets included.
pub(crate) fn run(root: &Path, report: &mut Report) {
    let fuzz = root.join("tests").join("fuzz");
    let mut complaints = Vec::new();
    for project in [root, &fuzz] {
        let arguments = ["metadata", "--format-version", "1"];
        match run::output(&mut run::cargo(project, &arguments))
            .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
        {
            Ok(metadata) => complaints.extend(refused(&metadata)),
            Err(error) => complaints.push(error),
        }
    }
    complaints.sort();
    complaints.dedup();
    report.step("licences", &complaints);
}

fn refused(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    packages
        .iter()
        .filter(|package| !package["source"].is_null())
        .filter_map(|package| {
            let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
            match package["license"].as_str() {
                None => Some(format!("{name} names no licence")),
                Some(licence) if EXCEPTIONS.contains(&(text(&package["name"]), licence)) => None,
                Some(licence) => match is_allowed(licence) {
                    Ok(true) => None,
                    Ok(false) => Some(format!("{name} is under {licence}, not on the list")),
                    Err(error) => Some(format!("{name}: cannot read {licence:?}: {error}")),
                },
            }
        })
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Whether an SPDX expression can be satisfied with licences of the list.
///
/// Source: SPDX specification 2.3, annex D; `/` is the older notation for `OR`.
fn is_allowed(expression: &str) -> Result<bool, String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let allowed = either(&mut rest)?;
    match rest {
        [] => Ok(allowed),
        [word, ..] => Err(format!("unexpected {word}")),
    }
}

fn either(rest: &mut &[&str]) -> Result<bool, String> {
    let mut allowed = both(rest)?;
    while rest.first() == Some(&"OR") {
        *rest = &rest[1..];
        allowed |= both(rest)?;
    }
    Ok(allowed)
}

fn both(rest: &mut &[&str]) -> Result<bool, String> {
    let mut allowed = single(rest)?;
    while rest.first() == Some(&"AND") {
        *rest = &rest[1..];
        allowed &= single(rest)?;
    }
    Ok(allowed)
}

fn single(rest: &mut &[&str]) -> Result<bool, String> {
    let (word, after) = rest.split_first().ok_or("ends too early")?;
    *rest = after;
    if *word == "(" {
        let allowed = either(rest)?;
        let (close, after) = rest.split_first().ok_or("a parenthesis is open")?;
        *rest = after;
        return if *close == ")" {
            Ok(allowed)
        } else {
            Err(format!("unexpected {close}"))
        };
    }
    if let ["WITH", exception, after @ ..] = *rest {
        *rest = after;
        return Ok(ALLOWED.contains(&format!("{word} WITH {exception}").as_str()));
    }
    Ok(ALLOWED.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let cases = [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0 OR MIT AND Zlib", true),
            ("(GPL-3.0 OR MIT) AND Zlib", true),
            ("(GPL-3.0 OR LGPL-2.1) AND Zlib", false),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MIT WITH LLVM-exception", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(is_allowed(expression), Ok(expected), "{expression}");
        }
        for broken in ["", "MIT OR", "(MIT", "MIT Zlib", "MIT )"] {
            assert!(is_allowed(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn own_packages_are_left_out_and_others_named() {
        let metadata = serde_json::json!({"packages": [
            {"name": "own", "version": "1", "source": null, "license": null},
            {"name": "good", "version": "1", "source": "r", "license": "MIT"},
            {"name": "bad", "version": "2", "source": "r", "license": "AGPL-3.0"},
            {"name": "bitmaps", "version": "1", "source": "r", "license": "MPL-2.0+"},
            {"name": "none", "version": "3", "source": "r", "license": null},
        ]});
        let complaints = refused(&metadata);
        assert_eq!(complaints.len(), 2);
        assert!(complaints[0].starts_with("bad 2") && complaints[1].starts_with("none 3"));
    }
}
