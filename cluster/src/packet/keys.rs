//! Shared secrets and the cluster's name -> what seals and what opens.

use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305, XNonce};
use core::fmt;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

/// A shared secret.
pub type Key = [u8; 32];
/// Says which key sealed something, without telling anything else of it.
pub type KeyId = [u8; 4];

/// The keys of a node. Its debug form names no secret.
#[derive(Clone)]
pub struct Keys {
    cluster_hash: u32,
    /// The first seals, all open. At least one.
    first: OpenKey,
    others: Vec<OpenKey>,
    is_secret: bool,
}

#[derive(Clone)]
pub(super) struct OpenKey {
    id: KeyId,
    cipher: XChaCha20Poly1305,
}

impl Keys {
    /// `keys`: the first seals, all open: so a key is changed by adding the new one last on all
    /// nodes, then putting it first on all nodes, then taking the old one out. None at all: a key
    /// that follows from the cluster's name keeps clusters apart, and keeps no secret.
    pub fn new(cluster_name: &str, keys: &[Key]) -> Self {
        let (first, others) = match keys {
            [first, others @ ..] => (*first, others),
            [] => (key_of_name(cluster_name), keys),
        };
        Self {
            cluster_hash: xxh3_64(cluster_name.as_bytes()) as u32,
            first: OpenKey::new(&first),
            others: others.iter().map(OpenKey::new).collect(),
            is_secret: !keys.is_empty(),
        }
    }

    /// Whether there is a secret, not just the name.
    pub fn is_secret(&self) -> bool {
        self.is_secret
    }

    pub(super) fn cluster_hash(&self) -> u32 {
        self.cluster_hash
    }

    pub(super) fn sealing(&self) -> &OpenKey {
        &self.first
    }

    pub(super) fn with_id(&self, id: KeyId) -> impl Iterator<Item = &OpenKey> {
        let all = core::iter::once(&self.first).chain(&self.others);
        all.filter(move |key| key.id == id)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Keys")
            .field("cluster_hash", &self.cluster_hash)
            .field("keys", &(1 + self.others.len()))
            .field("is_secret", &self.is_secret)
            .finish_non_exhaustive()
    }
}

impl OpenKey {
    fn new(key: &Key) -> Self {
        let cipher = XChaCha20Poly1305::new(&(*key).into());
        Self {
            id: id(&cipher),
            cipher,
        }
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn cipher(&self) -> &XChaCha20Poly1305 {
        &self.cipher
    }
}

/// Part of the tag of nothing under a nonce that seals nothing else.
fn id(cipher: &XChaCha20Poly1305) -> KeyId {
    let nonce = XNonce::from(*b"ringscrape key id \0\0\0\0\0\0");
    let tag = cipher.encrypt_inout_detached(&nonce, b"key id", (&mut [][..]).into());
    let tag = tag.unwrap_or_default();
    [tag[0], tag[1], tag[2], tag[3]]
}

fn key_of_name(cluster_name: &str) -> Key {
    let half = |seed| xxh3_128_with_seed(cluster_name.as_bytes(), seed).to_be_bytes();
    let mut key = [0; 32];
    key[..16].copy_from_slice(&half(1));
    key[16..].copy_from_slice(&half(2));
    key
}
