//! What a request is written to: bytes, and repetitions of bytes written before.

/// A request in a compressed form, written in order.
///
/// A match of fewer than `COPY_LEN_MIN` bytes must not be left: each `copy` is at least that long,
/// or goes on where a match of the same distance has ended, or is gone on with.
pub(super) trait Sink {
    /// Whether a match that is as far away as a whole scrape costs no more than a near one.
    const ROWS: bool;

    /// Uncompressed bytes written.
    fn len(&self) -> usize;

    /// Writes bytes.
    fn literal(&mut self, bytes: &[u8]);

    /// Writes the low `len` (at most 8) bytes of `word`, the lowest first.
    fn literal_word(&mut self, word: u64, len: usize);

    /// Repeats `len` bytes that begin `distance` before the end; they may overlap what they make.
    fn copy(&mut self, len: usize, distance: usize);

    /// Distance of the match that the end belongs to; 0 if bytes stand there.
    fn match_distance(&self) -> usize;
}

/// Bytes with room behind them, so that short pieces are copied with one store.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

/// Room that every call leaves behind the end.
const ROOM: usize = 64;

impl Buffer {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// All bytes, and at least `ROOM` of anything.
    pub(super) fn with_room(&mut self) -> &[u8] {
        self.reserve(0);
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// The byte at `at`, which is there.
    #[inline]
    pub(super) fn set(&mut self, at: usize, byte: u8) {
        self.bytes[at] = byte;
    }

    /// Makes room for `more` bytes and `ROOM`.
    #[inline]
    pub(super) fn reserve(&mut self, more: usize) {
        if self.bytes.len() < self.len + more + ROOM {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let len = (self.len + more + ROOM).max(self.bytes.len() * 2).max(4096);
        self.bytes.resize(len, 0);
    }

    /// Appends the low `len` (at most 8) bytes of `word`; there must be room.
    #[inline]
    pub(super) fn put_word(&mut self, word: u64, len: usize) {
        self.bytes[self.len..self.len + 8].copy_from_slice(&word.to_le_bytes());
        self.len += len;
    }

    /// Appends the first `len` of `bytes`: if more of them follow, a few with one store.
    #[inline]
    pub(super) fn put_part(&mut self, bytes: &[u8], len: usize) {
        match bytes.first_chunk::<32>() {
            Some(wide) if len <= 32 => {
                self.reserve(32);
                self.bytes[self.len..self.len + 32].copy_from_slice(wide);
                self.len += len;
            }
            _ => self.put(&bytes[..len]),
        }
    }

    /// Appends `bytes`.
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        // Most are a few digits: a copy of fixed length, of which the rest is written over.
        if let Some(wide) = bytes.first_chunk::<8>().filter(|_| bytes.len() <= 16) {
            let end = bytes.last_chunk::<8>().unwrap_or(wide);
            let to = self.len + bytes.len();
            self.bytes[self.len..self.len + 8].copy_from_slice(wide);
            self.bytes[to - 8..to].copy_from_slice(end);
        } else if bytes.len() < 8 {
            let mut word = 0;
            for (shift, byte) in bytes.iter().enumerate() {
                word |= u64::from(*byte) << (8 * shift);
            }
            self.bytes[self.len..self.len + 8].copy_from_slice(&word.to_le_bytes());
        } else {
            self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        }
        self.len += bytes.len();
    }

    /// Makes a gap of `gap` bytes at `at`.
    pub(super) fn insert(&mut self, at: usize, gap: usize) {
        self.reserve(gap);
        self.bytes.copy_within(at..self.len, at + gap);
        self.len += gap;
    }
}
