//! Changes and faults -> done to nodes, clocks and the network.

use crate::director::UNHEARD_MS;
use crate::judge::{Trouble, Victim, Whose, unix_ms};
use crate::network::{NodeId, Rule};
use crate::simulation::Simulation;
use crate::time::{MILLI, SECOND};
use ringscrape_cluster::member::JobVersion;

/// A change or a fault.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// A node starts that did not run.
    Start(NodeId),
    /// A node leaves by plan, then its process ends.
    Leave(NodeId),
    /// A node can take so much.
    Weight(NodeId, u32),
    /// A node has other settings of a job.
    Job(NodeId, usize, u64),
    /// A node tells what its targets cost.
    Costs(NodeId),
    /// A process is killed.
    Kill(NodeId),
    /// A process stands still.
    Pause(NodeId),
    /// It goes on.
    Resume(NodeId),
    /// A node's clock is set.
    Step(NodeId, i64),
    /// Links are bad.
    Break(u64, Box<Rule>),
    /// They are not.
    Mend(u64),
}

/// A process ends so long after its leave has taken effect.
const LINGER_MS: i64 = 1_000;

impl Simulation {
    /// How long a node's slots may be missed after it is gone.
    fn bound_ms(&self) -> i64 {
        self.shape.detection_ms as i64 * 3 / 2 + 2_000
    }

    /// What a node owns may be missed for a while from now on. When much goes wrong at once, those
    /// who take over may be cut off themselves: then, until all agree again.
    fn node_suffers(&mut self, id: NodeId, cause: &'static str, for_ms: i64) {
        let process = &self.processes[id];
        let Some(running) = &process.running else {
            return;
        };
        running.scraper.note_owners(&self.views);
        let (true_ms, own_ms) = (unix_ms(self.now), process.moment(self.now).unix_ms);
        let first_ms = true_ms.min(own_ms) - self.skew_ms();
        let trouble = Trouble {
            cause,
            doubled_from_ms: first_ms - UNHEARD_MS,
            missed_from_ms: first_ms - 100,
            until_ms: (!self.director.is_shaken)
                .then(|| true_ms.max(own_ms) + self.skew_ms() + for_ms),
            of: Whose::Of(Victim {
                node: id,
                views: running.scraper.views().to_vec(),
            }),
        };
        self.judge.add(trouble, self.now);
    }

    /// A node does not scrape what it owned, for a reason that came of many faults at once.
    pub(crate) fn note_harm(&mut self, id: NodeId, cause: &'static str) {
        if self.director.is_shaken {
            self.node_suffers(id, cause, 0);
        }
    }

    /// Does it.
    pub(crate) fn act(&mut self, action: Action) {
        match action {
            Action::Start(id) => {
                let discovery = 100 * MILLI + self.random.below(SECOND);
                self.start(id, discovery);
            }
            Action::Leave(id) => {
                let active = self.actives();
                if active.len() > 2 && active.contains(&id) {
                    let process = &mut self.processes[id];
                    process.is_leaving = true;
                    process.is_wanted = false;
                    process.wish.is_active = false;
                    self.tell_wish(id);
                }
            }
            Action::Weight(id, weight) => {
                self.processes[id].wish.weight = weight;
                self.tell_wish(id);
            }
            Action::Job(id, job, hash) => {
                self.set_job(id, job, hash);
                self.tell_wish(id);
            }
            Action::Costs(id) => {
                if let Some(heavy) = self.costs_of(id) {
                    self.processes[id].wish.heavy = Some(heavy);
                    self.tell_wish(id);
                }
            }
            Action::Kill(id) => {
                self.settle_slots();
                // A process that is back before it was found dead goes on; if not, others do.
                self.node_suffers(id, "killed", self.bound_ms());
                if self.processes[id].is_up() {
                    self.agreement.killed(id, self.now);
                }
                self.stop(id, "killed");
            }
            Action::Pause(id) => {
                self.settle_slots();
                self.node_suffers(id, "stood still", self.bound_ms());
                if let Some(running) = &mut self.processes[id].running {
                    running.is_paused = true;
                    self.trace.note(self.now, id, "stands still".to_owned());
                }
            }
            Action::Resume(id) => self.resume(id),
            Action::Step(id, by_ms) => {
                self.settle_slots();
                self.note_harm(id, "clock set");
                self.director.clock_set = Some(self.now);
                let process = &mut self.processes[id];
                process.clock.step(by_ms);
                let moment = process.moment(self.now);
                if let Some(running) = process.running.as_mut().filter(|_| by_ms > 0) {
                    running.scraper.skip(moment);
                }
                self.trace
                    .note(self.now, id, format!("clock set by {by_ms} ms"));
            }
            Action::Break(id, rule) => self.network.add(id, *rule),
            Action::Mend(id) => self.network.remove(id),
        }
    }

