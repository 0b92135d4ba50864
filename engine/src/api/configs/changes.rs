//! Wanted changes and what is stored -> what is wrong with them, and what they would do.

use super::jobs::JobIndex;
use super::scrub;
use super::view::{Action, BatchRequest, ChangeView, OutcomeView};
use super::{Service, names};
use crate::config::yaml;
use crate::service::store::{Change, Condition, Configs, Origin, Outcome, StoredConfig};
use std::collections::HashMap;
use std::sync::Arc;

/// Most bytes of `managed_by`.
const LABEL_BYTES_MAX: usize = 256;

/// A change that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: Arc<str>,
    pub(super) what: What,
    pub(super) condition: Condition,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Put {
        text: Arc<str>,
        /// `None`: as before.
        managed_by: Option<String>,
    },
    Delete,
}

/// Why one of the changes cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
    pub(super) reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Invalid,
    Conflict,
    Missing,
}

/// # Errors
/// Why it is no label of an owner.
pub(super) fn check_label(label: &str) -> Result<(), String> {
    if label.len() > LABEL_BYTES_MAX || label.chars().any(char::is_control) {
        return Err(format!(
            "managed_by has control characters or more than {LABEL_BYTES_MAX} bytes"
        ));
    }
    Ok(())
}

/// The changes of a batch.
pub(super) fn of_batch(batch: BatchRequest) -> Result<Vec<Wanted>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut wanted = Vec::with_capacity(batch.changes.len());
    for change in batch.changes {
        let name: Arc<str> = change.name.into();
        let mut complain = |reason: &str| {
            faults.push(Fault {
                name: name.clone(),
                kind: Kind::Invalid,
                reason: reason.to_owned(),
            });
        };
        if let Err(reason) = names::check(&name) {
            complain(&reason);
        }
        let condition = match (change.if_revision, change.if_absent) {
            (None, false) => Condition::None,
            (None, true) => Condition::Absent,
            (Some(revision), false) => Condition::Revision(revision),
            (Some(_), true) => {
                complain("if_revision and if_absent cannot both hold");
                continue;
            }
        };
        let what = match (change.action, change.value) {
            (Action::Put, Some(text)) => What::Put {
                text: text.into(),
                managed_by: batch.managed_by.clone(),
            },
            (Action::Delete, None) => What::Delete,
            (Action::Put, None) => {
                complain("a put needs a value");
                continue;
            }
            (Action::Delete, Some(_)) => {
                complain("a delete has no value");
                continue;
            }
        };
        wanted.push(Wanted {
            name,
            what,
            condition,
        });
    }
    match faults.is_empty() {
        true => Ok(wanted),
        false => Err(faults),
    }
}

