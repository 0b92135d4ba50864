//! Bytes done of a total -> one line on a terminal that is drawn over, or nothing elsewhere.
//!
//! Forty lines, where a library for it would bring five more packages.

use crate::text::{size, span};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);

/// A line that says how far something is.
#[derive(Debug)]
pub(super) struct Progress {
    verb: &'static str,
    bytes_total: u64,
    bytes_done: u64,
    started: Instant,
    drawn: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    /// Nothing done yet of `bytes_total`. `verb`: "read", "sent".
    pub(super) fn new(verb: &'static str, bytes_total: u64) -> Self {
        Self {
            verb,
            bytes_total,
            bytes_done: 0,
            started: Instant::now(),
            drawn: None,
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// More is done.
    pub(super) fn add(&mut self, bytes: u64, about: &str) {
        self.bytes_done += bytes;
        let since = self.drawn.unwrap_or(self.started).elapsed();
        if self.is_terminal && since >= DRAW_INTERVAL {
            self.drawn = Some(Instant::now());
            let line = line(
                self.verb,
                self.bytes_done,
                self.bytes_total,
                self.started.elapsed(),
            );
            // A terminal that cannot be written to is no reason to stop.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K{line}, {about}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn line(verb: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let total = total.max(done).max(1);
    let per_s = done as f64 / elapsed.as_secs_f64().max(1e-3);
    let left_ms = (total - done) as f64 / per_s.max(1.0) * 1e3;
    format!(
        "{verb} {} of {} ({} %), {}/s, {} left",
        size(done),
        size(total),
        u128::from(done) * 100 / u128::from(total),
        size(per_s as u64),
        span(left_ms as u64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_much_is_left() {
        let two_s = Duration::from_secs(2);
        assert_eq!(
            line("read", 1 << 20, 4 << 20, two_s),
            "read 1.0 MiB of 4.0 MiB (25 %), 512.0 KiB/s, 6.0s left"
        );
        // More than was there at the beginning.
        assert!(line("read", 5, 4, two_s).contains("100 %"));
        assert!(line("read", 0, 0, Duration::ZERO).contains("0 %"));
    }
}
