//! Decoded time series in the order of arrival -> what is wrong with them.
//!
//! **Upstream** `decode`; **downstream** the report. Pure: no clock, no sockets; the caller says
//! when.
//!
//! Most is found on arrival, from the series' own state. What needs the whole target (a sample that
//! a
//! constant series misses, a marker that nothing explains) is found by [`Verifier::sweep`], because
//! requests of one scrape may arrive in any order.

use std::collections::HashMap;

use hdrhistogram::Histogram;

use super::decode::{DecodeError, Extras, KeyKind, Sample, SymbolTable, TimeSeries, WriteRequest};
use super::labels::{self, Class};
use super::report::{Defect, Findings, LostScrapes};
use super::sweep;
use super::table::{Series, Table};
use super::targets::{Target, Targets};
use crate::scheme::{Check, STALE_NAN, identity, law, read_responses_value};

/// The series has ended with a marker.
pub(super) const ENDED: u8 = 1;
/// `Series::place` is valid.
pub(super) const PLACED: u8 = 2;
/// Its value changes from response to response.
pub(super) const CHANGING: u8 = 4;

const DAY_MS: i64 = 86_400_000;

/// What the verifier is told about the load.
#[derive(Clone, Debug)]
pub struct Expectations {
    /// Interval of the scrapes in ms.
    pub scrape_interval_ms: u32,
    /// Labels that the scraper adds to every series of a target.
    pub target_labels: Vec<String>,
    /// Whether series of other origin than a fleet are no finding.
    pub allow_foreign: bool,
    /// How many findings to keep in detail.
    pub defects_max: usize,
}

/// Counters that are no findings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// All samples, markers included.
    pub samples: u64,
    /// Samples of automatic series, markers included.
    pub automatic: u64,
    /// Samples of fleet series, markers not included.
    pub fleet: u64,
    /// Staleness markers.
    pub markers: u64,
    /// Values off in the last bits.
    pub inexact: u64,
    /// Series whose labels were not sorted by name when they first came.
    pub unsorted: u64,
    /// What requests held beside samples.
    pub extras: Extras,
}

/// Verifies a stream of requests.
pub struct Verifier {
    pub(super) expect: Expectations,
    /// What the keys of the table are made of: set by the first request.
    keys: Option<KeyKind>,
    symbols: SymbolTable,
    /// Whether unsorted labels are a finding.
    pub order_matters: bool,
    pub(super) table: Table,
    pub(super) targets: Targets,
    /// Timestamps are kept as ms above this; set by the first sample.
    pub(super) base_ms: Option<i64>,
    /// Length of the cycle; 0 until its series has come.
    pub(super) cycle: u32,
    /// Returns after a marker that nothing explained yet: (target, last, return) -> series.
    pub(super) suspects: HashMap<(u32, u32, u32), u64>,
    /// Findings on arrival.
    pub(super) findings: Findings,
    pub(super) totals: Totals,
    pub(super) defects: Vec<Defect>,
    pub(super) lost: Vec<LostScrapes>,
    pub(super) lag_ms: Histogram<u64>,
    /// Since the last [`Verifier::take_window`].
    pub(super) window_lag_ms: Histogram<u64>,
}

impl Verifier {
    /// A verifier that has seen nothing.
    pub fn new(expect: Expectations) -> Verifier {
        let lag_ms =
            Histogram::new_with_bounds(1, 86_400_000, 3).expect("BUG: the bounds are right");
        Verifier {
            expect,
            keys: None,
            symbols: SymbolTable::default(),
            order_matters: true,
            table: Table::new(),
            targets: Targets::default(),
            base_ms: None,
            cycle: 0,
            suspects: HashMap::new(),
            findings: Findings::default(),
            totals: Totals::default(),
            defects: Vec::new(),
            lost: Vec::new(),
            window_lag_ms: lag_ms.clone(),
            lag_ms,
        }
    }

    /// Takes one uncompressed 1.0 request that arrived at `now_ms`.
    ///
    /// # Errors
    /// What is wrong with the bytes; the series before it have been taken.
    pub fn request(&mut self, bytes: &[u8], now_ms: i64) -> Result<(), DecodeError> {
        self.keys.get_or_insert(KeyKind::Fields);
        let result = self.all_series(WriteRequest::new(bytes), now_ms);
        self.judged(result)
    }

