//! Nothing -> loopback ports that are free at the moment.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports below those that the kernel gives to outgoing connections, which come and go by the
/// thousand while tests run: one of these would be in the way of a node that starts again.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A loopback address whose port nobody listens on now, for TCP or UDP. Tests of one process never
/// get the same; another process could still take it.
///
/// # Panics
/// If loopback has no free port.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other test processes begin elsewhere.
    let begin = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (begin + number) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("cannot find a free loopback port");
}
