//! One mapping shared with the kernel -> receive buffers that it fills and gives by number.
//!
//! The ring of free buffers and the buffers themselves lie in one anonymous mapping, so that it can
//! be left to the kernel as a whole where a cancellation does not succeed.

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Buffers of a ring, a power of two.
pub(super) const BUFFERS: u16 = 128;
/// Size of each, in bytes.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;
/// Their group.
pub(super) const GROUP: u16 = 1;

/// Where the buffers begin: behind the ring's entries, on a page.
const DATA_OFFSET: usize = 4096;
const MAPPED_BYTES: usize = DATA_OFFSET + BUFFERS as usize * BUFFER_BYTES;
const _: () = assert!(BUFFERS as usize * size_of::<BufRingEntry>() <= DATA_OFFSET);

/// The buffers of one ring.
#[derive(Debug)]
pub(super) struct Buffers {
    mapping: NonNull<u8>,
    /// Buffers given to the kernel so far, wrapping.
    tail: u16,
    /// Buffers that the kernel has.
    free: u16,
}

impl Buffers {
    /// Buffers registered with `ring`, all of them free.
    pub(super) fn register(ring: &IoUring) -> io::Result<Buffers> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, which overlaps nothing.
        let mapping =
            unsafe { libc::mmap(std::ptr::null_mut(), MAPPED_BYTES, access, kind, -1, 0) };
        let mapping = match NonNull::new(mapping.cast::<u8>()) {
            Some(mapping) if mapping.as_ptr().cast() != libc::MAP_FAILED => mapping,
            _ => return Err(io::Error::last_os_error()),
        };
        let mut buffers = Buffers {
            mapping,
            tail: 0,
            free: 0,
        };
        let address = mapping.as_ptr() as u64;
        // SAFETY: the entries lie at the start of the mapping, on a page, and the mapping is
        // given up only when nothing of the ring is left that could use it (`Uring::drop`).
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, BUFFERS, GROUP, 0)?;
        }
        for buffer in 0..BUFFERS {
            buffers.put(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Leaves `buffer` to the kernel, from the next `publish` on.
    fn put(&mut self, buffer: u16) {
        let index = usize::from(self.tail & (BUFFERS - 1));
        let entries = self.mapping.as_ptr().cast::<BufRingEntry>();
        let data = self.data(buffer) as u64;
        // SAFETY: `index` is within the ring; the kernel reads an entry only once the tail is
        // behind it, and of entry 0 its last field, the tail, is not touched here.
        unsafe {
            let entry = &mut *entries.add(index);
            entry.set_addr(data);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
    }

    fn publish(&mut self) {
        let entries = self.mapping.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `entries` is the address of the first entry, in which the tail lies, aligned
        // for a u16; both sides access it atomically.
        unsafe {
            let tail = BufRingEntry::tail(entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Gives back a buffer taken by the kernel.
    pub(super) fn give_back(&mut self, buffer: u16) {
        self.put(buffer);
        self.publish();
    }

    /// Notes that the kernel has filled `buffer`, which is ours until given back.
    pub(super) fn taken(&mut self) {
        self.free -= 1;
    }

    /// Buffers that the kernel can fill.
    pub(super) fn free(&self) -> u16 {
        self.free
    }

    fn data(&self, buffer: u16) -> *mut u8 {
        assert!(
            buffer < BUFFERS,
            "BUG: the kernel gave a buffer it was not given"
        );
        // SAFETY: within the mapping, as the number was checked.
        unsafe {
            self.mapping
                .as_ptr()
                .add(DATA_OFFSET + usize::from(buffer) * BUFFER_BYTES)
        }
    }

    /// A buffer that the kernel has filled and that was not given back.
    pub(super) fn slice(&mut self, buffer: u16) -> &mut [u8] {
        // SAFETY: the kernel does not touch a buffer between its completion and the time it is
        // given back; `&mut self` keeps both from happening meanwhile, and others from reading.
        // Zeroed when mapped, so initialised.
        unsafe { std::slice::from_raw_parts_mut(self.data(buffer), BUFFER_BYTES) }
    }

    /// Memory mapped, in bytes.
    pub(super) fn bytes(&self) -> usize {
        MAPPED_BYTES
    }

    /// Gives the memory back to the system.
    ///
    /// # Safety
    /// No operation may be left that can use it.
    pub(super) unsafe fn unmap(&mut self) {
        // SAFETY: the mapping was made with this length and is given up once, by the caller.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), MAPPED_BYTES) };
    }
}
