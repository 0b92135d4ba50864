//! Targets of a job before and after -> the label that keeps changing while all else stays.
//!
//! Pure. In a cluster such a target gets another owner each time.

use crate::target::Target;
use ahash::AHashMap;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Changes of the list of targets, in which a label changed alone, until it is spoken of: once or
/// twice it is somebody's wish.
const CHANGES_MIN: u32 = 3;
/// Targets that are looked at after one change.
const LOOKED_AT_MAX: usize = 1_000;

/// What was seen of one job.
#[derive(Debug, Default)]
pub(super) struct Unstable {
    /// By label.
    changes: BTreeMap<String, u32>,
}

impl Unstable {
    /// Takes note of a change. Returns a label that is to be spoken of, once.
    pub(super) fn observe(
        &mut self,
        before: &AHashMap<u64, Arc<Target>>,
        after: &AHashMap<u64, Arc<Target>>,
    ) -> Option<String> {
        let new = after.iter().filter(|(key, _)| !before.contains_key(key));
        let new: Vec<&Arc<Target>> = new.map(|(_, target)| target).take(LOOKED_AT_MAX).collect();
        if new.is_empty() || before.is_empty() {
            return None;
        }
        let gone = before.iter().filter(|(key, _)| !after.contains_key(key));
        let which = |target: &Arc<Target>| target.spot.replica.index;
        let gone: HashMap<(&str, u8), &Arc<Target>> = gone
            .map(|(_, target)| ((target.scrape_url.as_str(), which(target)), target))
            .collect();
        let mut changed: Vec<&str> = new
            .iter()
            .filter_map(|target| {
                let former = gone.get(&(target.scrape_url.as_str(), which(target)))?;
                let moves = former.spot != target.spot;
                moves.then(|| only_change(former, target)).flatten()
            })
            .collect();
        changed.sort_unstable();
        changed.dedup();
        let mut found = None;
        for label in changed {
            let count = self.changes.entry(label.to_owned()).or_default();
            *count = count.saturating_add(1);
            if *count == CHANGES_MIN {
                found = Some(label.to_owned());
            }
        }
        found
    }
}

/// The label in whose value alone two targets differ.
fn only_change<'a>(former: &Target, target: &'a Target) -> Option<&'a str> {
    let mut change = None;
    let (mut before, mut after) = (former.labels.iter(), target.labels.iter());
    loop {
        match (before.next(), after.next()) {
            (None, None) => return change,
            (Some((name, _)), Some((same, _))) if name != same => return None,
            (Some((_, value)), Some((name, other))) if value != other => {
                if change.replace(name).is_some() {
                    return None;
                }
            }
            (Some(_), Some(_)) => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::discovery::TargetGroup;
    use crate::labels::Labels;
    use crate::target;
    use std::path::Path;

    fn targets(clustering: &str, revision: &str, zone: &str) -> AHashMap<u64, Arc<Target>> {
        let text = format!("scrape_configs:\n- job_name: j\n  clustering: {{{clustering}}}\n");
        let config = Config::parse(Path::new("/r.yml"), &text, &|_| None).unwrap();
        let labels = |n: u32| {
            Labels::from_pairs([
                ("__address__", format!("h{n}:1")),
                ("revision", revision.to_owned()),
                ("zone", zone.to_owned()),
            ])
        };
        let group = TargetGroup {
            source: "0".into(),
            targets: (0..5).map(labels).collect(),
            labels: Labels::default(),
        };
        let built = target::targets(&config.scrape_configs[0], &[Arc::new(group)]);
        let by_key = |target: Arc<Target>| (target.key.0, target);
        built.targets.into_iter().map(by_key).collect()
    }

    fn said(clustering: &str, steps: &[(&str, &str)]) -> Vec<String> {
        let mut unstable = Unstable::default();
        let steps: Vec<_> = steps
            .iter()
            .map(|(a, b)| targets(clustering, a, b))
            .collect();
        let pairs = steps.windows(2);
        pairs
            .filter_map(|pair| unstable.observe(&pair[0], &pair[1]))
            .collect()
    }

    #[test]
    fn a_label_that_keeps_changing_is_named_once() {
        let steps = [
            ("1", "a"),
            ("2", "a"),
            ("3", "a"),
            ("4", "a"),
            ("5", "a"),
            ("6", "a"),
        ];
        assert_eq!(said("", &steps), ["revision"]);
        assert!(said("", &steps[..3]).is_empty());
        assert!(said("exclude_labels: [revision]", &steps).is_empty());
        assert!(said("key_labels: [instance, zone]", &steps).is_empty());
        // Two at once: another target.
        let both = [("1", "a"), ("2", "b"), ("3", "c"), ("4", "d"), ("5", "e")];
        assert!(said("", &both).is_empty());
    }

    #[test]
    fn places_follow_from_the_labels_named() {
        let places = |clustering: &str, revision: &str| {
            let mut all: Vec<_> = targets(clustering, revision, "a")
                .into_values()
                .map(|target| target.spot.key.0)
                .collect();
            all.sort_unstable();
            all
        };
        assert_ne!(places("", "1"), places("", "2"));
        for stable in ["exclude_labels: [revision]", "key_labels: [instance]"] {
            assert_eq!(places(stable, "1"), places(stable, "2"), "{stable}");
            assert_eq!(
                places(stable, "1")
                    .windows(2)
                    .filter(|p| p[0] == p[1])
                    .count(),
                0
            );
        }
        let merged = places("key_labels: [zone]", "1");
        assert!(merged.iter().all(|place| *place == merged[0]));
        assert_eq!(
            targets("key_labels: [zone]", "1", "a").len(),
            5,
            "all are scraped"
        );
    }
}
