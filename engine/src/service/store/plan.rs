//! Changes with conditions, against what is stored -> what each will have done, or why none is.

use super::{Change, Condition, Configs, Outcome, StoreError, StoredConfig};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Change {
    /// Of which configuration.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Put { name, .. } | Self::Delete { name, .. } => name,
        }
    }

    fn condition(&self) -> Condition {
        match self {
            Self::Put { condition, .. } | Self::Delete { condition, .. } => *condition,
        }
    }
}

/// What becomes of each change if all are made. `stored` says what there is of a name.
///
/// # Errors
/// A condition does not hold, one to be deleted is not there, or the batch makes no sense.
pub(super) fn plan<'a>(
    stored: impl Fn(&str) -> Option<&'a StoredConfig>,
    changes: &[Change],
) -> Result<Vec<Outcome>, StoreError> {
    let mut names = BTreeSet::new();
    let mut outcomes = Vec::with_capacity(changes.len());
    for change in changes {
        let name = change.name();
        if name.is_empty() {
            return Err(StoreError::Refused(
                "a configuration without a name".to_owned(),
            ));
        }
        if !names.insert(name) {
            let reason = format!("the batch changes {name} twice");
            return Err(StoreError::Refused(reason));
        }
        outcomes.push(outcome(stored(name), change)?);
    }
    Ok(outcomes)
}

fn outcome(stored: Option<&StoredConfig>, change: &Change) -> Result<Outcome, StoreError> {
    let condition = change.condition();
    let holds = match (condition, stored) {
        (Condition::None, _) => true,
        (Condition::Absent, stored) => stored.is_none(),
        // That one to be deleted is not there is said as such.
        (Condition::Present, None) => matches!(change, Change::Delete { .. }),
        (Condition::Present, Some(_)) => true,
        (Condition::Revision(_), None) => false,
        (Condition::Revision(revision), Some(stored)) => stored.revision == revision,
    };
    if !holds {
        return Err(StoreError::Conflict {
            name: change.name().clone(),
            revision: stored.map(|stored| stored.revision),
        });
    }
    match (change, stored) {
        (Change::Put { .. }, None) => Ok(Outcome::Created),
        (Change::Put { text, origin, .. }, Some(stored)) => {
            let is_same = *text == stored.text && origin.managed_by == stored.origin.managed_by;
            Ok(match is_same {
                true => Outcome::Unchanged,
                false => Outcome::Updated,
            })
        }
        (Change::Delete { .. }, Some(_)) => Ok(Outcome::Deleted),
        (Change::Delete { name, .. }, None) => Err(StoreError::Missing(name.clone())),
    }
}

/// Makes changes that were planned, as the store's change of this revision.
pub(super) fn make(configs: &mut Configs, changes: &[Change], outcomes: &[Outcome], revision: u64) {
    for (change, outcome) in changes.iter().zip(outcomes) {
        match change {
            _ if *outcome == Outcome::Unchanged => {}
            Change::Put {
                name, text, origin, ..
            } => {
                let config = StoredConfig {
                    name: name.clone(),
                    text: text.clone(),
                    revision,
                    origin: origin.clone(),
                };
                configs.by_name.insert(name.clone(), Arc::new(config));
            }
            Change::Delete { name, .. } => {
                configs.by_name.remove(name);
            }
        }
    }
    configs.revision = revision;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::store::Origin;

    fn put(name: &str, text: &str, condition: Condition) -> Change {
        Change::Put {
            name: name.into(),
            text: text.into(),
            origin: Origin::default(),
            condition,
        }
    }

    fn delete(name: &str, condition: Condition) -> Change {
        let name = name.into();
        Change::Delete { name, condition }
    }

    #[test]
    fn conditions() {
        let mut configs = Configs::default();
        let first = [put("a", "1", Condition::Absent)];
        let of = |configs: &Configs, changes: &[Change]| {
            plan(|name| configs.by_name.get(name).map(|one| &**one), changes)
        };
        assert_eq!(of(&configs, &first), Ok(vec![Outcome::Created]));
        make(&mut configs, &first, &[Outcome::Created], 7);
        let conflict = |name: &str, revision| {
            let name = name.into();
            Err(StoreError::Conflict { name, revision })
        };
        let cases = [
            (put("a", "1", Condition::None), Ok(Outcome::Unchanged)),
            (put("a", "2", Condition::None), Ok(Outcome::Updated)),
            (put("a", "2", Condition::Present), Ok(Outcome::Updated)),
            (put("a", "2", Condition::Revision(7)), Ok(Outcome::Updated)),
            (
                put("a", "1", Condition::Revision(6)),
                conflict("a", Some(7)),
            ),
            (put("a", "1", Condition::Absent), conflict("a", Some(7))),
            (put("b", "1", Condition::Present), conflict("b", None)),
            (put("b", "1", Condition::Revision(7)), conflict("b", None)),
            (delete("a", Condition::Revision(7)), Ok(Outcome::Deleted)),
            (delete("a", Condition::Revision(8)), conflict("a", Some(7))),
            (delete("a", Condition::Absent), conflict("a", Some(7))),
            (delete("b", Condition::Revision(8)), conflict("b", None)),
            (
                delete("b", Condition::None),
                Err(StoreError::Missing("b".into())),
            ),
            (
                delete("b", Condition::Present),
                Err(StoreError::Missing("b".into())),
            ),
        ];
        for (change, expected) in cases {
            let expected = expected.map(|outcome| vec![outcome]);
            assert_eq!(
                of(&configs, std::slice::from_ref(&change)),
                expected,
                "{change:?}"
            );
        }
        let twice = [delete("a", Condition::None), put("a", "1", Condition::None)];
        assert!(matches!(of(&configs, &twice), Err(StoreError::Refused(_))));
        let nameless = [put("", "1", Condition::None)];
        assert!(matches!(
            of(&configs, &nameless),
            Err(StoreError::Refused(_))
        ));
    }

    #[test]
    fn another_owner_is_a_change() {
        let mut configs = Configs::default();
        make(
            &mut configs,
            &[put("a", "1", Condition::None)],
            &[Outcome::Created],
            1,
        );
        let mut owned = put("a", "1", Condition::None);
        if let Change::Put { origin, .. } = &mut owned {
            origin.managed_by = "team".to_owned();
        }
        let stored = configs.by_name.get("a").map(|one| &**one);
        assert_eq!(plan(|_| stored, &[owned]), Ok(vec![Outcome::Updated]));
    }
}
