//! `--cluster.*` -> how this node takes part in a cluster.
//!
//! Names and defaults are Alloy's where the meaning is the same.

use clap::Args;
use ringscrape_engine::ClusterOptions;
use ringscrape_engine::config::parse_duration_ms;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Flags of the cluster. All are optional, so that those given without `--cluster.enabled` are
/// found.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterFlags {
    /// Share the targets with the other nodes of a cluster.
    #[arg(
        long = "cluster.enabled", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true"
    )]
    enabled: Option<bool>,
    /// Name of the cluster: nodes of another one are refused.
    #[arg(long = "cluster.name", value_name = "NAME")]
    name: Option<String>,
    /// Name of this node, unique in the cluster. What it scrapes follows from it: keep it over
    /// restarts. Default: the host's name.
    #[arg(long = "cluster.node-name", value_name = "NAME")]
    node_name: Option<String>,
    /// Where gossip (UDP) and state exchanges (TCP) arrive. Default: port 7946 on the host of
    /// --web.listen-address.
    #[arg(long = "cluster.listen-address", value_name = "HOST:PORT")]
    gossip_address: Option<SocketAddr>,
    /// Where the other nodes reach this one, HOST or HOST:PORT. Default: the listen address, or
    /// that of an interface if it listens on all.
    #[arg(long = "cluster.advertise-address", value_name = "HOST[:PORT]")]
    advertise_address: Option<String>,
    /// Interfaces whose address is told to others, the first that has one; `all` = any of them.
    /// Default: eth0,en0.
    #[arg(
        long = "cluster.advertise-interfaces",
        value_name = "NAME,…",
        value_delimiter = ','
    )]
    advertise_interfaces: Option<Vec<String>>,
    /// Other nodes: IP or host names with or without a port, dns+HOST (all of its addresses),
    /// dnssrv+NAME (SRV records, then addresses). Without any, others have to join this node.
    #[arg(
        long = "cluster.join-addresses",
        value_name = "ADDRESS,…",
        value_delimiter = ','
    )]
    join_addresses: Option<Vec<String>>,
    /// How often the join addresses are looked up and tried again; this heals a split. 0 = only at
    /// the start. Default: 60s.
    #[arg(long = "cluster.rejoin-interval", value_name = "DURATION", value_parser = duration_ms)]
    rejoin_interval_ms: Option<u64>,
    /// How many of the join addresses found are tried, at random; 0 = all. Default: 5.
    #[arg(long = "cluster.max-join-peers", value_name = "N")]
    max_join_peers: Option<usize>,
    /// Scrape only once the cluster has this many nodes; 0 = any number. Default: 0.
    #[arg(long = "cluster.wait-for-size", value_name = "N")]
    wait_for_size: Option<u32>,
    /// Wait for --cluster.wait-for-size no longer than this; 0 = for ever. Default: 0.
    #[arg(long = "cluster.wait-timeout", value_name = "DURATION", value_parser = duration_ms)]
    wait_timeout_ms: Option<u64>,
    /// About how long it takes until a dead node's targets are taken over. Shorter is faster, and
    /// takes more pauses for deaths. Default: 2s.
    #[arg(long = "cluster.detection-time", value_name = "DURATION", value_parser = duration_ms)]
    detection_time_ms: Option<u64>,
    /// How much of the load this node takes, relative to the others. Default: 1.
    #[arg(
        long = "cluster.weight", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    weight: Option<u32>,
    /// Samples a second that this node takes at most. What no node has room for is scraped by none:
    /// such targets are shown as unowned, counted and logged. Default: any number.
    #[arg(
        long = "cluster.samples-per-second-max", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    budget_samples_per_s: Option<u32>,
    /// Name of the zone that this node is in. Targets whose label `__zone__` has this value are
    /// scraped by the zone's nodes, as far as these can take them.
    #[arg(long = "cluster.zone", value_name = "NAME")]
    zone: Option<String>,
    /// File with the keys that the nodes share, one a line: the first seals, all open, so that keys
    /// can be changed one node after the other. Needed as soon as others can reach the port. Make
    /// one with: openssl rand -base64 32
    #[arg(long = "cluster.key-file", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Go without a key where others can reach the port: anybody there can join and read along.
    #[arg(long = "cluster.insecure", conflicts_with = "key_file")]
    insecure: bool,
    /// Share of state exchanges that are dropped, 0 to 1.
    #[arg(long = "cluster.test-drop-exchanges", value_name = "SHARE", hide = true, value_parser = share)]
    drop_exchanges: Option<f64>,
}

