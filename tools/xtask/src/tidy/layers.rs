//! `cargo metadata` -> dependencies between our own packages that point the wrong way.

use serde_json::Value;

/// Each package of ours and those of ours that it may use, in any kind of dependency.
const MAY_USE: &[(&str, &[&str])] = &[
    ("ringscrape-cluster", &[]),
    ("ringscrape-wal", &[]),
    (
        "ringscrape-engine",
        &["ringscrape-cluster", "ringscrape-wal"],
    ),
    ("ringscrape-load", &[]),
    (
        "ringscrape-micro",
        &["ringscrape-engine", "ringscrape-cluster", "ringscrape-wal"],
    ),
    (
        "ringscrape",
        &["ringscrape-engine", "ringscrape-wal", "ringscrape-load"],
    ),
    (
        "ringscrape-tests",
        &[
            "ringscrape-engine",
            "ringscrape-cluster",
            "ringscrape-wal",
            "ringscrape-load",
        ],
    ),
    ("ringscrape-simulator", &["ringscrape-cluster"]),
    ("xtask", &[]),
];

pub(super) fn check(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let mut complaints = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
            complaints.push(format!(
                "package {name}: say in the tidy table what it may use"
            ));
            continue;
        };
        for dependency in package["dependencies"]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
        {
            let used = dependency["name"].as_str().unwrap_or_default();
            if MAY_USE.iter().any(|(known, _)| *known == used) && !allowed.contains(&used) {
                complaints.push(format!("package {name} must not use {used}"));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(name: &str, uses: &[&str]) -> usize {
        let dependencies: Vec<Value> = uses
            .iter()
            .map(|used| serde_json::json!({"name": used, "kind": "dev"}))
            .collect();
        let package = serde_json::json!({"name": name, "dependencies": dependencies});
        check(&serde_json::json!({"packages": [package]})).len()
    }

    #[test]
    fn directions() {
        assert_eq!(
            complaints("ringscrape-engine", &["ringscrape-wal", "serde"]),
            0
        );
        assert_eq!(complaints("ringscrape-wal", &["ringscrape-engine"]), 1);
        assert_eq!(complaints("ringscrape-wal", &["ringscrape-cluster"]), 1);
        assert_eq!(complaints("ringscrape-load", &["ringscrape-engine"]), 1);
        assert_eq!(complaints("ringscrape-engine", &["ringscrape-load"]), 1);
        assert_eq!(complaints("newcomer", &[]), 1);
    }
}