    /// Takes one uncompressed 2.0 request that arrived at `now_ms`.
    ///
    /// # Errors
    /// As [`Verifier::request`].
    pub fn request_v2(&mut self, bytes: &[u8], now_ms: i64) -> Result<(), DecodeError> {
        self.keys.get_or_insert(KeyKind::Symbols);
        let mut symbols = std::mem::take(&mut self.symbols);
        let result = WriteRequest::new_v2(bytes, &mut symbols)
            .and_then(|request| self.all_series(request, now_ms));
        self.symbols = symbols;
        self.judged(result)
    }

    fn judged(&mut self, result: Result<(), DecodeError>) -> Result<(), DecodeError> {
        self.findings.bad_requests += u64::from(result.is_err());
        result
    }

    /// Counts a request that could not even be decompressed.
    pub(super) fn refuse(&mut self) {
        self.findings.bad_requests += 1;
    }

    fn all_series(
        &mut self,
        mut request: WriteRequest<'_>,
        now_ms: i64,
    ) -> Result<(), DecodeError> {
        // Runs of equal timestamps are recorded at once.
        let mut run: (i64, u64) = (0, 0);
        let result = self.each_series(&mut request, now_ms, &mut run);
        self.record_lag(now_ms, run);
        self.totals.extras.metadata += request.extras.metadata;
        self.totals.extras.exemplars += request.extras.exemplars;
        self.totals.extras.histograms += request.extras.histograms;
        result
    }

    fn each_series(
        &mut self,
        request: &mut WriteRequest<'_>,
        now_ms: i64,
        run: &mut (i64, u64),
    ) -> Result<(), DecodeError> {
        let keys = self.keys.unwrap_or(KeyKind::Fields);
        while let Some(series) = request.next_series()? {
            let key = series.key(keys)?;
            let index = match self.table.find(key) {
                Some(index) => index,
                None => self.first_sight(key, &series)?,
            };
            request.samples(&series, |sample| {
                if sample.timestamp_ms != run.0 {
                    self.record_lag(now_ms, *run);
                    *run = (sample.timestamp_ms, 0);
                }
                run.1 += 1;
                self.sample(index, sample, &series);
            })?;
        }
        Ok(())
    }

    fn record_lag(&mut self, now_ms: i64, (timestamp_ms, count): (i64, u64)) {
        if count > 0 {
            let lag = now_ms.saturating_sub(timestamp_ms).clamp(1, DAY_MS) as u64;
            self.lag_ms.saturating_record_n(lag, count);
            self.window_lag_ms.saturating_record_n(lag, count);
        }
    }

    fn first_sight(&mut self, key: u64, series: &TimeSeries<'_>) -> Result<usize, DecodeError> {
        let pairs = series.label_pairs()?;
        let judged = labels::judge(&pairs, &self.expect.target_labels);
        self.totals.unsorted += u64::from(judged.unsorted);
        let unsorted = (judged.unsorted && self.order_matters).then_some("labels are not sorted");
        if let Some(problem) = judged.problem.or(unsorted) {
            self.findings.wrong_labels += 1;
            self.defect("wrong labels", series, 0, 0, problem);
        }
        if judged.class == Class::Foreign && !self.expect.allow_foreign {
            self.findings.foreign_series += 1;
            self.defect(
                "foreign series",
                series,
                0,
                0,
                "no target of a fleet has this instance",
            );
        }
        Ok(self.table.insert(Series {
            key,
            identity: identity(judged.label_hash_sum),
            target: self.targets.index(&judged.instance),
            class: judged.class as u8,
            ..Series::default()
        }))
    }

    fn offset(&mut self, timestamp_ms: i64) -> Option<u32> {
        let base = *self
            .base_ms
            .get_or_insert(timestamp_ms.saturating_sub(DAY_MS));
        u32::try_from(timestamp_ms.checked_sub(base)?)
            .ok()
            .filter(|at| *at > 0)
    }