impl ClusterFlags {
    /// `None`: no cluster.
    ///
    /// # Errors
    /// Flags that mean nothing without `--cluster.enabled`.
    pub(crate) fn into_options(self) -> Result<Option<ClusterOptions>, String> {
        let given = self.given();
        match (self.enabled, given.first()) {
            (Some(true), _) => {}
            // Whoever says no wants the other flags to wait, as in a template.
            (Some(false), _) | (None, None) => return Ok(None),
            (None, Some(first)) => {
                return Err(format!(
                    "{first} means nothing without --cluster.enabled: add that flag to join a \
                     cluster, or leave out {}",
                    given.join(", ")
                ));
            }
        }
        if self.wait_timeout_ms.is_some_and(|ms| ms > 0) && self.wait_for_size.unwrap_or(0) == 0 {
            return Err(
                "--cluster.wait-timeout means nothing without --cluster.wait-for-size: say \
                        how many nodes to wait for"
                    .to_owned(),
            );
        }
        let default = ClusterOptions::default();
        let list = |given: Option<Vec<String>>, default: Vec<String>| {
            let words = given.unwrap_or(default).into_iter();
            let words = words.map(|word| word.trim().to_owned());
            words.filter(|word| !word.is_empty()).collect()
        };
        Ok(Some(ClusterOptions {
            cluster_name: self.name.unwrap_or(default.cluster_name),
            node_name: self.node_name.or(default.node_name),
            listen_address: self.gossip_address.or(default.listen_address),
            advertise_address: self.advertise_address.or(default.advertise_address),
            advertise_interfaces: list(self.advertise_interfaces, default.advertise_interfaces),
            join_addresses: list(self.join_addresses, default.join_addresses),
            rejoin_interval_ms: self
                .rejoin_interval_ms
                .unwrap_or(default.rejoin_interval_ms),
            max_join_peers: self.max_join_peers.unwrap_or(default.max_join_peers),
            wait_for_size: self.wait_for_size.unwrap_or(default.wait_for_size),
            wait_timeout_ms: self.wait_timeout_ms.unwrap_or(default.wait_timeout_ms),
            detection_time_ms: self.detection_time_ms.unwrap_or(default.detection_time_ms),
            weight: self.weight.unwrap_or(default.weight),
            budget_samples_per_s: self
                .budget_samples_per_s
                .unwrap_or(default.budget_samples_per_s),
            zone: self.zone.unwrap_or(default.zone),
            key_file: self.key_file.or(default.key_file),
            insecure: self.insecure,
            drop_exchanges: self.drop_exchanges.unwrap_or(default.drop_exchanges),
        }))
    }

    /// The flags that were given, beside `--cluster.enabled`.
    fn given(&self) -> Vec<&'static str> {
        [
            ("--cluster.name", self.name.is_some()),
            ("--cluster.node-name", self.node_name.is_some()),
            ("--cluster.listen-address", self.gossip_address.is_some()),
            (
                "--cluster.advertise-address",
                self.advertise_address.is_some(),
            ),
            (
                "--cluster.advertise-interfaces",
                self.advertise_interfaces.is_some(),
            ),
            ("--cluster.join-addresses", self.join_addresses.is_some()),
            (
                "--cluster.rejoin-interval",
                self.rejoin_interval_ms.is_some(),
            ),
            ("--cluster.max-join-peers", self.max_join_peers.is_some()),
            ("--cluster.wait-for-size", self.wait_for_size.is_some()),
            ("--cluster.wait-timeout", self.wait_timeout_ms.is_some()),
            ("--cluster.detection-time", self.detection_time_ms.is_some()),
            ("--cluster.weight", self.weight.is_some()),
            (
                "--cluster.samples-per-second-max",
                self.budget_samples_per_s.is_some(),
            ),
            ("--cluster.zone", self.zone.is_some()),
            ("--cluster.key-file", self.key_file.is_some()),
            ("--cluster.insecure", self.insecure),
            (
                "--cluster.test-drop-exchanges",
                self.drop_exchanges.is_some(),
            ),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect()
    }
}

