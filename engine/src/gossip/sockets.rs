//! An address -> a UDP and a TCP socket on one port.

use super::options::GossipError;
use std::net::SocketAddr;

/// Both sockets, on one port, not yet given to a runtime.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: std::net::UdpSocket,
    pub(super) tcp: std::net::TcpListener,
    /// With the real port.
    pub(super) address: SocketAddr,
}

impl Sockets {
    /// Port 0: any that is free for both.
    pub(super) fn bind(address: SocketAddr) -> Result<Self, GossipError> {
        let failed = |source| GossipError::Listen { address, source };
        let mut tries = 0;
        loop {
            tries += 1;
            let tcp = std::net::TcpListener::bind(address).map_err(failed)?;
            let real = tcp.local_addr().map_err(failed)?;
            match std::net::UdpSocket::bind(real) {
                Ok(udp) => {
                    tcp.set_nonblocking(true).map_err(failed)?;
                    udp.set_nonblocking(true).map_err(failed)?;
                    let address = real;
                    return Ok(Self { udp, tcp, address });
                }
                // Another process has that port for UDP alone.
                Err(_) if address.port() == 0 && tries < 20 => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}
