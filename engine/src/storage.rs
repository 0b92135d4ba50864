//! `--storage.path` -> a folder that only this process writes, or an error that says who holds it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use tracing::warn;

/// More shards than any machine has cores.
const SHARDS_MAX: usize = 4096;

/// The locked storage folder. The lock ends with the process, however it ends.
#[derive(Debug)]
pub(crate) struct Storage {
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
    pub(crate) fn lock(path: &Path) -> Result<Self, StorageError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StorageError::Io {
                action,
                path,
                source,
            }
        };
        std::fs::create_dir_all(path).map_err(io("create the storage path", path))?;
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

    /// How many shards to run: `wanted` for a new folder, else as many as have written its log.
    ///
    /// A target's records are in the log of its shard, and its samples must be sent in order: with
    /// another number of shards a target could go on in one log before its other one is sent.
    ///
    /// # Errors
    /// The number cannot be read or written.
    pub(crate) fn shard_count(&self, wanted: usize) -> Result<usize, StorageError> {
        let wal = self.path.join("wal");
        let file = wal.join("shards");
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StorageError::Io {
                action,
                path,
                source,
            }
        };
        match std::fs::read_to_string(&file) {
            Ok(text) => match text.trim().parse::<usize>() {
                Ok(count) if (1..=SHARDS_MAX).contains(&count) => {
                    if count != wanted {
                        warn!(
                            shards = count,
                            wanted,
                            "the log was written by another number of shards and keeps it; start \
                             with an empty --storage.path to change it"
                        );
                    }
                    return Ok(count);
                }
                _ => {
                    let error = std::io::Error::other(format!(
                        "{text:?} is no number of shards; write into it how many shard-NNN folders \
                         there are beside it"
                    ));
                    return Err(io("understand", &file)(error));
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io("read", &file)(error)),
        }
        std::fs::create_dir_all(&wal).map_err(io("create", &wal))?;
        // Renamed into place: a half-written number would stop every later start.
        let new = wal.join("shards.new");
        let write = || {
            let mut open = File::create(&new)?;
            writeln!(open, "{wanted}")?;
            open.sync_all()?;
            std::fs::rename(&new, &file)
        };
        write().map_err(io("write", &file))?;
        Ok(wanted)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
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
    fn a_folder_keeps_its_number_of_shards() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::lock(folder.path()).unwrap();
        assert_eq!(storage.shard_count(3).unwrap(), 3);
        assert_eq!(storage.shard_count(8).unwrap(), 3);
        std::fs::write(folder.path().join("wal/shards"), "x").unwrap();
        let error = storage.shard_count(8).unwrap_err().to_string();
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
