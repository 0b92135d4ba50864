//! The table, and what it was before -> views from time to time.
//!
//! What holds from now on follows from the table alone. Of the time before, each node knows what
//! it has seen: a new owner reads there whom a target came from.

use super::crashes::Dead;
use super::table::Table;
use crate::limits::WEIGHT_MAX;
use crate::member::{Member, Stage};
use crate::timeline::Timeline;
use crate::view::{Active, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How far back changes are kept in the timeline.
const PAST_MS: i64 = 10 * 60 * 1_000;
/// How many past changes are kept at most: each costs a ring.
const PAST_VIEWS_MAX: usize = 16;

/// The stages of all members, with those that their entries no longer tell.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    /// By name; sorted by `from_ms`.
    stages: BTreeMap<Arc<str>, Vec<Step>>,
}

#[derive(Debug)]
struct Step {
    incarnation: u64,
    zone: Arc<str>,
    stage: Stage,
}

impl Tracks {
    /// The timeline by the table as it is now. Views that are the same as before are taken over.
    pub(super) fn timeline(
        &mut self,
        before: &Timeline,
        table: &Table,
        dead: &Dead,
        now_ms: i64,
    ) -> Timeline {
        self.stages.retain(|name, _| table.member(name).is_some());
        for member in table.members() {
            let track = self.stages.entry(member.name.clone()).or_default();
            follow(track, member);
        }
        let mut changes = BTreeSet::new();
        for (name, track) in &self.stages {
            // Before the first step it is as in it: if it does not scrape then, nothing changes.
            let first = usize::from(track.first().is_some_and(|step| !step.stage.is_active));
            changes.extend(track[first..].iter().map(|step| step.stage.from_ms));
            changes.extend(
                track
                    .iter()
                    .filter_map(|step| dead.until_ms(name, step.incarnation)),
            );
        }
        let changes: Vec<i64> = changes.into_iter().collect();
        let ahead = changes.partition_point(|ms| *ms <= now_ms);
        let old = changes.partition_point(|ms| *ms <= now_ms.saturating_sub(PAST_MS));
        let first = old.max(ahead.saturating_sub(PAST_VIEWS_MAX));
        let horizon_ms = if first == 0 {
            i64::MIN
        } else {
            changes[first - 1]
        };
        self.forget(horizon_ms);
        let mut views = vec![(i64::MIN, self.view(before, dead, horizon_ms))];
        for from_ms in &changes[first..] {
            let view = self.view(before, dead, *from_ms);
            let is_new = views
                .last()
                .is_none_or(|(_, last)| last.members() != view.members());
            if is_new {
                views.push((*from_ms, view));
            }
        }
        Timeline::new(before.me().clone(), views)
    }

    fn view(&self, before: &Timeline, dead: &Dead, at_ms: i64) -> Arc<View> {
        let active = |(name, track): (&Arc<str>, &Vec<Step>)| {
            let after = track.partition_point(|step| step.stage.from_ms <= at_ms);
            let step = track.get(after.saturating_sub(1))?;
            let until_ms = dead.until_ms(name, step.incarnation);
            let is_dead = until_ms.is_some_and(|until_ms| until_ms <= at_ms);
            (step.stage.is_active && !is_dead).then(|| Active {
                name: name.clone(),
                zone: step.zone.clone(),
                stage: Stage {
                    weight: step.stage.weight.min(WEIGHT_MAX),
                    ..step.stage.clone()
                },
            })
        };
        let members: Vec<Active> = self.stages.iter().filter_map(active).collect();
        let same = before
            .views()
            .iter()
            .find(|(_, view)| view.members() == members);
        match same {
            Some((_, view)) => view.clone(),
            None => Arc::new(View::new(members)),
        }
    }

    /// Drops what ended before `horizon_ms`.
    fn forget(&mut self, horizon_ms: i64) {
        for track in self.stages.values_mut() {
            let after = track.partition_point(|step| step.stage.from_ms <= horizon_ms);
            track.drain(..after.saturating_sub(1));
        }
    }
}

/// What an entry says holds from its first time on; before that, what was known before.
fn follow(track: &mut Vec<Step>, member: &Member) {
    let agreed = member.next.as_ref().filter(|next| next.is_agreed);
    let step = |stage: &Stage| Step {
        incarnation: member.incarnation,
        zone: member.zone.clone(),
        stage: stage.clone(),
    };
    track.retain(|step| step.stage.from_ms < member.now.from_ms);
    track.push(step(&member.now));
    if let Some(next) = agreed {
        track.retain(|step| step.stage.from_ms < next.stage.from_ms);
        track.push(step(&next.stage));
    }
}
