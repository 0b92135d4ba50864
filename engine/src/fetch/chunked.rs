//! A chunked body, in any pieces -> the ranges of its data.
//!
//! Source: RFC 9112 section 7.1. Extensions and trailers are skipped, bounded in length.

use super::response::ResponseError;
use std::ops::Range;

/// Longest chunk size line accepted after its digits, in bytes.
const EXTENSION_BYTES_MAX: u32 = 4 * 1024;
/// Longest trailer section accepted, in bytes.
const TRAILER_BYTES_MAX: u32 = 64 * 1024;
/// Most hexadecimal digits of a chunk size: those of a u64.
const SIZE_DIGITS_MAX: u8 = 16;

/// Where in the chunked coding the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunked {
    /// In the digits of a chunk size.
    Size { size: u64, digits: u8 },
    /// After the digits, before the line's end.
    Extension { size: u64, bytes: u32 },
    /// In chunk data.
    Data { remaining: u64 },
    /// At the CR after chunk data.
    DataCr,
    /// At the LF after chunk data.
    DataLf,
    /// In the trailer section; `line`: bytes of the present line, CR aside.
    Trailer { line: u32, bytes: u32 },
    /// The body has ended.
    Done,
}

impl Chunked {
    /// Before the first chunk.
    pub(super) const START: Chunked = Chunked::Size { size: 0, digits: 0 };

    /// Goes on from `input[*pos]`. A range of data, never empty, or `None`: all input is used or
    /// the body has ended (`*self == Done`).
    pub(super) fn step(
        &mut self,
        input: &[u8],
        pos: &mut usize,
    ) -> Result<Option<Range<usize>>, ResponseError> {
        while *pos < input.len() && *self != Chunked::Done {
            if let Chunked::Data { remaining } = *self {
                let available = input.len() - *pos;
                let used = usize::try_from(remaining).map_or(available, |r| r.min(available));
                let range = *pos..*pos + used;
                *pos += used;
                *self = match remaining - used as u64 {
                    0 => Chunked::DataCr,
                    remaining => Chunked::Data { remaining },
                };
                return Ok(Some(range));
            }
            *self = self.after(input[*pos])?;
            *pos += 1;
        }
        Ok(None)
    }

    /// The state after one byte that is not data.
    fn after(self, byte: u8) -> Result<Chunked, ResponseError> {
        let fault = |reason| Err(ResponseError::Chunk(reason));
        match self {
            Chunked::Size { size, digits } => match (byte, hex(byte)) {
                (_, Some(_)) if digits == SIZE_DIGITS_MAX => fault("chunk size too large"),
                (_, Some(digit)) => Ok(Chunked::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }),
                _ if digits == 0 => fault("chunk size missing"),
                (b'\n', _) => Ok(sized(size)),
                (b';' | b' ' | b'\t' | b'\r', _) => Ok(Chunked::Extension { size, bytes: 0 }),
                _ => fault("invalid character in a chunk size"),
            },
            Chunked::Extension { size, .. } if byte == b'\n' => Ok(sized(size)),
            Chunked::Extension { bytes, .. } if bytes == EXTENSION_BYTES_MAX => {
                fault("chunk extension longer than 4096 bytes")
            }
            Chunked::Extension { size, bytes } => Ok(Chunked::Extension {
                size,
                bytes: bytes + 1,
            }),
            Chunked::DataCr if byte == b'\r' => Ok(Chunked::DataLf),
            Chunked::DataLf if byte == b'\n' => Ok(Chunked::START),
            Chunked::DataCr | Chunked::DataLf => fault("chunk data longer than its size"),
            Chunked::Trailer { bytes, .. } if bytes == TRAILER_BYTES_MAX => {
                fault("trailers longer than 65536 bytes")
            }
            Chunked::Trailer { line, bytes } => Ok(match byte {
                b'\n' if line == 0 => Chunked::Done,
                b'\n' => Chunked::Trailer {
                    line: 0,
                    bytes: bytes + 1,
                },
                b'\r' => Chunked::Trailer {
                    line,
                    bytes: bytes + 1,
                },
                _ => Chunked::Trailer {
                    line: line + 1,
                    bytes: bytes + 1,
                },
            }),
            Chunked::Data { .. } | Chunked::Done => Ok(self),
        }
    }
}

/// The state after a chunk size line.
fn sized(size: u64) -> Chunked {
    match size {
        0 => Chunked::Trailer { line: 0, bytes: 0 },
        remaining => Chunked::Data { remaining },
    }
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