/// Whether the texts are good, and no job name is taken twice afterwards.
pub(super) fn check(
    wanted: &[Wanted],
    configs: &Configs,
    index: &mut JobIndex,
    service: &Service,
) -> Vec<Fault> {
    index.update(configs, &service.rules);
    let mut faults = Vec::new();
    let mut complain = |wanted: &Wanted, reason: String| {
        faults.push(Fault {
            name: wanted.name.clone(),
            kind: Kind::Invalid,
            reason,
        });
    };
    let mut touched = HashMap::<&str, &Wanted>::new();
    let mut taken = HashMap::<String, &str>::new();
    let mut parsed = Vec::new();
    for one in wanted {
        if touched.insert(&one.name, one).is_some() {
            complain(one, "the batch changes it twice".to_owned());
        }
        let What::Put { text, .. } = &one.what else {
            continue;
        };
        match jobs(service, &one.name, text) {
            Ok(jobs) => parsed.push((one, jobs)),
            Err(reason) => complain(one, reason),
        }
    }
    for (one, jobs) in parsed {
        for job in jobs {
            let stored = index
                .holders(&job)
                .find(|name| !touched.contains_key(&***name));
            let holder = if let Some(name) = stored {
                Some(format!("configuration {name:?} has it"))
            } else {
                let in_batch = taken.get(&job).filter(|name| **name != &*one.name);
                in_batch.map(|name| format!("configuration {name:?} of the batch has it"))
            };
            if let Some(holder) = holder {
                let reason = format!(
                    "failed to check uniqueness of config: found multiple scrape configs in \
                     config store with job name {job:?}: {holder}"
                );
                complain(one, reason);
            }
            taken.entry(job).or_insert(&one.name);
        }
    }
    let stored = configs.by_name.len();
    let is_new = |one: &&Wanted| {
        matches!(one.what, What::Put { .. }) && !configs.by_name.contains_key(&one.name)
    };
    let goes =
        |one: &&Wanted| matches!(one.what, What::Delete) && configs.by_name.contains_key(&one.name);
    let left = stored.saturating_sub(wanted.iter().filter(goes).count());
    let mut room = match service.configs_max {
        0 => usize::MAX,
        max => usize::try_from(max)
            .unwrap_or(usize::MAX)
            .saturating_sub(left),
    };
    for one in wanted.iter().filter(is_new) {
        match room.checked_sub(1) {
            Some(rest) => room = rest,
            None => complain(
                one,
                format!("the store may hold {} configurations", service.configs_max),
            ),
        }
    }
    faults
}

/// The jobs of a text, or why it cannot be stored.
fn jobs(service: &Service, name: &Arc<str>, text: &Arc<str>) -> Result<Vec<String>, String> {
    if text.len() as u64 > service.config_bytes_max {
        return Err(format!(
            "the config has {} bytes, at most {} are allowed",
            text.len(),
            service.config_bytes_max
        ));
    }
    yaml::parse(text).map_err(|(at, message)| {
        format!(
            "could not unmarshal config: line {}, column {}: {message}",
            at.line, at.column
        )
    })?;
    let found = service.rules.jobs(name, text);
    found.map_err(|problems| format!("failed to validate config: {}", problems.join("; ")))
}

/// What the changes would do to what is stored.
pub(super) fn foresee(wanted: &[Wanted], configs: &Configs) -> Result<Vec<ChangeView>, Vec<Fault>> {
    let mut views = Vec::with_capacity(wanted.len());
    let mut faults = Vec::new();
    for one in wanted {
        let stored = configs.by_name.get(&one.name);
        let revision = stored.map(|stored| stored.revision);
        let holds = match one.condition {
            Condition::None => true,
            Condition::Absent => revision.is_none(),
            Condition::Present => revision.is_some(),
            Condition::Revision(wanted) => revision == Some(wanted),
        };
        let mut complain = |kind, reason| {
            faults.push(Fault {
                name: one.name.clone(),
                kind,
                reason,
            });
        };
        if !holds {
            complain(Kind::Conflict, conflict(&one.name, revision));
            continue;
        }
        let (outcome, diff) = match (&one.what, stored) {
            (What::Delete, None) => {
                let reason = format!("configuration {} does not exist", one.name);
                complain(Kind::Missing, reason);
                continue;
            }
            (What::Delete, Some(_)) => (OutcomeView::Deleted, None),
            (What::Put { .. }, None) => (OutcomeView::Created, None),
            (What::Put { text, managed_by }, Some(stored)) => {
                compare(stored, text, managed_by.as_deref())
            }
        };
        views.push(ChangeView {
            name: one.name.to_string(),
            outcome,
            revision_before: revision,
            diff,
        });
    }
    match faults.is_empty() {
        true => Ok(views),
        false => Err(faults),
    }
}

fn compare(
    stored: &StoredConfig,
    text: &str,
    managed_by: Option<&str>,
) -> (OutcomeView, Option<String>) {
    let before = &stored.origin.managed_by;
    if *stored.text != *text {
        let diff = scrub::difference(&stored.name, &stored.text, text);
        return (OutcomeView::Updated, Some(diff));
    }
    match managed_by.filter(|label| label != before) {
        None => (OutcomeView::Unchanged, None),
        Some(label) => {
            let diff = format!("managed_by is {before:?}, becomes {label:?}\n");
            (OutcomeView::Updated, Some(diff))
        }
    }
}

