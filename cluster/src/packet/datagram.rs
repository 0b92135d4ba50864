//! The plain text of a datagram: who sends it, and one message of the membership protocol.

use super::{Cause, Keys, Kind, Nonce, OVERHEAD_BYTES, open, seal};
use crate::name::{NAME_BYTES_MAX, is_name};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// No datagram is larger: it fits into one packet of a network with an MTU of 1,500, IPv6 and a
/// tunnel included.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;

/// Numbers of a datagram, each at its longest.
const NUMBERS_BYTES_MAX: usize = 5 * 10;

/// Bytes that are left for the membership protocol, and for followers beside a short message. The
/// same on all nodes, whatever their names.
pub const PAYLOAD_BYTES_MAX: usize =
    DATAGRAM_BYTES_MAX - OVERHEAD_BYTES - NUMBERS_BYTES_MAX - NAME_BYTES_MAX - 2 - 2 * 3;

/// Which life of which node a datagram is for, as a number; never 0.
pub fn receiver(name: &str, incarnation: u64) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), incarnation).max(1)
}

/// What a node sends, sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datagram<'a> {
    /// Who sends it.
    pub name: &'a str,
    /// In which of its lives.
    pub incarnation: u64,
    /// Rises with each datagram of an incarnation.
    pub sequence: u64,
    /// Whom it is for, see [`receiver`]; 0 = the sender knows only the address.
    pub to: u64,
    /// When, by the sender's clock, in ms since the Unix epoch.
    pub sent_ms: i64,
    /// Of the sender's table: another one than the receiver's means that they differ.
    pub digest: u64,
    /// Who is known to have a table with that digest, see `state`; empty: not said.
    #[serde(borrow)]
    pub followers: &'a [u8],
    /// A message of the membership protocol; empty: none.
    #[serde(borrow)]
    pub payload: &'a [u8],
}

impl Datagram<'_> {
    /// The bytes to send; `None`: it does not fit.
    pub fn seal(&self, keys: &Keys, nonce: &Nonce) -> Option<Vec<u8>> {
        let plain = postcard::to_stdvec(self).ok()?;
        let bytes = seal(keys, Kind::Datagram, nonce, &plain);
        (bytes.len() <= DATAGRAM_BYTES_MAX).then_some(bytes)
    }

    /// The plain text of received bytes, to be read with [`Datagram::read`].
    ///
    /// # Errors
    /// They are not from a node of this cluster.
    pub fn open(keys: &Keys, bytes: &[u8]) -> Result<Vec<u8>, Cause> {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(Cause::Length);
        }
        open(keys, Kind::Datagram, bytes)
    }
}

impl<'a> Datagram<'a> {
    /// What a plain text says.
    ///
    /// # Errors
    /// It makes no sense.
    pub fn read(plain: &'a [u8]) -> Result<Self, Cause> {
        let (datagram, rest): (Self, _) =
            postcard::take_from_bytes(plain).map_err(|_| Cause::Malformed)?;
        if !rest.is_empty() || !is_name(datagram.name) || datagram.incarnation == 0 {
            return Err(Cause::Malformed);
        }
        Ok(datagram)
    }
}
