//! Files of pure logic -> the runtimes, sockets, files and clocks that they name.
//!
//! What is listed here runs in fuzzers, property tests and simulations as it is.

use super::{File, code_end, is_test_file};

/// Files (`x.rs`) and folders (`x/`) without a runtime, a socket, a file or a clock.
const PURE: &[&str] = &[
    "cluster/src/",
    "engine/src/api/configs/access_file.rs",
    "engine/src/api/configs/changes.rs",
    "engine/src/api/configs/conditions.rs",
    "engine/src/api/configs/jobs.rs",
    "engine/src/api/configs/lists.rs",
    "engine/src/api/configs/names.rs",
    "engine/src/api/configs/scrub.rs",
    "engine/src/api/configs/view.rs",
    "engine/src/api/configs/yaml_text.rs",
    "engine/src/control/costs/",
    "engine/src/control/order.rs",
    "engine/src/control/unstable.rs",
    "engine/src/labels.rs",
    "engine/src/matcher/",
    "engine/src/parse/",
    "engine/src/protobuf.rs",
    "engine/src/relabel/",
    "engine/src/remote_write/answer.rs",
    "engine/src/remote_write/batch.rs",
    "engine/src/remote_write/derive.rs",
    "engine/src/remote_write/encode.rs",
    "engine/src/remote_write/fill.rs",
    "engine/src/remote_write/metadata.rs",
    "engine/src/remote_write/pace.rs",
    "engine/src/remote_write/permits.rs",
    "engine/src/remote_write/progress.rs",
    "engine/src/remote_write/queue.rs",
    "engine/src/remote_write/retry.rs",
    "engine/src/remote_write/source.rs",
    "engine/src/remote_write/stats.rs",
    "engine/src/remote_write/window.rs",
    "engine/src/remote_write/wire.rs",
    "engine/src/schedule/",
    "engine/src/scrape/",
    "engine/src/server/identity.rs",
    "engine/src/service/apply.rs",
    "engine/src/service/claims.rs",
    "engine/src/service/instance.rs",
    "engine/src/service/reader.rs",
    "engine/src/service/settings.rs",
    "engine/src/service/status.rs",
    "engine/src/service/store/etcd/keys.rs",
    "engine/src/service/store/etcd/value.rs",
    "engine/src/service/store/etcd/wire.rs",
    "engine/src/service/store/frames.rs",
    "engine/src/service/store/plan.rs",
    "engine/src/service/store/record.rs",
    "engine/src/shard/costs.rs",
    "engine/src/target.rs",
    "engine/src/target/",
    "wal/src/codec/",
    "wal/src/definition.rs",
    "wal/src/format.rs",
    "wal/src/frame.rs",
    "wal/src/import/bytes.rs",
    "wal/src/import/histogram.rs",
    "wal/src/import/pages.rs",
    "wal/src/import/record.rs",
    "wal/src/import/scrapes.rs",
    "wal/src/scrape.rs",
    "wal/src/tools/labels.rs",
    "wal/src/tools/survey.rs",
];

/// What they may not name. Addresses are in `core::net`.
const BANNED: &[&str] = &[
    "glommio",
    "tokio",
    "std::net",
    "std::fs",
    "Instant::now",
    "SystemTime",
];

pub(super) fn check(files: &[File]) -> Vec<String> {
    check_against(files, PURE)
}

fn check_against(files: &[File], pure: &[&str]) -> Vec<String> {
    let covers = |entry: &str, path: &str| match entry.strip_suffix('/') {
        Some(_) => path.starts_with(entry),
        None => path == entry,
    };
    let mut complaints = Vec::new();
    for entry in pure {
        if !files.iter().any(|file| covers(entry, &file.path)) {
            complaints.push(format!(
                "{entry}: listed as pure in the tidy table, but not there"
            ));
        }
    }
    for file in files {
        let is_pure = pure.iter().any(|entry| covers(entry, &file.path));
        if !is_pure || !file.path.ends_with(".rs") || is_test_file(&file.path) {
            continue;
        }
        for (index, line) in file.text.lines().take(code_end(&file.text)).enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for word in BANNED.iter().filter(|word| line.contains(**word)) {
                let at = index + 1;
                complaints.push(format!("{}:{at}: names {word}, but is pure", file.path));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> usize {
        let file = File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check_against(&[file], &["a/pure.rs", "b/"]).len() - 1
    }

    #[test]
    fn banned_words_in_code() {
        for word in BANNED {
            assert_eq!(
                complaints("a/pure.rs", &format!("use {word};\n")),
                1,
                "{word}"
            );
        }
        assert_eq!(complaints("b/c/d.rs", "use std::net::TcpStream;\n"), 1);
        assert_eq!(complaints("b/c.rs", "use core::net::IpAddr;\n"), 0);
        assert_eq!(complaints("b/c.rs", "// as tokio does\n"), 0);
        assert_eq!(
            complaints("b/c.rs", "#[cfg(test)]\nmod tests {\nuse std::fs;\n"),
            0
        );
        assert_eq!(complaints("b/c/tests.rs", "use std::fs;\n"), 0);
    }

    #[test]
    fn entries_without_a_file_are_named() {
        assert_eq!(check_against(&[], &["a.rs", "b/"]).len(), 2);
        let other = File {
            path: "c/impure.rs".to_owned(),
            text: "use std::fs;\n".to_owned(),
        };
        assert!(check_against(&[other], &[]).is_empty());
    }
}
