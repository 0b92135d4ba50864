//! The command line: every command and flag, with its default and unit.

use crate::cluster::ClusterArguments;
use crate::cluster_flags::ClusterFlags;
use crate::config_sync::ConfigSyncArguments;
use crate::wal::WalArguments;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ringscrape_engine::{RunOptions, SyncPolicy};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Scrapes Prometheus metrics from many targets and forwards them by remote write, losing nothing.
#[derive(Debug, Parser)]
#[command(name = "ringscrape", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Scrape the targets of a Prometheus configuration and forward their samples.
    Run(RunArguments),
    /// Check a file without running anything.
    Check {
        #[command(subcommand)]
        what: CheckCommand,
    },
    /// Ask a running node about its cluster: who is there, who scrapes what, what would move.
    Cluster(ClusterArguments),
    /// Make the store of the scraping service hold what a directory holds, and nothing else of it.
    ConfigSync(ConfigSyncArguments),
    /// Look into the log on disk, check it, or cut off a part of it.
    Wal(WalArguments),
    /// Fake exporters, a verifying receiver, and comparisons with other agents.
    Load {
        #[command(subcommand)]
        what: LoadCommand,
    },
    /// Show the whole pipeline at work: fake exporters, the engine and a verifying receiver.
    Demo(ringscrape_load::DemoArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckCommand {
    /// Read a configuration file and say what is wrong with it. Exits with 1 if anything is.
    Config {
        /// The file.
        file: PathBuf,
    },
    /// Read a file for --web.config.file and the certificates that it names, and say what is wrong.
    WebConfig {
        /// The file.
        file: PathBuf,
    },
    /// Read an exposition from standard input and say what is wrong with it.
    Metrics {
        /// Read it as OpenMetrics instead of Prometheus text.
        #[arg(long)]
        openmetrics: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LoadCommand {
    /// Serve many fake exporters on loopback.
    Fleet(ringscrape_load::FleetArgs),
    /// Receive remote write and verify what arrives.
    Sink(ringscrape_load::SinkArgs),
    /// Run agents one after another on the same load and print one table.
    Compare(ringscrape_load::CompareArgs),
    /// Find the highest rate of samples that each agent holds on one core.
    Saturate(ringscrape_load::SaturateArgs),
    /// Take a receiver away while samples arrive, give it back, and see what becomes of them.
    Drill(ringscrape_load::DrillArgs),
    /// Show where the time of a sample goes. Needs `perf`.
    Breakdown(ringscrape_load::BreakdownArgs),
    /// Print what the bodies of each profile are made of.
    Profile(ringscrape_load::ProfileArgs),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Configuration file, in Prometheus' format.
    #[arg(
        long = "config.file",
        value_name = "FILE",
        default_value = "ringscrape.yml"
    )]
    config_file: PathBuf,
    /// Folder of the write-ahead log. One process at a time.
    #[arg(
        long = "storage.path",
        value_name = "DIR",
        default_value = "data-ringscrape"
    )]
    storage_path: PathBuf,
    /// Oldest unsent samples are deleted, and counted, beyond this many bytes of log, which are
    /// split evenly over the shards; 0 = no bound.
    #[arg(
        long = "storage.retention-bytes",
        value_name = "BYTES",
        default_value_t = 0
    )]
    retention_bytes: u64,
    /// Unsent samples older than this many hours are deleted, and counted; 0 = no bound.
    #[arg(
        long = "storage.retention-hours",
        value_name = "HOURS",
        default_value_t = 0
    )]
    retention_hours: u64,
    /// When the log is synced to disk: a time like 1s (a power cut loses at most what came since),
    /// always (after every write), or never (the system decides). A crash of the process alone
    /// loses nothing that was written.
    #[arg(long = "wal.sync", value_name = "POLICY", default_value = "1s")]
    sync: SyncPolicy,
    /// Where /metrics and the API listen.
    #[arg(
        long = "web.listen-address",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9095"
    )]
    listen_address: SocketAddr,
    /// How the address is listened on, in Prometheus' web configuration format: TLS, client
    /// certificates, users with passwords. The file and what it names are read again on a reload
    /// and when they change. Without it: plain HTTP for everybody.
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config_file: Option<PathBuf>,
    /// Serve POST /-/reload, /api/v1/cluster/drain and /api/v1/cluster/undrain, and let other hosts
    /// change configurations of the scraping service without a token.
    #[arg(long = "web.enable-lifecycle")]
    enable_lifecycle: bool,
    /// Serve GET /agent/api/v1/configs/NAME and lists with contents: the texts of configurations of
    /// the scraping service, without their secrets.
    #[arg(long = "config.enable-read-api")]
    enable_read_api: bool,
    /// Who may use the API of configurations of the scraping service: lines of a name, read or
    /// write, and a bearer token's SHA-256, subject: or san: with a name in a client's certificate,
    /// or user: with a name of basic_auth_users. Without it the configuration's tokens_file counts.
    /// Without both, clients on this host may change configurations, or all with
    /// --web.enable-lifecycle.
    #[arg(long = "config-api.tokens-file", value_name = "FILE")]
    config_tokens_file: Option<PathBuf>,
    /// At stop: how many seconds to go on sending what is logged. The rest is sent after a start.
    #[arg(
        long = "remote.flush-deadline",
        value_name = "SECONDS",
        default_value_t = 10
    )]
    flush_deadline_s: u64,
    /// Data plane threads; default: one per core that the process may use. What another number of
    /// them has logged and not sent yet is sent first, then its log is deleted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: Option<u16>,
    #[command(flatten)]
    pub(crate) cluster: ClusterFlags,
    /// Lowest level that is logged.
    #[arg(long = "log.level", value_enum, default_value = "info")]
    pub(crate) log_level: LogLevel,
    /// How log lines look.
    #[arg(long = "log.format", value_enum, default_value = "human")]
    pub(crate) log_format: LogFormat,
}

impl RunArguments {
    /// # Errors
    /// Flags that do not go together.
    pub(crate) fn into_options(self) -> Result<RunOptions, String> {
        Ok(RunOptions {
            config_file: self.config_file,
            storage_path: self.storage_path,
            retention_bytes_max: self.retention_bytes,
            retention_age_ms_max: self.retention_hours.saturating_mul(3_600_000),
            sync: self.sync,
            listen_address: self.listen_address,
            web_config_file: self.web_config_file,
            lifecycle: self.enable_lifecycle,
            reads_configs: self.enable_read_api,
            config_tokens_file: self.config_tokens_file,
            flush_deadline_ms: self.flush_deadline_s.saturating_mul(1_000),
            shards: self.shards.map(usize::from),
            cluster: self.cluster.into_options()?,
        })
    }
}
