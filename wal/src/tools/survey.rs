//! Records, one after the other -> samples by time and by target, and what each endpoint lacks.

use super::walk::RecordHead;
use crate::cursor::{Cursor, CursorSet};
use crate::scrape::Position;
use std::collections::BTreeMap;

/// Resolution of samples by time (milliseconds).
const SLOT_MS: i64 = 60_000;

/// Some records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub records: u64,
    /// Their values and staleness markers.
    pub samples: u64,
    /// Bytes of their frames; definitions and indexes are not in it.
    pub bytes: u64,
    /// Earliest time of a record, milliseconds since the Unix epoch; `i64::MAX` without records.
    pub oldest_ms: i64,
    /// Latest time of a record; `i64::MIN` without records.
    pub newest_ms: i64,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            records: 0,
            samples: 0,
            bytes: 0,
            oldest_ms: i64::MAX,
            newest_ms: i64::MIN,
        }
    }
}

impl Sum {
    /// Adds one record.
    pub fn record(&mut self, head: &RecordHead) {
        self.add(&Self {
            records: 1,
            samples: u64::from(head.samples),
            bytes: u64::from(head.bytes),
            oldest_ms: head.timestamp_ms,
            newest_ms: head.timestamp_ms,
        });
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.samples += other.samples;
        self.bytes += other.bytes;
        self.oldest_ms = self.oldest_ms.min(other.oldest_ms);
        self.newest_ms = self.newest_ms.max(other.newest_ms);
    }
}

/// One target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetSum {
    /// Its `job` label, or nothing.
    pub job: String,
    /// Its `instance` label, or nothing.
    pub instance: String,
    /// Its records.
    pub sum: Sum,
    /// Series in its newest record.
    pub series: u32,
}

/// One endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointSum {
    /// What it has not acknowledged yet, of all directories.
    pub unsent: Sum,
    /// The part of `unsent` that was put in a request before the cursors were saved: a crash makes
    /// it be sent again.
    pub sent_unacknowledged: Sum,
    /// Where it stands in each directory that has a cursor of it, by the directory's name.
    pub cursors: BTreeMap<String, Cursor>,
}

/// Totals of some directories.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// All records.
    pub all: Sum,
    /// By target, by its key.
    pub targets: BTreeMap<u64, TargetSum>,
    /// By endpoint, by its identity: those with a cursor and those that records are for.
    pub endpoints: BTreeMap<Box<str>, EndpointSum>,
    /// Samples by minute, by the minute's begin (milliseconds since the Unix epoch).
    minutes: BTreeMap<i64, u64>,
    dir: String,
}

impl Survey {
    /// The records added from now on are of the directory with this name, whose cursors are these.
    pub fn begin_dir(&mut self, name: &str, cursors: &CursorSet) {
        name.clone_into(&mut self.dir);
        for cursor in cursors.iter() {
            let endpoint = self.endpoints.entry(cursor.endpoint.clone()).or_default();
            endpoint.cursors.insert(self.dir.clone(), cursor.clone());
        }
    }

    /// Adds one record.
    pub fn record(&mut self, head: &RecordHead) {
        self.all.record(head);
        let minute = head
            .timestamp_ms
            .div_euclid(SLOT_MS)
            .saturating_mul(SLOT_MS);
        *self.minutes.entry(minute).or_default() += u64::from(head.samples);
        let target = self.targets.entry(head.target.key).or_default();
        if head.timestamp_ms >= target.sum.newest_ms {
            let label = |name: &str| {
                let found = head.target.labels.iter().find(|(have, _)| **have == *name);
                found.map_or_else(String::new, |(_, value)| value.to_string())
            };
            target.job = label("job");
            target.instance = label("instance");
            target.series = head.values;
        }
        target.sum.record(head);
        for identity in &head.route.endpoints {
            if !self.endpoints.contains_key(identity) {
                self.endpoints
                    .insert(identity.clone(), EndpointSum::default());
            }
            let Some(endpoint) = self.endpoints.get_mut(identity) else {
                continue;
            };
            let cursor = endpoint.cursors.get(&self.dir);
            let stands = |mark: fn(&Cursor) -> Position| cursor.map_or(Position::default(), mark);
            if head.position >= stands(|cursor| cursor.low_water) {
                endpoint.unsent.record(head);
                if head.position < stands(|cursor| cursor.highest_sent) {
                    endpoint.sent_unacknowledged.record(head);
                }
            }
        }
    }

