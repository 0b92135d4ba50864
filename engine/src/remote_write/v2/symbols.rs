//! Texts -> the numbered symbols of a remote write 2.0 request.
//!
//! The table may outlive a request: the next one then has what it needs of it already, numbered as
//! before. What a request has used of it is counted.

use super::TAG_SYMBOL;
use crate::remote_write::wire::{put_bytes, varint_len};
use ahash::AHashMap;
use xxhash_rust::xxh3::xxh3_64;

/// One symbol.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    /// Where its text lies in `fields`.
    start: u32,
    end: u32,
    /// The request that used it last.
    request: u32,
}

/// Symbols by number; number 0 is the empty one.
#[derive(Debug)]
pub(super) struct Symbols {
    /// `symbols` fields in the order of their numbers.
    fields: Vec<u8>,
    symbols: Vec<Symbol>,
    /// Numbers by hash of the text.
    numbers: AHashMap<u64, u32>,
    /// Numbers of texts whose hash another one has.
    others: AHashMap<Box<str>, u32>,
    /// The present request.
    request: u32,
    /// Of `fields`, what the present request has used.
    used_len: usize,
}

impl Default for Symbols {
    fn default() -> Self {
        Self::new()
    }
}

impl Symbols {
    pub(super) fn new() -> Self {
        let mut new = Self {
            fields: Vec::new(),
            symbols: Vec::new(),
            numbers: AHashMap::new(),
            others: AHashMap::new(),
            request: 0,
            used_len: 0,
        };
        new.clear();
        new
    }

    /// Forgets all but the empty symbol.
    pub(super) fn clear(&mut self) {
        self.fields.clear();
        self.symbols.clear();
        self.numbers.clear();
        self.others.clear();
        self.request = 0;
        self.used_len = 0;
        self.number("");
    }

    /// Keeps the symbols for another request.
    pub(super) fn next_request(&mut self) {
        self.request += 1;
        self.used_len = 0;
        self.mark(0);
    }

    /// The present request.
    pub(super) fn request(&self) -> u32 {
        self.request
    }

    /// All symbols as fields of a request.
    pub(super) fn fields(&self) -> &[u8] {
        &self.fields
    }

    /// Of `fields`, what the present request needs.
    pub(super) fn used_len(&self) -> usize {
        self.used_len
    }

    /// The number of a text, which the present request uses.
    pub(super) fn number(&mut self, text: &str) -> u32 {
        self.hashed(xxh3_64(text.as_bytes()), text)
    }

    /// `number` for a text whose hash is known.
    pub(super) fn hashed(&mut self, hash: u64, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(&hash).copied() {
            let known = self.symbols[number as usize];
            if self.fields[known.start as usize..known.end as usize] == *text.as_bytes() {
                self.mark(number);
                return number;
            }
            if let Some(number) = self.others.get(text).copied() {
                self.mark(number);
                return number;
            }
            let number = self.add(text);
            self.others.insert(text.into(), number);
            return number;
        }
        let number = self.add(text);
        self.numbers.insert(hash, number);
        number
    }

    /// The present request uses this symbol.
    #[inline]
    pub(super) fn mark(&mut self, number: u32) {
        let symbol = &mut self.symbols[number as usize];
        if symbol.request != self.request {
            symbol.request = self.request;
            let len = (symbol.end - symbol.start) as usize;
            self.used_len += 1 + varint_len(len as u64) + len;
        }
    }

    fn add(&mut self, text: &str) -> u32 {
        let number = self.symbols.len() as u32;
        let before = self.fields.len();
        put_bytes(&mut self.fields, TAG_SYMBOL, text.as_bytes());
        let end = self.fields.len();
        self.used_len += end - before;
        self.symbols.push(Symbol {
            start: (end - text.len()) as u32,
            end: end as u32,
            request: self.request,
        });
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_one_number_also_if_their_hashes_are_equal() {
        let mut symbols = Symbols::new();
        assert_eq!(symbols.number(""), 0);
        assert_eq!(symbols.hashed(7, "a"), 1);
        assert_eq!(symbols.hashed(7, "b"), 2);
        assert_eq!(symbols.hashed(7, "a"), 1);
        assert_eq!(symbols.hashed(7, "b"), 2);
        assert_eq!(symbols.hashed(7, ""), 3, "a third one");
        assert_eq!(symbols.fields(), b"\x22\x00\x22\x01a\x22\x01b\x22\x00");
        symbols.clear();
        assert_eq!(symbols.fields(), b"\x22\x00");
    }

    #[test]
    fn what_a_request_uses_is_counted_once() {
        let mut symbols = Symbols::new();
        symbols.number("job");
        symbols.number("job");
        symbols.number("node");
        assert_eq!(symbols.used_len(), symbols.fields().len());
        symbols.next_request();
        assert_eq!(symbols.used_len(), 2);
        assert_eq!(symbols.number("job"), 1);
        assert_eq!(symbols.number("job"), 1);
        assert_eq!(symbols.used_len(), 2 + 5);
        assert_eq!(symbols.number("zone"), 3);
        assert_eq!(symbols.used_len(), 2 + 5 + 6);
    }
}
