//! `ringscrape cluster`: a question to a running node, its answer as a table or as JSON.

pub(crate) mod client;
mod render;

use crate::http::AccessArguments;
use clap::{Args, Subcommand, ValueEnum};
use client::{Client, Failure};
use ringscrape_engine::api::cluster::{ClusterView, OwnersView, TargetsView, WhatIfView};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::Write;
use std::process::ExitCode;

/// The node said no, or `status --check` found something wrong.
const EXIT_NO: u8 = 1;
/// No answer came. 2 is what a wrong command line exits with.
const EXIT_UNREACHABLE: u8 = 3;

const EXIT_CODES: &str = "\
Exit codes: 0 = as asked; 1 = the node said no (an unknown target or node, draining is off), or \
--check found something; 2 = wrong command line; 3 = the node did not answer.";

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ClusterArguments {
    #[command(subcommand)]
    command: ClusterCommand,
    /// The node that is asked; each node can answer for the whole cluster.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:9095"
    )]
    address: String,
    /// How the answer is printed.
    #[arg(long, global = true, value_enum, default_value = "table")]
    output: OutputFormat,
    #[command(flatten)]
    access: AccessArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people.
    Table,
    /// The `data` of the API's answer.
    Json,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Who is there, in which state, with which part of the targets; what moved; what is wrong.
    #[command(after_help = EXIT_CODES)]
    Status {
        /// Exit with 1 if something is wrong: a member dead or not answering, the node isolated,
        /// targets that nobody scrapes, settings that differ.
        #[arg(long)]
        check: bool,
        /// Do not ask the other nodes for their samples per second.
        #[arg(long)]
        no_rates: bool,
    },
    /// Who scrapes a target: why, since when, and who will be next.
    #[command(after_help = "\
Examples:
  ringscrape cluster owner http://10.0.0.1:9100/metrics
  ringscrape cluster owner 10.0.0.1:9100
  ringscrape cluster owner 'job=node,instance=10.0.0.1:9100' --without node-2")]
    Owner {
        /// A scrape URL, the value of an instance label, a key of 16 hexadecimal digits, or labels.
        target: String,
        /// Also tell who would scrape it if this node left.
        #[arg(long, value_name = "NODE")]
        without: Option<String>,
    },
    /// How many targets would move, and where, if a node left. Nothing is changed.
    WhatIf {
        /// The node.
        #[arg(long, value_name = "NODE")]
        leave: String,
    },
    /// Give all targets of the node that is asked to the others, at an agreed time and without a
    /// gap, as before a restart or a repair. It needs --web.enable-lifecycle.
    Drain {
        /// Take targets again.
        #[arg(long)]
        undo: bool,
    },
    /// The targets of the whole fleet and who scrapes them.
    Targets {
        /// Those of this node only.
        #[arg(long)]
        node: Option<String>,
        /// Those of this job only.
        #[arg(long)]
        job: Option<String>,
        /// Those in this state only.
        #[arg(long, value_enum)]
        state: Option<TargetState>,
        /// Those with this text in their URL or in a label's value only.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// How many at most.
        #[arg(
            long,
            default_value_t = 100,
            value_parser = clap::value_parser!(u32).range(1..=1_000)
        )]
        limit: u32,
        /// How many to skip.
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// Ask the owners for the health of targets, not only the node itself.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TargetState {
    /// The last scrape succeeded.
    Up,
    /// The last scrape failed.
    Down,
    /// Not scraped yet.
    Unknown,
    /// Nobody scrapes it.
    Unowned,
    /// A change of its owner is agreed.
    Moving,
}

/// Asks and prints.
pub(crate) fn run(arguments: &ClusterArguments) -> ExitCode {
    match answer(arguments) {
        Ok((text, code)) => {
            // Whoever reads may stop early, as `head` does.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            ExitCode::from(code)
        }
        Err(failure) => {
            eprintln!("ringscrape: {failure}");
            ExitCode::from(match failure {
                Failure::Refused { .. } => EXIT_NO,
                Failure::Unreachable { .. } => EXIT_UNREACHABLE,
            })
        }
    }
}

fn answer(arguments: &ClusterArguments) -> Result<(String, u8), Failure> {
    let client = Client::new(&arguments.address, &arguments.access)?;
    let format = arguments.output;
    Ok(match &arguments.command {
        ClusterCommand::Status { check, no_rates } => {
            let scope = if *no_rates { "self" } else { "all" };
            let data = client.get("/api/v1/cluster", &[("scope", scope)])?;
            let view: ClusterView = read(&client, &data)?;
            let wrong = *check && !render::faults(&view).is_empty();
            let text = print(format, &data, || render::status(&view));
            (text, if wrong { EXIT_NO } else { 0 })
        }
        ClusterCommand::Owner { target, without } => {
            let mut parameters = vec![("target", target.as_str())];
            parameters.extend(without.as_deref().map(|node| ("without", node)));
            let data = client.get("/api/v1/cluster/owner", &parameters)?;
            let view: OwnersView = read(&client, &data)?;
            (print(format, &data, || render::owners(&view)), 0)
        }
        ClusterCommand::WhatIf { leave } => {
            let data = client.get("/api/v1/cluster/what-if", &[("leave", leave)])?;
            let view: WhatIfView = read(&client, &data)?;
            (print(format, &data, || render::what_if(&view)), 0)
        }
        ClusterCommand::Drain { undo } => {
            let word = if *undo { "undrain" } else { "drain" };
            let data = client.post(&format!("/api/v1/cluster/{word}"))?;
            (print(format, &data, || render::drained(*undo)), 0)
        }
        ClusterCommand::Targets {
            node,
            job,
            state,
            search,
            limit,
            offset,
            all,
        } => {
            let (limit, offset) = (limit.to_string(), offset.to_string());
            let state = state.and_then(|state| state.to_possible_value());
            let wanted = [
                ("node", node.as_deref()),
                ("job", job.as_deref()),
                (
                    "state",
                    state.as_ref().map(clap::builder::PossibleValue::get_name),
                ),
                ("search", search.as_deref()),
                ("limit", Some(limit.as_str())),
                ("offset", Some(offset.as_str())),
                ("scope", all.then_some("all")),
            ];
            let given = wanted
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)));
            let data = client.get("/api/v1/cluster/targets", &given.collect::<Vec<_>>())?;
            let view: TargetsView = read(&client, &data)?;
            (print(format, &data, || render::targets(&view)), 0)
        }
    })
}

fn read<T: DeserializeOwned>(client: &Client, data: &Value) -> Result<T, Failure> {
    T::deserialize(data).map_err(|error| Failure::Refused {
        url: client.address().to_owned(),
        reason: format!("it answered what this release does not understand: {error}"),
    })
}

fn print(format: OutputFormat, data: &Value, table: impl FnOnce() -> String) -> String {
    match format {
        OutputFormat::Table => table(),
        OutputFormat::Json => format!("{data:#}\n"),
    }
}
