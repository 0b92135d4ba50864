//! Series, one after the other -> repetitions of the one before, and what differs.
//!
//! What follows each other in a 2.0 request mostly has the same form and length: some references, a
//! value and perhaps the metadata differ. So a series is compared with the one before instead of
//! searching for what it repeats. Where the lengths differ, their beginnings and their ends are
//! compared. Nothing depends on the bytes being series: others are only less alike.

use super::TAG_SERIES;
use crate::remote_write::diff::COPY_LEN_MIN;
use crate::remote_write::sink::{Buffer, Sink};

/// Bytes compared at once.
const WINDOW: usize = 64;
/// How far from a series' beginning its length may end.
const HEAD_LEN_MAX: usize = 4;

/// Writes what `series` holds to `sink`.
pub(super) fn write<S: Sink>(sink: &mut S, series: &mut Buffer) {
    let end = series.len();
    // A window may reach beyond the end.
    let bytes = series.with_room();
    let (mut before, mut before_len) = (0, 0);
    let mut at = 0;
    while at < end {
        let len = length(&bytes[at..end]);
        if before_len == 0 {
            sink.literal(&bytes[at..at + len]);
        } else if before_len == len {
            compare(sink, bytes, (before, at), len, len);
        } else {
            let shorter = len.min(before_len);
            let equal = equal(bytes, (before, at), shorter);
            if equal >= COPY_LEN_MIN || sink.match_distance() == before_len {
                compare(sink, bytes, (before, at), equal, before_len);
            } else {
                sink.literal(&bytes[at..at + equal]);
            }
            // What is left, from the end: as much as both have.
            let aligned = shorter - equal;
            let own = len - equal - aligned;
            sink.literal(&bytes[at + equal..at + equal + own]);
            let places = (before + before_len - aligned, at + len - aligned);
            compare(sink, bytes, places, aligned, len);
        }
        (before, before_len) = (at, len);
        at += len;
    }
}

/// The length of the series that begins here; of all that is left, if none does.
#[inline]
fn length(bytes: &[u8]) -> usize {
    if bytes[0] != TAG_SERIES {
        return bytes.len();
    }
    let mut len = 0;
    for (at, byte) in bytes[1..].iter().take(HEAD_LEN_MAX).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return (2 + at + len).min(bytes.len());
        }
    }
    bytes.len()
}

/// How many of at most `len` bytes at both places are equal.
fn equal(bytes: &[u8], (old, new): (usize, usize), len: usize) -> usize {
    let mut at = 0;
    while at < len {
        let equal = differences(bytes, old + at, new + at).trailing_zeros() as usize;
        at += equal;
        if equal < WINDOW {
            break;
        }
    }
    at.min(len)
}

/// Writes `len` bytes that are compared with as many others, `distance` earlier.
#[inline]
fn compare<S: Sink>(
    sink: &mut S,
    bytes: &[u8],
    (old, new): (usize, usize),
    len: usize,
    distance: usize,
) {
    let mut at = 0;
    while at < len {
        let window = (len - at).min(WINDOW);
        let mut different = differences(bytes, old + at, new + at);
        if window < WINDOW {
            different |= u64::MAX << window;
        }
        // Where four equal bytes begin.
        let equal = !different;
        let copies = equal & equal >> 1 & equal >> 2 & equal >> 3;
        let mut done = 0;
        while done < window {
            let equal = (different >> done).trailing_zeros() as usize;
            let equal = equal.min(window - done);
            if equal >= COPY_LEN_MIN || equal > 0 && sink.match_distance() == distance {
                sink.copy(equal, distance);
                done += equal;
                if done == window {
                    break;
                }
            }
            let own = (copies >> done).trailing_zeros() as usize;
            let own = own.min(window - done);
            let start = new + at + done;
            match bytes[start..].first_chunk::<8>() {
                Some(word) if own <= 8 => sink.literal_word(u64::from_le_bytes(*word), own),
                _ => sink.literal(&bytes[start..start + own]),
            }
            done += own;
        }
        at += window;
    }
}

/// One bit for each of the next `WINDOW` bytes: whether they differ. What is beyond `bytes` does.
#[inline]
fn differences(bytes: &[u8], old: usize, new: usize) -> u64 {
    let window = |at: usize| {
        bytes
            .get(at..)
            .and_then(|bytes| bytes.first_chunk::<WINDOW>())
    };
    let (Some(old), Some(new)) = (window(old), window(new)) else {
        return u64::MAX;
    };
    let mut mask = 0;
    let words = old.as_chunks::<8>().0.iter().zip(new.as_chunks::<8>().0);
    for (index, (old, new)) in words.enumerate() {
        let different = u64::from_le_bytes(*old) ^ u64::from_le_bytes(*new);
        // The high bit of each byte that is not zero; then these bits side by side.
        let high = (((different & LOW_BITS) + LOW_BITS) | different) & !LOW_BITS;
        let bits = (high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= bits << (8 * index);
    }
    mask
}

/// All bits of all bytes but the highest.
const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_write::snappy::SnappyStream;
    use crate::remote_write::wire::put_bytes;
    use proptest::prelude::*;

    fn written(bytes: &[u8]) -> Vec<u8> {
        let mut series = Buffer::default();
        series.put(bytes);
        let mut sink = SnappyStream::default();
        write(&mut sink, &mut series);
        sink.finish().to_vec()
    }

    proptest! {
        #[test]
        fn decoders_see_what_was_written(
            series in prop::collection::vec(
                (prop::collection::vec(0_u8..3, 0..20), prop::collection::vec(0_u8..2, 0..160)),
                0..40,
            ),
            end in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut bytes = Vec::new();
            for (first, second) in series {
                put_bytes(&mut bytes, TAG_SERIES, &[first, second].concat());
            }
            bytes.extend(end);
            let body = written(&bytes);
            let decoded = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
            prop_assert_eq!(decoded, bytes);
        }
    }

    #[test]
    fn only_what_differs_is_written() {
        let mut bytes = Vec::new();
        for number in 0..100_u8 {
            let mut body = [7; 60];
            body[20] = number;
            body[40..44].fill(number);
            put_bytes(&mut bytes, TAG_SERIES, &body);
        }
        let body = written(&bytes);
        // Two literals of 2 and 5 bytes with their tags, two copies.
        assert!(body.len() < 100 * (2 + 5 + 3 + 3) + 70, "{}", body.len());
    }
}
