//! Connections of HTTP clients, plain or with TLS -> requests with who asks; `--web.config.file`.
//!
//! **Runs on**: control. It knows nothing of what is asked: requests go to the router that it is
//! given. The file and what it names are looked at again while the process runs, since certificates
//! are renewed; what cannot be used leaves the former in force.

mod certificates;
mod figures;
mod handshake;
mod identity;
mod listen;
mod passwords;
pub(crate) mod settings;
mod sites;
#[cfg(test)]
mod tests;

pub use sites::check_web_config;

pub(crate) use figures::FiguresNow;
pub(crate) use identity::Identity;
pub(crate) use listen::serve;
pub(crate) use passwords::{COST_MAX, Verdict, cost};
pub(crate) use sites::{Site, Sites};

use std::net::SocketAddr;
use std::sync::Arc;

/// Who is at the other end of a connection. Each request has it as an extension.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Whose certificate it showed; one that the authorities vouch for, and that is in force.
    pub(crate) certificate: Option<Arc<Identity>>,
}
