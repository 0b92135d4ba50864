//! A body in windows -> values, and how the body differs from the expected layout.
//!
//! The expected layout is followed entry by entry: compare the text, read the number. Where the
//! body differs, a bounded number of expected entries is compared ahead (something was removed),
//! then the line is parsed and looked up in the whole layout (something was moved), else it is
//! new. No entry is used twice: the second of two equal lines is a new one.

use super::layout::Layout;
use super::scratch::{Scratch, Segment, Source};
use super::tables::Recent;
use super::text_block::{Form, PREFIX_BYTES_MAX, prefix_hash};
use crate::parse::{self, Dialect, Next, ParseError, Piece};
use ahash::RandomState;
use std::rc::Rc;

/// How many expected entries are compared ahead where a body differs.
const LOOK_AHEAD: u32 = 32;

/// A body that does not follow its grammar, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BodyError {
    /// From 1.
    pub(crate) line: u64,
    /// In bytes, from 1.
    pub(crate) column: u64,
    pub(crate) reason: String,
    /// The bytes at fault.
    pub(crate) near: String,
}

/// One body on its way along a layout.
#[derive(Debug)]
pub(crate) struct Matcher {
    pub(super) dialect: Dialect,
    /// The layout that the body is expected to follow.
    pub(crate) expect: Option<Rc<Layout>>,
    /// Layouts of other targets, one of which the body may follow.
    pub(super) guesses: Option<Recent>,
    /// `expect` is one of these.
    pub(crate) guessed: bool,
    /// The expected entry: a run and an entry of its block.
    pub(super) run: usize,
    pub(super) entry: u32,
    /// Raw index in `expect` at which the open segment begins.
    open: u32,
    /// The walk went backwards once: entries ahead may be used already.
    jumped: bool,
    ended: bool,
    pub(super) hasher: RandomState,
    /// Bytes of the body so far.
    pub(crate) consumed: u64,
    /// Entries that were found where they were expected.
    pub(crate) matched: u32,
    /// Entries that the parser read.
    pub(crate) parsed: u32,
    pub(crate) scratch: Scratch,
}

/// What stands where an entry is expected.
enum Found {
    /// Its prefix, of this length.
    Prefix(usize),
    NeedMore,
    Differs,
}

enum Stop {
    NeedMore,
    Differs,
    End,
}

impl Matcher {
    /// `expect` is followed only if it has the same dialect.
    pub(crate) fn new(
        mut scratch: Scratch,
        hasher: RandomState,
        expect: Option<Rc<Layout>>,
        dialect: Dialect,
    ) -> Self {
        scratch.clear();
        let expect = expect.filter(|layout| layout.dialect == dialect);
        if let Some(layout) = &expect {
            scratch.values.reserve(layout.len() as usize);
        }
        let (run, entry) = expect.as_ref().map_or((0, 0), |layout| layout.locate(0));
        Self {
            dialect,
            expect,
            guesses: None,
            guessed: false,
            run,
            entry,
            open: 0,
            jumped: false,
            ended: false,
            hasher,
            consumed: 0,
            matched: 0,
            parsed: 0,
            scratch,
        }
    }

    /// The grammar of the body.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether the whole body was read.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Reads whole pieces from the start of `window` and returns how many bytes they take. What is
    /// left belongs to a piece that is not complete: the next window must begin with it.
    /// `last`: no bytes follow `window`; everything is consumed then.
    ///
    /// # Errors
    /// The body does not follow its grammar. What was read before stays.
    pub(crate) fn feed(&mut self, window: &[u8], last: bool) -> Result<usize, BodyError> {
        if self.consumed == 0 && window.is_empty() && last {
            // An empty body is a success without samples, whatever its grammar says.
            self.ended = true;
        }
        if self.ended {
            self.consumed += window.len() as u64;
            return Ok(window.len());
        }
        if let Some(guesses) = self.guesses.take() {
            self.choose(&guesses, window);
        }
        let expect = self.expect.take();
        let mut pos = 0;
        let result = self.read(expect.as_deref(), window, &mut pos, last);
        self.expect = expect;
        if self.ended {
            self.close();
            pos = window.len();
        }
        self.consumed += pos as u64;
        result
            .map_err(|error| self.locate(&window[pos..], error))
            .map(|()| pos)
    }

