//! The folder of an agent -> its checkpoint and segments in order, read page by page.

use super::pages::{Item, PAGE_BYTES, Pages};
use crate::error::ReadError;
use crate::storage::Storage;
use std::io;
use std::path::{Path, PathBuf};

/// Files of a log in the order in which they must be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalFiles {
    /// Paths with sizes (bytes).
    pub files: Vec<(PathBuf, u64)>,
    /// Segments that are missing between others: from, to (inclusive).
    pub missing: Vec<(u64, u64)>,
}

impl WalFiles {
    /// Finds the log in `path`, or in its folder `wal`: the newest checkpoint, and the segments
    /// after it.
    ///
    /// # Errors
    /// The folder cannot be read, or has no log (`NotFound`).
    pub fn find(storage: &dyn Storage, path: &Path) -> Result<Self, ReadError> {
        for dir in [path.join("wal"), path.to_path_buf()] {
            let found = Self::in_dir(storage, &dir)?;
            if !found.files.is_empty() {
                return Ok(found);
            }
        }
        let source = io::Error::new(
            io::ErrorKind::NotFound,
            "no folder `wal` with numbered files: give the --storage.agent.path of Prometheus, or \
             the folder of a prometheus.remote_write component in Alloy's --storage.path",
        );
        Err(ReadError::new("find the log of an agent in", path, source))
    }

    fn in_dir(storage: &dyn Storage, dir: &Path) -> Result<Self, ReadError> {
        let list = |dir: &Path| {
            let listed = storage.list(dir);
            listed.map_err(|source| ReadError::new("list", dir, source))
        };
        let entries = list(dir)?;
        let checkpoint = entries
            .iter()
            .filter(|entry| entry.is_dir)
            .filter_map(|entry| Some((number(entry.name.strip_prefix("checkpoint.")?)?, entry)))
            .max_by_key(|(number, _)| *number);
        let mut found = Self::default();
        if let Some((_, entry)) = checkpoint {
            let dir = dir.join(&entry.name);
            found.add(&dir, segments(list(&dir)?), None);
        }
        let after = checkpoint.map(|(number, _)| number);
        let mut own = segments(entries);
        own.retain(|(number, _, _)| Some(*number) > after);
        found.add(dir, own, after);
        Ok(found)
    }

    fn add(&mut self, dir: &Path, files: Vec<(u64, String, u64)>, mut before: Option<u64>) {
        for (number, name, bytes) in files {
            if let Some(before) = before
                && number > before + 1
            {
                self.missing.push((before + 1, number - 1));
            }
            before = Some(number);
            self.files.push((dir.join(name), bytes));
        }
    }
}

fn segments(entries: Vec<crate::storage::FileEntry>) -> Vec<(u64, String, u64)> {
    let files = entries.into_iter().filter(|entry| !entry.is_dir);
    let mut found: Vec<_> = files
        .filter_map(|entry| Some((number(&entry.name)?, entry.name, entry.bytes)))
        .collect();
    found.sort_unstable();
    found
}

fn number(name: &str) -> Option<u64> {
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name.parse().ok())?
}

/// One file, read page by page.
#[derive(Debug)]
pub struct PageReader {
    file: Box<dyn crate::storage::StorageFile>,
    path: PathBuf,
    offset: u64,
    pages: Pages,
    page: Vec<u8>,
}

impl PageReader {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(storage: &dyn Storage, path: &Path) -> Result<Self, ReadError> {
        let file = storage
            .open(path)
            .map_err(|source| ReadError::new("open", path, source))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            offset: 0,
            pages: Pages::default(),
            page: vec![0; PAGE_BYTES],
        })
    }

    /// Reads the next page and gives its bytes; 0 at the end.
    ///
    /// # Errors
    /// The file cannot be read; calling it again reads the same page.
    pub fn next(&mut self, each: &mut dyn FnMut(Item<'_>)) -> Result<u64, ReadError> {
        let mut got = 0;
        while got < PAGE_BYTES {
            match self
                .file
                .read_at(self.offset + got as u64, &mut self.page[got..])
            {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::new("read", &self.path, source)),
            }
        }
        match got {
            0 => self.pages.end(self.offset, each),
            _ => self.pages.page(&self.page[..got], self.offset, each),
        }
        self.offset += got as u64;
        Ok(got as u64)
    }
}
