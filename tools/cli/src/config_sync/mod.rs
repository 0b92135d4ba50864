//! `ringscrape config-sync`: a directory of configurations -> the same ones in the scraping
//! service's store.
//!
//! The files are the truth. What is to be changed is shown first, checked by the server as a whole,
//! and then made as a whole, under the condition that nobody changed it meanwhile.

mod client;
mod files;
mod plan;
mod report;

use crate::http::AccessArguments;
use clap::{Args, ValueEnum};
use client::{Client, Failure};
use plan::{Allowed, Plan};
use report::Report;
use ringscrape_engine::api::configs::BatchView;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// The plan is refused, the server said no, or `--check` found a difference.
const EXIT_NO: u8 = 1;
/// No answer came. 2 is what a wrong command line exits with.
const EXIT_UNREACHABLE: u8 = 3;

const AFTER_HELP: &str = "\
Top-level *.yml and *.yaml files are configurations, each named like its file without the ending.

Exit codes: 0 = the store has what the files say (or, with --dry-run, would have); 1 = refused: by \
a safeguard, by the server, or for a conflict, or --check found a difference; 2 = wrong command \
line; 3 = no answer. With a 1 nothing was changed, unless the message says that the change may \
still appear; after that, and after a 3, run it again.

Examples:
  ringscrape config-sync configs/ --address http://10.0.0.1:9095 --dry-run
  ringscrape config-sync configs/ --token-file /run/secrets/token
  ringscrape config-sync configs/ --address https://10.0.0.1:9095 --ca-file ca.pem \
--cert-file ci.pem --key-file ci.key
  ringscrape config-sync configs/ --check --output json";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ConfigSyncArguments {
    /// The directory.
    directory: PathBuf,
    /// A node; each one can change the store.
    #[arg(
        short = 'a',
        long,
        visible_alias = "addr",
        value_name = "URL",
        default_value = "http://127.0.0.1:9095"
    )]
    address: String,
    /// Show what would be done, and change nothing.
    #[arg(short = 'd', long)]
    dry_run: bool,
    /// As --dry-run, and exit with 1 if there is anything to do.
    #[arg(long)]
    check: bool,
    /// Whose configurations these are. Those of others are never deleted, nor replaced.
    #[arg(
        long,
        value_name = "LABEL",
        default_value = "config-sync",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    managed_by: String,
    /// Replace configurations, and own them from now on, that are nobody's: made by hand, or by
    /// other programs.
    #[arg(long)]
    take_over: bool,
    /// Go on if there is no configuration in the directory: all that are managed are deleted.
    #[arg(long)]
    allow_empty: bool,
    /// Go on if more than half of what is managed, or more than 20 configurations, is to be
    /// deleted.
    #[arg(long)]
    allow_mass_delete: bool,
    /// A file with the bearer token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArguments,
    /// How the plan is printed.
    #[arg(long, value_enum, default_value = "text")]
    output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Synchronises, and prints what was done.
pub(crate) fn run(arguments: &ConfigSyncArguments) -> ExitCode {
    let mut report = Report::new(arguments.directory.display(), &arguments.address);
    report.managed_by.clone_from(&arguments.managed_by);
    let outcome = synchronise(arguments, &mut report);
    let code = match &outcome {
        Ok(code) => *code,
        Err(failure) => {
            report.error = Some(failure.to_string());
            match failure {
                Failure::No(_) => EXIT_NO,
                Failure::Unreachable(_) => EXIT_UNREACHABLE,
            }
        }
    };
    let is_coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = match arguments.output {
        OutputFormat::Text => report.text(is_coloured),
        OutputFormat::Json => report.json(),
    };
    // Whoever reads may stop early, as `head` does.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    if let (Some(error), OutputFormat::Text) = (&report.error, arguments.output) {
        eprintln!("ringscrape: {error}");
    }
    ExitCode::from(code)
}

fn synchronise(arguments: &ConfigSyncArguments, report: &mut Report) -> Result<u8, Failure> {
    let files = files::read(&arguments.directory).map_err(Failure::No)?;
    let token_file = arguments.token_file.as_deref();
    let client = Client::new(&arguments.address, token_file, &arguments.access)?;
    progress(&format!("asking {} what it has", arguments.address));
    let (stored, revision) = client.list()?;
    let allowed = Allowed {
        take_over: arguments.take_over,
        empty: arguments.allow_empty,
        mass_delete: arguments.allow_mass_delete,
    };
    let plan = Plan::new(files, &stored, &arguments.managed_by, allowed);
    report.revision = Some(revision);
    progress(&format!(
        "comparing {} configurations",
        plan.batch.changes.len()
    ));
    let foreseen: BatchView = client.batch(&plan.batch, true)?;
    report.take_plan(&plan, &foreseen);
    let batch = plan.what_changes(&foreseen);
    let changes = batch.changes.len();
    if !report.refusals.is_empty() {
        return Err(Failure::No(format!(
            "nothing was changed: {}",
            report.refusals.join("; ")
        )));
    }
    if arguments.check {
        return Ok(if changes == 0 { 0 } else { EXIT_NO });
    }
    if arguments.dry_run || changes == 0 {
        return Ok(0);
    }
    progress(&format!("making {changes} changes"));
    let applied = client.batch(&batch, false)?;
    report.revision = Some(applied.revision);
    report.is_applied = true;
    Ok(0)
}

/// Says what is going on to who watches.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{text} ...");
    }
}