fn duration_ms(text: &str) -> Result<u64, String> {
    parse_duration_ms(text).ok_or_else(|| "not a duration such as 2s, 1m30s or 500ms".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "not a share from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Cli, Command};
    use clap::Parser;

    fn flags(words: &[&str]) -> Result<ClusterFlags, String> {
        let words = ["ringscrape", "run"].iter().chain(words);
        match Cli::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Run(arguments) => Ok(arguments.cluster),
            other => panic!("{other:?}"),
        }
    }

    fn options(words: &[&str]) -> Result<Option<ClusterOptions>, String> {
        flags(words)?.into_options()
    }

    #[test]
    fn without_flags_there_is_no_cluster() {
        assert_eq!(options(&[]), Ok(None));
        assert_eq!(
            options(&["--cluster.enabled=false", "--cluster.weight=2"]),
            Ok(None)
        );
    }

    #[test]
    fn enabled_alone_has_the_defaults() {
        for enabled in ["--cluster.enabled", "--cluster.enabled=true"] {
            assert_eq!(options(&[enabled]), Ok(Some(ClusterOptions::default())));
        }
    }

    #[test]
    fn each_flag_reaches_its_option() {
        let words = [
            "--cluster.enabled",
            "--cluster.name=blue",
            "--cluster.node-name=a",
            "--cluster.listen-address=0.0.0.0:7000",
            "--cluster.advertise-address=10.0.0.1",
            "--cluster.advertise-interfaces=ens3,all",
            "--cluster.join-addresses=10.0.0.2:7000, dnssrv+_gossip._tcp.x.svc,",
            "--cluster.rejoin-interval=1m30s",
            "--cluster.max-join-peers=0",
            "--cluster.wait-for-size=3",
            "--cluster.wait-timeout=500ms",
            "--cluster.detection-time=5s",
            "--cluster.weight=4",
            "--cluster.samples-per-second-max=50000",
            "--cluster.zone=eu-1",
            "--cluster.key-file=/k",
            "--cluster.test-drop-exchanges=0.3",
        ];
        let expected = ClusterOptions {
            cluster_name: "blue".to_owned(),
            node_name: Some("a".to_owned()),
            listen_address: Some(SocketAddr::from(([0, 0, 0, 0], 7000))),
            advertise_address: Some("10.0.0.1".to_owned()),
            advertise_interfaces: vec!["ens3".to_owned(), "all".to_owned()],
            join_addresses: vec![
                "10.0.0.2:7000".to_owned(),
                "dnssrv+_gossip._tcp.x.svc".to_owned(),
            ],
            rejoin_interval_ms: 90_000,
            max_join_peers: 0,
            wait_for_size: 3,
            wait_timeout_ms: 500,
            detection_time_ms: 5_000,
            weight: 4,
            budget_samples_per_s: 50_000,
            zone: "eu-1".to_owned(),
            key_file: Some("/k".into()),
            insecure: false,
            drop_exchanges: 0.3,
        };
        assert_eq!(options(&words), Ok(Some(expected)));
        // Each of them alone is found to be without the first.
        for word in words.iter().skip(1).chain(&["--cluster.insecure"]) {
            let name = word.split('=').next().unwrap();
            let error = options(&[word]).unwrap_err();
            assert!(
                error.starts_with(name) && error.contains("--cluster.enabled"),
                "{error}"
            );
        }
    }

    #[test]
    fn bad_values_are_refused() {
        for bad in [
            "--cluster.rejoin-interval=60",
            "--cluster.weight=0",
            "--cluster.samples-per-second-max=0",
            "--cluster.listen-address=here",
            "--cluster.test-drop-exchanges=2",
            "--cluster.wait-timeout=5s",
        ] {
            assert!(options(&["--cluster.enabled", bad]).is_err(), "{bad}");
        }
        let both = [
            "--cluster.enabled",
            "--cluster.insecure",
            "--cluster.key-file=k",
        ];
        assert!(options(&both).is_err());
    }
}
