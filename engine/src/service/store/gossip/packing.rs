//! Messages between members <-> compressed bytes: configurations are texts that repeat themselves.
//!
//! Large ones are packed by a thread that may take its time.

use ringscrape_cluster::store::{BATCH_BYTES_MAX, TAG};
use std::io::Read;

/// Of a packed message: the streams between nodes take a little more.
pub(super) const PACKED_BYTES_MAX: usize = 15 << 20;
/// Of an unpacked one.
const MESSAGE_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;
/// A message that is packed within microseconds.
const SMALL_BYTES: usize = 16 << 10;

/// As bytes that begin with [`TAG`].
pub(super) fn pack_now(message: &[u8]) -> Result<Vec<u8>, String> {
    let packed = zstd::bulk::compress(message, 1);
    let mut packed = packed.map_err(|error| format!("cannot compress a message: {error}"))?;
    packed.insert(0, TAG);
    Ok(packed)
}

fn unpack_now(bytes: &[u8]) -> Option<Vec<u8>> {
    let packed = bytes.strip_prefix(&[TAG])?;
    let decoder = zstd::stream::read::Decoder::new(packed).ok()?;
    let mut message = Vec::new();
    let limit = MESSAGE_BYTES_MAX as u64 + 1;
    decoder.take(limit).read_to_end(&mut message).ok()?;
    (message.len() <= MESSAGE_BYTES_MAX).then_some(message)
}

/// See [`pack_now`].
pub(super) async fn pack(message: Vec<u8>) -> Result<Vec<u8>, String> {
    if message.len() <= SMALL_BYTES {
        return pack_now(&message);
    }
    let packing = tokio::task::spawn_blocking(move || pack_now(&message));
    packing
        .await
        .unwrap_or_else(|_| Err("the process is stopping".to_owned()))
}

/// `None`: it is none, or too large.
pub(super) async fn unpack(bytes: Vec<u8>) -> Option<Vec<u8>> {
    // What is small may be large unpacked.
    let unpacking = tokio::task::spawn_blocking(move || unpack_now(&bytes));
    unpacking.await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_and_bombs_do_not() {
        for message in [Vec::new(), b"text ".repeat(100_000), (0..=255).collect()] {
            let packed = pack_now(&message).unwrap();
            assert_eq!(packed[0], TAG);
            assert_eq!(unpack_now(&packed), Some(message));
            for cut in 0..packed.len().min(50) {
                assert_eq!(unpack_now(&packed[..cut]), None);
            }
        }
        let bomb = pack_now(&vec![0; MESSAGE_BYTES_MAX + 1]).unwrap();
        assert!(bomb.len() < 100_000);
        assert_eq!(unpack_now(&bomb), None);
    }
}
