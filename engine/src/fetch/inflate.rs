//! A gzip stream, in any pieces -> its content, into buffers of any size; nothing is held whole.
//!
//! The gzip layer is read here and only raw deflate is left to `flate2`, because its state can be
//! reset for raw deflate alone, and a fresh state per body costs more than the inflating.
//! Source: RFC 1952; several members and what follows them are treated as Go's compress/gzip does.

use flate2::{Decompress, FlushDecompress, Status};

/// A stream that is not gzip, or damaged. The content given so far must not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GzipError {
    /// The magic number, the method or the flags are wrong.
    #[error("gzip: invalid header")]
    Header,
    /// The header's own checksum does not match.
    #[error("gzip: invalid header checksum")]
    HeaderChecksum,
    /// The deflate data is damaged.
    #[error("gzip: invalid deflate data")]
    Deflate,
    /// CRC-32 of the content does not match.
    #[error("gzip: invalid checksum")]
    Checksum,
    /// The length of the content (mod 2^32) does not match.
    #[error("gzip: invalid length")]
    Length,
    /// The stream ends too early.
    #[error("gzip: unexpected EOF")]
    Truncated,
}

/// What one call used and gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input used.
    pub read: usize,
    /// Bytes of the output written.
    pub written: usize,
}

/// Which part of a member the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// One of the ten fixed bytes.
    Fixed(u8),
    /// Low and high byte of the extra field's length.
    ExtraLength(u8, u16),
    Extra(u16),
    Name,
    Comment,
    HeaderCrc(u8, u8),
    Data,
    /// One of the eight trailer bytes.
    Trailer(u8),
}

const FLAG_HEADER_CRC: u8 = 2;
const FLAG_EXTRA: u8 = 4;
const FLAG_NAME: u8 = 8;
const FLAG_COMMENT: u8 = 16;
const FLAGS_RESERVED: u8 = 0xe0;

/// Inflates one gzip stream; [`Gunzip::reset`] makes it ready for the next without allocating.
#[derive(Debug)]
pub struct Gunzip {
    stage: Stage,
    flags: u8,
    header_crc: crc32fast::Hasher,
    trailer: [u8; 8],
    raw: Decompress,
    crc: crc32fast::Hasher,
    member_bytes: u64,
    members: u64,
}

impl Default for Gunzip {
    fn default() -> Gunzip {
        Gunzip {
            stage: Stage::Fixed(0),
            flags: 0,
            header_crc: crc32fast::Hasher::new(),
            trailer: [0; 8],
            raw: Decompress::new(false),
            crc: crc32fast::Hasher::new(),
            member_bytes: 0,
            members: 0,
        }
    }
}

impl Gunzip {
    /// Ready for a new stream.
    pub fn reset(&mut self) {
        self.members = 0;
        self.begin_member();
    }