    /// Samples by time, in at most `slots_max` slots of equal length: their length (milliseconds),
    /// and the begin and the samples of those that have any.
    pub fn by_time(&self, slots_max: usize) -> (i64, Vec<(i64, u64)>) {
        let lengths = [1, 5, 15, 60, 6 * 60, 24 * 60].map(|minutes| minutes * SLOT_MS);
        let (first, last) = match (self.minutes.keys().next(), self.minutes.keys().next_back()) {
            (Some(first), Some(last)) => (*first, *last),
            _ => return (SLOT_MS, Vec::new()),
        };
        let fits = |length: i64| {
            last.div_euclid(length) - first.div_euclid(length) < slots_max.max(1) as i64
        };
        let mut length = lengths.into_iter().find(|length| fits(*length));
        // Months: whole days, doubled until they fit.
        let mut days = 24 * 60 * SLOT_MS;
        while length.is_none() {
            days = days.saturating_mul(2);
            length = fits(days).then_some(days);
        }
        let length = length.unwrap_or(days);
        let mut slots: Vec<(i64, u64)> = Vec::new();
        for (minute, samples) in &self.minutes {
            let begin = minute.div_euclid(length).saturating_mul(length);
            match slots.last_mut() {
                Some((last, sum)) if *last == begin => *sum += samples,
                _ => slots.push((begin, *samples)),
            }
        }
        (length, slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Route, Target};
    use std::sync::Arc;

    fn head(offset: u32, timestamp_ms: i64, endpoints: &[&str]) -> RecordHead {
        let at = |offset| Position { segment: 2, offset };
        RecordHead {
            position: at(offset),
            end: at(offset + 100),
            timestamp_ms,
            values: 9,
            samples: 10,
            bytes: 100,
            target: Arc::new(Target {
                id: 1,
                key: 7,
                labels: [("job".into(), "node".into())].into(),
            }),
            route: Arc::new(Route {
                id: 1,
                endpoints: endpoints.iter().map(|name| (*name).into()).collect(),
            }),
        }
    }

    #[test]
    fn each_endpoint_lacks_what_is_behind_its_cursor_and_for_it() {
        let at = |offset| Position { segment: 2, offset };
        let mut cursors = CursorSet::default();
        cursors.add("a", at(200));
        cursors.advance("a", at(200), at(300));
        let mut survey = Survey::default();
        survey.begin_dir("shard-000", &cursors);
        for (offset, endpoints) in [
            (100, &["a", "b"][..]),
            (200, &["a", "b"]),
            (300, &["b"]),
            (400, &["a", "b"]),
        ] {
            survey.record(&head(offset, i64::from(offset), endpoints));
        }
        let a = &survey.endpoints["a"];
        assert_eq!((a.unsent.records, a.unsent.samples), (2, 20));
        assert_eq!((a.unsent.oldest_ms, a.unsent.newest_ms), (200, 400));
        assert_eq!(a.sent_unacknowledged.records, 1);
        // Nothing is known of b: all that is for it counts.
        assert_eq!(survey.endpoints["b"].unsent.records, 4);
        assert_eq!(survey.targets[&7].sum.bytes, 400);
        assert_eq!(survey.targets[&7].job, "node");
        assert_eq!(survey.targets[&7].series, 9);
    }

    #[test]
    fn slots_of_time_are_few_and_lose_nothing() {
        for span_ms in [
            0,
            SLOT_MS * 23,
            SLOT_MS * 24,
            SLOT_MS * 60 * 24 * 400,
            i64::MAX / 2,
        ] {
            let mut survey = Survey::default();
            for step in 0..100 {
                survey.record(&head(100, span_ms / 100 * step - 5, &[]));
            }
            let (length, slots) = survey.by_time(24);
            assert!(slots.len() <= 24, "{span_ms}: {} slots", slots.len());
            assert_eq!(slots.iter().map(|slot| slot.1).sum::<u64>(), 1000);
            assert!(slots.iter().all(|slot| slot.0 % length == 0));
        }
        assert_eq!(Survey::default().by_time(24).1, []);
    }
}
