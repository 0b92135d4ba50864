//! Counters of one shard's log, since its start.

/// Counters of one shard's log. All but those marked "now" only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Records appended.
    pub records: u64,
    /// Records that are keyframes.
    pub keyframes: u64,
    /// Values and staleness markers appended.
    pub samples: u64,
    /// Bytes of record frames.
    pub record_bytes: u64,
    /// Bytes of definition frames.
    pub definition_bytes: u64,
    /// Bytes of headers, indexes and trailers.
    pub overhead_bytes: u64,
    /// Segments begun.
    pub segments_created: u64,
    /// Segments deleted since every endpoint acknowledged them.
    pub segments_released: u64,
    /// Segments made smaller, since what endpoints wait for was less than half of them.
    pub segments_thinned: u64,
    /// Bytes that this gave back.
    pub thinned_bytes: u64,
    /// Segments deleted by the cap on bytes.
    pub segments_dropped_bytes: u64,
    /// Segments deleted by the cap on age.
    pub segments_dropped_age: u64,
    /// Samples in those, not acknowledged by some endpoint: cap on bytes.
    pub samples_dropped_bytes: u64,
    /// Samples in those, not acknowledged by some endpoint: cap on age.
    pub samples_dropped_age: u64,
    /// Samples that were in memory only (disk failing) and had to leave it unsent.
    pub samples_dropped_not_durable: u64,
    /// Places of segments that were cut or skipped as damaged, a torn tail at a start included.
    pub damaged_places: u64,
    /// Bytes of those.
    pub damaged_bytes: u64,
    /// Those places by kind, in the order of `DamageKind::ALL`.
    pub damage: [u64; 7],
    /// Slots of the cursor file that could not be read at the start.
    pub cursor_slots_damaged: u64,
    /// Segments that were missing between others at the start.
    pub segments_missing: u64,
    /// Repairs that failed at the start.
    pub repairs_failed: u64,
    /// Records that were not on disk when writing failed, or came while it did.
    pub records_not_durable: u64,
    /// Of those, the ones that were written again later.
    pub records_rewritten: u64,
    /// Write failures: no space.
    pub failures_no_space: u64,
    /// Write failures: fsync.
    pub failures_sync: u64,
    /// Write failures: other.
    pub failures_io: u64,
    /// Write failures: the disk did not keep up.
    pub failures_slow: u64,
    /// Fsyncs.
    pub syncs: u64,
    /// Sum of their durations in microseconds.
    pub sync_us: u64,
    /// Longest one in microseconds.
    pub sync_us_max: u64,
    /// Bytes written to files.
    pub written_bytes: u64,
    /// Tail, now: records.
    pub tail_records: u64,
    /// Tail, now: bytes.
    pub tail_bytes: u64,
    /// Segments, now.
    pub segments: u64,
    /// Bytes of segments, now.
    pub segment_bytes: u64,
}
