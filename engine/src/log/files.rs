//! glommio's buffered files -> the four operations that the log's driver needs.

use glommio::GlommioError;
use glommio::io::{BufferedFile, OpenOptions};
use ringscrape_wal::error::WriteFailure;
use std::io;
use std::path::Path;

/// A failed operation: for the log, and for people.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: WriteFailure,
    pub(super) error: io::Error,
}

impl Failed {
    fn new(error: GlommioError<()>) -> Self {
        let error = io::Error::from(error);
        let failure = match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => WriteFailure::NoSpace,
            _ => WriteFailure::Io,
        };
        Self { failure, error }
    }
}

/// Creates a file that must not exist.
pub(super) async fn create_new(path: &Path) -> Result<BufferedFile, Failed> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o640);
    options.buffered_open(path).await.map_err(Failed::new)
}

/// Opens a file for writing; creates it if need be.
pub(super) async fn open_or_create(path: &Path) -> Result<BufferedFile, Failed> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o640);
    options.buffered_open(path).await.map_err(Failed::new)
}

/// Writes all of `bytes`. A short write counts as a full disk: the caller gives the file up.
pub(super) async fn write_all(
    file: &BufferedFile,
    offset: u64,
    bytes: Vec<u8>,
) -> Result<(), Failed> {
    let len = bytes.len();
    let written = file.write_at(bytes, offset).await.map_err(Failed::new)?;
    if written == len {
        return Ok(());
    }
    Err(Failed {
        failure: WriteFailure::NoSpace,
        error: io::Error::new(
            io::ErrorKind::WriteZero,
            format!("no space left on the device: {written} of {len} bytes written"),
        ),
    })
}

/// Forces a file's bytes to disk.
pub(super) async fn sync(file: &BufferedFile) -> Result<(), Failed> {
    file.fdatasync().await.map_err(|error| Failed {
        failure: WriteFailure::Sync,
        error: error.into(),
    })
}

/// Forces a directory's names to disk, on the executor's blocking thread: the executor's own
/// directory handle fails on some file systems with EBADF, after a probe for polled I/O.
pub(super) async fn sync_dir(dir: &Path) -> Result<(), Failed> {
    let dir = dir.to_owned();
    let opened_and_synced = glommio::executor()
        .spawn_blocking(move || std::fs::File::open(dir).map(|dir| dir.sync_all()))
        .await;
    match opened_and_synced {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failed {
            failure: WriteFailure::Sync,
            error,
        }),
        Err(error) => Err(Failed {
            failure: WriteFailure::Io,
            error,
        }),
    }
}

/// Deletes a file; one that is not there is fine.
pub(super) async fn remove(path: &Path) -> io::Result<()> {
    match glommio::io::remove(path).await.map_err(io::Error::from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
