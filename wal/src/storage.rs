//! The few file operations that reading, recovery and tools need; on the file system or in memory.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// A directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// File name without directories.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// True for a directory.
    pub is_dir: bool,
}

/// Blocking file operations.
pub trait Storage: Send + Sync + Debug {
    /// Entries of a directory, sorted by name; empty if the directory is not there.
    fn list(&self, dir: &Path) -> io::Result<Vec<FileEntry>>;
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;
    /// Creates directories.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Writes bytes at an offset, creating the file if need be, and syncs it.
    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file to a length and syncs it.
    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Renames a file; the directory of `to` is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Deletes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes creations and deletions in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file open for reading.
#[allow(clippy::len_without_is_empty)]
pub trait StorageFile: Send + Sync + Debug {
    /// Reads up to `buffer.len()` bytes at an offset; 0 at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Size in bytes.
    fn len(&self) -> io::Result<u64>;
}

/// The file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct FsStorage;

impl Storage for FsStorage {
    fn list(&self, dir: &Path) -> io::Result<Vec<FileEntry>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut list = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let meta = entry.metadata()?;
            list.push(FileEntry {
                name,
                bytes: meta.len(),
                is_dir: meta.is_dir(),
            });
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(fs::File::open(path)?))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(path)?;
        file.write_all_at(bytes, offset)?;
        file.sync_data()
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = fs::OpenOptions::new().write(true).open(path)?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }
}

impl StorageFile for fs::File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Files in memory, for tests and tools. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    files: Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>,
}

impl MemoryStorage {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of a file.
    pub fn get(&self, path: &Path) -> Option<Vec<u8>> {
        self.files().get(path).cloned()
    }

    /// Makes a file hold these bytes.
    pub fn set(&self, path: &Path, bytes: Vec<u8>) {
        self.files().insert(path.to_path_buf(), bytes);
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Vec<u8>>> {
        self.files
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn list(&self, dir: &Path) -> io::Result<Vec<FileEntry>> {
        let mut list: BTreeMap<String, FileEntry> = BTreeMap::new();
        for (path, bytes) in self.files().iter() {
            let Ok(rest) = path.strip_prefix(dir) else {
                continue;
            };
            let mut parts = rest.components();
            let Some(first) = parts.next() else {
                continue;
            };
            let name = first.as_os_str().to_string_lossy().into_owned();
            let is_dir = parts.next().is_some();
            let bytes = if is_dir { 0 } else { bytes.len() as u64 };
            list.insert(
                name.clone(),
                FileEntry {
                    name,
                    bytes,
                    is_dir,
                },
            );
        }
        Ok(list.into_values().collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        if !self.files().contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Box::new(MemoryFile {
            storage: self.clone(),
            path: path.to_path_buf(),
        }))
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files();
        let file = files.entry(path.to_path_buf()).or_default();
        let end = offset as usize + bytes.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        match self.files().get_mut(path) {
            Some(file) => {
                file.resize(bytes as usize, 0);
                Ok(())
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files();
        let bytes = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_path_buf(), bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.files().remove(path) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// An open file of a `MemoryStorage`.
#[derive(Debug)]
struct MemoryFile {
    storage: MemoryStorage,
    path: PathBuf,
}

impl StorageFile for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let files = self.storage.files();
        let file = files.get(&self.path).ok_or(io::ErrorKind::NotFound)?;
        let from = (offset as usize).min(file.len());
        let count = buffer.len().min(file.len() - from);
        buffer[..count].copy_from_slice(&file[from..from + count]);
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        let files = self.storage.files();
        let file = files.get(&self.path).ok_or(io::ErrorKind::NotFound)?;
        Ok(file.len() as u64)
    }
}
