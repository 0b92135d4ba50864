//! All nodes, looked at together -> whether they agree, since when, and what a change has moved.

use crate::director::STEP_MS;
use crate::network::NodeId;
use crate::simulation::{Happening, Simulation};
use crate::time::{MILLI, Micros, SECOND};
use crate::views::ViewId;
use ringscrape_cluster::View;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was seen when all nodes were last looked at.
#[derive(Debug, Default)]
pub(crate) struct Agreement {
    /// All agree that all who want to scrape do, and that nothing is about to change.
    pub(crate) is_settled: bool,
    /// Whether there is a node that scrapes.
    pub(crate) is_anybody_active: bool,
    /// Why it is not settled,
    pub(crate) why_not: String,
    /// and nodes to look at.
    pub(crate) odd: Vec<NodeId>,
    /// Since when tables differ.
    differ_since: Option<Micros>,
    /// What all agreed on last.
    pub(crate) last: Option<(ViewId, Arc<View>)>,
    /// Who was killed and may still be counted on, with the time.
    killed: Vec<(NodeId, Micros)>,
}

/// Between two looks.
const EVERY: Micros = 50 * MILLI;
const EVERY_OF_MANY: Micros = 200 * MILLI;
const MANY: usize = 100;
/// Joins and leaves that are measured with all targets; later ones with those that are followed.
const MOVES_MEASURED_FULLY: u32 = 12;
/// What a join or leave may move, as a multiple of 1/N: 128 tokens make shares uneven.
const MOVED_MAX: f64 = 1.5;

impl Agreement {
    pub(crate) fn killed(&mut self, id: NodeId, at: Micros) {
        self.killed.retain(|(other, _)| *other != id);
        self.killed.push((id, at));
    }
}

impl Simulation {
    /// Looks at all nodes.
    pub(crate) fn poll(&mut self) {
        let is_many = self.processes.len() > MANY;
        let every = if is_many { EVERY_OF_MANY } else { EVERY };
        self.queue.add(self.now + every, Happening::Poll);
        self.settle_slots();
        self.end_leavers();
        self.compare();
        self.direct();
    }

    fn compare(&mut self) {
        let mut digests = BTreeMap::<u64, Vec<NodeId>>::new();
        let mut views = BTreeMap::<ViewId, Vec<NodeId>>::new();
        let mut of_digest = BTreeMap::<u64, (ViewId, NodeId)>::new();
        let mut pending = None;
        let mut conflict = None;
        // What holds from now on follows from the table alone; of the time before, nodes know what
        // they have seen. So they are asked about a time that is not over for any of them.
        let up = self.processes.iter().filter(|process| process.is_up());
        let latest_ms = up.map(|process| process.moment(self.now).unix_ms).max();
        // A node with a clock that is ahead writes its past into the others' future: that stays
        // there when the clock has been set right.
        let ahead_ms = if self.director.is_chaotic() || self.was_clock_set() {
            2 * STEP_MS as i64
        } else {
            self.skew_ms()
        };
        let latest_ms = latest_ms.unwrap_or_default() + ahead_ms;
        for process in &self.processes {
            let Some(running) = process.running.as_ref().filter(|r| !r.is_paused) else {
                continue;
            };
            let digest = running.node.state().digest();
            let now_ms = process.moment(self.now).unix_ms;
            let view = running.scraper.view_at(latest_ms);
            digests.entry(digest).or_default().push(process.id);
            views.entry(view).or_default().push(process.id);
            // A node that has not entered yet has the table, and no view.
            let has_entered = !self.views.members(view).is_empty();
            let is_stale = running.node.state().is_timeline_stale();
            if digest != 0 && has_entered && !running.is_isolated && !is_stale {
                let (other, who) = *of_digest.entry(digest).or_insert((view, process.id));
                if other != view {
                    conflict = Some((who, process.id));
                }
            }
            let last = running.scraper.views().last();
            // So the view of that time is the present one as soon as nothing is pending.
            if last.is_some_and(|(from_ms, _)| *from_ms > now_ms) {
                pending = Some(process.id);
            }
        }
        if let Some((one, other)) = conflict {
            let what = format!("node-{one} and node-{other} have equal tables, different views");
            self.breach(what, &[one, other]);
        }
        self.note_spread(digests.len() > 1);
        self.agreement.is_anybody_active = views
            .keys()
            .any(|view| !self.views.members(*view).is_empty());
        self.agreement.is_settled = false;
        self.note_takeovers();
        if digests.len() > 1 || views.len() > 1 {
            let sizes = |groups: Vec<usize>| format!("{groups:?}");
            self.agreement.why_not = format!(
                "nodes by table {}, by view {}",
                sizes(digests.values().map(Vec::len).collect()),
                sizes(views.values().map(Vec::len).collect())
            );
            let firsts = digests.values().chain(views.values());
            self.agreement.odd = firsts.filter_map(|nodes| nodes.first().copied()).collect();
            self.agreement.odd.sort_unstable();
            self.agreement.odd.dedup();
            return;
        }
        if let Some(node) = pending {
            self.agreement.why_not = "a change is pending".to_owned();
            self.agreement.odd = vec![node];
            return;
        }
        let Some((view, nodes)) = views.into_iter().next() else {
            self.agreement.why_not = "no node runs".to_owned();
            return;
        };
        self.note_consensus(view, nodes[0], latest_ms);
        let mut members = self.views.members(view).to_vec();
        members.sort_unstable();
        let wanted = self.processes.iter().filter(|p| p.is_wanted).map(|p| p.id);
        let wanted: Vec<NodeId> = wanted.collect();
        if members != wanted {
            let is_odd = |id: &NodeId| members.contains(id) != wanted.contains(id);
            let odd: Vec<NodeId> = (0..self.processes.len()).filter(is_odd).collect();
            self.agreement.why_not = format!("all agree, but not on nodes {odd:?}");
            self.agreement.odd = odd;
            return;
        }
        let is_leaving = self
            .processes
            .iter()
            .any(|p| p.is_leaving && p.running.is_some());
        if is_leaving {
            self.agreement.why_not = "a node is leaving".to_owned();
            return;
        }
        self.agreement.is_settled = true;
    }

