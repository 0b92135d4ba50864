//! Changes of configurations -> lines of the log: who, from where, what, the revisions around it.

use super::access::Caller;
use super::changes::{Wanted, What};
use super::view::{ChangeView, OutcomeView};
use crate::service::store::StoreError;
use tracing::info;

fn word(outcome: OutcomeView) -> &'static str {
    match outcome {
        OutcomeView::Created => "created",
        OutcomeView::Updated => "updated",
        OutcomeView::Unchanged => "unchanged",
        OutcomeView::Deleted => "deleted",
    }
}

/// A batch that was made: a line for each change.
pub(super) fn made(caller: &Caller, changes: &[ChangeView], revision: u64) {
    for change in changes {
        info!(
            target: "audit",
            who = caller.name,
            from = caller.from,
            certificate = caller.certificate.as_deref(),
            config = change.name,
            outcome = word(change.outcome),
            revision_before = change.revision_before.unwrap_or(0),
            revision,
            "audit: configuration changed"
        );
    }
}

/// A batch that the store did not make, or did not confirm.
pub(super) fn failed(caller: &Caller, wanted: &[Wanted], error: &StoreError) {
    for one in wanted {
        info!(
            target: "audit",
            who = caller.name,
            from = caller.from,
            certificate = caller.certificate.as_deref(),
            config = &*one.name,
            action = match one.what {
                What::Put { .. } => "put",
                What::Delete => "delete",
            },
            %error,
            "audit: configuration not changed, as far as is known"
        );
    }
}
