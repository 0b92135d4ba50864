//! Body bytes as received, in any pieces -> uncompressed windows of whole lines for the sink.
//!
//! What the sink leaves (a line whose end has not come) is put in front of the next bytes: within
//! the receive buffer where there is room, through a pooled buffer between two arrivals. No body
//! is ever held whole.

use super::BodySink;
use super::error::FetchError;
use super::inflate::Gunzip;
use crate::parse::Dialect;
use std::ops::Range;

/// Size of the window that gzip bodies are inflated into, in bytes; grows for longer lines only.
const WINDOW_BYTES: usize = 128 * 1024;
/// Largest buffer kept in the pool, in bytes.
const POOLED_BYTES_MAX: usize = 64 * 1024;
/// Most buffers and inflate states of each sort kept in the pool.
const POOLED_MAX: usize = 64;

/// What the bodies of one shard share.
#[derive(Debug)]
pub(super) struct BodyPool {
    window: Vec<u8>,
    gunzips: Vec<Gunzip>,
    carries: Vec<Vec<u8>>,
    /// Bytes that all bodies in flight carry over.
    carry_bytes: usize,
    carry_bytes_max: usize,
    line_bytes_max: usize,
    /// Bytes (read and written) that may yet be worked on in this turn.
    pub(super) budget: usize,
}

impl BodyPool {
    pub(super) fn new(line_bytes_max: usize, carry_bytes_max: usize) -> BodyPool {
        BodyPool {
            window: vec![0; WINDOW_BYTES],
            gunzips: Vec::new(),
            carries: Vec::new(),
            carry_bytes: 0,
            carry_bytes_max,
            line_bytes_max,
            budget: 0,
        }
    }

    /// An empty buffer, to be given back.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        self.carries.pop().unwrap_or_default()
    }

    pub(super) fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity > 0 && capacity <= POOLED_BYTES_MAX && self.carries.len() < POOLED_MAX {
            buffer.clear();
            self.carries.push(buffer);
        }
    }

    #[cfg(test)]
    pub(super) fn carry_bytes(&self) -> usize {
        self.carry_bytes
    }
}

/// The state of one body on its way to the sink.
#[derive(Debug)]
pub(super) struct Body {
    /// `Err`: no dialect; the body is measured and, if not empty, fails the scrape at its end.
    dialect: Result<Dialect, String>,
    gunzip: Option<Gunzip>,
    /// Given to the sink, not taken by it; in front of the next bytes.
    carry: Vec<u8>,
    /// Part of the pool's `carry_bytes`.
    carry_counted: usize,
    body_bytes: u64,
    body_bytes_limit: u64,
}

/// Bytes of a receive buffer that the sink has not taken yet.
pub(super) type Rest = Range<usize>;

impl Body {
    /// A body of `dialect`. `body_bytes_limit`: uncompressed size at which it fails.
    pub(super) fn new(
        dialect: Result<Dialect, String>,
        gzip: bool,
        body_bytes_limit: u64,
        pool: &mut BodyPool,
    ) -> Body {
        let gunzip = gzip.then(|| {
            let mut gunzip = pool.gunzips.pop().unwrap_or_default();
            gunzip.reset();
            gunzip
        });
        Body {
            dialect,
            gunzip,
            carry: pool.take_buffer(),
            carry_counted: 0,
            body_bytes: 0,
            body_bytes_limit,
        }
    }

    /// Uncompressed bytes so far.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
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
        if self.gunzip.is_some() {
            return self.inflate(id, &buffer[range], pool, sink);
        }
        let len = range.len();
        pool.budget = pool.budget.saturating_sub(len);
        self.count(len)?;
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

