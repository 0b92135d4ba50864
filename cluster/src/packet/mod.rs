//! Plain text -> sealed bytes for the wire, and back; what cannot be opened, by cause.
//!
//! Datagrams and stream frames have one form, all numbers big-endian:
//!
//! ```text
//! [magic 2][protocol version 1][kind 1][key id 4][hash of the cluster's name 4][nonce 24]
//! [XChaCha20 ciphertext][Poly1305 tag 16]
//! ```
//!
//! Everything before the ciphertext is associated data: nobody without a key can change it. It says
//! in clear text only what a stranger must know to see why it is not understood.

mod datagram;
mod keys;
mod replay;

pub use datagram::{DATAGRAM_BYTES_MAX, Datagram, PAYLOAD_BYTES_MAX, receiver};
pub use keys::{Key, KeyId, Keys};
pub use replay::{Fresh, Replays};

use chacha20poly1305::{AeadInOut, Tag, XNonce};

/// What each datagram and frame starts with.
pub const MAGIC: [u8; 2] = [0xc7, 0x52];
/// Version of everything on the wire. Nodes of one cluster have the same.
pub const PROTOCOL_VERSION: u8 = 3;
/// Bytes before the ciphertext.
pub const HEADER_BYTES: usize = 36;
/// Bytes that sealing adds.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;
/// A value for each seal under one key, never twice.
pub type Nonce = [u8; NONCE_BYTES];

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// What a sealed text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A datagram of the membership.
    Datagram,
    /// A frame of a stream.
    Frame,
    /// Why a frame was refused; not sealed, since the other side cannot open what we seal.
    Refusal,
}

impl Kind {
    /// Its byte on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Datagram => 1,
            Self::Frame => 2,
            Self::Refusal => 3,
        }
    }
}

/// Why bytes from the network were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
#[repr(u8)]
pub enum Cause {
    /// Shorter than a header and a tag, or longer than anything that is sent.
    #[error("impossible length")]
    Length = 1,
    /// Not ours at all.
    #[error("not a ringscrape packet")]
    Magic = 2,
    /// Another release, which speaks otherwise.
    #[error("another protocol version")]
    Version = 3,
    /// A datagram where a frame is due, or the other way round.
    #[error("another kind of packet")]
    Kind = 4,
    /// Another cluster.
    #[error("another cluster name")]
    ClusterName = 5,
    /// Sealed with a key that is not in the key file.
    #[error("an unknown key")]
    Key = 6,
    /// Right header, wrong tag: changed on its way, or made without the key.
    #[error("not authentic")]
    Forged = 7,
    /// Opened, but its text makes no sense.
    #[error("malformed")]
    Malformed = 8,
    /// Seen before, or too old to tell.
    #[error("replayed")]
    Replayed = 9,
    /// From a former life of its sender, or to a former life of this node.
    #[error("of a former incarnation")]
    Stale = 10,
    /// From this node, by its own account.
    #[error("from this node itself")]
    Own = 11,
}

impl Cause {
    /// All there are.
    pub const ALL: [Self; 11] = [
        Self::Length,
        Self::Magic,
        Self::Version,
        Self::Kind,
        Self::ClusterName,
        Self::Key,
        Self::Forged,
        Self::Malformed,
        Self::Replayed,
        Self::Stale,
        Self::Own,
    ];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Magic => "magic",
            Self::Version => "protocol_version",
            Self::Kind => "kind",
            Self::ClusterName => "cluster_name",
            Self::Key => "key",
            Self::Forged => "forged",
            Self::Malformed => "malformed",
            Self::Replayed => "replayed",
            Self::Stale => "stale",
            Self::Own => "own",
        }
    }

    /// Its byte in a refusal.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The cause with this byte.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.code() == code)
    }
}

