//! Bounds of a log, and what it asks of the one who writes its files.

/// Sizes and ages that bound a shard's log. All can be left at their defaults.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// A segment is closed when it is larger (bytes). Default 128 MiB, at most 2 GiB.
    pub segment_bytes_max: u32,
    /// A segment is not closed by ratio while it is smaller (bytes). Default 8 MiB.
    pub segment_bytes_min: u32,
    /// A segment is closed when its records are this many times what it costs to begin one: its
    /// definitions and the first keyframe of each target. Default 8.
    pub definition_ratio: u32,
    /// A segment is closed when its first record is older (milliseconds). Default 1 h.
    pub segment_age_ms_max: i64,
    /// Every how many records a target writes a whole one. Default 16, at least 1.
    pub keyframe_every: u32,
    /// Cap on the memory of records that endpoints have not read yet (bytes). Default 64 MiB.
    pub tail_bytes_max: u64,
    /// Age above which records that are on disk are not kept in memory for endpoints that have not
    /// read them (milliseconds). Default 2 s.
    pub tail_age_ms_max: i64,
    /// So much of the records stays in memory whatever its age (bytes): where little is scraped,
    /// batches wait for more samples, and are not to be read from files then. Default 512 KiB.
    pub tail_bytes_min: u64,
    /// Cap on bytes encoded and not written yet; above it the disk counts as not keeping up and
    /// records are kept in the tail only. Default 64 MiB.
    pub pending_bytes_max: u64,
    /// Records stay in memory until they are synced, not only written, so that they can be written
    /// again should the sync fail; up to twice `tail_bytes_max`. Default true; without syncs false.
    pub hold_until_synced: bool,
    /// Closed segments above this sum are deleted, read or not (bytes). Default none.
    pub retention_bytes_max: Option<u64>,
    /// Closed segments older than this are deleted, read or not (milliseconds). Default none.
    pub retention_age_ms_max: Option<i64>,
    /// A segment that is smaller stays as it is, whoever needs it still (bytes). Default 64 KiB.
    pub thin_bytes_min: u32,
    /// Random number of this run: checksums are salted with it, so that no exposed text can pass
    /// for a frame of the log.
    pub salt: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes_max: 128 << 20,
            segment_bytes_min: 8 << 20,
            definition_ratio: 8,
            segment_age_ms_max: 3_600_000,
            keyframe_every: 16,
            tail_bytes_max: 64 << 20,
            tail_age_ms_max: 2_000,
            tail_bytes_min: 512 << 10,
            pending_bytes_max: 64 << 20,
            hold_until_synced: true,
            retention_bytes_max: None,
            retention_age_ms_max: None,
            thin_bytes_min: 64 << 10,
            salt: 0,
        }
    }
}

/// What the driver has to do to the directory, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Write {
    /// Create the file of this segment (it must not exist), then sync the directory.
    Create {
        /// Sequence number of the segment.
        segment: u64,
    },
    /// Write these bytes at this offset of the segment's file.
    Bytes {
        /// Sequence number of the segment.
        segment: u64,
        /// Where, in bytes from the file's start.
        offset: u32,
        /// What.
        bytes: Vec<u8>,
    },
    /// Nothing follows in this segment: sync and close its file.
    Close {
        /// Sequence number of the segment.
        segment: u64,
    },
}
