//! Nothing -> loopback ports that are free at the moment.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A loopback address whose port nobody listens on now; another process could still take it.
///
/// # Panics
/// If loopback has no free port.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("cannot find a free loopback port")
}