    /// Inflates `input` through the pool's window.
    fn inflate<S: BodySink>(
        &mut self,
        id: u32,
        input: &[u8],
        pool: &mut BodyPool,
        sink: &mut S,
    ) -> Result<usize, FetchError> {
        let mut filled = self.carry.len();
        if filled >= pool.window.len() / 2 {
            pool.window.resize(filled * 2, 0);
        }
        pool.window[..filled].copy_from_slice(&self.carry);
        self.carry.clear();
        let mut searched = filled;
        let mut read = 0;
        loop {
            let gunzip = self.gunzip.as_mut().expect("BUG: not a gzip body");
            let progress = gunzip
                .inflate(&input[read..], &mut pool.window[filled..])
                .map_err(FetchError::Gzip)?;
            read += progress.read;
            pool.budget = pool.budget.saturating_sub(progress.read + progress.written);
            self.count(progress.written)?;
            if self.dialect.is_ok() {
                filled += progress.written;
            }
            if memchr::memchr(b'\n', &pool.window[searched..filled]).is_some() {
                let used = give(sink, id, &pool.window[..filled])?;
                pool.window.copy_within(used..filled, 0);
                filled -= used;
            }
            searched = filled;
            if filled == pool.window.len() {
                check_line(filled + 1, pool)?;
                let len = (filled * 2).min(pool.line_bytes_max + 1);
                pool.window.resize(len, 0);
            }
            // What may be left inside the inflater comes out with the next input: the trailer
            // follows in any case.
            if read == input.len() || pool.budget == 0 {
                break;
            }
        }
        self.carry.extend_from_slice(&pool.window[..filled]);
        if pool.window.len() > WINDOW_BYTES {
            pool.window.truncate(WINDOW_BYTES);
            pool.window.shrink_to_fit();
        }
        check_line(filled, pool)?;
        Ok(read)
    }

    /// The body has ended; `rest` as in [`Body::feed`]. The sink gets what is left, as the last.
    pub(super) fn finish<S: BodySink>(
        &mut self,
        id: u32,
        buffer: &[u8],
        rest: Rest,
        sink: &mut S,
    ) -> Result<(), FetchError> {
        if let Some(gunzip) = &self.gunzip {
            gunzip.finish().map_err(FetchError::Gzip)?;
        }
        if let Err(reason) = &self.dialect {
            if self.body_bytes > 0 {
                return Err(FetchError::ContentType {
                    reason: reason.clone(),
                    body_bytes: self.body_bytes,
                });
            }
            // An empty body succeeds, whatever it says it is.
            sink.head(id, Dialect::Text)?;
        }
        let last = match rest.is_empty() {
            true => &self.carry[..],
            false => &buffer[rest],
        };
        sink.window(id, last, true)?;
        Ok(())
    }

    /// To be called when the receive buffer is about to be used by others: keeps `rest`.
    pub(super) fn keep(
        &mut self,
        buffer: &[u8],
        rest: Rest,
        pool: &mut BodyPool,
    ) -> Result<(), FetchError> {
        self.carry.extend_from_slice(&buffer[rest]);
        pool.carry_bytes = pool.carry_bytes - self.carry_counted + self.carry.len();
        self.carry_counted = self.carry.len();
        match pool.carry_bytes > pool.carry_bytes_max {
            true => Err(FetchError::CarryLimit(pool.carry_bytes_max)),
            false => Ok(()),
        }
    }

    /// Gives back what it holds of the pool.
    pub(super) fn release(self, pool: &mut BodyPool) {
        pool.carry_bytes -= self.carry_counted;
        pool.give_buffer(self.carry);
        if let Some(gunzip) = self.gunzip
            && pool.gunzips.len() < POOLED_MAX
        {
            pool.gunzips.push(gunzip);
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), FetchError> {
        self.body_bytes += bytes as u64;
        match self.body_bytes >= self.body_bytes_limit {
            true => Err(FetchError::BodySizeLimit),
            false => Ok(()),
        }
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
    match len > pool.line_bytes_max {
        true => Err(FetchError::LineTooLong(pool.line_bytes_max)),
        false => Ok(()),
    }
}
