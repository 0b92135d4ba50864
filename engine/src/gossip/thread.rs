//! Options -> the gossip thread: sockets bound, address and incarnation found, a node that runs.

use super::address::{advertise_address, check_secrecy, listen_address};
use super::driver::{self, Driver};
use super::incarnation::Incarnation;
use super::join::JoinAddress;
use super::key_file;
use super::mailbox::{FromGossip, GOSSIP_MESSAGES_MAX, StoreSlot, ToGossip};
use super::options::{ClusterOptions, GossipError};
use super::sockets::Sockets;
use crate::clock;
use rand::rngs::SysRng;
use rand::{SeedableRng, TryRng};
use ringscrape_cluster::Node;
use ringscrape_cluster::limits::WEIGHT_MAX;
use ringscrape_cluster::membership::Detection;
use ringscrape_cluster::name::NAME_BYTES_MAX;
use ringscrape_cluster::node::Settings;
use ringscrape_cluster::packet::Keys;
use ringscrape_cluster::state::Own;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What the rest of the process knows of itself.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The locked storage folder.
    pub(crate) storage_path: PathBuf,
    /// Where the API listens, with its real port.
    pub(crate) api_address: SocketAddr,
}

/// The running thread. It ends after `ToGossip::Stop`; without a word to others when its mailbox or
/// control's is dropped; or after it has sent `FromGossip::Failed`. Then its side of control's
/// mailbox is dropped.
#[derive(Debug)]
pub(crate) struct GossipThread {
    /// Its mailbox.
    pub(crate) mailbox: mpsc::Sender<ToGossip>,
    /// The node's name.
    pub(crate) name: Arc<str>,
    /// Where others reach it.
    pub(crate) gossip_address: SocketAddr,
    /// Where questions of other nodes' stores of configurations go.
    pub(crate) store: StoreSlot,
    #[cfg(test)]
    handle: std::thread::JoinHandle<()>,
}

impl GossipThread {
    /// Binds the sockets and starts the thread. `control` is to have room for
    /// [`GOSSIP_MESSAGES_MAX`] messages.
    ///
    /// # Errors
    /// What the operator has to change.
    pub(crate) fn start(
        options: ClusterOptions,
        place: &Place,
        control: mpsc::Sender<FromGossip>,
    ) -> Result<Self, GossipError> {
        check(&options)?;
        let sockets = Sockets::bind(listen_address(&options, place.api_address))?;
        let gossip_address = advertise_address(&options, sockets.address)?;
        check_secrecy(&options, sockets.address, gossip_address)?;
        let secrets = match &options.key_file {
            Some(path) => key_file::load(path)?,
            None => Vec::new(),
        };
        let name: Arc<str> = match &options.node_name {
            Some(name) => Arc::from(name.as_str()),
            None => host_name()?,
        };
        let join = join_addresses(&options, gossip_address.port())?;
        let (incarnation, number) = Incarnation::begin(&place.storage_path, clock::now_ms())?;
        let settings = Settings {
            own: Own {
                name: name.clone(),
                gossip_address,
                http_address: http_address(place.api_address, gossip_address),
                zone: Arc::from(options.zone.as_str()),
                software: Arc::from(env!("CARGO_PKG_VERSION")),
                incarnation: number,
                detection_ms: options.detection_time_ms,
                seed: u64::from_le_bytes(random()?),
                wait_for_size: options.wait_for_size,
                wait_timeout_ms: options.wait_timeout_ms,
            },
            detection: Detection::within_ms(options.detection_time_ms),
            keys: Keys::new(&options.cluster_name, &secrets),
            random: random()?,
        };
        let node = Node::new(settings, driver::now()).map_err(|error| GossipError::Flag {
            flag: "--cluster.node-name",
            reason: error.to_string(),
        })?;
        let (mailbox, messages) = mpsc::channel(GOSSIP_MESSAGES_MAX);
        let rng = rand::rngs::StdRng::from_seed(random()?);
        let store = StoreSlot::default();
        let mut driver = Driver::new(node, options, incarnation, join, control, rng);
        driver.store = store.clone();
        let thread = std::thread::Builder::new()
            .name("gossip".to_owned())
            .spawn(move || driver.run(sockets, messages));
        let _handle = thread.map_err(GossipError::Thread)?;
        Ok(Self {
            mailbox,
            name,
            gossip_address,
            store,
            #[cfg(test)]
            handle: _handle,
        })
    }

    /// Whether the thread has ended.
    #[cfg(test)]
    pub(crate) fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

fn check(options: &ClusterOptions) -> Result<(), GossipError> {
    let flag = |flag, reason: String| Err(GossipError::Flag { flag, reason });
    if !(200..=600_000).contains(&options.detection_time_ms) {
        return flag(
            "--cluster.detection-time",
            "has to be from 200ms to 10m".to_owned(),
        );
    }
    if !(1..=WEIGHT_MAX).contains(&options.weight) {
        return flag(
            "--cluster.weight",
            format!("has to be from 1 to {WEIGHT_MAX}"),
        );
    }
    if options.zone.len() > NAME_BYTES_MAX {
        return flag(
            "--cluster.zone",
            format!("is longer than {NAME_BYTES_MAX} bytes"),
        );
    }
    Ok(())
}

fn join_addresses(options: &ClusterOptions, port: u16) -> Result<Vec<JoinAddress>, GossipError> {
    let parse = |text: &String| JoinAddress::parse(text, port);
    let all: Result<_, _> = options.join_addresses.iter().map(parse).collect();
    all.map_err(|reason| GossipError::Flag {
        flag: "--cluster.join-addresses",
        reason,
    })
}

/// Where others reach the API: as told if that is one host, else where they reach the gossip.
fn http_address(api: SocketAddr, gossip: SocketAddr) -> Arc<str> {
    let ip = match api.ip() {
        ip if ip.is_unspecified() => gossip.ip(),
        ip => ip,
    };
    Arc::from(SocketAddr::new(ip, api.port()).to_string())
}

fn host_name() -> Result<Arc<str>, GossipError> {
    let mut bytes = [0_u8; 256];
    // SAFETY: the call writes at most as many bytes as it is told, fewer than there are.
    let failed = unsafe { libc::gethostname(bytes.as_mut_ptr().cast(), bytes.len() - 1) } != 0;
    let len = bytes.iter().position(|byte| *byte == 0).unwrap_or_default();
    match std::str::from_utf8(&bytes[..len]) {
        Ok(name) if !failed && !name.is_empty() => Ok(Arc::from(name)),
        _ => Err(GossipError::Flag {
            flag: "--cluster.node-name",
            reason: "needed, because this host has no name".to_owned(),
        }),
    }
}

fn random<const N: usize>() -> Result<[u8; N], GossipError> {
    let mut bytes = [0; N];
    let filled = SysRng.try_fill_bytes(&mut bytes);
    filled.map_err(|error| GossipError::Thread(std::io::Error::other(error.to_string())))?;
    Ok(bytes)
}
