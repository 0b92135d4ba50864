//! A plan and what became of it -> text for a terminal, or JSON.

use super::plan::Plan;
use ringscrape_engine::api::configs::{BatchView, ChangeView, OutcomeView};
use serde_json::json;
use std::fmt::Display;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// What is told.
#[derive(Debug, Default)]
pub(super) struct Report {
    directory: String,
    address: String,
    pub(super) managed_by: String,
    /// The store's, as last heard.
    pub(super) revision: Option<u64>,
    changes: Vec<ChangeView>,
    pub(super) refusals: Vec<String>,
    pub(super) is_applied: bool,
    pub(super) error: Option<String>,
}

impl Report {
    pub(super) fn new(directory: impl Display, address: &str) -> Self {
        Self {
            directory: directory.to_string(),
            address: address.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn take_plan(&mut self, plan: &Plan, foreseen: &BatchView) {
        self.changes.clone_from(&foreseen.changes);
        self.refusals.clone_from(&plan.refusals);
    }

    /// How many are to be created, updated, deleted and left alone.
    fn counts(&self) -> [usize; 4] {
        [
            OutcomeView::Created,
            OutcomeView::Updated,
            OutcomeView::Deleted,
            OutcomeView::Unchanged,
        ]
        .map(|wanted| {
            self.changes
                .iter()
                .filter(|one| one.outcome == wanted)
                .count()
        })
    }

    /// For people. Errors are told elsewhere.
    pub(super) fn text(&self, is_coloured: bool) -> String {
        let mut text = String::new();
        let mut line = |colour: &str, words: &str| {
            match is_coloured && !colour.is_empty() {
                true => text.push_str(&format!("{colour}{words}{PLAIN}\n")),
                false => text.push_str(&format!("{words}\n")),
            };
        };
        for change in &self.changes {
            match change.outcome {
                OutcomeView::Created => line(GREEN, &format!("+ create {}", change.name)),
                OutcomeView::Deleted => line(RED, &format!("- delete {}", change.name)),
                OutcomeView::Updated => line(YELLOW, &format!("~ update {}", change.name)),
                OutcomeView::Unchanged => {}
            }
            for one in change.diff.iter().flat_map(|diff| diff.lines()) {
                let colour = match one.as_bytes().first() {
                    Some(b'+') => GREEN,
                    Some(b'-') => RED,
                    _ => "",
                };
                line(colour, &format!("    {one}"));
            }
        }
        if self.error.is_some() && self.changes.is_empty() {
            return text;
        }
        let [created, updated, deleted, unchanged] = self.counts();
        let words = match (self.is_applied, created + updated + deleted) {
            (true, _) => format!("done: {created} created, {updated} updated, {deleted} deleted"),
            (false, 0) => "nothing to do".to_owned(),
            (false, _) => {
                format!("to do: {created} to create, {updated} to update, {deleted} to delete")
            }
        };
        line("", &format!("{words}, {unchanged} unchanged"));
        text
    }

    /// For programs: one object.
    pub(super) fn json(&self) -> String {
        let [created, updated, deleted, unchanged] = self.counts();
        let object = json!({
            "directory": self.directory,
            "address": self.address,
            "managed_by": self.managed_by,
            "revision": self.revision,
            "changes": self.changes,
            "counts": {
                "created": created,
                "updated": updated,
                "deleted": deleted,
                "unchanged": unchanged,
            },
            "refusals": self.refusals,
            "applied": self.is_applied,
            "error": self.error,
        });
        format!("{object:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let change = |name: &str, outcome, diff: Option<&str>| ChangeView {
            name: name.to_owned(),
            outcome,
            revision_before: None,
            diff: diff.map(str::to_owned),
        };
        Report {
            changes: vec![
                change("a", OutcomeView::Created, None),
                change("b", OutcomeView::Updated, Some("-x\n+y\n z\n")),
                change("c", OutcomeView::Deleted, None),
                change("d", OutcomeView::Unchanged, None),
            ],
            ..Report::new("dir", "http://h")
        }
    }

    #[test]
    fn plain_text_has_no_colours() {
        let wanted = "+ create a\n~ update b\n    -x\n    +y\n     z\n- delete c\n\
                      to do: 1 to create, 1 to update, 1 to delete, 1 unchanged\n";
        assert_eq!(report().text(false), wanted);
        let coloured = report().text(true);
        assert!(
            coloured.contains("\x1b[32m+ create a\x1b[0m\n"),
            "{coloured}"
        );
        let mut rest = coloured;
        for colour in [GREEN, RED, YELLOW, PLAIN] {
            rest = rest.replace(colour, "");
        }
        assert_eq!(rest, wanted);
    }

    #[test]
    fn what_was_done_is_told_so() {
        let mut done = report();
        done.is_applied = true;
        let last = done
            .text(false)
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned();
        assert_eq!(last, "done: 1 created, 1 updated, 1 deleted, 1 unchanged");
        let value: serde_json::Value = serde_json::from_str(&done.json()).unwrap();
        assert_eq!(
            value["counts"],
            json!({
                "created": 1, "updated": 1, "deleted": 1, "unchanged": 1
            })
        );
        assert_eq!(
            (&value["applied"], &value["error"]),
            (&json!(true), &json!(null))
        );
        assert_eq!(value["changes"][1]["outcome"], "updated");
    }
}
