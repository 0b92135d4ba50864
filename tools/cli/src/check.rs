//! `ringscrape check`: a file in, what is wrong with it out.

use crate::options::CheckCommand;
use ringscrape_engine::config::Config;
use ringscrape_engine::parse::{Dialect, Next, kind_in_force, next_piece, series_labels};
use std::io::Read;
use std::process::ExitCode;

/// Runs one check. Prints to standard error what is wrong.
pub(crate) fn check(what: &CheckCommand) -> ExitCode {
    let result =
        match what {
            CheckCommand::Config { file } => Config::load(file)
                .map_err(|error| error.to_string())
                .map(|config| {
                    format!(
                        "{}: {} scrape configs, {} remote write endpoints",
                        file.display(),
                        config.scrape_configs.len(),
                        config.remote_write.len()
                    )
                }),
            CheckCommand::WebConfig { file } => ringscrape_engine::check_web_config(file),
            CheckCommand::Metrics { openmetrics } => {
                let dialect = if *openmetrics {
                    Dialect::OpenMetrics
                } else {
                    Dialect::Text
                };
                let mut body = Vec::new();
                match std::io::stdin().lock().read_to_end(&mut body) {
                    Ok(_) => check_body(dialect, &body),
                    Err(error) => Err(format!("cannot read standard input: {error}")),
                }
            }
        };
    match result {
        Ok(text) => {
            eprintln!("ok: {text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("ringscrape: {text}");
            ExitCode::FAILURE
        }
    }
}

/// How many samples `body` has, or its first error with line and column.
fn check_body(dialect: Dialect, body: &[u8]) -> Result<String, String> {
    let mut labels = ringscrape_engine::labels::LabelsBuilder::new();
    let mut kind = ringscrape_wal::definition::FamilyKind::Unknown;
    let (mut at, mut samples) = (0, 0u64);
    loop {
        let located = |error: ringscrape_engine::parse::ParseError, base: usize| {
            let before = &body[..(base + error.offset).min(body.len())];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let column = before
                .iter()
                .rev()
                .take_while(|byte| **byte != b'\n')
                .count()
                + 1;
            format!(
                "line {line}, column {column}: {}: {:?}",
                error.reason, error.near
            )
        };
        match next_piece(dialect, &body[at..], true).map_err(|error| located(error, at))? {
            Next::Sample(piece) => {
                let series_at = piece.series.as_ptr().addr() - body.as_ptr().addr();
                kind = kind_in_force(dialect, piece.prefix, kind);
                series_labels(dialect, piece.series, kind, &mut labels)
                    .map_err(|error| located(error, series_at))?;
                samples += 1;
                at += piece.len;
            }
            Next::End { .. } => return Ok(format!("{samples} samples")),
            Next::NeedMore => return Err("the exposition ends in the middle of a line".to_owned()),
        }
    }
}
