//! What a run is like.

use crate::network::Links;
use crate::time::{Micros, SECOND};

/// All that decides a run: equal shapes give equal runs.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Nodes that there are; some may be down.
    pub nodes: usize,
    /// Nodes that start later: they join as part of planned rounds.
    pub spares: usize,
    /// Targets.
    pub targets: usize,
    /// Targets that are followed slot by slot.
    pub followed: usize,
    /// The network when nothing is wrong.
    pub links: Links,
    /// Clocks are off by up to this.
    pub skew_ms: u64,
    /// Clocks run fast or slow by up to this.
    pub drift_ppm: u64,
    /// How fast nodes find the dead.
    pub detection_ms: u64,
    /// Between two starts of the nodes that are there from the beginning; 0 = all at once.
    pub start_gap: Micros,
    /// What happens to them after that.
    pub rounds: Vec<Round>,
    /// The most that a node may have of all samples, as a multiple of its share, after costs were
    /// told.
    pub skew_max: f64,
    /// How long it goes on after the last round.
    pub after: Micros,
    /// All nodes have to agree this long after a round's faults have ended.
    pub agree_within: Micros,
}

/// What happens for a while. Each round starts when all nodes agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Joins, leaves, changes of weights and jobs, one after another and at once: no slot may be
    /// missed or scraped twice.
    Planned {
        /// How many changes.
        changes: u32,
    },
    /// One node joins, or leaves: what moves is measured.
    Move,
    /// Some nodes are killed and stay dead for a while: only their slots may suffer, and only
    /// until they are found dead.
    Crash {
        /// How many at once.
        nodes: u32,
    },
    /// A process is killed and started again at once.
    QuickRestart,
    /// A process stands still for a while.
    Standstill {
        /// How long.
        for_ms: u64,
    },
    /// Each node tells the others of the costs of its targets, all at once; then load by samples
    /// has to be level.
    Costs,
    /// Anything at once; what is checked is that all is well again soon after.
    Chaos {
        /// How many faults.
        faults: u32,
    },
}

impl Shape {
    /// A small run in which nothing goes wrong.
    pub fn small(seed: u64, nodes: usize) -> Self {
        Self {
            seed,
            nodes,
            spares: 2,
            targets: 2_000,
            followed: 300,
            links: Links::local(),
            skew_ms: 50,
            drift_ppm: 50,
            detection_ms: 2_000,
            start_gap: 0,
            rounds: Vec::new(),
            skew_max: 1.10,
            after: 30 * SECOND,
            agree_within: 60 * SECOND,
        }
    }
}
