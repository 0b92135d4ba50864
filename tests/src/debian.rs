//! The name of a Debian program -> its path, or the reason why a test cannot run.

use std::path::PathBuf;

/// The path of an installed program, looked up in `PATH`.
///
/// `None` after printing why: the caller returns, which skips its test.
///
/// # Panics
/// If the program is missing and the environment has `CI=true`: there a skip would hide a hole.
pub fn program(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|p| p.is_file());
    if found.is_none() {
        let reason = format!(
            "{name} is not installed (Debian package {package}; `cargo xtask test` installs it)"
        );
        skip(&reason);
    }
    found
}

/// Prints that a test is skipped and why.
///
/// # Panics
/// If the environment has `CI=true`.
pub fn skip(reason: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "cannot run under CI=true: {reason}"
    );
    eprintln!("skipped: {reason}");
}
