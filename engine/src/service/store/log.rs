//! Batches -> a file of one node that has each of them as a whole or not at all, and back.
//!
//! A batch is one frame, synced before it counts. When more than half of the file is of the past,
//! it is replaced by one with all that is stored.

use super::files;
use super::frames::{self, End, Frames, MAGIC};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

/// The file is written anew when it is as much larger than twice what was stored at the last time.
const SPARE_BYTES: u64 = 1 << 20;

/// An open file of batches.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// `None`: what it ends with is not known; it is to be written anew.
    file: Option<File>,
    bytes: u64,
    /// When it was written anew.
    bytes_then: u64,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(super) struct Unusable<T> {
    /// What can be read of it.
    pub(super) batches: Vec<T>,
    /// Why, and what to do.
    pub(super) reason: String,
}

/// What a failed write leaves.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// Whether what was to be written may be there after a crash.
    pub(super) is_unsure: bool,
    /// Why.
    pub(super) reason: String,
}

impl Log {
    /// Opens a file, or makes it when the first batch comes. A part of a batch at its end, which
    /// nobody was told was stored, is cut off.
    ///
    /// # Errors
    /// It is damaged or cannot be read.
    pub(super) fn open<T: DeserializeOwned>(path: PathBuf) -> Result<(Self, Vec<T>), Unusable<T>> {
        let nothing = |reason: String| Unusable {
            batches: Vec::new(),
            reason: format!("{}: {reason}", path.display()),
        };
        if let Some(folder) = path.parent() {
            files::create_folder(folder).map_err(|error| nothing(error.to_string()))?;
        }
        let bytes = files::read(&path).map_err(|error| nothing(error.to_string()))?;
        let bytes = bytes.unwrap_or_default();
        let Frames {
            payloads,
            whole_bytes,
            end,
        } = frames::read(&bytes).map_err(nothing)?;
        let mut batches = Vec::with_capacity(payloads.len());
        let mut unreadable = None;
        for payload in payloads {
            match decode(payload) {
                Ok(batch) => batches.push(batch),
                Err(reason) => unreadable = Some(reason),
            }
        }
        if end == End::Damaged || unreadable.is_some() {
            let what = unreadable.unwrap_or_else(|| format!("damaged at byte {whole_bytes}"));
            let reason = format!(
                "{}: {what}: what can be read stays in force, and nothing is stored any more; put \
                 back a copy of the file, or move it away and store the configurations again",
                path.display()
            );
            return Err(Unusable { batches, reason });
        }
        let mut log = Self {
            path,
            file: None,
            bytes: whole_bytes as u64,
            bytes_then: whole_bytes as u64,
        };
        if whole_bytes > 0 {
            let opened = log.continue_at(whole_bytes as u64, end);
            if let Err(error) = opened {
                let reason = format!("{}: {error}", log.path.display());
                return Err(Unusable { batches, reason });
            }
        }
        Ok((log, batches))
    }

    fn continue_at(&mut self, whole_bytes: u64, end: End) -> std::io::Result<()> {
        let file = OpenOptions::new().append(true).open(&self.path)?;
        if end != End::Whole {
            file.set_len(whole_bytes)?;
            file.sync_all()?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Adds a batch; durable when it returns. `all` says everything that is stored without it, for
    /// when the file has to be written anew.
    ///
    /// # Errors
    /// The disk does not take it. It is not there, or may be after a crash only.
    pub(super) fn add<T: Serialize>(
        &mut self,
        batch: &T,
        all: impl Fn() -> T,
    ) -> Result<(), Unwritten> {
        let refused = |reason| Unwritten {
            is_unsure: false,
            reason,
        };
        let payload = encode(batch).map_err(refused)?;
        let is_long = self.bytes > 2 * self.bytes_then + SPARE_BYTES;
        if self.file.is_none() || is_long {
            let rewritten = self.rewrite(&all());
            if let Err(reason) = rewritten {
                // A long file is no reason to store nothing.
                if self.file.is_none() {
                    return Err(refused(reason));
                }
            }
        }
        let mut frame = Vec::with_capacity(payload.len() + 16);
        frames::push(&mut frame, &payload);
        let Some(file) = &mut self.file else {
            return Err(refused("the file is not open".to_owned()));
        };
        if let Err(error) = file.write_all(&frame).and_then(|()| file.sync_data()) {
            // After a failed sync nobody knows what is on the disk.
            self.file = None;
            return Err(Unwritten {
                is_unsure: true,
                reason: format!("{}: {error}", self.path.display()),
            });
        }
        self.bytes += frame.len() as u64;
        Ok(())
    }

    fn rewrite<T: Serialize>(&mut self, all: &T) -> Result<(), String> {
        let mut frame = Vec::new();
        frames::push(&mut frame, &encode(all)?);
        let replaced = files::replace(&self.path, &[&MAGIC, &frame]);
        let file = replaced.map_err(|error| format!("{}: {error}", self.path.display()))?;
        self.file = Some(file);
        self.bytes = (MAGIC.len() + frame.len()) as u64;
        self.bytes_then = self.bytes;
        Ok(())
    }
}

/// # Errors
/// It is too large for a frame.
pub(super) fn encode<T: Serialize>(batch: &T) -> Result<Vec<u8>, String> {
    let bytes = postcard::to_stdvec(batch).map_err(|error| error.to_string())?;
    match bytes.len() <= frames::PAYLOAD_BYTES_MAX {
        true => Ok(bytes),
        false => Err(format!(
            "{} bytes at once, more than {}",
            bytes.len(),
            frames::PAYLOAD_BYTES_MAX
        )),
    }
}

/// # Errors
/// The payload is not one of ours, although its checksum is right.
pub(super) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes::<T>(payload) {
        Ok((batch, [])) => Ok(batch),
        Ok(_) => Err("a frame is longer than what it holds".to_owned()),
        Err(error) => Err(format!("a frame cannot be decoded: {error}")),
    }
}
