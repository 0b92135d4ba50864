//! Bytes and repetitions -> snappy in block format, written as they come.
//!
//! Source: google/snappy, `format_description.txt`.

use super::sink::{Buffer, Sink};
use super::wire::{put_varint, varint_len};
use bytes::Bytes;

/// Longest repetition of one element.
const COPY_LEN_MAX: usize = 64;

/// A request in snappy's block format, but for its length in front.
#[derive(Debug, Default)]
pub(super) struct SnappyStream {
    elements: Buffer,
    /// Where the open literal's tag is, plus 1; 0: there is none.
    literal: usize,
    match_len: usize,
    match_distance: usize,
    len: usize,
}

impl SnappyStream {
    pub(super) fn clear(&mut self) {
        self.elements.clear();
        (self.literal, self.match_len, self.match_distance, self.len) = (0, 0, 0, 0);
    }

    /// Ends the request and gives it.
    pub(super) fn finish(&mut self) -> Bytes {
        self.end_match();
        self.end_literal();
        let mut body = Vec::with_capacity(self.elements.len() + 5);
        put_varint(&mut body, self.len as u64);
        body.extend_from_slice(self.elements.as_slice());
        self.clear();
        body.into()
    }

    /// Appends what a compressor has made of `len` bytes: its length in front, then elements that
    /// repeat nothing but these bytes.
    pub(super) fn append(&mut self, compressed: &[u8], len: usize) {
        self.end_match();
        self.end_literal();
        let (_, elements) = compressed.split_at(varint_len(len as u64).min(compressed.len()));
        self.elements.put(elements);
        self.len += len;
    }

    #[inline]
    fn begin_literal(&mut self) {
        if self.match_distance != 0 {
            self.end_match();
        }
        if self.literal == 0 {
            self.elements.reserve(1);
            // Its tag, when the length is known.
            self.elements.put_word(0, 1);
            self.literal = self.elements.len();
        }
    }

    #[inline]
    fn end_literal(&mut self) {
        if self.literal == 0 {
            return;
        }
        let tag = self.literal - 1;
        let len = self.elements.len() - self.literal;
        self.literal = 0;
        match len {
            0 => {}
            1..=60 => self.elements.set(tag, ((len - 1) as u8) << 2),
            _ => self.end_long_literal(tag, len),
        }
    }

    /// The length follows the tag, in as few bytes as it takes.
    #[cold]
    fn end_long_literal(&mut self, tag: usize, len: usize) {
        let bytes = (len as u32 - 1).to_le_bytes();
        let count = 4 - (len as u32 - 1).leading_zeros() as usize / 8;
        self.elements.insert(tag + 1, count);
        self.elements.set(tag, (59 + count as u8) << 2);
        for (at, byte) in bytes[..count].iter().enumerate() {
            self.elements.set(tag + 1 + at, *byte);
        }
    }

    #[inline]
    fn end_match(&mut self) {
        let distance = self.match_distance;
        let mut len = self.match_len;
        (self.match_len, self.match_distance) = (0, 0);
        while len > 0 {
            self.elements.reserve(5);
            let mut part = len.min(COPY_LEN_MAX);
            // The short form takes 4 and more: leave as many.
            if len > COPY_LEN_MAX && len < COPY_LEN_MAX + 4 {
                part = COPY_LEN_MAX - 4;
            }
            len -= part;
            let long_len = (part as u64 - 1) << 2;
            if (4..12).contains(&part) && distance < 1 << 11 {
                let tag = 1 | (part as u64 - 4) << 2 | (distance as u64 >> 8) << 5;
                self.elements
                    .put_word(tag | (distance as u64 & 0xff) << 8, 2);
            } else if distance < 1 << 16 {
                self.elements
                    .put_word(2 | long_len | (distance as u64) << 8, 3);
            } else {
                self.elements
                    .put_word(3 | long_len | (distance as u64) << 8, 5);
            }
        }
    }
}

impl Sink for SnappyStream {
    const ROWS: bool = false;

    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn literal(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.begin_literal();
        self.elements.put(bytes);
        self.len += bytes.len();
    }

    #[inline]
    fn literal_word(&mut self, word: u64, len: usize) {
        self.begin_literal();
        self.elements.reserve(8);
        self.elements.put_word(word, len);
        self.len += len;
    }

    #[inline]
    fn copy(&mut self, len: usize, distance: usize) {
        debug_assert!(distance > 0 && distance <= self.len);
        if self.match_distance != distance {
            self.end_literal();
            self.end_match();
            self.match_distance = distance;
        }
        self.match_len += len;
        self.len += len;
    }

    #[inline]
    fn match_distance(&self) -> usize {
        self.match_distance
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoders_see_what_was_written(
            steps in prop::collection::vec((any::<bool>(), 1_usize..300, any::<u32>()), 1..60),
        ) {
            let mut stream = SnappyStream::default();
            let mut plain: Vec<u8> = Vec::new();
            for (is_copy, len, seed) in steps {
                if is_copy && !plain.is_empty() {
                    let distance = 1 + seed as usize % plain.len();
                    stream.copy(len, distance);
                    for _ in 0..len {
                        plain.push(plain[plain.len() - distance]);
                    }
                } else {
                    let len = if seed % 64 == 0 { len * 300 } else { len };
                    let bytes: Vec<u8> = (0..len).map(|n| (n as u32 ^ seed) as u8).collect();
                    if len <= 8 {
                        let mut word = [0; 8];
                        word[..len].copy_from_slice(&bytes);
                        stream.literal_word(u64::from_le_bytes(word), len);
                    } else {
                        stream.literal(&bytes);
                    }
                    plain.extend(bytes);
                }
                prop_assert_eq!(stream.len(), plain.len());
            }
            let body = stream.finish();
            let decoded = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
            prop_assert_eq!(decoded, plain);
        }
    }
}
