//! A body in windows -> the record of its scrape.

use super::change::{Change, Tracking};
use super::limits;
use super::outcome::{Outcome, Report, ScrapeError, Stats};
use super::protobuf::Reader;
use super::report::{Said, nothing_seen, push_automatic};
use super::rollback::{self, Partial};
use super::series_added;
use super::sides::sides;
use super::staleness;
use super::target_state::TargetState;
use super::timestamps::{self, Judged};
use crate::matcher::{Derivation, Layout, Matcher, Parts, Scratch, Segment, Source, Tables, kinds};
use crate::parse::Dialect;
use ringscrape_wal::scrape::Sides;
use std::rc::Rc;
use std::slice;

/// A layout is rebuilt when it has more runs than half its entries and this many.
const RUNS_SPARE: usize = 64;
/// A layout is rebuilt when its blocks have more than twice its entries and this many.
const ENTRIES_SPARE: usize = 2000;

/// One scrape's body on its way into a record.
#[derive(Debug)]
pub struct Walk {
    matcher: Matcher,
    /// Of a protobuf body.
    protobuf: Option<Box<Reader>>,
    error: Option<ScrapeError>,
}

impl Walk {
    /// Begins a scrape of `state`'s target. Until `finish` no other scrape of it may begin.
    pub fn begin(tables: &mut Tables, state: &TargetState, dialect: Dialect) -> Self {
        let hasher = tables.hasher().clone();
        let scratch = tables.take_scratch();
        let mut matcher = Matcher::new(scratch, hasher, state.layout.clone(), dialect);
        if state.layout.is_none() {
            matcher.guess(tables.recent());
        }
        let protobuf = (dialect == Dialect::Protobuf).then(|| Box::new(Reader::new(&state.rules)));
        Self {
            matcher,
            protobuf,
            error: None,
        }
    }

    /// As `begin`, but follows no layout: every line of text is parsed. For comparison.
    pub fn begin_unmatched(tables: &mut Tables, dialect: Dialect) -> Self {
        let hasher = tables.hasher().clone();
        let scratch = tables.take_scratch();
        Self {
            matcher: Matcher::new(scratch, hasher, None, dialect),
            protobuf: None,
            error: None,
        }
    }

    /// Reads samples from the start of `window` and returns how many bytes they take. The next
    /// window must begin with what is left, and bring at least as many bytes again unless it is
    /// the last. `last`: the body ends with `window`; an empty body is one empty last window.
    ///
    /// # Errors
    /// The body does not follow its grammar: the rest need not be fed. `finish` tells it again.
    pub fn feed(&mut self, window: &[u8], last: bool) -> Result<usize, ScrapeError> {
        if self.error.is_some() {
            return Ok(window.len());
        }
        if let Some(reader) = &mut self.protobuf {
            let fed = reader.walk(&mut self.matcher, window, last);
            self.error = fed.as_ref().err().cloned();
            return fed.map(|()| window.len());
        }
        self.matcher.feed(window, last).map_err(|error| {
            let error = ScrapeError::Parse {
                line: error.line,
                column: error.column,
                reason: error.reason,
                near: error.near,
            };
            self.error = Some(error.clone());
            error
        })
    }

    /// Makes the record, and remembers in `state` what the next scrape needs.
    pub fn finish(
        mut self,
        tables: &mut Tables,
        state: &mut TargetState,
        report: &Report,
    ) -> Outcome {
        if self.error.is_none() && !self.matcher.ended() {
            self.error = Some(ScrapeError::Incomplete);
        }
        self.matcher.close();
        if let Some(reader) = self.protobuf.take() {
            reader.give(&mut self.matcher.scratch);
        }
        if !state.rules.honor_timestamps {
            self.matcher.scratch.stamps.clear();
        }
        let outcome = if self.error.is_none() && self.matcher.consumed == 0 {
            let said = Said {
                up: true,
                ..Said::default()
            };
            nothing_seen(tables, state, report, &said, None)
        } else {
            match self.steady(tables, state) {
                Some(layout) => self.commit_steady(tables, state, &layout, report),
                None => self.finish_changed(tables, state, report),
            }
        };
        state.reported = true;
        tables.give_scratch(self.matcher.scratch);
        outcome
    }

