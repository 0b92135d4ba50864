//! What can go wrong with a log, and where.

use std::path::{Path, PathBuf};

/// Why the driver gave up on a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteFailure {
    /// No space left, or a quota.
    NoSpace,
    /// An fsync failed: what was written since the last one may be gone.
    Sync,
    /// Any other error of a write, a create or a directory.
    Io,
    /// More bytes wait than `pending_bytes_max`.
    Slow,
}

/// A file of the log cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {}: {source}", path.display())]
pub struct ReadError {
    /// What was tried: "open", "read", "list", ...
    pub verb: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: std::io::Error,
}

impl ReadError {
    /// `cannot VERB PATH: SOURCE`.
    pub fn new(verb: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self {
            verb,
            path: path.to_path_buf(),
            source,
        }
    }
}

/// A place of a segment that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Sequence number of the segment.
    pub segment: u64,
    /// First byte skipped.
    pub from: u32,
    /// Byte after the last one skipped.
    pub to: u32,
    /// What is wrong there.
    pub kind: DamageKind,
}

/// What is wrong with a place of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DamageKind {
    /// The segment's header: nothing of the segment can be read.
    SegmentHeader,
    /// A frame in the middle whose length or checksum is wrong.
    Frame,
    /// The end of a file that was being written when the process or the machine stopped.
    TornTail,
    /// A sound frame whose content breaks the format's rules.
    Content,
    /// A sound record whose definition or keyframe cannot be read.
    Reference,
    /// A frame of a newer version than this program knows.
    Version,
    /// A place that the disk does not give back, though it was asked for some time.
    Unreadable,
}

impl DamageKind {
    /// All, in the order of `LogStats::damage`.
    pub const ALL: [Self; 7] = [
        Self::SegmentHeader,
        Self::Frame,
        Self::TornTail,
        Self::Content,
        Self::Reference,
        Self::Version,
        Self::Unreadable,
    ];

    /// A word for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::SegmentHeader => "segment_header",
            Self::Frame => "frame",
            Self::TornTail => "torn_tail",
            Self::Content => "content",
            Self::Reference => "reference",
            Self::Version => "newer_version",
            Self::Unreadable => "unreadable",
        }
    }
}
