//! A whole gzip stream in memory -> its content in memory, in one call: what most bodies are.
//!
//! Takes only what it can vouch for: one member, nothing behind it, checksum and length right, a
//! header without a checksum of its own. For anything else it has no opinion, and the reader in
//! pieces (`inflate.rs`), which knows every error by name, decides. Deflate data that breaks RFC
//! 1951 and still has the right checksum (codes that no compressor makes) may be taken here and
//! refused there.

use libdeflate_sys::{
    libdeflate_alloc_decompressor, libdeflate_decompressor, libdeflate_free_decompressor,
    libdeflate_gzip_decompress_ex, libdeflate_result_LIBDEFLATE_SUCCESS,
};
use std::ptr::NonNull;

/// Bytes of the shortest member: header, an empty block, trailer.
const MEMBER_BYTES_MIN: usize = 20;
/// Flags of a header that has its own checksum, which is not verified here, or reserved ones.
const FLAGS_REFUSED: u8 = 0xe2;
/// RFC 1951 codes at most 258 bytes in two bits.
const RATIO_MAX: usize = 1032;

/// The size that a gzip stream says its content has (mod 2^32), if it looks like one that
/// [`WholeGunzip`] takes.
pub(super) fn claimed_bytes(stream: &[u8]) -> Option<usize> {
    let is_member = stream.len() >= MEMBER_BYTES_MIN
        && stream.starts_with(&[0x1f, 0x8b, 8])
        && stream[3] & FLAGS_REFUSED == 0;
    let length = stream.last_chunk().filter(|_| is_member)?;
    let bytes = u32::from_le_bytes(*length) as usize;
    (bytes <= stream.len().saturating_mul(RATIO_MAX)).then_some(bytes)
}

/// Inflates whole streams.
#[derive(Debug)]
pub(super) struct WholeGunzip {
    decompressor: NonNull<libdeflate_decompressor>,
}

impl WholeGunzip {
    /// `None`: no memory.
    pub(super) fn new() -> Option<WholeGunzip> {
        // SAFETY: has no conditions.
        let decompressor = NonNull::new(unsafe { libdeflate_alloc_decompressor() })?;
        Some(WholeGunzip { decompressor })
    }

    /// Inflates `stream` into `content`, which is as long as `claimed_bytes` says. True: it is
    /// filled, and all is well; false: what it holds is of no use.
    pub(super) fn inflate(&mut self, stream: &[u8], content: &mut [u8]) -> bool {
        let (mut read, mut written) = (0, 0);
        // SAFETY: the decompressor is alive and used by nobody else (`&mut self`); both buffers
        // are as long as told, and the lengths are written to locals that outlive the call.
        let result = unsafe {
            libdeflate_gzip_decompress_ex(
                self.decompressor.as_ptr(),
                stream.as_ptr().cast(),
                stream.len(),
                content.as_mut_ptr().cast(),
                content.len(),
                &mut read,
                &mut written,
            )
        };
        result == libdeflate_result_LIBDEFLATE_SUCCESS
            && (read, written) == (stream.len(), content.len())
    }
}

impl Drop for WholeGunzip {
    fn drop(&mut self) {
        // SAFETY: it was allocated by libdeflate and is freed only here.
        unsafe { libdeflate_free_decompressor(self.decompressor.as_ptr()) };
    }
}

// SAFETY: the decompressor is plain memory of its owner; libdeflate keeps nothing per thread.
unsafe impl Send for WholeGunzip {}