    /// The target's layout, if the body followed it and nothing else is to be looked at.
    fn steady(&self, tables: &mut Tables, state: &mut TargetState) -> Option<Rc<Layout>> {
        let derivation = state.derivation(tables);
        let layout = state.layout.as_ref()?;
        let whole = Segment {
            at: 0,
            len: layout.len(),
            source: Source::Old(0),
        };
        let limit = state.rules.sample_limit;
        let steady = self.error.is_none()
            && *self.matcher.scratch.segments == [whole]
            && self.matcher.scratch.stamps.is_empty()
            && limits::has_no_fault(&self.matcher.scratch.histograms)
            && layout.stamped.is_empty()
            && layout.derivation.id == derivation.id
            && state.is_plain()
            && state.oversized.is_empty()
            && (limit == 0 || u64::from(layout.counted()) <= limit);
        steady.then(|| layout.clone())
    }

    /// The layout of a new target whose body is that of another one, if nothing speaks against it.
    fn guessed(
        &self,
        tables: &mut Tables,
        state: &TargetState,
        derivation: &Rc<Derivation>,
    ) -> Option<Rc<Layout>> {
        let matcher = &self.matcher;
        let scratch = &matcher.scratch;
        let like = matcher.expect.as_ref().filter(|_| matcher.guessed)?;
        let whole = Segment {
            at: 0,
            len: like.len(),
            source: Source::Old(0),
        };
        let follows = self.error.is_none()
            && *scratch.segments == [whole]
            && scratch.stamps.is_empty()
            && limits::has_no_fault(&scratch.histograms)
            && state.oversized.is_empty();
        if !follows {
            return None;
        }
        let dialect = matcher.dialect();
        let runs = tables.runs(derivation, dialect, Some(like), &[whole], &scratch.fresh);
        if limits::first_failing(&runs, state).is_some() {
            return None;
        }
        let parts = Parts {
            dialect,
            runs,
            stamped: Vec::new(),
            tail: Some(&scratch.tail),
            target: &state.target,
            fresh: None,
        };
        let layout = tables.layout(derivation, parts);
        let limit = state.rules.sample_limit;
        (limit == 0 || u64::from(layout.counted()) <= limit).then_some(layout)
    }

    fn stats(&self) -> Stats {
        Stats {
            matched: self.matcher.matched,
            parsed: self.matcher.parsed,
            ..Stats::default()
        }
    }

    fn commit_steady(
        &self,
        tables: &Tables,
        state: &mut TargetState,
        layout: &Rc<Layout>,
        report: &Report,
    ) -> Outcome {
        let mut stats = self.stats();
        state.written_ms = report.timestamp_ms;
        let scratch = &self.matcher.scratch;
        let judged = Judged::default();
        let sides = sides(layout, scratch, state, tables, &judged, report, &mut stats);
        success(tables, state, layout, scratch, sides, report, stats)
    }

