//! The shard's log on disk: what opens it, writes it, and gives back what a former run left.

pub mod disk;
pub mod driver;
pub mod files;
mod gate;
mod keep;
mod pace;
pub mod restore;
mod retry;
mod thin;

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

/// Creates a shard's directory and says the number of the first segment to write. Blocking, but
/// quick: reads names and one small file.
///
/// # Errors
/// The directory cannot be created, listed or synced, or the cursor file not read.
pub fn prepare(dir: &Path) -> Result<u64, ReadError> {
    prepare_in(&FsStorage, dir)
}

fn prepare_in(storage: &dyn Storage, dir: &Path) -> Result<u64, ReadError> {
    storage
        .create_dir_all(dir)
        .map_err(|source| ReadError::new("create", dir, source))?;
    let made = dir.ancestors().take(3);
    for made in made.filter(|dir| !dir.as_os_str().is_empty()) {
        storage
            .sync_dir(made)
            .map_err(|source| ReadError::new("sync", made, source))?;
    }
    recovery::next_segment(storage, dir)
}

#[cfg(test)]
mod tests;
