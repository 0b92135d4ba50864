//! What is known of a target's series <-> a scrape without values, for the node that is next.
//!
//! The next owner ends what vanishes across the move, and counts nothing as added that was known
//! here. Its layout's last run is the automatic series, as in the log. The last explicit timestamps
//! and exemplars of series stay here: as after a restart, one of each may be sent once more.

use super::change::Tracking;
use super::target_state::TargetState;
use crate::matcher::{Layout, Tables, push_run};
use ringscrape_wal::definition::{self as wal, next_id};
use ringscrape_wal::scrape::{Scrape, Sides};
use std::sync::Arc;

/// Series in the order of a layout to be made.
#[derive(Default)]
struct Series {
    runs: Vec<wal::Run>,
    len: u32,
    /// Positions of those that are known but not tracked, rising.
    untracked: Vec<u32>,
}

impl Series {
    fn push(&mut self, block: &Arc<wal::Block>, kept: u32, is_tracked: bool) {
        push_run(&mut self.runs, block, kept, kept + 1);
        if !is_tracked {
            self.untracked.push(self.len);
        }
        self.len += 1;
    }
}

impl TargetState {
    /// What the next owner has to know. `None`: it was never scraped here, nor taken over.
    pub fn hand_over(&mut self, tables: &mut Tables, timestamp_ms: i64) -> Option<Scrape> {
        if !self.reported && self.restored.is_empty() && self.taken_over.is_empty() {
            return None;
        }
        let automatic = self.derivation(tables).automatic.clone();
        let steady = self.layout.as_ref().filter(|layout| {
            self.is_plain() && self.taken_over.is_empty() && layout.stamped.is_empty()
        });
        let (layout, untracked) = match steady {
            Some(layout) => (layout.logged().layout.clone(), Vec::new()),
            None => self.irregular(&automatic),
        };
        let sides = Sides {
            skipped: untracked,
            ..Sides::default()
        };
        Some(Scrape {
            target: self.target.clone(),
            // Each node has endpoints of its own.
            route: Arc::new(wal::Route {
                id: next_id(),
                endpoints: Box::default(),
            }),
            timestamp_ms,
            layout,
            values: Vec::new(),
            stale: Box::default(),
            sides: (!sides.skipped.is_empty()).then(|| Box::new(sides)),
        })
    }

    /// Takes what the node before knew. To be called before the first scrape; returns `false`, and
    /// does nothing, after it or if it is of a target with other labels.
    pub fn take_over(&mut self, scrape: &Scrape) -> bool {
        if !self.restore(scrape) {
            return false;
        }
        let known = scrape.layout.runs.split_last();
        self.taken_over = known.map_or(Vec::new(), |(_, known)| known.to_vec());
        true
    }

    /// All series that are known, and the positions of those that are not tracked.
    fn irregular(&self, automatic: &Arc<wal::Block>) -> (Arc<wal::Layout>, Vec<u32>) {
        let mut series = Series::default();
        if let Some(layout) = self.layout.as_deref() {
            self.push_layout(layout, &mut series);
        }
        let tracked = |run: &wal::Run, kept: u32| {
            self.restored.iter().any(|have| {
                Arc::ptr_eq(&have.block, &run.block) && (have.from..have.to).contains(&kept)
            })
        };
        // What was taken over holds all that was restored with it.
        let known = match self.taken_over.is_empty() {
            true => &self.restored,
            false => &self.taken_over,
        };
        for run in known {
            for kept in run.from..run.to {
                series.push(&run.block, kept, tracked(run, kept));
            }
        }
        let count = automatic.entries.len() as u32;
        series.runs.push(wal::Run {
            block: automatic.clone(),
            from: 0,
            to: count,
        });
        let layout = wal::Layout {
            id: next_id(),
            runs: series.runs.into(),
            len: series.len + count,
        };
        (Arc::new(layout), series.untracked)
    }

    fn push_layout(&self, layout: &Layout, series: &mut Series) {
        let tracking = Tracking {
            layout,
            to: self.tracked_to,
            except: &self.untracked,
            stamped: self.tracked_stamped,
        };
        let mut uncached = self.uncached.iter().peekable();
        for raw in 0..layout.len() {
            while uncached.next_if(|(_, to)| *to <= raw).is_some() {}
            let is_known = uncached.peek().is_none_or(|(from, _)| raw < *from);
            let is_tracked = tracking.contains(raw);
            if let Some((block, kept)) = layout.kept(raw)
                && (is_tracked || (is_known && layout.canonical(raw) == raw))
            {
                series.push(block, kept, is_tracked);
            }
        }
    }
}