    /// Inflates until `input` is used up or `output` is full.
    ///
    /// # Errors
    /// The stream is not gzip or damaged; only [`Gunzip::reset`] helps.
    pub fn inflate(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, GzipError> {
        let mut read = 0;
        let mut written = 0;
        loop {
            if self.stage == Stage::Data {
                let (used, given) = self.data(&input[read..], &mut output[written..])?;
                read += used;
                written += given;
                if self.stage == Stage::Data {
                    return Ok(Progress { read, written });
                }
            }
            let Some(&byte) = input.get(read) else {
                return Ok(Progress { read, written });
            };
            self.byte(byte)?;
            read += 1;
        }
    }

    /// To be called when the stream's last byte has been given.
    ///
    /// # Errors
    /// `Truncated`: a member is not complete, or there is none.
    pub fn finish(&self) -> Result<(), GzipError> {
        if self.stage == Stage::Fixed(0) && self.members > 0 {
            Ok(())
        } else {
            Err(GzipError::Truncated)
        }
    }

    fn begin_member(&mut self) {
        self.stage = Stage::Fixed(0);
        self.flags = 0;
        self.header_crc.reset();
    }

    fn begin_data(&mut self) {
        self.stage = Stage::Data;
        self.raw.reset(false);
        self.crc.reset();
        self.member_bytes = 0;
    }

    /// Inflates deflate data; stays in `Stage::Data` until its end.
    fn data(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), GzipError> {
        let (mut read, mut written) = (0, 0);
        loop {
            let (in_before, out_before) = (self.raw.total_in(), self.raw.total_out());
            let status = self
                .raw
                .decompress(
                    &input[read..],
                    &mut output[written..],
                    FlushDecompress::None,
                )
                .map_err(|_| GzipError::Deflate)?;
            let used = (self.raw.total_in() - in_before) as usize;
            let given = (self.raw.total_out() - out_before) as usize;
            self.crc.update(&output[written..written + given]);
            self.member_bytes += given as u64;
            read += used;
            written += given;
            if status == Status::StreamEnd {
                self.stage = Stage::Trailer(0);
                return Ok((read, written));
            }
            if read == input.len() || written == output.len() {
                return Ok((read, written));
            }
            if used == 0 && given == 0 {
                return Err(GzipError::Deflate);
            }
        }
    }

    /// Takes one byte of a header or trailer.
    fn byte(&mut self, byte: u8) -> Result<(), GzipError> {
        if !matches!(self.stage, Stage::HeaderCrc(..) | Stage::Trailer(_)) {
            self.header_crc.update(&[byte]);
        }
        match self.stage {
            Stage::Fixed(at) => {
                match (at, byte) {
                    (0, 0x1f) | (1, 0x8b) | (2, 8) | (4..=9, _) => {}
                    (3, flags) if flags & FLAGS_RESERVED == 0 => self.flags = flags,
                    _ => return Err(GzipError::Header),
                }
                if at < 9 {
                    self.stage = Stage::Fixed(at + 1);
                } else {
                    self.after(0);
                }
            }
            Stage::ExtraLength(0, _) => self.stage = Stage::ExtraLength(1, u16::from(byte)),
            Stage::ExtraLength(_, low) => match low | u16::from(byte) << 8 {
                0 => self.after(FLAG_EXTRA),
                length => self.stage = Stage::Extra(length),
            },
            Stage::Extra(1) => self.after(FLAG_EXTRA),
            Stage::Extra(left) => self.stage = Stage::Extra(left - 1),
            Stage::Name if byte == 0 => self.after(FLAG_NAME),
            Stage::Comment if byte == 0 => self.after(FLAG_COMMENT),
            Stage::Name | Stage::Comment => {}
            Stage::HeaderCrc(0, _) => self.stage = Stage::HeaderCrc(1, byte),
            Stage::HeaderCrc(_, low) => {
                let expected = self.header_crc.clone().finalize() as u16;
                if expected != u16::from_le_bytes([low, byte]) {
                    return Err(GzipError::HeaderChecksum);
                }
                self.begin_data();
            }
            Stage::Trailer(at) => {
                self.trailer[usize::from(at)] = byte;
                if at < 7 {
                    self.stage = Stage::Trailer(at + 1);
                } else {
                    self.end_member()?;
                }
            }
            Stage::Data => {}
        }
        Ok(())
    }

    /// Goes to the next optional part of the header behind `part`, in the order of RFC 1952 2.3.
    fn after(&mut self, part: u8) {
        let has = |flag| self.flags & flag != 0;
        if part < FLAG_EXTRA && has(FLAG_EXTRA) {
            self.stage = Stage::ExtraLength(0, 0);
        } else if part < FLAG_NAME && has(FLAG_NAME) {
            self.stage = Stage::Name;
        } else if part < FLAG_COMMENT && has(FLAG_COMMENT) {
            self.stage = Stage::Comment;
        } else if has(FLAG_HEADER_CRC) {
            self.stage = Stage::HeaderCrc(0, 0);
        } else {
            self.begin_data();
        }
    }

    fn end_member(&mut self) -> Result<(), GzipError> {
        let [a, b, c, d, e, f, g, h] = self.trailer;
        if self.crc.clone().finalize() != u32::from_le_bytes([a, b, c, d]) {
            return Err(GzipError::Checksum);
        }
        if self.member_bytes as u32 != u32::from_le_bytes([e, f, g, h]) {
            return Err(GzipError::Length);
        }
        self.members += 1;
        self.begin_member();
        Ok(())
    }
}