    fn note_spread(&mut self, differ: bool) {
        let now = self.now;
        let since = &mut self.agreement.differ_since;
        if differ {
            since.get_or_insert(now);
        } else if let Some(since) = since.take() {
            self.figures.spread.add(now - since);
        }
    }

    fn note_takeovers(&mut self) {
        let mut killed = std::mem::take(&mut self.agreement.killed);
        killed.retain(|(id, at)| {
            if self.processes[*id].running.is_some() {
                return false;
            }
            let counted_on = self.processes.iter().any(|process| {
                let now_ms = process.moment(self.now).unix_ms;
                let running = process.running.as_ref().filter(|r| !r.is_paused);
                running.is_some_and(|r| {
                    let view = r.scraper.view_at(now_ms);
                    self.views.members(view).contains(id)
                })
            });
            if !counted_on {
                self.figures.takeovers.add(self.now - at);
            }
            counted_on && self.now < at + 60 * SECOND
        });
        self.agreement.killed = killed;
    }

    fn note_consensus(&mut self, view: ViewId, node: NodeId, at_ms: i64) {
        let Some(running) = &self.processes[node].running else {
            return;
        };
        if self
            .agreement
            .last
            .as_ref()
            .is_some_and(|(last, _)| *last == view)
        {
            return;
        }
        let now = running.scraper.timeline().view_at(at_ms).clone();
        if let Some((last, before)) = self.agreement.last.replace((view, now.clone())) {
            self.measure_move((last, &before), (view, &now));
        }
    }

    /// Of a join or a leave of one node: what moved, and whether all that moved had to.
    fn measure_move(&mut self, before: (ViewId, &View), after: (ViewId, &View)) {
        let (members_before, members_after) =
            (self.views.members(before.0), self.views.members(after.0));
        let gone = members_before.iter().filter(|m| !members_after.contains(m));
        let come = members_after.iter().filter(|m| !members_before.contains(m));
        let changed: Vec<NodeId> = gone.chain(come).copied().collect();
        let count = members_before.len().max(members_after.len());
        let is_even = self.views.is_even(before.0) && self.views.is_even(after.0);
        let [node] = changed.as_slice() else {
            return;
        };
        if !is_even || count < 3 || count == members_before.len().min(members_after.len()) {
            return;
        }
        let same_settings = same_settings(before.1, after.1);
        if !same_settings {
            return;
        }
        let node = *node;
        let name = crate::process::name(node);
        let is_full = self.figures.moves < MOVES_MEASURED_FULLY;
        let targets = if is_full {
            &self.world.targets[..]
        } else {
            self.world.followed()
        };
        let mut moved = 0usize;
        let mut needless = 0usize;
        for target in targets {
            let job = self.world.jobs[target.job];
            let (a, b) = (
                before.1.owner(job, target.key),
                after.1.owner(job, target.key),
            );
            if a != b {
                moved += 1;
                needless += usize::from(a != Some(&*name) && b != Some(&*name));
            }
        }
        let fair = targets.len() as f64 / count as f64;
        let ratio = moved as f64 / fair;
        self.figures.moves += 1;
        if is_full {
            self.figures.moved_max = self.figures.moved_max.max(ratio);
        }
        // What is left to chance when few targets are looked at.
        let most = fair * MOVED_MAX + 6.0 * fair.sqrt() + 6.0;
        if needless > 0 || moved as f64 > most {
            let what = format!(
                "node-{node} came or went: {moved} of {} targets moved among {count} nodes, \
                 {needless} of them between others",
                targets.len()
            );
            self.breach(what, &[node]);
        }
    }
}

fn same_settings(before: &View, after: &View) -> bool {
    let jobs = |view: &View| {
        let member = view.members().first();
        member.map(|m| {
            let jobs = m.stage.jobs.iter().map(|j| (j.job, j.config_hash));
            (m.stage.weight, jobs.collect::<Vec<_>>())
        })
    };
    jobs(before) == jobs(after)
}
