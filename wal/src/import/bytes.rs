//! Bytes of a record -> numbers and texts, one after the other.

/// What is left of a record. Every method gives `None` if it is too short or breaks a rule.
#[derive(Debug, Clone)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Eight bytes, the highest first.
    pub(super) fn fixed(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*first))
    }

    /// Seven bits a byte, the lowest first.
    pub(super) fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The same with the sign in the lowest bit.
    pub(super) fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A length and that many bytes of UTF-8.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.unsigned()?).ok()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    /// A number of labels, and their names and values.
    pub(super) fn labels(&mut self) -> Option<Vec<(&'a str, &'a str)>> {
        let count = self.unsigned()?;
        // No memory for what the number claims.
        let mut labels = Vec::new();
        for _ in 0..count {
            labels.push((self.text()?, self.text()?));
        }
        Some(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_bounds() {
        let unsigned = |bytes: &[u8]| Bytes(bytes).unsigned();
        assert_eq!(unsigned(&[0x7f]), Some(127));
        assert_eq!(unsigned(&[0x80, 1]), Some(128));
        let mut largest = [0xff; 10];
        largest[9] = 1;
        assert_eq!(unsigned(&largest), Some(u64::MAX));
        largest[9] = 2;
        assert_eq!(unsigned(&largest), None);
        assert_eq!(unsigned(&[0x80; 11]), None);
        assert_eq!(unsigned(&[0x80]), None);
        for (bytes, value) in [([0, 0], 0), ([1, 0], -1), ([2, 0], 1), ([0x80, 1], 64)] {
            assert_eq!(Bytes(&bytes).signed(), Some(value));
        }
    }

    #[test]
    fn texts_end_where_they_say() {
        let mut bytes = Bytes(b"\x02ab\x00\x05abc");
        assert_eq!(bytes.text(), Some("ab"));
        assert_eq!(bytes.text(), Some(""));
        assert_eq!(bytes.text(), None);
        assert_eq!(Bytes(b"\x01\xff").text(), None);
        assert_eq!(Bytes(b"\x01\x01a\x01b").labels(), Some(vec![("a", "b")]));
        assert_eq!(Bytes(b"\xff\xff\xff\xff\x0f\x01a").labels(), None);
    }
}
