//! The time at which something is told to the state machines: they never ask a clock.

/// What both clocks of a node say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the Unix epoch; may be set back or ahead. Slots and all that nodes tell each other.
    pub unix_ms: i64,
    /// Only rises; starts anywhere. Patience and retries.
    pub monotonic_ms: u64,
}
