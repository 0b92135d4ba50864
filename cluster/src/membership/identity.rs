//! A node's name, address and life -> who it is to the membership protocol.

use crate::name::is_name;
use core::net::SocketAddr;
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;

/// Who a node is. Of two at one address the later life counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name; empty: only the address is known, good for an announcement.
    #[serde(deserialize_with = "name_or_nothing")]
    pub name: Arc<str>,
    /// Where it takes gossip.
    pub address: SocketAddr,
    /// Which of its lives.
    pub incarnation: u64,
    /// Rises when it was believed dead but the table did not take that up: the membership protocol
    /// has no way back for an identity that is down.
    pub renewal: u32,
}

impl Identity {
    /// Somebody at this address, whoever that is.
    pub fn unknown(address: SocketAddr) -> Self {
        Self {
            name: Arc::from(""),
            address,
            incarnation: 0,
            renewal: 0,
        }
    }
}

impl foca::Identity for Identity {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            renewal: self.renewal.checked_add(1)?,
            ..self.clone()
        })
    }

    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        let rank = |identity: &Self| {
            (
                identity.incarnation,
                identity.renewal,
                identity.name.clone(),
            )
        };
        rank(self) > rank(adversary)
    }
}

fn name_or_nothing<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
    let name = <&str>::deserialize(from)?;
    if name.is_empty() || is_name(name) {
        Ok(Arc::from(name))
    } else {
        Err(serde::de::Error::custom("not a node name"))
    }
}
