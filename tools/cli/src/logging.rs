//! `--log.level` and `--log.format` -> log lines on standard error.

use crate::options::{LogFormat, LogLevel};
use tracing_subscriber::EnvFilter;

/// Installs the process's logger.
pub(crate) fn start(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    // Who changed what is written down at any level.
    // The executor warns once per thread about buffers that a low memlock limit keeps it from
    // registering; it works without them.
    let filter = EnvFilter::new(format!(
        "{level},audit=info,glommio=error,hyper=info,reqwest=info"
    ));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Human => {
            use std::io::IsTerminal;
            builder
                .with_target(false)
                .with_ansi(std::io::stderr().is_terminal())
                .init();
        }
        LogFormat::Json => builder.json().flatten_event(true).with_target(false).init(),
    }
}
