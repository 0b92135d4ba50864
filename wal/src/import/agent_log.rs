//! All files of an agent's log -> its scrapes, in order, and what of it could not be read.

use super::files::{PageReader, WalFiles};
use super::pages::{Item, PageDamage};
use super::scrapes::{Counts, Scrapes, Since};
use crate::error::ReadError;
use crate::scrape::Scrape;
use crate::storage::Storage;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A log being read from its beginning to its end.
#[derive(Debug)]
pub struct AgentLog {
    storage: Arc<dyn Storage>,
    files: VecDeque<(PathBuf, u64)>,
    missing: Vec<(u64, u64)>,
    bytes_total: u64,
    bytes_read: u64,
    open: Option<(PathBuf, PageReader)>,
    scrapes: Scrapes,
    damage: Vec<(PathBuf, PageDamage)>,
}

impl AgentLog {
    /// Finds the log in `path`. Samples before what `since` says for their target are left out.
    ///
    /// # Errors
    /// There is none, or it cannot be listed.
    pub fn open(storage: Arc<dyn Storage>, path: &Path, since: Since) -> Result<Self, ReadError> {
        let found = WalFiles::find(&*storage, path)?;
        Ok(Self {
            storage,
            bytes_total: found.files.iter().map(|file| file.1).sum(),
            bytes_read: 0,
            files: found.files.into(),
            missing: found.missing,
            open: None,
            scrapes: Scrapes::new(since),
            damage: Vec::new(),
        })
    }

    /// The next scrape; `None` at the end.
    ///
    /// # Errors
    /// A file cannot be opened or read.
    pub fn next_scrape(&mut self) -> Result<Option<Arc<Scrape>>, ReadError> {
        loop {
            if let Some(scrape) = self.scrapes.take() {
                return Ok(Some(scrape));
            }
            let Some((path, mut reader)) = self.open.take() else {
                let Some((path, _)) = self.files.pop_front() else {
                    self.scrapes.end();
                    return Ok(self.scrapes.take());
                };
                let reader = PageReader::open(&*self.storage, &path)?;
                self.open = Some((path, reader));
                continue;
            };
            let (scrapes, damage) = (&mut self.scrapes, &mut self.damage);
            let bytes = reader.next(&mut |item| match item {
                Item::Record(record) => scrapes.record(record),
                Item::Damage(place) => damage.push((path.clone(), place)),
            })?;
            self.bytes_read += bytes;
            if bytes > 0 {
                self.open = Some((path, reader));
            }
        }
    }

    /// Size of all files when they were listed.
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    /// How much of it was read.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Numbers of segments that are missing between others: from, to (inclusive).
    pub fn missing(&self) -> &[(u64, u64)] {
        &self.missing
    }

    /// Places that could not be read, so far.
    pub fn damage(&self) -> &[(PathBuf, PageDamage)] {
        &self.damage
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.scrapes.counts()
    }

    /// `job` and `instance` pairs seen so far.
    pub fn target_count(&self) -> usize {
        self.scrapes.target_count()
    }
}
