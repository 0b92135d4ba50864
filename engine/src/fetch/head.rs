//! The head of one HTTP/1.1 response (status line and header fields) -> what a scraper needs of it.
//!
//! Source: RFC 9112 sections 3 to 6, RFC 9110. Where a lenient client is needed (bare LF, folded
//! lines, equal Content-Length twice) it does as Go's net/http, the client that exporters are
//! written against.

use super::response::ResponseError;
use std::mem::MaybeUninit;

/// Longest head accepted, in bytes, status line and final blank line included.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most header fields accepted in one head.
pub(super) const HEADER_FIELDS_MAX: usize = 128;

/// Longest reason phrase kept, in bytes; the rest is cut.
const REASON_BYTES_MAX: usize = 128;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// No body by definition of the status (204, 304) or of a length of zero.
    #[default]
    Empty,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The server closes the connection.
    Close,
}

/// How the body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Not at all, or under a name that is not known to be a compression: the bytes are taken as
    /// they are, as Prometheus does.
    #[default]
    Identity,
    /// `gzip` or its old name `x-gzip`.
    Gzip,
    /// A known compression that was not asked for.
    Unsupported(&'static str),
}

/// What a scraper needs of a response's head. Its strings are reused between responses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// Status code, 200 to 999; interim ones (1xx) are never seen here.
    pub status: u16,
    /// Reason phrase, at most 128 bytes; may be empty.
    pub reason: String,
    /// Whether a `Content-Type` field was there; it may be blank.
    pub has_content_type: bool,
    /// First `Content-Type`, or empty.
    pub content_type: String,
    /// First `Content-Encoding`.
    pub encoding: Encoding,
    /// First `Location`, or empty.
    pub location: String,
    /// How the end of the body is found.
    pub framing: Framing,
    /// Whether the connection may serve another request after this body.
    pub keep_alive: bool,
}

/// Reads a whole head (up to and with its blank line) from `bytes` into `head`.
pub(super) fn read(bytes: &[u8], head: &mut Head) -> Result<(), ResponseError> {
    let mut fields = [const { MaybeUninit::uninit() }; HEADER_FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .allow_obsolete_multiline_headers_in_responses(true)
        .parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
    match parsed {
        Ok(httparse::Status::Complete(used)) if used == bytes.len() => {}
        Ok(_) => return Err(ResponseError::Head("blank line inside the head")),
        Err(error) => return Err(ResponseError::Head(reason_of(error))),
    }
    let status = response.code.unwrap_or(0);
    if !(100..1000).contains(&status) {
        return Err(ResponseError::Head("status code out of range"));
    }
    head.status = status;
    set(&mut head.reason, cut(response.reason.unwrap_or("").trim()));
    head.has_content_type = false;
    head.content_type.clear();
    head.location.clear();
    head.encoding = Encoding::Identity;

    let minor = response.version.unwrap_or(1);
    let mut connection = Connection::default();
    let mut length = None;
    let mut transfer_encodings = 0;
    let mut has_encoding = false;
    for field in response.headers.iter() {
        let (name, value) = (field.name, field.value.trim_ascii());
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(content_length(length, value)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            transfer_encodings += 1;
            if transfer_encodings > 1 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(ResponseError::TransferEncoding(text(value)));
            }
        } else if name.eq_ignore_ascii_case("connection") {
            connection.read(value);
        } else if name.eq_ignore_ascii_case("content-type") {
            if !head.has_content_type {
                head.has_content_type = true;
                head.content_type.push_str(&String::from_utf8_lossy(value));
            }
        } else if name.eq_ignore_ascii_case("content-encoding") {
            if !has_encoding {
                has_encoding = true;
                head.encoding = encoding(value);
            }
        } else if name.eq_ignore_ascii_case("location") && head.location.is_empty() {
            head.location.push_str(&String::from_utf8_lossy(value));
        }
    }

    let chunked = transfer_encodings > 0;
    head.framing = match (status, chunked, length) {
        (100..=199 | 204 | 304, _, _) => Framing::Empty,
        (_, true, _) => Framing::Chunked,
        (_, false, Some(0)) => Framing::Empty,
        (_, false, Some(length)) => Framing::Length(length),
        (_, false, None) => Framing::Close,
    };
    // RFC 9112 6.1 and 6.3: both framings, or chunked in HTTP/1.0, may be an attempt at smuggling:
    // the body is read, the connection is not used again.
    let doubtful = chunked && (length.is_some() || minor == 0);
    head.keep_alive = connection.keeps(minor) && !doubtful && head.framing != Framing::Close;
    Ok(())
}

/// Options of the `Connection` fields.
#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
}

impl Connection {
    fn read(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 9.3: persistent by default in 1.1, on request in 1.0.
    fn keeps(&self, minor: u8) -> bool {
        !self.close && (minor > 0 || self.keep_alive)
    }
}

/// One `Content-Length` field; several, or a list, are accepted if all are equal (RFC 9110 8.6).
fn content_length(mut known: Option<u64>, value: &[u8]) -> Result<u64, ResponseError> {
    for item in value.split(|&byte| byte == b',') {
        let item = item.trim_ascii();
        let number = std::str::from_utf8(item)
            .ok()
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|d| d.is_ascii_digit()))
            .and_then(|digits| digits.parse::<u64>().ok())
            .ok_or_else(|| ResponseError::ContentLength(text(value)))?;
        if known.is_some_and(|known| known != number) {
            return Err(ResponseError::ContentLength(text(value)));
        }
        known = Some(number);
    }
    known.ok_or_else(|| ResponseError::ContentLength(text(value)))
}

fn encoding(value: &[u8]) -> Encoding {
    let is = |name: &str| value.eq_ignore_ascii_case(name.as_bytes());
    if is("gzip") || is("x-gzip") {
        return Encoding::Gzip;
    }
    for name in ["deflate", "br", "zstd", "compress"] {
        if is(name) {
            return Encoding::Unsupported(name);
        }
    }
    Encoding::Identity
}

fn reason_of(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "invalid header field name",
        httparse::Error::HeaderValue => "invalid header field value",
        httparse::Error::NewLine => "invalid line end",
        httparse::Error::Status => "invalid status code or reason",
        httparse::Error::Token => "invalid character",
        httparse::Error::TooManyHeaders => "more than 128 header fields",
        httparse::Error::Version => "not HTTP/1.0 or HTTP/1.1",
    }
}

/// Bytes of a message for an error, cut to something readable.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned()
}

fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

fn set(string: &mut String, value: &str) {
    string.clear();
    string.push_str(value);
}