    fn finish_changed(
        &mut self,
        tables: &mut Tables,
        state: &mut TargetState,
        report: &Report,
    ) -> Outcome {
        let derivation = state.derivation(tables);
        if let Some(layout) = self.guessed(tables, state, &derivation) {
            let all = Segment {
                at: 0,
                len: layout.len(),
                source: Source::New(0),
            };
            let target = state.target.clone();
            let change = Change::new(
                None,
                &layout,
                slice::from_ref(&all),
                &target,
                tables.hasher(),
            );
            let (scratch, stats) = (&self.matcher.scratch, self.stats());
            return commit(tables, state, &change, &layout, scratch, report, stats);
        }
        self.matcher.forget_guess();
        let old = state.layout.clone();
        let dialect = self.matcher.dialect();
        let followed = self.matcher.expect.clone();
        let scratch = &mut self.matcher.scratch;
        let mut segments = kinds::resolve(
            followed.as_deref(),
            !state.patched,
            &scratch.segments,
            &mut scratch.fresh,
        );
        let runs = tables.runs(
            &derivation,
            dialect,
            old.as_deref(),
            &segments,
            &scratch.fresh,
        );
        let mut seen = scratch.values.len() as u32;
        let mut scraped = seen;
        let mut error = self.error.take();
        let failing = [
            limits::first_failing(&runs, state),
            limits::first_invalid(&runs, &scratch.histograms),
        ];
        let first = failing.into_iter().flatten().min_by_key(|(raw, _)| *raw);
        if let Some((raw, reason)) = first {
            // It stands before the place where the grammar failed.
            error = Some(reason);
            seen = raw;
            scraped = raw + 1;
            truncate(&mut segments, seen);
        }
        let stats = self.stats();
        let scratch = &self.matcher.scratch;
        let partial = |segments, error| Partial {
            segments,
            dialect,
            seen,
            scraped,
            error,
            stats,
        };
        if let Some(error) = error {
            let partial = partial(segments, error);
            return rollback::roll_back(tables, state, &derivation, scratch, partial, report);
        }
        let parts = Parts {
            dialect,
            runs: if is_fragmented(&runs, seen) {
                tables.rebuilt(&derivation, dialect, &runs)
            } else {
                runs
            },
            stamped: scratch.stamps.iter().map(|&(raw, _)| raw).collect(),
            tail: Some(&scratch.tail),
            target: &state.target,
            fresh: known_apart(old.as_deref(), &derivation, &segments),
        };
        let layout = tables.layout(&derivation, parts);
        let limit = state.rules.sample_limit;
        if limit > 0 && u64::from(layout.counted()) > limit {
            let error = ScrapeError::SampleLimit {
                samples: layout.counted(),
                limit,
            };
            let partial = partial(segments, error);
            return rollback::roll_back(tables, state, &derivation, scratch, partial, report);
        }
        if limits::has_too_many_buckets(&layout, &scratch.histograms) {
            let limit = state.rules.native_histogram_bucket_limit;
            let partial = partial(segments, ScrapeError::BucketLimit { limit });
            return rollback::roll_back(tables, state, &derivation, scratch, partial, report);
        }
        let target = state.target.clone();
        let change = Change::new(old.as_deref(), &layout, &segments, &target, tables.hasher());
        commit(tables, state, &change, &layout, scratch, report, stats)
    }
}

/// A scrape that succeeded with another layout than the one before, or after a failure.
fn commit(
    tables: &Tables,
    state: &mut TargetState,
    change: &Change<'_>,
    layout: &Rc<Layout>,
    scratch: &Scratch,
    report: &Report,
    mut stats: Stats,
) -> Outcome {
    let len = layout.len();
    let mut judged = timestamps::judge(change, state, &scratch.stamps, len, report);
    let added = series_added::count(change, state, len, len, &judged.rejected);
    let track_stamped = state.rules.track_timestamps_staleness;
    let before = change.old.map(|old| Tracking {
        layout: old,
        to: state.tracked_to,
        except: &state.untracked,
        stamped: state.tracked_stamped,
    });
    let now = Tracking {
        layout,
        to: len,
        except: &judged.rejected,
        stamped: track_stamped,
    };
    let stale = staleness::between(
        change,
        before.as_ref(),
        &state.restored,
        &now,
        &state.times,
        report.timestamp_ms,
    );
    stats.series_added = added.count;
    stats.stale_markers = stale.count;
    stats.out_of_order = judged.out_of_order;
    stats.out_of_bounds = judged.out_of_bounds;
    let mut times = std::mem::take(&mut judged.times);
    if !layout.stamped.is_empty() || !times.is_empty() {
        // A series that goes on with timestamps of its own got its marker at the scrape's time.
        let canonical = |&raw: &u32| change.old.map(|old| (old.canonical(raw), ()));
        for series in change
            .carry(&stale.raw.iter().filter_map(canonical).collect())
            .into_keys()
        {
            let last_ms = times.entry(series).or_insert(report.timestamp_ms);
            *last_ms = report.timestamp_ms.max(*last_ms);
        }
    }
    state.exemplars = change.carry(&state.exemplars);
    let sides = sides(layout, scratch, state, tables, &judged, report, &mut stats);

    if state.layout.is_none() && len > 0 {
        tables.note_recent(layout);
    }
    state.layout = Some(layout.clone());
    state.tracked_to = len;
    state.tracked_stamped = track_stamped;
    state.untracked = judged.rejected;
    state.uncached = added.uncached;
    state.patched = false;
    state.restored.clear();
    state.taken_over.clear();
    state.times = times;
    state.written_ms = report.timestamp_ms;
    state.written_each_ms = None;
    state.successful_len = len;
    let mut outcome = success(tables, state, layout, scratch, sides, report, stats);
    outcome.stale = stale.runs.into();
    outcome
}

