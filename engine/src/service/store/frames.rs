//! Payloads <-> the bytes of a file that shows how far it is whole.
//!
//! The file begins with [`MAGIC`], whose last byte is the version. Then frames: [`MARK`], length of
//! the payload and CRC-32 of it with its length (both little endian u32), payload.

/// The first bytes of each file.
pub(super) const MAGIC: [u8; 8] = *b"rs-conf\x01";
/// The first bytes of each frame.
const MARK: [u8; 4] = [0xc5, 0x1f, 0x9a, 0xe3];
const HEADER_BYTES: usize = 12;
/// Of one payload.
pub(super) const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frames<'a> {
    /// All that can be read, in order.
    pub(super) payloads: Vec<&'a [u8]>,
    /// How many bytes from the beginning on are whole.
    pub(super) whole_bytes: usize,
    /// How it ends.
    pub(super) end: End,
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With a whole frame.
    Whole,
    /// With a part of a frame: the write of it was interrupted, so it was never confirmed.
    Torn,
    /// Something in the middle is not what was written: there are whole frames behind it.
    Damaged,
}

/// Adds a frame.
pub(super) fn push(bytes: &mut Vec<u8>, payload: &[u8]) {
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX, "BUG: a huge payload");
    let len = (payload.len() as u32).to_le_bytes();
    bytes.extend_from_slice(&MARK);
    bytes.extend_from_slice(&len);
    bytes.extend_from_slice(&checksum(&len, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
}

/// Reads a file.
///
/// # Errors
/// It is another program's, or of another version.
pub(super) fn read(bytes: &[u8]) -> Result<Frames<'_>, String> {
    let mut payloads = Vec::new();
    if bytes.len() < MAGIC.len() && MAGIC.starts_with(bytes) {
        let end = if bytes.is_empty() {
            End::Whole
        } else {
            End::Torn
        };
        return Ok(Frames {
            payloads,
            whole_bytes: 0,
            end,
        });
    }
    let (name, version) = MAGIC.split_at(MAGIC.len() - 1);
    if !bytes.starts_with(name) {
        return Err("it is not a file of configurations".to_owned());
    }
    if bytes[name.len()] != version[0] {
        let found = bytes[name.len()];
        return Err(format!(
            "it has version {found} of the format, this release reads {}",
            version[0]
        ));
    }
    let mut at = MAGIC.len();
    while let Some(payload) = frame_at(bytes, at) {
        at += HEADER_BYTES + payload.len();
        payloads.push(payload);
    }
    let whole_bytes = at;
    let mut end = match at == bytes.len() {
        true => End::Whole,
        false => End::Torn,
    };
    while let Some(next) = find_mark(bytes, at) {
        match frame_at(bytes, next) {
            Some(payload) => {
                end = End::Damaged;
                at = next + HEADER_BYTES + payload.len();
                payloads.push(payload);
            }
            None => at = next + 1,
        }
    }
    Ok(Frames {
        payloads,
        whole_bytes,
        end,
    })
}

fn find_mark(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    memchr::memmem::find(rest, &MARK).map(|at| from + at)
}

fn frame_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let (header, rest) = rest.split_at_checked(HEADER_BYTES)?;
    let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    if !header.starts_with(&MARK) {
        return None;
    }
    let payload = rest.get(..number(4) as usize)?;
    let len = number(4).to_le_bytes();
    (checksum(&len, payload) == number(8)).then_some(payload)
}

fn checksum(len: &[u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(len);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for payload in payloads {
            push(&mut bytes, payload);
        }
        bytes
    }

    #[test]
    fn cut_anywhere_it_holds_the_frames_before() {
        let payloads = [b"one".to_vec(), Vec::new(), b"three".repeat(20)];
        let bytes = file(&payloads);
        for cut in 0..=bytes.len() {
            let read = read(&bytes[..cut]).unwrap();
            let whole = (0..=payloads.len())
                .rev()
                .find(|n| file(&payloads[..*n]).len() <= cut);
            let count = whole.unwrap_or(0);
            assert_eq!(read.payloads, &payloads[..count], "cut at {cut}");
            let at_frame = cut == 0 || cut == file(&payloads[..count]).len();
            let end = if at_frame { End::Whole } else { End::Torn };
            assert_eq!(read.end, end, "cut at {cut}");
        }
    }

    #[test]
    fn others_files_are_refused() {
        assert!(read(b"#!/bin/sh").unwrap_err().contains("not a file"));
        let error = read(b"rs-conf\x07....").unwrap_err();
        assert!(error.contains("version 7"), "{error}");
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_seen(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            at in any::<prop::sample::Index>(),
            change in 1..=255_u8,
        ) {
            let mut bytes = file(&payloads);
            let at = at.index(bytes.len() - MAGIC.len()) + MAGIC.len();
            bytes[at] ^= change;
            let read = read(&bytes).unwrap();
            prop_assert_eq!(read.payloads.len(), payloads.len() - 1);
            let is_last = read.payloads == payloads[..payloads.len() - 1];
            prop_assert!(is_last || read.end == End::Damaged);
            prop_assert!(read.end != End::Whole && read.whole_bytes <= at);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend(bytes);
            let _ = read(&with_magic);
        }
    }
}
