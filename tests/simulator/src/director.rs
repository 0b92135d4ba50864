//! Rounds -> changes and faults at their times, and when the next round may begin.

use crate::actions::Action;
use crate::faults::{CHANGES, MOVES};
use crate::judge::{Trouble, Whose, unix_ms};
use crate::network::NodeId;
use crate::random::Random;
use crate::shape::{Round, Shape};
use crate::simulation::{Happening, Simulation};
use crate::time::{MILLI, Micros, SECOND};
use std::collections::{BTreeMap, VecDeque};

/// Where a run is in its rounds.
#[derive(Debug)]
pub(crate) struct Director {
    rounds: VecDeque<Round>,
    phase: Phase,
    random: Random,
    pub(crate) rules: u64,
    pub(crate) config_hash: u64,
    /// What nodes have of each job that start now.
    pub(crate) config_hashes: BTreeMap<usize, u64>,
    /// Whether many faults have been at once and not all agree again.
    pub(crate) is_shaken: bool,
    /// When a clock was last set.
    pub(crate) clock_set: Option<Micros>,
    /// Whether all that is done is set.
    pub(crate) is_done: bool,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The first nodes start.
    Starting,
    /// Nothing happens.
    Calm { until: Micros },
    /// A round's actions happen.
    Acting { until: Micros, is_chaos: bool },
    /// All nodes have to agree soon.
    Settling { since: Micros },
    /// The last slots are judged.
    Ending { until: Micros },
}

/// Nothing happens for so long between rounds.
const CALM: Micros = 3 * SECOND;
/// How long killed nodes stay dead in a round of crashes.
const DEAD: Micros = 12 * SECOND;
/// Chaos lasts so long.
pub(crate) const CHAOS: Micros = 20 * SECOND;
/// A dead node's slots may be scraped again from as long before its death on as an accuser may not
/// have heard of it.
pub(crate) const UNHEARD_MS: i64 = 60_000;
/// Clocks are set by up to this.
pub(crate) const STEP_MS: u64 = 3_000;

impl Director {
    pub(crate) fn new(shape: &Shape, random: Random) -> Self {
        Self {
            rounds: shape.rounds.iter().copied().collect(),
            phase: Phase::Starting,
            random,
            rules: 0,
            config_hash: 1,
            config_hashes: BTreeMap::new(),
            is_shaken: false,
            clock_set: None,
            is_done: false,
        }
    }

    /// Whether anything may happen at present.
    pub(crate) fn is_chaotic(&self) -> bool {
        matches!(self.phase, Phase::Acting { is_chaos: true, .. })
    }
}

impl Simulation {
    /// Goes on with the rounds as far as it is time.
    pub(crate) fn direct(&mut self) {
        let now = self.now;
        match self.director.phase {
            Phase::Starting => {
                let starts = self.shape.start_gap * self.shape.nodes as Micros;
                if self.shape.start_gap > 0 && self.judge.since_ms.is_none() {
                    // One after another: from the first one on each slot counts.
                    if self.agreement.is_anybody_active {
                        self.judge.since_ms = Some(unix_ms(now) + 1_000 + self.skew_ms());
                    }
                }
                if now >= starts && self.agreement.is_settled {
                    let since_ms = unix_ms(now) + 1_000 + self.skew_ms();
                    self.judge.since_ms.get_or_insert(since_ms);
                    self.figures.agreed.add(now - starts);
                    let ran = self.processes.iter().filter_map(|p| p.running.as_ref());
                    let ran = ran.map(|running| now - running.started).sum();
                    let (datagrams, streams) =
                        (self.figures.datagram_bytes, self.figures.stream_bytes);
                    self.figures.start = (datagrams, streams, ran);
                    self.director.phase = Phase::Calm { until: now + CALM };
                } else {
                    self.must_agree(starts);
                }
            }
            Phase::Calm { until } if now >= until => match self.director.rounds.pop_front() {
                Some(round) => {
                    self.figures.rounds += 1;
                    self.begin(round);
                }
                None => {
                    let until = now + self.shape.after;
                    self.director.phase = Phase::Ending { until };
                }
            },
            Phase::Calm { .. } => {}
            Phase::Acting { until, is_chaos } if now >= until => {
                if is_chaos {
                    self.repair();
                }
                self.director.phase = Phase::Settling { since: now };
            }
            Phase::Acting { .. } => {}
            Phase::Settling { since } => {
                if self.agreement.is_settled {
                    self.figures.agreed.add(now - since);
                    self.judge.end_all(unix_ms(now) + 1_000 + self.skew_ms());
                    self.director.is_shaken = false;
                    self.director.phase = Phase::Calm { until: now + CALM };
                } else {
                    self.must_agree(since);
                }
            }
            Phase::Ending { until } => self.director.is_done = now >= until,
        }
    }