    fn read(
        &mut self,
        expect: Option<&Layout>,
        window: &[u8],
        pos: &mut usize,
        last: bool,
    ) -> Result<(), ParseError> {
        loop {
            let stop = match expect {
                Some(layout) => self.follow(layout, window, pos, last),
                None => Stop::Differs,
            };
            match stop {
                Stop::NeedMore => return Ok(()),
                Stop::Differs => {
                    if let Some(layout) = expect {
                        self.close_at(layout.raw(self.run, self.entry));
                        if self.look_ahead(layout, &window[*pos..]) {
                            continue;
                        }
                    }
                    match parse::next_piece(self.dialect, &window[*pos..], last)? {
                        Next::NeedMore => return Ok(()),
                        Next::Sample(piece) => {
                            self.take(expect, &piece)?;
                            *pos += piece.len;
                        }
                        Next::End { tail } => {
                            self.scratch.tail.extend_from_slice(tail);
                            self.ended = true;
                            return Ok(());
                        }
                    }
                }
                Stop::End => {
                    self.scratch.tail.extend_from_slice(&window[*pos..]);
                    self.ended = true;
                    return Ok(());
                }
            }
        }
    }

    /// Compares and reads as long as the body follows the layout.
    fn follow(&mut self, layout: &Layout, window: &[u8], pos: &mut usize, last: bool) -> Stop {
        loop {
            let Some(run) = layout.runs.get(self.run) else {
                let tail = layout.tail.as_deref().filter(|_| last);
                let at_end = tail.is_some_and(|tail| *tail == window[*pos..]);
                return if at_end { Stop::End } else { Stop::Differs };
            };
            let mut limit = run.to;
            if self.jumped {
                let raw = layout.raw(self.run, self.entry);
                let free = self.scratch.used.free_from(raw);
                if free == 0 {
                    self.close_at(raw);
                    let next = self.scratch.used.next_free(raw).unwrap_or(layout.len());
                    self.jump(layout, next);
                    continue;
                }
                limit = limit.min(self.entry + free);
            }
            let block = &*run.block;
            let (entry, at) = (self.entry, *pos);
            let place = (entry, limit, at);
            let (entry, at, stop) = match block.form() {
                Form::Text(lines) => {
                    let mut start = lines.start(entry);
                    self.follow_block(place, window, last, |entry, rest| {
                        let end = lines.ends[entry as usize] as usize;
                        let want = &lines.text[start..end];
                        start = end;
                        match rest.starts_with(want) {
                            true => Found::Prefix(want.len()),
                            false if !last && want.starts_with(rest) => Found::NeedMore,
                            false => Found::Differs,
                        }
                    })
                }
                Form::Hashed(hashed) => {
                    let hasher = self.hasher.clone();
                    self.follow_block(place, window, last, |entry, rest| {
                        let len = usize::from(hashed.lens[entry as usize]);
                        match rest.get(..len) {
                            Some(prefix)
                                if prefix_hash(&hasher, prefix) == block.hashes[entry as usize] =>
                            {
                                Found::Prefix(len)
                            }
                            None if !last => Found::NeedMore,
                            _ => Found::Differs,
                        }
                    })
                }
            };
            self.matched += entry - self.entry;
            self.entry = entry;
            *pos = at;
            if let Some(stop) = stop {
                return stop;
            }
            if entry == run.to {
                self.run += 1;
                self.entry = layout.runs.get(self.run).map_or(0, |run| run.from);
            }
        }
    }

    /// Follows one block from an entry to a limit, from an offset of the window on; gives entry and
    /// offset where it stopped, and why if not at the limit.
    #[inline(always)]
    fn follow_block(
        &mut self,
        (mut entry, limit, mut at): (u32, u32, usize),
        window: &[u8],
        last: bool,
        mut find: impl FnMut(u32, &[u8]) -> Found,
    ) -> (u32, usize, Option<Stop>) {
        while entry < limit {
            let rest = &window[at..];
            let len = match find(entry, rest) {
                Found::Prefix(len) => len,
                Found::NeedMore => return (entry, at, Some(Stop::NeedMore)),
                Found::Differs => return (entry, at, Some(Stop::Differs)),
            };
            let after = &rest[len..];
            if let Some((value, used)) = parse::plain_value(after) {
                self.scratch.values.push(value);
                at += len + used;
            } else {
                match parse::value_line(self.dialect, after, last) {
                    Ok(Some(line)) => {
                        self.scratch.note(line.timestamp_ms, line.exemplar);
                        self.scratch.values.push(line.value);
                        at += len + line.len;
                    }
                    Ok(None) => return (entry, at, Some(Stop::NeedMore)),
                    // The parser says what is wrong here, if anything is.
                    Err(_) => return (entry, at, Some(Stop::Differs)),
                }
            }
            entry += 1;
        }
        (entry, at, None)
    }

    /// Goes to the next expected entry with which `rest` begins, if it is near.
    fn look_ahead(&mut self, layout: &Layout, rest: &[u8]) -> bool {
        let (mut run, mut entry) = (self.run, self.entry);
        for _ in 0..LOOK_AHEAD {
            let Some(text) = layout.runs.get(run) else {
                return false;
            };
            entry += 1;
            if entry >= text.to {
                run += 1;
                let Some(next) = layout.runs.get(run) else {
                    return false;
                };
                entry = next.from;
            }
            let block = &layout.runs[run].block;
            if block.begins(entry, rest, &self.hasher) {
                let raw = layout.raw(run, entry);
                if self.scratch.used.contains(raw) {
                    continue;
                }
                self.jump(layout, raw);
                return true;
            }
        }
        false
    }

