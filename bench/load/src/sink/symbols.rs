//! The symbols of a remote write 2.0 request -> where each lies and its hash, in reused memory.
//!
//! A symbol is hashed once per request, however many labels refer to it.

use xxhash_rust::xxh3::xxh3_64;

use super::protobuf::{DecodeError, Field, Reader, Result};

/// Field of a request that holds one symbol. Source: `prompb/io/prometheus/write/v2/types.proto`.
const SYMBOL: u64 = 4;

/// Memory for the symbols of one request after the other.
#[derive(Default)]
pub struct SymbolTable {
    list: Vec<Symbol>,
}

#[derive(Clone, Copy)]
struct Symbol {
    hash: u64,
    start: u32,
    len: u32,
}

/// The symbols of one request.
#[derive(Clone, Copy)]
pub(super) struct Symbols<'a> {
    bytes: &'a [u8],
    list: &'a [Symbol],
}

impl SymbolTable {
    /// Replaces the content with the symbols of a request, at most 4 GiB long.
    pub(super) fn fill<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Symbols<'a>> {
        self.list.clear();
        let mut reader = Reader(bytes);
        while let Some((number, field)) = reader.field()? {
            match (number, field) {
                (SYMBOL, Field::Bytes(text)) => {
                    let end = bytes.len() - reader.0.len();
                    self.list.push(Symbol {
                        hash: xxh3_64(text),
                        start: u32::try_from(end - text.len()).map_err(|_| DecodeError::Symbol)?,
                        len: u32::try_from(text.len()).map_err(|_| DecodeError::Symbol)?,
                    });
                }
                (SYMBOL, _) => return Err(DecodeError::WireType),
                _ => {}
            }
        }
        Ok(Symbols {
            bytes,
            list: &self.list,
        })
    }
}

impl<'a> Symbols<'a> {
    fn get(self, number: u64) -> Result<Symbol> {
        let index = usize::try_from(number).map_err(|_| DecodeError::Symbol)?;
        self.list.get(index).copied().ok_or(DecodeError::Symbol)
    }

    pub(super) fn hash(self, number: u64) -> Result<u64> {
        self.get(number).map(|symbol| symbol.hash)
    }

    pub(super) fn text(self, number: u64) -> Result<&'a [u8]> {
        let symbol = self.get(number)?;
        let start = symbol.start as usize;
        Ok(&self.bytes[start..start + symbol.len as usize])
    }
}
