//! What a node keeps of the gossip store <-> the payload of a frame of its file.

use ringscrape_cluster::store::{Entry, Held, Past};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize as Read, Serialize};
use std::fmt;
use std::sync::Arc;

/// In place of the clock's time that frames of the first release had, which end there.
const HAS_REST: i64 = i64::MIN;

/// A frame. All that it has holds together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saved {
    /// What was taken.
    pub(super) entries: Vec<Arc<Entry>>,
    /// What frames of the first release lack.
    pub(super) rest: Rest,
}

/// What else a frame has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Read)]
pub(super) struct Rest {
    /// Of each entry, in the same order; none: all are new.
    pub(super) ages_ms: Vec<u64>,
    /// What the replica remembers from then on.
    pub(super) past: Option<Past>,
    /// Who counts from then on, and when that was known.
    pub(super) members: Option<Vec<(Arc<str>, i64)>>,
}

impl Saved {
    /// These, with their ages.
    pub(super) fn of(held: &[Held], rest: Rest) -> Self {
        let is_new = held.iter().all(|one| one.age_ms == 0);
        let ages_ms = match is_new {
            true => Vec::new(),
            false => held.iter().map(|one| one.age_ms).collect(),
        };
        Self {
            entries: held.iter().map(|one| one.entry.clone()).collect(),
            rest: Rest { ages_ms, ..rest },
        }
    }

    /// The entries, with their ages.
    pub(super) fn into_held(self) -> Vec<Held> {
        let ages_ms = self.rest.ages_ms.into_iter().chain(std::iter::repeat(0));
        let held = self.entries.into_iter().zip(ages_ms);
        held.map(|(entry, age_ms)| Held { entry, age_ms }).collect()
    }
}

impl Serialize for Saved {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.entries, Some(HAS_REST), &self.rest).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Saved {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(3, Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Saved;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("entries, a time, and the rest")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Saved, A::Error> {
        let missing = || serde::de::Error::custom("a frame is cut");
        let entries = fields.next_element()?.ok_or_else(missing)?;
        let time: Option<i64> = fields.next_element()?.ok_or_else(missing)?;
        let rest = match time {
            Some(HAS_REST) => fields.next_element()?.ok_or_else(missing)?,
            _ => Rest::default(),
        };
        Ok(Saved { entries, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::log::{decode, encode};
    use super::*;
    use ringscrape_cluster::store::Version;

    fn entry() -> Arc<Entry> {
        Arc::new(Entry {
            name: "a".into(),
            version: Version {
                revision: 9,
                node: "n".into(),
            },
            knows: Vec::new(),
            written_ms: 7,
            content: None,
        })
    }

    #[test]
    fn frames_come_out_as_they_went_in_and_those_of_the_first_release_are_read() {
        let held = Held {
            entry: entry(),
            age_ms: 5,
        };
        let rest = Rest {
            past: Some(Past {
                observed_ms: 3,
                mark: Some(4),
                forgotten: 2,
            }),
            members: Some(vec![("n".into(), -1)]),
            ..Rest::default()
        };
        let saved = Saved::of(std::slice::from_ref(&held), rest);
        let bytes = encode(&saved).unwrap();
        assert_eq!(decode::<Saved>(&bytes), Ok(saved.clone()));
        assert_eq!(saved.into_held(), [held]);
        let first = encode(&(vec![entry()], Some(1_i64))).unwrap();
        let read = decode::<Saved>(&first).unwrap();
        assert_eq!((read.entries, read.rest), (vec![entry()], Rest::default()));
        for cut in 0..bytes.len() {
            assert!(decode::<Saved>(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