    fn sample(&mut self, index: usize, sample: Sample, series: &TimeSeries<'_>) {
        self.totals.samples += 1;
        let Some(at) = self.offset(sample.timestamp_ms) else {
            self.findings.wrong_timestamps += 1;
            self.defect(
                "wrong timestamps",
                series,
                0,
                sample.timestamp_ms,
                "out of range",
            );
            return;
        };
        let state = *self.table.get(index);
        let class = Class::ALL[state.class as usize];
        let automatic = matches!(class, Class::Up | Class::Automatic);
        self.totals.automatic += u64::from(automatic);
        let marker = sample.bits == STALE_NAN;
        let newest = if state.flags & ENDED != 0 {
            state.marked
        } else {
            state.last
        };
        if newest != 0 && at <= newest {
            return self.not_newer(&state, class, sample, at, newest, series);
        }
        if marker {
            self.totals.markers += 1;
            let state = self.table.get_mut(index);
            state.flags |= ENDED;
            state.marked = at;
            return;
        }
        self.totals.fleet += u64::from(!automatic && class != Class::Foreign);
        let value = f64::from_bits(sample.bits);
        let mut next = state;
        let returned = state.flags & ENDED != 0;
        if returned && state.last != 0 {
            self.returned(&state, class, at);
        } else if state.last != 0 && class.shape().is_some() {
            self.went_on(&state, at, series);
        }
        match class {
            Class::Up => self.up(state.target, value, at),
            Class::Automatic | Class::Foreign => {}
            Class::Responses => self.responses(&state, value, at, series),
            Class::Cycle => self.length(value, sample, series),
            Class::Count | Class::Machine | Class::Object | Class::Busy => {
                next.flags &= !PLACED;
                let placed = state.flags & PLACED != 0 && !returned;
                self.value(&mut next, class, value, placed, at, series);
            }
        }
        if returned || state.last == 0 {
            next.first = at;
            next.samples = 0;
        }
        next.samples = next.samples.saturating_add(1);
        next.last = at;
        next.flags &= !ENDED;
        *self.table.get_mut(index) = next;
    }

    /// A sample that is not newer than the newest of its series.
    fn not_newer(
        &mut self,
        state: &Series,
        class: Class,
        sample: Sample,
        at: u32,
        newest: u32,
        series: &TimeSeries<'_>,
    ) {
        let before = self.ms(newest);
        if at < newest {
            self.findings.out_of_order += 1;
            self.defect(
                "out of order",
                series,
                before,
                sample.timestamp_ms,
                "time goes back",
            );
            return;
        }
        let ended = state.flags & ENDED != 0;
        let marker = sample.bits == STALE_NAN;
        let same = if ended || marker {
            ended && marker
        } else {
            match class.shape() {
                Some(shape) => {
                    match law(shape, state.identity).check(f64::from_bits(sample.bits)) {
                        Check::Right(Some(place)) => {
                            state.flags & PLACED != 0 && place == u32::from(state.place)
                        }
                        Check::Right(None) => true,
                        _ => false,
                    }
                }
                None => {
                    class != Class::Responses
                        || read_responses_value(f64::from_bits(sample.bits)).is_some_and(|read| {
                            read.exact && read.n == self.targets.get(state.target).last_n
                        })
                }
            }
        };
        let (kind, count) = if same {
            (
                "identical duplicates",
                &mut self.findings.duplicates_identical,
            )
        } else {
            (
                "different duplicates",
                &mut self.findings.duplicates_different,
            )
        };
        *count += 1;
        self.defect(
            kind,
            series,
            before,
            sample.timestamp_ms,
            "the same time again",
        );
    }

    /// A series came back after its marker.
    fn returned(&mut self, state: &Series, class: Class, at: u32) {
        if class.shape().is_none() {
            return;
        }
        self.findings.gaps += sweep::shortfall(state, self.targets.get(state.target));
        let target = self.targets.get(state.target);
        let long = at - state.last > self.expect.scrape_interval_ms / 2 * 3;
        if !long && !target.explains_absence(state.last, at) {
            *self
                .suspects
                .entry((state.target, state.last, at))
                .or_default() += 1;
        }
    }

    /// A series went on without a marker: right unless a scrape failed in between.
    fn went_on(&mut self, state: &Series, at: u32, series: &TimeSeries<'_>) {
        let failures = &self.targets.get(state.target).failures;
        if failures.last().is_some_and(|last| *last > state.last)
            && Target::between(failures, state.last, at) > 0
        {
            self.findings.missing_markers += 1;
            let (before, at) = (self.ms(state.last), self.ms(at));
            self.defect(
                "missing markers",
                series,
                before,
                at,
                "went on over a failed scrape",
            );
        }
    }

    pub(super) fn ms(&self, at: u32) -> i64 {
        match self.base_ms {
            Some(base) if at > 0 => base + i64::from(at),
            _ => 0,
        }
    }

    pub(super) fn defect(
        &mut self,
        kind: &str,
        series: &TimeSeries<'_>,
        before_ms: i64,
        at_ms: i64,
        detail: &str,
    ) {
        if self.defects.len() < self.expect.defects_max {
            self.defects.push(Defect {
                kind: kind.to_owned(),
                series: labels::text(&series.label_pairs().unwrap_or_default()),
                before_ms,
                at_ms,
                detail: detail.to_owned(),
            });
        }
    }
}
