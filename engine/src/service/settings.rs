//! What the `scraping_service` block says: where configurations are stored, and what a stored one
//! may do.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The block, read and validated; defaults are filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSettings {
    /// `kvstore`.
    pub store: StoreSettings,
    /// `reshard_interval`, default 1m: how often the store is listed anew besides its changes.
    pub reshard_interval_ms: u64,
    /// `reshard_timeout`, default 30s: how long one such listing may take; 0 = no limit.
    pub reshard_timeout_ms: u64,
    /// `lifecycler.num_tokens`, default 128: tokens on the ring for each unit of a node's weight.
    pub num_tokens: u32,
    /// `limits`: what one configuration may have.
    pub limits: InstanceLimits,
    /// `secrets`: names that stored configurations may use, and the files with what they stand for.
    pub secrets: BTreeMap<String, PathBuf>,
    /// `allow_networks`: where stored configurations may reach to.
    pub allow_networks: Networks,
    /// `enable_read_api`, default false: whether the text of a configuration can be read.
    pub enable_read_api: bool,
    /// `tokens_file`: bearer tokens with their roles.
    pub tokens_file: Option<PathBuf>,
}

/// `kvstore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// `prefix`, default `configurations/`: what the keys of configurations begin with.
    pub prefix: String,
    /// `store`.
    pub kind: StoreKind,
}

/// `kvstore.store`: which kind of store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// etcd, with its settings.
    Etcd(EtcdSettings),
    /// A file of this node.
    Local,
    /// Kept by the nodes of the cluster themselves.
    Gossip,
}

/// `kvstore.etcd`.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// `endpoints`: `host:port` or URLs; at least one.
    pub endpoints: Vec<String>,
    /// `dial_timeout`, default 10s.
    pub dial_timeout_ms: u64,
    /// `max_retries`, default 10: attempts of one request.
    pub max_retries: u32,
    /// With `tls_enabled`: the `tls_*` fields.
    pub tls: Option<EtcdTls>,
    /// `username`; empty: none.
    pub username: String,
    /// `password`.
    pub password: String,
}

/// `kvstore.etcd.tls_*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EtcdTls {
    /// `tls_ca_path`; none: the system's.
    pub ca_path: Option<PathBuf>,
    /// `tls_cert_path`, with `tls_key_path`.
    pub cert_path: Option<PathBuf>,
    /// `tls_key_path`.
    pub key_path: Option<PathBuf>,
    /// `tls_server_name`; empty: the endpoint's host.
    pub server_name: String,
    /// `tls_insecure_skip_verify`, default false.
    pub insecure_skip_verify: bool,
}

/// Without the password.
impl fmt::Debug for EtcdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdSettings")
            .field("endpoints", &self.endpoints)
            .field("dial_timeout_ms", &self.dial_timeout_ms)
            .field("max_retries", &self.max_retries)
            .field("tls", &self.tls)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What one configuration may have; 0 = no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceLimits {
    /// `configs`, default 20,000: configurations in the store.
    pub configs_max: u64,
    /// `config_bytes`, default 1 MB: the text of one.
    pub config_bytes_max: u64,
    /// `jobs`, default 1,000: jobs of one.
    pub jobs_max: u64,
    /// `endpoints`, default 16: endpoints of one.
    pub endpoints_max: u64,
    /// `targets`, default 100,000: all targets of one; over it every scrape of it fails.
    pub targets_max: u64,
    /// `series`, default 0: samples of one scrape of a target; over it the scrape fails.
    pub series_max: u64,
    /// `bytes`, default 0: uncompressed body of one scrape; reaching it fails the scrape.
    pub bytes_max: u64,
    /// `scrape_interval`, default 1s: the shortest one of a scrape or of `http_sd_configs`, unless
    /// that of the file's `global` is shorter.
    pub scrape_interval_min_ms: u64,
}

impl Default for InstanceLimits {
    fn default() -> Self {
        Self {
            configs_max: 20_000,
            config_bytes_max: 1 << 20,
            jobs_max: 1_000,
            endpoints_max: 16,
            targets_max: 100_000,
            series_max: 0,
            bytes_max: 0,
            scrape_interval_min_ms: 1_000,
        }
    }
}

/// Networks that may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Networks {
    /// All but link-local ones, where clouds answer with a machine's own credentials.
    #[default]
    AllButLinkLocal,
    /// These only.
    Listed(Vec<Network>),
}

/// Addresses that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8`, or one address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix_bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = prefix_bits.unwrap_or(bits_max);
        (prefix_bits <= bits_max).then_some(Self {
            address,
            prefix_bits,
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let (own, other, width) = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits().into(), other.to_bits().into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        let shift = width - u32::from(self.prefix_bits);
        let differing: u128 = own ^ other;
        differing.checked_shr(shift).unwrap_or(0) == 0
    }
}

impl Networks {
    /// Whether `address` may be connected to. An IPv4 address inside an IPv6 one counts as itself.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::AllButLinkLocal => match address {
                IpAddr::V4(address) => !address.is_link_local(),
                IpAddr::V6(address) => !address.is_unicast_link_local(),
            },
            Self::Listed(networks) => networks.iter().any(|network| network.contains(address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(networks: &[&str]) -> Networks {
        let parse = |text: &&str| Network::parse(text).unwrap();
        Networks::Listed(networks.iter().map(parse).collect())
    }

    #[test]
    fn link_local_addresses_are_closed_by_default_also_inside_ipv6() {
        let networks = Networks::default();
        let allows = |address: &str| networks.allows(address.parse().unwrap());
        for closed in ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254"] {
            assert!(!allows(closed), "{closed}");
        }
        for open in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "8.8.8.8"] {
            assert!(allows(open), "{open}");
        }
    }

    #[test]
    fn only_listed_networks_are_reached() {
        let networks = listed(&["10.0.0.0/8", "192.0.2.7", "fd00::/8"]);
        let allows = |address: &str| networks.allows(address.parse().unwrap());
        for open in ["10.255.0.1", "192.0.2.7", "fdff::1", "::ffff:10.1.1.1"] {
            assert!(allows(open), "{open}");
        }
        for closed in ["11.0.0.1", "192.0.2.8", "fe00::1", "127.0.0.1"] {
            assert!(!allows(closed), "{closed}");
        }
        assert!(listed(&["0.0.0.0/0"]).allows("1.2.3.4".parse().unwrap()));
        assert!(!listed(&["0.0.0.0/0"]).allows("::1".parse().unwrap()));
        for wrong in ["", "10.0.0.0/33", "fd00::/129", "a/8", "10.0.0.0/"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let etcd = EtcdSettings {
            endpoints: vec!["a:1".to_owned()],
            dial_timeout_ms: 1,
            max_retries: 1,
            tls: None,
            username: "u".to_owned(),
            password: "hush".to_owned(),
        };
        assert!(!format!("{etcd:?}").contains("hush"));
    }
}
