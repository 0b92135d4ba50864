//! Files and what is stored -> the changes to ask for, and why they had better not be made.

use ringscrape_engine::api::configs::{
    Action, BatchRequest, BatchView, ChangeRequest, ConfigView, OutcomeView,
};
use std::collections::BTreeMap;

/// More deletions than this want a word of the user, however many configurations there are.
const DELETIONS_MAX: usize = 20;
/// Names that a refusal lists.
const NAMED_MAX: usize = 5;

/// What the user has allowed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowed {
    pub(super) take_over: bool,
    pub(super) empty: bool,
    pub(super) mass_delete: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// A change for each file, whether it differs or not, and the deletions, by name.
    pub(super) batch: BatchRequest,
    /// Why it must not be done.
    pub(super) refusals: Vec<String>,
}

impl Plan {
    pub(super) fn new(
        files: BTreeMap<String, String>,
        stored: &[ConfigView],
        label: &str,
        allowed: Allowed,
    ) -> Self {
        let by_name: BTreeMap<&str, &ConfigView> =
            stored.iter().map(|one| (one.name.as_str(), one)).collect();
        let managed: Vec<&ConfigView> = stored
            .iter()
            .filter(|one| one.managed_by == label)
            .collect();
        let gone: Vec<&ConfigView> = managed
            .iter()
            .copied()
            .filter(|one| !files.contains_key(&one.name))
            .collect();
        let owner_of = |name: &String| by_name.get(name.as_str()).map(|one| &*one.managed_by);
        let foreign = |name: &&String| {
            owner_of(name).is_some_and(|owner| !owner.is_empty() && owner != label)
        };
        let unmanaged = |name: &&String| owner_of(name) == Some("");

        let mut refusals = Vec::new();
        if files.is_empty() && !allowed.empty {
            refusals.push(
                "the directory has no *.yml or *.yaml file (--allow-empty deletes all that is \
                 managed)"
                    .to_owned(),
            );
        } else if !files.is_empty() && is_mass(gone.len(), managed.len()) && !allowed.mass_delete {
            refusals.push(format!(
                "{} of {} managed configurations would be deleted (--allow-mass-delete does it)",
                gone.len(),
                managed.len()
            ));
        }
        let foreign = some_of(files.keys().filter(foreign));
        if let Some(names) = foreign {
            refusals.push(format!(
                "others manage {names} (--managed-by says for whom this is done)"
            ));
        }
        let unmanaged = some_of(files.keys().filter(unmanaged));
        if let Some(names) = unmanaged.filter(|_| !allowed.take_over) {
            refusals.push(format!(
                "nobody manages {names}, which the store has already (--take-over replaces them)"
            ));
        }

        let deletions = gone.iter().map(|one| ChangeRequest {
            action: Action::Delete,
            name: one.name.clone(),
            value: None,
            if_revision: Some(one.revision),
            if_absent: false,
        });
        let deletions: Vec<ChangeRequest> = deletions.collect();
        let puts = files.into_iter().map(|(name, text)| {
            let revision = by_name.get(name.as_str()).map(|one| one.revision);
            ChangeRequest {
                action: Action::Put,
                name,
                value: Some(text),
                if_revision: revision,
                if_absent: revision.is_none(),
            }
        });
        let mut changes: Vec<ChangeRequest> = puts.chain(deletions).collect();
        changes.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            batch: BatchRequest {
                managed_by: Some(label.to_owned()),
                changes,
            },
            refusals,
        }
    }

    /// The changes that are any, as the server foresees them.
    pub(super) fn what_changes(&self, foreseen: &BatchView) -> BatchRequest {
        let outcomes = foreseen.changes.iter().map(|change| change.outcome);
        let changes = (self.batch.changes.iter()).zip(outcomes);
        BatchRequest {
            managed_by: self.batch.managed_by.clone(),
            changes: changes
                .filter(|(_, outcome)| *outcome != OutcomeView::Unchanged)
                .map(|(change, _)| change.clone())
                .collect(),
        }
    }
}

/// One alone is what everyday work deletes.
fn is_mass(deletions: usize, managed: usize) -> bool {
    deletions > DELETIONS_MAX || (deletions > 1 && deletions * 2 > managed)
}