    fn set_job(&mut self, id: NodeId, job: usize, hash: u64) {
        let job = self.world.jobs[job];
        let process = &mut self.processes[id];
        let since_ms = process.moment(self.now).unix_ms;
        let mut jobs = process.wish.jobs.to_vec();
        let others = |version: &&mut JobVersion| version.job == job && version.config_hash < hash;
        for version in jobs.iter_mut().filter(others) {
            version.config_hash = hash;
            version.since_ms = since_ms;
        }
        process.wish.jobs = jobs.into();
    }

    /// A node that starts has the newest settings.
    pub(crate) fn set_jobs(&mut self, id: NodeId) {
        for (job, hash) in self.director.config_hashes.clone() {
            self.set_job(id, job, hash);
        }
    }

    /// A process that stood still goes on: the clock first, or what waits for it, as it happens.
    pub(crate) fn resume(&mut self, id: NodeId) {
        let moment = self.processes[id].moment(self.now);
        let Some(running) = &mut self.processes[id].running else {
            return;
        };
        if !running.is_paused {
            return;
        }
        running.is_paused = false;
        running.scraper.skip(moment);
        let datagrams = std::mem::take(&mut running.socket);
        let frames = std::mem::take(&mut running.frames);
        self.trace.note(self.now, id, "goes on".to_owned());
        let is_clock_first = self.random.chance(0.5);
        if is_clock_first {
            self.drive(id, |node, now, out| node.tick(now, out));
        }
        for (from, bytes) in datagrams {
            let address = crate::process::address(from);
            self.drive(id, |node, now, out| node.receive(address, &bytes, now, out));
        }
        for (stream, is_answerer, bytes) in frames {
            self.frame(stream, is_answerer, bytes);
        }
        self.drive(id, |node, now, out| node.tick(now, out));
    }

    /// Processes that have left by plan end.
    pub(crate) fn end_leavers(&mut self) {
        for id in 0..self.processes.len() {
            let process = &self.processes[id];
            let moment = process.moment(self.now);
            let Some(running) = process.running.as_ref().filter(|_| process.is_leaving) else {
                continue;
            };
            // To the others it is there until then by their clocks, too.
            let snapshot = running.node.snapshot(process.clock.now(self.now));
            let skews = snapshot.members.iter().filter_map(|status| status.skew_ms);
            let skew_ms = skews.map(i64::abs).max().unwrap_or_default();
            let since_ms = moment.unix_ms - LINGER_MS - skew_ms;
            let views = running.scraper.views().iter();
            let mut holds = views
                .filter(|(from_ms, _)| *from_ms > since_ms)
                .map(|(_, view)| *view)
                .chain([running.scraper.view_at(since_ms)]);
            if running.is_paused || holds.any(|view| self.views.members(view).contains(&id)) {
                continue;
            }
            self.drive(id, |node, now, out| node.leave(now, out));
            // If it was cut off after all had known, they do not know that they had.
            self.note_harm(id, "had left");
            self.stop(id, "has left");
        }
    }
}
