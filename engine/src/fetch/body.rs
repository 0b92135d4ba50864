//! Body bytes as received, in any pieces -> uncompressed windows of whole lines for the sink.
//!
//! What the sink leaves (a line whose end has not come) is put in front of the next bytes: within
//! the receive buffer where there is room, through a pooled buffer between two arrivals. A small
//! gzip body is collected, within the receive buffer if it arrives at once, and inflated whole;
//! any other goes through a window, never held whole.

use super::BodySink;
use super::error::FetchError;
use super::inflate::Gunzip;
use super::pool::{BodyPool, WINDOW_BYTES};
use crate::parse::Dialect;
use std::ops::Range;

/// How the bytes of a body become content.
#[derive(Debug)]
enum Coding {
    /// They are it.
    Identity,
    /// They are collected, to be inflated at the end, whole.
    Collected,
    /// They are inflated as they come, what was collected first.
    Inflated(Box<Gunzip>),
}

/// The state of one body on its way to the sink.
#[derive(Debug)]
pub(super) struct Body {
    /// `Err`: no dialect; the body is measured and, if not empty, fails the scrape at its end.
    dialect: Result<Dialect, String>,
    coding: Coding,
    /// Compressed bytes not inflated yet, from `collected_read` on.
    collected: Vec<u8>,
    collected_read: usize,
    /// Part of the pool's count of collected bytes.
    collected_counted: usize,
    /// Given to the sink, not taken by it; in front of the next bytes.
    carry: Vec<u8>,
    /// Part of the pool's count of bytes carried over.
    carry_counted: usize,
    body_bytes: u64,
    body_bytes_limit: u64,
}

/// Bytes of a receive buffer that the sink has not taken yet; of a body that is collected: its
/// compressed bytes in this buffer.
pub(super) type Rest = Range<usize>;

impl Body {
    /// A body of `dialect`. `received_bytes`: how long it is as sent, or as little as is known.
    /// `body_bytes_limit`: uncompressed size at which it fails.
    pub(super) fn new(
        dialect: Result<Dialect, String>,
        gzip: bool,
        received_bytes: u64,
        body_bytes_limit: u64,
        pool: &mut BodyPool,
    ) -> Body {
        let coding = match gzip {
            false => Coding::Identity,
            true if pool.may_collect(received_bytes) => Coding::Collected,
            true => Coding::Inflated(pool.take_gunzip()),
        };
        Body {
            dialect,
            coding,
            collected: Vec::new(),
            collected_read: 0,
            collected_counted: 0,
            carry: Vec::new(),
            carry_counted: 0,
            body_bytes: 0,
            body_bytes_limit,
        }
    }

    /// Uncompressed bytes so far.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// What is there of it so far: uncompressed bytes, compressed ones while it is collected.
    pub(super) fn bytes_so_far(&self) -> u64 {
        match self.coding {
            Coding::Collected => self.collected.len() as u64,
            _ => self.body_bytes,
        }
    }

    /// Takes body bytes `buffer[range]` as received. `rest`, empty at first, is what the sink left
    /// of the same buffer before `range`. Returns how many bytes of the range are done with: fewer
    /// than all when the pool's budget is used up.
    pub(super) fn feed<S: BodySink>(
        &mut self,
        id: u32,
        buffer: &mut [u8],
        range: Range<usize>,
        rest: &mut Rest,
        pool: &mut BodyPool,
        sink: &mut S,
    ) -> Result<usize, FetchError> {
        let len = range.len();
        if matches!(self.coding, Coding::Collected) {
            let here_bytes = rest.len() + len;
            let all_bytes = self.collected.len() + here_bytes;
            if pool.may_collect(all_bytes as u64) && pool.has_room_to_collect(here_bytes) {
                if rest.start == rest.end {
                    *rest = range;
                } else {
                    buffer.copy_within(range, rest.end);
                    rest.end += len;
                }
                return Ok(len);
            }
            self.collect(&buffer[std::mem::take(rest)], pool);
            self.coding = Coding::Inflated(pool.take_gunzip());
        }
        if matches!(self.coding, Coding::Inflated(_)) {
            return match self.inflate_collected(id, pool, sink)? {
                true => self.inflate(id, &buffer[range], pool, sink),
                false => Ok(0),
            };
        }
        pool.budget = pool.budget.saturating_sub(len);
        count(&mut self.body_bytes, len, self.body_bytes_limit)?;
        if self.dialect.is_err() {
            return Ok(len);
        }
        let has_line = memchr::memchr(b'\n', &buffer[range.clone()]).is_some();
        if self.carry.len() > range.start {
            // No room in front.
            self.carry.extend_from_slice(&buffer[range]);
            if has_line {
                let used = give(sink, id, &self.carry)?;
                self.carry.drain(..used);
            }
            check_line(self.carry.len(), pool)?;
            return Ok(len);
        }
        let start = if rest.start == rest.end {
            let start = range.start - self.carry.len();
            buffer[start..range.start].copy_from_slice(&self.carry);
            self.carry.clear();
            start
        } else {
            let start = range.start - rest.len();
            buffer.copy_within(rest.clone(), start);
            start
        };
        let used = match has_line {
            true => give(sink, id, &buffer[start..range.end])?,
            false => 0,
        };
        *rest = start + used..range.end;
        check_line(rest.len(), pool)?;
        Ok(len)
    }

