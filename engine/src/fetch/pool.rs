//! What the bodies of one shard share -> buffers and inflate states, lent, counted, and given back
//! to the system when a burst is over.

use super::inflate::Gunzip;
use super::whole::{WholeGunzip, claimed_bytes};
use super::{FetcherLimits, MemoryUse};

/// Size of the window that gzip bodies are inflated into, in bytes; grows for longer lines, and
/// for bodies inflated whole.
pub(super) const WINDOW_BYTES: usize = 128 * 1024;
/// Largest buffer kept in the pool, in bytes.
const POOLED_BYTES_MAX: usize = 256 * 1024;
/// Most buffers and inflate states of each sort kept in the pool.
const POOLED_MAX: usize = 64;
/// Buffers and inflate states of each sort that stay when nothing uses them.
const POOLED_MIN: usize = 2;
/// What an inflate state takes, in bytes: the 32 KiB of history, its margin, the code tables.
const GUNZIP_BYTES: usize = 48 * 1024;
/// What was not used for one such period, whole, is given back at its end.
const TRIM_PERIOD_NS: u64 = 15_000_000_000;
/// A body is collected while its compressed bytes are at most this part of what it may inflate
/// to: metrics compress better.
const COLLECTED_SHARE: usize = 4;

/// What the bodies of one shard share.
#[derive(Debug)]
pub(super) struct BodyPool {
    /// Scratch within one call; nothing stays in it.
    pub(super) window: Vec<u8>,
    whole: Option<WholeGunzip>,
    #[allow(
        clippy::vec_box,
        reason = "they are lent boxed: a body moves with its exchange"
    )]
    gunzips: Vec<Box<Gunzip>>,
    gunzips_lent: usize,
    buffers: Vec<Vec<u8>>,
    /// Bytes of lines that all bodies in flight carry over.
    carry_bytes: usize,
    /// Compressed bytes that all bodies in flight have collected.
    collected_bytes: usize,
    /// Bytes received and not worked on, of all exchanges.
    pending_bytes: usize,
    limits: FetcherLimits,
    /// Bytes (read and written) that may yet be worked on in this turn.
    pub(super) budget: usize,
    period: Period,
}

/// What the present period used at most of what the pool keeps.
#[derive(Debug, Clone, Copy)]
struct Period {
    began_ns: u64,
    window_bytes: usize,
    spare_gunzips: usize,
    spare_buffers: usize,
}

impl BodyPool {
    pub(super) fn new(limits: FetcherLimits) -> BodyPool {
        BodyPool {
            window: vec![0; WINDOW_BYTES],
            whole: (limits.whole_body_bytes_max > 0)
                .then(WholeGunzip::new)
                .flatten(),
            gunzips: Vec::new(),
            gunzips_lent: 0,
            buffers: Vec::new(),
            carry_bytes: 0,
            collected_bytes: 0,
            pending_bytes: 0,
            limits,
            budget: 0,
            period: Period {
                began_ns: 0,
                window_bytes: 0,
                spare_gunzips: 0,
                spare_buffers: 0,
            },
        }
    }

    /// Longest line.
    pub(super) fn line_bytes_max(&self) -> usize {
        self.limits.line_bytes_max
    }

    /// Most bytes that all bodies may carry over.
    pub(super) fn carry_bytes_max(&self) -> usize {
        self.limits.carry_bytes_max
    }

