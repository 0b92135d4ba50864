//! Bytes and repetitions -> one zstd frame, through libzstd's sequence interface.
//!
//! Matches are given, so libzstd only codes them; the uncompressed request is never built. A frame
//! has blocks of at most 128 KiB of source, its content size, no checksum.
//!
//! Source: zstd.h, `ZSTD_compressSequencesAndLiterals`; RFC 8878.

use super::diff::COPY_LEN_MIN;
use super::sink::{Buffer, Sink};
use super::zstd_context::{Sequence, ZstdContext, ZstdSearch};
use bytes::Bytes;

/// Source bytes of one block. Source: RFC 8878, section 3.1.1.2.4.
const BLOCK_LEN_MAX: usize = 128 << 10;

/// A request as sequences (some literals, then a match) and their literals.
#[derive(Debug, Default)]
pub(super) struct ZstdStream {
    sequences: Vec<Sequence>,
    literals: Buffer,
    /// Literals before the match.
    literal_len: usize,
    match_len: usize,
    match_distance: usize,
    /// Source bytes of the block that belong to sequences.
    block_len: usize,
    len: usize,
}

impl ZstdStream {
    pub(super) fn clear(&mut self) {
        self.sequences.clear();
        self.literals.clear();
        (self.literal_len, self.match_len, self.match_distance) = (0, 0, 0);
        (self.block_len, self.len) = (0, 0);
    }

    /// Ends the request and gives it.
    pub(super) fn finish(&mut self, context: &mut ZstdContext) -> Bytes {
        self.end_match();
        self.end_block();
        let literals = self.literals.with_room();
        let frame = context.sequences(&self.sequences, literals, self.len);
        // Blocks that would grow, or be very short: libzstd cannot write them this way.
        let body = frame.unwrap_or_else(|| ZstdSearch::new().compress(&self.uncompressed()));
        self.clear();
        body
    }

    /// The request itself, after its last block has ended.
    fn uncompressed(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len);
        let mut literals = self.literals.as_slice();
        for sequence in &self.sequences {
            let (own, rest) = literals.split_at(sequence.literal_len as usize);
            out.extend_from_slice(own);
            literals = rest;
            let (mut len, distance) = (sequence.match_len as usize, sequence.distance as usize);
            while len > 0 {
                let part = len.min(distance);
                let from = out.len() - distance;
                out.extend_from_within(from..from + part);
                len -= part;
            }
        }
        out
    }

    #[inline]
    fn end_match(&mut self) {
        let (literal_len, match_len) = (self.literal_len, self.match_len);
        if match_len == 0 {
            return;
        }
        if self.block_len + literal_len + match_len > BLOCK_LEN_MAX {
            self.cut_match();
            return;
        }
        self.push(literal_len, match_len);
        (self.literal_len, self.match_len, self.match_distance) = (0, 0, 0);
    }

    /// A sequence is valid, whatever was written: libzstd trusts it.
    #[inline]
    fn push(&mut self, literal_len: usize, match_len: usize) {
        assert!(
            match_len >= 3 && self.match_distance > 0,
            "BUG: a match that zstd has not"
        );
        self.block_len += literal_len + match_len;
        self.sequences.push(Sequence {
            distance: self.match_distance as u32,
            literal_len: literal_len as u32,
            match_len: match_len as u32,
            repeat: 0,
        });
    }

    /// A sequence that goes beyond the end of the block.
    #[cold]
    fn cut_match(&mut self) {
        assert!(
            self.match_len >= COPY_LEN_MIN,
            "BUG: a match that is too short"
        );
        self.cut_literals();
        while self.match_len > 0 {
            let room = BLOCK_LEN_MAX - self.block_len - self.literal_len;
            let mut part = self.match_len.min(room);
            let rest = self.match_len - part;
            if rest > 0 && rest < COPY_LEN_MIN {
                part = part.saturating_sub(COPY_LEN_MIN);
            }
            if part >= COPY_LEN_MIN {
                self.push(self.literal_len, part);
                (self.literal_len, self.match_len) = (0, self.match_len - part);
            }
            if self.match_len > 0 {
                self.end_block_with_literals();
            }
        }
        self.match_distance = 0;
    }

    /// Ends blocks until what is left of the open literals fits in one.
    fn cut_literals(&mut self) {
        while self.block_len + self.literal_len > BLOCK_LEN_MAX {
            let part = BLOCK_LEN_MAX - self.block_len;
            let rest = self.literal_len - part;
            self.literal_len = part;
            self.end_block_with_literals();
            self.literal_len = rest;
        }
    }

    fn end_block_with_literals(&mut self) {
        self.sequences.push(Sequence {
            distance: 0,
            literal_len: self.literal_len as u32,
            match_len: 0,
            repeat: 0,
        });
        (self.literal_len, self.block_len) = (0, 0);
    }

    fn end_block(&mut self) {
        self.cut_literals();
        self.end_block_with_literals();
    }
}