/// Seals `plain` with the first key.
pub fn seal(keys: &Keys, kind: Kind, nonce: &Nonce, plain: &[u8]) -> Vec<u8> {
    let key = keys.sealing();
    let mut bytes = Vec::with_capacity(OVERHEAD_BYTES + plain.len());
    bytes.extend_from_slice(&header(kind, key.id(), keys.cluster_hash()));
    bytes.extend_from_slice(nonce);
    bytes.extend_from_slice(plain);
    let (header, text) = bytes.split_at_mut(HEADER_BYTES);
    let nonce = XNonce::from(*nonce);
    let sealed = key
        .cipher()
        .encrypt_inout_detached(&nonce, header, text.into());
    // The cipher refuses only texts of more than 256 GiB.
    debug_assert!(sealed.is_ok(), "BUG: a text too long to seal");
    bytes.extend_from_slice(&sealed.unwrap_or_default());
    bytes
}

/// Opens what [`seal`] made, with any of the keys.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn open(keys: &Keys, kind: Kind, bytes: &[u8]) -> Result<Vec<u8>, Cause> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or(Cause::Length)?;
    let clear = Clear::read(header)?;
    if clear.version != PROTOCOL_VERSION {
        return Err(Cause::Version);
    }
    if clear.kind != kind.code() {
        return Err(Cause::Kind);
    }
    if clear.cluster_hash != keys.cluster_hash() {
        return Err(Cause::ClusterName);
    }
    let text_len = rest.len().checked_sub(TAG_BYTES).ok_or(Cause::Length)?;
    let (text, tag) = rest.split_at(text_len);
    let tag = Tag::try_from(tag).map_err(|_| Cause::Length)?;
    let nonce = XNonce::from(clear.nonce);
    let mut cause = Cause::Key;
    for key in keys.with_id(clear.key_id) {
        let mut plain = text.to_vec();
        let opened =
            key.cipher()
                .decrypt_inout_detached(&nonce, header, plain.as_mut_slice().into(), &tag);
        match opened {
            Ok(()) => return Ok(plain),
            Err(_) => cause = Cause::Forged,
        }
    }
    Err(cause)
}

/// The refusal that tells a stranger why its frame was not taken.
pub fn refusal(cause: Cause) -> Vec<u8> {
    let mut bytes = header(Kind::Refusal, KeyId::default(), 0).to_vec();
    bytes.push(cause.code());
    bytes
}

/// What a refusal says; `None`: it is none.
pub fn read_refusal(bytes: &[u8]) -> Option<Cause> {
    let (header, code) = bytes.split_at_checked(CLEAR_BYTES)?;
    let is_refusal = header[..2] == MAGIC && header[3] == Kind::Refusal.code();
    match code {
        [code] if is_refusal => Cause::from_code(*code),
        _ => None,
    }
}

/// Bytes before the nonce.
const CLEAR_BYTES: usize = HEADER_BYTES - NONCE_BYTES;

fn header(kind: Kind, key_id: KeyId, cluster_hash: u32) -> [u8; CLEAR_BYTES] {
    let mut header = [0; CLEAR_BYTES];
    header[..2].copy_from_slice(&MAGIC);
    header[2] = PROTOCOL_VERSION;
    header[3] = kind.code();
    header[4..8].copy_from_slice(&key_id);
    header[8..].copy_from_slice(&cluster_hash.to_be_bytes());
    header
}

/// A header's fields.
struct Clear {
    version: u8,
    kind: u8,
    key_id: KeyId,
    cluster_hash: u32,
    nonce: Nonce,
}

impl Clear {
    fn read(header: &[u8]) -> Result<Self, Cause> {
        let header: &[u8; HEADER_BYTES] = header.try_into().map_err(|_| Cause::Length)?;
        let [
            m0,
            m1,
            version,
            kind,
            k0,
            k1,
            k2,
            k3,
            c0,
            c1,
            c2,
            c3,
            nonce @ ..,
        ] = *header;
        if [m0, m1] != MAGIC {
            return Err(Cause::Magic);
        }
        Ok(Self {
            version,
            kind,
            key_id: [k0, k1, k2, k3],
            cluster_hash: u32::from_be_bytes([c0, c1, c2, c3]),
            nonce,
        })
    }
}

#[cfg(test)]
mod tests;
