//! The storage path -> which life of the node this is, across restarts.

use super::options::GossipError;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file with the number of the present life.
#[derive(Debug)]
pub(super) struct Incarnation {
    path: PathBuf,
}

impl Incarnation {
    /// The number of a life that begins now: higher than any before, whatever the clock says.
    ///
    /// # Errors
    /// The file can be neither read nor written.
    pub(super) fn begin(storage_path: &Path, now_ms: i64) -> Result<(Self, u64), GossipError> {
        let path = storage_path.join("incarnation");
        let before = match std::fs::read_to_string(&path) {
            // A file that was cut short by a power cut says nothing; the clock has to do.
            Ok(text) => text.trim().parse::<u64>().unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(failed("read", &path, &error)),
        };
        let now = u64::try_from(now_ms).unwrap_or_default();
        let this = Self { path };
        let incarnation = before.saturating_add(1).max(now).max(1);
        this.store(incarnation)?;
        Ok((this, incarnation))
    }

    /// Another life has begun.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn store(&self, incarnation: u64) -> Result<(), GossipError> {
        let io = |error: &std::io::Error| failed("write", &self.path, error);
        let new = self.path.with_extension("new");
        let mut file = std::fs::File::create(&new).map_err(|error| io(&error))?;
        let text = format!("{incarnation}\n");
        file.write_all(text.as_bytes())
            .map_err(|error| io(&error))?;
        file.sync_all().map_err(|error| io(&error))?;
        std::fs::rename(&new, &self.path).map_err(|error| io(&error))
    }
}

fn failed(action: &'static str, path: &Path, error: &std::io::Error) -> GossipError {
    GossipError::File {
        action,
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_rises() {
        let folder = tempfile::tempdir().unwrap();
        let begin = |now_ms| Incarnation::begin(folder.path(), now_ms).unwrap();
        assert_eq!(begin(1_000).1, 1_000);
        assert_eq!(begin(500).1, 1_001, "a clock that was set back");
        begin(500).0.store(5_000).unwrap();
        assert_eq!(begin(3_000).1, 5_001);
        std::fs::write(folder.path().join("incarnation"), "garbage").unwrap();
        assert_eq!(begin(6_000).1, 6_000);
        assert_eq!(begin(-1).1, 6_001);
    }
}
