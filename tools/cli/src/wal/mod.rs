//! `ringscrape wal`: a log's folder in, what it holds as a table or as JSON out.

mod cut;
mod directory;
mod dump;
mod import;
mod moment;
mod progress;
mod report;
mod stats;
mod verify;

use clap::{Args, Subcommand, ValueEnum};
use ringscrape_wal::error::ReadError;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Damage, or a cut that was not done.
const EXIT_DAMAGE: u8 = 1;
/// The log cannot be read. 2 is what a wrong command line exits with.
const EXIT_UNREADABLE: u8 = 3;

const EXIT_CODES: &str = "\
Exit codes: 0 = done; 1 = verify found damage, or cut has changed nothing; 2 = wrong command line; \
3 = the log cannot be read or changed.";

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct WalArguments {
    #[command(subcommand)]
    command: WalCommand,
    /// How the answer is printed.
    #[arg(long, global = true, value_enum, default_value = "table")]
    output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people.
    Table,
    /// One JSON object; of `dump` one per line.
    Json,
}

#[derive(Debug, Subcommand)]
enum WalCommand {
    /// What the log holds: samples by time and by target, what each endpoint has not got yet,
    /// damage. Also while a process uses it.
    #[command(after_help = EXIT_CODES)]
    Stats {
        /// The folder of --storage.path.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// How many targets are listed, those with the most samples first.
        #[arg(long, value_name = "N", default_value_t = 50)]
        targets: usize,
    },
    /// Read everything, every checksum and every value. Exits with 1 if anything is damaged. Also
    /// while a process uses it.
    #[command(after_help = EXIT_CODES)]
    Verify {
        /// The folder of --storage.path.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Print samples in the order in which they were logged. Also while a process uses it.
    #[command(after_help = "\
Examples:
  ringscrape wal dump data --job=node --name=up --since=2h
  ringscrape wal dump data --label=device=sda --limit=0 --output=json | jq .")]
    Dump(dump::DumpArguments),
    /// Remove what was scraped before a time, one segment, or damaged parts, whether it was sent
    /// or not. Only while no process uses the log, and only with --yes: without it says what would
    /// go.
    #[command(after_help = EXIT_CODES)]
    Cut(cut::CutArguments),
    /// Send what the log of Prometheus in agent mode, or of Alloy, holds and its endpoint never
    /// got. Stop the agent first, and do this before ringscrape sends newer samples of the same
    /// series there, unless the receiver takes samples out of order. Interrupted, it can be done
    /// again.
    #[command(after_help = "\
Examples:
  ringscrape wal import /var/lib/prometheus-agent --config.file=ringscrape.yml --since=3h
  ringscrape wal import data-alloy/prometheus.remote_write.default \\
    --remote-write.url=http://receiver:9090/api/v1/write --ask=http://receiver:9090

Exit codes: 0 = everything was acknowledged; 1 = a part is damaged or was refused, the answer says \
which; 2 = wrong command line; 3 = the log cannot be read or the endpoint not used.")]
    Import(import::ImportArguments),
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Storage(#[from] ringscrape_engine::StorageError),
    #[error("{0}")]
    Other(String),
}

/// Reads and prints.
pub(crate) fn run(arguments: &WalArguments) -> ExitCode {
    let format = arguments.output;
    let done = match &arguments.command {
        WalCommand::Stats { dir, targets } => stats::run(dir, *targets, format),
        WalCommand::Verify { dir } => verify::run(dir, format),
        WalCommand::Dump(arguments) => dump::run(arguments, format),
        WalCommand::Cut(arguments) => cut::run(arguments, format),
        WalCommand::Import(arguments) => import::run(arguments, format),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("ringscrape: {failure}");
            ExitCode::from(EXIT_UNREADABLE)
        }
    }
}

/// Prints an answer. Whoever reads may stop early, as `head` does.
fn print<T: Serialize>(format: OutputFormat, view: &T, table: impl FnOnce(&T) -> String) {
    let text = match format {
        OutputFormat::Table => table(view),
        OutputFormat::Json => match serde_json::to_string_pretty(view) {
            Ok(text) => text + "\n",
            Err(error) => {
                eprintln!("ringscrape: BUG: no JSON of this answer: {error}");
                return;
            }
        },
    };
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
