//! What a run has shown -> one table.

use crate::judge::{Fault, Tally};
use crate::time::{Micros, SECOND};
use std::fmt::{self, Display};

/// Durations, to be shown by their middle and their end.
#[derive(Debug, Clone, Default)]
pub struct Durations(Vec<Micros>);

/// What a run has shown.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// True time that went by.
    pub duration: Micros,
    /// Events handled.
    pub events: u64,
    /// Nodes at the end.
    pub nodes: usize,
    /// Targets in all.
    pub targets: usize,
    /// Of slots.
    pub(crate) tally: Tally,
    /// Rounds of faults and changes that were done.
    pub rounds: u32,
    /// Faults and changes in them.
    pub actions: u32,
    /// From the end of a round's last fault until all nodes agreed.
    pub agreed: Durations,
    /// From a change until all nodes had the same table again.
    pub spread: Durations,
    /// From a proposal until it was agreed.
    pub proposals: Durations,
    /// From a kill until no other node counted on the dead one.
    pub takeovers: Durations,
    /// Members found dead that were alive.
    pub false_accusations: u64,
    /// The most that one join or leave moved, as a multiple of its fair share of the targets.
    pub moved_max: f64,
    /// Joins and leaves that this was measured at.
    pub moves: u32,
    /// Bytes of datagrams.
    pub datagram_bytes: u64,
    /// Bytes of exchanges.
    pub stream_bytes: u64,
    /// Exchanges begun.
    pub exchanges: u64,
    /// Time that nodes ran, in all.
    pub node_time: Micros,
    /// Load by samples: the largest share over the mean, and the same by targets.
    pub skew: Option<(f64, f64)>,
    /// Times that a node told what its targets cost.
    pub costs_told: u32,
    /// Bytes of datagrams and of exchanges, and the time that nodes ran, until all agreed first.
    pub start: (u64, u64, Micros),
    /// Different views.
    pub views: usize,
    /// Equal for equal runs.
    pub trace: u64,
}

impl Figures {
    /// Slots that were judged.
    pub fn slots(&self) -> u64 {
        self.tally.slots
    }

    /// Slots that were missed, and those that were scraped twice: all of them with a cause.
    pub fn missed_and_doubled(&self) -> (u64, u64) {
        let count = |wanted: Fault| {
            let faults = self.tally.faults.iter();
            faults
                .filter(|((fault, _), _)| *fault == wanted)
                .map(|(_, count)| count)
                .sum()
        };
        (count(Fault::Missed), count(Fault::Doubled))
    }
}

impl Durations {
    /// One more.
    pub fn add(&mut self, duration: Micros) {
        self.0.push(duration);
    }

    /// The middle one and the longest; `None`: there are none.
    pub fn middle_and_longest(&self) -> Option<(Micros, Micros)> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
    }
}

impl Display for Durations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |micros: Micros| micros as f64 / SECOND as f64;
        match self.middle_and_longest() {
            None => write!(formatter, "-"),
            Some((middle, longest)) => write!(
                formatter,
                "p50 {:.2} s, max {:.2} s (of {})",
                seconds(middle),
                seconds(longest),
                self.0.len()
            ),
        }
    }
}

impl Display for Figures {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node_seconds = (self.node_time as f64 / SECOND as f64).max(1.0);
        let per_node = |bytes: u64| bytes as f64 / node_seconds;
        let minutes = self.duration as f64 / SECOND as f64 / 60.0;
        let mut line = |name: &str, value: &dyn Display| writeln!(to, "{name:<32} {value}");
        line("nodes", &self.nodes)?;
        line("targets", &self.targets)?;
        line("simulated minutes", &format_args!("{minutes:.1}"))?;
        line("events", &self.events)?;
        line(
            "rounds, changes and faults",
            &format_args!("{}, {}", self.rounds, self.actions),
        )?;
        line("slots checked", &self.tally.slots)?;
        line("  scraped late, by a successor", &self.tally.late)?;
        for ((fault, cause), count) in &self.tally.faults {
            let word = match fault {
                Fault::Missed => "missed",
                Fault::Doubled => "doubled",
                Fault::Repeated => "repeated",
            };
            line(&format!("  {word}: {cause}"), count)?;
        }
        line("  without a cause", &self.tally.breaches)?;
        line("all agree after faults", &self.agreed)?;
        line("tables equal after a change", &self.spread)?;
        line("change agreed", &self.proposals)?;
        line("taken over after a kill", &self.takeovers)?;
        line("found dead while alive", &self.false_accusations)?;
        line(
            "moved by a join or leave, at most",
            &format_args!("{:.2} x 1/N (of {})", self.moved_max, self.moves),
        )?;
        line(
            "datagram bytes per node, second",
            &format_args!("{:.0}", per_node(self.datagram_bytes)),
        )?;
        line(
            "exchange bytes per node, second",
            &format_args!("{:.0}", per_node(self.stream_bytes)),
        )?;
        let start_seconds = (self.start.2 as f64 / SECOND as f64).max(1.0);
        line(
            "  the same until all had joined",
            &format_args!(
                "{:.0}, {:.0}",
                self.start.0 as f64 / start_seconds,
                self.start.1 as f64 / start_seconds
            ),
        )?;
        line("exchanges", &self.exchanges)?;
        line("nodes that told of costs", &self.costs_told)?;
        match self.skew {
            Some((samples, targets)) => line(
                "largest over mean",
                &format_args!("{samples:.3} by samples, {targets:.3} by targets"),
            )?,
            None => line("largest over mean", &"-")?,
        }
        line("different views", &self.views)?;
        line("trace", &format_args!("{:016x}", self.trace))
    }
}
