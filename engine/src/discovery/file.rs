//! Files of target groups -> their groups, again whenever one changes.
//!
//! Source: Prometheus discovery/file/file.go. A file that can't be read or parsed keeps the groups
//! it last gave; a file that is gone loses them.

use super::source::Publisher;
use super::{Counters, TargetGroup, groups};
use crate::config::FileSdConfig;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::Notify;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// After a change is noticed: how long to wait for more before reading.
const SETTLE: Duration = Duration::from_millis(50);

/// Groups of each file; `Err` holds what is wrong with it.
type Files = BTreeMap<PathBuf, Result<Vec<Arc<TargetGroup>>, String>>;

/// Runs until aborted. Runs on: control; reads files on the runtime's blocking threads.
pub(super) async fn run(config: FileSdConfig, publisher: Publisher, counters: Arc<Counters>) {
    let changed = Arc::new(Notify::new());
    let mut watch = Watch::new(&config.files, changed.clone());
    let mut known = BTreeMap::<PathBuf, Vec<Arc<TargetGroup>>>::new();
    loop {
        // Before reading, so that no change falls between the two.
        watch.watch_folders_of(&config.files);
        let patterns = config.files.clone();
        let Ok(files) = tokio::task::spawn_blocking(move || read_all(&patterns)).await else {
            // Only if the runtime is shutting down.
            return;
        };
        known = merge(known, files, &counters);
        publisher.publish(known.values().flatten().cloned().collect());
        let refresh = Duration::from_millis(config.refresh_interval_ms);
        if tokio::time::timeout(refresh, changed.notified())
            .await
            .is_ok()
        {
            tokio::time::sleep(SETTLE).await;
        }
    }
}

/// The newly read groups; those from before for a file with an error.
fn merge(
    mut known: BTreeMap<PathBuf, Vec<Arc<TargetGroup>>>,
    files: Files,
    counters: &Counters,
) -> BTreeMap<PathBuf, Vec<Arc<TargetGroup>>> {
    let mut merged = BTreeMap::new();
    for (path, result) in files {
        let before = known.remove(&path);
        match result {
            Ok(groups) => {
                merged.insert(path, groups);
            }
            Err(cause) => {
                counters.file_read_errors.fetch_add(1, Relaxed);
                let kept = if before.is_some() {
                    "; its former targets stay"
                } else {
                    ""
                };
                tracing::warn!(path = %path.display(), "cannot read file_sd file: {cause}{kept}");
                if let Some(groups) = before {
                    merged.insert(path, groups);
                }
            }
        }
    }
    merged
}

fn read_all(patterns: &[PathBuf]) -> Files {
    let paths: BTreeSet<PathBuf> = patterns
        .iter()
        .flat_map(|pattern| matching(pattern))
        .collect();
    paths
        .into_iter()
        .map(|path| {
            let groups = read(&path);
            (path, groups)
        })
        .collect()
}

/// The files that a pattern names: itself, or with a `*` in its last element what is there.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = file_name(pattern);
    if !name.contains('*') {
        return if pattern.exists() {
            vec![pattern.to_owned()]
        } else {
            Vec::new()
        };
    }
    let matches = |other: &str| is_named(name, other);
    let folder = folder(pattern);
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| matches(name))
        .map(|name| pattern.with_file_name(name))
        .collect()
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// Whether the last element of a pattern, with at most one `*`, names the file `name`.
fn is_named(pattern: &str, name: &str) -> bool {
    let Some((prefix, suffix)) = pattern.split_once('*') else {
        return pattern == name;
    };
    name.len() >= prefix.len() + suffix.len() && name.starts_with(prefix) && name.ends_with(suffix)
}

fn folder(pattern: &Path) -> PathBuf {
    match pattern.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn read(path: &Path) -> Result<Vec<Arc<TargetGroup>>, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|cause| cause.to_string())?;
    let mut bounded = file.take(FILE_BYTES_MAX + 1);
    bounded
        .read_to_end(&mut bytes)
        .map_err(|cause| cause.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    let shown = path.display().to_string();
    let extra = ("__meta_filepath", shown.as_str());
    let is_json = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if is_json {
        return groups::from_json(&mut bytes, &shown, extra);
    }
    let text = String::from_utf8(bytes).map_err(|cause| cause.to_string())?;
    groups::from_yaml(&text, &shown, extra)
}

/// Tells when something changes in a folder of the files.
struct Watch {
    /// `None` if the system gives none; then files are read again at the refresh interval only.
    watcher: Option<notify::RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    fn new(patterns: &[PathBuf], changed: Arc<Notify>) -> Self {
        let patterns = patterns.to_vec();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files makes events too, which must not cause another reading.
            let by_reading = |kind: &EventKind| match kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
                EventKind::Access(_) => true,
                _ => false,
            };
            // Other files of the folder may change all the time: a log, for example.
            let names = |path: &Path| {
                patterns.iter().any(|pattern| {
                    is_named(file_name(pattern), file_name(path)) || folder(pattern) == path
                })
            };
            let concerns = |event: notify::Event| {
                event.need_rescan()
                    || (!by_reading(&event.kind) && event.paths.iter().any(|path| names(path)))
            };
            if event.map_or(true, concerns) {
                changed.notify_one();
            }
        });
        if let Err(cause) = &watcher {
            tracing::warn!("cannot watch file_sd files, they are read again at intervals: {cause}");
        }
        Self {
            watcher: watcher.ok(),
            folders: BTreeSet::new(),
        }
    }

    /// Watches folders that aren't yet; one that doesn't exist is tried again next time.
    fn watch_folders_of(&mut self, patterns: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        // A folder that was removed takes its watch along.
        self.folders.retain(|folder| {
            folder.is_dir() || {
                let _ = watcher.unwatch(folder);
                false
            }
        });
        for folder in patterns.iter().map(|pattern| folder(pattern)) {
            if self.folders.contains(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(folder);
                }
                Err(cause) => {
                    tracing::warn!(folder = %folder.display(), "cannot watch file_sd folder: {cause}");
                }
            }
        }
    }
}
