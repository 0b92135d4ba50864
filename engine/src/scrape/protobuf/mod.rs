//! A body of delimited `MetricFamily` messages in windows -> lines for the matcher, and what stands
//! beside them.
//!
//! A protobuf body has no text that stays between two scrapes, so each series is written as a line
//! first; from there on all is as with text: the lines are the key under which series are known.
//!
//! Source of the semantics: Prometheus model/textparse/protobufparse.go. **Deviations**:
//! 1. A name that holds NUL is refused.
//! 2. Whether a histogram is native is decided for each metric; Prometheus decides by the first one
//!    of a family for all of it.
//! 3. NaNs are made one NaN, as in text, so that no target sets staleness markers.

mod lines;
mod message;
mod native;

#[cfg(test)]
pub(super) mod tests;

use super::outcome::ScrapeError;
use crate::config::model::ScrapeRules;
use crate::matcher::{Matcher, Scratch};
use crate::protobuf::get_varint;
use lines::{Lines, Options};
use message::{Family, Metric};

/// The longest message that is read, in bytes.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// Lines are handed on when there is so much text of them, in bytes.
const TEXT_BYTES: usize = 128 << 10;
/// Bytes that the length of a message may take.
const LENGTH_BYTES_MAX: usize = 5;

/// A body that is no list of families, or holds one that is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    /// Where the family begins that is at fault, in bytes of the body.
    offset: u64,
    reason: String,
}

/// One body on its way into lines.
#[derive(Debug)]
pub(super) struct Reader {
    options: Options,
    lines: Lines,
    /// A message that has not come whole.
    pending: Vec<u8>,
    /// Bytes of the body before `pending`.
    offset: u64,
}

/// Takes lines: says how many bytes of them, as the last may have to wait for those behind it, or
/// why they can't be taken.
type Take<'a> = &'a mut dyn FnMut(&[u8]) -> Result<usize, String>;

impl Reader {
    pub(super) fn new(rules: &ScrapeRules) -> Self {
        Self {
            options: Options {
                native: rules.scrape_native_histograms,
                always_classic: rules.always_scrape_classic_histograms,
                limits: native::Limits {
                    schema_max: rules.native_histogram_schema_max,
                    buckets_max: rules.native_histogram_bucket_limit,
                },
            },
            lines: Lines::default(),
            pending: Vec::new(),
            offset: 0,
        }
    }

    /// Reads all of `window` and feeds `matcher` the lines. `last`: the body ends with it.
    ///
    /// # Errors
    /// The body is not valid. Lines before the fault have been fed.
    pub(super) fn walk(
        &mut self,
        matcher: &mut Matcher,
        window: &[u8],
        last: bool,
    ) -> Result<(), ScrapeError> {
        let mut take = |lines: &[u8], last| {
            let taken = matcher.feed(lines, last);
            taken.map_err(|error| format!("as a line: {}", error.reason))
        };
        let fed = self.feed(window, last, &mut |lines| take(lines, false));
        let ended = fed.and_then(|()| {
            if !last {
                return Ok(());
            }
            // A body without a byte has no end either.
            let offset = self.offset;
            let text = &mut self.lines.text;
            text.extend_from_slice(if offset == 0 { b"" } else { b"# EOF\n" });
            let ended = take(text, true).map(|_| ());
            text.clear();
            ended.map_err(|reason| Fault { offset, reason })
        });
        ended.map_err(|Fault { offset, reason }| ScrapeError::Protobuf { offset, reason })
    }

    /// Reads all of `window`; what it holds of a message that is not whole is kept. `last`: the
    /// body ends with it.
    ///
    /// # Errors
    /// What is at fault. Lines before it have been taken.
    fn feed(&mut self, window: &[u8], last: bool, take: Take<'_>) -> Result<(), Fault> {
        let mut pending = std::mem::take(&mut self.pending);
        let bytes = match pending.is_empty() {
            true => window,
            false => {
                pending.extend_from_slice(window);
                &pending[..]
            }
        };
        let mut at = 0;
        let mut result = Ok(());
        while result.is_ok() {
            let Ok(Some((from, to))) = next_message(&bytes[at..]).map_err(|reason| {
                result = Err(reason);
            }) else {
                break;
            };
            result = self.family(&bytes[at + from..at + to], take);
            if result.is_ok() {
                at += to;
            }
        }
        if last && result.is_ok() && at < bytes.len() {
            result = Err("the body ends in the middle of a message".to_owned());
        }
        if !self.lines.text.is_empty() {
            result = self.flush(take).and(result);
        }
        self.offset += at as u64;
        match pending.is_empty() {
            true => pending.extend_from_slice(&window[at..]),
            false => {
                pending.drain(..at);
            }
        }
        self.pending = pending;
        result.map_err(|reason| Fault {
            offset: self.offset,
            reason,
        })
    }

    /// Gives `scratch`, which has read the lines, what stands beside them.
    pub(super) fn give(self, scratch: &mut Scratch) {
        self.lines.give(scratch);
    }

    fn family(&mut self, message: &[u8], take: Take<'_>) -> Result<(), String> {
        let family = Family::read(message).map_err(|error| error.to_string())?;
        self.lines.grant(message.len());
        if family.metrics.is_empty() {
            return Ok(());
        }
        let kind = self.lines.begin(&family)?;
        for metric in &family.metrics {
            let metric = Metric::read(metric).map_err(|error| error.to_string())?;
            self.lines.metric(kind, &metric, &self.options)?;
            if self.lines.text.len() >= TEXT_BYTES {
                self.flush(take)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, take: Take<'_>) -> Result<(), String> {
        let text = &mut self.lines.text;
        let taken = take(text);
        text.drain(..*taken.as_ref().unwrap_or(&text.len()));
        taken.map(|_| ())
    }
}

/// Where the message at the start of `bytes` begins and ends; nothing if it is not there whole.
fn next_message(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut from = 0;
    let head = &bytes[..bytes.len().min(LENGTH_BYTES_MAX)];
    let Ok(len) = get_varint(head, &mut from) else {
        return match head.len() < LENGTH_BYTES_MAX {
            true => Ok(None),
            false => Err("the length of a message is no length".to_owned()),
        };
    };
    if len > MESSAGE_BYTES_MAX {
        return Err(format!(
            "a message of {len} bytes; at most {MESSAGE_BYTES_MAX} are read"
        ));
    }
    let to = from + len as usize;
    Ok((to <= bytes.len()).then_some((from, to)))
}
