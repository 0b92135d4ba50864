//! Bytes -> names, quoted strings and label lists: what both grammars are made of.

use super::ParseError;

/// Why a scan stopped before its goal.
#[derive(Debug)]
pub(super) enum Halt {
    /// The bytes end here, more may follow.
    NeedMore,
    /// The bytes do not follow the grammar, whatever follows them.
    Bad(Box<ParseError>),
}

/// A half-open range of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Span {
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.from..self.to]
    }
}

/// A name as exposed: for a quoted one the bytes between the quotes, still escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) span: Span,
    pub(super) quoted: bool,
}

/// One element of a label list, in the order exposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The metric's name, quoted inside the braces.
    Metric(Name),
    /// A label; the value is what stands between its quotes, still escaped.
    Label(Name, Span),
}

const METRIC_START: u8 = 1;
const METRIC: u8 = 2;
const LABEL_START: u8 = 4;
const LABEL: u8 = 8;
const VALUE: u8 = 16;

/// Classes of each byte: letters and `_` start names, digits go on, `:` is for metrics only; values
/// go on over everything but quotes, backslashes and newlines.
static CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        class[byte] = if b.is_ascii_alphabetic() || b == b'_' {
            METRIC_START | METRIC | LABEL_START | LABEL
        } else if b.is_ascii_digit() {
            METRIC | LABEL
        } else if b == b':' {
            METRIC_START | METRIC
        } else {
            0
        };
        if b != b'"' && b != b'\\' && b != b'\n' {
            class[byte] |= VALUE;
        }
        byte += 1;
    }
    class
};

/// The bytes given, and whether they are all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) last: bool,
}

