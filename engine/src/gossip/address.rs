//! Listen and advertise flags, and the host's interfaces -> where this node listens, and what it
//! tells others.

use super::options::{ClusterOptions, GOSSIP_PORT, GossipError};
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// Where to listen: as told, else [`GOSSIP_PORT`] on the API's host.
pub(super) fn listen_address(options: &ClusterOptions, api_address: SocketAddr) -> SocketAddr {
    let default = || SocketAddr::new(api_address.ip(), GOSSIP_PORT);
    options.listen_address.unwrap_or_else(default)
}

/// What others are told. `bound`: what is listened on, with the real port.
///
/// # Errors
/// No address can be found, or it can only be reached from this host while others are told of it.
pub(super) fn advertise_address(
    options: &ClusterOptions,
    bound: SocketAddr,
) -> Result<SocketAddr, GossipError> {
    let address = match &options.advertise_address {
        Some(text) => told(text, bound.port())?,
        None if !bound.ip().is_unspecified() => bound,
        None => {
            let ip = of_interfaces(&options.advertise_interfaces, bound, &interfaces()?)?;
            SocketAddr::new(ip, bound.port())
        }
    };
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err(flag(format!(
            "{address} is not an address that others can reach"
        )));
    }
    Ok(address)
}

/// Without a key everybody who reaches the port can join and read along: then only this host may.
///
/// # Errors
/// Others can reach the port.
pub(super) fn check_secrecy(
    options: &ClusterOptions,
    listen: SocketAddr,
    advertise: SocketAddr,
) -> Result<(), GossipError> {
    let is_open = !listen.ip().is_loopback() || !advertise.ip().is_loopback();
    if is_open && options.key_file.is_none() && !options.insecure {
        return Err(GossipError::Flag {
            flag: "--cluster.key-file",
            reason: format!(
                "needed, because others can reach {listen} (advertised as {advertise}): make one \
                 with `openssl rand -base64 32 > key` and give the same to all nodes, or accept \
                 that anybody can join with --cluster.insecure"
            ),
        });
    }
    Ok(())
}

fn told(text: &str, port: u16) -> Result<SocketAddr, GossipError> {
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let with_port = match text.rsplit_once(':') {
        Some((_, after)) if after.parse::<u16>().is_ok() => text.to_owned(),
        _ => format!("{text}:{port}"),
    };
    let mut found = with_port
        .to_socket_addrs()
        .map_err(|error| flag(format!("cannot look up {text:?}: {error}")))?;
    found
        .next()
        .ok_or_else(|| flag(format!("looking up {text:?} gave no address")))
}

fn flag(reason: String) -> GossipError {
    GossipError::Flag {
        flag: "--cluster.advertise-address",
        reason,
    }
}

/// The best address of the first interface that has a fit one.
fn of_interfaces(
    names: &[String],
    bound: SocketAddr,
    interfaces: &[(String, IpAddr)],
) -> Result<IpAddr, GossipError> {
    let is_any = names.iter().any(|name| name == "all");
    let order = |name: &String| names.iter().position(|wanted| wanted == name);
    let fit = interfaces.iter().filter_map(|(name, ip)| {
        let order = if is_any { 0 } else { order(name)? };
        // What listens on an IPv4 address is not reached by IPv6.
        (bound.is_ipv6() || ip.is_ipv4()).then_some(())?;
        Some((rank(ip)?, order, *ip))
    });
    let best = fit.min();
    best.map(|(_, _, ip)| ip).ok_or_else(|| {
        let there: Vec<String> = interfaces
            .iter()
            .map(|(n, ip)| format!("{n} {ip}"))
            .collect();
        flag(format!(
            "not given, and no address of the interfaces {} can be told to others \
             (--cluster.advertise-interfaces, `all` for any); there are: {}",
            names.join(", "),
            there.join(", ")
        ))
    })
}

/// IPv4 before IPv6, those of one link only last; loopback is nobody else's business.
fn rank(ip: &IpAddr) -> Option<u8> {
    match ip {
        _ if ip.is_loopback() || ip.is_unspecified() => None,
        IpAddr::V4(v4) if !v4.is_link_local() => Some(0),
        IpAddr::V6(v6) if !v6.is_unicast_link_local() => Some(1),
        IpAddr::V4(_) => Some(2),
        // Needs a scope, which others do not have.
        IpAddr::V6(_) => None,
    }
}

