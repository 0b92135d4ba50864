//! How near each endpoint is to the caps on bytes and age -> warnings before anything is deleted.

use crate::segments::DeletionCause;
use std::collections::BTreeSet;

/// From this part of a cap on there is a warning.
pub const WARN_RATIO: f64 = 0.8;
/// Below this part the warning is over.
const CALM_RATIO: f64 = 0.7;

/// How much of a cap is used by what an endpoint has not acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub struct CapUse {
    /// The endpoint's identity.
    pub endpoint: Box<str>,
    /// Which cap: `RetentionBytes` or `RetentionAge`.
    pub cause: DeletionCause,
    /// Used, of what is allowed: above 1 the endpoint loses what is oldest.
    pub ratio: f64,
}

/// A warning, or its end.
#[derive(Debug, Clone, PartialEq)]
pub struct CapAlarm {
    /// Whose samples, and how near.
    pub used: CapUse,
    /// False: it is over.
    pub raised: bool,
}

/// The warnings in force.
#[derive(Debug, Default)]
pub struct CapAlarms {
    raised: BTreeSet<(Box<str>, bool)>,
}

impl CapAlarms {
    /// What has changed since the last call. An endpoint that is no longer named is calm.
    pub fn update(&mut self, uses: &[CapUse]) -> Vec<CapAlarm> {
        let mut alarms = Vec::new();
        let mut gone = std::mem::take(&mut self.raised);
        for used in uses {
            let key = (used.endpoint.clone(), is_age(used.cause));
            let was_raised = gone.remove(&key);
            let raised = used.ratio >= if was_raised { CALM_RATIO } else { WARN_RATIO };
            if raised {
                self.raised.insert(key);
            }
            if raised != was_raised {
                alarms.push(CapAlarm {
                    used: used.clone(),
                    raised,
                });
            }
        }
        alarms.extend(gone.into_iter().map(|(endpoint, is_age)| CapAlarm {
            used: CapUse {
                endpoint,
                cause: match is_age {
                    true => DeletionCause::RetentionAge,
                    false => DeletionCause::RetentionBytes,
                },
                ratio: 0.0,
            },
            raised: false,
        }));
        alarms
    }
}

fn is_age(cause: DeletionCause) -> bool {
    cause == DeletionCause::RetentionAge
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(endpoint: &str, cause: DeletionCause, ratio: f64) -> CapUse {
        CapUse {
            endpoint: endpoint.into(),
            cause,
            ratio,
        }
    }

    #[test]
    fn a_warning_comes_once_and_ends_well_below() {
        let mut alarms = CapAlarms::default();
        let mut said = Vec::new();
        for ratio in [0.1, 0.79, 0.8, 0.95, 0.75, 0.7, 0.69, 0.79, 1.2] {
            let bytes = used("a", DeletionCause::RetentionBytes, ratio);
            // The other cap, and the other endpoint, do not matter to it.
            let age = used("a", DeletionCause::RetentionAge, 0.5);
            let other = used("b", DeletionCause::RetentionBytes, 0.0);
            for alarm in alarms.update(&[bytes, age, other]) {
                assert_eq!(alarm.used.cause, DeletionCause::RetentionBytes);
                said.push((alarm.used.ratio, alarm.raised));
            }
        }
        assert_eq!(said, [(0.8, true), (0.69, false), (1.2, true)]);
        let ended = alarms.update(&[]);
        assert_eq!(ended.len(), 1);
        assert!(!ended[0].raised && *ended[0].used.endpoint == *"a");
    }
}
