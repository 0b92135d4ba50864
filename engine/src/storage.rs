//! `--storage.path` -> a folder that only this process writes, or an error that says who holds it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// More shards than any machine has cores.
const SHARDS_MAX: usize = 4096;
/// What folders with the logs of a former number of shards are called, before a rising number.
const GENERATION_PREFIX: &str = "former-";

/// The log of one of a former number of shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormerLog {
    /// Rises with each change of the number: samples of a lower one are older.
    pub(crate) generation: u64,
    /// Its directory.
    pub(crate) dir: PathBuf,
}

/// The locked storage folder. The lock ends with the process, however it ends.
#[derive(Debug)]
pub struct Storage {
    path: PathBuf,
    _lock: File,
}

/// Why the storage folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error(
        "storage path {path} is in use, locked by another ringscrape{holder}: stop it, or give this one \
         its own --storage.path"
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// ` (process N)`, if known.
        holder: String,
    },
}

impl Storage {
    /// Creates the folder if need be and locks it.
    ///
    /// # Errors
    /// The folder cannot be created or written, or another process holds it.
    pub fn lock(path: &Path) -> Result<Self, StorageError> {
        let new = !path.exists();
        std::fs::create_dir_all(path).map_err(io("create the storage path", path))?;
        if new
            && let Some(parent) = path.canonicalize().ok().as_deref().and_then(Path::parent)
            && let Err(error) = File::open(parent).and_then(|parent| parent.sync_all())
        {
            // A power cut soon after might take the whole folder.
            warn!(path = %parent.display(), %error, "cannot sync the folder of the storage path");
        }
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&file)
            .map_err(io("open", &file))?;
        // SAFETY: the descriptor is open for as long as `lock` lives.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let source = std::io::Error::last_os_error();
            if source.kind() != std::io::ErrorKind::WouldBlock {
                return Err(io("lock", &file)(source));
            }
            let mut pid = String::new();
            let holder = match lock.read_to_string(&mut pid) {
                Ok(_) if !pid.trim().is_empty() => format!(" (process {})", pid.trim()),
                _ => String::new(),
            };
            return Err(StorageError::Locked {
                path: path.to_owned(),
                holder,
            });
        }
        // The number is a help for people only: on a full disk it may be missing.
        let _ = lock.set_len(0).and_then(|()| lock.rewind());
        let _ = writeln!(lock, "{}", std::process::id());
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Makes the folder ready for `shard_count` shards, and gives the logs that another number of
    /// shards has written, oldest first.
    ///
    /// A target's records are in the log of its shard, and its samples must be sent in order: with
    /// another number of shards a target could go on in one log before its other one is sent. So
    /// the directories of another number are set aside whole, to be sent before the new ones.
    ///
    /// # Errors
    /// The number cannot be read or written, or a directory not be set aside.
    pub(crate) fn former_logs(&self, shard_count: usize) -> Result<Vec<FormerLog>, StorageError> {
        let wal = self.path.join("wal");
        let file = wal.join("shards");
        std::fs::create_dir_all(&wal).map_err(io("create", &wal))?;
        let before = match std::fs::read_to_string(&file) {
            Ok(text) => match text.trim().parse::<usize>() {
                Ok(count) if (1..=SHARDS_MAX).contains(&count) => Some(count),
                _ => {
                    let error = std::io::Error::other(format!(
                        "{text:?} is no number of shards; write into it how many shard-NNN folders \
                         there are beside it"
                    ));
                    return Err(io("understand", &file)(error));
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("read", &file)(error)),
        };
        if before != Some(shard_count) {
            if let Some(before) = before {
                let generation = set_aside(&wal)?;
                info!(
                    shards = shard_count,
                    before,
                    former = %generation.display(),
                    "the number of shards has changed: what the former ones have logged is sent \
                     first, then their logs are deleted"
                );
            }
            // Last, and renamed into place: until then the next start sets aside what is left.
            let new = wal.join("shards.new");
            let write = || {
                let mut open = File::create(&new)?;
                writeln!(open, "{shard_count}")?;
                open.sync_all()?;
                std::fs::rename(&new, &file)?;
                File::open(&wal)?.sync_all()
            };
            write().map_err(io("write", &file))?;
        }
        let mut former = Vec::new();
        for (name, dir) in folders(&wal)? {
            let Some(generation) = number_after(&name, GENERATION_PREFIX) else {
                continue;
            };
            for (name, dir) in folders(&dir)? {
                if number_after(&name, "shard-").is_some() {
                    former.push(FormerLog { generation, dir });
                }
            }
        }
        former.sort_unstable_by(|a, b| (a.generation, &a.dir).cmp(&(b.generation, &b.dir)));
        Ok(former)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::Io {
        action,
        path,
        source,
    }
}

/// Moves all shards' directories to a folder of their own, which no later one comes before.
fn set_aside(wal: &Path) -> Result<PathBuf, StorageError> {
    let inside = folders(wal)?;
    let generations = inside
        .iter()
        .filter_map(|(name, _)| number_after(name, GENERATION_PREFIX));
    let next = generations.max().unwrap_or(0) + 1;
    let generation = wal.join(format!("{GENERATION_PREFIX}{next:06}"));
    std::fs::create_dir(&generation).map_err(io("create", &generation))?;
    let sync = |dir: &Path| {
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(io("sync", dir))
    };
    sync(wal)?;
    for (name, dir) in inside {
        if number_after(&name, "shard-").is_some() {
            std::fs::rename(&dir, generation.join(&name)).map_err(io("set aside", &dir))?;
        }
    }
    sync(&generation)?;
    sync(wal)?;
    Ok(generation)
}

/// Names and paths of the folders in a folder.
fn folders(path: &Path) -> Result<Vec<(String, PathBuf)>, StorageError> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io("list", path))? {
        let entry = entry.map_err(io("list", path))?;
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let Ok(name) = entry.file_name().into_string()
            && is_dir
        {
            folders.push((name, entry.path()));
        }
    }
    Ok(folders)
}