pub(super) fn conflict(name: &str, revision: Option<u64>) -> String {
    match revision {
        Some(revision) => {
            format!("configuration {name} was changed meanwhile: its revision is {revision}")
        }
        None => format!("configuration {name} is not there any more"),
    }
}

/// The owner's label of what is put stays as it is.
fn keeps_label(one: &Wanted) -> bool {
    matches!(&one.what, What::Put { managed_by, .. } if managed_by.is_none())
}

/// Whether a change that keeps a label is about another revision than the one known, so that what
/// is stored has to be read first.
pub(super) fn is_behind(wanted: &[Wanted], configs: &Configs) -> bool {
    wanted.iter().filter(|one| keeps_label(one)).any(|one| {
        let known = configs.by_name.get(&one.name).map(|stored| stored.revision);
        match one.condition {
            Condition::None | Condition::Absent => false,
            Condition::Present => known.is_none(),
            Condition::Revision(revision) => known != Some(revision),
        }
    })
}

/// Whether what the store found changed may be changed all the same: nobody asked for a revision,
/// only the label was to be kept. `revision`: of what is stored now. One that has to be there and
/// is not does not come by trying again.
pub(super) fn may_try_again(wanted: &[Wanted], name: &str, revision: Option<u64>) -> bool {
    let mut wanted = wanted.iter();
    wanted.any(|one| {
        let is_open = match one.condition {
            Condition::None => true,
            Condition::Present => revision.is_some(),
            Condition::Absent | Condition::Revision(_) => false,
        };
        *one.name == *name && is_open && keeps_label(one)
    })
}

/// What must hold for a put that keeps the label: what the label was taken from is stored still.
fn guard(one: &Wanted, before: Option<&StoredConfig>) -> Condition {
    match (one.condition, before) {
        (Condition::None | Condition::Present, Some(stored)) if keeps_label(one) => {
            Condition::Revision(stored.revision)
        }
        (Condition::None, None) if keeps_label(one) => Condition::Absent,
        (condition, _) => condition,
    }
}

/// The changes as the store takes them.
pub(super) fn for_store(
    wanted: &[Wanted],
    configs: &Configs,
    changed_by: &str,
    changed_ms: i64,
) -> Vec<Change> {
    let change = |one: &Wanted| match &one.what {
        What::Delete => Change::Delete {
            name: one.name.clone(),
            condition: one.condition,
        },
        What::Put { text, managed_by } => {
            let before = configs.by_name.get(&one.name).map(|stored| &**stored);
            let label = before.map(|stored| stored.origin.managed_by.clone());
            Change::Put {
                name: one.name.clone(),
                text: text.clone(),
                origin: Origin {
                    managed_by: managed_by.clone().or(label).unwrap_or_default(),
                    changed_by: changed_by.to_owned(),
                    changed_ms,
                },
                condition: guard(one, before),
            }
        }
    };
    wanted.iter().map(change).collect()
}

/// What the store did, for who asked.
pub(super) fn done(wanted: &[Wanted], configs: &Configs, outcomes: &[Outcome]) -> Vec<ChangeView> {
    let view = |(one, outcome): (&Wanted, &Outcome)| ChangeView {
        name: one.name.to_string(),
        outcome: match outcome {
            Outcome::Created => OutcomeView::Created,
            Outcome::Updated => OutcomeView::Updated,
            Outcome::Unchanged => OutcomeView::Unchanged,
            Outcome::Deleted => OutcomeView::Deleted,
        },
        revision_before: match outcome {
            Outcome::Created => None,
            _ => configs.by_name.get(&one.name).map(|stored| stored.revision),
        },
        diff: None,
    };
    wanted.iter().zip(outcomes).map(view).collect()
}
