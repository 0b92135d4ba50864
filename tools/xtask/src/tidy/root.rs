//! The names in the root -> those that do not belong there.

/// What a visitor sees first, and no more.
const ALLOWED: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "bench",
    "cluster",
    "engine",
    "tests",
    "tools",
    "wal",
];

pub(super) fn check(names: impl Iterator<Item = String>) -> Vec<String> {
    names
        .filter(|name| !name.starts_with('.') && name != "target")
        .filter(|name| !ALLOWED.contains(&name.as_str()))
        .map(|name| format!("{name}: not a name for the root; put it into a room"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let complaints = |names: &[&str]| check(names.iter().map(|name| (*name).to_owned()));
        assert!(complaints(&["engine", "LICENSE", ".ci", "target"]).is_empty());
        assert_eq!(complaints(&["engine", "docs", "Makefile"]).len(), 2);
    }
}
