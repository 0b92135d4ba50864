//! Pages of 32 KiB, one after the other -> records, uncompressed, and damaged places.
//!
//! A page holds fragments: type, length (2 bytes) and CRC-32C (4 bytes) of what follows, the
//! highest byte first. Type 0 ends the page; 1 is a whole record, 2, 3 and 4 are its first, further
//! and last parts. Bit 3 of the type says that the record is compressed by snappy (block format),
//! bit 4 by zstd. A record may go on in the next page, not in the next file.

use std::io::Read;

/// Size of a page; the last one of a file may be shorter.
pub const PAGE_BYTES: usize = 32 << 10;
/// Largest record when uncompressed.
const RECORD_BYTES_MAX: usize = 128 << 20;
const HEADER_BYTES: usize = 7;
const TYPE_MASK: u8 = 7;
const FLAG_SNAPPY: u8 = 8;
const FLAG_ZSTD: u8 = 16;

/// What a page gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record, uncompressed.
    Record(&'a [u8]),
    /// Bytes of the file that are of no use.
    Damage(PageDamage),
}

/// A damaged place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageDamage {
    /// First byte, from the start of the file.
    pub from: u64,
    /// Byte after the last one.
    pub to: u64,
    /// What is wrong there.
    pub fault: PageFault,
}

/// What is wrong with a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageFault {
    /// A fragment's header: an unknown type, or a length that leads out of the page.
    Header,
    /// A fragment's checksum.
    Checksum,
    /// A record without its beginning or its end.
    Incomplete,
    /// A record that cannot be uncompressed, or is larger than 128 MiB.
    Compression,
}

impl PageFault {
    /// In a few words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Checksum => "checksum",
            Self::Incomplete => "incomplete record",
            Self::Compression => "compression",
        }
    }
}

/// Reads the pages of one file in order.
#[derive(Debug, Default)]
pub struct Pages {
    /// Parts of a record that is not complete.
    parts: Vec<u8>,
    /// Where that record began.
    begun: Option<u64>,
    /// The rest of a damaged record is passed over.
    skipping: bool,
    plain: Vec<u8>,
}

impl Pages {
    /// Reads the page that begins at `offset` of the file.
    pub fn page(&mut self, page: &[u8], offset: u64, each: &mut dyn FnMut(Item<'_>)) {
        let mut at = 0;
        let mut was_bad = false;
        let place = |from: usize, to: usize, fault| {
            Item::Damage(PageDamage {
                from: offset + from as u64,
                to: offset + to as u64,
                fault,
            })
        };
        while at < page.len() {
            let rest = &page[at..];
            if rest[0] & TYPE_MASK == 0 {
                // A record goes on at the very beginning of the next page.
                if let Some(from) = self.begun {
                    self.lose();
                    each(incomplete(from, offset + at as u64));
                }
                if rest.iter().any(|byte| *byte != 0) {
                    self.lose();
                    each(place(at, page.len(), PageFault::Header));
                }
                return;
            }
            let fragment = parse(rest);
            let Some((kind, data, checksum)) = fragment else {
                self.lose();
                each(place(at, page.len(), PageFault::Header));
                return;
            };
            let end = at + HEADER_BYTES + data.len();
            if crc32c::crc32c(data) != checksum {
                self.lose();
                // The length may be wrong as well. One fragment that follows it soundly shows that
                // it is not; a second bad one, that nothing of this page can be told apart.
                let to = if was_bad { page.len() } else { end };
                each(place(at, to, PageFault::Checksum));
                if was_bad {
                    return;
                }
                was_bad = true;
                at = end;
                continue;
            }
            was_bad = false;
            self.fragment(kind, data, offset + at as u64, offset + end as u64, each);
            at = end;
        }
    }

    /// The file has ended: what is not complete never will be.
    pub fn end(&mut self, offset: u64, each: &mut dyn FnMut(Item<'_>)) {
        if let Some(from) = self.begun.take() {
            each(incomplete(from, offset));
        }
        self.parts.clear();
        self.skipping = false;
    }

    fn lose(&mut self) {
        self.parts.clear();
        self.begun = None;
        self.skipping = true;
    }

    fn fragment(
        &mut self,
        kind: u8,
        data: &[u8],
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Item<'_>),
    ) {
        let is_first = matches!(kind & TYPE_MASK, 1 | 2);
        if is_first {
            self.skipping = false;
            if let Some(begun) = self.begun.replace(from) {
                each(incomplete(begun, from));
            }
            self.parts.clear();
        } else if self.begun.is_none() {
            if !self.skipping {
                each(incomplete(from, to));
            }
            self.skipping = true;
            return;
        }
        if matches!(kind & TYPE_MASK, 2 | 3) {
            self.parts.extend_from_slice(data);
            return;
        }
        let begun = self.begun.take().unwrap_or(from);
        let whole = match self.parts.is_empty() {
            true => data,
            false => {
                self.parts.extend_from_slice(data);
                &self.parts
            }
        };
        match uncompressed(kind, whole, &mut self.plain) {
            Some(record) => each(Item::Record(record)),
            None => each(Item::Damage(PageDamage {
                from: begun,
                to,
                fault: PageFault::Compression,
            })),
        }
        self.parts.clear();
    }
}

fn incomplete<'a>(from: u64, to: u64) -> Item<'a> {
    Item::Damage(PageDamage {
        from,
        to,
        fault: PageFault::Incomplete,
    })
}

/// Type, data and checksum of the fragment that `bytes` begin with.
fn parse(bytes: &[u8]) -> Option<(u8, &[u8], u32)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let len = usize::from(u16::from_be_bytes([header[1], header[2]]));
    let checksum = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
    let is_known = header[0] & TYPE_MASK <= 4
        && header[0] & !(TYPE_MASK | FLAG_SNAPPY | FLAG_ZSTD) == 0
        && header[0] & (FLAG_SNAPPY | FLAG_ZSTD) != (FLAG_SNAPPY | FLAG_ZSTD);
    is_known.then_some((header[0], rest.get(..len)?, checksum))
}

fn uncompressed<'a>(kind: u8, bytes: &'a [u8], plain: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    plain.clear();
    if kind & FLAG_SNAPPY != 0 {
        let len = snap::raw::decompress_len(bytes).ok()?;
        // Three bytes give at most 64: no memory for what a length claims.
        if len > RECORD_BYTES_MAX || len / 32 > bytes.len() {
            return None;
        }
        plain.resize(len, 0);
        snap::raw::Decoder::new().decompress(bytes, plain).ok()?;
    } else if kind & FLAG_ZSTD != 0 {
        let decoder = zstd::stream::read::Decoder::with_buffer(bytes).ok()?;
        let mut limited = decoder.take(RECORD_BYTES_MAX as u64 + 1);
        limited.read_to_end(plain).ok()?;
        if plain.len() > RECORD_BYTES_MAX {
            return None;
        }
    } else {
        return Some(bytes);
    }
    Some(plain)
}
