//! What the log's driver needs of files, so that it runs over any: each call may fail, and may take
//! as long as it likes.

use ringscrape_wal::error::WriteFailure;
use ringscrape_wal::storage::Storage;
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// A failed operation: for the log, and for people.
#[derive(Debug)]
pub struct Failed {
    /// What the log does about it.
    pub failure: WriteFailure,
    /// Why.
    pub error: io::Error,
}

impl Failed {
    /// A failure of a known kind.
    pub fn of(failure: WriteFailure, error: io::Error) -> Self {
        Self { failure, error }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        let failure = match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => WriteFailure::NoSpace,
            _ => WriteFailure::Io,
        };
        Self { failure, error }
    }
}

/// File operations of one thread, and its clock.
pub trait Disk: Debug + 'static {
    /// A file open for writing.
    type File: Debug + 'static;

    /// Creates a file that must not exist.
    fn create_new(&self, path: &Path) -> impl Future<Output = Result<Self::File, Failed>>;
    /// Opens a file for writing; creates it if need be.
    fn open_or_create(&self, path: &Path) -> impl Future<Output = Result<Self::File, Failed>>;
    /// Writes some of `bytes`, from the first on, and says how many.
    fn write_at(
        &self,
        file: &Self::File,
        offset: u64,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<usize, Failed>>;
    /// Forces a file's bytes to disk.
    fn sync(&self, file: &Self::File) -> impl Future<Output = Result<(), Failed>>;
    /// Forces a directory's names to disk.
    fn sync_dir(&self, dir: &Path) -> impl Future<Output = Result<(), Failed>>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// Closes a file.
    fn close(&self, file: Self::File) -> impl Future<Output = ()>;
    /// Does what may block beside the thread.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Storage) -> T + Send + 'static,
    ) -> impl Future<Output = T>;
    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()>;
    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// Writes all of `bytes`. A short write counts as a full disk: the caller gives the file up.
    fn write_all(
        &self,
        file: &Self::File,
        offset: u64,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<(), Failed>> {
        async move {
            let len = bytes.len();
            let written = self.write_at(file, offset, bytes).await?;
            if written == len {
                return Ok(());
            }
            Err(Failed::of(
                WriteFailure::NoSpace,
                io::Error::new(
                    io::ErrorKind::WriteZero,
                    format!("no space left on the device: {written} of {len} bytes written"),
                ),
            ))
        }
    }

    /// Deletes a file; one that is not there is fine.
    fn remove_if_there(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        async move {
            match self.remove(path).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            }
        }
    }
}
