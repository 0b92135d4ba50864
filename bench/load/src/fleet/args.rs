//! The flags of `ringscrape load fleet`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::faults::FaultArgs;
use crate::error::Error;
use crate::profile::Profile;
use crate::units::{parse_duration, parse_percent};

/// Which exposition format the targets answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExpositionFormat {
    /// OpenMetrics 1.0.0 if the Accept header takes it, else text 0.0.4.
    Auto,
    /// Prometheus text 0.0.4 always.
    Text,
    /// OpenMetrics 1.0.0 always.
    Openmetrics,
}

/// Serve many fake exporters whose every value a receiver can verify.
#[derive(Args, Clone, Debug)]
pub struct FleetArgs {
    /// Number of targets.
    #[arg(long, default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub targets: u32,
    /// Number of the first target, so that several fleets can serve one scraper.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u32).range(..1_000_000))]
    pub first_target: u32,
    /// Series that each target exposes, the fleet's own two included.
    #[arg(long, default_value_t = 500)]
    #[arg(value_parser = clap::value_parser!(u32).range(3..=1_000_000))]
    pub series: u32,
    /// What the targets look like.
    #[arg(long, value_enum, default_value_t = Profile::Node)]
    pub profile: Profile,
    /// Give each target label values of its own, so that targets share no text.
    #[arg(long)]
    pub unlike: bool,
    /// Share of the series, in percent, that profile `churn` replaces per scrape.
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = parse_percent)]
    pub churn_percent: f64,
    /// Answer in this format.
    #[arg(long, value_enum, default_value_t = ExpositionFormat::Auto)]
    pub format: ExpositionFormat,
    /// Never compress, whatever Accept-Encoding says.
    #[arg(long)]
    pub no_gzip: bool,
    /// First port; 0 lets the system choose each.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Address to listen on.
    #[arg(long, value_name = "IP", default_value_t = Ipv4Addr::LOCALHOST)]
    pub listen_ip: Ipv4Addr,
    /// Number of ports that the targets are spread over.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub ports: u16,
    /// Interval that the scraper is configured with: the grid of the slots.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub scrape_interval: Duration,
    /// Job name in the files written.
    #[arg(long, default_value = "fleet")]
    pub job: String,
    /// Write the targets here as file_sd JSON.
    #[arg(long, value_name = "PATH")]
    pub file_sd: Option<PathBuf>,
    /// Write a whole Prometheus configuration here; needs --file-sd, or http_sd is used.
    #[arg(long, value_name = "PATH")]
    pub write_config: Option<PathBuf>,
    /// The remote_write URL in that configuration; without it there is no such section.
    #[arg(long, value_name = "URL", requires = "write_config")]
    pub remote_write_url: Option<String>,
    /// Write the addresses here as JSON as soon as all targets answer.
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
    /// End by itself after this long (at most 11h).
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    pub duration: Duration,
    /// Write the final report here as JSON instead of to standard output.
    #[arg(long, value_name = "PATH")]
    pub report: Option<PathBuf>,
    /// Memory for rendered bodies, in MiB; decides after how many responses they repeat.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub cache_mib: u32,
    /// Render all bodies before the first request, in both formats; not with --unlike.
    #[arg(long, conflicts_with = "unlike")]
    pub prerender: bool,
    /// Pause between looks at the sockets when requests come in quick succession; 0s for none.
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = parse_duration)]
    pub coalesce: Duration,
    /// What goes wrong on purpose.
    #[command(flatten)]
    pub faults: FaultArgs,
}

impl Default for FleetArgs {
    /// The values that the command line has without any flag.
    fn default() -> FleetArgs {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            args: FleetArgs,
        }
        <Defaults as clap::Parser>::parse_from(["fleet"]).args
    }
}

impl FleetArgs {
    /// What clap cannot check by itself.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.scrape_interval.is_zero() {
            return Err(Error::Invalid("--scrape-interval must be above 0".into()));
        }
        // Arrivals are kept in units of 10 us in 32 bits.
        if self.duration > Duration::from_secs(11 * 3600) {
            return Err(Error::Invalid(
                "--duration of a fleet is at most 11h".into(),
            ));
        }
        if self.port != 0 && u32::from(self.port) + u32::from(self.ports) > 65536 {
            return Err(Error::Invalid(format!(
                "--port {} with --ports {} goes beyond port 65535",
                self.port, self.ports
            )));
        }
        self.faults.check()
    }
}
