//! What targets cost, by the shards -> what this node tells the cluster; targets that no node has
//! room for -> a line in the log.

use super::costs::{LOOK, Look, URGENT_LOOK};
use super::{Clustering, Control, collect};
use crate::api::cluster::refused_targets;
use crate::clock;
use crate::mailbox::{CostReport, ToShard};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{error, info};

/// How often it is said that targets are refused.
const REFUSALS_PAUSE: Duration = Duration::from_secs(60);

impl Clustering {
    /// Takes note of what others tell of costs; looks soon, if this node has to tell something.
    pub(super) fn observe_costs(&mut self) {
        let Some((_, view)) = self.timeline.views().last() else {
            return;
        };
        if self.learner.observe(self.timeline.me(), view) {
            self.costs_at = self.costs_at.min(Instant::now() + URGENT_LOOK);
        }
    }
}

impl Control {
    /// Asks the shards what targets cost, if that is due.
    pub(super) async fn ask_costs(&mut self, answers: &mpsc::Sender<Vec<CostReport>>) {
        let now = Instant::now();
        let clustering = self.clustering.as_mut();
        let Some(clustering) = clustering.filter(|clustering| clustering.costs_at <= now) else {
            return;
        };
        clustering.costs_at = now + LOOK;
        let places = clustering.learner.asked();
        let question = |answer| ToShard::Costs(places.clone(), answer);
        let (asked, answers) = (self.ask_shards(question).await, answers.clone());
        tokio::spawn(async move {
            if let Some(reports) = collect(asked).await {
                // Of two looks that overtake each other one will do.
                let _ = answers.try_send(reports);
            }
        });
    }

    /// Learns from what the shards say, and tells the cluster if that is worth a change.
    pub(super) async fn learn_costs(&mut self, reports: &[CostReport]) {
        let counts = self.jobs.counts();
        let Some(clustering) = &mut self.clustering else {
            return;
        };
        let timeline = clustering.timeline.clone();
        let Some((_, view)) = timeline.views().last() else {
            return;
        };
        let (jobs, now_ms) = (&self.jobs, clock::now_ms());
        let look = Look {
            me: timeline.me(),
            view,
            counts: &counts,
            exists: &|(job, place)| jobs.has_place(job, place),
            budget: clustering.options.budget_samples_per_s,
            now_ms,
        };
        let is_new = clustering.learner.look(reports, &look);
        let listed = clustering.learner.listed();
        if is_new {
            info!(
                listed,
                "what targets cost has changed: loads are levelled anew"
            );
            self.wish().await;
        }
        if view.has_budgets() {
            self.say_what_is_refused();
        }
    }

    /// Looks at all targets, so not on this thread.
    fn say_what_is_refused(&mut self) {
        let now = Instant::now();
        let clustering = self.clustering.as_mut();
        let Some(clustering) = clustering.filter(|one| one.refusals_at <= now) else {
            return;
        };
        clustering.refusals_at = now + REFUSALS_PAUSE;
        let fleet = self.fleet();
        tokio::task::spawn_blocking(move || {
            let (targets, first) = refused_targets(&fleet);
            if targets > 0 {
                error!(
                    targets,
                    first,
                    "no node has room for some targets: nobody scrapes them; add nodes, or raise \
                     --cluster.samples-per-second-max"
                );
            }
        });
    }
}
