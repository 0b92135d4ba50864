//! A sink that takes whole lines and remembers everything, and asserts the order of its calls.

use crate::fetch::*;
use std::collections::BTreeMap;

/// What one fetch gave.
#[derive(Debug, Default)]
pub(in crate::fetch) struct Given {
    pub(in crate::fetch) dialect: Option<Dialect>,
    pub(in crate::fetch) body: Vec<u8>,
    pub(in crate::fetch) windows: usize,
    pub(in crate::fetch) last: bool,
    pub(in crate::fetch) result: Option<Result<FetchStats, FetchError>>,
}

/// The sink.
#[derive(Debug, Default)]
pub(in crate::fetch) struct Lines {
    /// Of the present or last fetch of each id.
    pub(in crate::fetch) given: BTreeMap<u32, Given>,
    pub(in crate::fetch) ended: usize,
    pub(in crate::fetch) wanted: Vec<(u32, String, u16)>,
    /// Leaves this many whole lines for the next window, where it can.
    pub(in crate::fetch) lines_left: usize,
}

impl Lines {
    /// Takes what a fetch gave; it must have ended.
    pub(in crate::fetch) fn take(&mut self, id: u32) -> (Given, Result<FetchStats, FetchError>) {
        let mut given = self.given.remove(&id).expect("a fetch that was started");
        let result = given.result.take().expect("a fetch that has ended");
        (given, result)
    }

    /// Takes the error of a fetch that failed.
    pub(in crate::fetch) fn error(&mut self, id: u32) -> FetchError {
        self.take(id).1.expect_err("a fetch that failed")
    }
}

impl BodySink for Lines {
    fn head(&mut self, id: u32, dialect: Dialect) -> Result<(), FetchError> {
        let given = self.given.entry(id).or_default();
        assert_eq!((given.dialect, given.windows), (None, 0));
        given.dialect = Some(dialect);
        Ok(())
    }

    fn window(&mut self, id: u32, bytes: &[u8], last: bool) -> Result<usize, FetchError> {
        let given = self.given.entry(id).or_default();
        assert!(given.dialect.is_some() && !given.last && given.result.is_none());
        given.windows += 1;
        if last {
            given.last = true;
            given.body.extend_from_slice(bytes);
            return Ok(0);
        }
        let mut ends: Vec<usize> = memchr::memchr_iter(b'\n', bytes).map(|at| at + 1).collect();
        assert!(!ends.is_empty(), "a window without a line");
        ends.truncate(ends.len() - self.lines_left.min(ends.len()));
        let used = ends.last().copied().unwrap_or(0);
        given.body.extend_from_slice(&bytes[..used]);
        Ok(used)
    }

    fn done(&mut self, id: u32, result: Result<FetchStats, FetchError>) {
        let given = self.given.entry(id).or_default();
        assert!(given.result.is_none(), "ended twice");
        if let Ok(stats) = &result {
            assert!(given.last);
            assert_eq!(stats.body_bytes, given.body.len() as u64);
        }
        given.result = Some(result);
        self.ended += 1;
    }

    fn need_address(&mut self, id: u32, host: &str, port: u16) {
        self.wanted.push((id, host.to_owned(), port));
    }
}