impl<'a> Input<'a> {
    /// The byte at `at`, if it is there.
    #[inline(always)]
    pub(super) fn get(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// "`expected` is not at `at`": an error, or `NeedMore` if it may still come.
    #[cold]
    #[inline(never)]
    pub(super) fn unexpected(&self, at: usize, expected: &str) -> Halt {
        let found = match self.get(at) {
            None if !self.last => return Halt::NeedMore,
            None => "the end of the body".to_owned(),
            Some(b'\n') => "the end of the line".to_owned(),
            Some(byte) if byte.is_ascii_graphic() => format!("`{}`", byte as char),
            Some(b' ') => "a space".to_owned(),
            Some(b'\t') => "a tab".to_owned(),
            Some(b'\r') => "a carriage return".to_owned(),
            Some(byte) => format!("byte 0x{byte:02x}"),
        };
        self.bad(at, format!("expected {expected}, found {found}"))
    }

    /// An error at `at`.
    #[cold]
    #[inline(never)]
    pub(super) fn bad(&self, at: usize, reason: impl Into<String>) -> Halt {
        Halt::Bad(Box::new(ParseError {
            offset: at,
            reason: reason.into(),
            near: near(self.bytes, at),
        }))
    }

    /// The end of the run of metric name bytes that starts at `at`; `at` itself if there is none.
    #[inline]
    pub(super) fn metric_name(&self, at: usize) -> usize {
        self.run(at, METRIC_START, METRIC)
    }

    /// The same for a label name.
    #[inline]
    pub(super) fn label_name(&self, at: usize) -> usize {
        self.run(at, LABEL_START, LABEL)
    }

    #[inline(always)]
    fn run(&self, at: usize, start: u8, rest: u8) -> usize {
        let bytes = self.bytes;
        if at >= bytes.len() || CLASS[bytes[at] as usize] & start == 0 {
            return at;
        }
        let mut end = at + 1;
        while end < bytes.len() && CLASS[bytes[end] as usize] & rest != 0 {
            end += 1;
        }
        end
    }

    /// The first offset from `at` on that is neither space nor tab.
    #[inline(always)]
    pub(super) fn skip_blanks(&self, mut at: usize) -> usize {
        while let Some(b' ' | b'\t') = self.get(at) {
            at += 1;
        }
        at
    }

    /// The offset of the next `\n` from `at` on, or of the end of the body.
    #[inline]
    pub(super) fn line_end(&self, at: usize) -> Result<usize, Halt> {
        match memchr::memchr(b'\n', &self.bytes[at..]) {
            Some(length) => Ok(at + length),
            None if self.last => Ok(self.bytes.len()),
            None => Err(Halt::NeedMore),
        }
    }

    /// Skips a quoted name whose opening quote is at `at`; it may hold raw newlines, no NUL.
    pub(super) fn quoted_name(&self, at: usize) -> Result<usize, Halt> {
        let mut from = at + 1;
        loop {
            let rest = self.bytes.get(from..).unwrap_or_default();
            let Some(found) = memchr::memchr3(b'"', b'\\', 0, rest) else {
                return Err(self.unexpected(self.bytes.len(), "a closing quote"));
            };
            let found = from + found;
            match self.bytes[found] {
                b'"' => return Ok(found + 1),
                0 => return Err(self.unexpected(found, "a name without NUL")),
                _ => match self.get(found + 1) {
                    None | Some(b'\n' | 0) => {
                        return Err(self.unexpected(found + 1, "an escaped character"));
                    }
                    Some(_) => from = found + 2,
                },
            }
        }
    }

    /// Skips a label value whose opening quote is at `at`. It may hold NUL, and raw newlines if
    /// `newlines`.
    #[inline]
    pub(super) fn value(&self, at: usize, newlines: bool) -> Result<usize, Halt> {
        let mut from = at + 1;
        let bytes = self.bytes;
        loop {
            from = plain_value_end(bytes, from);
            let Some(byte) = self.get(from) else {
                return Err(self.unexpected(from, "a closing quote"));
            };
            match byte {
                b'"' => return Ok(from + 1),
                b'\\' => {
                    from += 1;
                    // Prometheus' lexer steps over NUL here, so it cannot be what is escaped.
                    while self.get(from) == Some(0) {
                        from += 1;
                    }
                    if matches!(self.get(from), None | Some(b'\n')) {
                        return Err(self.unexpected(from, "an escaped character"));
                    }
                    from += 1;
                }
                b'\n' if !newlines => return Err(self.unexpected(from, "a closing quote")),
                _ => from += 1,
            }
        }
    }

    /// Whether `span` is UTF-8: an error at `span.from` if not.
    #[inline]
    pub(super) fn utf8(&self, span: Span, what: &str) -> Result<(), Halt> {
        let bytes = span.of(self.bytes);
        if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() {
            Ok(())
        } else {
            Err(self.bad(span.from, format!("{what} is not valid UTF-8")))
        }
    }
}

/// The first offset from `from` on that holds a quote, a backslash or a newline, or the end. Looks
/// at eight bytes at a time.
#[inline(always)]
fn plain_value_end(bytes: &[u8], mut from: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    // The lowest bit set is right: a borrow only goes up from a byte that is zero itself.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let repeated = |byte: u8| u64::from(byte) * ONES;
    while let Some(eight) = bytes.get(from..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        let found = zeros(word ^ repeated(b'"'))
            | zeros(word ^ repeated(b'\\'))
            | zeros(word ^ repeated(b'\n'));
        if found != 0 {
            return from + found.trailing_zeros() as usize / 8;
        }
        from += 8;
    }
    while from < bytes.len() && CLASS[bytes[from] as usize] & VALUE != 0 {
        from += 1;
    }
    from
}

/// Up to 40 bytes of the line around `at`, at most 24 of them before it.
fn near(bytes: &[u8], at: usize) -> String {
    let at = at.min(bytes.len());
    let line = memchr::memrchr(b'\n', &bytes[..at]).map_or(0, |newline| newline + 1);
    let from = line.max(at.saturating_sub(24));
    let to = bytes.len().min(from + 40);
    let end = memchr::memchr(b'\n', &bytes[at..to]).map_or(to, |length| at + length);
    String::from_utf8_lossy(&bytes[from..end]).into_owned()
}

/// A name without its escapes and quotes, if it is UTF-8.
pub(super) fn unescape_name(bytes: &[u8], name: Name) -> Option<std::borrow::Cow<'_, str>> {
    let text = std::str::from_utf8(name.span.of(bytes)).ok()?;
    Some(if name.quoted {
        unescape(text, true)
    } else {
        text.into()
    })
}

/// Replaces `\\` by a backslash, `\n` by a newline and, with `quotes`, `\"` by a quote. A backslash
/// before anything else stands for itself.
/// Source: `lvalReplacer`, `helpReplacer` in prometheus/prometheus model/textparse/promparse.go.
pub(super) fn unescape(text: &str, quotes: bool) -> std::borrow::Cow<'_, str> {
    if memchr::memchr(b'\\', text.as_bytes()).is_none() {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (plain, skip) = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => ('\\', 2),
            Some(b'n') => ('\n', 2),
            Some(b'"') if quotes => ('"', 2),
            _ => ('\\', 1),
        };
        out.push(plain);
        rest = &rest[at + skip..];
    }
    out.push_str(rest);
    out.into()
}
