//! libzstd's compression and decompression contexts, with memory that is used again.
//!
//! The only place of this crate that calls libzstd, and the sequence interface needs `unsafe`: the
//! bindings have no safe form of it.

use bytes::Bytes;
use std::fmt;
use std::ptr::NonNull;
use zstd::zstd_safe::zstd_sys as sys;

/// Requests are far smaller. Source bytes.
const CONTENT_LEN_MAX: usize = 1 << 30;
/// Level of what is compressed by searching, and of the entropy stage.
const LEVEL: i32 = 1;
/// Bytes behind the literals that libzstd may read.
const LITERALS_ROOM: usize = 8;

/// Some literals, then a match. Both 0 but for `literal_len`: the end of a block.
///
/// The same bytes as libzstd's `ZSTD_Sequence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Sequence {
    pub(super) distance: u32,
    pub(super) literal_len: u32,
    pub(super) match_len: u32,
    /// Not used by libzstd.
    pub(super) repeat: u32,
}

const _: () = assert!(size_of::<Sequence>() == size_of::<sys::ZSTD_Sequence>());
const _: () = assert!(align_of::<Sequence>() == align_of::<sys::ZSTD_Sequence>());

/// Compresses requests, one after the other.
pub(super) struct ZstdContext {
    sequences: NonNull<sys::ZSTD_CCtx>,
    scratch: Vec<u8>,
}

// SAFETY: libzstd's contexts belong to no thread; they are used through `&mut` alone.
unsafe impl Send for ZstdContext {}

impl fmt::Debug for ZstdContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdContext").finish_non_exhaustive()
    }
}

impl ZstdContext {
    pub(super) fn new() -> Self {
        // SAFETY: no arguments; null is an allocation that failed, which aborts elsewhere too.
        let context = unsafe { sys::ZSTD_createCCtx() };
        let context = NonNull::new(context).expect("BUG: no memory for a zstd context");
        use sys::ZSTD_cParameter as Parameter;
        let parameters = [
            (Parameter::ZSTD_c_compressionLevel, LEVEL),
            // Distances reach back to the frame's beginning.
            (Parameter::ZSTD_c_windowLog, 27),
            (Parameter::ZSTD_c_minMatch, 3),
            // Nothing is searched: the smallest tables, which are cleared for each frame.
            (Parameter::ZSTD_c_hashLog, 6),
            (Parameter::ZSTD_c_chainLog, 6),
            // stableInBuffer, stableOutBuffer: no buffers of the context's own.
            (Parameter::ZSTD_c_experimentalParam9, 1),
            (Parameter::ZSTD_c_experimentalParam10, 1),
            // blockDelimiters: explicit.
            (Parameter::ZSTD_c_experimentalParam11, 1),
            // repcodeResolution: enabled; most distances are the last one again.
            (Parameter::ZSTD_c_experimentalParam19, 1),
        ];
        for (parameter, value) in parameters {
            // SAFETY: the context is valid and not shared.
            let code = unsafe { sys::ZSTD_CCtx_setParameter(context.as_ptr(), parameter, value) };
            assert!(
                !is_error(code),
                "BUG: zstd parameter {parameter:?} is refused"
            );
        }
        Self {
            sequences: context,
            scratch: Vec::new(),
        }
    }

    /// One frame of these sequences, which make `content_len` bytes; `None` if libzstd can't (a
    /// block that would not become smaller).
    ///
    /// Sequences must be valid: matches of 3 and more that reach back to nothing before the
    /// beginning, blocks of at most 128 KiB each with its end. `literals`: those of all sequences,
    /// and at least `LITERALS_ROOM` bytes of anything.
    pub(super) fn sequences(
        &mut self,
        sequences: &[Sequence],
        literals: &[u8],
        content_len: usize,
    ) -> Option<Bytes> {
        let own: usize = sequences.iter().map(|one| one.literal_len as usize).sum();
        assert!(
            own + LITERALS_ROOM <= literals.len(),
            "BUG: literals without room"
        );
        assert!(content_len <= CONTENT_LEN_MAX, "BUG: a request this large");
        let room = own + sequences.len() * 16 + 4096;
        if self.scratch.len() < room {
            self.scratch.resize(room, 0);
        }
        // SAFETY: every pointer is valid for the length beside it; `Sequence` has the layout of
        // `ZSTD_Sequence` (checked above). libzstd reads `LITERALS_ROOM` bytes behind the literals
        // at most, which are there (checked too), and writes at most `scratch.len()`.
        let code = unsafe {
            sys::ZSTD_compressSequencesAndLiterals(
                self.sequences.as_ptr(),
                self.scratch.as_mut_ptr().cast(),
                self.scratch.len(),
                sequences.as_ptr().cast(),
                sequences.len(),
                literals.as_ptr().cast(),
                own,
                own + LITERALS_ROOM,
                content_len,
            )
        };
        let frame = self.scratch.get(..code).filter(|_| !is_error(code));
        frame.map(Bytes::copy_from_slice)
    }
}

/// Compresses requests by searching, one after the other.
pub(super) struct ZstdSearch(zstd::bulk::Compressor<'static>);

impl fmt::Debug for ZstdSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdSearch").finish_non_exhaustive()
    }
}

impl ZstdSearch {
    pub(super) fn new() -> Self {
        Self(zstd::bulk::Compressor::new(LEVEL).expect("BUG: no memory for a zstd context"))
    }

    /// One frame of `raw`.
    pub(super) fn compress(&mut self, raw: &[u8]) -> Bytes {
        let frame = self.0.compress(raw);
        frame.expect("BUG: zstd does not compress").into()
    }
}

impl Drop for ZstdContext {
    fn drop(&mut self) {
        // SAFETY: created by `ZSTD_createCCtx` and freed once.
        unsafe { sys::ZSTD_freeCCtx(self.sequences.as_ptr()) };
    }
}

/// The content of a frame that `ZstdContext` made.
pub(super) fn decompress(frame: &[u8]) -> Vec<u8> {
    let len = zstd::zstd_safe::get_frame_content_size(frame);
    let len = len.ok().flatten().unwrap_or_default() as usize;
    zstd::bulk::decompress(frame, len.min(CONTENT_LEN_MAX))
        .expect("BUG: own zstd output does not uncompress")
}

fn is_error(code: usize) -> bool {
    // SAFETY: any number may be asked about.
    unsafe { sys::ZSTD_isError(code) != 0 }
}
