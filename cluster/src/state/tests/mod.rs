//! The state of nodes: tables by themselves, then whole clusters in a network in memory.

mod changes;
mod chaos;
mod faults;
mod network;
mod starts;
mod tables;

use crate::state::Own;

/// A node of this name.
fn own(name: &str) -> Own {
    Own {
        name: name.into(),
        gossip_address: ([10, 0, 0, 1], 1).into(),
        http_address: "".into(),
        zone: "".into(),
        software: "".into(),
        incarnation: 1,
        detection_ms: network::DETECTION_MS,
        seed: 1,
        wait_for_size: 0,
        wait_timeout_ms: 0,
    }
}