    /// Adds to what is collected.
    fn collect(&mut self, bytes: &[u8], pool: &mut BodyPool) {
        if bytes.is_empty() {
            return;
        }
        if self.collected.capacity() == 0 {
            self.collected = pool.take_buffer();
        }
        self.collected.extend_from_slice(bytes);
        pool.budget = pool.budget.saturating_sub(bytes.len());
        pool.count_collected(&mut self.collected_counted, self.collected.len());
    }

    /// Inflates what was collected through the pool's window; false: the budget was used up
    /// before its end.
    fn inflate_collected<S: BodySink>(
        &mut self,
        id: u32,
        pool: &mut BodyPool,
        sink: &mut S,
    ) -> Result<bool, FetchError> {
        if self.collected_read == self.collected.len() {
            return Ok(true);
        }
        let collected = std::mem::take(&mut self.collected);
        self.collected_read += self.inflate(id, &collected[self.collected_read..], pool, sink)?;
        if self.collected_read < collected.len() {
            self.collected = collected;
            return Ok(false);
        }
        self.collected_read = 0;
        pool.count_collected(&mut self.collected_counted, 0);
        pool.give_buffer(collected);
        Ok(true)
    }

    /// Inflates `input` through the pool's window.
    fn inflate<S: BodySink>(
        &mut self,
        id: u32,
        input: &[u8],
        pool: &mut BodyPool,
        sink: &mut S,
    ) -> Result<usize, FetchError> {
        let Coding::Inflated(gunzip) = &mut self.coding else {
            return Ok(input.len());
        };
        let mut filled = self.carry.len();
        let mut room = WINDOW_BYTES.max(filled * 2);
        pool.need_window(room);
        pool.window[..filled].copy_from_slice(&self.carry);
        self.carry.clear();
        let mut searched = filled;
        let mut read = 0;
        loop {
            let progress = gunzip
                .inflate(&input[read..], &mut pool.window[filled..room])
                .map_err(FetchError::Gzip)?;
            read += progress.read;
            pool.budget = pool.budget.saturating_sub(progress.read + progress.written);
            count(
                &mut self.body_bytes,
                progress.written,
                self.body_bytes_limit,
            )?;
            if self.dialect.is_ok() {
                filled += progress.written;
            }
            if memchr::memchr(b'\n', &pool.window[searched..filled]).is_some() {
                let used = give(sink, id, &pool.window[..filled])?;
                pool.window.copy_within(used..filled, 0);
                filled -= used;
            }
            searched = filled;
            if filled == room {
                check_line(filled + 1, pool)?;
                room = (filled * 2).min(pool.line_bytes_max() + 1);
                pool.need_window(room);
            }
            // What may be left inside the inflater comes out with the next input: the trailer
            // follows in any case.
            if read == input.len() || pool.budget == 0 {
                break;
            }
        }
        self.carry.extend_from_slice(&pool.window[..filled]);
        check_line(filled, pool)?;
        Ok(read)
    }

