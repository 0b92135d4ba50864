//! The value of a sample -> whether it is right, and which response of its target it belongs to.

use super::decode::{Sample, TimeSeries};
use super::labels::Class;
use super::report::LostScrapes;
use super::table::Series;
use super::targets::Target;
use super::verify::{CHANGING, PLACED, Verifier};
use crate::scheme::{CYCLE_MAX, Check, law, read_responses_value};

const LOST_MAX: usize = 10_000;

impl Verifier {
    pub(super) fn up(&mut self, target: u32, value: f64, at: u32) {
        let target = self.targets.get_mut(target);
        if value == 1.0 {
            target.ups += 1;
        } else {
            Target::add(&mut target.failures, at);
        }
    }

    pub(super) fn responses(
        &mut self,
        state: &Series,
        value: f64,
        at: u32,
        series: &TimeSeries<'_>,
    ) {
        let before_ms = self.ms(state.last);
        let at_ms = self.ms(at);
        let target = self.targets.get_mut(state.target);
        let read = read_responses_value(value).filter(|read| Some(read.target) == target.number);
        let Some(read) = read else {
            self.findings.wrong_values += 1;
            return self.defect(
                "wrong values",
                series,
                before_ms,
                at_ms,
                "not this target's count",
            );
        };
        self.totals.inexact += u64::from(!read.exact);
        let n = read.n;
        Target::add(&mut target.scrapes, at);
        let last = target.last_n;
        target.last_n = n.max(last);
        if last == 0 {
            target.first_n = n;
        } else if n == last {
            self.findings.repeated += 1;
            self.defect(
                "repeated values",
                series,
                before_ms,
                at_ms,
                "the same response again",
            );
        } else if n < last {
            self.findings.swapped += 1;
            self.defect(
                "swapped values",
                series,
                before_ms,
                at_ms,
                "an older response",
            );
        } else if n > last + 1 {
            self.findings.lost_scrapes += n - last - 1;
            let lost = LostScrapes {
                instance: target.instance.clone(),
                from_n: last + 1,
                to_n: n - 1,
                before_ms,
                after_ms: at_ms,
            };
            if self.lost.len() < LOST_MAX {
                self.lost.push(lost);
            }
            self.defect(
                "lost scrapes",
                series,
                before_ms,
                at_ms,
                "responses are missing",
            );
        }
    }

    pub(super) fn length(&mut self, value: f64, sample: Sample, series: &TimeSeries<'_>) {
        let whole = value.fract() == 0.0 && (1.0..=f64::from(CYCLE_MAX)).contains(&value);
        if whole && (self.cycle == 0 || f64::from(self.cycle) == value) {
            self.cycle = value as u32;
        } else {
            self.findings.wrong_values += 1;
            self.defect(
                "wrong values",
                series,
                0,
                sample.timestamp_ms,
                "another cycle length",
            );
        }
    }

    /// Verifies a value of the scheme and remembers its place; `placed` says that the place before
    /// is known and the series has not been away since.
    pub(super) fn value(
        &mut self,
        next: &mut Series,
        class: Class,
        value: f64,
        placed: bool,
        at: u32,
        series: &TimeSeries<'_>,
    ) {
        let shape = class
            .shape()
            .expect("BUG: called for classes of the scheme only");
        let (before_ms, at_ms) = (self.ms(next.last), self.ms(at));
        let place = match law(shape, next.identity).check(value) {
            Check::Right(place) => place,
            Check::Inexact(place) => {
                self.totals.inexact += 1;
                place
            }
            Check::Wrong => {
                self.findings.wrong_values += 1;
                let detail = format!("{value:?} is no value of this series");
                return self.defect("wrong values", series, before_ms, at_ms, &detail);
            }
        };
        let Some(place) = place else { return };
        let last = u32::from(next.place);
        next.place = place as u8;
        next.flags |= PLACED | CHANGING;
        if !placed {
            return;
        }
        // Before the cycle's length is known a step back can only be its end.
        let step = if self.cycle == 0 {
            if place > last { place - last } else { 1 }
        } else {
            (place + self.cycle - last % self.cycle) % self.cycle
        };
        if step == 1 || self.cycle == 1 {
            return;
        }
        let kind = if step == 0 {
            self.findings.repeated += 1;
            "repeated values"
        } else if self.cycle > 0 && step > self.cycle / 2 {
            self.findings.swapped += 1;
            "swapped values"
        } else {
            self.findings.gaps += u64::from(step - 1);
            "gaps"
        };
        let detail = format!("place {place} after {last} of {}", self.cycle);
        self.defect(kind, series, before_ms, at_ms, &detail);
    }
}
