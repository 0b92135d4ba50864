//! How long a node has waited for its store and for discovery + what has not answered -> whether it
//! joins its cluster, and when to look again.

use super::jobs::Jobs;
use std::time::Duration;

/// How long a node that has started waits for discovery before it joins without.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for jobs of stored configurations: who may store one can name a service that never
/// answers, and shall not keep nodes from joining for long; nor shall a store that does not answer.
const STORED_PATIENCE: Duration = Duration::from_secs(10);

/// Whether it joins: it knows its share of the targets, or has waited for long enough.
/// `knows_stored`: what is stored is known, as the store has it by now, or there is no store.
pub(super) fn joins(waited: Duration, jobs: &Jobs, knows_stored: bool) -> bool {
    let with_stored = waited < STORED_PATIENCE;
    let knows_jobs = knows_stored || !with_stored;
    waited >= PATIENCE || knows_jobs && jobs.unanswered(with_stored).is_empty()
}

/// When waiting is to be looked at again, after this time has passed.
pub(super) fn look_after(waited: Duration) -> Duration {
    match waited < STORED_PATIENCE {
        true => STORED_PATIENCE,
        false => PATIENCE,
    }
}

#[cfg(test)]
mod tests {
    use super::super::jobs::tests::{configured, found};
    use super::*;

    #[test]
    fn the_file_is_waited_for_longer_than_what_is_stored() {
        let mut jobs = Jobs::new(1);
        let seconds = Duration::from_secs;
        assert!(joins(seconds(0), &jobs, true), "there is no job");
        let all = [configured("own", None), configured("stored", Some("x"))];
        jobs.apply(&all, 0, 0);
        assert!(!joins(seconds(59), &jobs, true));
        assert!(joins(seconds(60), &jobs, true));
        jobs.update(found("own", 1), 1);
        assert!(!joins(seconds(9), &jobs, true));
        assert!(joins(seconds(10), &jobs, true));
        jobs.update(found("stored", 1), 1);
        assert!(joins(seconds(0), &jobs, true));
        assert!(
            !joins(seconds(9), &jobs, false),
            "what is stored is not known"
        );
        assert!(joins(seconds(10), &jobs, false));
        assert_eq!(
            [0, 9, 10, 60].map(|waited| look_after(seconds(waited)).as_secs()),
            [10, 10, 60, 60]
        );
    }
}
