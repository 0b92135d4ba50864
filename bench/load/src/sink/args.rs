//! The flags of `ringscrape load sink`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::protocol::Protocol;
use super::verify::Expectations;
use crate::error::Error;
use crate::units::{parse_duration, parse_percent};

/// Receive remote write 1.0 and 2.0 and verify every sample that comes from a fleet.
#[derive(Args, Clone, Debug)]
pub struct SinkArgs {
    /// Address to listen on; any path takes remote write, port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9201")]
    pub listen: SocketAddr,
    /// Protocols to take, separated by commas; a request in another one is answered with 415.
    #[arg(long, value_name = "PROTOCOL", value_enum, value_delimiter = ',')]
    #[arg(default_values_t = Protocol::ALL)]
    pub accept: Vec<Protocol>,
    /// Targets that must appear; 0 to not check.
    #[arg(long, default_value_t = 0)]
    pub expect_targets: u64,
    /// Series that each target exposes; 0 to not check.
    #[arg(long, default_value_t = 0)]
    pub expect_series: u64,
    /// Interval that the scraper is configured with.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub scrape_interval: Duration,
    /// Label that the scraper adds to every series, beside `job` and `instance`; may be repeated.
    #[arg(long = "target-label", value_name = "NAME")]
    pub target_labels: Vec<String>,
    /// Take series of other origin than a fleet without a finding.
    #[arg(long)]
    pub allow_foreign: bool,
    /// Findings to keep in detail.
    #[arg(long, default_value_t = 100)]
    pub defects_max: usize,
    /// End by itself after this long.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    pub duration: Duration,
    /// Write the final report here as JSON instead of to standard output.
    #[arg(long, value_name = "PATH")]
    pub report: Option<PathBuf>,
    /// Write the address here as JSON as soon as the sink listens.
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
    /// Status of a good answer.
    #[arg(long, default_value_t = 204, value_parser = clap::value_parser!(u16).range(200..=299))]
    pub answer: u16,
    /// Share of the requests that are refused.
    #[arg(long, value_name = "PERCENT", default_value = "0", help_heading = "Faults", value_parser = parse_percent)]
    pub fault_share: f64,
    /// Status of a refusal.
    #[arg(long, default_value_t = 503, help_heading = "Faults", value_parser = clap::value_parser!(u16).range(400..=599))]
    pub fault_status: u16,
    /// Retry-After of a refusal, in whole seconds.
    #[arg(long, value_name = "DURATION", help_heading = "Faults", value_parser = parse_duration)]
    pub retry_after: Option<Duration>,
    /// Take the samples of a refused request all the same: a sender that repeats it makes
    /// duplicates.
    #[arg(long, help_heading = "Faults")]
    pub fault_stored: bool,
    /// Answer every request this much later.
    #[arg(long, value_name = "DURATION", default_value = "0s", help_heading = "Faults", value_parser = parse_duration)]
    pub delay: Duration,
    /// Close every connection unanswered from this long after the start.
    #[arg(long, value_name = "DURATION", help_heading = "Faults", value_parser = parse_duration)]
    pub down_from: Option<Duration>,
    /// Answer again this long after --down-from.
    #[arg(long, value_name = "DURATION", default_value = "10s", help_heading = "Faults", value_parser = parse_duration)]
    pub down_for: Duration,
}

impl Default for SinkArgs {
    /// The values that the command line has without any flag.
    fn default() -> SinkArgs {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            args: SinkArgs,
        }
        <Defaults as clap::Parser>::parse_from(["sink"]).args
    }
}

impl SinkArgs {
    /// What the verifier needs of the flags.
    pub(super) fn expectations(&self) -> Result<Expectations, Error> {
        let interval_ms = u32::try_from(self.scrape_interval.as_millis()).unwrap_or(u32::MAX);
        if interval_ms == 0 {
            return Err(Error::Invalid(
                "--scrape-interval must be at least 1ms".into(),
            ));
        }
        let mut target_labels = vec!["instance".to_owned(), "job".to_owned()];
        target_labels.extend(self.target_labels.iter().cloned());
        Ok(Expectations {
            scrape_interval_ms: interval_ms,
            target_labels,
            allow_foreign: self.allow_foreign,
            defects_max: self.defects_max,
        })
    }
}