fn number_after(name: &str, prefix: &str) -> Option<u64> {
    name.strip_prefix(prefix)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = Storage::lock(&path).unwrap();
        let error = Storage::lock(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        Storage::lock(&path).unwrap();
    }

    #[test]
    fn another_number_of_shards_sets_the_logs_aside() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::lock(folder.path()).unwrap();
        let wal = folder.path().join("wal");
        let make = |shards: usize| {
            for shard in 0..shards {
                std::fs::create_dir_all(wal.join(format!("shard-{shard:03}"))).unwrap();
            }
        };
        let former = |shards| {
            let logs = storage.former_logs(shards).unwrap();
            let name = |log: &FormerLog| {
                let dir = log.dir.strip_prefix(&wal).unwrap();
                (log.generation, dir.display().to_string())
            };
            logs.iter().map(name).collect::<Vec<_>>()
        };
        let log = |generation: u64, shard: u64| {
            let name = format!("former-{generation:06}/shard-{shard:03}");
            (generation, name)
        };
        assert_eq!(former(2), []);
        make(2);
        assert_eq!(former(2), []);
        assert_eq!(former(3), [log(1, 0), log(1, 1)]);
        assert!(!wal.join("shard-000").exists());
        make(3);
        assert_eq!(former(3), [log(1, 0), log(1, 1)]);
        // Power went when some were set aside, and the number was not written.
        std::fs::create_dir(wal.join("former-000002")).unwrap();
        std::fs::rename(wal.join("shard-001"), wal.join("former-000002/shard-001")).unwrap();
        assert_eq!(
            former(1),
            [log(1, 0), log(1, 1), log(2, 1), log(3, 0), log(3, 2)]
        );
        std::fs::write(folder.path().join("wal/shards"), "x").unwrap();
        let error = storage.former_logs(8).unwrap_err().to_string();
        assert!(error.contains("no number of shards"), "{error}");
    }

    #[test]
    fn an_unusable_path_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Storage::lock(&file).unwrap_err().to_string();
        assert!(error.contains("cannot create the storage path") && error.contains("file"));
    }
}