/// The record of a successful scrape, without markers.
fn success(
    tables: &Tables,
    state: &TargetState,
    layout: &Layout,
    scratch: &Scratch,
    sides: Option<Box<Sides>>,
    report: &Report,
    mut stats: Stats,
) -> Outcome {
    let logged = layout.logged();
    let mut values = tables.values(logged.layout.len);
    for &(from, to) in &logged.ranges {
        values.extend_from_slice(&scratch.values[from as usize..to as usize]);
    }
    let duplicates = layout.collisions.same.iter().filter(|same| same.duplicate);
    stats.duplicates = duplicates.count() as u32;
    stats.samples_scraped = layout.len();
    stats.samples_post_relabel = layout.kept;
    let said = Said {
        up: true,
        scraped: stats.samples_scraped,
        post_relabel: stats.samples_post_relabel,
        added: stats.series_added,
        body_bytes: report.body_bytes as f64,
    };
    push_automatic(&mut values, state, report, &said);
    Outcome {
        timestamp_ms: report.timestamp_ms,
        layout: logged.layout.clone(),
        values,
        stale: Box::default(),
        sides,
        error: None,
        stats,
    }
}

/// The entries outside of which nothing can collide, if that is known from the layout before.
pub(super) fn known_apart(
    old: Option<&Layout>,
    derivation: &Derivation,
    segments: &[Segment],
) -> Option<Vec<(u32, u32)>> {
    let old = old?;
    let apart = old.derivation.id == derivation.id
        && old.collisions.shared
        && old.collisions.same.is_empty();
    let new = segments
        .iter()
        .filter(|segment| matches!(segment.source, Source::New(_)));
    apart.then(|| {
        new.map(|segment| (segment.at, segment.at + segment.len))
            .collect()
    })
}

/// Leaves the segments of the first `len` entries.
fn truncate(segments: &mut Vec<Segment>, len: u32) {
    segments.retain(|segment| segment.at < len);
    if let Some(last) = segments.last_mut() {
        last.len = last.len.min(len - last.at);
    }
}

/// Whether a layout is cut into so many pieces, or holds on to so much unused text, that it is
/// better made anew.
fn is_fragmented(runs: &[crate::matcher::TextRun], len: u32) -> bool {
    if runs.len() > RUNS_SPARE + len as usize / 2 {
        return true;
    }
    let mut blocks: Vec<_> = runs
        .iter()
        .map(|run| (run.block.id, run.block.len()))
        .collect();
    blocks.sort_unstable();
    blocks.dedup();
    let held: usize = blocks.iter().map(|&(_, len)| len as usize).sum();
    held > ENTRIES_SPARE + 2 * len as usize
}