    /// The body has ended; `rest` as in [`Body::feed`]. The sink gets what is left, as the last.
    /// False: the budget was used up before; to be called again, with no bytes.
    pub(super) fn finish<S: BodySink>(
        &mut self,
        id: u32,
        buffer: &[u8],
        mut rest: Rest,
        pool: &mut BodyPool,
        sink: &mut S,
    ) -> Result<bool, FetchError> {
        if matches!(self.coding, Coding::Collected) {
            let stream = match self.collected.is_empty() {
                true => &buffer[rest.clone()],
                false => {
                    self.collect(&buffer[std::mem::take(&mut rest)], pool);
                    &self.collected[..]
                }
            };
            if let Some(bytes) = pool.inflate_whole(stream, self.body_bytes_limit) {
                self.body_bytes = bytes as u64;
                self.check_dialect(id, sink)?;
                sink.window(id, &pool.window[..bytes], true)?;
                return Ok(true);
            }
            self.collect(&buffer[std::mem::take(&mut rest)], pool);
            self.coding = Coding::Inflated(pool.take_gunzip());
        }
        if !self.inflate_collected(id, pool, sink)? {
            self.keep(&[], 0..0, pool)?;
            return Ok(false);
        }
        if let Coding::Inflated(gunzip) = &self.coding {
            gunzip.finish().map_err(FetchError::Gzip)?;
        }
        self.check_dialect(id, sink)?;
        let last = match rest.is_empty() {
            true => &self.carry[..],
            false => &buffer[rest],
        };
        sink.window(id, last, true)?;
        Ok(true)
    }

    /// At the end: a body without a dialect fails, unless it is empty.
    fn check_dialect<S: BodySink>(&self, id: u32, sink: &mut S) -> Result<(), FetchError> {
        match &self.dialect {
            Ok(_) => Ok(()),
            // An empty body succeeds, whatever it says it is.
            Err(_) if self.body_bytes == 0 => sink.head(id, Dialect::Text),
            Err(reason) => Err(FetchError::ContentType {
                reason: reason.clone(),
                body_bytes: self.body_bytes,
            }),
        }
    }

    /// To be called when the receive buffer is about to be used by others: keeps `rest`.
    pub(super) fn keep(
        &mut self,
        buffer: &[u8],
        rest: Rest,
        pool: &mut BodyPool,
    ) -> Result<(), FetchError> {
        if matches!(self.coding, Coding::Collected) {
            self.collect(&buffer[rest], pool);
            return Ok(());
        }
        if self.carry.capacity() == 0 && !rest.is_empty() {
            self.carry = pool.take_buffer();
        }
        self.carry.extend_from_slice(&buffer[rest]);
        match pool.count_carry(&mut self.carry_counted, self.carry.len()) {
            true => Ok(()),
            false => Err(FetchError::CarryLimit(pool.carry_bytes_max())),
        }
    }

    /// Gives back what it holds of the pool.
    pub(super) fn release(mut self, pool: &mut BodyPool) {
        pool.count_carry(&mut self.carry_counted, 0);
        pool.count_collected(&mut self.collected_counted, 0);
        pool.give_buffer(self.carry);
        pool.give_buffer(self.collected);
        if let Coding::Inflated(gunzip) = self.coding {
            pool.give_gunzip(gunzip);
        }
    }
}

/// Counts bytes of the uncompressed body.
fn count(body_bytes: &mut u64, bytes: usize, limit: u64) -> Result<(), FetchError> {
    *body_bytes += bytes as u64;
    match *body_bytes >= limit {
        true => Err(FetchError::BodySizeLimit),
        false => Ok(()),
    }
}

/// Gives a window to the sink; how much of it the sink took.
fn give<S: BodySink>(sink: &mut S, id: u32, window: &[u8]) -> Result<usize, FetchError> {
    let used = sink.window(id, window, false)?;
    assert!(
        used <= window.len(),
        "BUG: the sink took more than there was"
    );
    Ok(used)
}

fn check_line(len: usize, pool: &BodyPool) -> Result<(), FetchError> {
    match len > pool.line_bytes_max() {
        true => Err(FetchError::LineTooLong(pool.line_bytes_max())),
        false => Ok(()),
    }
}
