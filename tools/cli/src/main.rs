//! The `ringscrape` program: command line in, exit code out.

mod check;
mod cluster;
mod cluster_flags;
mod config_sync;
mod http;
mod logging;
mod options;
mod text;
mod wal;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use options::{Cli, Command, LoadCommand};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(arguments) => {
            logging::start(arguments.log_level, arguments.log_format);
            let options = arguments.into_options().unwrap_or_else(|text| {
                Cli::command()
                    .error(ErrorKind::ArgumentConflict, text)
                    .exit()
            });
            ringscrape_engine::run(options).map(|()| ExitCode::SUCCESS)
        }
        Command::Check { what } => Ok(check::check(&what)),
        Command::Cluster(arguments) => return cluster::run(&arguments),
        Command::ConfigSync(arguments) => return config_sync::run(&arguments),
        Command::Wal(arguments) => return wal::run(&arguments),
        Command::Load {
            what: LoadCommand::Fleet(arguments),
        } => {
            return exit(ringscrape_load::fleet::run(arguments));
        }
        Command::Load {
            what: LoadCommand::Sink(arguments),
        } => {
            return exit(ringscrape_load::sink::run(arguments));
        }
        Command::Load {
            what: LoadCommand::Compare(arguments),
        } => {
            return exit(ringscrape_load::compare::run(arguments));
        }
        Command::Load {
            what: LoadCommand::Saturate(arguments),
        } => {
            return exit(ringscrape_load::compare::saturate::run(arguments));
        }
        Command::Load {
            what: LoadCommand::Drill(arguments),
        } => {
            return exit(ringscrape_load::compare::drill::run(arguments));
        }
        Command::Load {
            what: LoadCommand::Breakdown(arguments),
        } => {
            return exit(ringscrape_load::compare::breakdown::run(arguments));
        }
        Command::Load {
            what: LoadCommand::Profile(arguments),
        } => {
            return exit(ringscrape_load::portrait::run(arguments));
        }
        Command::Demo(arguments) => return exit(ringscrape_load::demo::run(arguments)),
    };
    exit(result)
}

/// An error's text goes to standard error, in one line with its causes.
fn exit<E: std::error::Error>(result: Result<ExitCode, E>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                // Many errors already print their cause.
                if !text.contains(&cause.to_string()) {
                    text = format!("{text}: {cause}");
                }
                source = cause.source();
            }
            eprintln!("ringscrape: {text}");
            ExitCode::FAILURE
        }
    }
}