impl Sink for ZstdStream {
    const ROWS: bool = true;

    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn literal(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.end_match();
        self.literals.put(bytes);
        self.literal_len += bytes.len();
        self.len += bytes.len();
    }

    #[inline]
    fn literal_word(&mut self, word: u64, len: usize) {
        self.end_match();
        self.literals.reserve(8);
        self.literals.put_word(word, len);
        self.literal_len += len;
        self.len += len;
    }

    #[inline]
    fn copy(&mut self, len: usize, distance: usize) {
        assert!(distance <= self.len, "BUG: a match before the beginning");
        if self.match_distance != distance {
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

    /// Steps as a sink takes them, and the same bytes plainly.
    fn write(steps: &[(bool, usize, u32)], stream: &mut ZstdStream) -> Vec<u8> {
        let mut plain: Vec<u8> = Vec::new();
        for (is_copy, len, seed) in steps {
            let long = if seed % 16 == 0 { 500 } else { 1 };
            if *is_copy && !plain.is_empty() {
                let distance = 1 + *seed as usize % plain.len();
                let len = (*len).max(COPY_LEN_MIN) * long;
                stream.copy(len, distance);
                for _ in 0..len {
                    plain.push(plain[plain.len() - distance]);
                }
            } else {
                let bytes: Vec<u8> = (0..len * long)
                    .map(|n| ((n as u32 ^ seed).wrapping_mul(0x9e37_79b1) >> 24) as u8)
                    .collect();
                stream.literal(&bytes);
                plain.extend(bytes);
            }
        }
        plain
    }

    proptest! {
        #[test]
        fn decoders_see_what_was_written(
            rounds in prop::collection::vec(
                prop::collection::vec((any::<bool>(), 1_usize..300, any::<u32>()), 1..60),
                1..4,
            ),
        ) {
            let mut context = ZstdContext::new();
            let mut stream = ZstdStream::default();
            for steps in rounds {
                let plain = write(&steps, &mut stream);
                prop_assert_eq!(stream.len(), plain.len());
                let body = stream.finish(&mut context);
                prop_assert_eq!(
                    zstd::zstd_safe::get_frame_content_size(&body).unwrap(),
                    Some(plain.len() as u64)
                );
                prop_assert_eq!(zstd::bulk::decompress(&body, plain.len()).unwrap(), &plain[..]);
                // As it is done where libzstd cannot write a block.
                write(&steps, &mut stream);
                stream.end_match();
                stream.end_block();
                prop_assert_eq!(stream.uncompressed(), plain);
                stream.clear();
            }
        }
    }

    #[test]
    fn a_frame_of_many_blocks_and_far_matches() {
        let mut context = ZstdContext::new();
        let mut stream = ZstdStream::default();
        let mut seed = 1_u64;
        let mut plain: Vec<u8> = Vec::new();
        while plain.len() < 9 << 20 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            stream.literal_word(seed, 8);
            plain.extend(seed.to_le_bytes());
            let distance = 1 + (seed >> 20) as usize % plain.len();
            let len = 4 + (seed >> 10) as usize % 200;
            stream.copy(len, distance);
            for _ in 0..len {
                plain.push(plain[plain.len() - distance]);
            }
        }
        let body = stream.finish(&mut context);
        assert!(body.len() < plain.len() / 5, "{}", body.len());
        assert!(zstd::bulk::decompress(&body, plain.len()).unwrap() == plain);
        let mut streamed = Vec::new();
        zstd::stream::copy_decode(&body[..], &mut streamed).unwrap();
        assert!(streamed == plain);
    }
}