/// The first names; `None`: there is none.
fn some_of<'a>(names: impl Iterator<Item = &'a String>) -> Option<String> {
    let names: Vec<&str> = names.map(String::as_str).collect();
    let shown = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>();
    let shown = shown.join(", ");
    match names.len().checked_sub(NAMED_MAX) {
        _ if names.is_empty() => None,
        None | Some(0) => Some(shown),
        Some(more) => Some(format!("{shown} and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringscrape_engine::api::configs::ChangeView;

    fn stored(names: &[(&str, &str)]) -> Vec<ConfigView> {
        let view = |((name, owner), revision): (&(&str, &str), u64)| ConfigView {
            name: (*name).to_owned(),
            managed_by: (*owner).to_owned(),
            revision,
            ..ConfigView::default()
        };
        names.iter().zip(1..).map(view).collect()
    }

    fn plan(files: &[&str], have: &[(&str, &str)], allowed: Allowed) -> Plan {
        let files = files
            .iter()
            .map(|name| ((*name).to_owned(), format!("text of {name}")));
        Plan::new(files.collect(), &stored(have), "me", allowed)
    }

    fn deleted(plan: &Plan) -> Vec<&str> {
        let changes = plan.batch.changes.iter();
        let deletions = changes.filter(|change| change.action == Action::Delete);
        deletions.map(|change| change.name.as_str()).collect()
    }

    #[test]
    fn each_change_holds_only_for_what_was_seen() {
        let have = [("a", "me"), ("b", "me"), ("c", "other"), ("d", "")];
        let plan = plan(&["a", "new"], &have, Allowed::default());
        let seen: Vec<_> = (plan.batch.changes.iter())
            .map(|one| {
                (
                    one.name.as_str(),
                    one.action,
                    one.if_revision,
                    one.if_absent,
                )
            })
            .collect();
        let wanted = [
            ("a", Action::Put, Some(1), false),
            ("b", Action::Delete, Some(2), false),
            ("new", Action::Put, None, true),
        ];
        assert_eq!((seen, plan.refusals.len()), (wanted.to_vec(), 0));
        assert_eq!(plan.batch.managed_by.as_deref(), Some("me"));
    }

    #[test]
    fn only_what_is_managed_is_deleted() {
        let plan = plan(
            &["x"],
            &[("a", ""), ("b", "other"), ("c", "me")],
            Allowed::default(),
        );
        assert_eq!(deleted(&plan), ["c"]);
    }

    #[test]
    fn an_empty_directory_is_refused_unless_allowed() {
        let have = [("a", "me"), ("b", "me")];
        let refused = plan(&[], &have, Allowed::default());
        assert!(
            refused.refusals[0].contains("--allow-empty"),
            "{:?}",
            refused.refusals
        );
        let allowed = Allowed {
            empty: true,
            ..Allowed::default()
        };
        let plan = plan(&[], &have, allowed);
        assert_eq!((deleted(&plan), plan.refusals.len()), (vec!["a", "b"], 0));
    }

    #[test]
    fn mass_deletions_are_refused_unless_allowed() {
        assert!(!is_mass(1, 1) && !is_mass(2, 4) && is_mass(2, 3) && is_mass(2, 2));
        assert!(!is_mass(20, 1000) && is_mass(21, 1000) && !is_mass(0, 0));
        let have = [("a", "me"), ("b", "me"), ("c", "me")];
        let refused = plan(&["a"], &have, Allowed::default());
        assert!(
            refused.refusals[0].contains("2 of 3"),
            "{:?}",
            refused.refusals
        );
        let allowed = Allowed {
            mass_delete: true,
            ..Allowed::default()
        };
        assert!(plan(&["a"], &have, allowed).refusals.is_empty());
    }

    #[test]
    fn what_is_not_ours_is_not_replaced() {
        let have = [("a", "other"), ("b", "")];
        let refused = plan(&["a", "b"], &have, Allowed::default());
        assert!(
            refused.refusals[0].contains("manage a"),
            "{:?}",
            refused.refusals
        );
        assert!(
            refused.refusals[1].contains("--take-over"),
            "{:?}",
            refused.refusals
        );
        let allowed = Allowed {
            take_over: true,
            ..Allowed::default()
        };
        let of_others = plan(&["a", "b"], &have, allowed);
        assert_eq!(of_others.refusals.len(), 1, "those of others stay theirs");
        assert!(plan(&["b"], &have, allowed).refusals.is_empty());
    }

    #[test]
    fn only_what_differs_is_sent() {
        let plan = plan(&["a", "b"], &[("a", "me")], Allowed::default());
        let change = |name: &str, outcome| ChangeView {
            name: name.to_owned(),
            outcome,
            revision_before: None,
            diff: None,
        };
        let foreseen = BatchView {
            changes: vec![
                change("a", OutcomeView::Unchanged),
                change("b", OutcomeView::Created),
            ],
            ..BatchView::default()
        };
        let sent = plan.what_changes(&foreseen).changes;
        assert_eq!((sent.len(), &*sent[0].name), (1, "b"));
    }
}
