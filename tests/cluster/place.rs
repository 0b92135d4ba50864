//! Loopback, or a host of a test's own network -> where a process runs and is asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use ringscrape_tests::engine::ringscrape;
use ringscrape_tests::http::{self, Response};
use ringscrape_tests::lan::Lan;
use ringscrape_tests::net;

/// Where a process runs.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Loopback,
    Host(Arc<Lan>, usize),
}

impl Place {
    /// The binary under test.
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::Loopback => Command::new(ringscrape()),
            Self::Host(lan, host) => lan.command(*host, ringscrape()),
        }
    }

    /// Address that it is reached at.
    pub(crate) fn ip(&self) -> Ipv4Addr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST,
            Self::Host(lan, host) => lan.address(*host),
        }
    }

    /// An address there; on a host of its own no other process takes ports.
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        match self {
            Self::Loopback => net::free_address(),
            Self::Host(..) => SocketAddr::new(IpAddr::V4(self.ip()), port),
        }
    }

    /// `GET path` from there.
    pub(crate) fn get(&self, address: SocketAddr, path: &str) -> io::Result<Response> {
        match self {
            Self::Loopback => http::get(address, path),
            Self::Host(lan, host) => lan.within(*host, || http::get(address, path))?,
        }
    }

    /// `POST path` from there.
    pub(crate) fn post(&self, address: SocketAddr, path: &str) -> io::Result<Response> {
        match self {
            Self::Loopback => http::post(address, path),
            Self::Host(lan, host) => lan.within(*host, || http::post(address, path))?,
        }
    }
}