    /// Takes a parsed piece: a known entry in another place, or a new one.
    fn take(&mut self, expect: Option<&Layout>, piece: &Piece<'_>) -> Result<(), ParseError> {
        if piece.prefix.len() > PREFIX_BYTES_MAX {
            return Err(ParseError {
                offset: 0,
                reason: format!(
                    "comments and series of one sample exceed {PREFIX_BYTES_MAX} bytes"
                ),
                near: String::new(),
            });
        }
        let hash = prefix_hash(&self.hasher, piece.prefix);
        let at = self.scratch.values.len() as u32;
        let known = expect.and_then(|layout| {
            self.find(layout, hash, piece.prefix)
                .map(|raw| (layout, raw))
        });
        match known {
            Some((layout, raw)) => {
                self.jump(layout, raw);
                self.step(layout);
            }
            None => {
                let scratch = &mut self.scratch;
                let new = scratch.fresh.len();
                scratch.fresh.push(self.dialect, piece, hash);
                match scratch.segments.last_mut() {
                    Some(Segment {
                        len,
                        source: Source::New(_),
                        ..
                    }) => *len += 1,
                    _ => scratch.segments.push(Segment {
                        at,
                        len: 1,
                        source: Source::New(new),
                    }),
                }
            }
        }
        self.parsed += 1;
        self.scratch
            .note(piece.timestamp_ms, piece.exemplar.clone());
        self.scratch.values.push(piece.value);
        Ok(())
    }

    fn find(&mut self, layout: &Layout, hash: u64, prefix: &[u8]) -> Option<u32> {
        if layout.len() == 0 {
            return None;
        }
        let scratch = &mut self.scratch;
        if !scratch.index.is_built() {
            scratch.index.build(layout);
        }
        let used = &scratch.used;
        scratch.index.find(hash as u32, |raw| {
            !used.contains(raw) && layout.is_prefix(raw, hash, prefix)
        })
    }

    /// Expects `raw` next. The open segment must be closed.
    fn jump(&mut self, layout: &Layout, raw: u32) {
        self.jumped |= raw < self.open;
        (self.run, self.entry) = layout.locate(raw);
        self.open = raw;
    }

    /// Expects the entry after the expected one.
    fn step(&mut self, layout: &Layout) {
        self.entry += 1;
        if self.entry == layout.runs[self.run].to {
            self.run += 1;
            self.entry = layout.runs.get(self.run).map_or(0, |run| run.from);
        }
    }

    /// Ends the open segment before raw index `raw` of the layout.
    fn close_at(&mut self, raw: u32) {
        if raw > self.open {
            let len = raw - self.open;
            let at = self.scratch.values.len() as u32 - len;
            self.scratch.used.insert(self.open, raw);
            match self.scratch.segments.last_mut() {
                Some(Segment {
                    len: have,
                    source: Source::Old(from),
                    ..
                }) if *from + *have == self.open => {
                    *have += len;
                }
                _ => self.scratch.segments.push(Segment {
                    at,
                    len,
                    source: Source::Old(self.open),
                }),
            }
        }
        self.open = raw;
    }

    /// Ends the open segment. Afterwards `scratch.segments` tells of all values.
    pub(crate) fn close(&mut self) {
        if let Some(layout) = self.expect.take() {
            self.close_at(layout.raw(self.run, self.entry));
            self.expect = Some(layout);
        }
    }

    /// Counts the lines before `rest`, which are known from the text of the samples read.
    fn locate(&mut self, rest: &[u8], error: ParseError) -> BodyError {
        self.close();
        let newlines = |bytes: &[u8]| memchr::memchr_iter(b'\n', bytes).count() as u64;
        let mut line = 1;
        let mut prefix = Vec::new();
        for segment in &self.scratch.segments {
            for offset in 0..segment.len {
                line += 1;
                match (segment.source, &self.expect) {
                    (Source::Old(from), Some(layout)) => {
                        prefix.clear();
                        layout.push_prefix(from + offset, &mut prefix);
                        line += newlines(&prefix);
                    }
                    (Source::Old(_), None) => {}
                    (Source::New(from), _) => {
                        line += newlines(self.scratch.fresh.prefix(from + offset));
                    }
                }
            }
        }
        let before = &rest[..error.offset.min(rest.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        BodyError {
            line: line + newlines(before),
            column: (before.len() - line_start) as u64 + 1,
            reason: error.reason,
            near: error.near,
        }
    }
}
