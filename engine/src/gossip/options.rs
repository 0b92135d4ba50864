//! What the command line says of the cluster -> what the gossip thread runs with.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The port of gossip and streams if none is told.
pub const GOSSIP_PORT: u16 = 7_946;

/// What `ringscrape run` is told of its cluster. None of it changes while the process runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterOptions {
    /// The cluster's name: nodes of another one are refused.
    pub cluster_name: String,
    /// Unique in the cluster; `None` = the host's name.
    pub node_name: Option<String>,
    /// Where gossip (UDP) and streams (TCP) arrive; `None` = [`GOSSIP_PORT`] on the host of the
    /// API's address.
    pub listen_address: Option<SocketAddr>,
    /// What others are told to reach this node at: `host` or `host:port`; `None` = the listen
    /// address if it is of one host, else that of an interface.
    pub advertise_address: Option<String>,
    /// Interfaces whose address may be advertised, in order; `all` = any.
    pub advertise_interfaces: Vec<String>,
    /// Where other nodes are: `IP[:port]`, `host[:port]`, `dns+host[:port]`, `dnssrv+name`,
    /// `dnssrvnoa+name`.
    pub join_addresses: Vec<String>,
    /// How often they are looked up and tried again; 0 = only at the start.
    pub rejoin_interval_ms: u64,
    /// How many of the addresses found are tried, at random; 0 = all.
    pub max_join_peers: usize,
    /// How many nodes there have to be before this one scrapes; 0 = any.
    pub wait_for_size: u32,
    /// How long it waits for that many; 0 = for ever.
    pub wait_timeout_ms: u64,
    /// Within about which time a dead node is found.
    pub detection_time_ms: u64,
    /// How much this node can take, relative to others.
    pub weight: u32,
    /// Samples a second that this node takes at most; 0 = any number.
    pub budget_samples_per_s: u32,
    /// Its zone; empty = none.
    pub zone: String,
    /// The shared keys, one per line in base64 or hex: the first seals, all open.
    pub key_file: Option<PathBuf>,
    /// Go without a key on a network that others are on, too.
    pub insecure: bool,
    /// Share of streams that are dropped at random, 0 to 1: for tests of faults.
    pub drop_exchanges: f64,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            cluster_name: String::new(),
            node_name: None,
            listen_address: None,
            advertise_address: None,
            advertise_interfaces: vec!["eth0".to_owned(), "en0".to_owned()],
            join_addresses: Vec::new(),
            rejoin_interval_ms: 60_000,
            max_join_peers: 5,
            wait_for_size: 0,
            wait_timeout_ms: 0,
            detection_time_ms: 2_000,
            weight: 1,
            budget_samples_per_s: 0,
            zone: String::new(),
            key_file: None,
            insecure: false,
            drop_exchanges: 0.0,
        }
    }
}

/// Why a node cannot take part in its cluster.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// A flag makes no sense.
    #[error("{flag}: {reason}")]
    Flag {
        /// Which.
        flag: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// A file cannot be used.
    #[error("cannot {action} {path}: {reason}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address} (--cluster.listen-address): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The thread could not be started.
    #[error("cannot start the gossip thread: {0}")]
    Thread(std::io::Error),
}
