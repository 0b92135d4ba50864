//! How large a cluster, its entries and its messages may be: one set for all parts, so that what
//! one part keeps another can send and take.
//!
//! A table with as many members and crash entries as it may have is sent in parts: a delta is cut
//! when it has `DELTA_BYTES_MAX`, and the rest goes with the next exchange.

/// Names in a table; of senders, peers and contacts as many are remembered.
pub const MEMBERS_MAX: usize = 10_000;
/// Crash entries about one incarnation: more than that say the same.
pub const CRASHES_PER_LIFE_MAX: usize = 8;
/// Crash entries in all.
pub const CRASHES_MAX: usize = 2 * MEMBERS_MAX;
/// Jobs of a node.
pub const JOBS_MAX: usize = 50_000;
/// Targets that a node lists by their cost.
pub const HEAVY_MAX: usize = 10_000;
/// The largest weight of a node: its tokens are a memory cost for all.
pub const WEIGHT_MAX: u32 = 1_000;
/// The longest text that is not a name.
pub const TEXT_BYTES_MAX: usize = 512;

/// A delta is cut when it is longer; one entry is always sent.
pub const DELTA_BYTES_MAX: usize = 4 << 20;
/// The first frame of a stream: whoever sends it may be anybody.
pub const FIRST_FRAME_BYTES_MAX: usize = 64 << 10;
/// Any other frame, but one that hands targets over.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// A frame that hands targets over.
pub const HANDOVER_FRAME_BYTES_MAX: usize = 64 << 20;

/// Times and counters from others stay far from where sums overflow.
pub const NUMBER_MAX: u64 = 1 << 53;
/// By how much the incarnations of others may be ahead of this node's clock. They come from clocks:
/// a hundred years allow for a node whose own clock starts at the Unix epoch, and leave any node
/// room to raise its incarnation.
pub const INCARNATION_AHEAD_MS: u64 = 100 * 366 * 24 * 60 * 60 * 1_000;

/// Whether a life can be: one that is absurdly far ahead would shut out all later ones of its name.
pub fn is_incarnation(incarnation: u64, now_ms: i64) -> bool {
    let clock_ms = u64::try_from(now_ms).unwrap_or(0);
    incarnation <= clock_ms.saturating_add(INCARNATION_AHEAD_MS)
}
