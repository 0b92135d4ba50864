//! Command line -> the load tool alone, without the engine; same commands as the main program.
//!
//! `cargo run --release -p ringscrape-load --example load -- load fleet --help`

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringscrape_load::{
    BreakdownArgs, CompareArgs, DemoArgs, DrillArgs, FleetArgs, ProfileArgs, SaturateArgs,
    SinkArgs, compare, demo, fleet, portrait, sink,
};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The parts of a load run.
    #[command(subcommand)]
    Load(Box<Load>),
    Demo(DemoArgs),
}

#[derive(Subcommand)]
enum Load {
    Fleet(FleetArgs),
    Sink(SinkArgs),
    Compare(CompareArgs),
    Saturate(SaturateArgs),
    Drill(DrillArgs),
    Breakdown(BreakdownArgs),
    Profile(ProfileArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Load(load) => match *load {
            Load::Fleet(args) => fleet::run(args),
            Load::Sink(args) => sink::run(args),
            Load::Compare(args) => compare::run(args),
            Load::Saturate(args) => compare::saturate::run(args),
            Load::Drill(args) => compare::drill::run(args),
            Load::Breakdown(args) => compare::breakdown::run(args),
            Load::Profile(args) => portrait::run(args),
        },
        Command::Demo(args) => demo::run(args),
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "error: {error}");
        ExitCode::FAILURE
    })
}
