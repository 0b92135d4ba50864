//! Bytes of a protobuf message <-> its numbers, lengths and fields, borrowed, never copied.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>. Hostile input yields an error,
//! never a panic and never more work than its length.

use std::ops::Range;

/// Bytes that do not follow the wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf")]
pub struct Malformed;

/// Bytes that `value` takes as a varint.
#[inline]
pub(crate) fn varint_len(value: u64) -> usize {
    // 7 bits a byte; `| 1` gives zero one byte.
    ((70 - (value | 1).leading_zeros()) / 7) as usize
}

/// Appends `value` as a varint.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    let mut bytes = [0_u8; 10];
    let mut len = 0;
    while value >= 0x80 {
        bytes[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value as u8;
    out.extend_from_slice(&bytes[..=len]);
}

/// Appends a length-delimited field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes of a length-delimited field with a one-byte tag.
pub(crate) fn field_len(content: usize) -> usize {
    1 + varint_len(content as u64) + content
}

/// A signed number as `sint32` and `sint64` spell it.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The number that [`zigzag`] spelled.
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads a varint at `at`, which moves past it.
pub(crate) fn get_varint(bytes: &[u8], at: &mut usize) -> Result<u64, Malformed> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at).ok_or(Malformed)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift).ok_or(Malformed)?;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// Reads a length at `at` and returns the range of the content; `at` moves past it.
pub(crate) fn get_content(bytes: &[u8], at: &mut usize) -> Result<Range<usize>, Malformed> {
    let len = usize::try_from(get_varint(bytes, at)?).map_err(|_| Malformed)?;
    let end = at.checked_add(len).filter(|end| *end <= bytes.len());
    let range = *at..end.ok_or(Malformed)?;
    *at = range.end;
    Ok(range)
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Value<'a> {
    /// # Errors
    /// The field has another wire type; so for the others.
    pub(crate) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Value::Varint(value) => Ok(value),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn double(self) -> Result<f64, Malformed> {
        match self {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }
}

/// The fields of a message: number and value, in the order of the bytes. Ends after an error.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let key = get_varint(self.bytes, &mut self.at)?;
        if key >> 3 == 0 {
            return Err(Malformed);
        }
        let value = match key & 7 {
            0 => Value::Varint(get_varint(self.bytes, &mut self.at)?),
            1 => {
                let bits = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk);
                self.at += 8;
                Value::Fixed64(u64::from_le_bytes(*bits.ok_or(Malformed)?))
            }
            2 => Value::Bytes(&self.bytes[get_content(self.bytes, &mut self.at)?]),
            5 if self.bytes.len() - self.at >= 4 => {
                self.at += 4;
                Value::Fixed32
            }
            _ => return Err(Malformed),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.bytes.len();
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_len_is_the_length_of_put_varint() {
        let edges = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit]);
        for value in edges.chain([u64::MAX]) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            let mut at = 0;
            assert_eq!(get_varint(&out, &mut at), Ok(value));
            assert_eq!(at, out.len());
            let signed = value as i64;
            assert_eq!(unzigzag(zigzag(signed)), signed);
        }
        assert_eq!(get_varint(&[0xff; 11], &mut 0), Err(Malformed));
    }

    #[test]
    fn fields_of_each_type_and_each_cut() {
        let bytes = [
            0x08, 0xac, 0x02, 0x11, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x1a, 1, 9, 0x25, 1, 2, 3, 4,
        ];
        let wanted = [
            (1, Value::Varint(300)),
            (2, Value::Fixed64(1.5_f64.to_bits())),
            (3, Value::Bytes(&[9])),
            (4, Value::Fixed32),
        ];
        let all: Result<Vec<_>, _> = Fields::new(&bytes).collect();
        assert_eq!(all.unwrap(), wanted);
        for cut in 0..bytes.len() {
            let whole = Fields::new(&bytes[..cut]).take_while(Result::is_ok).count();
            let ends = [0, 3, 12, 15];
            let refused = Fields::new(&bytes[..cut]).any(|field| field.is_err());
            assert_eq!(refused, !ends.contains(&cut), "{cut}");
            assert_eq!(whole, ends.iter().filter(|end| **end <= cut).count() - 1);
        }
        for wrong in [&[0x0b][..], &[0x0c], &[0x00, 0], &[0x0e, 0]] {
            assert!(Fields::new(wrong).any(|field| field.is_err()));
        }
    }
}