    fn must_agree(&mut self, since: Micros) {
        if self.now > since + self.shape.agree_within {
            let seconds = self.shape.agree_within / SECOND;
            let why = self.agreement.why_not.clone();
            let nodes: Vec<NodeId> = self.agreement.odd.iter().copied().take(4).collect();
            for node in &nodes {
                self.note_table(*node);
            }
            self.breach(format!("no agreement within {seconds} s: {why}"), &nodes);
        }
    }

    pub(crate) fn skew_ms(&self) -> i64 {
        let errors = self
            .processes
            .iter()
            .map(|p| p.clock.error_ms(self.now).abs());
        errors.max().unwrap_or_default()
    }

    /// Whether that was so lately that what was written before may still be in the future.
    pub(crate) fn was_clock_set(&self) -> bool {
        let set = self.director.clock_set;
        set.is_some_and(|at| self.now < at + 2 * STEP_MS * MILLI)
    }

    pub(crate) fn schedule(&mut self, after: Micros, action: Action) {
        self.figures.actions += 1;
        self.queue.add(self.now + after, Happening::Do(action));
    }

    /// Nodes that run, are wanted, and are not leaving.
    pub(crate) fn actives(&self) -> Vec<NodeId> {
        let active = |p: &&crate::process::Process| p.is_up() && p.is_wanted && !p.is_leaving;
        self.processes.iter().filter(active).map(|p| p.id).collect()
    }

    fn begin(&mut self, round: Round) {
        let mut actives = self.actives();
        let mut random = self.director.random.fork();
        random.shuffle(&mut actives);
        let mut until = 2 * SECOND;
        let mut is_chaos = false;
        match round {
            Round::Planned { changes } => {
                for _ in 0..changes {
                    until = until.max(self.plan_change(&mut random, CHANGES, 10 * SECOND));
                }
            }
            Round::Move => {
                until = until.max(self.plan_change(&mut random, MOVES, SECOND));
            }
            Round::Crash { nodes } => {
                // Half of them have to stay, or nobody may judge.
                let most = actives.len().saturating_sub(1) / 2;
                for node in actives.into_iter().take(most.min(nodes as usize)) {
                    let after = random.below(2 * SECOND);
                    self.schedule(after, Action::Kill(node));
                    let again = after + DEAD + random.below(SECOND);
                    self.schedule(again, Action::Start(node));
                    until = until.max(again);
                }
            }
            Round::QuickRestart => {
                for node in actives.into_iter().take(1) {
                    let again = 200 * MILLI + random.below(SECOND);
                    self.schedule(0, Action::Kill(node));
                    self.schedule(again, Action::Start(node));
                }
            }
            Round::Standstill { for_ms } => {
                for node in actives.into_iter().take(1) {
                    self.schedule(0, Action::Pause(node));
                    self.schedule(for_ms * MILLI, Action::Resume(node));
                    until = until.max(for_ms * MILLI);
                }
            }
            Round::Costs => {
                for node in actives {
                    self.schedule(random.below(SECOND), Action::Costs(node));
                }
            }
            Round::Chaos { faults } => {
                let now_ms = unix_ms(self.now);
                self.judge.add(
                    Trouble {
                        cause: "many faults at once",
                        doubled_from_ms: now_ms - UNHEARD_MS,
                        missed_from_ms: i64::MAX,
                        until_ms: None,
                        of: Whose::Everybodys,
                    },
                    self.now,
                );
                // What all agree on is scraped, but for what those owned that were harmed: see
                // `note_harm`.
                self.judge.add(
                    Trouble {
                        cause: "nodes disagreed",
                        doubled_from_ms: i64::MAX,
                        missed_from_ms: now_ms - self.skew_ms() - STEP_MS as i64,
                        until_ms: None,
                        of: Whose::Disputed,
                    },
                    self.now,
                );
                for _ in 0..faults {
                    self.plan_fault(&mut random);
                }
                until = CHAOS;
                is_chaos = true;
                self.director.is_shaken = true;
            }
        }
        let until = self.now + until + SECOND / 2;
        self.director.phase = Phase::Acting { until, is_chaos };
    }

    /// All faults have an end.
    fn repair(&mut self) {
        self.network.heal();
        for id in 0..self.processes.len() {
            self.resume(id);
            if self.processes[id].is_wanted && !self.processes[id].is_leaving {
                self.start(id, SECOND);
            }
        }
    }
}
