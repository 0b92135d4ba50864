//! Segments and a cursor -> how much an endpoint has not acknowledged, and how fast that shrinks.
//!
//! Estimates: segments say how many samples they hold, not where, and not for which endpoints.

use ringscrape_wal::scrape::Position;
use ringscrape_wal::segments::SegmentInfo;
use std::collections::VecDeque;

/// How far back readings count, in milliseconds.
const WINDOW_MS: u64 = 30_000;
/// Distance of readings, in milliseconds.
const STEP_MS: u64 = 1_000;

/// An endpoint that lags less than that is not behind, in milliseconds.
const LAG_MS_FINE: u64 = 10_000;

/// What of a log lies before an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// Bytes of the log, those of definitions and of other endpoints' records included.
    pub bytes: u64,
    /// Samples, those of other endpoints' records included.
    pub samples: u64,
}

/// What lies at or after `low_water`.
pub fn left<'a>(segments: impl Iterator<Item = &'a SegmentInfo>, low_water: Position) -> Left {
    let mut left = Left::default();
    for info in segments {
        let end = u64::from(info.data_end);
        let begin = match info.segment.cmp(&low_water.segment) {
            std::cmp::Ordering::Less => end,
            std::cmp::Ordering::Equal => u64::from(low_water.offset).min(end),
            std::cmp::Ordering::Greater => 0,
        };
        // Of a segment that was made smaller, places say more than there is.
        let stored = u64::from(info.bytes).min(end);
        left.bytes += (end - begin) * stored / end.max(1);
        let samples = u128::from(info.samples) * u128::from(end - begin) / u128::from(end.max(1));
        left.samples += samples as u64;
    }
    left
}

/// How what is left changes.
#[derive(Debug, Default)]
pub struct Progress {
    /// Time and samples left, oldest first, a second or more apart.
    readings: VecDeque<(u64, u64)>,
}

impl Progress {
    /// Whether it is time for a reading.
    pub fn is_due(&self, now_ms: u64) -> bool {
        let last = self.readings.back();
        last.is_none_or(|(last_ms, _)| now_ms >= last_ms + STEP_MS)
    }

    /// Takes a reading.
    pub fn read(&mut self, now_ms: u64, samples_left: u64) {
        while self.readings.len() > 1 && self.readings[1].0 + WINDOW_MS <= now_ms {
            self.readings.pop_front();
        }
        self.readings.push_back((now_ms, samples_left));
    }

    /// How many samples fewer are left each second, over the last half minute; below 0 while they
    /// become more, 0 while that is not known.
    pub fn samples_fewer_per_s(&self) -> f64 {
        let (Some((from_ms, from)), Some((to_ms, to))) =
            (self.readings.front(), self.readings.back())
        else {
            return 0.0;
        };
        match to_ms - from_ms {
            0 => 0.0,
            time_ms => (*from as f64 - *to as f64) * 1e3 / time_ms as f64,
        }
    }
}

/// Seconds until nothing is left, at this speed; `None`: it does not become less. An endpoint that
/// lags no longer than a batch may wait has what it is to have.
pub fn seconds_left(lag_ms: u64, samples_left: u64, samples_fewer_per_s: f64) -> Option<f64> {
    match samples_left {
        0 => Some(0.0),
        _ if lag_ms < LAG_MS_FINE => Some(0.0),
        _ if samples_fewer_per_s > 0.0 => Some(samples_left as f64 / samples_fewer_per_s),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(segment: u64, data_end: u32, samples: u64) -> SegmentInfo {
        SegmentInfo {
            segment,
            bytes: data_end + 100,
            data_end,
            written: data_end,
            open: false,
            settled: true,
            records: 1,
            samples,
            timestamp_ms_max: 0,
            created_ms: 0,
        }
    }

    fn at(segment: u64, offset: u32) -> Position {
        Position { segment, offset }
    }

    #[test]
    fn what_is_left_begins_at_the_cursor() {
        let segments = [segment(3, 1_000, 50), segment(4, 2_000, 80)];
        let left = |low_water| {
            let left = left(segments.iter(), low_water);
            (left.bytes, left.samples)
        };
        assert_eq!(left(at(1, 7)), (3_000, 130));
        assert_eq!(left(at(3, 500)), (2_500, 105));
        assert_eq!(left(at(3, 5_000)), (2_000, 80));
        assert_eq!(left(at(4, 1_500)), (500, 20));
        assert_eq!(left(at(5, 0)), (0, 0));
    }

    #[test]
    fn the_end_is_told_from_the_last_half_minute() {
        let mut progress = Progress::default();
        assert_eq!(progress.samples_fewer_per_s(), 0.0);
        // It grows for a minute, then it shrinks.
        for second in 0..60 {
            progress.read(second * 1_000, second * 100);
        }
        assert_eq!(
            seconds_left(60_000, 5_900, progress.samples_fewer_per_s()),
            None
        );
        for second in 60..100 {
            assert!(!progress.is_due(second * 1_000 - 1));
            assert!(progress.is_due(second * 1_000));
            progress.read(second * 1_000, 10_000 - (second - 60) * 50);
        }
        let fewer = progress.samples_fewer_per_s();
        assert_eq!(fewer, 50.0);
        assert_eq!(seconds_left(60_000, 8_050, fewer), Some(161.0));
        assert_eq!(seconds_left(60_000, 0, -1.0), Some(0.0));
        assert_eq!(seconds_left(9_000, 8_050, -1.0), Some(0.0));
    }

    proptest! {
        #[test]
        fn readings_do_not_pile_up(steps in prop::collection::vec(1_000_u64..9_000, 1..300)) {
            let mut progress = Progress::default();
            let mut now_ms = 0;
            for step in steps {
                now_ms += step;
                progress.read(now_ms, (1 << 40) - now_ms);
                prop_assert!(progress.readings.len() <= 32);
                let fewer_per_s = progress.samples_fewer_per_s();
                prop_assert!(progress.readings.len() < 2 || fewer_per_s == 1_000.0);
            }
        }
    }
}
