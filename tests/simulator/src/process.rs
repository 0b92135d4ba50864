//! One node: its process as it is started, stopped, paused and killed; its clocks; what it scrapes.

use crate::clock::Clock;
use crate::network::NodeId;
use crate::random::Random;
use crate::scraper::{Moment, Scraper};
use crate::shape::Shape;
use crate::time::Micros;
use crate::world::World;
use ringscrape_cluster::member::JobVersion;
use ringscrape_cluster::membership::Detection;
use ringscrape_cluster::node::{Node, Settings};
use ringscrape_cluster::packet::Keys;
use ringscrape_cluster::state::{Own, Wish};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

/// One node.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) id: NodeId,
    /// Its clocks, running or not.
    pub(crate) clock: Clock,
    /// How often it was started: what is meant for a former process does not reach a later one.
    pub(crate) life: u32,
    /// `None`: it does not run.
    pub(crate) running: Option<Running>,
    /// The highest incarnation that it has stored.
    pub(crate) stored_incarnation: u64,
    /// What its engine wants.
    pub(crate) wish: Wish,
    /// Whether it is meant to run: faults apart, all such nodes scrape in the end.
    pub(crate) is_wanted: bool,
    /// Whether it is leaving by plan.
    pub(crate) is_leaving: bool,
    random: Random,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Running {
    /// The production code.
    pub(crate) node: Node,
    /// What it scrapes.
    pub(crate) scraper: Scraper,
    /// When it wants to be woken; earlier and later alarms are stale.
    pub(crate) alarm: Micros,
    /// Whether it stands still.
    pub(crate) is_paused: bool,
    /// What waits in its socket, sender first.
    pub(crate) socket: VecDeque<(NodeId, Rc<[u8]>)>,
    /// Frames that wait: of which stream, whether for its answering end.
    pub(crate) frames: Vec<(u64, bool, Vec<u8>)>,
    /// Streams of the present round of joining that are not over.
    pub(crate) joining: u32,
    /// What the alarm was set by, in monotonic ms.
    pub(crate) due_ms: u64,
    /// When it last ticked, in monotonic ms.
    pub(crate) ticked_ms: u64,
    /// Ticks in a row that were due before the one before.
    pub(crate) idle_ticks: u32,
    /// Whether it says that it reaches too few.
    pub(crate) is_isolated: bool,
    /// When it was started.
    pub(crate) started: Micros,
}

/// Datagrams that a socket holds for a process that does not read them.
pub(crate) const SOCKET_DATAGRAMS_MAX: usize = 150;

const PORT: u16 = 7_946;

impl Process {
    /// A node that was never started.
    pub(crate) fn new(id: NodeId, shape: &Shape, world: &World, mut random: Random) -> Self {
        let skew_ms = random.between(0, 2 * shape.skew_ms) as i64 - shape.skew_ms as i64;
        let drift_ppm = random.between(0, 2 * shape.drift_ppm) as i64 - shape.drift_ppm as i64;
        let jobs = world.jobs.iter().map(|job| JobVersion {
            job: *job,
            config_hash: 1,
            since_ms: 1,
        });
        Self {
            id,
            clock: Clock::new(skew_ms, drift_ppm, random.below(1_000_000_000)),
            life: 0,
            running: None,
            stored_incarnation: 0,
            wish: Wish {
                is_active: false,
                weight: 1,
                jobs: jobs.collect(),
                heavy: None,
            },
            is_wanted: false,
            is_leaving: false,
            random,
        }
    }

    /// The process starts; `None`: the production code refuses to, which is a bug.
    pub(crate) fn node(&mut self, at: Micros, detection_ms: u64) -> Option<Node> {
        let now = self.clock.now(at);
        let incarnation = (self.stored_incarnation + 1).max(now.unix_ms.max(0) as u64);
        self.stored_incarnation = incarnation;
        self.life += 1;
        let mut random = [0; 32];
        for chunk in random.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.random.next().to_le_bytes());
        }
        let address = address(self.id);
        let own = Own {
            name: Arc::from(name(self.id)),
            gossip_address: address,
            http_address: format!("{}:12345", address.ip()).into(),
            zone: Arc::from(""),
            software: Arc::from("1"),
            incarnation,
            detection_ms,
            seed: self.random.next(),
            wait_for_size: 0,
            wait_timeout_ms: 0,
        };
        let settings = Settings {
            own,
            detection: Detection::within_ms(detection_ms),
            keys: Keys::new("simulated", &[]),
            random,
        };
        Node::new(settings, now).ok()
    }

    /// Now, as it is and as the node thinks.
    pub(crate) fn moment(&self, at: Micros) -> Moment {
        let unix_ms = self.clock.now(at).unix_ms;
        Moment { at, unix_ms }
    }

    /// It runs and does not stand still.
    pub(crate) fn is_up(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| !running.is_paused)
    }
}

/// A node's name.
pub(crate) fn name(id: NodeId) -> String {
    format!("node-{id}")
}

/// Where a node takes gossip and streams.
pub(crate) fn address(id: NodeId) -> SocketAddr {
    let [_, b, c, d] = (id as u32).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, b, c, d), PORT))
}

/// Whose address this is.
pub(crate) fn node_at(address: SocketAddr) -> Option<NodeId> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let [_, b, c, d] = address.ip().octets();
    Some(u32::from_be_bytes([0, b, c, d]) as NodeId)
}
