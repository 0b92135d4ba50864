//! What a fetcher may hold and work on at once -> bounds; what it does hold -> figures.

/// Bounds on what a fetcher works on and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetcherLimits {
    /// Responses being read at once; each may hold an inflate state (some 50 KB) and up to 64 KiB
    /// received and not worked on. More wait in the kernel's buffers. Default 1024.
    pub responses_max: usize,
    /// Longest line, or run of comments before a sample, that is carried over from one receive
    /// buffer to the next; default 4 MiB.
    pub line_bytes_max: usize,
    /// All carried over lines together; default 64 MiB.
    pub carry_bytes_max: usize,
    /// Connections open at once, idle ones included: beyond it an idle one is closed for each new
    /// one. Default: no bound but the system's.
    pub connections_max: usize,
    /// Bytes read and written in one call of [`super::Fetcher::poll`], exceeded by one buffer, or
    /// one body inflated whole, at most; default 256 KiB, well under 500 us of work.
    pub poll_bytes_max: usize,
    /// A gzip body that is complete and says to have at most so many bytes uncompressed is
    /// inflated in one call, which is faster; 0: none is. Default 1 MiB.
    pub whole_body_bytes_max: usize,
    /// Compressed bytes of all bodies waiting for their end, to be inflated whole; the bodies
    /// beyond are inflated as they come. Default 16 MiB.
    pub collected_bytes_max: usize,
}

impl Default for FetcherLimits {
    fn default() -> FetcherLimits {
        FetcherLimits {
            responses_max: 1024,
            line_bytes_max: 4 << 20,
            carry_bytes_max: 64 << 20,
            connections_max: usize::MAX,
            poll_bytes_max: 256 << 10,
            whole_body_bytes_max: 1 << 20,
            collected_bytes_max: 16 << 20,
        }
    }
}

/// Memory of a fetcher, in bytes; without what the kernel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryUse {
    /// The slab of targets and their connections, and the state of those being scraped.
    pub connections_bytes: usize,
    /// What bodies in flight hold: lines carried over, bytes not inflated yet, inflate states.
    pub bodies_bytes: usize,
    /// Scratch, receive buffers, and what is kept for the next bodies.
    pub pooled_bytes: usize,
}
