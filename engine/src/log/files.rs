//! glommio's buffered files -> the file operations of the log's driver.

use super::disk::{Disk, Failed};
use glommio::GlommioError;
use glommio::io::{BufferedFile, OpenOptions};
use ringscrape_wal::error::WriteFailure;
use ringscrape_wal::storage::{FsStorage, Storage};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// The file system, through the executor's ring.
#[derive(Debug, Clone, Copy, Default)]
pub struct GlommioDisk;

impl Disk for GlommioDisk {
    type File = BufferedFile;

    async fn create_new(&self, path: &Path) -> Result<BufferedFile, Failed> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o640);
        options.buffered_open(path).await.map_err(failed)
    }

    async fn open_or_create(&self, path: &Path) -> Result<BufferedFile, Failed> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).mode(0o640);
        options.buffered_open(path).await.map_err(failed)
    }

    async fn write_at(
        &self,
        file: &BufferedFile,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<usize, Failed> {
        file.write_at(bytes, offset).await.map_err(failed)
    }

    async fn sync(&self, file: &BufferedFile) -> Result<(), Failed> {
        file.fdatasync()
            .await
            .map_err(|error| Failed::of(WriteFailure::Sync, error.into()))
    }

    /// On the executor's blocking thread: its own directory handle fails on some file systems with
    /// EBADF, after a probe for polled I/O.
    async fn sync_dir(&self, dir: &Path) -> Result<(), Failed> {
        let dir = dir.to_owned();
        let synced = self.blocking(move |storage| storage.sync_dir(&dir)).await;
        synced.map_err(|error| Failed::of(WriteFailure::Sync, error))
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        glommio::io::remove(path).await.map_err(io::Error::from)
    }

    async fn close(&self, file: BufferedFile) {
        let _ = file.close().await;
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Storage) -> T + Send + 'static,
    ) -> T {
        glommio::executor()
            .spawn_blocking(move || work(&FsStorage))
            .await
    }

    async fn sleep(&self, time: Duration) {
        glommio::timer::sleep(time).await;
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

fn failed(error: GlommioError<()>) -> Failed {
    Failed::from(io::Error::from(error))
}
