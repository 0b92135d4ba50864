//! Bytes of a protobuf message -> its fields, borrowed, never copied.
//!
//! Source: the protobuf encoding guide. Hostile input yields an error, never a panic and never more
//! work than its length.

/// What is wrong with a request's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A length or a number goes beyond the end of what holds it.
    #[error("the message ends in the middle of a field")]
    Truncated,
    /// A variable-length number has more than 64 bits.
    #[error("a number has more than 10 bytes")]
    Overlong,
    /// Wire type 3, 4, 6 or 7, a field number of 0, or a known field with another wire type.
    #[error("a field has a wire type that it cannot have")]
    WireType,
    /// A label follows a sample: legal, but no sender does it and the key would not be one slice.
    #[error("a label comes after a sample")]
    LateLabel,
    /// A label refers to a symbol that is not there, or a name has no value.
    #[error("a label refers to no symbol")]
    Symbol,
}

pub(crate) type Result<T> = std::result::Result<T, DecodeError>;

/// One field: its number and its content.
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// Reads fields off the front of a slice.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn varint(&mut self) -> Result<u64> {
        // Most numbers are one byte long.
        if let [byte @ 0..=0x7f, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0u64;
        for (place, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                if place == 9 && *byte > 1 {
                    return Err(DecodeError::Overlong);
                }
                self.0 = &self.0[place + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < 10 {
            DecodeError::Truncated
        } else {
            DecodeError::Overlong
        })
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn fixed64(&mut self) -> Result<u64> {
        let (bytes, rest) = self
            .0
            .split_first_chunk::<8>()
            .ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// The next field, or `None` at the end.
    pub(crate) fn field(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        if key >> 3 == 0 {
            return Err(DecodeError::WireType);
        }
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(self.fixed64()?),
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.bytes(length)?)
            }
            5 => {
                self.bytes(4)?;
                Field::Fixed32
            }
            _ => return Err(DecodeError::WireType),
        };
        Ok(Some((key >> 3, field)))
    }
}
