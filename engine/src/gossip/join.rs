//! `--cluster.join-addresses` -> socket addresses, looked up anew for each round.

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long one look-up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// One join address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JoinAddress {
    /// An address as it is.
    Ip(SocketAddr),
    /// A host with addresses, and the port to use.
    Host(String, u16),
    /// A service with hosts and ports.
    Service(String),
}

impl JoinAddress {
    /// Reads one; `port` is used if it names none.
    ///
    /// # Errors
    /// It has none of the forms.
    pub(super) fn parse(text: &str, port: u16) -> Result<Self, String> {
        let service = text
            .strip_prefix("dnssrv+")
            .or_else(|| text.strip_prefix("dnssrvnoa+"));
        if let Some(name) = service {
            return match name {
                "" => Err(format!("{text:?} names no service")),
                _ => Ok(Self::Service(name.to_owned())),
            };
        }
        let host = text.strip_prefix("dns+").unwrap_or(text);
        if let Ok(address) = host.parse::<SocketAddr>() {
            return Ok(Self::Ip(address));
        }
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(Self::Ip(SocketAddr::new(ip, port)));
        }
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)),
            None => (host, Some(port)),
        };
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        match port {
            Some(port) if !host.is_empty() && host.bytes().all(is_fit) => {
                Ok(Self::Host(host.to_owned(), port))
            }
            _ => Err(format!(
                "{text:?} is not IP[:port], host[:port], dns+host[:port], dnssrv+name or \
                 dnssrvnoa+name"
            )),
        }
    }
}

/// What a round of look-ups found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Without repetitions.
    pub(super) addresses: Vec<SocketAddr>,
    /// What was not found, and why.
    pub(super) errors: Vec<String>,
}

/// Looks all up at once.
pub(super) async fn look_up(addresses: &[JoinAddress]) -> Found {
    let look_ups = addresses.iter().map(|address| async move {
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, look_up_one(address)).await;
        found.unwrap_or_else(|_| Err(format!("{address:?}: no answer in time")))
    });
    let mut all = BTreeSet::new();
    let mut errors = Vec::new();
    for found in futures_util::future::join_all(look_ups).await {
        match found {
            Ok(addresses) => all.extend(addresses),
            Err(error) => errors.push(error),
        }
    }
    let addresses = all.into_iter().collect();
    Found { addresses, errors }
}

async fn look_up_one(address: &JoinAddress) -> Result<Vec<SocketAddr>, String> {
    match address {
        JoinAddress::Ip(address) => Ok(vec![*address]),
        JoinAddress::Host(host, port) => look_up_host(host, *port).await,
        JoinAddress::Service(name) => {
            let failed = |error: &dyn std::error::Error| format!("looking up {name}: {error}");
            let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
            let resolver = resolver.map_err(|error| failed(&error))?;
            let lookup = resolver.srv_lookup(name.as_str()).await;
            let lookup = lookup.map_err(|error| failed(&error))?;
            let services = lookup
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::SRV(service) => Some((service.target.to_utf8(), service.port)),
                    _ => None,
                });
            let hosts = services.map(|(host, port)| async move { look_up_host(&host, port).await });
            let (mut addresses, mut errors) = (Vec::new(), Vec::new());
            for found in futures_util::future::join_all(hosts).await {
                match found {
                    Ok(found) => addresses.extend(found),
                    Err(error) => errors.push(error),
                }
            }
            // A host that is gone does not hide the others.
            match errors.pop() {
                Some(error) if addresses.is_empty() => Err(error),
                _ => Ok(addresses),
            }
        }
    }
}

async fn look_up_host(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|error| format!("looking up {host}: {error}"))?;
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let parse = |text| JoinAddress::parse(text, 7_946);
        let ip = |text: &str| Ok(JoinAddress::Ip(text.parse().unwrap()));
        let host = |host: &str, port| Ok(JoinAddress::Host(host.to_owned(), port));
        let service = |name: &str| Ok(JoinAddress::Service(name.to_owned()));
        assert_eq!(parse("10.0.0.1"), ip("10.0.0.1:7946"));
        assert_eq!(parse("10.0.0.1:5"), ip("10.0.0.1:5"));
        assert_eq!(parse("::1"), ip("[::1]:7946"));
        assert_eq!(parse("[::1]:5"), ip("[::1]:5"));
        assert_eq!(parse("a.example"), host("a.example", 7_946));
        assert_eq!(parse("a.example:5"), host("a.example", 5));
        assert_eq!(parse("dns+a.example"), host("a.example", 7_946));
        assert_eq!(parse("dns+a.example:5"), host("a.example", 5));
        assert_eq!(parse("dnssrv+_g._udp.a"), service("_g._udp.a"));
        assert_eq!(parse("dnssrvnoa+_g._udp.a"), service("_g._udp.a"));
        for wrong in [
            "", "dns+", "dnssrv+", "a:", "a:0", "a:99999", "http://a", "a b",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn what_is_not_found_is_named() {
        let of = |text| JoinAddress::parse(text, 1).unwrap();
        let addresses = [
            of("127.0.0.1"),
            of("127.0.0.1:1"),
            of("localhost"),
            of("a.invalid."),
        ];
        let found = look_up(&addresses).await;
        assert!(found.addresses.contains(&"127.0.0.1:1".parse().unwrap()));
        let [error] = &found.errors[..] else {
            panic!("{found:?}");
        };
        assert!(error.contains("a.invalid"), "{error}");
    }
}
