//! What is known around a breach -> text for people.

use crate::judge::unix_ms;
use crate::ledger::Slot;
use crate::network::NodeId;
use crate::process::name;
use crate::scraper::Scraper;
use crate::simulation::Simulation;
use crate::time::{EPOCH_MS, MILLI, Micros};
use crate::views::Views;

impl Simulation {
    pub(crate) fn concerned(&self, slot: &Slot) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = slot.scrapes.iter().map(|scrape| scrape.node).collect();
        for process in &self.processes {
            if let Some(running) = &process.running {
                let view = running.scraper.view_at(slot.unix_ms);
                nodes.extend(self.views.owner(view, slot.target));
            }
        }
        nodes.extend(&slot.named);
        nodes.sort_unstable();
        nodes.dedup();
        nodes.truncate(8);
        nodes
    }

    pub(crate) fn describe(&self, slot: &Slot) -> String {
        let target = &self.world.targets[slot.target];
        let after_ms = slot.unix_ms - EPOCH_MS;
        let at = crate::time::text(after_ms.max(0) as Micros * MILLI);
        let mut owners: Vec<(Option<NodeId>, usize)> = Vec::new();
        for process in &self.processes {
            if let Some(running) = &process.running {
                let view = running.scraper.view_at(slot.unix_ms);
                let owner = self.views.owner(view, slot.target);
                match owners.iter_mut().find(|(known, _)| *known == owner) {
                    Some((_, count)) => *count += 1,
                    None => owners.push((owner, 1)),
                }
            }
        }
        let scrapes = slot.scrapes.iter().map(|scrape| {
            let at = crate::time::text(scrape.at);
            let late = if scrape.is_late { ", late" } else { "" };
            format!("node-{} at {at} by view {}{late}", scrape.node, scrape.view)
        });
        let scrapes: Vec<String> = scrapes.collect();
        format!(
            "target {} (every {} ms), slot {} at {at}, scraped by {:?}; owners as nodes see it \
             now, each with how many do: {owners:?}; as they saw it then: {:?}",
            slot.target, target.interval_ms, slot.number, scrapes, slot.named
        )
    }

    /// What a node knows, and what the others are in truth.
    pub(crate) fn note_table(&mut self, id: NodeId) {
        let process = &self.processes[id];
        let Some(running) = &process.running else {
            return;
        };
        let snapshot = running.node.snapshot(process.clock.now(self.now));
        let mut notes = vec![format!(
            "founder {:?}, digest {:x}, isolated {}, waits for {:?}",
            snapshot.founder, snapshot.digest, snapshot.is_isolated, snapshot.waits_for
        )];
        for status in &snapshot.members {
            let member = &status.member;
            let other = self
                .processes
                .iter()
                .find(|p| p.id != id && *member.name == *name(p.id));
            let truth = other.map(|other| match &other.running {
                Some(running) => format!("runs as {}", running.node.state().incarnation()),
                None => "does not run".to_owned(),
            });
            notes.push(format!(
                "{} {:?} incarnation {} version {} active {} next {:?}, knows mine: {}; {}",
                member.name,
                status.state,
                member.incarnation,
                member.version,
                member.now.is_active,
                member.next.as_ref().map(|next| (
                    next.is_agreed,
                    next.stage.is_active,
                    next.stage.from_ms - unix_ms(0)
                )),
                status.is_up_to_date,
                truth.unwrap_or_else(|| "itself".to_owned()),
            ));
        }
        for note in notes {
            self.trace.note(self.now, id, note);
        }
    }
}

/// A timeline's newest views.
pub(crate) fn view_note(scraper: &Scraper, views: &Views) -> String {
    let newest = scraper.views().iter().rev().take(4).rev();
    let newest: Vec<String> = newest
        .map(|(from_ms, view)| {
            let from = match *from_ms {
                i64::MIN => "ever".to_owned(),
                _ => format!("{} ms", from_ms - EPOCH_MS),
            };
            let members = views.members(*view);
            let count = members.len();
            match count {
                0..=9 => format!("from {from} view {view} {members:?}"),
                _ => format!("from {from} view {view} of {count}"),
            }
        })
        .collect();
    format!("timeline: {}", newest.join("; "))
}
