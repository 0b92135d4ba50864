//! The shard's log on disk: what opens it, writes it, and gives back what a former run left.

pub mod driver;
mod files;
mod gate;
mod keep;
mod pace;
pub mod restore;

use ringscrape_wal::error::ReadError;
use ringscrape_wal::recovery;
use ringscrape_wal::storage::{FsStorage, Storage};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// When written bytes are forced to disk (`--wal.sync`). A power cut loses what was not; the end
/// of the process alone loses nothing that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Everything that was written, this often. Default: every second.
    Every(Duration),
    /// After every write.
    Always,
    /// When the system feels like it.
    Never,
}

impl Default for SyncPolicy {
    fn default() -> Self {
        Self::Every(Duration::from_secs(1))
    }
}

impl FromStr for SyncPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => return Ok(Self::Always),
            "never" => return Ok(Self::Never),
            _ => {}
        }
        let (digits, unit_ms) = match text.strip_suffix("ms") {
            Some(digits) => (digits, 1),
            None => (text.strip_suffix('s').unwrap_or_default(), 1000),
        };
        match digits.parse::<u64>() {
            Ok(count) if (10..=60_000).contains(&count.saturating_mul(unit_ms)) => {
                Ok(Self::Every(Duration::from_millis(count * unit_ms)))
            }
            _ => Err(format!(
                "{text:?} is neither always, never nor a time between 10ms and 60s, as in 1s"
            )),
        }
    }
}

/// The directory of a shard's log below the storage path.
pub fn shard_dir(storage_path: &Path, shard: usize) -> PathBuf {
    storage_path.join("wal").join(format!("shard-{shard:03}"))
}

/// Directories of shards that this process does not have, left by one with more cores.
///
/// # Errors
/// The `wal` directory cannot be listed.
pub fn former_shard_dirs(storage_path: &Path, shards: usize) -> Result<Vec<PathBuf>, ReadError> {
    let dir = storage_path.join("wal");
    let entries = FsStorage
        .list(&dir)
        .map_err(|source| ReadError::new("list", &dir, source))?;
    let mut dirs = Vec::new();
    for entry in entries {
        let shard = entry
            .name
            .strip_prefix("shard-")
            .filter(|digits| digits.len() >= 3)
            .and_then(|digits| digits.parse::<usize>().ok());
        if entry.is_dir && shard.is_some_and(|shard| shard >= shards) {
            dirs.push(dir.join(entry.name));
        }
    }
    Ok(dirs)
}

/// Creates a shard's directory and says the number of the first segment to write. Blocking, but
/// quick: reads names and one small file.
///
/// # Errors
/// The directory cannot be created, listed or synced, or the cursor file not read.
pub fn prepare(dir: &Path) -> Result<u64, ReadError> {
    FsStorage
        .create_dir_all(dir)
        .map_err(|source| ReadError::new("create", dir, source))?;
    let made = dir.ancestors().take(3);
    for made in made.filter(|dir| !dir.as_os_str().is_empty()) {
        FsStorage
            .sync_dir(made)
            .map_err(|source| ReadError::new("sync", made, source))?;
    }
    recovery::next_segment(&FsStorage, dir)
}

#[cfg(test)]
mod tests;