/// Names and addresses of the interfaces that are up.
fn interfaces() -> Result<Vec<(String, IpAddr)>, GossipError> {
    let mut first = std::ptr::null_mut();
    // SAFETY: the call writes one pointer, to a list that is freed below.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        let error = std::io::Error::last_os_error();
        return Err(flag(format!(
            "not given, and interfaces cannot be listed: {error}"
        )));
    }
    let mut found = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: `next` is an entry of the list, which is not freed yet.
        let entry = unsafe { &*next };
        next = entry.ifa_next;
        let is_up = entry.ifa_flags & (libc::IFF_UP as libc::c_uint) != 0;
        if entry.ifa_addr.is_null() || entry.ifa_name.is_null() || !is_up {
            continue;
        }
        // SAFETY: the address is not null, and its family says which type it is.
        let ip = unsafe { ip_of(entry.ifa_addr) };
        // SAFETY: the name is a text with a zero at its end.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        found.extend(ip.map(|ip| (name.to_string_lossy().into_owned(), ip)));
    }
    // SAFETY: `first` came from `getifaddrs` and nothing of the list is used any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// # Safety
/// `address` points to an address of the type that its family says.
unsafe fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: every address starts with its family.
    match i32::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: an address of this family is a `sockaddr_in`.
            let v4 = unsafe { &*address.cast::<libc::sockaddr_in>() };
            Some(Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()).into())
        }
        libc::AF_INET6 => {
            // SAFETY: an address of this family is a `sockaddr_in6`.
            let v6 = unsafe { &*address.cast::<libc::sockaddr_in6>() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: &str = "0.0.0.0:7946";

    fn bound(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_best_interface_wins() {
        let there: Vec<(String, IpAddr)> = [
            ("lo", "127.0.0.1"),
            ("eth1", "169.254.0.1"),
            ("eth1", "fe80::1"),
            ("eth1", "2001:db8::1"),
            ("eth2", "10.0.0.2"),
        ]
        .map(|(name, ip)| (name.to_owned(), ip.parse().unwrap()))
        .to_vec();
        let best = |names: &[&str], on: &str| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            of_interfaces(&names, bound(on), &there).map(|ip| ip.to_string())
        };
        assert_eq!(best(&["eth1", "eth2"], ANY).unwrap(), "10.0.0.2");
        assert_eq!(best(&["all"], ANY).unwrap(), "10.0.0.2");
        assert_eq!(best(&["eth1"], ANY).unwrap(), "169.254.0.1");
        assert_eq!(best(&["eth1"], "[::]:1").unwrap(), "2001:db8::1");
        for names in [&["lo"][..], &["eth0", "en0"], &[]] {
            let error = best(names, ANY).unwrap_err().to_string();
            assert!(error.contains("eth2 10.0.0.2"), "{error}");
        }
    }

    #[test]
    fn what_is_told_counts() {
        let advertise = |text: &str, on: &str| {
            let options = ClusterOptions {
                advertise_address: Some(text.to_owned()),
                ..ClusterOptions::default()
            };
            advertise_address(&options, bound(on)).map(|address| address.to_string())
        };
        assert_eq!(advertise("10.0.0.9", ANY).unwrap(), "10.0.0.9:7946");
        assert_eq!(advertise("10.0.0.9:1", ANY).unwrap(), "10.0.0.9:1");
        assert_eq!(advertise("::1", ANY).unwrap(), "[::1]:7946");
        assert_eq!(advertise("[::1]:5", ANY).unwrap(), "[::1]:5");
        assert!(advertise("0.0.0.0", ANY).is_err());
        assert!(advertise("no such host", ANY).is_err());
        let specific = advertise_address(&ClusterOptions::default(), bound("10.0.0.1:5"));
        assert_eq!(specific.unwrap(), bound("10.0.0.1:5"));
    }

    #[test]
    fn loopback_alone_needs_no_key() {
        let mut options = ClusterOptions::default();
        let (local, open) = (bound("127.0.0.1:1"), bound("10.0.0.1:1"));
        assert!(check_secrecy(&options, local, local).is_ok());
        for (listen, advertise) in [(open, open), (bound(ANY), local), (local, open)] {
            let error = check_secrecy(&options, listen, advertise).unwrap_err();
            assert!(error.to_string().contains("--cluster.insecure"));
        }
        options.insecure = true;
        assert!(check_secrecy(&options, open, open).is_ok());
    }

    #[test]
    fn this_host_has_interfaces() {
        let found = interfaces().unwrap();
        assert!(found.iter().any(|(_, ip)| ip.is_loopback()), "{found:?}");
    }
}
