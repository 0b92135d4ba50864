//! Jobs that come, change and go -> what the shards are told.

use super::*;
use crate::config::Config;
use crate::discovery::TargetGroup;
use crate::labels::Labels;
use crate::mailbox::Ending;
use std::path::Path;

pub(in super::super) fn configured(job: &str, of: Option<&str>) -> Configured {
    let text = format!("scrape_configs: [{{job_name: {job}}}]");
    let config = Config::parse(Path::new("/r.yml"), &text, &|_| None).unwrap();
    Configured {
        config: config.scrape_configs[0].clone(),
        route: Arc::new(Route {
            id: 1,
            endpoints: Box::default(),
        }),
        of: of.map(Arc::from),
        nth: 0,
    }
}

pub(in super::super) fn found(job: &str, targets: usize) -> JobUpdate {
    let address = |n| Labels::from_pairs([("__address__", format!("h{n}:1"))]);
    JobUpdate {
        job_name: job.into(),
        groups: vec![Arc::new(TargetGroup {
            source: "0".into(),
            targets: (0..targets).map(address).collect(),
            labels: Labels::default(),
        })],
        complete: true,
    }
}

/// What the shards are told: added targets by job, with whether they fail, and removals.
fn told(changes: Vec<Change>) -> (Vec<(String, bool)>, Vec<Ending>) {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for (gone, new) in changes.into_iter().flatten() {
        removed.extend(gone.into_iter().map(|one| one.series));
        added.extend(new.into_iter().map(|one| {
            let job = one.target.scrape_config.job_name.clone();
            (job, one.forced_error.is_some())
        }));
    }
    added.sort();
    (added, removed)
}

#[test]
fn a_configuration_that_comes_or_goes_touches_no_other_one() {
    let mut jobs = Jobs::new(2);
    let (a, b) = (configured("a", None), configured("b", Some("x")));
    let c = configured("c", Some("y"));
    assert!(jobs.apply(&[a.clone(), b.clone()], 0, 0).is_empty());
    for job in ["a", "b"] {
        let (added, _) = told(jobs.update(found(job, 3), 1));
        assert_eq!(added.len(), 3);
    }
    let before = jobs.job_versions();
    assert!(
        jobs.apply(&[a.clone(), b.clone(), c.clone()], 0, 2)
            .is_empty()
    );
    assert_eq!(jobs.job_versions().len(), before.len() + 1);
    assert_eq!(
        told(jobs.update(found("c", 1), 3)).0,
        [("c".to_owned(), false)]
    );
    assert_eq!(jobs.keys_of("x").count(), 3);
    let (added, removed) = told(jobs.apply(&[a.clone(), c.clone()], 0, 4));
    assert_eq!((added.len(), removed), (0, vec![Ending::End; 3]));
    assert_eq!(jobs.keys_of("x").count(), 0);
    // Another route concerns the job that has it.
    let other = Configured {
        route: Arc::new(Route {
            id: 2,
            endpoints: Box::default(),
        }),
        ..c
    };
    let (added, removed) = told(jobs.apply(&[a, other], 0, 5));
    assert_eq!((added, removed.len()), (vec![("c".to_owned(), false)], 0));
}

#[test]
fn too_many_targets_fail_all_jobs_of_their_configuration_and_only_those() {
    let mut jobs = Jobs::new(2);
    let of = [
        ("a", None),
        ("b", Some("x")),
        ("c", Some("x")),
        ("d", Some("y")),
    ];
    let all: Vec<Configured> = of.map(|(job, of)| configured(job, of)).into();
    jobs.apply(&all, 4, 0);
    for job in ["a", "d"] {
        jobs.update(found(job, 4), 1);
    }
    jobs.update(found("b", 2), 1);
    let fails = |added: &[(String, bool)]| added.iter().filter(|(_, fails)| *fails).count();
    let (added, _) = told(jobs.update(found("c", 3), 2));
    assert_eq!((added.len(), fails(&added)), (5, 5), "{added:?}");
    assert!(
        added
            .iter()
            .all(|(job, _)| ["b", "c"].contains(&job.as_str()))
    );
    assert!(
        told(jobs.update(found("a", 9), 3))
            .0
            .iter()
            .all(|(_, fails)| !fails)
    );
    let (added, removed) = told(jobs.update(found("c", 2), 4));
    assert_eq!((added.len(), fails(&added), removed.len()), (4, 0, 1));
    let (added, _) = told(jobs.apply(&all, 3, 5));
    assert_eq!(
        (added.len(), fails(&added)),
        (8, 8),
        "a lower limit for all"
    );
}
