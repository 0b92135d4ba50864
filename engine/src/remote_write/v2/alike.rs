//! Series, one after the other -> repetitions of the one before, and what differs.
//!
//! What follows each other in a 2.0 request mostly has the same form and length: some references, a
//! value and perhaps the metadata differ. So a series is compared with the one before instead of
//! searching for what it repeats. Where the lengths differ, their beginnings and their ends are
//! compared. Or it is compared with the same series of a target before (a row), which differs in
//! the target's own labels and the value: that is less where values are mostly equal. Which of the
//! two is tried on some series now and then. Nothing depends on the bytes being series: others are
//! only less alike.

use super::TAG_SERIES;
use crate::remote_write::diff::COPY_LEN_MIN;
use crate::remote_write::sink::{Buffer, Sink};

/// Bytes compared at once.
const WINDOW: usize = 64;
/// How far from a series' beginning its length may end.
const HEAD_LEN_MAX: usize = 4;

/// Series that are compared to find which ones to go by.
const TRIED: usize = 16;
/// Series for which that holds.
const TRIED_FOR: u32 = 256;
/// What a series costs, about, whose length is not that of the one before.
const UNLIKE_COST: u32 = 24;

/// Bytes that belong to one scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Where they begin.
    pub(super) start: usize,
    /// How much earlier those of a scrape like it begin; 0: there is none.
    pub(super) distance: usize,
}

/// Writes what `series` holds to `sink`; `rows` are its scrapes in order.
pub(super) fn write<S: Sink>(sink: &mut S, series: &mut Buffer, rows: &[Row]) {
    let end = series.len();
    // A window may reach beyond the end.
    let bytes = series.with_room();
    let (mut before, mut before_len) = (0, 0);
    let mut rows = rows.iter().peekable();
    // To the row that is to be compared; for how many more series.
    let (mut distance, mut chosen, mut left) = (0, 0, 0);
    let mut at = 0;
    while at < end {
        while let Some(row) = rows.next_if(|row| row.start <= at) {
            (distance, chosen, left) = (row.distance, 0, 0);
        }
        if distance > 0 && before_len > 0 {
            if left == 0 {
                chosen = if row_costs_less(&bytes[..end], before, at, distance) {
                    distance
                } else {
                    0
                };
                left = TRIED_FOR;
            }
            left -= 1;
        }
        let len = length(&bytes[at..end]);
        if chosen > 0 && length(&bytes[at - chosen..end]) == len {
            compare(sink, bytes, (at - chosen, at), len, chosen);
        } else {
            like_before(sink, bytes, (before, before_len), (at, len));
        }
        (before, before_len) = (at, len);
        at += len;
    }
}

/// Writes a series that is compared with the one before: where they begin and their lengths.
#[inline]
fn like_before<S: Sink>(
    sink: &mut S,
    bytes: &[u8],
    (before, before_len): (usize, usize),
    (at, len): (usize, usize),
) {
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
}

/// Whether the next series take less to write as those of the row `distance` earlier than as those
/// before them.
fn row_costs_less(bytes: &[u8], mut before: usize, mut at: usize, distance: usize) -> bool {
    let far = if distance < 1 << 16 { 3 } else { 5 };
    let (mut near_cost, mut row_cost) = (0, 0);
    for _ in 0..TRIED {
        if at == bytes.len() {
            break;
        }
        let len = length(&bytes[at..]);
        near_cost += cost(bytes, (before, at), len, 3);
        row_cost += cost(bytes, (at - distance, at), len, far);
        (before, at) = (at, at + len);
    }
    row_cost < near_cost
}

/// What `len` bytes take, about, if as many others are repeated with copies of this cost.
fn cost(bytes: &[u8], (old, new): (usize, usize), len: usize, copy: u32) -> u32 {
    if length(&bytes[old..]) != len {
        return UNLIKE_COST;
    }
    let mut sum = 0;
    for at in (0..len).step_by(WINDOW) {
        let mut different = differences(bytes, old + at, new + at);
        if len - at < WINDOW {
            different &= !(u64::MAX << (len - at));
        }
        let runs = (different & !(different << 1)).count_ones();
        sum += different.count_ones() + runs * (1 + copy);
    }
    sum
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

    fn written(bytes: &[u8], rows: &[Row]) -> Vec<u8> {
        let mut series = Buffer::default();
        series.put(bytes);
        let mut sink = SnappyStream::default();
        write(&mut sink, &mut series, rows);
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
            places in prop::collection::vec((any::<usize>(), any::<usize>()), 0..6),
        ) {
            let mut bytes = Vec::new();
            for (first, second) in series {
                put_bytes(&mut bytes, TAG_SERIES, &[first, second].concat());
            }
            bytes.extend(end);
            let place = |(start, distance): (usize, usize)| {
                let start = start % (bytes.len() + 1);
                Row { start, distance: distance % (start + 1) }
            };
            let mut rows: Vec<Row> = places.into_iter().map(place).collect();
            rows.sort_by_key(|row| row.start);
            let body = written(&bytes, &rows);
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
        let body = written(&bytes, &[]);
        // Two literals of 2 and 5 bytes with their tags, two copies.
        assert!(body.len() < 100 * (2 + 5 + 3 + 3) + 70, "{}", body.len());
    }
    /// Series that differ in all their labels, of targets that differ in one number.
    #[test]
    fn rows_are_repeated_where_they_cost_less() {
        let mut bytes = Vec::new();
        let mut rows = Vec::new();
        for target in 0..10_u8 {
            rows.push(Row {
                start: bytes.len(),
                distance: bytes.len().min(100 * 62),
            });
            for number in 0..100_u8 {
                let mut body = [number; 60];
                body[20] = target;
                put_bytes(&mut bytes, TAG_SERIES, &body);
            }
        }
        let body = written(&bytes, &rows);
        // All of the first; of each other series a literal of one byte and a copy.
        assert!(body.len() < 100 * 64 + 900 * 5, "{}", body.len());
        assert!(written(&bytes, &[]).len() > 1_000 * 50);
    }
}
