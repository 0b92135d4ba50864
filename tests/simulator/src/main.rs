//! Flags -> one simulated run, with its progress, and a table in the end.

use clap::{Parser, ValueEnum};
use ringscrape_simulator::time::{MILLI, SECOND, text};
use ringscrape_simulator::{Links, Round, Shape, Simulation};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  50 nodes, joins, leaves, crashes, restarts, costs:    --nodes 50 --rounds 8 --costs
  50 nodes, 3,000 random faults:      --nodes 50 --rounds 0 --faults 3000 --agree-within-s 180
  1,000 nodes and 1,000,000 targets that join one after another, then tell of their costs:
      --nodes 1000 --spares 0 --targets 1000000 --rounds 0 --start-gap-ms 25 --costs
The last one needs 3 GiB and some minutes of one core.";

/// Runs a simulated cluster and prints what it has shown. Equal flags give equal runs.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Flags {
    /// Where all randomness comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes that start.
    #[arg(long, default_value_t = 50)]
    nodes: usize,
    /// Nodes that join later.
    #[arg(long, default_value_t = 3)]
    spares: usize,
    /// Targets.
    #[arg(long, default_value_t = 100_000)]
    targets: usize,
    /// Targets that are followed slot by slot.
    #[arg(long, default_value_t = 2_000)]
    followed: usize,
    /// How long it goes on after the start and the faults.
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// Rounds of joins and leaves, of crashes, of restarts and of standing still.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Rounds of one join or one leave each, before those: what moves is measured.
    #[arg(long, default_value_t = 0)]
    moves: u32,
    /// Rounds of one crash each, after the moves.
    #[arg(long, default_value_t = 0)]
    crashes: u32,
    /// Faults of all kinds, in rounds of 20, after all rounds.
    #[arg(long, default_value_t = 0)]
    faults: u32,
    /// In the end each node tells of what its targets cost, and load has to be level by samples.
    #[arg(long)]
    costs: bool,
    /// What the network is like when nothing is wrong.
    #[arg(long, value_enum, default_value_t = Quality::Local)]
    network: Quality,
    /// Clocks are off by up to this.
    #[arg(long, default_value_t = 100)]
    skew_ms: u64,
    /// Between two starts at the beginning; 0 = all at once.
    #[arg(long, default_value_t = 0)]
    start_gap_ms: u64,
    /// How fast nodes find the dead.
    #[arg(long, default_value_t = 2_000)]
    detection_ms: u64,
    /// All nodes have to agree within this time after faults.
    #[arg(long, default_value_t = 120)]
    agree_within_s: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Quality {
    /// Within one building.
    Local,
    /// Slow, with losses, copies, and exchanges that fail.
    Poor,
}

/// Faults of a round.
const FAULTS: u32 = 20;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let simulation = Simulation::new(shape(&flags));
    let mut shown = Instant::now();
    let result = simulation.run(|at, figures| {
        if shown.elapsed() > Duration::from_secs(2) {
            shown = Instant::now();
            eprintln!(
                "{} rounds {} slots {} events {}",
                text(at),
                figures.rounds,
                figures.slots(),
                figures.events
            );
        }
    });
    match result {
        Ok(figures) => {
            let written = write!(std::io::stdout().lock(), "{figures}");
            if written.is_ok() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(breach) => {
            let arguments: Vec<String> = std::env::args().skip(1).collect();
            eprintln!(
                "{breach}to replay: cargo run --release -p ringscrape-simulator -- {}",
                arguments.join(" ")
            );
            ExitCode::FAILURE
        }
    }
}

fn shape(flags: &Flags) -> Shape {
    let kinds = [
        Round::Planned { changes: 4 },
        Round::Crash { nodes: 1 },
        Round::QuickRestart,
        Round::Standstill { for_ms: 30_000 },
    ];
    let mut rounds = vec![Round::Move; flags.moves as usize];
    rounds.resize(rounds.len() + flags.crashes as usize, kinds[1]);
    rounds.extend(kinds.into_iter().cycle().take(flags.rounds as usize));
    let mut left = flags.faults;
    while left > 0 {
        let faults = left.min(FAULTS);
        rounds.push(Round::Chaos { faults });
        left -= faults;
    }
    if flags.costs {
        rounds.push(Round::Costs);
    }
    Shape {
        skew_max: 1.10,
        seed: flags.seed,
        nodes: flags.nodes,
        spares: flags.spares,
        targets: flags.targets,
        followed: flags.followed,
        links: match flags.network {
            Quality::Local => Links::local(),
            Quality::Poor => Links::poor(),
        },
        skew_ms: flags.skew_ms,
        drift_ppm: 50,
        detection_ms: flags.detection_ms,
        start_gap: flags.start_gap_ms * MILLI,
        rounds,
        after: flags.minutes * 60 * SECOND,
        agree_within: flags.agree_within_s * SECOND,
    }
}
