//! Bytes of one HTTP/1.1 response, in any pieces -> its head and the windows of its body.
//!
//! Nothing is copied but a head that arrives in parts. Interim responses (1xx) are skipped.
//! Source: RFC 9112. Split anywhere, the same bytes give the same head, body and outcome.

pub use super::head::{Encoding, Framing, HEAD_BYTES_MAX, Head};

use super::chunked::Chunked;
use super::head;
use std::ops::Range;

/// Most interim responses (1xx) skipped before one response.
const INTERIM_MAX: u8 = 16;

/// A response that is not HTTP/1.1, or ends too early. The connection can't be used again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The bytes do not begin as an HTTP/1 response.
    #[error("malformed HTTP response: it begins with {0:?}")]
    NotHttp(String),
    /// A fault in the status line or a header field.
    #[error("malformed HTTP response: {0}")]
    Head(&'static str),
    /// No end of the head within the bound.
    #[error("HTTP response head longer than {HEAD_BYTES_MAX} bytes")]
    HeadTooLong,
    /// More interim responses than any server sends.
    #[error("malformed HTTP response: more than {INTERIM_MAX} interim responses")]
    Interim,
    /// The server wants to speak another protocol, unasked.
    #[error("malformed HTTP response: unexpected status 101 Switching Protocols")]
    Switching,
    /// `Content-Length` is not a number, or two differ.
    #[error("malformed HTTP response: bad Content-Length {0:?}")]
    ContentLength(String),
    /// A transfer coding other than `chunked`.
    #[error("malformed HTTP response: unsupported Transfer-Encoding {0:?}")]
    TransferEncoding(String),
    /// A fault in the chunked coding.
    #[error("malformed chunked body: {0}")]
    Chunk(&'static str),
    /// Closed before the first byte: on a kept connection, the server had given it up.
    #[error("EOF: the server closed the connection before it answered")]
    NoResponse,
    /// Closed inside the head.
    #[error("unexpected EOF: the server closed the connection inside the response head")]
    HeadTruncated,
    /// Closed before the body's end.
    #[error("unexpected EOF: the server closed the connection before the end of the body")]
    BodyTruncated,
}

/// What [`ResponseReader::step`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The head is complete and in the `Head` given.
    Head,
    /// Body bytes, never empty: this range of the input, still compressed if the head says so.
    Body(Range<usize>),
    /// All input is used and the response goes on.
    NeedMore,
    /// The response has ended; what is left of the input is not part of it.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Length { remaining: u64 },
    Chunked(Chunked),
    Close,
    Done,
}

/// How much of a head's end (an empty line) the bytes so far show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    InLine,
    Lf,
    LfCr,
}

/// Reads one response incrementally. Holds no memory unless a head arrives in parts.
#[derive(Debug)]
pub struct ResponseReader {
    state: State,
    ending: Ending,
    interim: u8,
    /// Start of a head whose end has not arrived; at most `HEAD_BYTES_MAX`.
    partial_head: Vec<u8>,
    started: bool,
}

impl Default for ResponseReader {
    fn default() -> ResponseReader {
        ResponseReader {
            state: State::Head,
            ending: Ending::InLine,
            interim: 0,
            partial_head: Vec::new(),
            started: false,
        }
    }
}

impl ResponseReader {
    /// Goes on from `input[*pos]` and moves `*pos` behind what was used. To be called until it
    /// answers `NeedMore` or `End`; `head` is written when `Step::Head` is answered.
    ///
    /// # Errors
    /// The bytes are not an HTTP/1 response; the reader is of no further use.
    pub fn step(
        &mut self,
        input: &[u8],
        pos: &mut usize,
        head: &mut Head,
    ) -> Result<Step, ResponseError> {
        self.started |= *pos < input.len();
        loop {
            match &mut self.state {
                State::Head => match self.read_head(input, pos, head)? {
                    None => return Ok(Step::NeedMore),
                    Some(100..=199) => continue,
                    Some(_) => return Ok(Step::Head),
                },
                State::Length { remaining } => {
                    let available = input.len() - *pos;
                    if available == 0 {
                        return Ok(Step::NeedMore);
                    }
                    let used = usize::try_from(*remaining).map_or(available, |r| r.min(available));
                    *remaining -= used as u64;
                    if *remaining == 0 {
                        self.state = State::Done;
                    }
                    let range = *pos..*pos + used;
                    *pos += used;
                    return Ok(Step::Body(range));
                }
                State::Chunked(chunked) => match chunked.step(input, pos)? {
                    Some(range) => return Ok(Step::Body(range)),
                    None if *chunked == Chunked::Done => self.state = State::Done,
                    None => return Ok(Step::NeedMore),
                },
                State::Close if *pos < input.len() => {
                    let range = *pos..input.len();
                    *pos = input.len();
                    return Ok(Step::Body(range));
                }
                State::Close => return Ok(Step::NeedMore),
                State::Done => return Ok(Step::End),
            }
        }
    }

