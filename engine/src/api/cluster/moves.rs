//! The timeline, as it changes -> which targets moved when, from whom to whom, and why.

use super::fleet::owner_in;
use super::status::causes;
use super::view::{Flow, MoveView};
use crate::target::Target;
use ringscrape_cluster::{Timeline, View};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// How long moves are remembered; longer than a timeline goes back.
const KEPT_MS: i64 = 3_600_000;
/// Moves that are remembered at most.
const KEPT_MAX: usize = 1_000;

/// The moves of the last hour.
#[derive(Debug, Default)]
pub(crate) struct MoveLog {
    /// Oldest first, by the time at which they were noticed.
    moves: VecDeque<MoveView>,
    /// Targets moved since the start, by cause.
    totals: BTreeMap<String, u64>,
}

impl MoveLog {
    /// Takes note of the changes in `timeline` that have taken effect; to be called whenever there
    /// is another timeline, and from time to time. `has_crashed`: whether a node that is gone from
    /// a time on was found dead. `targets` are asked for only if there is something new.
    pub(crate) fn observe(
        &mut self,
        timeline: &Timeline,
        has_crashed: impl Fn(&str, i64) -> bool,
        targets: impl Fn() -> Vec<Arc<Target>>,
        now_ms: i64,
    ) {
        self.moves.retain(|one| one.at_ms > now_ms - KEPT_MS);
        while self.moves.len() > KEPT_MAX {
            self.moves.pop_front();
        }
        for pair in timeline.views().windows(2) {
            let ((_, before), (at_ms, after)) = (&pair[0], &pair[1]);
            let is_known = self.moves.iter().any(|known| known.at_ms == *at_ms);
            if *at_ms > now_ms || *at_ms <= now_ms - KEPT_MS || is_known {
                continue;
            }
            let mut one = compare(before, after, |name| has_crashed(name, *at_ms));
            one.at_ms = *at_ms;
            if one.nodes.is_empty() {
                continue;
            }
            one.flows = flows(before, after, &targets());
            one.targets = one.flows.iter().map(|flow| flow.targets).sum();
            let first = one.cause.split(',').next().unwrap_or_default().to_owned();
            *self.totals.entry(first).or_default() += one.targets;
            self.moves.push_back(one);
        }
    }

    /// Newest first.
    pub(crate) fn moves(&self) -> Vec<MoveView> {
        let mut moves: Vec<MoveView> = self.moves.iter().cloned().collect();
        moves.sort_by_key(|one| std::cmp::Reverse(one.at_ms));
        moves
    }

    /// Targets moved since the start, by cause; a change with several counts for the first one.
    pub(crate) fn totals(&self) -> &BTreeMap<String, u64> {
        &self.totals
    }
}

/// Who changed, and in which respects.
fn compare(before: &View, after: &View, has_crashed: impl Fn(&str) -> bool) -> MoveView {
    let stages = |view: &View| -> BTreeMap<Arc<str>, _> {
        let members = view.members().iter();
        members
            .map(|one| (one.name.clone(), one.stage.clone()))
            .collect()
    };
    let (before, after) = (stages(before), stages(after));
    let names: BTreeSet<&Arc<str>> = before.keys().chain(after.keys()).collect();
    let mut nodes = Vec::new();
    let mut found = BTreeSet::new();
    for name in names {
        let of_node = match (before.get(name), after.get(name)) {
            (None, Some(_)) => vec!["join"],
            (Some(_), None) if has_crashed(name) => vec!["crash"],
            (Some(_), None) => vec!["leave"],
            (Some(before), Some(after)) => causes(before, after),
            (None, None) => Vec::new(),
        };
        if !of_node.is_empty() {
            nodes.push(name.to_string());
            found.extend(of_node);
        }
    }
    // What moves most comes first.
    let order = ["crash", "leave", "join", "weight", "jobs", "heavy"];
    let cause: Vec<&str> = order
        .into_iter()
        .filter(|cause| found.contains(cause))
        .collect();
    MoveView {
        cause: cause.join(", "),
        nodes,
        ..MoveView::default()
    }
}

fn flows(before: &View, after: &View, targets: &[Arc<Target>]) -> Vec<Flow> {
    let mut counts = BTreeMap::<(Option<&str>, Option<&str>), u64>::new();
    for target in targets {
        let (from, to) = (owner_in(before, target), owner_in(after, target));
        if from != to {
            *counts.entry((from, to)).or_default() += 1;
        }
    }
    let mut flows: Vec<Flow> = (counts.into_iter())
        .map(|((from, to), targets)| Flow {
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            targets,
        })
        .collect();
    flows.sort_by_key(|flow| std::cmp::Reverse(flow.targets));
    flows
}
