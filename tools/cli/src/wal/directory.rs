//! DIR of the command line -> the logs in it, and who has it open.

use ringscrape_wal::error::ReadError;
use ringscrape_wal::storage::{FsStorage, Storage};
use ringscrape_wal::tools::log_dirs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The logs of one storage path.
#[derive(Debug)]
pub(super) struct Directory {
    /// As given.
    pub(super) path: PathBuf,
    /// One folder per shard, with its name.
    pub(super) shards: Vec<(String, PathBuf)>,
    /// The process that has it open, as far as this one can see.
    pub(super) in_use_by: Option<u32>,
}

/// What does the reading.
pub(super) fn storage() -> Arc<dyn Storage> {
    Arc::new(FsStorage)
}

impl Directory {
    /// Finds the logs. Takes no lock, and writes nothing: the directory may be in use.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(super) fn open(path: &Path) -> Result<Self, ReadError> {
        let shards = log_dirs(&FsStorage, path)?;
        if shards.is_empty() {
            let hint = match path.is_dir() {
                true => "no log in it: give the folder of --storage.path",
                false => "no such folder: give the folder of --storage.path",
            };
            return Err(ReadError::new(
                "find a log in",
                path,
                io::Error::other(hint),
            ));
        }
        Ok(Self {
            path: path.to_path_buf(),
            shards,
            in_use_by: holder(path),
        })
    }

    /// What to tell people about a process that has it open.
    pub(super) fn notice(&self) -> Option<String> {
        self.in_use_by.map(|id| {
            format!(
                "process {id} has this log open: it is not disturbed, figures are those of the \
                 files, about a second behind it"
            )
        })
    }
}

/// Who has locked the `lock` file of a storage path, ours or an agent's. Asks the kernel, and takes
/// no lock itself: a process that starts at the same moment would find it taken.
pub(super) fn holder(path: &Path) -> Option<u32> {
    let path = path.canonicalize().ok()?;
    let lock = path
        .ancestors()
        .take(3)
        .map(|folder| folder.join("lock"))
        .find(|file| file.is_file())?;
    let inode = lock.metadata().ok()?.ino();
    let written: Option<u32> = std::fs::read_to_string(&lock)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let mut holders = locks.lines().filter_map(|line| flock_of(line, inode));
    // Inode numbers are unique per file system only, so the number in the file counts too.
    holders.find(|id| written.is_none_or(|written| written == *id))
}

/// Who has a file below `path` open, as far as this process may see: not every agent locks.
pub(super) fn user(path: &Path) -> Option<u32> {
    let path = path.canonicalize().ok()?;
    let own = std::process::id();
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.find(|id: &u32| {
        let files = std::fs::read_dir(format!("/proc/{id}/fd"));
        let links = files.into_iter().flatten().flatten();
        *id != own
            && links
                .filter_map(|link| std::fs::read_link(link.path()).ok())
                .any(|file| file.starts_with(&path))
    })
}

/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:131074 0 EOF` -> 4711, if the inode is the one.
fn flock_of(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_ascii_whitespace().skip(1);
    if words.next()? != "FLOCK" {
        return None;
    }
    let id = words.nth(2)?;
    let (_, number) = words.next()?.rsplit_once(':')?;
    (number.parse::<u64>().ok()? == inode).then(|| id.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_files() {
        let dir = std::env::temp_dir().join(format!("ringscrape-user-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("wal")).unwrap();
        let file = std::fs::File::create(dir.join("wal/00000000")).unwrap();
        assert_eq!(user(&dir), None, "this process does not count");
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .stdin(file)
            .spawn()
            .unwrap();
        assert_eq!(user(&dir), Some(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(user(&dir), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn locks_are_found_by_inode() {
        let line = "12: FLOCK  ADVISORY  WRITE 4711 fe:00:131074 0 EOF";
        assert_eq!(flock_of(line, 131_074), Some(4711));
        assert_eq!(flock_of(line, 131_075), None);
        assert_eq!(flock_of(&line.replace("FLOCK", "POSIX"), 131_074), None);
        // A process that waits for it.
        assert_eq!(
            flock_of(
                "12: -> FLOCK  ADVISORY  WRITE 4711 fe:00:131074 0 EOF",
                131_074
            ),
            None
        );
        assert_eq!(flock_of("", 1), None);
    }
}