    /// The server has closed its side after all bytes given. `Ok`: the response is complete.
    ///
    /// # Errors
    /// Something is missing; which part, says the error.
    pub fn closed(&mut self) -> Result<(), ResponseError> {
        match self.state {
            State::Head if !self.started => Err(ResponseError::NoResponse),
            State::Head => Err(ResponseError::HeadTruncated),
            State::Length { .. } | State::Chunked(_) => Err(ResponseError::BodyTruncated),
            State::Close | State::Done => {
                self.state = State::Done;
                Ok(())
            }
        }
    }

    /// Takes back the last `bytes` of the range that the last step gave: they are to be given
    /// again, as the next input.
    pub fn unread(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.state = match self.state {
            State::Length { remaining } => State::Length {
                remaining: remaining + bytes,
            },
            State::Done => State::Length { remaining: bytes },
            State::Chunked(Chunked::Data { remaining }) => State::Chunked(Chunked::Data {
                remaining: remaining + bytes,
            }),
            State::Chunked(_) => State::Chunked(Chunked::Data { remaining: bytes }),
            state => state,
        };
    }

    /// Whether a byte of the response has been seen.
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// Reads a head; the status if it is complete.
    fn read_head(
        &mut self,
        input: &[u8],
        pos: &mut usize,
        head: &mut Head,
    ) -> Result<Option<u16>, ResponseError> {
        let rest = &input[*pos..];
        if rest.is_empty() {
            return Ok(None);
        }
        self.check_beginning(rest)?;
        let Some(len) = self.find_end(rest) else {
            if self.partial_head.len() + rest.len() > HEAD_BYTES_MAX {
                return Err(ResponseError::HeadTooLong);
            }
            self.partial_head.extend_from_slice(rest);
            *pos = input.len();
            return Ok(None);
        };
        if self.partial_head.len() + len > HEAD_BYTES_MAX {
            return Err(ResponseError::HeadTooLong);
        }
        if self.partial_head.is_empty() {
            head::read(&rest[..len], head)?;
        } else {
            self.partial_head.extend_from_slice(&rest[..len]);
            head::read(&self.partial_head, head)?;
            self.partial_head = Vec::new();
        }
        *pos += len;
        match head.status {
            101 => return Err(ResponseError::Switching),
            100..=199 if self.interim == INTERIM_MAX => return Err(ResponseError::Interim),
            100..=199 => {
                self.interim += 1;
                return Ok(Some(head.status));
            }
            _ => {}
        }
        self.state = match head.framing {
            Framing::Empty => State::Done,
            Framing::Length(remaining) => State::Length { remaining },
            Framing::Chunked => State::Chunked(Chunked::START),
            Framing::Close => State::Close,
        };
        Ok(Some(head.status))
    }

    /// Something that is not HTTP (another protocol, TLS) is told from its first bytes, not after
    /// a timeout.
    fn check_beginning(&self, rest: &[u8]) -> Result<(), ResponseError> {
        const BEGINNING: &[u8] = b"HTTP/";
        let seen = self.partial_head.len();
        let expected = BEGINNING.get(seen..).unwrap_or_default();
        let len = expected.len().min(rest.len());
        if expected[..len] == rest[..len] {
            return Ok(());
        }
        let known = &BEGINNING[..seen.min(BEGINNING.len())];
        let fault = expected
            .iter()
            .zip(rest)
            .take_while(|(e, r)| e == r)
            .count();
        let shown = [known, &rest[..fault + 1]].concat();
        Err(ResponseError::NotHttp(
            String::from_utf8_lossy(&shown).into_owned(),
        ))
    }

    /// Length of the head's part in `rest`, its final empty line included, if it ends there.
    fn find_end(&mut self, rest: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            // Inside a line only its end matters.
            if self.ending == Ending::InLine {
                at += memchr::memchr(b'\n', &rest[at..])? + 1;
                self.ending = Ending::Lf;
            }
            let byte = *rest.get(at)?;
            at += 1;
            self.ending = match (self.ending, byte) {
                (_, b'\n') => {
                    self.ending = Ending::InLine;
                    return Some(at);
                }
                (Ending::Lf, b'\r') => Ending::LfCr,
                _ => Ending::InLine,
            };
        }
    }
}