    /// An empty buffer, to be given back.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.period.spare_buffers = self.period.spare_buffers.min(self.buffers.len());
        buffer
    }

    pub(super) fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity > 0 && capacity <= POOLED_BYTES_MAX && self.buffers.len() < POOLED_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// A reader at the start of a gzip stream, to be given back.
    pub(super) fn take_gunzip(&mut self) -> Box<Gunzip> {
        let mut gunzip = self.gunzips.pop().unwrap_or_default();
        self.period.spare_gunzips = self.period.spare_gunzips.min(self.gunzips.len());
        self.gunzips_lent += 1;
        gunzip.reset();
        gunzip
    }

    pub(super) fn give_gunzip(&mut self, gunzip: Box<Gunzip>) {
        self.gunzips_lent -= 1;
        if self.gunzips.len() < POOLED_MAX {
            self.gunzips.push(gunzip);
        }
    }

    /// Makes the window at least so long.
    pub(super) fn need_window(&mut self, bytes: usize) {
        self.period.window_bytes = self.period.window_bytes.max(bytes);
        if self.window.len() < bytes {
            self.window.resize(bytes, 0);
        }
    }

    /// Whether a body may have so many compressed bytes collected before it is inflated.
    pub(super) fn may_collect(&self, bytes: u64) -> bool {
        let bytes_max = self.limits.whole_body_bytes_max / COLLECTED_SHARE;
        self.whole.is_some() && bytes <= bytes_max as u64
    }

    /// Whether all bodies together may have so many more compressed bytes collected.
    pub(super) fn has_room_to_collect(&self, more_bytes: usize) -> bool {
        self.collected_bytes + more_bytes <= self.limits.collected_bytes_max
    }

    /// Inflates a whole stream into the window. Its size, less than `body_bytes_limit`; `None`:
    /// not for this way, or damaged.
    pub(super) fn inflate_whole(&mut self, stream: &[u8], body_bytes_limit: u64) -> Option<usize> {
        let bytes_max = self.limits.whole_body_bytes_max;
        let bytes_max = bytes_max.min(self.limits.line_bytes_max);
        let bytes = claimed_bytes(stream)
            .filter(|bytes| *bytes <= bytes_max && (*bytes as u64) < body_bytes_limit)?;
        self.need_window(bytes);
        self.budget = self.budget.saturating_sub(stream.len() + bytes);
        let content = &mut self.window[..bytes];
        self.whole
            .as_mut()?
            .inflate(stream, content)
            .then_some(bytes)
    }

    /// Counts bytes carried over: `counted` before, `bytes` now. False: too many altogether.
    pub(super) fn count_carry(&mut self, counted: &mut usize, bytes: usize) -> bool {
        recount(&mut self.carry_bytes, counted, bytes);
        self.carry_bytes <= self.limits.carry_bytes_max
    }

    /// Counts collected bytes: `counted` before, `bytes` now.
    pub(super) fn count_collected(&mut self, counted: &mut usize, bytes: usize) {
        recount(&mut self.collected_bytes, counted, bytes);
    }

    /// Counts bytes received and not worked on: `counted` before, `bytes` now.
    pub(super) fn count_pending(&mut self, counted: &mut usize, bytes: usize) {
        recount(&mut self.pending_bytes, counted, bytes);
    }

    /// Gives back to the system what was not used for a while.
    pub(super) fn trim(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.period.began_ns) < TRIM_PERIOD_NS {
            return;
        }
        let window_bytes = self.period.window_bytes.max(WINDOW_BYTES);
        if self.window.len() > window_bytes {
            self.window.truncate(window_bytes);
            self.window.shrink_to_fit();
        }
        // The least used are at the front.
        let spare = self.period.spare_gunzips.saturating_sub(POOLED_MIN);
        self.gunzips.drain(..spare);
        let spare = self.period.spare_buffers.saturating_sub(POOLED_MIN);
        self.buffers.drain(..spare);
        self.period = Period {
            began_ns: now_ns,
            window_bytes: 0,
            spare_gunzips: self.gunzips.len(),
            spare_buffers: self.buffers.len(),
        };
    }

    /// What bodies in flight hold, and what waits for the next.
    pub(super) fn memory_use(&self) -> MemoryUse {
        let lent = self.gunzips_lent * GUNZIP_BYTES;
        MemoryUse {
            connections_bytes: 0,
            bodies_bytes: self.carry_bytes + self.collected_bytes + self.pending_bytes + lent,
            pooled_bytes: self.window.capacity()
                + self.gunzips.len() * GUNZIP_BYTES
                + self.buffers.iter().map(Vec::capacity).sum::<usize>(),
        }
    }
}

fn recount(total: &mut usize, counted: &mut usize, bytes: usize) {
    *total = *total - *counted + bytes;
    *counted = bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_left_is_given_back() {
        const SECOND_NS: u64 = 1_000_000_000;
        let mut pool = BodyPool::new(FetcherLimits::default());
        pool.trim(100 * SECOND_NS);
        let gunzips: Vec<_> = (0..20).map(|_| pool.take_gunzip()).collect();
        let buffers: Vec<_> = (0..20).map(|_| pool.take_buffer()).collect();
        assert!(pool.memory_use().bodies_bytes >= 20 * GUNZIP_BYTES);
        pool.need_window(1 << 20);
        gunzips
            .into_iter()
            .for_each(|gunzip| pool.give_gunzip(gunzip));
        for mut buffer in buffers {
            buffer.reserve(1000);
            pool.give_buffer(buffer);
        }
        assert_eq!(pool.memory_use().bodies_bytes, 0);
        let burst = pool.memory_use().pooled_bytes;
        assert!(burst >= (1 << 20) + 20 * (GUNZIP_BYTES + 1000));
        // The end of the period that saw the burst, then of one in which a few are used.
        pool.trim(116 * SECOND_NS);
        assert_eq!(pool.memory_use().pooled_bytes, burst);
        let few: Vec<_> = (0..5).map(|_| pool.take_gunzip()).collect();
        few.into_iter().for_each(|gunzip| pool.give_gunzip(gunzip));
        pool.trim(130 * SECOND_NS);
        assert_eq!(pool.memory_use().pooled_bytes, burst);
        pool.trim(131 * SECOND_NS);
        assert_eq!(
            (pool.gunzips.len(), pool.buffers.len()),
            (5 + POOLED_MIN, POOLED_MIN)
        );
        assert_eq!(pool.window.capacity(), WINDOW_BYTES);
        pool.trim(147 * SECOND_NS);
        assert_eq!(pool.gunzips.len(), POOLED_MIN);
    }
}
